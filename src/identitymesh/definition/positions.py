"""YAML with positions: plain data, and for every path the line and column where it stands.

Only the YAML that JSON could say, plus comments: no tags, no anchors or aliases (a
definition must read the same to every reader), no duplicate keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from identitymesh.errors import Problem

Path = tuple[str | int, ...]
_PLAIN = frozenset(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str"))
MAX_CHARACTERS = 5_000_000
MAX_DEPTH = 50
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")  # YAML can say these, in quotes; no database can keep them


@dataclass(frozen=True, slots=True)
class Document:
    """``marks`` gives (line, column), 1-based, for each path; a mapping's entry is marked at its value."""

    data: Any
    marks: Mapping[Path, tuple[int, int]]

    def locate(self, path: Path) -> tuple[int, int] | None:
        """Position of a path, or of its nearest ancestor that stands in the file."""
        while path not in self.marks:
            if not path:
                return None
            path = path[:-1]
        return self.marks[path]


def parse(text: str) -> tuple[Document | None, list[Problem]]:
    """Parse; problems name lines and never quote values."""
    if len(text) > MAX_CHARACTERS:
        return None, [Problem(f"the file is larger than {MAX_CHARACTERS:,} characters")]
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line, column = _place(error.problem_mark)
        refused = isinstance(error, ConstructorError)
        return None, [Problem(f"{'' if refused else 'not YAML: '}{error.problem}", "", line, column)]
    except yaml.YAMLError:
        return None, [Problem("not YAML: a character that YAML does not allow")]
    if node is None:
        return None, [Problem("the file is empty")]
    builder = _Builder()
    data = builder.build(node, ())
    return (None, builder.problems) if builder.problems else (Document(data, builder.marks), [])


class _Loader(yaml.SafeLoader):
    """Refuses what is YAML but not for us, while it reads: depth costs time by its square, and then the stack."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # typeshed has no type for it
        mark: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ConstructorError(None, None, "YAML anchors and aliases are not allowed", mark)
        if not isinstance(event, yaml.CollectionStartEvent):
            return super().compose_node(parent, index)
        if self.depth == MAX_DEPTH:
            raise ConstructorError(None, None, "nested too deeply", mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _place(mark: Any) -> tuple[int | None, int | None]:
    return (mark.line + 1, mark.column + 1) if mark else (None, None)


class _Builder:
    def __init__(self) -> None:
        self.marks: dict[Path, tuple[int, int]] = {}
        self.problems: list[Problem] = []
        self._scalars = yaml.SafeLoader("")

    def build(self, node: yaml.Node, path: Path) -> Any:
        mark = node.start_mark
        self.marks[path] = (mark.line + 1, mark.column + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._report("a key must be text", path)
                continue
            if _UNWRITABLE.search(str(key_node.value)):
                self._report("a key has a character that no text can have", path)
                continue
            key = str(key_node.value)
            child = (*path, key)
            if key in result:
                mark = key_node.start_mark
                self.problems.append(
                    Problem("this key stands here twice", dotted(child), mark.line + 1, mark.column + 1)
                )
                continue
            result[key] = self.build(value_node, child)
        return result

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        if node.tag in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:binary"):
            return str(node.value)  # dates are text to us, as they are in JSON
        if node.tag not in _PLAIN:
            self._report("YAML tags are not allowed", path)
            return None
        if _UNWRITABLE.search(str(node.value)):
            self._report("a character that no text can have: NUL or half of a pair", path)
            return None
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError):
            self._report("not a value that YAML understands", path)
            return None

    def _report(self, message: str, path: Path) -> None:
        line, column = self.marks[path]
        self.problems.append(Problem(message, dotted(path), line, column))


def dotted(path: Path) -> str:
    """``rules.join[0].name`` for people."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text
