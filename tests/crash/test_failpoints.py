"""Kills and errors at named places: before and after every step that a promise rests on.

Every failpoint of the source is in one of the lists here; the first test says which is not. What
happens around a kill is in world.py.
"""

import contextlib
import dataclasses
import http.client
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.archive.test_kills import ERROR_POINT as ARCHIVE_ERROR
from tests.archive.test_kills import KILL_POINTS as ARCHIVE_POINTS
from tests.crash.settings import check_offline, folder_of, metrics, newest_manifest
from tests.crash.test_index_kills import ERROR_POINT as INDEX_ERROR
from tests.crash.test_index_kills import KILL_POINTS as INDEX_POINTS
from tests.crash.test_index_kills import LOAD_POINT as INDEX_LOAD
from tests.crash.test_kill import CYCLES
from tests.crash.world import (
    OPTIONS,
    VISIT_COUNT,
    Guest,
    Restores,
    Snapshots,
    Uploads,
    world,
)
from tests.lib.failpoints import arm, names_in_source
from tests.lib.rest import RestClient, RestError
from tests.lib.server import Server, ServerFactory

pytestmark = pytest.mark.usefixtures("built_with_failpoints")

WRITE_POINTS = ("wal.write", "wal.written", "wal.append", "wal.acknowledged", "write.answer")
LOG_POINTS = (
    "wal.mark",
    *(f"wal.{step}" for step in ("freed", "removed", "removal_durable")),
    *(f"wal.recycled_{step}" for step in ("written", "synced", "renamed", "durable")),
)
# A start begins with new files: later ones are used again.
NEW_FILE_POINTS = tuple(f"wal.segment_{s}" for s in ("written", "synced", "renamed", "durable"))
RETIRED_POINTS = tuple(
    f"wal.retired_{step}" for step in ("renamed", "durable", "file", "folder", "gone")
)
# What a start does about what a kill has left: where that kill must be, and on how many cores the
# start is.
START_POINTS = {
    "wal.stray": ("wal.recycled_synced", 2),
    "wal.leftover": ("wal.mark", 2),
    "wal.cut": ("wal.written", 2),
    "wal.given_back": ("wal.recycled_durable", 2),
    "wal.swept": ("wal.retired_durable", 1),
}
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
RESTORE_POINTS = (
    *(f"restore.{s}" for s in ("verified", "mark", "folder", "link", "manifest", "durable")),
    *(f"restore.{s}" for s in ("staged", "catalog")),
)
UPLOAD_POINTS = ("upload.file", "upload.synced")
GUEST_POINTS: dict[str, Callable[[], Guest]] = {
    **dict.fromkeys(SNAPSHOT_POINTS, Snapshots),
    **dict.fromkeys(RESTORE_POINTS, Restores),
    **dict.fromkeys(UPLOAD_POINTS, Uploads),
}
RECOVERY_POINT = "recovery.progress"
UPKEEP_ERRORS = ("flush.step", "flush.index_step", "compact.step", "compact.index_step")
SNAPSHOT_ERROR = "snapshot.list_step"
MANIFEST_ERROR = "manifest.step"
CATALOG_ERROR = "catalog.step"

TRIES = 8
CHANGES_MAX = 60  # of names: more than the visits before the one that kills
LIMIT = pytest.mark.timeout(900 + 4 * CYCLES)
# Of the steps of the first saves some belong to first manifests, without which no flush begins:
# how many come before the first real one depends on the machine.
SAVES = 100
NOT_SAVED = re.compile(
    r"collection ([0-9a-f-]+): (?:the manifest cannot be saved|a flush has failed).*MANIFEST-(\d+)"
)


def test_every_failpoint_of_the_source_is_tried_here() -> None:
    tried = {*WRITE_POINTS, *LOG_POINTS, *NEW_FILE_POINTS, *RETIRED_POINTS, *START_POINTS}
    tried |= {*CATALOG_POINTS, *UPKEEP_POINTS, *FOLDER_POINTS, *GUEST_POINTS, *UPKEEP_ERRORS}
    tried |= {RECOVERY_POINT, MANIFEST_ERROR, CATALOG_ERROR, SNAPSHOT_ERROR}
    tried |= {*ARCHIVE_POINTS, ARCHIVE_ERROR}  # in tests/archive
    tried |= {*INDEX_POINTS, INDEX_LOAD, INDEX_ERROR}  # in test_index_kills.py
    assert tried == names_in_source()


# ---- kills under load ----


@LIMIT
@pytest.mark.parametrize("point", WRITE_POINTS)
def test_a_kill_at_a_step_of_a_write_loses_nothing(
    server_factory: ServerFactory, tmp_path: Path, point: str
) -> None:
    with world(server_factory, tmp_path, point) as w:
        for visit in (2, *w.visits(60)):
            w.die(f"{point}:kill:{visit}")
            w.compare()


@LIMIT
@pytest.mark.parametrize("point", [*UPKEEP_POINTS, *LOG_POINTS])
def test_a_kill_at_a_step_of_upkeep_loses_nothing(
    server_factory: ServerFactory, tmp_path: Path, point: str
) -> None:
    with world(server_factory, tmp_path, point) as w:
        for visit in w.visits(12):
            w.die(f"{point}:kill:{visit}")
            w.compare()


