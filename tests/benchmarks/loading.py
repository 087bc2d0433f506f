"""Claim: a process that finds its data set on its node takes hundredths of a second and no memory of its own for it.

Evidence: `python tests/benchmarks/loading.py` prints CPU seconds that loading takes each process and the memory it adds
(Pss_Anon is the process's own; the pages of the file are the kernel's, one copy for all). The control is a folder for
temporary files that cannot be used, so that each process has its own copy.

    AMD EPYC, 2 cores, 4 processes, torch 2.14.1, 2026-11-25, two runs; data of 209 MiB

               the first             each of the others
    shared     0.33–0.40 s,   3 MiB  0.04 s,         1 MiB
    control    0.71–1.26 s, 212 MiB  0.64–1.16 s,  212 MiB

The data is made up, in the sizes of MNIST, and stored as npz. What remains for the others is the digest of that file.
MNIST itself takes a second more in who makes it, for torchvision, which the others do not import.
"""

import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from workers.data import load_data
from workers.spec import Component

PIXELS = 28 * 28


def save(file: Path, samples: int) -> None:
    random = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", samples), ("test", samples // 6)):
        arrays[f"x_{split}"] = random.integers(0, 256, (n, 28, 28, 1), dtype=np.uint8)
        arrays[f"y_{split}"] = np.arange(n) % 10
    np.savez(file, allow_pickle=False, **arrays)


def own_bytes() -> int:
    rollup = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8")
    return 1024 * next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss_Anon"))


def load(path: str) -> None:
    """What each process does: load, say what it took, and keep the data until it is told to end."""
    before, begun = own_bytes(), time.process_time()
    data = load_data(
        Component("npz", {"path": path}),
        folder=Path(),
        search=None,
        loss="mse",
        precision="float32",
        device="cpu",
    )
    seconds = time.process_time() - begun
    found = {"seconds": seconds, "own_bytes": own_bytes() - before, "shared": data.held is not None}
    print(json.dumps(found | {"bytes": data.x_train.nbytes + data.x_test.nbytes}), flush=True)
    sys.stdin.readline()


def measure(path: Path, processes: int, temporary: Path) -> list[dict[str, Any]]:
    """What each of so many processes says that begin at once, the one that took longest first."""
    program = (
        f"import sys, tempfile; sys.path.insert(0, {str(Path(__file__).parent)!r}); import loading; "
        f"tempfile.tempdir = {str(temporary)!r}; loading.load({str(path)!r})"
    )
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True)
        for _ in range(processes)
    ]
    said = [json.loads(one.stdout.readline()) for one in running if one.stdout]
    for one in running:
        one.communicate("\n")
    return sorted(said, key=lambda one: -one["seconds"])


@click.command(
    help=(__doc__ or "").partition("\n")[0], context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option("--processes", type=click.IntRange(min=2), default=4, show_default=True)
@click.option("--samples", type=click.IntRange(min=6), default=60_000, show_default=True)
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Every process's.")
def main(processes: int, samples: int, file: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made_up.npz"
        save(path, samples)
        found = {
            "shared": measure(path, processes, Path(folder)),
            "control": measure(path, processes, path),  # a file, in which nobody can make a folder
        }
    print(f"{platform.processor() or platform.machine()}, {processes} processes, torch {torch.__version__}")
    print(f"data of {found['shared'][0]['bytes'] / 2**20:.0f} MiB\n")
    for name, each in found.items():
        (first, *others), mib = each, 2**20
        print(
            f"{name:8} first {first['seconds']:.2f} s, {first['own_bytes'] / mib:4.0f} MiB     others to "
            f"{others[0]['seconds']:.2f} s, {max(one['own_bytes'] for one in others) / mib:4.0f} MiB each"
        )
    if file:
        file.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
