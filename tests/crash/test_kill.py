"""kill -9 at random moments under mixed load: nothing acknowledged is lost, no batch is half there.

CRASH_CYCLES (104) says how many kills there are: half as many here, at random moments, and about as
many at failpoints (test_failpoints.py). CRASH_SEED replays a run. Both are printed.
"""

import os
import random
import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.crash.journal import JournalReader
from tests.crash.load import DOORS, load, make_collections
from tests.crash.settings import CONFIG, check_offline, log_bytes, manifests_written, metrics
from tests.crash.verify import Oracle
from tests.http.wire import eventually
from tests.lib.rest import RestClient
from tests.lib.server import Server, ServerFactory, ServerOptions

CYCLES = int(os.environ.get("CRASH_CYCLES", "104"))
SEED = int(os.environ.get("CRASH_SEED", str(random.SystemRandom().randrange(1 << 32))))
LOAD_S = (0.02, 0.5)
LONG_EVERY = 8  # cycles: before it all of upkeep has happened
# The engine, and the core counts of one start after the other.
RUNS = [
    ("uring", (1,)),
    ("uring", (2,)),
    ("threads", (1,)),
    ("threads", (2,)),
    ("auto", (2, 3, 1, 2, 1)),
]
CYCLES_PER_RUN = -(-CYCLES // (2 * len(RUNS)))
CYCLES_PER_FOLDER = 15
# Of each of three cores wal.max_bytes, the segment that is written and two that wait.
LOG_BYTES_MAX = 3 * (2 + 3) << 20


@dataclass(slots=True)
class Seen:
    """What has happened to the files while the load ran."""

    flushes: float = 0
    merges: float = 0
    forgotten: float = 0  # positions of the logs
    manifests: int = 0

    def look(self, server: Server) -> None:
        families = metrics(server)
        self.flushes += families["proximadb_flushes_total"].value()
        self.merges += families["proximadb_compactions_total"].value()
        self.forgotten += families["proximadb_wal_truncated_lsn"].value()


def upkeep_happens(server: Server) -> bool:
    seen = Seen()
    seen.look(server)
    return min(seen.flushes, seen.merges, seen.forgotten) > 0


def cycles(
    server: Server,
    folder: Path,
    rng: random.Random,
    count: int,
    cores: tuple[int, ...],
    seen: Seen,
) -> Oracle:
    oracle = Oracle([JournalReader(folder / f"journal{index}") for index in range(len(DOORS))])
    with load(folder, str(rng.random())) as writers:
        server.start()
        make_collections(server)
        for cycle in range(count):
            if cycle % LONG_EVERY == 0:
                all_of_it = "flushed, merged and forgotten"
                writers.until(server, all_of_it, lambda: upkeep_happens(server))
                seen.look(server)
                writers.wait()
            writers.run(server)
            # the only moment that is left to chance: it is what the test varies
            threading.Event().wait(rng.uniform(*LOAD_S))
            assert server.running, f"the server died by itself in cycle {cycle}"
            server.kill()
            writers.wait()
            oracle.learn()
            if cycle % 4 == 0:
                check_offline(server)
            server.options = replace(server.options, cores=cores[(cycle + 1) % len(cores)])
            server.start()
            with RestClient(server) as rest:
                oracle.check(rest)
        # without load all rows get old enough for a segment
        eventually("the logs forget", lambda: log_bytes(server) <= LOG_BYTES_MAX)
        assert server.stop() == 0
        check_offline(server)
    seen.manifests += manifests_written(server)
    return oracle


@pytest.mark.timeout(900 + 4 * CYCLES)
@pytest.mark.parametrize(
    ("engine", "cores"), RUNS, ids=["-".join([e, *map(str, c)]) for e, c in RUNS]
)
def test_no_acknowledged_write_is_lost(
    server_factory: ServerFactory, tmp_path: Path, engine: str, cores: tuple[int, ...]
) -> None:
    print(f"CRASH_SEED={SEED} CRASH_CYCLES={CYCLES}")
    rng = random.Random(f"{SEED}/{engine}/{cores}")
    left = CYCLES_PER_RUN
    acknowledged = maybe = part = 0
    seen = Seen()
    while left > 0:
        folder = tmp_path / f"part{part}"
        folder.mkdir()
        encoding = ("binary", "avro")[part % 2]
        options = ServerOptions(
            cores=cores[0], io_engine=engine, config=CONFIG.format(encoding=encoding)
        )
        count = min(left, CYCLES_PER_FOLDER)
        oracle = cycles(server_factory.make(options), folder, rng, count, cores, seen)
        acknowledged += oracle.acknowledged
        maybe += oracle.maybe
        left -= count
        part += 1
    print(f"{acknowledged} acknowledged, {maybe} in doubt, {seen}")
    assert acknowledged > 0
    assert min(seen.flushes, seen.merges, seen.forgotten) > 0, seen
