"""What an archive in a folder holds, read by its format alone (docs/formats/archive.md, wal.md).

Nothing here is shared with the server: what these functions find is there for any reader.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HEADER = struct.Struct("<8sIIqQII16sII")
NONE_NEEDED = 2**64 - 1
BLOCK = 4096
ROWS = 1  # type of a record


@dataclass(frozen=True, slots=True)
class Log:
    first: int
    next: int
    ended: bool


@dataclass(frozen=True, slots=True)
class State:
    catalog_first: int
    catalog_next: int
    ranges: list[tuple[int, int]]
    logs: dict[str, Log]
    closed: bool


@dataclass(frozen=True, slots=True)
class Base:
    name: str
    begun_us: int
    ended_us: int
    catalog_version: int
    needs: dict[str, int]


@dataclass(frozen=True, slots=True)
class Record:
    """One batch of a log: ids that were written and ids that were deleted."""

    collection: str
    version: int
    time_us: int
    written: frozenset[str]
    deleted: frozenset[str]


class Reader:
    """Takes little-endian fields off the front of bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, layout: str) -> tuple[int, ...]:
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def raw(self, size: int) -> bytes:
        assert self.at + size <= len(self.data), "cut off"
        self.at += size
        return self.data[self.at - size : self.at]

    def table(self) -> Iterator["Reader"]:
        count, size = self.take("II")
        for _ in range(count):
            yield Reader(self.raw(size))


def uuid_text(raw: bytes) -> str:
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def open_object(path: Path, magic: bytes) -> tuple[int, Reader]:
    """The time of the header, and the body."""
    data = path.read_bytes()
    found, version, header_len, time_us, body_len, _, _, _, _, _ = HEADER.unpack_from(data)
    assert found == magic
    assert version == 1
    assert header_len == HEADER.size
    assert body_len == len(data) - HEADER.size
    return time_us, Reader(data[HEADER.size :])


class Archive:
    """The archive of one data directory in a folder."""

    def __init__(self, store: Path, identity: str) -> None:
        self.store = store
        self.identity = identity
        self.root = store / identity

    @property
    def state(self) -> State:
        _, body = open_object(self.root / "STATE", b"PDBARCST")
        first, following = body.take("QQ")
        ranges = []
        for row in body.table():
            from_us, to_us = row.take("qq")
            ranges.append((from_us, to_us))
        logs = {}
        for row in body.table():
            name = uuid_text(row.raw(16))
            first_seq, next_seq, flags = row.take("QQI")
            logs[name] = Log(first_seq, next_seq, flags & 1 == 1)
        (flags,) = body.take("I")
        return State(first, following, ranges, logs, flags & 1 == 1)

    @property
    def bases(self) -> list[Base]:
        """Those that are whole, in order of time."""
        return [self.base(path) for path in sorted(self.root.glob("bases/*/BASE"))]

    def base(self, path: Path) -> Base:
        begun_us, body = open_object(path, b"PDBARCBA")
        ended_us, catalog_version = body.take("qQ")
        (name_len,) = body.take("H")
        name = body.raw(name_len).decode()
        assert name == path.parent.name
        needs = {}
        for row in body.table():
            log = uuid_text(row.raw(16))
            (needs[log],) = row.take("Q")
        return Base(name, begun_us, ended_us, catalog_version, needs)

    def keys(self, folder: str) -> list[str]:
        root = self.root / folder
        found = (p for p in root.rglob("*") if p.is_file() and not p.name.startswith(".tmp-"))
        return sorted(str(p.relative_to(root)) for p in found)

    def segments(self, log: str) -> dict[int, Path]:
        """Of those that are there whole; what is being put has another name. None: the log has no
        record yet."""
        return {int(p.stem, 16): p for p in sorted((self.root / "wal" / log).glob("*.wal"))}

    def logs(self) -> list[str]:
        root = self.root / "wal"
        return sorted(p.name for p in root.iterdir()) if root.exists() else []

    def records(self, log: str, to_us: int | None = None) -> list[Record]:
        """Of a log's stored segments, in order; its chain of groups has no gap."""
        found: list[Record] = []
        group = None
        seqs = self.segments(log)
        assert list(seqs) == list(range(min(seqs), max(seqs) + 1)), f"a gap in {list(seqs)}"
        for path in seqs.values():
            for group_seq, record in segment_records(path.read_bytes(), log):
                assert group in (None, group_seq, group_seq - 1), "a group is missing"
                group = group_seq
                if record is not None and (to_us is None or record.time_us <= to_us):
                    found.append(record)
        return found

    def ids(self, to_us: int | None = None) -> set[str]:
        """All ids that any stored log has ever written."""
        return {
            row
            for log in self.logs()
            for record in self.records(log, to_us)
            for row in record.written
        }


def segment_records(data: bytes, log: str) -> Iterator[tuple[int, Record | None]]:
    """(group_seq, record) of every record, and (group_seq, None) of groups without any."""
    assert data[:8] == b"PXDBWAL1"
    assert uuid_text(data[32:48]) == log
    block = struct.unpack_from("<I", data, 24)[0]
    at = BLOCK
    while at < len(data):
        magic, _, header_len, _, count = struct.unpack_from("<4sIHHI", data, at)
        assert magic == b"PXXG", f"no group at {at} of {len(data)}"
        group_seq, _, time_us, body_len = struct.unpack_from("<QQqQ", data, at + 16)
        body = at + header_len
        if count == 0:
            yield group_seq, None
        for _ in range(count):
            record, length = read_record(data, body, time_us)
            yield group_seq, record
            body += length
        at += -(-(header_len + body_len) // block) * block
    assert at == len(data), "the last group is cut"


def read_record(data: bytes, at: int, time_us: int) -> tuple[Record | None, int]:
    header_len, length, body_len = struct.unpack_from("<IQQ", data, at + 4)
    kind, encoding = struct.unpack_from("<BB", data, at + 28)
    if kind != ROWS:
        return None, length
    assert encoding == 0
    collection = uuid_text(data[at + 40 : at + 56])
    (version,) = struct.unpack_from("<Q", data, at + 56)
    body = at + header_len
    fields, rows = struct.unpack_from("<II", data, body)
    row = body + -(-(8 + 4 * fields) // 64) * 64
    written: set[str] = set()
    deleted: set[str] = set()
    for _ in range(rows):
        row_len, flags = struct.unpack_from("<II", data, row)
        (id_len,) = struct.unpack_from("<I", data, row + 40)
        (deleted if flags & 1 else written).add(data[row + 48 : row + 48 + id_len].decode())
        row += row_len
    assert row <= body + body_len
    return Record(collection, version, time_us, frozenset(written), frozenset(deleted)), length


def archives(store: Path) -> list[Archive]:
    """One for each data directory that has ever put something there."""
    roots = sorted(p.parent.name for p in store.glob("*/IDENTITY"))
    return [Archive(store, name) for name in roots]


def only(store: Path) -> Archive:
    (archive,) = archives(store)
    return archive
