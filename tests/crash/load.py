"""The writer processes of a crash test, and when they write.

A load without end is for tests that say themselves when it is over. Where a test waits for upkeep
it comes in bursts, and the next one once the server has caught up: how many flushes and merges a
burst means is then the same on every machine, and none waits behind minutes of writes.
"""

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.doors import COUNTERS
from tests.crash.journal import DIMENSION
from tests.crash.settings import FLUSH_ROWS, SEGMENTS_MAX
from tests.crash.writer import COLLECTIONS
from tests.http.wire import eventually
from tests.lib.rest import RestClient
from tests.lib.server import LIMIT_S, ROOT, Server

DOORS = ("rest", "grpc", "rest", "grpc")
BURST_STEPS = 25  # of each writer: a megabyte of each log, a few segments of each collection
LOOK_S = 0.1  # between two looks: a server has more to do than to be looked at


@dataclass(slots=True)
class Load:
    """The writer processes, which outlive the servers they write to."""

    processes: list[subprocess.Popen[str]]
    working: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, server: Server, steps: int | None = None) -> None:
        """So many steps of each writer; None: until the server is gone, as it may be before."""
        assert not self.working
        for process, door in zip(self.processes, DOORS, strict=True):
            assert process.stdin is not None
            port = server.rest_port if door == "rest" else server.grpc_port
            process.stdin.write(f"run {port}\n" if steps is None else f"run {port} {steps}\n")
            process.stdin.flush()
        self.working = list(self.processes)

    def at_work(self, wait_s: float | None = None) -> bool:
        """Looks for one that is done, for so long at most; False: all of them are."""
        pipes = {p.stdout: p for p in self.working if p.stdout is not None}
        ready, _, _ = select.select(list(pipes), [], [], wait_s) if pipes else ([], [], [])
        for pipe in ready:
            line = pipe.readline()  # all that it has to say
            assert line.startswith("done"), f"writer failed: {pipes[pipe].poll()}"
            self.working.remove(pipes[pipe])
        return bool(self.working)

    def wait(self) -> None:
        while self.at_work():
            pass

    def until(
        self, server: Server, what: str, condition: Callable[[], bool], limit_s: float = LIMIT_S
    ) -> None:
        """Bursts, until the condition holds; one may then be under way."""

        def holds() -> bool:
            if not self.at_work(LOOK_S) and caught_up(server):
                self.run(server, BURST_STEPS)
            return condition()

        eventually(what, holds, limit_s)


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


def caught_up(server: Server) -> bool:
    """No collection has rows enough for a flush, or segments enough for a merge under load."""
    with RestClient(server) as rest:
        stats = [one["stats"] for one in rest.list_collections()["collections"]]
    return all(
        one["memtable_rows"] < FLUSH_ROWS and one["segment_count"] <= SEGMENTS_MAX + 1
        for one in stats
    )
