"""Kills and errors at named places: before and after every step that a promise rests on.

Every failpoint of the source is in one of the lists here; the first test says which is not.
"""

import contextlib
import dataclasses
import http.client
import random
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.failpoints import names_in_source
from tests.crash.journal import JournalReader
from tests.crash.settings import CONFIG, check_offline, folder_of, metrics, newest_manifest
from tests.crash.test_kill import CYCLES, DOORS, SEED, Load, load, make_collections
from tests.crash.verify import Oracle
from tests.http.wire import eventually
from tests.lib.rest import RestClient, RestError
from tests.lib.server import Server, ServerFactory, ServerFailed, ServerOptions

WRITE_POINTS = ("wal.append", "wal.acknowledged", "write.answer")
CATALOG_POINTS = tuple(
    f"catalog.{step}" for step in ("written", "synced", "current", "renamed", "durable")
)
UPKEEP_POINTS = (
    "seal",
    "flush.begin",
    *(f"flush.{step}" for step in ("opened", "written", "synced", "renamed", "durable")),
    *(f"flush.index_{step}" for step in ("opened", "written", "renamed")),
    *(f"compact.{step}" for step in ("opened", "written", "synced", "renamed", "durable")),
    *(f"compact.index_{step}" for step in ("opened", "written", "renamed")),
    *(f"manifest.{s}" for s in ("opened", "written", "synced", "renamed", "durable", "removed")),
    "publish.save",
    "publish.saved",
    "log.release",
    "remove.file",
)
# What happens once or twice to a collection: the first visits of a new data directory.
FOLDER_POINTS = ("folder.made", "folder.durable")
SNAPSHOT_POINTS = (
    *(f"snapshot.{s}" for s in ("folder", "pin", "taken", "manifest", "link", "link_index")),
    *(f"snapshot.{s}" for s in ("list_opened", "list_synced", "list", "durable", "rename")),
    *(f"snapshot.{s}" for s in ("removed", "gone")),
)
SNAPSHOT_ERROR = "snapshot.list_step"
# Behind operations that the server's doors do not have: tests/unit/engine tries what is there.
UNTRIED = {
    *(f"restore.{s}" for s in ("verified", "mark", "folder", "link", "manifest", "durable")),
    *(f"restore.{s}" for s in ("staged", "catalog")),
    *(f"upload.{s}" for s in ("file", "synced")),
}
RECOVERY_POINT = "recovery.progress"
UPKEEP_ERRORS = ("flush.step", "flush.index_step", "compact.step", "compact.index_step")
MANIFEST_ERROR = "manifest.step"
CATALOG_ERROR = "catalog.step"

