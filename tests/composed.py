"""Docker's files read as Compose reads them: services with their commands and environments, variables filled in."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

FOLDER = Path(__file__).parent.parent / "docker"
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\}")


class Missing(ValueError):
    """A variable that `:?` asks for is not set."""


@dataclass(frozen=True)
class Service:
    """A container: `command` is what it runs, `environment` what its command is given."""

    name: str
    command: tuple[str, ...]  # () where the image's own is run
    environment: dict[str, str]
    rest: dict[str, Any]


def read(file: str) -> Any:
    """A YAML file of docker/, as it stands."""
    return YAML(typ="safe").load((FOLDER / file).read_text(encoding="utf-8"))


def read_all(file: str) -> list[Any]:
    """The documents of a YAML file of docker/."""
    return list(YAML(typ="safe").load_all((FOLDER / file).read_text(encoding="utf-8")))


def example(**values: str) -> dict[str, str]:
    """The variables of env.example, as a user might have filled in what is empty there."""
    lines = (FOLDER / "env.example").read_text(encoding="utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {name: value or f"some{name.lower().replace('_', '')}" for name, value in given.items()} | values


def image(variables: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """What our image gives to its containers: its environment, and its health check's command."""
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    settings = [word for line in re.findall(r"^ENV (.*)", text, re.MULTILINE) for word in shlex.split(line)]
    (check,) = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", text, re.MULTILINE)
    return _filled(dict(setting.split("=", 1) for setting in settings), variables), json.loads(check)


def services(*files: str, variables: Mapping[str, str]) -> dict[str, Service]:
    """The services of these files, each laid over the one before. Raises Missing."""
    merged: dict[str, Any] = {}
    for file in files:
        merged = _over(merged, _filled(read(file), variables))
    found = {}
    for name, rest in merged["services"].items():
        command, environment = rest.get("command", ()), rest.get("environment", {})
        found[name] = Service(name, tuple(command), dict(environment), rest)
    return found


def texts(value: Any) -> list[str]:
    """Every string in a value, keys too."""
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in texts(part)]
    return [value] if isinstance(value, str) else []


def _filled(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(part, variables) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, variables) for part in value]
    return VARIABLE.sub(lambda found: _value(found, variables), value) if isinstance(value, str) else value


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    given = variables.get(found["name"], "")
    if not given and found["kind"] == "?":
        raise Missing(f"{found['name']}: {found['text']}")
    return given or (found["text"] if found["kind"] == "-" else "")


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Compose's rule for mappings and for `command`, which is replaced. (Other lists it appends to.)"""
    both = {
        key: _over(below[key], above[key])
        for key in below.keys() & above.keys()
        if isinstance(above[key], dict)
    }
    return below | above | both
