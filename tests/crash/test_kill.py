"""kill -9 at random moments under mixed load: nothing acknowledged is lost, no batch is half there.

CRASH_CYCLES is the number of kills in all (104), CRASH_SEED replays a run: both are printed.
"""

import contextlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash.doors import COUNTERS
from tests.crash.journal import DIMENSION, JournalReader
from tests.crash.verify import Oracle
from tests.crash.writer import COLLECTIONS
from tests.lib.rest import RestClient
from tests.lib.server import ROOT, Server, ServerFactory, ServerOptions, binary

CYCLES = int(os.environ.get("CRASH_CYCLES", "104"))
SEED = int(os.environ.get("CRASH_SEED", str(random.SystemRandom().randrange(1 << 32))))
DOORS = ("rest", "grpc", "rest", "grpc")
LOAD_S = (0.02, 0.5)
RUNS = [("uring", 1), ("uring", 2), ("threads", 1), ("threads", 2)]
CYCLES_PER_FOLDER = 15  # the log is replayed whole: a new folder keeps starts short

CONFIG = """
[wal]
segment_bytes = "1MiB"
encoding = "{encoding}"
"""


@dataclass(slots=True)
class Load:
    """The writer processes, which outlive the servers they write to."""

    processes: list[subprocess.Popen[str]]

    def run(self, server: Server) -> None:
        for process, door in zip(self.processes, DOORS, strict=True):
            assert process.stdin is not None
            port = server.rest_port if door == "rest" else server.grpc_port
            process.stdin.write(f"run {port}\n")
            process.stdin.flush()

    def wait(self) -> None:
        for process in self.processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("done"), f"writer failed: {process.poll()}"


@contextlib.contextmanager
def load(folder: Path, seed: str) -> Iterator[Load]:
    with contextlib.ExitStack() as stack:
        processes = []
        for index, door in enumerate(DOORS):
            command = [sys.executable, "-m", "tests.crash.writer", seed, str(index), door]
            command += [str(folder / f"journal{index}"), *stub_paths()]
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env=os.environ | {"GRPC_VERBOSITY": "NONE"},
            )
            processes.append(stack.enter_context(process))
            stack.callback(process.kill)
        yield Load(processes)


def stub_paths() -> list[str]:
    return [path for path in sys.path if (Path(path) / "proximadb" / "v1").is_dir()]


def make_collections(server: Server) -> None:
    with RestClient(server) as rest:
        for name in COLLECTIONS:
            rest.create_collection(name, DIMENSION, "euclidean", sync=name)
        rest.create_collection(COUNTERS, DIMENSION, "euclidean")


def check_offline(server: Server) -> None:
    """`proximadb check` on what the kill has left."""
    done = subprocess.run(
        [str(binary()), "check", "--data-dir", str(server.data_dir)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"check: {done.returncode}\n{done.stdout}{done.stderr}"


def cycles(server: Server, folder: Path, rng: random.Random, count: int) -> Oracle:
    oracle = Oracle([JournalReader(folder / f"journal{index}") for index in range(len(DOORS))])
    with load(folder, str(rng.random())) as writers:
        server.start()
        make_collections(server)
        for cycle in range(count):
            writers.run(server)
            # the only moment that is left to chance: it is what the test varies
            threading.Event().wait(rng.uniform(*LOAD_S))
            assert server.running, f"the server died by itself in cycle {cycle}"
            server.kill()
            writers.wait()
            oracle.learn()
            if cycle % 4 == 0:
                check_offline(server)
            server.start()
            with RestClient(server) as rest:
                oracle.check(rest)
        assert server.stop() == 0
        check_offline(server)
    return oracle


@pytest.mark.timeout(60 + CYCLES * 3)
@pytest.mark.parametrize(("engine", "cores"), RUNS, ids=[f"{e}-{c}" for e, c in RUNS])
def test_no_acknowledged_write_is_lost(
    server_factory: ServerFactory, tmp_path: Path, engine: str, cores: int
) -> None:
    print(f"CRASH_SEED={SEED} CRASH_CYCLES={CYCLES}")
    rng = random.Random(f"{SEED}/{engine}/{cores}")
    left = -(-CYCLES // len(RUNS))
    acknowledged = maybe = part = 0
    while left > 0:
        folder = tmp_path / f"part{part}"
        folder.mkdir()
        encoding = ("binary", "avro")[part % 2]
        options = ServerOptions(
            cores=cores, io_engine=engine, config=CONFIG.format(encoding=encoding)
        )
        count = min(left, CYCLES_PER_FOLDER)
        oracle = cycles(server_factory.make(options), folder, rng, count)
        acknowledged += oracle.acknowledged
        maybe += oracle.maybe
        left -= count
        part += 1
    print(f"{acknowledged} acknowledged, {maybe} in doubt")
    assert acknowledged > 0
