"""What pq_dump says of a Parquet file, and what it should say of rows given as Python values.

Levels are computed here a second time (`shred`), by the definition in Dremel's paper, so that a
file is compared in full: no value, null or empty list can hide behind an agreement about rows.
"""

import json
import os
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.lib.server import LIMIT_S, ROOT

LOGICAL_MAP = 2
LOGICAL_LIST = 3
OPTIONAL = 1
REPEATED = 2
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def tool(name: str) -> Path:
    """A program of subprojects/pqfile/tests, in the build folder under test."""
    server = Path(os.environ.get("PROXIMADB_BINARY", ROOT / "build" / "proximadb"))
    return server.parent / "subprojects" / "pqfile" / "tests" / name


@dataclass(slots=True)
class Node:
    index: int
    parent: int
    children: int
    name: str
    repetition: int
    definition_max: int
    repetition_max: int
    logical: int
    column: int
    type: str


@dataclass(slots=True)
class Column:
    """Everything of one column, row groups behind each other."""

    definition: list[int] = field(default_factory=list)
    repetition: list[int] = field(default_factory=list)
    values: list[int | str] = field(default_factory=list)


@dataclass(slots=True)
class Dump:
    rows: int
    row_groups: int
    keys: list[str]
    nodes: list[Node]
    columns: list[Column]
    chunks: list[dict[str, Any]]  # as pq_dump prints them

    def path(self, column: int) -> list[Node]:
        """The nodes from below the root to a column's leaf."""
        node = next(node for node in self.nodes if node.column == column)
        path = [node]
        while path[0].parent != 0:
            path.insert(0, self.nodes[path[0].parent])
        return path

    def encodings(self) -> set[str]:
        return {page["encoding"] for chunk in self.chunks for page in chunk["pages"]}

    def page_versions(self) -> set[int]:
        return {page["version"] for chunk in self.chunks for page in chunk["pages"]}


def run_dump(path: Path, *options: str) -> str:
    result = subprocess.run(
        [tool("pq_dump"), *options, path],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def check_file(path: Path) -> None:
    """All ways to the same rows agree: see pq_check.c."""
    run_dump(path, "--check")
    run_dump(path, "--check", "--callback")


def read_dump(path: Path, *options: str) -> Dump:
    dump = Dump(0, 0, [], [], [], [])
    for text in run_dump(path, *options).splitlines():
        line = json.loads(text)
        kind = line["kind"]
        if kind == "file":
            dump.rows, dump.row_groups = line["rows"], line["row_groups"]
            dump.keys = [pair["key"] for pair in line["keys"]]
            dump.columns = [Column() for _ in range(line["columns"])]
        elif kind == "node":
            dump.nodes.append(
                Node(
                    **{name: line.get(name, -1) for name in Node.__slots__ if name != "type"},
                    type=line.get("type", ""),
                )
            )
        elif kind == "chunk":
            dump.chunks.append(line)
        else:
            column = dump.columns[dump.chunks[-1]["column"]]
            column.definition += line["definition"]
            column.repetition += line["repetition"]
            column.values += line["values"]
    return dump


def encode(type_name: str, value: Any) -> int | str:  # noqa: ANN401
    """One value as pq_dump prints it."""
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        value = (aware - EPOCH) // timedelta(microseconds=1)
    elif isinstance(value, date):
        value = value.toordinal() - EPOCH.toordinal()
    if type_name == "FLOAT":
        return struct.pack(">f", value).hex()
    if type_name == "DOUBLE":
        return struct.pack(">d", value).hex()
    if type_name == "INT32":
        return int((value + 2**31) % 2**32 - 2**31)
    if type_name == "INT64":
        return int((value + 2**63) % 2**64 - 2**63)
    if type_name == "BOOLEAN":
        return int(value)
    return (value.encode() if isinstance(value, str) else bytes(value)).hex()


Entry = tuple[int, int, Any]  # repetition level, definition level, value


def shred(path: Sequence[Node], value: Any, repetition: int, definition: int) -> Iterator[Entry]:  # noqa: ANN401
    """The levels of one value of path[0], as far as the leaf at the end of the path sees it."""
    node = path[0]
    if node.repetition == REPEATED:
        if not value:
            yield repetition, definition, None
        for number, item in enumerate(value):
            level = repetition if number == 0 else node.repetition_max
            yield from shred_inside(path, item, level, definition + 1)
    elif node.repetition == OPTIONAL:
        if value is None:
            yield repetition, definition, None
        else:
            yield from shred_inside(path, value, repetition, definition + 1)
    else:
        yield from shred_inside(path, value, repetition, definition)


def shred_inside(
    path: Sequence[Node],
    value: Any,  # noqa: ANN401
    repetition: int,
    definition: int,
) -> Iterator[Entry]:
    node = path[0]
    if len(path) == 1:
        yield repetition, definition, value
        return
    inner = value
    if node.logical == LOGICAL_MAP:
        inner = [{"key": key, "value": item} for key, item in value]
    elif node.logical != LOGICAL_LIST and not (node.repetition == REPEATED and node.children == 1):
        inner = value[path[1].name]
    yield from shred(path[1:], inner, repetition, definition)


def expected_column(dump: Dump, column: int, values: Sequence[Any]) -> Column:
    """What a column must hold, given the values of its top-level field, a value a row."""
    path = dump.path(column)
    leaf = path[-1]
    expected = Column()
    for value in values:
        for repetition, definition, item in shred(path, value, 0, 0):
            if leaf.definition_max != 0:
                expected.definition.append(definition)
            if leaf.repetition_max != 0:
                expected.repetition.append(repetition)
            if definition == leaf.definition_max:
                expected.values.append(encode(leaf.type, item))
    return expected


def expected_columns(dump: Dump, rows: Sequence[dict[str, Any]]) -> list[Column]:
    """What all columns of a file with this schema must hold."""
    names = [dump.path(number)[0].name for number in range(len(dump.columns))]
    return [
        expected_column(dump, number, [row[name] for row in rows])
        for number, name in enumerate(names)
    ]


def assert_columns(dump: Dump, expected: Sequence[Column]) -> None:
    assert len(dump.columns) == len(expected)
    for number, (column, wanted) in enumerate(zip(dump.columns, expected, strict=True)):
        name = dump.path(number)[0].name
        assert column.definition == wanted.definition, name
        assert column.repetition == wanted.repetition, name
        assert column.values == wanted.values, name


def assert_rows(dump: Dump, rows: Sequence[dict[str, Any]]) -> None:
    """Every column of the file is exactly what the rows make of it."""
    assert dump.rows == len(rows)
    assert_columns(dump, expected_columns(dump, rows))
