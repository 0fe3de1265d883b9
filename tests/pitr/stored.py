"""The records of an archive's logs, read by the format alone (docs/formats/wal.md)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = 4096
CLOSE = 3


@dataclass(frozen=True, slots=True)
class Record:
    log: str
    lsn: int
    time_us: int
    kind: int
    collection: str
    version: int


def uuid_text(raw: bytes) -> str:
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def segment_records(data: bytes) -> Iterator[Record]:
    assert data[:8] == b"PXDBWAL1"
    log = uuid_text(data[32:48])
    block = struct.unpack_from("<I", data, 24)[0]
    at = BLOCK
    while at + 64 <= len(data) and data[at : at + 4] == b"PXXG":
        header_len, _, count = struct.unpack_from("<HHI", data, at + 8)
        _, lsn, time_us, body_len = struct.unpack_from("<QQqQ", data, at + 16)
        record = at + header_len
        for i in range(count):
            (length,) = struct.unpack_from("<Q", data, record + 8)
            kind = data[record + 28]
            collection = uuid_text(data[record + 40 : record + 56])
            (version,) = struct.unpack_from("<Q", data, record + 56)
            yield Record(log, lsn + i, time_us, kind, collection, version)
            record += length
        at += -(-(header_len + body_len) // block) * block


def records(store: Path) -> dict[str, list[Record]]:
    """Of each log of the only archive in a folder, in order."""
    found: dict[str, list[Record]] = {}
    for path in sorted(store.glob("*/wal/*/*.wal")):
        for record in segment_records(path.read_bytes()):
            found.setdefault(record.log, []).append(record)
    return found


@dataclass(frozen=True, slots=True)
class Moment:
    """What a restore ends with: a time, or a record in its log and a time in the others."""

    time_us: int
    log: str = ""
    lsn: int = 0

    def has(self, record: Record) -> bool:
        if record.log == self.log:
            return record.lsn <= self.lsn
        return record.time_us <= self.time_us


def versions_at(logs: dict[str, list[Record]], moment: Moment) -> dict[str, int]:
    """The newest version of each collection that the logs have at a moment."""
    newest: dict[str, int] = {}
    for log in logs.values():
        for record in log:
            if not moment.has(record):
                break
            if record.kind != CLOSE:
                known = newest.get(record.collection, 0)
                newest[record.collection] = max(known, record.version)
    return newest
