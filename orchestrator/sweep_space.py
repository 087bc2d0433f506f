"""The `space` of a search, from the file: distributions, checked against what each field or option allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from annotated_types import Ge

from orchestrator.search_space import Choice, Distribution, Range, Space, Variant
from orchestrator.sweep_axes import FIELDS, KINDS
from orchestrator.sweep_items import Item, Problems, elements, entries, unknown
from orchestrator.sweep_options import INVALID, checked, component, component_options, without_defaults
from workers.find import Option
from workers.spec import Component, SpecError, plain

FORMS = ("uniform", "log_uniform", "int", "choice")
BESIDE = {"int": ("step", "log")}
EXPLAINED = "{uniform: [low, high]}, {log_uniform: [low, high]}, {int: [low, high]} or {choice: [values]}"

Check = Callable[[Item, Problems], Any]
"""The value of an item where it is allowed, else INVALID and a problem."""


def space_of(item: Item, problems: Problems) -> Space | None:
    """The space; None where something is wrong with it."""
    given = entries(item, [*FIELDS], problems)
    if item.value == {}:
        problems.about_value(item, "must have at least one parameter")
    fields: dict[str, Any] = {}
    for name, entry in given.items():
        fields[name] = _variants(name, entry, problems) if name in KINDS else _field(name, entry, problems)
    if not fields or INVALID in fields.values() or len(given) < len(item.value):
        return None
    return Space(fields)


def _field(name: str, item: Item, problems: Problems) -> Any:
    return _distribution(item, lambda value, those: checked(value, FIELDS[name], those), problems)


def _form(item: Item) -> str | None:
    """Which distribution a mapping is meant to be, if any."""
    found = [form for form in FORMS if isinstance(item.value, dict) and form in item.value]
    return found[0] if len(found) == 1 else None


def _distribution(item: Item, check: Check, problems: Problems) -> Any:
    form = _form(item)
    if form is None:
        problems.about_value(item, f"must be {EXPLAINED}")
        return INVALID
    for key, entry in item.value.items():
        if key not in (form, *BESIDE.get(form, ())):
            problems.about(entry, unknown(key, [form, *BESIDE.get(form, ())]))
            return INVALID
    if form == "choice":
        return _choice(item.value[form], check, problems)
    return _range(form, item, check, problems)


def _choice(item: Item, check: Check, problems: Problems) -> Any:
    found: dict[str, Any] = {}
    for element in elements(item, problems):
        value = check(element, problems)
        if repr(value) in found and value is not INVALID:
            problems.about_value(element, "is there already; a value comes once")
        found[repr(value)] = value
    return INVALID if not found or INVALID in found.values() else Choice(tuple(found.values()))


def _range(form: str, item: Item, check: Check, problems: Problems) -> Any:
    bounds = item.value[form]
    ends = checked(bounds, tuple[int, int] if form == "int" else tuple[float, float], problems)
    log, step = form == "log_uniform", 1 if form == "int" else None
    if "log" in item.value:
        log = checked(item.value["log"], bool, problems)
    if "step" in item.value:
        step = checked(item.value["step"], Annotated[int, Ge(1)], problems)
    if INVALID in (ends, log, step):
        return INVALID
    low, high = ends
    if low >= high or (log and low <= 0):
        wrong = (
            "must go from a lower to a higher number" if low >= high else "must be above 0, for a logarithm"
        )
        problems.about_value(bounds, wrong)
        return INVALID
    if step and step > 1 and (log or (high - low) % step):
        why = "not beside log" if log else f"does not lead from {low} to {high}"
        problems.about_value(item.value["step"], why)
        return INVALID
    if any(check(end, problems) is INVALID for end in bounds.value):
        return INVALID
    found = Range(low, high, log, step)
    if step is None and check(replace(bounds, value=found.at(0.618034)), Problems(problems.file)) is INVALID:
        problems.about(item, "takes whole numbers only; give {int: [low, high]}")
        return INVALID
    return found


# --- components ---


def _variants(field: str, item: Item, problems: Problems) -> Any:
    """The components to choose from, by label; one that is no choice must have options to search."""
    several = _form(item) == "choice"
    if not several and not (isinstance(item.value, dict) and "name" in item.value):
        problems.about_value(
            item, "must be {choice: [names]}, or a mapping with a name and options to search"
        )
        return INVALID
    if several and len(item.value) > 1:
        problems.about_value(item, "must be {choice: [names]} with nothing beside it")
        return INVALID
    found: dict[str, Variant] = {}
    listed = elements(item.value["choice"], problems) if several else [item]
    for element in listed:
        variant = _variant(field, element, problems)
        if variant is INVALID:
            continue
        alike = [v for v in found.values() if v.given.name == variant.given.name]
        label = _label(variant.given)
        if label in found or any(v.options or variant.options for v in alike):
            problems.about_value(
                element, f"{variant.given.name} is there already; with options to search it comes once"
            )
        found[label] = variant
    if not found or len(found) < len(listed):
        return INVALID
    if not several and not next(iter(found.values())).options:
        problems.about_value(item, f"has no option to search; each would be {EXPLAINED}")
        return INVALID
    return found


def _variant(field: str, item: Item, problems: Problems) -> Any:
    known = _known(field, item)
    options: dict[str, Any] = {}
    plainly = dict(item.value) if isinstance(item.value, dict) else item.value
    for name, option in known.items() if isinstance(item.value, dict) else ():
        entry = item.value.get(name)
        if entry is not None and _form(entry):
            found = _distribution(entry, _option_check(option), problems)
            options[name] = found
            plainly[name] = entry if found is INVALID else _example(entry, found)
    if INVALID in options.values():
        entries(item, ["name", *known], problems)
        return INVALID
    given = component(replace(item, value=plainly), KINDS[field], problems)
    if given is INVALID:
        return INVALID
    fixed = {name: value for name, value in given.options.items() if name not in options}
    return Variant(
        Component(given.name, without_defaults(fixed, known)),
        options,
        {name: known[name].default for name in options},
    )


def _option_check(option: Option) -> Check:
    return lambda item, problems: checked(item, option.annotation, problems)


def _example(item: Item, distribution: Distribution) -> Item:
    """A value in the place of what is to be searched, so that the component can be checked as a whole."""
    value = distribution.low if isinstance(distribution, Range) else distribution.values[0]
    form = _form(item)
    assert form is not None
    first: Item = item.value[form].value[0]
    return first if isinstance(distribution, Choice) else replace(item, value=value)


def _known(field: str, item: Item) -> dict[str, Option]:
    """The options that a component has; none where its name is wrong, which `component` tells."""
    named = item.value.get("name") if isinstance(item.value, dict) else item
    if not isinstance(named, Item) or not isinstance(named.value, str):
        return {}
    try:
        return component_options(KINDS[field], named.value)
    except SpecError:
        return {}


def _label(given: Component) -> str:
    """A short text that means this component.

    >>> _label(Component("mlp", {"widths": [16, 16]}))
    'mlp widths=[16, 16]'
    """
    return " ".join([given.name, *(f"{name}={plain(value)}" for name, value in given.options.items())])
