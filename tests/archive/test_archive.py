"""What comes into the archive, when, and what is kept there: with a folder as the store."""

import http.client
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tests.archive.load import Writer, config, metric, metrics, now_us, wait_covered
from tests.archive.stored import NONE_NEEDED, archives, only
from tests.http.wire import eventually
from tests.lib.rest import RestClient
from tests.lib.server import Server, ServerFactory, ServerOptions

NAMES = [f"c{i}" for i in range(4)]  # so that most often every core has some


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def base_count(server: Server) -> int:
    return int(metric(server, "archive_bases_taken_total"))


@pytest.mark.parametrize("cores", [1, 2])
def test_what_was_written_can_be_brought_back_soon_after(
    server_factory: ServerFactory, store: Path, cores: int
) -> None:
    server = server_factory.make(ServerOptions(config=config(store), cores=cores)).start()
    writer = Writer()
    with RestClient(server) as rest:
        writer.make(rest, NAMES)
        for _ in range(5):
            for name in NAMES:
                writer.write(rest, name)
            wait_covered(server)
            archive = only(store)
            assert archive.ids() == writer.acknowledged
            from_us, to_us = archive.state.ranges[-1]
            assert from_us <= to_us <= now_us()
            assert archive.ids(to_us) == writer.acknowledged
    assert server.stop() == 0  # a segment is there before STATE says so
    archive = only(store)
    assert 1 <= len(archive.logs()) <= cores  # that have collections
    for log, known in archive.state.logs.items():
        assert list(archive.segments(log)) == list(range(known.first, known.next))
        assert known.first == 1
        assert not known.ended


def test_every_version_of_the_catalog_is_there_in_order(
    server_factory: ServerFactory, store: Path
) -> None:
    server = server_factory.make(ServerOptions(config=config(store))).start()
    wait_covered(server)
    with RestClient(server) as rest:
        for i in range(12):
            rest.create_collection(f"n{i}", 3)
        for i in range(6):
            rest.delete_collection(f"n{i}")
    wait_covered(server)
    archive = only(store)
    state = archive.state
    expected = [f"{version:020}.catalog" for version in range(1, 20)]
    assert archive.keys("catalog") == expected
    assert (state.catalog_first, state.catalog_next) == (1, 20)
    local = server.data_dir / "catalog"
    newest = (archive.root / "catalog" / expected[-1]).read_bytes()
    assert newest == (local / "19.catalog").read_bytes()


def test_a_server_at_rest_puts_nothing_but_state(
    server_factory: ServerFactory, store: Path
) -> None:
    server = server_factory.make(ServerOptions(config=config(store))).start()
    writer = Writer()
    with RestClient(server) as rest:
        writer.make(rest, ["c"])
        writer.write(rest, "c")
    wait_covered(server)
    wait_covered(server)  # the empty group of an idle log has its chance
    archive = only(store)
    before = archive.keys("wal"), archive.keys("bases"), archive.keys("catalog")
    files = sorted(p.name for p in (server.data_dir / "wal" / "0").iterdir())
    for _ in range(3):
        wait_covered(server)
    assert (archive.keys("wal"), archive.keys("bases"), archive.keys("catalog")) == before
    assert sorted(p.name for p in (server.data_dir / "wal" / "0").iterdir()) == files


def test_the_log_is_given_up_only_when_it_is_stored(
    server_factory: ServerFactory, store: Path
) -> None:
    text = config(store).replace("flush_age_s = 3600", "flush_age_s = 1\nflush_rows = 100")
    server = server_factory.make(ServerOptions(config=text)).start()
    writer = Writer()
    with RestClient(server) as rest:
        writer.make(rest, ["c"])

        def truncated() -> bool:
            writer.write(rest, "c", 50)
            return metric(server, "wal_truncated_lsn") > 20

        eventually("the log is given up", truncated)
    wait_covered(server)
    archive = only(store)
    assert archive.ids() == writer.acknowledged
    (log,) = archive.logs()
    assert next(iter(archive.segments(log))) == 1


def test_bases_share_their_files_and_the_oldest_go_with_what_only_they_need(
    server_factory: ServerFactory, store: Path
) -> None:
    text = config(store, base_interval_s=1, keep=2)
    server = server_factory.make(ServerOptions(config=text)).start()
    writer = Writer()
    with RestClient(server) as rest:
        writer.make(rest, ["quiet", "busy"])
        writer.write(rest, "quiet", 500)
        uuid = {c["name"]: c["uuid"] for c in rest.list_collections()["collections"]}

        def written(count: int) -> bool:
            writer.write(rest, "busy")
            return base_count(server) >= count

        eventually("there is a base", lambda: written(1))
        eventually("there are more", lambda: written(5))
        eventually("old ones go", lambda: len(only(store).bases) <= 2)
        archive = only(store)

        def pruned() -> bool:
            writer.write(rest, "busy")
            return min(archive.segments(archive.logs()[0])) > 1

        eventually("and their segments, too", pruned)
    assert server.stop() == 0
    quiet = [key for key in archive.keys("segments") if key.startswith(uuid["quiet"])]
    assert len(quiet) in (2, 4), quiet  # one segment, or with the empty base before it none
    state = archive.state
    bases = archive.bases
    assert state.ranges[0][0] >= bases[0].ended_us or len(bases) > 2
    for base in bases:
        for log, seq in base.needs.items():
            if seq != NONE_NEEDED:
                assert seq >= min(archive.segments(log))
    for log, known in state.logs.items():  # the stop may have cut a removal off
        left = list(archive.segments(log))
        assert left == list(range(max(left[0], known.first), known.next))
    first_catalog = int(archive.keys("catalog")[0].split(".")[0])
    assert first_catalog <= bases[0].catalog_version
    assert state.catalog_first <= first_catalog


