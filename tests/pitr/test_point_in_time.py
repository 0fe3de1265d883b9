"""A server under load is stopped, killed, started on other core counts, and archived meanwhile;
then it is brought back to random points: every row, version, deletion, collection and setting must
be what the clients and the logs say of that moment, neither more nor less.

PITR_POINTS (20) says how many points there are, PITR_SEED replays a run; both are printed.
"""

import os
import random
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.http.wire import eventually
from tests.lib.rest import RestClient
from tests.lib.server import Server, ServerFactory, ServerOptions
from tests.pitr.history import Collection, History, Span, now_us
from tests.pitr.load import DIMENSION, SHARED, Client, Door, Writer
from tests.pitr.restored import (
    RefusedError,
    bases,
    brought_back,
    check,
    covered,
    may_lack_a_base,
)
from tests.pitr.stored import CLOSE, Moment, Record, records, versions_at

POINTS = int(os.environ.get("PITR_POINTS", "20"))
SEED = int(os.environ.get("PITR_SEED", str(random.SystemRandom().randrange(1 << 32))))
WRITERS = 4
REFUSED = 2  # points that cannot be brought back, as told; then others are looked for
KINDS = ("time", "lsn", "version")
STEPS = 60  # of all writers together, in each phase
CONFIG = """
[storage]
flush_rows = 300
flush_age_s = 2
segments_max = 2

[wal]
segment_bytes = "1MiB"
max_bytes = "4MiB"

[archive]
url = "{url}"
interval_s = 1
base_interval_s = 6
keep = 100
"""


@dataclass(slots=True)
class Life:
    """A server with its clients."""

    server: Server
    door: Door
    history: History
    writers: list[Writer]
    threads: list[threading.Thread] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    def run(self, writer: Writer) -> None:
        try:
            writer.run()
        except BaseException as failure:
            self.failures.append(failure)
            raise

    def work(self, steps: int = STEPS) -> None:
        """Until the writers have done some more."""
        goal = sum(writer.steps for writer in self.writers) + steps

        def done() -> bool:
            assert not self.failures, self.failures
            return sum(writer.steps for writer in self.writers) >= goal

        eventually("the writers go on", done)

    def copy_one(self, writer: Writer) -> None:
        """Until one of its collections has come again out of a snapshot."""
        writer.copy_due = True

        def done() -> bool:
            assert not self.failures, self.failures
            return not writer.copy_due

        eventually("the copy", done)

    def start(self, cores: int | None = None) -> None:
        if cores is not None:
            self.server.options = replace(self.server.options, cores=cores)
        self.server.start()
        self.door.open(self.server.rest_port)

    def finish(self) -> None:
        """The clients end, each with its last answer."""
        self.door.end()
        for thread in self.threads:
            thread.join()

    def stop(self, *, kill: bool) -> None:
        self.door.close()
        if kill:
            self.server.kill()
        else:
            assert self.server.stop() == 0


@contextmanager
def life(server: Server, rng: random.Random) -> Iterator[Life]:
    history, door, lock = History(), Door(), threading.Lock()
    server.start()
    begun = now_us()
    with RestClient(server) as rest:
        uuid = rest.create_collection(SHARED, DIMENSION, "euclidean")["uuid"]
    shared = history.begin(Collection(SHARED, uuid, Span(begun, now_us())))
    writers = [
        Writer(i, random.Random(rng.random()), Client(door), history, lock, shared)
        for i in range(WRITERS)
    ]
    mine = Life(server, door, history, writers)
    mine.threads = [threading.Thread(target=mine.run, args=(writer,)) for writer in writers]
    for thread in mine.threads:
        thread.start()
    door.open(server.rest_port)
    try:
        yield mine
    finally:
        mine.finish()


def wait_covered(url: Path) -> list[tuple[int, int]]:
    """Until all that has happened can be brought back."""
    now = now_us()
    eventually("the archive has all of it", lambda: any(to >= now for _, to in covered(url)))
    return covered(url)


def wait_for_base(url: Path, history: History) -> None:
    """Until what came out of a snapshot is in a base: no log has it."""
    born = [c.created.ended_us for c in history.collections.values() if c.born_version != 0]
    eventually("a base behind it", lambda: all(any(b > us for b in bases(url)) for us in born))


def between(rng: random.Random, ranges: list[tuple[int, int]]) -> int:
    first, last = rng.choice(ranges)
    return rng.randint(first, last)


def is_covered(record: Record, ranges: list[tuple[int, int]]) -> bool:
    return any(first <= record.time_us <= last for first, last in ranges)


def pick(
    rng: random.Random,
    kind: str,
    ranges: list[tuple[int, int]],
    logs: dict[str, list[Record]],
    history: History,
) -> tuple[list[str], Moment]:
    """The arguments of a restore to a random point, and where it must end."""
    if kind == "time":
        at = between(rng, ranges)
        return ["--to-time", str(at)], Moment(at)
    every = [r for log in logs.values() for r in log if is_covered(r, ranges)]
    if kind == "lsn":
        record = rng.choice(every)
        return ["--to-lsn", f"{record.log}:{record.lsn}"], Moment(
            record.time_us, record.log, record.lsn
        )
    record = rng.choice(
        [r for r in every if r.kind != CLOSE and r.collection in history.collections]
    )
    name = record.collection
    collection = history.collections[record.collection]
    newest = [c for c in history.collections.values() if c.name == collection.name]
    if max(newest, key=lambda c: c.created.begun_us) is collection:
        name = collection.name
    target = ["--to-version", f"{name}:{record.version}"]
    return target, Moment(record.time_us, record.log, record.lsn)


@pytest.mark.parametrize("cores", [1, 2])
def test_every_point_comes_back_as_it_was(
    server_factory: ServerFactory, tmp_path: Path, cores: int
) -> None:
    print(f"PITR_SEED={SEED} PITR_POINTS={POINTS}")
    rng = random.Random(SEED + cores)
    store = tmp_path / "store"
    store.mkdir()
    options = ServerOptions(config=CONFIG.format(url=store), cores=cores)
    with life(server_factory.make(options), rng) as mine:
        for phase in range(6):
            mine.work()
            if phase == 0:
                wait_covered(store)
            if phase == 4:
                wait_for_base(store, mine.history)
            mine.stop(kill=phase % 2 == 1)
            mine.start(cores=[None, None, 3 - cores, 3, None, cores][phase])
            if phase == 2:
                mine.copy_one(mine.writers[0])
        mine.work()
        mine.finish()
        ranges = wait_covered(store)
        mine.stop(kill=True)
    assert not mine.failures
    logs, ended = records(store), bases(store)
    point = refused = 0
    while point < POINTS:
        target, moment = pick(rng, KINDS[point % 3], ranges, logs, mine.history)
        lacking = may_lack_a_base(mine.history, ended, moment.time_us)
        if lacking and refused == REFUSED:
            continue
        print(f"point {point}: {target}")
        try:
            restored = brought_back(server_factory, store, target, 1 + point % 3)
        except RefusedError as error:
            if not lacking or "restored from a snapshot" not in str(error):
                raise
            refused += 1
            continue
        assert restored.time_us == moment.time_us
        check(restored, mine.history, versions_at(logs, moment))
        assert restored.server.stop() == 0
        shutil.rmtree(restored.server.folder)
        point += 1
