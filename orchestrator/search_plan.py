"""What a search will do and at most cost, said before anything starts. Imports no optuna."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.cost import Cost, Costs
from orchestrator.plan import Outline, columns, flow, needs, number, values_of
from orchestrator.search_endings import Found
from orchestrator.search_space import Choice, Distribution
from orchestrator.sweep import Sweep, data_folder, importable
from orchestrator.sweep_checks import Facts
from orchestrator.sweep_search import Method, Search
from workers.spec import TrialSpec


@dataclass(frozen=True)
class SearchPlan(Outline):
    """The searches of a sweep."""

    method: Method
    found: Sequence[Found]  # how far each search is
    each: Cost  # of a trial, at most
    least: Cost  # and at least
    resources: Sequence[Mapping[str, float]]  # that a trial asks for, search by search

    def counts(self) -> dict[str, int]:
        ended: Counter[str] = Counter()
        for one in self.found:
            ended.update(one.finished)
        trials = sum(one.trials for one in self.found)
        kept = ended.total() - ended["failed"]
        return {"trials": trials, "left": max(0, trials - kept), **{k: n for k, n in ended.items() if n}}

    def total(self) -> Cost:
        """At most."""
        left = self.counts()["left"]
        each = dataclasses.asdict(self.each)
        return Cost(**{name: None if value is None else left * value for name, value in each.items()})

    def as_json(self) -> dict[str, Any]:
        """The whole plan in JSON's types."""
        return super().as_json() | {
            "search": dataclasses.asdict(self.method)
            | {
                "space": {
                    name: dataclasses.asdict(found) for name, found in self.method.space.parameters.items()
                }
            },
            "searches": [
                dataclasses.asdict(one) | {"resources": resources}
                for one, resources in zip(self.found, self.resources, strict=True)
            ],
            "trials": [],
        }


def plan(sweep: Sweep, found: Sequence[Found], *, data: Path | None = None) -> SearchPlan:
    """The plan of a sweep's searches, of which so much is `found` already. Imports no torch."""
    costs = Costs(Facts(data_folder(data), sweep.folder))
    with importable(sweep.folder):
        each = [costs.of(spec) for spec in sweep.examples]
    first = sweep.searches[0]
    varied = {*first.method.space.fields, *(f for s in sweep.searches for f in _differ(first, s))}
    names = [f.name for f in dataclasses.fields(TrialSpec) if f.name not in varied]
    common = values_of(first.examples[0], names)
    resources = [needs(search.resources) for search in sweep.searches]
    if all(one == resources[0] for one in resources):
        common["resources"] = resources[0]
    found = found or [
        Found(s.name, s.method.trials, 0, {}, s.method.metric, s.method.direction, None)
        for s in sweep.searches
    ]
    most, least = (_bound(each, bound) for bound in (max, min))
    return SearchPlan(sweep.name, sweep.description, common, first.method, found, most, least, resources)


def _differ(first: Search, other: Search) -> Iterable[str]:
    return (field for field, value in other.fixed.items() if value != first.fixed[field])


def _bound(costs: Sequence[Cost], bound: Any) -> Cost:
    """The largest or the smallest of every number; None where one is not known."""
    found = {f.name: [getattr(cost, f.name) for cost in costs] for f in dataclasses.fields(Cost)}
    return Cost(**{name: None if None in values else bound(values) for name, values in found.items()})


def as_text(plan: SearchPlan) -> str:
    """The plan for people."""
    method = plan.method
    several = f"{len(plan.found)} searches of {method.trials:,}" if len(plan.found) > 1 else "a search"
    lines = [
        *plan.beginning(f"{several}: "),
        f"  {method.direction} {method.metric} by {method.sampler}, pruner {method.pruner}, seed {method.seed}, over",
    ]
    lines += [f"    {name}: {_words(found)}" for name, found in method.space.parameters.items()]
    lines.append("")
    if len(plan.found) > 1:
        rows = [{"search": f.name, "asked": str(f.asked), "best": _best(f)} for f in plan.found]
        if "resources" not in plan.common:
            for row, resources in zip(rows, plan.resources, strict=True):
                row["resources"] = flow(resources)
        lines += [*columns(rows), ""]
    elif plan.found[0].best:
        lines += [plan.found[0].line, ""]
    lines.append(
        f"A trial: {_between(plan, 'steps')} steps, {_between(plan, 'hessian_products')} Hessian products. "
        f"To run, at most: {plan.effort()}"
    )
    return "\n".join(lines)


def _best(found: Found) -> str:
    return "-" if found.best is None else f"{found.best.value:.6g}"


def _between(plan: SearchPlan, name: str) -> str:
    least, most = number(getattr(plan.least, name)), number(getattr(plan.each, name))
    return most if least == most else f"{least} to {most}"


def _words(found: Distribution) -> str:
    """A distribution as one would say it.

    >>> from orchestrator.search_space import Range
    >>> _words(Range(0.001, 1.0, log=True)), _words(Range(16, 64, step=16)), _words(Choice([[16], "full"]))
    ('0.001 to 1, logarithmic', '16 to 64 by 16', '[16] | full')
    """
    if isinstance(found, Choice):
        return " | ".join(map(flow, found.values))
    by = "" if found.step in (None, 1) else f" by {found.step}"
    return f"{found.low:g} to {found.high:g}{by}{', logarithmic' if found.log else ''}"