def test_a_clean_stop_leaves_nothing_behind(server_factory: ServerFactory, store: Path) -> None:
    text = config(store).replace("interval_s = 1\n", "interval_s = 3600\n", 1)
    server = server_factory.make(ServerOptions(config=text, cores=2)).start()
    writer = Writer()
    with RestClient(server) as rest:
        writer.make(rest, NAMES)
        eventually("there is a base", lambda: base_count(server) == 1)
        for name in NAMES:
            writer.write(rest, name)
    before_us = now_us()
    assert server.stop() == 0
    archive = only(store)
    assert archive.ids() == writer.acknowledged
    assert archive.state.ranges[-1][1] >= before_us


def write_until_killed(server: Server, writer: Writer, more: int) -> None:
    """A writer that the kill of its server ends, after so many acknowledged rows."""
    killed = threading.Event()
    target = len(writer.acknowledged) + more

    def write() -> None:
        with RestClient(server) as rest:
            while True:
                try:
                    for name in NAMES:
                        writer.write(rest, name, 5)
                except (OSError, http.client.HTTPException):
                    assert killed.is_set()
                    return

    thread = threading.Thread(target=write)
    thread.start()
    eventually("it writes", lambda: len(writer.acknowledged) >= target)
    killed.set()
    server.kill()
    thread.join()


def test_what_a_kill_leaves_is_stored_by_the_next_start(
    server_factory: ServerFactory, store: Path
) -> None:
    server = server_factory.make(ServerOptions(config=config(store), cores=2)).start()
    writer = Writer()
    with RestClient(server) as rest:
        writer.make(rest, NAMES)
    wait_covered(server)
    identity = only(store).identity
    for more in (1, 100, 200, 300, 400, 1000):
        write_until_killed(server, writer, more)
        server.start()
    wait_covered(server)
    archive = only(store)
    assert archive.identity == identity
    assert archive.ids() >= writer.acknowledged
    assert len(archive.state.ranges) == 1  # no kill has made a hole
    assert metric(server, "archive_failures_total") == 0


def test_logs_of_former_cores_are_stored_whole_before_they_go(
    server_factory: ServerFactory, store: Path
) -> None:
    server = server_factory.make(ServerOptions(config=config(store), cores=3)).start()
    writer = Writer()
    with RestClient(server) as rest:
        writer.make(rest, NAMES)
        for name in NAMES:
            writer.write(rest, name)
    server.kill()
    flushing = config(store).replace("flush_age_s = 3600", "flush_age_s = 1")
    server.options = replace(server.options, cores=1, config=flushing)
    server.start()
    wal = server.data_dir / "wal"
    eventually("old logs go", lambda: [p.name for p in wal.iterdir() if p.is_dir()] == ["0"])
    archive = only(store)
    assert archive.ids() == writer.acknowledged
    state = archive.state
    assert sum(log.ended for log in state.logs.values()) == 2
    for log, known in state.logs.items():
        assert list(archive.segments(log)) == list(range(known.first, known.next))
    server.options = replace(server.options, cores=2)
    server.restart()
    with RestClient(server) as rest:
        for name in NAMES:
            writer.write(rest, name)
    wait_covered(server)
    assert archive.ids() == writer.acknowledged
    assert len(archive.state.ranges) == 1


def test_a_collection_that_was_restored_is_in_a_base_at_once(
    server_factory: ServerFactory, store: Path
) -> None:
    server = server_factory.make(ServerOptions(config=config(store))).start()
    writer = Writer()
    with RestClient(server) as rest:
        writer.make(rest, ["c"])
        writer.write(rest, "c")
        eventually("there is a base", lambda: base_count(server) == 1)
        rest.call("POST", "/v1/snapshots", {"name": "s"})
        rest.call("POST", "/v1/snapshots/s/restore", {"target": "again"})
        uuid = rest.get_collection("again")["uuid"]
    eventually("there is another", lambda: base_count(server) == 2)
    assert uuid in {key.split("/")[1] for key in only(store).keys("bases") if "MANIFEST" in key}
    folder = server.data_dir / "snapshots"
    eventually("its links go", lambda: [p.name for p in folder.iterdir()] == ["s"])


