"""Stores that fail, hang, lose or have what is not ours: the server goes on, and tells."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.archive.load import (
    Writer,
    config,
    metric,
    metrics,
    now_us,
    wait_covered,
    wait_failing,
)
from tests.archive.stored import Archive, only
from tests.http.wire import eventually
from tests.lib.rest import RestClient
from tests.lib.server import LIMIT_S, ServerFactory, ServerOptions
from tests.store.fault_proxy import BUSY, DROP_LATE, FaultProxy, fault_proxy
from tests.store.moto import Moto, make_bucket, moto_server


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    with moto_server(tmp_path_factory.mktemp("moto") / "log") as server:
        yield server


@pytest.fixture
def proxy(moto: Moto) -> Iterator[FaultProxy]:
    with fault_proxy(moto.port) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


class Silent:
    """A server that takes every connection and every byte, and never answers."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._taken: list[socket.socket] = []
        self.asked = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def _accept(self) -> None:
        while True:
            try:
                taken, _ = self._listener.accept()
            except OSError:
                return
            self._taken.append(taken)
            self.asked.set()

    def close(self) -> None:
        self._listener.close()
        for taken in self._taken:
            taken.close()


@contextmanager
def silent_server() -> Iterator[Silent]:
    silent = Silent()
    try:
        yield silent
    finally:
        silent.close()


# One request to a store that hangs: five attempts of half a minute. A stop cuts it off.
GIVEN_UP_S = 150.0
KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}


def next_segment(archive: Archive) -> Path:
    """Where the next segment of the only log will be put."""
    ((log, known),) = archive.state.logs.items()
    return archive.root / "wal" / log / f"{known.next:016x}.wal"


def test_s3_takes_all_of_it_and_a_failing_one_takes_it_later(
    server_factory: ServerFactory, moto: Moto, proxy: FaultProxy
) -> None:
    make_bucket(moto, "archive")
    url = moto.url("archive/pre", proxy.port)
    server = server_factory.make(ServerOptions(config=config(url), env=moto.env)).start()
    writer = Writer()
    with RestClient(server) as rest:
        writer.make(rest, ["c"])
        writer.write(rest, "c")
        wait_covered(server)
        proxy.plan += [BUSY] * 100_000
        writer.write(rest, "c")
        wait_failing(server)
        writer.write(rest, "c")
        held = metric(server, "wal_archive_lag_bytes")
        assert held > 0
        assert metric(server, "archive_lag_seconds") > 0
        failing = now_us()
        proxy.plan.clear()
        wait_covered(server, failing)
        wait_covered(server)
        eventually("nothing is held", lambda: metric(server, "wal_archive_lag_bytes") == 0)
        # what arrives although the answer is lost is ours, and no conflict
        for _ in range(3):
            proxy.plan += [DROP_LATE] * 2
            writer.write(rest, "c")
            wait_covered(server)
            proxy.plan.clear()
    assert server.log.count("cannot be stored") >= 1
    assert server.log.count("stored again") >= 1
    assert "other bytes" not in server.log
    puts = {path.split("?")[0] for method, path, _ in proxy.log if method == "PUT"}
    assert any("/wal/" in path for path in puts)
    assert any(path.endswith("/BASE") for path in puts)


def test_a_failure_that_lasts_is_told_once_and_writes_go_on(
    server_factory: ServerFactory, moto: Moto, proxy: FaultProxy
) -> None:
    make_bucket(moto, "down")
    proxy.plan += [BUSY] * 100_000
    url = moto.url("down", proxy.port)
    server = server_factory.make(
        ServerOptions(config=config(url, shutdown_s=5), env=moto.env)
    ).start()
    writer = Writer()
    with RestClient(server) as rest:
        writer.make(rest, ["c"])
        for _ in range(3):
            wait_failing(server)
            writer.write(rest, "c")
        assert rest.request("GET", "/readyz").status == 200
    assert metric(server, "archive_covered_time_seconds") == 0
    assert server.log.count("what the store has") == 1
    assert server.stop() == 0
    proxy.plan.clear()
    server.start()
    wait_covered(server)


def test_a_store_that_hangs_holds_up_nothing_but_the_archive(
    server_factory: ServerFactory,
) -> None:
    with silent_server() as silent:
        text = config(
            f"s3://bucket?endpoint=http://127.0.0.1:{silent.port}", base_interval_s=1, shutdown_s=3
        )
        text = text.replace("flush_age_s = 3600", "flush_age_s = 1\nflush_rows = 100")
        server = server_factory.make(ServerOptions(config=text, env=KEYS, cores=2)).start()
        writer = Writer()
        assert silent.asked.wait(LIMIT_S)
        with RestClient(server) as rest:
            writer.make(rest, ["c"])

            def flushed() -> bool:
                writer.write(rest, "c", 50)
                return metric(server, "segment_rows") >= 500

            eventually("rows go to segments", flushed)
            rest.call("POST", "/v1/snapshots", {"name": "s"})
            rest.call("POST", "/v1/snapshots/s/restore", {"target": "again"})
            assert rest.call("POST", "/v1/collections/c/search", {"vector": [1, 2, 3], "k": 1})
        assert server.stop(GIVEN_UP_S) == 0