@LIMIT
@pytest.mark.parametrize("point", NEW_FILE_POINTS)
def test_a_kill_while_the_log_gets_a_new_file_loses_nothing(
    server_factory: ServerFactory, tmp_path: Path, point: str
) -> None:
    with world(server_factory, tmp_path, point) as w:
        for visit in w.visits(3):
            w.die(f"{point}:kill:{visit}")
            w.compare()


@LIMIT
@pytest.mark.parametrize("point", FOLDER_POINTS)
def test_a_kill_while_a_folder_begins_loses_nothing(
    server_factory: ServerFactory, tmp_path: Path, point: str
) -> None:
    for round_ in range(VISIT_COUNT):
        folder = tmp_path / f"round{round_}"
        folder.mkdir()
        with world(server_factory, folder, f"{point}/{round_}") as w:
            w.die(f"{point}:kill:{w.rng.randrange(1, 5)}")
            w.compare()


@LIMIT
@pytest.mark.parametrize("point", GUEST_POINTS)
def test_a_kill_at_a_step_of_a_snapshot_leaves_the_others_whole(
    server_factory: ServerFactory, tmp_path: Path, point: str
) -> None:
    """Taken, restored and uploaded: what was answered is there, what was not is whole or absent."""
    with world(server_factory, tmp_path, point, GUEST_POINTS[point]()) as w:
        for visit in w.visits(8):
            w.die(f"{point}:kill:{visit}")
            w.compare()


@LIMIT
@pytest.mark.parametrize("point", RETIRED_POINTS)
def test_a_kill_while_the_log_of_a_core_that_is_gone_is_removed_loses_nothing(
    server_factory: ServerFactory, tmp_path: Path, point: str
) -> None:
    with world(server_factory, tmp_path, point) as w:
        for _ in range(VISIT_COUNT):
            w.cores(2)
            assert w.start(None)
            w.until("the logs have rows", lambda: counted(w.server, "wal_records_total") > 50)
            w.kill()
            w.compare()
            w.cores(1)
            w.die(f"{point}:kill:1")
            w.compare()


# ---- kills in a start ----


@LIMIT
@pytest.mark.parametrize("point", START_POINTS)
def test_a_kill_while_a_start_clears_up_the_log_loses_nothing(
    server_factory: ServerFactory, tmp_path: Path, point: str
) -> None:
    before, cores = START_POINTS[point]
    with world(server_factory, tmp_path, point) as w:
        for _ in range(VISIT_COUNT):
            for _ in range(TRIES):
                w.cores(cores)
                w.die(f"{before}:kill:{w.rng.randrange(1, 6) if cores == 2 else 1}")
                came_by = w.die_in_start(f"{point}:kill:1")
                w.cores(2)
                w.compare()
                if came_by:
                    break
            else:
                raise AssertionError("no kill leaves what this is about")


@LIMIT
def test_kills_in_a_recovery_after_a_kill_lose_nothing(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    with world(server_factory, tmp_path, RECOVERY_POINT) as w:
        w.die(f"publish.save:kill:{w.rng.randrange(2, 12)}")
        w.compare()
        assert w.start(None)
        w.until("merged", lambda: counted(w.server, "compactions_total") > 0)
        w.kill()
        visit = 1
        while w.die_in_start(f"{RECOVERY_POINT}:kill:{visit}") and visit < 4 * VISIT_COUNT + 3:
            check_offline(w.server)
            visit += 1
        assert visit > 4, "a recovery tells of its progress more often"
        w.compare()


# ---- errors ----


def counted(server: Server, name: str) -> float:
    return metrics(server)[f"proximadb_{name}"].value()


@LIMIT
@pytest.mark.parametrize("point", UPKEEP_ERRORS)
def test_an_error_of_the_disk_in_a_build_is_overcome(
    server_factory: ServerFactory, tmp_path: Path, point: str
) -> None:
    """What is there stays in force, the failure is told and counted, and the next try succeeds."""
    with world(server_factory, tmp_path, point) as w:
        assert w.start(f"{point}:error:{w.rng.randrange(1, 20)}")
        w.until("failed", lambda: counted(w.server, "flush_errors_total") > 0)
        name = "compactions_total" if point.startswith("compact") else "flushes_total"
        before = counted(w.server, name)
        w.until("went on", lambda: counted(w.server, name) > before)
        assert "has failed and is tried again" in w.server.log
        w.kill()
        w.compare()


@LIMIT
@pytest.mark.parametrize("wait_for_the_next", [False, True], ids=["killed", "tried-again"])
def test_a_manifest_that_cannot_be_saved_replaces_nothing(
    server_factory: ServerFactory, tmp_path: Path, wait_for_the_next: bool
) -> None:
    with world(server_factory, tmp_path, f"{MANIFEST_ERROR}/{wait_for_the_next}") as w:
        assert w.start(f"{MANIFEST_ERROR}:error:{w.rng.randrange(1, SAVES)}")
        w.until("failed", lambda: NOT_SAVED.search(w.server.log) is not None)
        if wait_for_the_next:
            failure = NOT_SAVED.search(w.server.log)
            assert failure is not None
            folder, number = folder_of(w.server, failure.group(1)), int(failure.group(2))
            # or dropped meanwhile
            w.until("saved", lambda: newest_manifest(folder) > number or not folder.exists())
        w.kill()
        w.compare()


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


# ---- the catalog ----


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
        for i in range(CHANGES_MAX):
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
        if server.start_to_be_killed():
            with contextlib.suppress(OSError, http.client.HTTPException):
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