def test_bases_are_no_snapshots_of_anybody(server_factory: ServerFactory, store: Path) -> None:
    text = config(store, base_interval_s=1)
    server = server_factory.make(ServerOptions(config=text)).start()
    with RestClient(server) as rest:
        rest.create_collection("c", 3)
        eventually("there are bases", lambda: base_count(server) >= 3)
        assert rest.call("GET", "/v1/snapshots")["snapshots"] == []
        assert metrics(server)["proximadb_snapshots_taken_total"].value() == 0


def test_two_data_directories_share_a_store_without_meeting(
    server_factory: ServerFactory, store: Path
) -> None:
    servers = [server_factory.make(ServerOptions(config=config(store))).start() for _ in range(2)]
    writers = [Writer("a"), Writer("b")]
    for server, writer in zip(servers, writers, strict=True):
        with RestClient(server) as rest:
            writer.make(rest, ["c"])
            writer.write(rest, "c")
        wait_covered(server)
    found = [archive.ids() for archive in archives(store)]
    assert sorted(map(sorted, found)) == sorted(sorted(w.acknowledged) for w in writers)


def test_an_archive_that_was_off_has_a_hole_and_says_so(
    server_factory: ServerFactory, store: Path
) -> None:
    server = server_factory.make(ServerOptions(config=config(store))).start()
    writer = Writer()
    with RestClient(server) as rest:
        writer.make(rest, ["c"])
        writer.write(rest, "c")
        wait_covered(server)
        writer.write(rest, "c")
    off = config("").replace("flush_age_s = 3600", "flush_age_s = 1\nflush_rows = 100")
    server.kill()
    server.options = replace(server.options, config=off)
    server.start()
    with RestClient(server) as rest:

        def truncated() -> bool:
            writer.write(rest, "c", 50)
            return metric(server, "wal_truncated_lsn") > 20

        eventually("the log is given up", truncated)
    server.options = replace(server.options, config=config(store))
    server.restart()
    wait_covered(server)
    state = only(store).state
    assert len(state.ranges) == 2
    assert state.ranges[0][1] < state.ranges[1][0]
    assert len(only(store).bases) == 2
    assert only(store).bases[1].ended_us == state.ranges[1][0]
    assert "cannot be brought back" in server.log
    server.restart()  # and the second range goes on
    wait_covered(server)
    assert only(store).state.ranges[:1] == state.ranges[:1]
    assert len(only(store).state.ranges) == 2


def test_an_archive_that_was_off_for_a_moment_goes_on(
    server_factory: ServerFactory, store: Path
) -> None:
    server = server_factory.make(ServerOptions(config=config(store))).start()
    writer = Writer()
    with RestClient(server) as rest:
        writer.make(rest, ["c"])
        # a base taken later would flush the rows, and nothing of the log be needed
        eventually("the first base", lambda: base_count(server) == 1)
        writer.write(rest, "c")  # and the log is needed from here on
    wait_covered(server)
    server.options = replace(server.options, config=config(""))
    server.restart()
    with RestClient(server) as rest:
        writer.write(rest, "c")
        rest.create_collection("d", 3)
    server.options = replace(server.options, config=config(store))
    server.restart()
    wait_covered(server)
    archive = only(store)
    assert archive.ids() == writer.acknowledged
    assert len(archive.state.ranges) == 1
    assert len(archive.bases) == 1


def test_a_copy_of_an_older_state_stores_nothing_into_the_same_archive(
    server_factory: ServerFactory, store: Path, tmp_path: Path
) -> None:
    server = server_factory.make(ServerOptions(config=config(store))).start()
    writer = Writer()
    with RestClient(server) as rest:
        writer.make(rest, ["c"])
        writer.write(rest, "c")
    assert server.stop() == 0
    shutil.copytree(server.data_dir, tmp_path / "older")
    for _ in range(3):
        server.start()
        with RestClient(server) as rest:
            writer.write(rest, "c")
        wait_covered(server)
        assert server.stop() == 0
    before = {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}
    shutil.rmtree(server.data_dir)
    shutil.move(tmp_path / "older", server.data_dir)
    server.start()
    eventually("it is told", lambda: "is an older copy" in server.log)
    with RestClient(server) as rest:
        writer.write(rest, "c")  # it serves all the same
    assert server.stop() == 0
    assert {p: p.read_bytes() for p in store.rglob("*") if p.is_file()} == before
    (server.data_dir / "archive" / "IDENTITY").unlink()  # as the message says
    server.start()
    wait_covered(server)
    assert len(archives(store)) == 2


@pytest.mark.parametrize("damage", ["identity", "url"])
def test_a_start_is_refused_when_the_archive_cannot_be_the_right_one(
    server_factory: ServerFactory, store: Path, damage: str
) -> None:
    server = server_factory.make(ServerOptions(config=config(store))).start()
    wait_covered(server)
    assert server.stop() == 0
    if damage == "identity":
        path = server.data_dir / "archive" / "IDENTITY"
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        why = "archive/IDENTITY"
    else:
        shutil.rmtree(store)
        why = "archive.url"
    with pytest.raises(AssertionError, match=why):
        server.start()
