"""Claim: after `compact`, a sweep of 10,000 trials reads within 1.5 times of one plain file with the same rows.

Evidence: `python tests/benchmarks/reading.py --json FILE` prints the table whose numbers stand here.

    Intel Xeon, 2 CPUs, idle; pyarrow 25.0.1, pandas 3.1.1, OMP_NUM_THREADS=1; 3 rounds, 2026-11-25;
    median (least–most) of rounds, memory beyond what the process took before

                seconds             × plain              memory       finished()
    own         50.5 (50.2–53.1)    15.6 (11.4–16.1)     5,600 MiB    3.4 s
    compacted   3.45 (3.21–5.48)    1.03 (0.74–1.69)     2,693 MiB    0.14 s
    plain       3.25 (3.12–4.66)    1                    2,528 MiB
    compact itself: 76 s; 20,000 files are then 20

Most of the time of both reads is pandas making objects of the lists; of own files, opening each.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).parents[1]))  # samples

HELP = """Time and weigh the reading of a large sweep: own files, compacted, and one plain file.

\b
Synthetic trials, with all columns and 20 eigenvalues a row, are read
  own        by results.measurements, from a file for each trial
  compacted  by results.measurements, after `compact`
  plain      by pandas.read_parquet, from one file with the same rows
Each read is a process of its own; in each round all three take turns.
Beside it: the seconds of `compact`, and of telling which trials are
finished before and after it.

\b
Examples:
  python tests/benchmarks/reading.py --trials 200
  python tests/benchmarks/reading.py --json reading.json
"""

READ = """
import re, sys, time
from pathlib import Path
import pandas
from orchestrator import results
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])  # Linux only
before, start = peak(), time.perf_counter()
frame = (pandas.read_parquet if sys.argv[1] == "plain" else results.measurements)(sys.argv[2])
print(time.perf_counter() - start, peak() - before, len(frame))
"""


@click.command(help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--trials", type=click.IntRange(min=2), default=10_000, show_default=True)
@click.option("--rows", type=click.IntRange(min=1), default=50, show_default=True, help="Of each trial.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Every number.")
def main(trials: int, rows: int, rounds: int, file: Path | None) -> None:
    import pandas as pd
    import pyarrow as pa
    from report import megabytes, plain_table, spread

    with tempfile.TemporaryDirectory(prefix="reading-") as folder:
        found = measure(Path(folder), trials, rows, rounds)
    found["versions"] = {"pyarrow": pa.__version__, "pandas": pd.__version__}
    plain = found["reads"]["plain"]["seconds"]
    click.echo(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, {found['versions']}")
    plain_table(
        f"{trials:,} trials of {rows} rows; compact: {found['compact_seconds']:.3g} s, "
        f"{found['files_before']:,} files are then {found['files_after']}",
        ["read", "seconds", "× plain", "memory", "finished() seconds"],
        [
            [
                name,
                spread(read["seconds"]),
                spread([mine / theirs for mine, theirs in zip(read["seconds"], plain, strict=True)], ".2f"),
                megabytes(int(median(read["peak_bytes"]))),
                f"{found['finished_seconds'][name]:.3g}" if name in found["finished_seconds"] else "",
            ]
            for name, read in found["reads"].items()
        ],
    )
    if file is not None:
        file.write_text(json.dumps(found, indent=1), encoding="utf-8")


def measure(folder: Path, trials: int, rows: int, rounds: int) -> dict[str, Any]:
    """All numbers, of a sweep made in this folder."""
    import pyarrow.parquet as pq

    from orchestrator.compaction import compact
    from orchestrator.store import ResultStore

    places = {name: folder / name for name in ("own", "compacted")}
    click.echo(f"making {trials:,} trials", err=True)
    make_sweep(places["own"], trials, rows)
    shutil.copytree(places["own"], places["compacted"], copy_function=os.link)
    stores = {name: ResultStore(place) for name, place in places.items()}
    click.echo("compacting", err=True)
    seconds, done = timed(lambda: compact(stores["compacted"]))
    places["plain"] = folder / "plain.parquet"
    pq.write_table(pq.read_table(places["compacted"] / "measurements"), places["plain"], compression="zstd")
    reads: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "peak_bytes": []} for name in places}
    for turn in range(rounds):
        click.echo(f"round {turn + 1} of {rounds}", err=True)
        order = list(places)
        for name in order[turn % 3 :] + order[: turn % 3]:
            taken, peak, count = read(name, places[name])
            if count != trials * rows:
                raise RuntimeError(f"{name}: {count} rows, not {trials * rows}")
            reads[name]["seconds"].append(taken)
            reads[name]["peak_bytes"].append(peak)
    return {
        "trials": trials,
        "rows": rows,
        "compact_seconds": seconds,
        "files_before": done.files_before,
        "files_after": done.files_after,
        "finished_seconds": {name: timed(store.finished)[0] for name, store in stores.items()},
        "reads": reads,
    }


def make_sweep(folder: Path, trials: int, rows: int) -> None:
    """Results as `ResultStore.commit` leaves them, with random numbers, but not flushed to the disk one by one."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    import samples

    from orchestrator.store import ResultStore

    store = ResultStore(folder)
    store.begin(samples.sweep())
    first = samples.spec(seed=0)
    store.commit(first, "sample", samples.result(), [samples.row(step, 20) for step in range(rows)])
    own = {name: folder / name / f"{first.trial_id}.parquet" for name in ("trials", "measurements")}
    templates = {name: pq.read_table(file) for name, file in own.items()}
    random = np.random.default_rng(0)
    for seed in range(trials):
        trial_id = samples.spec(seed=seed).trial_id
        for name, template in templates.items():
            columns = {field.name: template[field.name] for field in template.schema}
            columns["trial_id"] = pa.array([trial_id] * len(template))
            columns["seed"] = pa.array([seed] * len(template))
            for field in template.schema if name == "measurements" else ():
                if field.name != "learning_rate" and pa.types.is_floating(field.type):
                    columns[field.name] = pa.array(random.random(len(template)))
                elif field.name in ("eigenvalues", "residuals", "gradient_overlaps"):
                    values = pa.array(random.random(20 * len(template)))
                    columns[field.name] = pa.ListArray.from_arrays(np.arange(len(template) + 1) * 20, values)
            table = pa.table(columns).cast(template.schema)
            pq.write_table(table, folder / name / f"{trial_id}.parquet", compression="zstd")


def read(name: str, path: Path) -> tuple[float, int, int]:
    """Seconds, bytes beyond what the process took before, and rows, in a process of its own."""
    command = [sys.executable, "-c", READ, name, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, peak, count = done.stdout.split()
    return float(seconds), int(peak), int(count)


def timed(call: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    found = call()
    return time.perf_counter() - start, found


if __name__ == "__main__":
    main()
