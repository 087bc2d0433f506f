"""What a search varies: parameters with the values they may take, and options that only some choices have."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from workers.spec import Component, plain

Parameters = dict[str, Any]
"""What was asked for, by parameter: plain values, and for a choice of components its label."""


class OutsideError(ValueError):
    """Parameters that are not of this space."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included: every `step`-th whole one, or with no step all that floats hold.

    With `log` each factor of ten is as likely as another.
    """

    low: float
    high: float
    log: bool = False
    step: int | None = None

    @property
    def values(self) -> Sequence[Any] | None:
        """Every value, or None where they cannot be counted.

        >>> list(Range(16, 64, step=16).values)
        [16, 32, 48, 64]
        """
        return None if self.step is None else range(int(self.low), int(self.high) + 1, self.step)

    def at(self, share: float) -> float:
        """The value that so large a share (in [0, 1)) of the range lies below.

        >>> Range(0.01, 1.0, log=True).at(0.5), Range(1, 4, step=1).at(0.99)
        (0.1, 4)
        """
        if self.step is None:
            low, high = self.low, self.high
            return low * (high / low) ** share if self.log else low + (high - low) * share
        values = self.values
        assert values is not None
        if not self.log:
            return int(values[int(share * len(values))])
        low, high = self.low - 0.5, self.high + 0.5  # so that both ends have a whole number's share
        return int(min(self.high, max(self.low, round(low * (high / low) ** share))))

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return self.low <= value <= self.high and (self.step is None or (value - self.low) % self.step == 0)


@dataclass(frozen=True)
class Choice:
    """One of these values."""

    values: Sequence[Any]

    def at(self, share: float) -> Any:
        """As `Range.at`; each value has the same share."""
        return self.values[int(share * len(self.values))]

    def __contains__(self, value: object) -> bool:
        return any(value == other and type(value) is type(other) for other in self.values)


Distribution = Range | Choice

Ask = Callable[[str, Distribution], Any]
"""Gives the value of a parameter."""


@dataclass(frozen=True)
class Variant:
    """A component whose options are given, or asked for."""

    given: Component
    options: Mapping[str, Distribution] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of `options`: a component keeps none of these


@dataclass(frozen=True)
class Space:
    """By field of TrialSpec: a distribution, or the variants of a component by their labels.

    An option is asked for only where its variant was chosen, as `optimizer.sgd.momentum`.

    >>> sgd = Variant(Component("sgd"), {"momentum": Range(0.0, 0.9)})
    >>> space = Space({"optimizer": {"sgd": sgd, "adam": Variant(Component("adam"))}})
    >>> [parameters for parameters, _ in space.examples()]
    [{'optimizer': 'sgd', 'optimizer.sgd.momentum': 0.0}, {'optimizer': 'adam'}, \
{'optimizer': 'sgd', 'optimizer.sgd.momentum': 0.9}]
    """

    fields: Mapping[str, Distribution | Mapping[str, Variant]]

    def draw(self, ask: Ask) -> tuple[Parameters, dict[str, Any]]:
        """What `ask` answered, by parameter, and what follows from it, by field."""
        parameters: Parameters = {}

        def asked(name: str, distribution: Distribution) -> Any:
            parameters[name] = ask(name, distribution)
            return parameters[name]

        fields = {name: _drawn(name, what, asked) for name, what in self.fields.items()}
        return parameters, fields

    def values(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that follow from parameters. OutsideError where this space would not ask for just these."""

        def stored(name: str, distribution: Distribution) -> Any:
            if name not in parameters or parameters[name] not in distribution:
                raise OutsideError(f"{name}: {parameters.get(name)!r}: not in the space")
            return parameters[name]

        asked, fields = self.draw(stored)
        if asked.keys() != parameters.keys():
            raise OutsideError(f"{sorted(parameters.keys() - asked.keys())}: not in the space")
        return fields

    @cached_property
    def parameters(self) -> dict[str, Distribution]:
        """Every parameter that may be asked for."""
        found: dict[str, Distribution] = {}
        for field_name, what in self.fields.items():
            if not isinstance(what, Mapping):
                found[field_name] = what
                continue
            if len(what) > 1:
                found[field_name] = Choice(tuple(what))
            for variant in what.values():
                found |= {f"{field_name}.{variant.given.name}.{o}": d for o, d in variant.options.items()}
        return found

    @property
    def always(self) -> dict[str, Distribution]:
        """The parameters that are asked for in every trial."""
        alone = {name for name, what in self.fields.items() if isinstance(what, Mapping) and len(what) == 1}
        return {
            name: distribution
            for name, distribution in self.parameters.items()
            if name in self.fields or name.partition(".")[0] in alone
        }

    @property
    def size(self) -> int | None:
        """How many points there are; None where they cannot be counted."""
        if any(distribution.values is None for distribution in self.parameters.values()):
            return None
        return math.prod(
            sum(_count(variant.options.values()) for variant in what.values())
            if isinstance(what, Mapping)
            else _count([what])
            for what in self.fields.values()
        )

    def points(self) -> Iterator[Parameters]:
        """Every combination of a finite space, the last parameter fastest."""
        digits: list[int] = []
        while True:
            sizes: list[int] = []

            def ask(
                _: str, distribution: Distribution, sizes: list[int] = sizes, digits: list[int] = digits
            ) -> Any:
                place, values = len(sizes), distribution.values
                assert values is not None
                sizes.append(len(values))
                return values[digits[place] if place < len(digits) else 0]

            yield self.draw(ask)[0]
            digits = digits + [0] * (len(sizes) - len(digits))
            while digits and digits[-1] == sizes[len(digits) - 1] - 1:
                digits.pop()
            if not digits:
                return
            digits[-1] += 1

    def examples(self) -> Iterator[tuple[Parameters, dict[str, Any]]]:
        """Parameters and fields in which every choice and both ends of every range come at least once."""
        waiting: list[Parameters] = [{}]
        seen: set[str] = set()
        while waiting:
            fixed = waiting.pop(0)

            def ask(name: str, distribution: Distribution, fixed: Parameters = fixed) -> Any:
                ends = distribution.values or (distribution.low, distribution.high)  # type: ignore[union-attr]
                ends = (ends[0], ends[-1]) if isinstance(distribution, Range) else ends
                if name not in seen:
                    seen.add(name)
                    waiting.extend(fixed | {name: other} for other in ends[1:] if other != ends[0])
                return fixed.get(name, ends[0])

            yield self.draw(ask)


def _drawn(name: str, what: Distribution | Mapping[str, Variant], ask: Ask) -> Any:
    if not isinstance(what, Mapping):
        return ask(name, what)
    label = ask(name, Choice(tuple(what))) if len(what) > 1 else next(iter(what))
    variant = what[label]
    asked = {option: ask(f"{name}.{variant.given.name}.{option}", d) for option, d in variant.options.items()}
    kept = {
        option: value
        for option, value in asked.items()
        if option not in variant.defaults or value != plain(variant.defaults[option])
    }
    return Component(variant.given.name, {**variant.given.options, **kept})


def _count(distributions: Iterable[Distribution]) -> int:
    return math.prod(len(d.values) for d in distributions if d.values is not None)
