"""Claim: a training step costs what the bare loop of a good PyTorch user costs, and some hundredths more where it is small.

Evidence: `python tests/benchmarks/training_loop.py` prints the table whose numbers stand here: CPU time of a step on one
thread, and its ratio to that of the bare loop in the same round: the median of all rounds, with their quartiles. The
control is a second bare loop.

    Intel Xeon, 1 thread, torch 2.14.1, 2026-11-24, two runs

              ours / bare         control / bare
    mlp       1.023, 1.026        0.994, 1.003
    convnet   0.997, 1.013        0.996, 1.006

The bare loop has its data in memory as tensors, a permutation for each epoch, `model.train()` once and torch's own SGD;
it never looks at a loss and knows of no measurements. Ours is what a trial does at a step where nothing is measured.
Both begin with the same weights and take the same batches: in the end their weights are the same to the bit, or the
command fails.
"""

import json
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

import click
import torch
from torch import nn
from torch.nn import functional

from workers import seeding
from workers.data import Data, load_data
from workers.initialization import model_of
from workers.losses import LOSSES
from workers.spec import Component, TrialSpec
from workers.training import Training
from workers.trial import fix_numerics

STEPS = {"mlp": 20, "convnet": 2}
"""Of each loop in a round: few, so that what else the machine does meets all loops alike."""

ROUNDS = {"mlp": 150, "convnet": 30}

WARM_UP = 2
"""Rounds before the first that counts."""

IMAGES = 1_024


def specification(case: str) -> TrialSpec:
    """The networks of arXiv:1812.04754 and its batch size, with the measurements that a sweep asks for by default."""
    return TrialSpec(
        architecture=Component(case), dataset=Component("mnist5k"), learning_rate=0.01, steps=10**9
    )


def data_of(case: str) -> Data:
    """5,000 digits, or random colour images, which cost what real ones do."""
    if case == "mlp":
        folder = Path()
        dataset = Component("mnist5k")
        return load_data(
            dataset, folder=folder, search=None, loss="cross_entropy", precision="float32", device="cpu"
        )
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(IMAGES, 3, 32, 32, generator=generator)
    labels = torch.randint(10, (IMAGES,), generator=generator)
    return Data(images, labels, images, labels, outputs=10, regression=False)


def bare_loop(spec: TrialSpec, data: Data, model: nn.Module) -> Iterator[None]:
    """What one writes without this project."""
    optimizer = torch.optim.SGD(model.parameters(), lr=spec.learning_rate)
    x_train, y_train, samples, epoch = data.x_train, data.y_train, len(data.x_train), 0
    model.train()
    while True:
        order = torch.randperm(samples, generator=seeding.generator(spec.seed, f"batches/{epoch}"))
        for start in range(0, samples, spec.batch_size):
            batch = order[start : start + spec.batch_size]
            optimizer.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(model(x_train[batch]), y_train[batch])
            loss.backward()
            optimizer.step()
            yield
        epoch += 1


def our_loop(spec: TrialSpec, data: Data, model: nn.Module) -> Iterator[None]:
    """What a trial does, with the question what is due at every step and the answer that nothing is."""
    training = Training(spec, data, model, LOSSES[spec.loss])
    requests = list(spec.measure.values())
    for step in range(training.last):
        _ = [request for request in requests if request.due(step, training.last)]
        training.advance()
        yield


LOOPS = {"bare": bare_loop, "ours": our_loop, "control": bare_loop}


def measure(case: str, rounds: int) -> dict[str, list[float]]:
    """CPU seconds a step of each loop, round by round. Raises RuntimeError where the loops train differently."""
    spec, data = specification(case), data_of(case)
    models = {name: model_of(spec, data) for name in LOOPS}
    running = {name: loop(spec, data, models[name]) for name, loop in LOOPS.items()}
    names, seconds = list(LOOPS), {name: list[float]() for name in LOOPS}
    for number in range(WARM_UP + rounds):
        names = names[1:] + names[:1]  # everyone is first in turn
        for name in names:
            begun = time.process_time()
            for _ in range(STEPS[case]):
                next(running[name])
            if number >= WARM_UP:
                seconds[name].append((time.process_time() - begun) / STEPS[case])
    for name, model in models.items():
        for ours, theirs in zip(model.parameters(), models["bare"].parameters(), strict=True):
            if not torch.equal(ours, theirs):
                raise RuntimeError(f"{case}: {name} trains other weights than bare")
    return seconds


def ratio(some: list[float], bare: list[float]) -> str:
    """The median within rounds and the quartiles.

    >>> ratio([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    '2.000 (1.000–3.000)'
    """
    ratios = [one / other for one, other in zip(some, bare, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    return f"{median(ratios):.3f} ({low:.3f}–{high:.3f})"


@click.command(
    help=(__doc__ or "").partition("\n")[0], context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option("--rounds", type=click.IntRange(min=2), help="Of each case.  [default: 150 and 30]")
@click.option(
    "--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Seconds of every round."
)
def main(rounds: int | None, file: Path | None) -> None:
    torch.set_num_threads(1)  # CPU time of several threads counts their waiting
    fix_numerics()
    found = {case: measure(case, rounds or ROUNDS[case]) for case in STEPS}
    print(f"{platform.processor() or platform.machine()}, 1 thread, torch {torch.__version__}\n")
    print(f"{'':9} {'bare':>10}   {'ours / bare':24} control / bare")
    for case, seconds in found.items():
        bare = seconds["bare"]
        ours, control = (ratio(seconds[name], bare) for name in ("ours", "control"))
        print(f"{case:9} {1e6 * median(bare):7,.0f} µs   {ours:24} {control}")
    if file:
        file.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
