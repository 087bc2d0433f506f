"""What travels to a cluster: this package and the user's own modules and files, gathered in one folder."""

import ast
import importlib.util
import shutil
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from workers.spec import Component, TrialSpec

PACKAGES = ("orchestrator", "workers")
"""What every node imports, whatever version is installed there."""

SKIPPED = ("__pycache__", ".*")
"""Files and folders within packages that stay: Ray would leave out others because of a .gitignore among them."""


def pack(target: Path, folder: Path | None, specs: Iterable[TrialSpec]) -> None:
    """Copy into `target` this package and what the trials need of the sweep's folder, at the same paths."""
    for name in PACKAGES:
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.submodule_search_locations is not None
        _copy(Path(found.submodule_search_locations[0]), target / name)
    for path in own_files(folder, specs) if folder else ():
        assert folder is not None
        _copy(path, target / path.relative_to(folder))


def own_files(folder: Path, specs: Iterable[TrialSpec]) -> list[Path]:
    """What the trials name of the sweep's folder: modules, what those import, packages and files."""
    files: dict[Path, None] = {}
    modules: list[str] = []
    for spec in specs:
        for name, options in _named(spec):
            if "." in name:
                modules.append(name)
            files |= dict.fromkeys(_files(folder, options))
    seen: set[str] = set()
    while modules:
        top = modules.pop().partition(".")[0]
        if top in seen or top in PACKAGES:
            continue
        seen.add(top)
        for path in (folder / f"{top}.py", folder / top):
            if path.is_file() or next(path.rglob("*.py"), None):
                files[path] = None
                sources = [path] if path.is_file() else sorted(path.rglob("*.py"))
                modules += [name for source in sources for name in _imports(source)]
    return sorted(files)


def files_within(paths: Iterable[Path]) -> Iterator[Path]:
    """The files that are copied of these files and packages."""
    for path in paths:
        if path.is_file():
            yield path
        for file in sorted(path.rglob("*")) if path.is_dir() else ():
            parts = file.relative_to(path).parts
            if file.is_file() and not any(fnmatch(part, skipped) for part in parts for skipped in SKIPPED):
                yield file


def left_behind(folder: Path, specs: Iterable[TrialSpec]) -> list[str]:
    """Files that the trials name relative to the sweep's folder and that lie outside of it: they do not travel."""
    values = (value for spec in specs for _, options in _named(spec) for value in options.values())
    above = {value for value in values if isinstance(value, str) and value.startswith("../")}
    return sorted(value for value in above if (folder / value).is_file())


def _named(spec: TrialSpec) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The name and the options of everything that may be the user's own."""
    for value in vars(spec).values():
        if isinstance(value, Component):
            yield value.name, value.options
    for name, request in spec.measure.items():
        yield name, request.options


def _files(folder: Path, options: Mapping[str, Any]) -> Iterator[Path]:
    """Files in the folder that an option names, as the `path` of `npz`. Others must lie on every node."""
    for value in options.values():
        if isinstance(value, str) and 0 < len(value) < 256:
            inside = not Path(value).is_absolute() and ".." not in Path(value).parts
            if inside and (folder / value).is_file():
                yield folder / value


def _imports(source: Path) -> Iterator[str]:
    """Names of the modules that a file imports, other than relative to itself."""
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):  # the trial that needs it will say so
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*SKIPPED), dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)
