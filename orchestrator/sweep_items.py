"""Values of a file that know their line and their keys, and the collection of all that is wrong with them."""

import difflib
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class SweepError(ValueError):
    """A sweep file that cannot be used: `errors` says why, one line each."""

    def __init__(self, errors: Collection[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = tuple(errors)


@dataclass(frozen=True)
class Item:
    """A value of the file, with the line it stands on and the keys that lead to it.

    `value` is null, a flag, a number, text, a list of items or a mapping of text to items.
    """

    value: Any
    line: int = 1
    path: str = ""


class Problems:
    """Everything found wrong with one file, each a line `FILE:LINE: KEY.PATH: VALUE: what is allowed`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._found: dict[str, int] = {}  # message to line: the same thing is said once

    @property
    def found(self) -> bool:
        """Whether anything is wrong so far."""
        return bool(self._found)

    def about_value(self, item: Item, what: str) -> None:
        """Say what is wrong with the value of `item`, and show it."""
        self.about(item, f"{shown(item)}: {what}")

    def about(self, item: Item, what: str) -> None:
        """Say what is wrong at `item`, without showing its value."""
        message = ": ".join(filter(None, (f"{self.file}:{item.line}", item.path, " ".join(what.split()))))
        self._found[message] = item.line

    def stop(self) -> None:
        """Raise SweepError where anything was found, in the order of the lines."""
        if self._found:
            raise SweepError(sorted(self._found, key=self._found.__getitem__))


def unknown(key: str, known: Collection[str]) -> str:
    """What to say of a key that is not among the `known` ones.

    >>> unknown("learnin_rate", ["learning_rate", "seed"]), unknown("x", ["every", "at"])
    ('unknown; did you mean learning_rate?', 'unknown; there are every, at')
    """
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    if close:
        return f"unknown; did you mean {close[0]}?"
    return f"unknown; there are {', '.join(known)}" if known else "unknown; there are no options"


def entries(item: Item, known: Collection[str], problems: Problems) -> dict[str, Item]:
    """The entries of a mapping whose keys are `known`; everything else is a problem."""
    if not isinstance(item.value, dict):
        problems.about_value(item, "must be a mapping")
        return {}
    for key, entry in item.value.items():
        if key not in known:
            problems.about(entry, unknown(key, known))
    return {key: entry for key, entry in item.value.items() if key in known}


def elements(item: Item, problems: Problems) -> list[Item]:
    """The elements of a list that is not empty; everything else is a problem."""
    if isinstance(item.value, list) and item.value:
        return item.value
    problems.about_value(item, "must be a list with at least one element")
    return []


def plain_value(item: Item) -> Any:
    """The value without lines; a whole float such as 1e3 becomes the whole number that it is.

    >>> plain_value(Item([Item(1e3), Item(0.5)]))
    [1000, 0.5]
    """
    value = item.value
    if isinstance(value, dict):
        return {key: plain_value(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [plain_value(element) for element in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def shown(item: Item, width: int = 60) -> str:
    """The value on one line, as one would write it in YAML, cut when it is long.

    >>> shown(Item({"at": Item([Item(0), Item(math.nan)]), "name": Item("mlp"), "on": Item(True)}))
    "{at: [0, .nan], name: 'mlp', on: true}"
    """
    text = _flow(item)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _flow(item: Item) -> str:
    match item.value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[item.value]
        case float() if not math.isfinite(item.value):
            return ".nan" if math.isnan(item.value) else ".inf" if item.value > 0 else "-.inf"
        case list():
            return f"[{', '.join(map(_flow, item.value))}]"
        case dict():
            inner = ", ".join(f"{shown_key(key)}: {_flow(entry)}" for key, entry in item.value.items())
            return f"{{{inner}}}"
        case _:
            return repr(item.value)


def shown_key(key: str) -> str:
    """The key, quoted and cut where it is unlike a name."""
    return key if key.isprintable() and len(key) <= 60 else f"{key[:60]!r}"
