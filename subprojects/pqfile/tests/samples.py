"""The rows that pq_make.c writes, for comparison with what other readers make of its files."""

from datetime import UTC, datetime, timedelta
from typing import Any

ROW_COUNT = 5000
VECTOR_SIZE = 20
SHORT_SIZE = 3
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_of(i: int) -> datetime | None:
    if i % 11 == 0:
        return None
    return EPOCH + timedelta(microseconds=1700000000000000 + i * 1000000)


def tags_of(i: int) -> list[str | None] | None:
    if i % 8 in (1, 2):
        return None if i % 8 == 1 else []
    return [f"tag{i + j}" if (i + j) % 5 != 0 else None for j in range(i % 4 + 1)]


def place_of(i: int) -> dict[str, Any] | None:
    if i % 10 == 3:
        return None
    return {"x": None if i % 3 == 0 else i, "y": i * 2.0}


def matrix_of(i: int) -> list[list[int]] | None:
    if i % 3 == 0:
        return None if i % 2 == 0 else []
    return [[i * 100 + j * 10 + k for k in range((i + j) % 3)] for j in range(i % 3)]


def row(i: int) -> dict[str, Any]:
    """Row i as Python values, keys in the file's order."""
    return {
        "id": f"row-{i:06d}",
        "flag": None if i % 7 == 3 else i % 3 == 0,
        "small": i * 7 - 1000,
        "big": None if i % 5 == 0 else (i - 2500) * 97000291,
        "u64": i * 0x9E3779B97F4A7C15 % 2**64,
        "time": time_of(i),
        "f32": None if i % 4 == 1 else i * 0.5 - 100.0,
        "f64": i / 3.0,
        "word": None if i % 6 == 2 else f"word{i % 50}",
        "blob": bytes((i + j) & 255 for j in range(i % 13)),
        "code": bytes((i >> j) & 255 for j in range(6)),
        "vector": None if i % 9 == 4 else [i + j * 0.25 for j in range(VECTOR_SIZE)],
        "tags": tags_of(i),
        "place": place_of(i),
        "matrix": matrix_of(i),
        "short": [float(i - j) for j in range(SHORT_SIZE)],
    }


def rows() -> list[dict[str, Any]]:
    return [row(i) for i in range(ROW_COUNT)]
