"""A disk that becomes full while segments are written.

Besides the log there is room for 10 MiB, and for once more as much when the ballast is gone: all
segments can be merged then.
"""

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.settings import check_offline
from tests.crash.test_disk_full import small_disk
from tests.http.wire import eventually
from tests.lib.rest import Json, Response, RestClient
from tests.lib.server import Server, ServerFactory, ServerOptions
from tests.segments.made import Model, check_all, create, metric, record

CONFIG = """
[storage]
flush_rows = 400
flush_age_s = 1
segments_max = 2

[wal]
segment_bytes = "1MiB"
max_bytes = "2MiB"
"""
DIMENSION = 64
BATCH = 100


def put(rest: RestClient, model: Model, records: list[Json]) -> Response:
    """An upsert that may be refused; the model takes what was acknowledged."""
    path = f"/v1/collections/{model.name}/vectors"
    answer = rest.request("PUT", path, {"vectors": records})
    if answer.status == 200:
        version = answer.json()["versions"][0]
        for one in records:
            model.rows[one["id"]] = one | {"version": version}
    return answer


def wait_flushed(server: Server, before: float) -> None:
    eventually("flushed", lambda: metric(server, "flushes_total") > before)


@pytest.mark.parametrize("engine", ["uring", "threads"])
def test_a_disk_that_is_full_of_segments_refuses_writes_and_nothing_else(
    server_factory: ServerFactory, tmp_path: Path, engine: str
) -> None:
    rng = random.Random(engine)
    with small_disk(tmp_path / "disk", "28m") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(14 << 20))
        server = server_factory.make(ServerOptions(config=CONFIG, io_engine=engine))
        server.data_dir = disk / "data"
        server.start()
        number = 0

        def batch() -> list[Json]:
            nonlocal number
            number += 1
            rows = [record(rng, f"{number:04}/{i:03}", DIMENSION) for i in range(BATCH)]
            for row in rows:
                row["metadata"]["more"] = {"text": "z" * 500}
            return rows

        with RestClient(server) as rest:
            model = create(rest, "c", DIMENSION)
            for _ in range(3):  # segments there are, and slow flushes do not fill the disk
                flushed = metric(server, "flushes_total")
                assert put(rest, model, batch()).status == 200
                wait_flushed(server, flushed)
            answer = put(rest, model, batch())
            while answer.status == 200:
                assert number < 2000, "the disk never became full"
                answer = put(rest, model, batch())
            assert (answer.status, answer.error_code) == (507, "RESOURCE_EXHAUSTED"), answer.body
            # Flushes go on and give room back, or fail: until neither brings a write through.
            fill_up(server, rest, model, batch)
            check_all(rest, model)
            gone = sorted(model.rows)[:50]
            model.delete(rest, gone)
            check_all(rest, model)
            assert server.running
            flushed = metric(server, "flushes_total")
            ballast.unlink()
            began = time.monotonic()
            eventually("resumed", lambda: put(rest, model, batch()).status == 200)
            print(f"writes resume after {time.monotonic() - began:.1f} s")  # wanted: 10 s
            wait_flushed(server, flushed)
            check_all(rest, model)
        server.crash()
        with RestClient(server) as rest:
            check_all(rest, model)
            assert rest.get("c", gone)["missing"] == gone
        assert server.stop() == 0
        check_offline(server)


def fill_up(
    server: Server, rest: RestClient, model: Model, batch: Callable[[], list[Json]]
) -> None:
    """Writes until fifteen in a row are refused and a flush or merge has failed."""
    pause = threading.Event()
    refused = 0
    while refused < 15 or metric(server, "flush_errors_total") == 0:
        refused = 0 if put(rest, model, batch()).status == 200 else refused + 1
        pause.wait(0.2 if refused else 0)
