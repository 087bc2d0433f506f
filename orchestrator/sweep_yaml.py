"""Read a YAML file into items. Nothing in it is executed, and aliases cannot make it grow without bound."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from orchestrator.sweep_items import Item, Problems, SweepError, shown_key

MOST_VALUES = 200_000
"""The most values a file may hold once its aliases are written out."""

TAG = "tag:yaml.org,2002:"


def read_text(file: Path) -> str:
    """The text of the file. SweepError where it is absent, no file, or not UTF-8."""
    if not file.exists():
        raise SweepError([f"{file}: no such file"])
    if not file.is_file():
        raise SweepError([f"{file}: not a file"])
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SweepError([f"{file}: not UTF-8 text"]) from error
    except OSError as error:
        raise SweepError([f"{file}: cannot be read: {error.strerror}"]) from error


def read_yaml(file: Path, text: str, problems: Problems) -> Item:
    """The one document of the file. SweepError where it is not YAML; duplicate keys go to `problems`."""
    yaml = YAML(typ="safe", pure=True)
    try:
        documents = list(yaml.compose_all(text))
        if len(documents) > 1:
            raise _error(file, documents[1], "a second document; a sweep file has one")
        if not documents or documents[0] is None:
            raise SweepError([f"{file}:1: empty; a sweep has at least a name and a trial"])
        return _Composed(file, yaml.constructor, problems).item(documents[0])
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or ""
        if "'\\t'" in problem:
            problem = "a tab; indent with spaces"
        raise SweepError([f"{file}:{mark.line + 1 if mark else 1}: not YAML: {problem}"]) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SweepError([f"{file}:{line}: not text: the character {error.character:#06x}"]) from error
    except YAMLError as error:
        raise SweepError([f"{file}:1: not YAML: {str(error).splitlines()[0]}"]) from error
    except RecursionError:
        raise SweepError([f"{file}:1: nested too deeply"]) from None


def _error(file: Path, node: Node, what: str) -> SweepError:
    return SweepError([f"{file}:{_line(node)}: {what}"])


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


class _Composed:
    """Turns the nodes of one document into items."""

    def __init__(self, file: Path, constructor: Any, problems: Problems) -> None:
        self.file, self.constructor, self.problems = file, constructor, problems
        self._sizes: dict[int, int] = {}

    def item(self, root: Node) -> Item:
        if self._size(root) > MOST_VALUES:
            raise _error(self.file, root, f"more than {MOST_VALUES:,} values, aliases written out")
        return Item(self._value(root, ""), _line(root))

    def _size(self, node: Node) -> int:
        """How many values the node stands for, aliases written out; each node is looked at once."""
        if id(node) not in self._sizes:
            self._sizes[id(node)] = MOST_VALUES + 1  # what a node finds that holds itself
            children = (
                [part for pair in node.value for part in pair]
                if isinstance(node, MappingNode)
                else node.value
            )
            inner = 0 if isinstance(node, ScalarNode) else sum(map(self._size, children))
            self._sizes[id(node)] = 1 + inner
        return self._sizes[id(node)]

    def _value(self, node: Node, path: str) -> Any:
        kind = str(node.tag).removeprefix(TAG)
        if isinstance(node, MappingNode) and kind == "map":
            return self._mapping(node, path)
        if isinstance(node, SequenceNode) and kind == "seq":
            return [
                Item(self._value(child, f"{path}[{index}]"), _line(child), f"{path}[{index}]")
                for index, child in enumerate(node.value)
            ]
        if isinstance(node, ScalarNode) and kind in ("str", "timestamp"):
            if not _is_text(node.value):
                raise _error(self.file, node, "not text: half of a surrogate pair")
            return node.value
        if isinstance(node, ScalarNode) and kind in ("null", "bool", "int", "float"):
            try:
                return self.constructor.construct_object(node)
            except (ValueError, KeyError, OverflowError):
                raise _error(self.file, node, f"not a value of the kind !!{kind}") from None
        raise _error(self.file, node, f"the tag {str(node.tag).replace(TAG, '!!')} is not allowed")

    def _mapping(self, node: MappingNode, path: str) -> dict[str, Item]:
        found: dict[str, Item] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise _error(self.file, key_node, "a key must be a name")
            if str(key_node.tag) == f"{TAG}merge":
                continue
            key = str(key_node.value)
            key_path = f"{path}.{shown_key(key)}" if path else shown_key(key)
            entry = Item(self._value(value_node, key_path), _line(key_node), key_path)
            if key in found:
                self.problems.about(entry, f"given twice, first on line {found[key].line}")
            found.setdefault(key, entry)
        return self._merged(node, path) | found

    def _merged(self, node: MappingNode, path: str) -> dict[str, Item]:
        """What `<<` brings in: of several mappings the first wins."""
        merged: dict[str, Item] = {}
        for source in self._merge_sources(node):
            if not isinstance(source, MappingNode):
                raise _error(self.file, source, "<<: must be a mapping or a list of mappings")
            merged = self._mapping(source, path) | merged
        return merged

    def _merge_sources(self, node: MappingNode) -> Iterator[Node]:
        for key, value in node.value:
            if str(key.tag) == f"{TAG}merge":
                yield from value.value if isinstance(value, SequenceNode) else [value]


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
