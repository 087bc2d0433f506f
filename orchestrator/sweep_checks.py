"""What only the whole sweep shows: steps that no trial reaches, more samples or eigenpairs than there are."""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

from orchestrator.sweep_axes import DEFAULTS, Setting
from orchestrator.sweep_grid import Point
from orchestrator.sweep_items import Item, Problems
from orchestrator.sweep_measure import check_steps
from workers import find
from workers.datasets import Description, describe
from workers.spec import Component, Request, SpecError, last_step


class Facts:
    """Shapes and sizes of data sets, each looked up once. Reads no samples."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.data, self.folder = data, folder
        self._known: dict[int, tuple[Component, Description]] = {}

    def __call__(self, dataset: Component) -> Description:
        """The description of a data set. Raises SpecError where its options are impossible."""
        if id(dataset) not in self._known:
            self._known[id(dataset)] = dataset, describe(dataset, self.data, self.folder)
        return self._known[id(dataset)][1]


def check_whole(
    points: Sequence[Point],
    measured: Item | None,
    measure: Mapping[str, Request],
    facts: Facts,
    problems: Problems,
) -> None:
    """Refuse what is impossible in these trials; `measured` is the file's own `measure`, if it has one."""
    for dataset, samples in _distinct(points, "dataset", "measurement_samples"):
        try:
            available = facts(dataset.value).train_samples
        except SpecError as error:
            problems.about(dataset.item, str(error))
            continue
        if samples.value is not None and available is not None and samples.value > available:
            problems.about_value(samples.item, f"{dataset.value.name} has only {available} training samples")
    problems.stop()
    if measured is not None:
        _check_losses(points, measured, measure, problems)
        check_steps(measured, measure, _last_steps(points, facts), problems)
        _check_count(points, measured, measure, facts, problems)


def _check_losses(
    points: Sequence[Point], measured: Item, measure: Mapping[str, Request], problems: Problems
) -> None:
    """Refuse measurements that are not defined for a loss of these trials."""
    for name in measure:
        allowed = find.constant("measurements", name, "LOSSES")
        for (loss,) in _distinct(points, "loss"):
            if allowed is not None and loss.value not in allowed:
                item = measured.value[name]
                problems.about(item, f"is defined for {' and '.join(allowed)} only, not for {loss.value}")


def _last_steps(points: Sequence[Point], facts: Facts) -> set[int | None]:
    return {
        last_step(steps.value, epochs.value, batch_size.value, facts(dataset.value).train_samples)
        for dataset, steps, epochs, batch_size in _distinct(
            points, "dataset", "steps", "epochs", "batch_size"
        )
    }


def longest(points: Sequence[Point], facts: Facts) -> int | None:
    """The steps of the longest of these trials; None where that is not known."""
    lasts = _last_steps(points, facts)
    return None if None in lasts else max((last for last in lasts if last is not None), default=None)


def _check_count(
    points: Sequence[Point], measured: Item, measure: Mapping[str, Request], facts: Facts, problems: Problems
) -> None:
    """Refuse more eigenpairs than parameters.

    A layer on all features has more parameters than there are features, so that torch is needed to count
    them only where very many pairs are asked for.
    """
    count = measure["top_eigenpairs"].options.get("count") if "top_eigenpairs" in measure else None
    if count is None:
        return
    item = measured.value["top_eigenpairs"].value["count"]
    for dataset, architecture in _distinct(points, "dataset", "architecture"):
        known = facts(dataset.value)
        if known.input_shape is None or known.outputs is None or count <= prod(known.input_shape):
            continue
        try:
            parameters = count_parameters(architecture.value, known.input_shape, known.outputs)
        except Exception as error:  # whatever a user's own architecture raises
            problems.about(architecture.item, f"cannot be built for {dataset.value.name}: {error}")
            continue
        if count > parameters:
            problems.about_value(item, f"{architecture.value.name} has only {parameters} parameters")


def count_parameters(architecture: Component, input_shape: tuple[int, ...], outputs: int) -> int:
    """p of an architecture, without memory for any of them. Imports torch."""
    import torch

    with torch.device("meta"):
        build = find.function("architectures", architecture.name)
        model = build(input_shape, outputs, **architecture.options)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _distinct(points: Sequence[Point], *fields: str) -> list[tuple[Setting, ...]]:
    """The combinations of these fields that occur, each once; a field left out is at its default."""
    found: dict[tuple[int, ...], tuple[Setting, ...]] = {}
    for point in points:
        given = tuple(point.settings.get(field) for field in fields)
        key = tuple(map(id, given))
        if key not in found:
            found[key] = tuple(
                setting or Setting(DEFAULTS[field], point.case.item)
                for field, setting in zip(fields, given, strict=True)
            )
    return list(found.values())
