"""What happened to a server's collections, as its clients saw it: each operation with the moments
between which it took effect, and the version that it made.

One client changes a collection at a time, so the order of its versions is known; several clients
change `shared`, where each batch tells its version. An operation whose answer never came is looked
up after the restart: then it either happened or never will.
"""

import time
from dataclasses import dataclass, field

NEVER = 1 << 62

Row = tuple[int, float]  # version, value
Rows = dict[str, Row]


def now_us() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Span:
    """An operation took effect between its call and its answer."""

    begun_us: int
    ended_us: int

    def surely_by(self, time_us: int) -> bool:
        return self.ended_us <= time_us

    def maybe_by(self, time_us: int) -> bool:
        return self.begun_us <= time_us


@dataclass(frozen=True, slots=True)
class Batch:
    """Upserted values, and deleted ids (None)."""

    version: int
    span: Span
    values: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Described:
    text: str
    span: Span


@dataclass(slots=True)
class Collection:
    """One life of a name: from its creation to its drop."""

    name: str
    uuid: str
    created: Span
    born: Rows = field(default_factory=dict)  # it came out of a snapshot with these
    born_version: int = 0
    born_description: str = ""
    dropped: Span = Span(NEVER, NEVER)
    batches: list[Batch] = field(default_factory=list)
    described: list[Described] = field(default_factory=list)

    def must_be_there(self, time_us: int) -> bool:
        return self.created.surely_by(time_us) and not self.dropped.maybe_by(time_us)

    def may_be_there(self, time_us: int) -> bool:
        return self.created.maybe_by(time_us) and not self.dropped.surely_by(time_us)

    def rows_at(self, version: int) -> Rows:
        rows = dict(self.born)
        for batch in sorted(self.batches, key=lambda b: b.version):
            if batch.version > version:
                break
            for name, value in batch.values.items():
                if value is None:
                    rows.pop(name, None)
                else:
                    rows[name] = (batch.version, value)
        return rows

    def version_limits(self, time_us: int) -> tuple[int, int]:
        """The lowest and the highest version that may be the newest one at a moment."""
        sure = [b.version for b in self.batches if b.span.surely_by(time_us)]
        maybe = [b.version for b in self.batches if b.span.maybe_by(time_us)]
        return max([self.born_version, *sure]), max([self.born_version, *maybe])

    def newest_batch(self, version: int) -> int:
        """The newest one up to a version, which may have jumped behind it."""
        return max([self.born_version, *(b.version for b in self.batches if b.version <= version)])

    def description(self) -> str:
        """For the one client that changes it."""
        return self.described[-1].text if self.described else self.born_description

    def descriptions(self, time_us: int) -> set[str]:
        """What its description may be."""
        possible = {self.born_description}
        for described in self.described:
            if described.span.surely_by(time_us):
                possible = {described.text}
            elif described.span.maybe_by(time_us):
                possible.add(described.text)
        return possible


@dataclass(slots=True)
class History:
    """Every collection there ever was, by uuid."""

    collections: dict[str, Collection] = field(default_factory=dict)

    def begin(self, collection: Collection) -> Collection:
        assert collection.uuid not in self.collections
        self.collections[collection.uuid] = collection
        return collection
