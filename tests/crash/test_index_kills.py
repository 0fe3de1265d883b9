"""Kills and errors at every step of an index: no row is lost, and a restart has it or makes it."""

import contextlib
import http.client
import signal

import pytest

from tests.crash.settings import CONFIG, check_offline, folder_of, metrics
from tests.http.wire import eventually
from tests.lib.failpoints import arm
from tests.lib.rest import RestClient
from tests.lib.server import Server, ServerFactory, ServerOptions

pytestmark = pytest.mark.usefixtures("built_with_failpoints")

KILL_POINTS = (
    "index.begin",
    "index.built",
    *(f"index.{step}" for step in ("opened", "written", "synced", "renamed", "durable")),
)
LOAD_POINT = "index.load"
ERROR_POINT = "index.step"

ROWS = 400
DIMENSION = 8
OPTIONS = ServerOptions(cores=2, config=CONFIG.format(encoding="binary"))


def vector(row: int) -> list[float]:
    return [float((row * (7 + i) + i * i) % 101) for i in range(DIMENSION)]


def put_rows(rest: RestClient) -> None:
    rest.upsert("c", [{"id": str(i), "vector": vector(i)} for i in range(ROWS)])


def fill(rest: RestClient) -> None:
    rest.create_collection("c", DIMENSION, "euclidean", index={"type": "hnsw"})
    put_rows(rest)


def wait_indexed(rest: RestClient) -> None:
    def indexed() -> bool:
        described = rest.get_collection("c")
        state = described["fields"][0]["index_state"]
        return bool(
            described["stats"]["segment_rows"] == ROWS
            and state["state"] == "ready"
            and state["rows_indexed"] == ROWS
        )

    eventually("all rows are indexed", indexed)


def wait_saved(server: Server, rest: RestClient) -> None:
    folder = folder_of(server, rest.get_collection("c")["uuid"])
    eventually("the index is in its file", lambda: len(list(folder.glob("*.ann"))) == 1)


def counted(server: Server, name: str, result: str | None = None) -> float:
    family = metrics(server)[f"proximadb_{name}"]
    return family.value() if result is None else family.value(result=result)


def check_rows(rest: RestClient) -> None:
    assert rest.count("c") == ROWS
    for row in range(0, ROWS, 37):
        hits = rest.search("c", vector=vector(row), k=1)["results"]
        assert hits[0]["id"] == str(row) or hits[0]["score"] == 0


@pytest.mark.parametrize("point", KILL_POINTS)
def test_a_kill_at_a_step_of_an_index_loses_nothing(
    server_factory: ServerFactory, point: str
) -> None:
    server = server_factory.make(OPTIONS)
    arm(server, f"{point}:kill:1")
    server.start()
    answered = False
    with RestClient(server) as rest:
        rest.create_collection("c", DIMENSION, "euclidean", index={"type": "hnsw"})
        with contextlib.suppress(OSError, http.client.HTTPException):
            put_rows(rest)
            answered = True
    assert server.wait() == -signal.SIGKILL
    check_offline(server)
    arm(server, None)
    server.start()
    with RestClient(server) as rest:
        if not answered:
            put_rows(rest)
        wait_indexed(rest)
        wait_saved(server, rest)
        check_rows(rest)
    assert server.stop() == 0
    server.start()
    with RestClient(server) as rest:
        wait_indexed(rest)
        check_rows(rest)
    assert server.stop() == 0


def test_a_kill_while_an_index_is_read_loses_nothing(server_factory: ServerFactory) -> None:
    server = server_factory.make(OPTIONS)
    arm(server, None)
    server.start()
    with RestClient(server) as rest:
        fill(rest)
        wait_indexed(rest)
        wait_saved(server, rest)
    assert server.stop() == 0
    for visit in (1, 2, 3):
        arm(server, f"{LOAD_POINT}:kill:{visit}")
        server.start_to_be_killed()
        assert server.wait() == -signal.SIGKILL
        check_offline(server)
    arm(server, None)
    server.start()
    with RestClient(server) as rest:
        wait_indexed(rest)
        check_rows(rest)
    assert server.stop() == 0


@pytest.mark.parametrize("visit", [1, 2, 4])
def test_an_index_that_cannot_be_written_is_used_and_made_again(
    server_factory: ServerFactory, visit: int
) -> None:
    server = server_factory.make(OPTIONS)
    arm(server, f"{ERROR_POINT}:error:{visit}")
    server.start()
    with RestClient(server) as rest:
        fill(rest)
        wait_indexed(rest)
        eventually("told", lambda: "an index cannot be written" in server.log)
        check_rows(rest)
    assert server.stop() == 0
    check_offline(server)
    arm(server, None)
    server.start()
    with RestClient(server) as rest:
        wait_indexed(rest)
        wait_saved(server, rest)
        check_rows(rest)
    assert server.stop() == 0
