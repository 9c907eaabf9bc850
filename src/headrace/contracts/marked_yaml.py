"""YAML that remembers on which line each field stands, so that errors can point at it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from headrace.errors import DocumentError

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class MarkedDocument:
    """A document's plain data and the line (from 1) of every field."""

    data: Any
    lines: dict[Path, int]
    file: str

    def error(self, path: Path, problem: str, remedy: str = "") -> DocumentError:
        """A DocumentError that points at `path`, or at the nearest field above it that exists."""
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        return DocumentError(problem, file=self.file, line=self.lines.get(known), field=dotted(path), remedy=remedy)

    def table(self, path: Path, required: bool = False) -> dict[str, Any]:
        """The mapping at `path`; empty when there is none. Raises DocumentError for another type."""
        value = self.get(path)
        if value is None and not required:
            return {}
        if not isinstance(value, dict):
            raise self.error(path, "is missing" if value is None else "must be a mapping")
        return value

    def get(self, path: Path) -> Any:
        """The value at `path`, or None."""
        value = self.data
        for step in path:
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return None
        return value

    def typed(self, path: Path, kind: type, default: Any = None) -> Any:
        """The value at `path` if it is of `kind` (float takes whole numbers); `default` when there is none."""
        value = self.get(path)
        if value is None:
            return default
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            words = {str: "a string", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}
            raise self.error(path, f"must be {words.get(kind, kind.__name__)}, not {value!r}")
        return value

    def only(self, path: Path, known: Iterable[str]) -> None:
        """Refuse keys of the mapping at `path` that are not `known`."""
        names = list(known)
        for key in self.table(path):
            if key not in names:
                near = difflib.get_close_matches(str(key), names, n=1)
                remedy = f'Did you mean "{near[0]}"?' if near else f"Known here: {', '.join(names)}."
                raise self.error((*path, key), "is not a field that Headrace carries out", remedy)


def parse(text: str, file: str) -> MarkedDocument:
    """The one YAML document in `text`.

    Raises:
        DocumentError: not YAML, not a mapping, or more than one document.
    """
    import yaml

    with _yaml_errors(file):
        return _marked(yaml.compose(text, Loader=yaml.SafeLoader), file)


def parse_all(text: str, file: str) -> list[MarkedDocument]:
    """Every YAML document in `text`, those that hold nothing left out; at least one.

    Raises:
        DocumentError: not YAML, or one is not a mapping.
    """
    import yaml

    with _yaml_errors(file):
        nodes: list[Any] = [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if not _is_empty(node)]
        return [_marked(node, file) for node in nodes or [None]]


@contextmanager
def _yaml_errors(file: str) -> Iterator[None]:
    import yaml

    try:
        yield
    except RecursionError as error:
        raise DocumentError("an alias refers to itself, or it is nested too deep", file=file) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise DocumentError(
            f"not valid YAML: {getattr(error, 'problem', None) or error}",
            file=file, line=mark.line + 1 if mark else None, remedy="Mend this line.",
        ) from error  # fmt: skip


def _is_empty(node: Any) -> bool:
    return node is None or (not isinstance(node.value, list) and node.tag == "tag:yaml.org,2002:null")


def _marked(node: Any, file: str) -> MarkedDocument:
    import yaml

    if not isinstance(node, yaml.MappingNode):
        raise DocumentError("holds no YAML mapping", file=file, remedy="Write it as kind: … and spec: ….")
    loader = yaml.SafeLoader("")
    try:
        data = loader.construct_document(node)
    finally:
        loader.dispose()
    lines: dict[Path, int] = {}
    _walk(node, (), lines)
    return MarkedDocument(data, lines, file)


def dotted(path: Path) -> str:
    """`("spec", "steps", 0)` as `spec.steps[0]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _walk(node: Any, path: Path, lines: dict[Path, int]) -> None:
    import yaml

    if node is None:
        return
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, key.value)
            lines[inner] = key.start_mark.line + 1
            _walk(value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*path, index), lines)
