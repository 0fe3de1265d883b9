"""A disk that is slow at every step: what waits is bounded, searches go on, nothing is lost."""

import dataclasses
import random
import re
from pathlib import Path

import pytest

from tests.crash.journal import DIMENSION, JournalReader
from tests.crash.load import DOORS, load, make_collections
from tests.crash.settings import CONFIG, check_offline, metrics
from tests.crash.test_kill import SEED
from tests.crash.verify import Oracle
from tests.http.wire import eventually
from tests.lib.rest import RestClient
from tests.lib.server import Server, ServerFactory, ServerOptions

STILL = "temporary-still"  # a collection of the test's own, which nobody writes to
SEARCHES = 50
QUEUE_BYTES_MAX = 64 << 20
ANONYMOUS_MIB_MAX = 512


def anonymous_mib(server: Server) -> float:
    status = Path(f"/proc/{server.pid}/status").read_text()
    match = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    assert match is not None
    return int(match.group(1)) / 1024


@pytest.mark.parametrize("point", ["wal.append", "flush.step", "compact.step", "manifest.step"])
def test_a_slow_disk_holds_up_writes_and_no_search(
    server_factory: ServerFactory, tmp_path: Path, point: str
) -> None:
    print(f"CRASH_SEED={SEED}")
    options = ServerOptions(cores=2, config=CONFIG.format(encoding="binary"))
    server = server_factory.make(options).start()
    oracle = Oracle([JournalReader(tmp_path / f"journal{i}") for i in range(len(DOORS))])
    make_collections(server)
    with RestClient(server) as rest:
        rest.create_collection(STILL, DIMENSION, "euclidean")
        rest.upsert(STILL, [{"id": f"{i}", "vector": [i, 0, 0, 0]} for i in range(100)])
    assert server.stop() == 0
    env = {"PROXIMADB_FAILPOINT": f"{point}:sleep:1"}
    server.options = dataclasses.replace(options, env=env)
    server.start()
    with load(tmp_path, str(random.Random(f"{SEED}/{point}").random())) as writers:
        writers.run(server)
        with RestClient(server) as rest:
            for number in range(SEARCHES):
                hits = rest.search(STILL, vector=[number, 0, 0, 0], k=1)["results"]
                assert hits[0]["id"] == f"{number}"
                families = metrics(server)
                assert families["proximadb_wal_queue_bytes"].value() <= QUEUE_BYTES_MAX
                assert anonymous_mib(server) <= ANONYMOUS_MIB_MAX
        flushes = "proximadb_flushes_total"
        eventually("flushed", lambda: metrics(server)[flushes].value() > 1)
        server.kill()
        writers.wait()
        oracle.learn()
        check_offline(server)
        server.options = options
        server.start()
        with RestClient(server) as rest:
            rest.delete_collection(STILL)
            oracle.check(rest)
    assert server.stop() == 0
