"""Collections with segments, ended rows, and rows that only the log has; and what they must answer.

The server is told to flush at FLUSH_ROWS rows, so that files appear at once and by count alone.
"""

import json
import random
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.http.prometheus import Family, parse
from tests.http.wire import eventually
from tests.lib.rest import Json, RestClient
from tests.lib.server import Server, binary

FLUSH_ROWS = 100
DIMENSION = 16
CONFIG = """
[storage]
flush_rows = 100
flush_age_s = 3600

[wal]
segment_bytes = "1MiB"
"""
COLUMNS = [
    {"name": "price", "type": "integer"},
    {"name": "group", "type": "string"},
]
WORDS = ("red", "green", "blue", "a longer word", "")


def metrics(server: Server) -> dict[str, Family]:
    with RestClient(server) as rest:
        return parse(rest.request("GET", "/metrics").body.decode())


def metric(server: Server, name: str, **labels: str) -> float:
    """The sum of the samples of a family that have these labels."""
    return metrics(server)[f"proximadb_{name}"].value(**labels)


def folder_of(server: Server, rest: RestClient, name: str) -> Path:
    """Where a collection's segments are."""
    return server.data_dir / "collections" / str(rest.get_collection(name)["uuid"])


def vector(rng: random.Random, dimension: int = DIMENSION) -> list[float]:
    """Values that JSON and float32 have exactly: an answer is compared as it is."""
    return [float(rng.randrange(-(1 << 20), 1 << 20)) for _ in range(dimension)]


def record(rng: random.Random, record_id: str, dimension: int = DIMENSION) -> Json:
    metadata: Json = {"price": rng.randrange(1000), "group": rng.choice(WORDS)}
    if rng.random() < 0.3:
        metadata["more"] = {"text": "y" * rng.randrange(300), "list": [1, None, 2.5]}
    return {"id": record_id, "vector": vector(rng, dimension), "metadata": metadata}


@dataclass(slots=True)
class Model:
    """What a collection must hold."""

    name: str
    rows: dict[str, Json] = field(default_factory=dict)  # with version

    def upsert(self, rest: RestClient, records: Sequence[Json]) -> int:
        versions = rest.upsert(self.name, records)["versions"]
        for one in records:
            self.rows[one["id"]] = one | {"version": versions[0]}
        return int(versions[0])

    def delete(self, rest: RestClient, ids: Sequence[str]) -> None:
        present = sum(name in self.rows for name in ids)
        assert rest.delete(self.name, ids=list(ids))["deleted"] == present
        for name in ids:
            self.rows.pop(name, None)


def same(record: Json, row: Json) -> bool:
    return all(record[key] == row[key] for key in ("id", "vector", "metadata", "version"))


def read_all(rest: RestClient, name: str) -> list[Json]:
    records: list[Json] = []
    cursor: str | None = None
    while True:
        page = rest.scroll(name, limit=500, cursor=cursor, include=["metadata", "vectors"])
        records += page["records"]
        cursor = page["next_cursor"]
        if cursor is None:
            return records