VISITS_MAX = 60
# Of the steps of the first saves some belong to first manifests, without which no flush begins:
# how many come before the first real one depends on the machine.
SAVES = 100
NOT_SAVED = re.compile(
    r"collection ([0-9a-f-]+): (?:the manifest cannot be saved|a flush has failed).*MANIFEST-(\d+)"
)
VISIT_COUNT = max(2, CYCLES // 50)  # of each of the upkeep's points: 20 in a long run
OPTIONS = ServerOptions(cores=2, config=CONFIG.format(encoding="binary"))


def test_every_failpoint_of_the_source_is_tried_here() -> None:
    tried = {*WRITE_POINTS, *CATALOG_POINTS, *UPKEEP_POINTS, *FOLDER_POINTS, *UPKEEP_ERRORS}
    tried |= {*SNAPSHOT_POINTS, RECOVERY_POINT, MANIFEST_ERROR, CATALOG_ERROR, SNAPSHOT_ERROR}
    assert tried >= names_in_source() - UNTRIED
    assert tried <= names_in_source()


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
    oracle = prepare(server, tmp_path)
    with load(tmp_path, str(rng.random())) as writers:
        for visit in (1, 2, *(rng.randrange(3, VISITS_MAX) for _ in range(2))):
            die_and_compare(server, writers, oracle, f"{point}:kill:{visit}")


def prepare(server: Server, folder: Path) -> Oracle:
    """A data directory with the collections that the writers expect."""
    arm(server, None)
    server.start()
    make_collections(server)
    assert server.stop() == 0
    return Oracle([JournalReader(folder / f"journal{i}") for i in range(len(DOORS))])


def die_and_compare(server: Server, writers: Load, oracle: Oracle, spec: str) -> None:
    """Load until the failpoint kills the server; then a start without it."""
    arm(server, spec)
    try:
        server.start()
    except ServerFailed:  # a start comes by the place, with what the kill before left to do
        pass
    else:
        writers.run(server)
    assert server.wait() == -signal.SIGKILL, spec
    if server.ports:
        writers.wait()
    compare(server, oracle)


def compare(server: Server, oracle: Oracle) -> None:
    oracle.learn()
    check_offline(server)
    arm(server, None)
    server.start()
    with RestClient(server) as rest:
        oracle.check(rest)
    assert server.stop() == 0
    check_offline(server)


@pytest.mark.timeout(900 + 2 * CYCLES)
@pytest.mark.parametrize("point", UPKEEP_POINTS)
def test_a_kill_at_a_step_of_upkeep_loses_nothing(
    server_factory: ServerFactory, tmp_path: Path, point: str
) -> None:
    print(f"CRASH_SEED={SEED}")
    rng = random.Random(f"{SEED}/{point}")
    server = server_factory.make(OPTIONS)
    oracle = prepare(server, tmp_path)
    with load(tmp_path, str(rng.random())) as writers:
        for visit in (1, *(rng.randrange(2, 12) for _ in range(VISIT_COUNT - 1))):
            die_and_compare(server, writers, oracle, f"{point}:kill:{visit}")


@pytest.mark.timeout(900 + 2 * CYCLES)
@pytest.mark.parametrize("point", FOLDER_POINTS)
def test_a_kill_while_a_folder_begins_loses_nothing(
    server_factory: ServerFactory, tmp_path: Path, point: str
) -> None:
    print(f"CRASH_SEED={SEED}")
    rng = random.Random(f"{SEED}/{point}")
    for round_ in range(VISIT_COUNT):
        folder = tmp_path / f"round{round_}"
        folder.mkdir()
        server = server_factory.make(OPTIONS)
        oracle = prepare(server, folder)
        with load(folder, str(rng.random())) as writers:
            die_and_compare(server, writers, oracle, f"{point}:kill:{rng.randrange(1, 5)}")


@dataclasses.dataclass(slots=True)
class Snapshots:
    """Which must be there, and the one that may be."""

    there: set[str] = dataclasses.field(default_factory=set)
    doubtful: str | None = None
    number: int = 0

    def work(self, rest: RestClient) -> None:
        self.number += 1
        self.doubtful = f"s{self.number}"
        rest.call("POST", "/v1/snapshots", {"name": self.doubtful})
        self.there.add(self.doubtful)
        self.doubtful = None
        if len(self.there) > 2:
            self.doubtful = min(self.there)
            self.there.discard(self.doubtful)
            rest.call("DELETE", f"/v1/snapshots/{self.doubtful}")
            self.doubtful = None

    def check(self, rest: RestClient) -> None:
        listed = {s["name"] for s in rest.call("GET", "/v1/snapshots")["snapshots"]}
        assert self.there <= listed, f"snapshots are lost: {self.there - listed}"
        assert listed <= self.there | {self.doubtful}, "snapshots are there that should not be"
        for name in listed:
            assert rest.call("GET", f"/v1/snapshots/{name}")["name"] == name
        self.there, self.doubtful = listed, None


@pytest.mark.timeout(900 + 2 * CYCLES)
@pytest.mark.parametrize("point", SNAPSHOT_POINTS)
def test_a_kill_at_a_step_of_a_snapshot_leaves_the_others_whole(
    server_factory: ServerFactory, tmp_path: Path, point: str
) -> None:
    print(f"CRASH_SEED={SEED}")
    rng = random.Random(f"{SEED}/{point}")
    server = server_factory.make(OPTIONS)
    oracle = prepare(server, tmp_path)
    snapshots = Snapshots()
    with load(tmp_path, str(rng.random())) as writers:
        for visit in (1, *(rng.randrange(2, 8) for _ in range(VISIT_COUNT - 1))):
            arm(server, f"{point}:kill:{visit}")
            server.start()
            writers.run(server)
            gone = contextlib.suppress(OSError, http.client.HTTPException)
            with RestClient(server) as rest, gone:
                for _ in range(VISITS_MAX):
                    snapshots.work(rest)
            assert server.wait() == -signal.SIGKILL, point
            writers.wait()
            oracle.learn()
            check_offline(server)
            arm(server, None)
            server.start()
            with RestClient(server) as rest:
                snapshots.check(rest)
                oracle.check(rest)
            assert server.stop() == 0
            check_offline(server)


def test_a_snapshot_that_cannot_be_written_leaves_nothing(server_factory: ServerFactory) -> None:
    server = server_factory.make(OPTIONS)
    arm(server, f"{SNAPSHOT_ERROR}:error:1")
    server.start()
    with RestClient(server) as rest:
        rest.create_collection("c", 1)
        rest.upsert("c", [{"id": "a", "vector": [1]}])
        answer = rest.request("POST", "/v1/snapshots", {"name": "bad"})
        assert answer.status >= 500, answer.body
        assert rest.call("GET", "/v1/snapshots")["snapshots"] == []
        rest.call("POST", "/v1/snapshots", {"name": "good"})
        assert rest.count("c") == 1
    server.crash()
    with RestClient(server) as rest:
        assert [s["name"] for s in rest.call("GET", "/v1/snapshots")["snapshots"]] == ["good"]


def test_kills_in_a_recovery_after_a_kill_lose_nothing(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    print(f"CRASH_SEED={SEED}")
    rng = random.Random(f"{SEED}/{RECOVERY_POINT}")
    server = server_factory.make(OPTIONS)
    oracle = prepare(server, tmp_path)
    with load(tmp_path, str(rng.random())) as writers:
        die_and_compare(server, writers, oracle, f"publish.save:kill:{rng.randrange(2, 12)}")
        arm(server, None)
        server.start()
        writers.run(server)
        eventually("merged", lambda: counted(server, "compactions_total") > 0)
        server.kill()
        writers.wait()
    for visit in range(1, 4 + 4 * VISIT_COUNT):
        arm(server, f"{RECOVERY_POINT}:kill:{visit}")
        with contextlib.suppress(AssertionError):
            server.start()
            break  # it has fewer steps
        assert server.wait() == -signal.SIGKILL
        check_offline(server)
    else:
        visit += 1
    assert visit > 4, "a recovery tells of its progress more often"
    server.kill()
    compare(server, oracle)


def counted(server: Server, name: str) -> float:
    return metrics(server)[f"proximadb_{name}"].value()


@pytest.mark.parametrize("point", UPKEEP_ERRORS)
def test_an_error_of_the_disk_in_a_build_is_overcome(
    server_factory: ServerFactory, tmp_path: Path, point: str
) -> None:
    """What is there stays in force, the failure is told and counted, and the next try succeeds."""
    print(f"CRASH_SEED={SEED}")
    rng = random.Random(f"{SEED}/{point}")
    server = server_factory.make(OPTIONS)
    oracle = prepare(server, tmp_path)
    with load(tmp_path, str(rng.random())) as writers:
        arm(server, f"{point}:error:{rng.randrange(1, 20)}")
        server.start()
        writers.run(server)
        eventually("failed", lambda: counted(server, "flush_errors_total") > 0)
        name = "compactions_total" if point.startswith("compact") else "flushes_total"
        before = counted(server, name)
        eventually("went on", lambda: counted(server, name) > before)
        assert "has failed and is tried again" in server.log
        server.kill()
        writers.wait()
        compare(server, oracle)


@pytest.mark.parametrize("wait_for_the_next", [False, True], ids=["killed", "tried-again"])
def test_a_manifest_that_cannot_be_saved_replaces_nothing(
    server_factory: ServerFactory, tmp_path: Path, wait_for_the_next: bool
) -> None:
    print(f"CRASH_SEED={SEED}")
    rng = random.Random(f"{SEED}/{MANIFEST_ERROR}/{wait_for_the_next}")
    server = server_factory.make(OPTIONS)
    oracle = prepare(server, tmp_path)
    with load(tmp_path, str(rng.random())) as writers:
        arm(server, f"{MANIFEST_ERROR}:error:{rng.randrange(1, SAVES)}")
        server.start()
        writers.run(server)
        eventually("failed", lambda: NOT_SAVED.search(server.log) is not None)
        if wait_for_the_next:
            failure = NOT_SAVED.search(server.log)
            assert failure is not None
            folder, number = folder_of(server, failure.group(1)), int(failure.group(2))
            # or dropped meanwhile
            eventually("saved", lambda: newest_manifest(folder) > number or not folder.exists())
        server.kill()
        writers.wait()
        compare(server, oracle)


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
    arm(server, f"{CATALOG_ERROR}:error:1")
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
