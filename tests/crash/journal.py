"""What a writer attempts and what it is told: one JSON line each, written before it matters.

An attempt is in the file before its request is sent; its outcome is appended when the answer has
come. So each write is acknowledged (`version` set), refused (it must have had no effect), or maybe
(no outcome: the server died meanwhile). The content of a record follows from its attempt's number,
so nothing needs to be stored to know what must be there.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

DIMENSION = 4
PAD_BYTES = (0, 0, 0, 30, 400, 3000)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One batch. `number` counts a writer's attempts over the whole run."""

    number: int
    collection: str
    kind: str  # upsert, insert, update, update_vector, delete, create, drop, increment
    ids: tuple[str, ...] = ()


@dataclass(slots=True)
class Outcome:
    attempt: Attempt
    acknowledged: bool = False
    refused: bool = False
    version: int = 0  # 0: the answer told none

    @property
    def maybe(self) -> bool:
        return not self.acknowledged and not self.refused


def vector_of(number: int, index: int) -> list[float]:
    """Small integers, so that JSON and float32 carry them exactly."""
    return [float(number % 4096), float(index), float(number // 4096), 1.0]


def metadata_of(number: int, index: int) -> dict[str, object]:
    return {"n": number, "i": index, "pad": "x" * PAD_BYTES[(number + index) % len(PAD_BYTES)]}


@dataclass(slots=True)
class Journal:
    """The writing side."""

    file: TextIO

    def attempt(self, attempt: Attempt) -> None:
        self._line([attempt.number, attempt.collection, attempt.kind, attempt.ids])

    def acknowledged(self, attempt: Attempt, version: int = 0) -> None:
        self._line([attempt.number, version])

    def refused(self, attempt: Attempt) -> None:
        self._line([attempt.number, None])

    def _line(self, value: object) -> None:
        self.file.write(json.dumps(value) + "\n")
        self.file.flush()


@dataclass(slots=True)
class JournalReader:
    """The reading side: what has been added since the last look."""

    path: Path
    offset: int = 0

    def news(self) -> list[Outcome]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            text = file.read()
        self.offset += len(text)
        return list(parse(text.decode().splitlines()))


def parse(lines: Iterable[str]) -> Iterator[Outcome]:
    """Outcomes in the order of their attempts; a writer has one at a time."""
    open_one: Outcome | None = None
    for line in lines:
        value = json.loads(line)
        if len(value) == 4:
            if open_one is not None:
                yield open_one
            open_one = Outcome(Attempt(value[0], value[1], value[2], tuple(value[3])))
            continue
        assert open_one is not None
        assert open_one.attempt.number == value[0]
        open_one.acknowledged = value[1] is not None
        open_one.refused = value[1] is None
        open_one.version = value[1] or 0
        yield open_one
        open_one = None
    if open_one is not None:
        yield open_one


@dataclass(frozen=True, slots=True)
class Row:
    """What a record must hold: who gave its metadata, its vector, and its last update."""

    number: int
    index: int
    vector_number: int
    vector_index: int
    updated: int = 0


@dataclass(slots=True)
class State:
    """The rows of one writer in one collection."""

    rows: dict[str, Row] = field(default_factory=dict)

    def apply(self, attempt: Attempt) -> "State":
        rows = dict(self.rows)
        for index, name in enumerate(attempt.ids):
            number = attempt.number
            if attempt.kind == "delete":
                rows.pop(name, None)
            elif attempt.kind in ("upsert", "insert"):
                rows[name] = Row(number, index, number, index)
            else:
                old = rows.get(name)
                assert old is not None, f"{attempt}: updates a record that cannot be there"
                moved = attempt.kind == "update_vector"
                rows[name] = Row(
                    old.number,
                    old.index,
                    number if moved else old.vector_number,
                    index if moved else old.vector_index,
                    number,
                )
        return State(rows)
