"""A server under load that dies at a failpoint, and what must be there when it starts again.

Beside the writers, whose journals the oracle knows, a guest may do what they do not: it works until
the server is gone, and looks afterwards.
"""

import contextlib
import dataclasses
import http.client
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from tests.crash.journal import JournalReader
from tests.crash.load import (
    BURST_STEPS,
    DOORS,
    LOOK_S,
    Load,
    caught_up,
    load,
    make_collections,
)
from tests.crash.settings import CONFIG, check_offline
from tests.crash.test_kill import CYCLES, SEED
from tests.crash.verify import Oracle
from tests.http.wire import eventually
from tests.lib.failpoints import arm
from tests.lib.rest import Json, RestClient
from tests.lib.server import Server, ServerFactory, ServerOptions

OPTIONS = ServerOptions(cores=2, config=CONFIG.format(encoding="binary"))
VISIT_COUNT = max(2, CYCLES // 50)  # of each point: 20 in a long run
WORK_PER_BURST = 4  # of a guest
DEATH_LIMIT_S = 720.0  # a dozen merges, or a snapshot under load, on a slow machine
SEED_TOLD = f"CRASH_SEED={SEED}"


class Guest(Protocol):
    def prepare(self, rest: RestClient) -> None:
        """Once, before anything is to go wrong."""

    def work(self, rest: RestClient) -> None: ...

    def check(self, rest: RestClient) -> None:
        """After the restart; what the oracle does not know must not be there behind it."""


@dataclasses.dataclass(slots=True)
class Nobody:
    """Who has nothing to do."""

    def prepare(self, rest: RestClient) -> None:
        pass

    def work(self, rest: RestClient) -> None:
        pass

    def check(self, rest: RestClient) -> None:
        pass


@dataclasses.dataclass(slots=True)
class World:
    server: Server
    oracle: Oracle
    writers: Load
    rng: random.Random
    guest: Guest

    def visits(self, most: int) -> list[int]:
        """The first, and some of those behind it."""
        return [1, *(self.rng.randrange(2, most) for _ in range(VISIT_COUNT - 1))]

    def start(self, spec: str | None) -> bool:
        """False when it has died while it started."""
        arm(self.server, spec)
        if spec is None:
            self.server.start()
            return True
        return self.server.start_to_be_killed()

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Load until the condition holds."""
        self.writers.until(self.server, what, condition, DEATH_LIMIT_S)

    def die(self, spec: str) -> None:
        """Load until the failpoint kills it."""
        end = time.monotonic() + DEATH_LIMIT_S
        alive = self.start(spec)
        while alive and time.monotonic() < end:
            self.writers.run(self.server, BURST_STEPS)
            self.let_guest_work()
            self.writers.wait()
            alive = self.catches_up()
        assert self.server.wait() == -signal.SIGKILL, spec

    def let_guest_work(self) -> None:
        try:
            with RestClient(self.server, DEATH_LIMIT_S) as rest:
                for _ in range(WORK_PER_BURST):
                    self.guest.work(rest)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException):
            pass  # it is gone

    def catches_up(self) -> bool:
        """False: it has died meanwhile."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            eventually("caught up", lambda: caught_up(self.server), DEATH_LIMIT_S, LOOK_S)
            return True
        return False

    def die_in_start(self, spec: str) -> bool:
        """False when it does not come by there, and is killed so."""
        arm(self.server, spec)
        if not self.server.start_to_be_killed():
            return True
        self.server.kill()
        return False

    def kill(self) -> None:
        self.server.kill()
        self.writers.wait()

    def compare(self) -> None:
        self.oracle.learn()
        check_offline(self.server)
        arm(self.server, None)
        self.server.start()
        with RestClient(self.server) as rest:
            self.guest.check(rest)
            self.oracle.check(rest)
        assert self.server.stop() == 0
        check_offline(self.server)

    def cores(self, count: int) -> None:
        if count != self.server.options.cores:
            self.oracle.cores = {}  # which collections will share a log is not known
        self.server.options = dataclasses.replace(self.server.options, cores=count)


@contextlib.contextmanager
def world(
    factory: ServerFactory, folder: Path, name: str, guest: Guest | None = None
) -> Iterator[World]:
    """A data directory with the collections that the writers expect; `name` makes its chance."""
    print(SEED_TOLD)
    rng = random.Random(f"{SEED}/{name}")
    guest = guest if guest is not None else Nobody()
    server = factory.make(OPTIONS)
    arm(server, None)
    server.start()
    make_collections(server)
    with RestClient(server) as rest:
        guest.prepare(rest)
    assert server.stop() == 0
    oracle = Oracle([JournalReader(folder / f"journal{i}") for i in range(len(DOORS))])
    with load(folder, str(rng.random())) as writers:
        yield World(server, oracle, writers, rng, guest)


# ---- guests ----


@dataclasses.dataclass(slots=True)
class Named:
    """What must be there by its name, and the one that may be."""

    there: set[str] = dataclasses.field(default_factory=set)
    doubtful: str | None = None
    number: int = 0

    def add(self, do: Callable[[str], object]) -> None:
        self.number += 1
        self.doubtful = f"guest-{self.number}"
        do(self.doubtful)
        self.there.add(self.doubtful)
        self.doubtful = None

    def remove(self, do: Callable[[str], object]) -> None:
        """The oldest but two."""
        if len(self.there) < 3:
            return
        self.doubtful = min(self.there, key=lambda name: int(name.split("-")[1]))
        self.there.discard(self.doubtful)
        do(self.doubtful)
        self.doubtful = None

    def found(self, names: set[str]) -> None:
        assert self.there <= names, f"lost: {self.there - names}"
        assert names <= self.there | {self.doubtful}, f"must not be there: {names - self.there}"
        self.there, self.doubtful = names, None


def snapshots(rest: RestClient) -> set[str]:
    listed = rest.call("GET", "/v1/snapshots")["snapshots"]
    for one in listed:
        assert rest.call("GET", f"/v1/snapshots/{one['name']}") == one
    return {one["name"] for one in listed}


@dataclasses.dataclass(slots=True)
class Snapshots:
    """Takes snapshots of everything and deletes them."""

    named: Named = dataclasses.field(default_factory=Named)

    def prepare(self, rest: RestClient) -> None:
        pass

    def work(self, rest: RestClient) -> None:
        self.named.add(lambda name: rest.call("POST", "/v1/snapshots", {"name": name}))
        self.named.remove(lambda name: rest.call("DELETE", f"/v1/snapshots/{name}"))

    def check(self, rest: RestClient) -> None:
        self.named.found(snapshots(rest))


BASE = "base"
ROWS: list[Json] = [
    {"id": f"{i:03}", "vector": [float(i), 1.0], "metadata": {"n": i}} for i in range(100)
]


def make_base(rest: RestClient) -> None:
    """A snapshot of a collection that is gone."""
    rest.create_collection(BASE, 2, "euclidean")
    rest.upsert(BASE, ROWS)
    rest.call("POST", "/v1/snapshots", {"name": BASE, "collection": BASE})
    rest.delete_collection(BASE)


def restore(rest: RestClient, snapshot: str, target: str, *, replace: bool = False) -> None:
    body = {"target": target, "replace": replace}
    rest.call("POST", f"/v1/snapshots/{snapshot}/restore", body)


def check_base(rest: RestClient, name: str) -> None:
    records = rest.scroll(name, limit=1000, include=["metadata", "vectors"])["records"]
    assert [{key: one[key] for key in ROWS[0]} for one in records] == ROWS, name
    assert rest.count(name) == len(ROWS)
    hits = rest.search(name, vector=[42.0, 1.0], k=3)["results"]
    assert [hit["id"] for hit in hits] == ["042", "041", "043"], name


@dataclasses.dataclass(slots=True)
class Restores:
    """Restores a snapshot under new names and in place of what is there, and drops it."""

    named: Named = dataclasses.field(default_factory=Named)

    def prepare(self, rest: RestClient) -> None:
        make_base(rest)

    def work(self, rest: RestClient) -> None:
        self.named.add(lambda name: restore(rest, BASE, name))
        restore(rest, BASE, max(self.named.there), replace=True)  # the same rows: no doubt
        self.named.remove(rest.delete_collection)

    def check(self, rest: RestClient) -> None:
        names = {one["name"] for one in rest.list_collections()["collections"]}
        self.named.found({name for name in names if name.startswith("guest-")})
        for name in self.named.there:
            check_base(rest, name)
            rest.upsert(name, [{"id": "new", "vector": [0, 0]}])
            assert rest.count(name) == len(ROWS) + 1
            rest.delete_collection(name)
        self.named.there = set()
        assert snapshots(rest) == {BASE}


@dataclasses.dataclass(slots=True)
class Uploads:
    """Uploads an archive under new names, and deletes it."""

    named: Named = dataclasses.field(default_factory=Named)
    archive: bytes = b""

    def prepare(self, rest: RestClient) -> None:
        make_base(rest)
        self.archive = rest.request("GET", f"/v1/snapshots/{BASE}/archive").body

    def upload(self, rest: RestClient, name: str) -> None:
        typed = {"content-type": "application/x-tar"}
        answer = rest.request("PUT", f"/v1/snapshots/{name}/archive", self.archive, typed)
        assert answer.status == 201, answer.body

    def work(self, rest: RestClient) -> None:
        self.named.add(lambda name: self.upload(rest, name))
        self.named.remove(lambda name: rest.call("DELETE", f"/v1/snapshots/{name}"))

    def check(self, rest: RestClient) -> None:
        self.named.found(snapshots(rest) - {BASE})
        for name in self.named.there:
            restore(rest, name, name)
            check_base(rest, name)
            rest.delete_collection(name)
