"""Short names that tell the trials of a sweep apart."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workers.spec import spec_columns

SHORT = {"learning_rate": "lr", "batch_size": "bs"}
NULLS = {"batch_size": "full", "measurement_samples": "all"}
"""What null stands for, where it stands for something."""

COMPONENTS = ("architecture", "dataset", "optimizer")
_ALWAYS = ("architecture", "dataset")
_SHOWN = spec_columns().keys() - {"measure", "seed", *_ALWAYS}
_SUFFIX = "_options"


def labels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each row of `trials`, or of `TrialSpec.columns`; only parameters are looked at.

    Architecture and data set first, then the parameters and options that differ between the rows, and the
    seed last. Rows that would have the same name, because only what is measured differs, get the
    beginning of their `trial_id` or a number.

    >>> trial = {"architecture": "mlp", "dataset": "mnist", "batch_size": 64, "seed": 0}
    >>> labels([trial | {"learning_rate": 0.1}, trial | {"learning_rate": 0.01}])
    ['mlp mnist lr=0.1 seed=0', 'mlp mnist lr=0.01 seed=0']
    >>> labels([trial, trial | {"batch_size": None}])
    ['mlp mnist bs=64 seed=0', 'mlp mnist bs=full seed=0']
    >>> options = {"architecture_options": '{"widths": [200, 200]}'}
    >>> labels([trial, trial | options])
    ['mlp mnist seed=0', 'mlp mnist widths=[200,200] seed=0']
    """
    settings = [_settings(row) for row in rows]
    keys = list(dict.fromkeys(key for row in settings for key in row))
    shown = [key for key in keys if len({_exact(row.get(key)) for row in settings}) > 1]
    names = {key: _short_name(key, shown) for key in shown}
    texts = {key: _texts([row.get(key) for row in settings]) for key in shown}
    found = []
    for row, setting in zip(rows, settings, strict=True):
        words = [str(row[name]) for name in _ALWAYS if row.get(name) is not None]
        for key in shown:
            if setting.get(key) is not None:
                text = texts[key][_exact(setting[key])]
                words.append(text if key in COMPONENTS else f"{names[key]}={text}")
        if row.get("seed") is not None:
            words.append(f"seed={row['seed']}")
        found.append(" ".join(words))
    return _unique(found, rows)


def _settings(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that may be shown, with an option under `<component>.<option>`."""
    settings: dict[str, Any] = {}
    for name, value in row.items():
        if name.removesuffix(_SUFFIX) in COMPONENTS and name.endswith(_SUFFIX):
            options = json.loads(value or "{}")
            settings |= {
                f"{name.removesuffix(_SUFFIX)}.{option}": options[option] for option in sorted(options)
            }
        elif name in _SHOWN:
            settings[name] = NULLS.get(name) if value is None else value
    return settings


def _short_name(key: str, shown: Iterable[str]) -> str:
    last = key.rpartition(".")[2]
    if sum(other.rpartition(".")[2] == last for other in shown) > 1:
        return key  # an option of two components, or of one and a parameter too
    return SHORT.get(last, last)


def _exact(value: Any) -> str:
    return json.dumps(
        float(value) if isinstance(value, int) and not isinstance(value, bool) else value, sort_keys=True
    )


def _texts(values: Iterable[Any]) -> dict[str, str]:
    """Each value's text: numbers as short as still tells them apart."""
    distinct = {_exact(value): value for value in values if value is not None}
    for digits in (3, 6):
        texts = {exact: _text(value, digits) for exact, value in distinct.items()}
        if len(set(texts.values())) == len(distinct):
            return texts
    return {exact: _text(value, None) for exact, value in distinct.items()}


def _text(value: Any, digits: int | None) -> str:
    if isinstance(value, float):
        return repr(value) if digits is None else f"{value:.{digits}g}"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))


def _unique(names: list[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    count = Counter(names)
    seen: Counter[str] = Counter()
    found = []
    for name, row in zip(names, rows, strict=True):
        seen[name] += 1
        mark = str(row["trial_id"])[:6] if row.get("trial_id") else f"#{seen[name]}"
        found.append(f"{name} {mark}" if count[name] > 1 else name)
    return found