def test_a_store_that_hangs_in_the_middle_is_cut_off_by_the_stop(
    server_factory: ServerFactory, moto: Moto, proxy: FaultProxy
) -> None:
    make_bucket(moto, "hangs")
    release = threading.Event()
    url = moto.url("hangs", proxy.port)
    server = server_factory.make(
        ServerOptions(config=config(url, shutdown_s=3), env=moto.env)
    ).start()
    writer = Writer()
    try:
        with RestClient(server) as rest:
            writer.make(rest, ["c"])
            writer.write(rest, "c")
            wait_covered(server)
            covered = metric(server, "archive_covered_time_seconds")
            asked = len(proxy.log)
            proxy.before |= {asked + n: lambda: release.wait(60) for n in range(10_000)}
            writer.write(rest, "c")
        assert server.stop() == 0
    finally:
        proxy.before.clear()
        release.set()
    server.start()
    wait_covered(server)
    assert metric(server, "archive_covered_time_seconds") > covered
    assert "cannot be brought back" not in server.log


def test_what_is_there_with_other_bytes_is_told_and_never_overwritten(
    server_factory: ServerFactory, store: Path
) -> None:
    server = server_factory.make(ServerOptions(config=config(store))).start()
    writer = Writer()
    with RestClient(server) as rest:
        writer.make(rest, ["c"])
        writer.write(rest, "c")
        wait_covered(server)
        wait_covered(server)  # and the empty group of an idle log, which would be the next
        path = next_segment(only(store))
        path.write_bytes(b"of somebody else")
        writer.write(rest, "c")
        eventually("it is told", lambda: "is there with other bytes" in server.log)
        wait_failing(server)
        assert path.read_bytes() == b"of somebody else"
        assert server.log.count("is there with other bytes") == 1
        writer.write(rest, "c")
        path.unlink()
        wait_covered(server)
    assert only(store).ids() == writer.acknowledged


def test_what_is_there_with_the_same_bytes_is_ours(
    server_factory: ServerFactory, store: Path
) -> None:
    server = server_factory.make(ServerOptions(config=config(store))).start()
    writer = Writer()
    with RestClient(server) as rest:
        writer.make(rest, ["c"])
        writer.write(rest, "c")
    wait_covered(server)
    archive = only(store)
    state = archive.root / "STATE"
    old = state.read_bytes()
    with RestClient(server) as rest:
        for _ in range(3):
            writer.write(rest, "c")
            wait_covered(server)
    server.kill()
    state.unlink()  # and the checksum that is beside it
    state.write_bytes(old)  # as if it had been killed before STATE was written
    (log,) = archive.logs()
    for path in archive.segments(log).values():  # and a tool had copied the store
        copy = path.read_bytes()
        path.unlink()
        path.write_bytes(copy)
    server.start()
    wait_covered(server)
    assert archive.ids() == writer.acknowledged
    assert len(archive.state.ranges) == 1
    assert metric(server, "archive_failures_total") == 0


@pytest.mark.parametrize("lost", ["STATE", "everything"])
def test_an_archive_that_was_lost_begins_again(
    server_factory: ServerFactory, store: Path, lost: str
) -> None:
    server = server_factory.make(ServerOptions(config=config(store))).start()
    writer = Writer()
    with RestClient(server) as rest:
        writer.make(rest, ["c"])
        writer.write(rest, "c")
    wait_covered(server)
    assert server.stop() == 0
    archive = only(store)
    names = [p for p in archive.root.rglob("*") if p.is_file()]
    for path in names:
        if lost == "everything" or path.name == lost:
            path.unlink()
    server.start()
    since = now_us()
    wait_covered(server)
    (the_range,) = archive.state.ranges
    assert the_range[0] >= archive.bases[-1].ended_us
    assert the_range[1] > since
    assert len(archive.bases) == (2 if lost == "STATE" else 1)


def test_a_catalog_that_changes_while_the_store_fails_is_stored_without_a_gap(
    server_factory: ServerFactory, store: Path, tmp_path: Path
) -> None:
    server = server_factory.make(ServerOptions(config=config(store, shutdown_s=2))).start()
    wait_covered(server)
    archive = only(store)
    blocker = archive.root / "catalog" / f"{2:020}.catalog"
    blocker.write_bytes(b"x")
    local = server.data_dir / "catalog" / "archive"
    with RestClient(server) as rest:
        for i in range(30):
            rest.create_collection(f"n{i}", 3)
        assert {p.stem for p in local.iterdir()} == {str(i) for i in range(2, 31)}
        server.restart()
    with RestClient(server) as rest:
        for i in range(5):
            rest.create_collection(f"m{i}", 3)
        blocker.unlink()
        wait_covered(server)
        rest.create_collection("last", 3)
    wait_covered(server)
    assert archive.keys("catalog") == [f"{i:020}.catalog" for i in range(1, 38)]
    eventually("old versions go", lambda: len(list(local.iterdir())) < 29)
    assert len(archive.state.ranges) == 1


def test_lag_and_bases_are_metrics(server_factory: ServerFactory, store: Path) -> None:
    server = server_factory.make(ServerOptions(config=config(store))).start()
    before_s = time.time()
    with RestClient(server) as rest:
        rest.create_collection("c", 3)
    wait_covered(server)
    found = metrics(server)
    assert found["proximadb_archive_bases"].value() == 1
    assert before_s - 60 < found["proximadb_archive_base_time_seconds"].value() < time.time() + 60
    assert found["proximadb_archive_objects_total"].value() >= 3
    assert found["proximadb_archive_bytes_total"].value() > 0
    assert found["proximadb_archive_lag_seconds"].value() >= 0
