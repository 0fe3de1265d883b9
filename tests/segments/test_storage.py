"""Every way to store vectors, and live files read by others while the server writes."""

import contextlib
import dataclasses
import itertools
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from tests.crash.settings import check_offline
from tests.http.wire import eventually
from tests.lib.rest import Json, RestClient
from tests.lib.server import Server, StartServer
from tests.segments.made import (
    CONFIG,
    FLUSH_ROWS,
    Model,
    check_all,
    create,
    fill,
    folder_of,
    metric,
    record,
    wait_for_flush,
)

COMPRESSIONS = ("none", "snappy", "lz4", "zstd")
VECTORS = ("memory", "mmap", "disk")
CODECS = {"none": "UNCOMPRESSED", "snappy": "SNAPPY", "lz4": "LZ4", "zstd": "ZSTD"}

Rows = list[dict[str, Any]]
NEWEST = """
select * exclude (place) from (
    select *, row_number() over (partition by id order by version desc) as place
    from read_parquet('{files}')
) where place = 1 order by id
"""


def codecs_of(path: Path) -> set[str]:
    """Of the columns that are not vectors."""
    groups = pq.ParquetFile(path).metadata
    names = set()
    for group in range(groups.num_row_groups):
        for number in range(groups.num_columns):
            column = groups.row_group(group).column(number)
            if not column.path_in_schema.startswith("vector"):
                names.add(str(column.compression))
    return names


def newest_of(path: Path) -> int:
    """The newest version of a segment."""
    versions = pq.read_table(path, columns=["version"])["version"].to_pylist()
    return max(map(int, versions))


def codecs_in(folder: Path, since: int = -1) -> set[str]:
    """Of all segments with rows of versions behind this one: a merge that had begun before them
    has none. One that a merge takes away meanwhile does not count."""
    found: set[str] = set()
    for path in folder.glob("*.parquet"):
        with contextlib.suppress(FileNotFoundError):
            if newest_of(path) > since:
                found |= codecs_of(path)
    return found


def document_of(row: dict[str, Any]) -> Json:
    """The columns and what is left in `metadata`, together."""
    document: Json = {} if row["metadata"] is None else json.loads(row["metadata"])
    for name in ("price", "group"):
        if row[name] is not None:
            document[name] = row[name]
    return document


def assert_rows(rows: Rows, model: Model) -> None:
    assert [row["id"] for row in rows] == sorted(model.rows)
    for row in rows:
        expected = model.rows[row["id"]]
        assert row["version"] == expected["version"]
        assert list(row["vector"]) == expected["vector"]
        assert document_of(row) == expected["metadata"]


@pytest.mark.parametrize(("vectors", "compression"), list(itertools.product(VECTORS, COMPRESSIONS)))
def test_every_storage_gives_back_what_was_written(
    start_server: StartServer, vectors: str, compression: str
) -> None:
    server = start_server(config=CONFIG)
    with RestClient(server) as rest:
        model = create(rest, "c", vectors=vectors, compression=compression)
        fill(server, rest, model, segments=2)
        check_all(rest, model)
        assert codecs_in(folder_of(server, rest, "c")) == {CODECS[compression]}
    server.crash()
    with RestClient(server) as rest:
        check_all(rest, model, 1)
    server.restart()
    with RestClient(server) as rest:
        check_all(rest, model, 2)


def test_storage_is_changed_while_there_are_data(start_server: StartServer) -> None:
    server = start_server(config=CONFIG)
    rng = random.Random(3)
    with RestClient(server) as rest:
        model = create(rest, "c", vectors="memory", compression="none")
        for vectors, compression in (("disk", "zstd"), ("mmap", "snappy"), ("memory", "lz4")):
            folder = folder_of(server, rest, "c")
            rest.update_collection("c", storage={"vectors": vectors, "compression": compression})
            version = int(rest.get_collection("c")["version"])
            fill(server, rest, model, segments=2, seed=rng.randrange(1000))
            check_all(rest, model)
            assert codecs_in(folder, version) == {CODECS[compression]}
            server.crash() if vectors == "mmap" else server.restart()
            rest.close()
            rest = RestClient(server)
            assert rest.get_collection("c")["storage"]["compression"] == compression
            check_all(rest, model)
    assert server.stop() == 0
    check_offline(server)


def flush_all(server: Server, rest: RestClient, model: Model, rng: random.Random) -> None:
    """Batches that each make a segment; ids come again, so that there are older versions."""
    for _ in range(4):
        before = metric(server, "flushes_total")
        names = rng.sample(range(250), FLUSH_ROWS)
        model.upsert(rest, [record(rng, f"{name:03}") for name in names])
        wait_for_flush(server, before)


def newest_of_duckdb(folder: Path) -> Rows:
    relation = duckdb.sql(NEWEST.format(files=folder / "*.parquet"))
    assert relation is not None
    rows: Rows = relation.to_arrow_table().to_pylist()
    return rows


def newest_of_pyarrow(folder: Path) -> Rows:
    newest: dict[str, dict[str, Any]] = {}
    for path in folder.glob("*.parquet"):
        for row in pq.read_table(path).to_pylist():
            if row["id"] not in newest or newest[row["id"]]["version"] < row["version"]:
                newest[row["id"]] = row
    return [newest[name] for name in sorted(newest)]


def unless_merged(read: Callable[[], Rows]) -> Rows:
    """A merge may take files away under a reader, which then begins again."""
    for _ in range(50):
        with contextlib.suppress(FileNotFoundError, duckdb.IOException):
            return read()
    return read()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_others_read_the_live_files(start_server: StartServer, compression: str) -> None:
    server = start_server(config=CONFIG)
    rng = random.Random(compression)
    with RestClient(server) as rest:
        model = create(rest, "c", compression=compression)
        flush_all(server, rest, model, rng)
        folder = folder_of(server, rest, "c")
        eventually("flushed", lambda: rest.get_collection("c")["stats"]["memtable_rows"] == 0)
        check_all(rest, model)
        assert_rows(unless_merged(lambda: newest_of_duckdb(folder)), model)
        assert_rows(unless_merged(lambda: newest_of_pyarrow(folder)), model)
        check_all(rest, model)


def test_rows_of_segments_past_their_time_are_counted_until_a_merge(
    start_server: StartServer,
) -> None:
    server = start_server(config=CONFIG)
    with RestClient(server) as rest:
        model = create(rest, "c")
        past = {"expires_at": time.time_ns() // 1000 - 60_000_000}
        rng = random.Random(1)
        rows = [record(rng, str(i)) | (past if i < 5 else {}) for i in range(FLUSH_ROWS)]
        rest.upsert(model.name, rows)
        wait_for_flush(server, 0)
    assert metric(server, "expired_rows") == 0, "they are kept: the clock may be wrong"
    config = CONFIG + "[ttl]\nsweep_ms = 20\ngrace_s = 0\n"
    server.options = dataclasses.replace(server.options, config=config)
    server.restart()
    eventually("counted", lambda: metric(server, "expired_rows") == 5)
