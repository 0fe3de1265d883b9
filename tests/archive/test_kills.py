"""Kills at every step of the archiver: what was acknowledged is brought back out of the archive."""

import contextlib
import http.client
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.archive.load import Writer, config, metric, wait_covered
from tests.archive.stored import only
from tests.lib.failpoints import arm
from tests.lib.rest import RestClient
from tests.lib.server import LIMIT_S, Server, ServerFactory, ServerOptions, binary

pytestmark = pytest.mark.usefixtures("built_with_failpoints")

CYCLES = int(os.environ.get("ARCHIVE_KILLS", "2"))
KILL_POINTS = (
    *(f"archive.{step}" for step in ("put", "put_done", "segment", "catalog", "state")),
    *(f"archive.base{step}" for step in ("", "_taken", "_file", "_removed")),
    *(f"archive.{step}" for step in ("prune", "pruned")),
)
ERROR_POINT = "archive.put_fails"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def busy(store: Path) -> str:
    """Everything that an archiver does happens within seconds."""
    text = config(store, base_interval_s=1, keep=2)
    return text.replace("flush_age_s = 3600", "flush_age_s = 1\nflush_rows = 300")


def restored(server: Server, folder: Path) -> set[str]:
    """The ids of a data directory that `proximadb restore` makes of the newest state."""
    done = subprocess.run(
        [str(binary()), "restore", "--quiet", "--from", str(folder / "store")]
        + ["--data-dir", str(folder / "restored")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: set[str] = set()
    options = replace(server.options, config=None, env={})
    other = Server(folder, options)
    other.data_dir = folder / "restored"
    other.start()
    try:
        with RestClient(other) as rest:
            cursor: str | None = None
            while True:
                page = rest.scroll("c", limit=1000, include=[], cursor=cursor)
                found |= {row["id"] for row in page["records"]}
                cursor = page["next_cursor"]
                if cursor is None:
                    return found
    finally:
        assert other.stop() == 0


def write_until_dead(server: Server, writer: Writer) -> None:
    end = time.monotonic() + LIMIT_S
    with RestClient(server) as rest, contextlib.suppress(OSError, http.client.HTTPException):
        while time.monotonic() < end:
            writer.write(rest, "c", 2)
            rest.update_collection("c", description=f"{len(writer.acknowledged)}")
        pytest.fail(f"no kill within {LIMIT_S} s")
    assert server.wait() == -signal.SIGKILL


@pytest.mark.parametrize("point", KILL_POINTS)
def test_a_kill_at_a_step_of_the_archiver_loses_nothing(
    server_factory: ServerFactory, store: Path, tmp_path: Path, point: str
) -> None:
    server = server_factory.make(ServerOptions(config=busy(store), cores=2)).start()
    writer = Writer()
    with RestClient(server) as rest:
        writer.make(rest, ["c"])
    wait_covered(server)
    assert server.stop() == 0
    for visit in range(1, CYCLES + 1):
        arm(server, f"{point}:kill:{visit}")
        if server.start_to_be_killed():  # the archiver is at work before the server is ready
            write_until_dead(server, writer)
        arm(server, None)
        server.start()
        with RestClient(server) as rest:
            writer.write(rest, "c")
        wait_covered(server)
        assert metric(server, "archive_failures_total") == 0
        assert server.stop() == 0
    assert len(only(store).state.ranges) == 1
    assert restored(server, tmp_path) >= writer.acknowledged


def test_an_attempt_that_fails_is_repeated(server_factory: ServerFactory, store: Path) -> None:
    server = server_factory.make(ServerOptions(config=config(store)))
    arm(server, f"{ERROR_POINT}:error:3")
    server.start()
    writer = Writer()
    with RestClient(server) as rest:
        writer.make(rest, ["c"])
        for _ in range(3):
            writer.write(rest, "c")
            wait_covered(server)
    assert metric(server, "archive_failures_total") >= 1
    assert only(store).ids() == writer.acknowledged
