"""Kills at named places: before and after every step that a promise rests on."""

import contextlib
import dataclasses
import http.client
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.journal import JournalReader
from tests.crash.test_kill import CONFIG, DOORS, SEED, check_offline, load, make_collections
from tests.crash.verify import Oracle
from tests.lib.rest import RestClient, RestError
from tests.lib.server import Server, ServerFactory, ServerOptions

WRITE_POINTS = ("wal.append", "wal.acknowledged", "write.answer")
CATALOG_POINTS = tuple(
    f"catalog.{step}" for step in ("written", "synced", "current", "renamed", "durable")
)
VISITS_MAX = 60
OPTIONS = ServerOptions(cores=2, config=CONFIG.format(encoding="binary"))


def arm(server: Server, spec: str | None) -> None:
    """The next start acts on this failpoint; None: on none."""
    env = {} if spec is None else {"PROXIMADB_FAILPOINT": spec}
    server.options = dataclasses.replace(server.options, env=env)


@pytest.fixture(scope="module", autouse=True)
def _built_with_failpoints(session_servers: ServerFactory) -> None:
    server = session_servers.make(OPTIONS)
    arm(server, "wal.append:kill:1")
    server.start()
    with RestClient(server) as rest:
        rest.create_collection("c", 1)
        with contextlib.suppress(OSError, http.client.HTTPException):
            rest.upsert("c", [{"id": "a", "vector": [1]}])
            pytest.skip("the server was built without -Dfailpoints=true")
    assert server.wait() == -signal.SIGKILL


@pytest.mark.parametrize("point", WRITE_POINTS)
def test_a_kill_at_a_step_of_a_write_loses_nothing(
    server_factory: ServerFactory, tmp_path: Path, point: str
) -> None:
    print(f"CRASH_SEED={SEED}")
    rng = random.Random(f"{SEED}/{point}")
    server = server_factory.make(OPTIONS)
    oracle = Oracle([JournalReader(tmp_path / f"journal{i}") for i in range(len(DOORS))])
    server.start()
    make_collections(server)
    assert server.stop() == 0
    with load(tmp_path, str(rng.random())) as writers:
        for visit in (1, 2, *(rng.randrange(3, VISITS_MAX) for _ in range(2))):
            arm(server, f"{point}:kill:{visit}")
            server.start()
            writers.run(server)
            assert server.wait() == -signal.SIGKILL
            writers.wait()
            oracle.learn()
            check_offline(server)
            arm(server, None)
            server.start()
            with RestClient(server) as rest:
                oracle.check(rest)
            assert server.stop() == 0


@dataclasses.dataclass(slots=True)
class Names:
    """Which collections must be there, and the one that may be."""

    there: dict[str, str] = dataclasses.field(default_factory=dict)  # name: description
    doubtful: tuple[str, str | None] | None = None  # name, and what it would be: None: dropped

    @contextlib.contextmanager
    def trying(self, name: str, outcome: str | None) -> Iterator[None]:
        self.doubtful = (name, outcome)
        yield
        self.doubtful = None
        if outcome is None:
            self.there.pop(name, None)
        else:
            self.there[name] = outcome

    def check(self, rest: RestClient) -> None:
        got = {c["name"]: c["description"] for c in rest.list_collections()["collections"]}
        possible = [self.there]
        if self.doubtful is not None:
            name, outcome = self.doubtful
            after = dict(self.there)
            after.pop(name, None)
            possible.append(after if outcome is None else after | {name: outcome})
        assert got in possible, f"{got}, expected one of {possible}"
        self.there, self.doubtful = got, None


def change_until_it_dies(server: Server, names: Names, round_: int) -> None:
    with RestClient(server) as rest:
        for i in range(VISITS_MAX):
            name = f"c{round_}-{i}"
            with names.trying(name, "new"):
                rest.create_collection(name, 2, description="new")
            with names.trying(name, "changed"):
                rest.update_collection(name, description="changed")
            if len(names.there) > 4:
                oldest = next(iter(names.there))
                with names.trying(oldest, None):
                    rest.delete_collection(oldest)


@pytest.mark.parametrize("point", CATALOG_POINTS)
def test_a_kill_at_a_step_of_the_catalog_leaves_it_whole(
    server_factory: ServerFactory, point: str
) -> None:
    server = server_factory.make(OPTIONS)
    names = Names()
    for round_, visit in enumerate((1, 2, 7)):
        arm(server, f"{point}:kill:{visit}")
        # a new data directory writes its first catalog at the start: that may be the visit
        with contextlib.suppress(AssertionError, OSError, http.client.HTTPException):
            server.start()
            change_until_it_dies(server, names, round_)
        assert server.wait() == -signal.SIGKILL
        arm(server, None)
        server.start()
        with RestClient(server) as rest:
            names.check(rest)
            for name in names.there:
                rest.upsert(name, [{"id": "a", "vector": [1, 1]}])
                assert rest.count(name) == 1
        assert server.stop() == 0
        check_offline(server)


def test_a_catalog_that_cannot_be_written_refuses_changes_only(
    server_factory: ServerFactory,
) -> None:
    server = server_factory.make(OPTIONS).start()
    with RestClient(server) as rest:
        rest.create_collection("old", 2, "dot")
        rest.upsert("old", [{"id": "a", "vector": [1, 2]}])
    assert server.stop() == 0
    arm(server, "catalog.step:error:1")
    server.start()
    with RestClient(server) as rest:
        with pytest.raises(RestError) as failure:
            rest.create_collection("new", 2)
        assert failure.value.response.status >= 500
        assert rest.get_one("old", "a")["vector"] == [1, 2]
        assert rest.search("old", vector=[1, 1])["results"][0]["id"] == "a"
    arm(server, None)
    server.crash()
    with RestClient(server) as rest:
        there = {c["name"] for c in rest.list_collections()["collections"]}
        assert there in ({"old"}, {"old", "new"})
        if "new" not in there:
            rest.create_collection("new", 2)
        assert rest.count("old") == 1
