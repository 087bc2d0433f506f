"""What a sweep will do and about what it costs, said before anything starts."""

import dataclasses
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.cost import Cost
from orchestrator.sweep import Resources, Sweep
from workers.spec import TrialSpec, plain

SHOWN = 40
"""The most trials that the text lists; the JSON has all."""


@dataclass(frozen=True)
class PlannedTrial:
    """One trial: what sets it apart from the others, its cost, and how it ended if it has."""

    trial_id: str
    varying: Mapping[str, Any]
    cost: Cost
    status: str | None

    @property
    def left(self) -> bool:
        """Whether `run` will run it: it has not ended, or it failed."""
        return self.status in (None, "failed")


@dataclass(frozen=True)
class Outline(ABC):
    """What every plan says. `common` is what all trials share, defaults included."""

    name: str
    description: str
    common: Mapping[str, Any]

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """How many trials there are, how many are left, and how many have which status."""

    @abstractmethod
    def total(self) -> Cost:
        """The cost of all trials that are left."""

    def as_json(self) -> dict[str, Any]:
        """In JSON's types."""
        return {
            "name": self.name,
            "description": self.description,
            "counts": self.counts(),
            "to_run": dataclasses.asdict(self.total()),
            "common": self.common,
        }

    def beginning(self, kind: str = "") -> list[str]:
        """The first lines for people: counts and what is common. `kind` says what its trials are, if not a list."""
        counts = self.counts()
        words = [f"{counts.pop('trials'):,} trials", f"{counts.pop('left'):,} to run"]
        words += [f"{count:,} {status}" for status, count in counts.items()]
        title = f"{self.name}: {kind}{', '.join(words)}"
        lines = [title, *self.description.splitlines(), ""]
        lines += [f"  {name}: {flow(value)}" for name, value in self.common.items() if name != "measure"]
        measured = self.common["measure"].items()
        return [*lines, "  measure:", *(f"    {name}: {flow(request)}" for name, request in measured), ""]

    def effort(self) -> str:
        """The total in words."""
        total = self.total()
        return (
            f"{number(total.steps)} steps, {number(total.hessian_products)} Hessian products; about "
            f"{number(total.training_epochs)} epochs of training, and measuring takes as long as "
            f"{number(total.measuring_epochs)} epochs."
        )


@dataclass(frozen=True)
class Plan(Outline):
    """The trials of a sweep in the order of its file."""

    trials: tuple[PlannedTrial, ...]

    def total(self) -> Cost:
        costs = [trial.cost for trial in self.trials if trial.left]
        return Cost(*(_sum(getattr(cost, f.name) for cost in costs) for f in dataclasses.fields(Cost)))

    def counts(self) -> dict[str, int]:
        ended = Counter(trial.status for trial in self.trials if trial.status is not None)
        return {"trials": len(self.trials), "left": sum(trial.left for trial in self.trials), **ended}

    def as_json(self) -> dict[str, Any]:
        """The whole plan in JSON's types."""
        return super().as_json() | {
            "trials": [
                {
                    "trial_id": t.trial_id,
                    "status": t.status,
                    "varying": t.varying,
                    **dataclasses.asdict(t.cost),
                }
                for t in self.trials
            ],
        }


def plan(sweep: Sweep, finished: Mapping[str, str]) -> Plan:
    """The plan of a sweep of which some trials are `finished` (trial_id to status). Imports no torch."""
    specs = [trial.spec for trial in sweep.trials]
    vary = [f.name for f in dataclasses.fields(TrialSpec) if _differ(specs, f.name)]
    common = {
        k: v
        for k, v in values_of(specs[0], (f.name for f in dataclasses.fields(TrialSpec))).items()
        if k not in vary
    }
    if len({trial.resources for trial in sweep.trials}) == 1:
        common["resources"] = needs(sweep.trials[0].resources)
    trials = [
        PlannedTrial(
            t.spec.trial_id,
            values_of(t.spec, vary) | ({} if "resources" in common else {"resources": needs(t.resources)}),
            t.cost,
            finished.get(t.spec.trial_id),
        )
        for t in sweep.trials
    ]
    return Plan(sweep.name, sweep.description, common, tuple(trials))


def needs(resources: Resources) -> dict[str, float]:
    """What a trial asks for; of memory, only where it does."""
    asked = dataclasses.asdict(resources)
    return {name: value for name, value in asked.items() if value or name != "memory_gib"}


def _differ(specs: Sequence[TrialSpec], field: str) -> bool:
    first = getattr(specs[0], field)
    return any(getattr(spec, field) != first for spec in specs)


def values_of(spec: TrialSpec, names: Iterable[str]) -> dict[str, Any]:
    values = {name: plain(getattr(spec, name)) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _sum(numbers: Iterable[Any]) -> Any:
    found = list(numbers)
    return None if None in found else sum(found)


def as_text(plan: Plan, shown: int = SHOWN) -> str:
    """The plan for people: what is common, a line for each trial, at most `shown`, and the cost."""
    lines = plan.beginning()
    lines += columns([_row(trial) for trial in plan.trials[:shown]])
    if len(plan.trials) > shown:
        lines.append(f"… and {len(plan.trials) - shown:,} more; --json lists all")
    return "\n".join([*lines, "", f"To run: {plan.effort()}"])


def _row(trial: PlannedTrial) -> dict[str, str]:
    cost = trial.cost
    return {
        "trial_id": trial.trial_id,
        "status": trial.status or "-",
        **{name: flow(value) for name, value in trial.varying.items()},
        "steps": number(cost.steps),
        "measured": number(cost.measured_steps),
        "products": number(cost.hessian_products),
        "epochs": f"{number(cost.training_epochs)} + {number(cost.measuring_epochs)}",
    }


def columns(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Rows as lines of aligned columns under their names."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([row.get(name, "-") for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(c.ljust(width) for c, width in zip(line, widths, strict=True)).rstrip() for line in cells
    ]


def number(value: float | None) -> str:
    """A number with few digits; `?` where it is not known.

    >>> number(12345), number(0.517), number(None)
    ('12,345', '0.5', '?')
    """
    if value is None:
        return "?"
    return f"{value:,.0f}" if isinstance(value, int) or value >= 10 else f"{value:.1f}"


def flow(value: Any) -> str:
    """A plain value as one would write it in the sweep file, on one line.

    >>> flow({"name": "mlp", "widths": [200, 200], "bias": False})
    '{name: mlp, widths: [200, 200], bias: false}'
    """
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {flow(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(flow, value))}]"
    return value if isinstance(value, str) else json.dumps(value)