def distance(a: Sequence[float], b: Sequence[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def check_scroll(rest: RestClient, model: Model) -> None:
    records = read_all(rest, model.name)
    assert [r["id"] for r in records] == sorted(model.rows), "scroll"
    assert all(same(r, model.rows[r["id"]]) for r in records), "scroll: content"


def check_count(rest: RestClient, model: Model) -> None:
    assert rest.count(model.name) == len(model.rows)
    blue = sum(row["metadata"]["group"] == "blue" for row in model.rows.values())
    assert rest.count(model.name, filter={"group": "blue"}) == blue


def check_get(rest: RestClient, model: Model, rng: random.Random) -> None:
    ids = rng.sample(sorted(model.rows), min(20, len(model.rows)))
    answer = rest.get(model.name, [*ids, "never there"])
    assert answer["missing"] == ["never there"]
    assert [r["id"] for r in answer["records"]] == ids
    assert all(same(r, model.rows[r["id"]]) for r in answer["records"]), "get"


def nearest(model: Model, query: Sequence[float], k: int, group: str | None) -> list[float]:
    """The distances of the k nearest."""
    rows = [row for row in model.rows.values() if group in (None, row["metadata"]["group"])]
    return sorted(distance(query, row["vector"]) for row in rows)[:k]


def check_search(rest: RestClient, model: Model, rng: random.Random, group: str | None) -> None:
    dimension = len(next(iter(model.rows.values()))["vector"])
    query = vector(rng, dimension)
    more: Json = {} if group is None else {"filter": {"group": group}}
    body = {"vector": query, "k": 30, "include": ["metadata", "vectors"]} | more
    hits = rest.search(model.name, **body)["results"]
    assert len({hit["id"] for hit in hits}) == len(hits), "search: one twice"
    assert all(same(hit, model.rows[hit["id"]]) for hit in hits), "search: content"
    assert all(group in (None, hit["metadata"]["group"]) for hit in hits), "search: filter"
    # the server adds up in float32: of two that are as good as equally near, either may be first
    found = [distance(query, hit["vector"]) for hit in hits]
    assert found == pytest.approx(nearest(model, query, 30, group), rel=1e-6), "search"


def checks_of(model: Model, seed: int) -> list[Callable[[RestClient], None]]:
    """Every way to ask for the rows of a collection."""
    rng = random.Random(seed)
    checks: list[Callable[[RestClient], None]] = [
        lambda rest: check_scroll(rest, model),
        lambda rest: check_count(rest, model),
        lambda rest: check_get(rest, model, rng),
        lambda rest: check_search(rest, model, rng, None),
        lambda rest: check_search(rest, model, rng, "green"),
    ]
    return checks


def check_all(rest: RestClient, model: Model, seed: int = 0) -> None:
    for check in checks_of(model, seed):
        check(rest)


def create(rest: RestClient, name: str, dimension: int = DIMENSION, **storage: Any) -> Model:  # noqa: ANN401
    rest.create_collection(name, dimension, "euclidean", columns=COLUMNS, storage=storage)
    return Model(name)


def fill(
    server: Server,
    rest: RestClient,
    model: Model,
    *,
    segments: int = 4,
    seed: int = 0,
    ids: int = 70,
) -> None:
    """Segments one after the other, each with rows that later ones end; then rows of the log.

    Of so many ids a segment: the fewer, the more rows are ended. From a fifth on, the segment is
    soon written again without them.
    """
    rng = random.Random(f"{seed}/{model.name}")
    dimension = int(rest.get_collection(model.name)["fields"][0]["dimension"])
    for number in range(segments):
        flushed = metric(server, "flushes_total")
        names = [f"{rng.randrange(segments * ids):04}" for _ in range(3 * FLUSH_ROWS)]
        unique = list(dict.fromkeys(names))[:FLUSH_ROWS]
        assert len(unique) == FLUSH_ROWS
        model.upsert(rest, [record(rng, name, dimension) for name in unique])
        wait_for_flush(server, flushed)
        if number > 0:
            model.delete(rest, rng.sample(sorted(model.rows), 5))
    model.upsert(rest, [record(rng, f"log-{i:02}", dimension) for i in range(20)])
    model.delete(rest, rng.sample(sorted(model.rows), 5))


def wait_for_flush(server: Server, before: float, count: int = 1) -> None:
    eventually("flushed", lambda: metric(server, "flushes_total") >= before + count)


@dataclass(frozen=True, slots=True)
class Checked:
    status: int
    findings: list[Json]
    text: str


def check_folder(data_dir: Path, *, repair: bool = False) -> Checked:
    """`proximadb check` of a folder that no server has open."""
    command = [str(binary()), "check", "--data-dir", str(data_dir)]
    done = subprocess.run(
        [*command, "--repair"] if repair else command, capture_output=True, text=True, check=False
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return Checked(done.returncode, lines, done.stdout + done.stderr)
