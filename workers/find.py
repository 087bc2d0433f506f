"""Find an architecture, data set, optimiser or measurement by its name, and read its options without importing it.

A name is a file of this package (`mlp` is `workers/architectures/mlp.py`) or, with a dot in it, a user's own
(`my_models.resnet9`: the module of that name, or the function `resnet9` in `my_models`). The options are the
keyword-only parameters of the file's one function, read from its source, so that a sweep file can be checked
without importing torch.
"""

import ast
import builtins
import collections.abc
import errno
import hashlib
import importlib
import importlib.util
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import annotated_types

from workers.spec import SpecError

FUNCTIONS = {"architectures": "build", "datasets": "load", "optimizers": "build", "measurements": "measure"}
"""What is looked up, by kind: the function that each file of `workers/<kind>/` has."""

REQUIRED: Any = object()
"""The default of an option that has none."""

UNREADABLE: Any = object()
"""The default of an option whose source says more than builtins and literals do."""


@dataclass(frozen=True)
class Option:
    """One keyword-only parameter: its annotation (Any where it cannot be read) and its default."""

    annotation: Any
    default: Any


def names(kind: str) -> list[str]:
    """The names that this package ships, sorted.

    >>> "mlp" in names("architectures")
    True
    """
    folder = Path(__file__).parent / kind
    return sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_"))


def module(kind: str, name: str) -> ModuleType:
    """Import the module that `name` means; SpecError where there is none."""
    return importlib.import_module(_module_name(kind, name))


def function(kind: str, name: str) -> Callable[..., Any]:
    """Import the function that `name` means: `build`, `load` or `measure`, or the user's own."""
    found: Callable[..., Any] = getattr(module(kind, name), _function_name(kind, name))
    return found


def options(kind: str, name: str) -> dict[str, Option]:
    """The options that `name` accepts, in order. Reads source only. SpecError where there is no such name.

    >>> options("optimizers", "sgd")["momentum"].default
    0.0
    """
    found = _options_of(_source(_module_name(kind, name)), _function_name(kind, name))
    if found is None:
        raise SpecError(f"{kind}: {name!r} has no function {_function_name(kind, name)}")
    return found


def constant(kind: str, name: str, variable: str) -> Any:
    """The literal that the file of `name` assigns to `variable` at its top level, or None. Reads source only.

    >>> constant("measurements", "subspace_overlap", "FOLLOWS")
    'top_eigenpairs'
    """
    for node in _source(_module_name(kind, name)).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if (
            isinstance(node, ast.Assign | ast.AnnAssign)
            and isinstance(target, ast.Name)
            and target.id == variable
        ):
            return ast.literal_eval(node.value) if node.value else None
    return None


def record(name: str) -> dict[str, Any]:
    """The columns of a measurement, with their annotations (Any where they cannot be read). Reads source only.

    >>> record("gradient_overlap")["f_top"]
    float | None
    """
    for node in _source(_module_name("measurements", name)).body:
        if isinstance(node, ast.ClassDef) and node.name == "Record":
            return {
                field.target.id: _evaluate(field.annotation, Any)
                for field in node.body
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            }
    return {}


def digest(kind: str, name: str) -> str:
    """SHA-256 of the source file that `name` means, in hexadecimal; what that file imports is not in it."""
    file = _file(_module_name(kind, name))
    assert file is not None
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _module_name(kind: str, name: str) -> str:
    if "." not in name:
        if not names(kind):  # a node's copy of this package was removed under it: another process has it anew
            raise OSError(errno.ESTALE, f"the files of workers.{kind} are gone")
        if name not in names(kind):
            own = f"(or a dotted name of your own{_beside(kind, name)})"
            raise SpecError(f"{kind}: no {name!r}; there are {', '.join(names(kind))} {own}")
        return f"workers.{kind}.{name}"
    for candidate in (name, name.rpartition(".")[0]):
        if _file(candidate) is not None:
            return candidate
    raise SpecError(f"{kind}: no {name!r}: neither a file nor a function in a file beside the sweep file")


def _beside(kind: str, name: str) -> str:
    """The dotted names that a file `name`.py has, if it lies in the first folder of modules: the sweep file's."""
    file = Path(sys.path[0], f"{name}.py")
    if not name.isidentifier() or not file.is_file():
        return ""
    body = _parsed(file, file.stat().st_mtime_ns).body
    found = [node.name for node in body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
    usual = [FUNCTIONS[kind]] if FUNCTIONS[kind] in found else found
    return f"; {name}.py has {', '.join(f'{name}.{each}' for each in usual)}" if found else ""


def _function_name(kind: str, name: str) -> str:
    own_function = "." in name and _module_name(kind, name) != name
    return name.rpartition(".")[2] if own_function else FUNCTIONS[kind]


def _file(module_name: str) -> Path | None:
    """The source file of a module, found without importing it or the packages that it lies in."""
    parts = module_name.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    try:
        found = importlib.util.find_spec(parts[0])
    except ValueError:  # of __main__ and its like
        return None
    for length in range(2, len(parts) + 1):
        folders = found.submodule_search_locations if found else None
        found = PathFinder.find_spec(".".join(parts[:length]), folders) if folders else None
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return None
    return Path(found.origin)


def _source(module_name: str) -> ast.Module:
    file = _file(module_name)
    assert file is not None
    return _parsed(file, file.stat().st_mtime_ns)


@cache
def _parsed(file: Path, changed: int) -> ast.Module:  # noqa: ARG001
    try:
        return ast.parse(file.read_bytes())
    except SyntaxError as error:
        raise SpecError(f"{file}:{error.lineno}: {error.msg}") from error


def _options_of(source: ast.Module, name: str) -> dict[str, Option] | None:
    for node in source.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            return {
                argument.arg: Option(
                    _evaluate(argument.annotation, Any),
                    REQUIRED if default is None else _evaluate(default, UNREADABLE),
                )
                for argument, default in pairs
            }
    return None


def _evaluate(node: ast.expr | None, otherwise: Any) -> Any:
    """The value of an annotation or default that uses only builtins, typing, collections.abc and annotated_types."""
    if node is None:
        return otherwise
    scope: dict[str, Any] = {}
    for library in (builtins, collections.abc, annotated_types, typing):
        scope |= vars(library)
    try:
        return eval(ast.unparse(node), scope)
    except Exception:  # whatever else an annotation of a user's own may be, it is not checked beforehand
        return otherwise
