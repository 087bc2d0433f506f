"""The options of installed commands, read from their source: importing MLflow's commands takes ten seconds."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

COMMANDS = {
    ("ray", "start"): ("scripts/scripts.py", "start"),
    ("mlflow", "server"): ("cli/__init__.py", "server"),
}
"""Command to where click's declaration of it is, in the package of its first word."""


def options(program: str, verb: str) -> dict[str, bool]:
    """Option to whether it takes a value."""
    file, function = COMMANDS[program, verb]
    package = importlib.util.find_spec(program)
    assert package is not None
    assert package.origin is not None
    root = Path(package.origin).parent
    body = ast.parse((root / file).read_text(encoding="utf-8")).body
    (found,) = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == function]
    shared = dict(_shared(root / "utils" / "cli_args.py")) if program == "mlflow" else {}
    declared = [
        shared.get(node.attr) if isinstance(node, ast.Attribute) else node for node in found.decorator_list
    ]
    return {name: value for node in declared if isinstance(node, ast.Call) for name, value in _names(node)}


def _shared(file: Path) -> Iterator[tuple[str, ast.expr]]:
    """The decorators that MLflow gives names to."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value


def _names(declaration: ast.Call) -> Iterator[tuple[str, bool]]:
    flag = any(
        keyword.arg == "is_flag" and ast.literal_eval(keyword.value) for keyword in declaration.keywords
    )
    for argument in declaration.args:
        if isinstance(argument, ast.Constant) and str(argument.value).startswith("-"):
            for name in str(argument.value).split("/"):
                yield name, not flag
