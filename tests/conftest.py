"""Fixtures of all Python tests; what they are made of is in tests/lib."""

import contextlib
import http.client
import itertools
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.lib import stubs
from tests.lib.certificates import Certificate, make_certificate
from tests.lib.failpoints import arm
from tests.lib.rest import RestClient
from tests.lib.rpc import open_channel
from tests.lib.server import (
    Server,
    ServerFactory,
    ServerFailed,
    ServerOptions,
    StartServer,
    server_starter,
    servers_in,
)

LOG_LINES_SHOWN = 200
SESSION_CORES = 2

_factories: list[ServerFactory] = []
_stub_folder = tempfile.TemporaryDirectory(prefix="proximadb-stubs-")
_numbers = itertools.count()


def pytest_configure(config: pytest.Config) -> None:
    stubs.generate(Path(_stub_folder.name))


def pytest_unconfigure(config: pytest.Config) -> None:
    _stub_folder.cleanup()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows the end of the log of every server that a failed test could have spoken to."""
    report = yield
    if report.failed:
        for server in [server for factory in _factories for server in factory.servers]:
            state = f"running, pid {server.pid}" if server.running else "not running"
            lines = server.log.splitlines()[-LOG_LINES_SHOWN:]
            report.sections.append((f"log of {server.folder.name}, {state}", "\n".join(lines)))
    return report


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for localhost that is its own authority."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def session_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerFactory]:
    with servers_in(tmp_path_factory.mktemp("session")) as factory:
        _factories.append(factory)
        yield factory
        _factories.remove(factory)


@pytest.fixture(scope="session")
def session_server(session_servers: ServerFactory) -> Server:
    return session_servers.make(ServerOptions(cores=SESSION_CORES)).start()


@pytest.fixture(scope="session")
def built_with_failpoints(session_servers: ServerFactory) -> None:
    """Skips where the server under test has no failpoints."""
    server = session_servers.make(ServerOptions())
    arm(server, "wal.append:kill:1")
    server.start()
    with RestClient(server) as rest:
        rest.create_collection("c", 1)
        with contextlib.suppress(OSError, http.client.HTTPException):
            rest.upsert("c", [{"id": "a", "vector": [1]}])
            pytest.skip("the server was built without -Dfailpoints=true")
    assert server.wait() == -signal.SIGKILL


@pytest.fixture
def server(session_server: Server) -> Iterator[Server]:
    """The server most tests share, on two cores; whoever kills or restarts one starts its own."""
    assert session_server.running, "the shared server died in an earlier test"
    yield session_server
    if not session_server.running:
        raise ServerFailed(f"the shared server died with {session_server.wait()}")


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """start_server(cores=4, io_engine="threads", ...): this test's own; see ServerOptions."""
    with servers_in(tmp_path) as factory:
        _factories.append(factory)
        yield server_starter(factory)
        _factories.remove(factory)


@pytest.fixture
def server_factory(tmp_path: Path) -> Iterator[ServerFactory]:
    """For tests of starts that fail: servers are made here and started by the test."""
    with servers_in(tmp_path) as factory:
        _factories.append(factory)
        yield factory
        _factories.remove(factory)


@pytest.fixture
def rest(server: Server) -> Iterator[RestClient]:
    """A REST connection to the shared server."""
    with RestClient(server) as client:
        yield client


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    """A gRPC channel to the shared server."""
    with open_channel(server) as channel:
        yield channel


@pytest.fixture
def collection_name() -> str:
    """A name that no other test uses."""
    return f"test-{next(_numbers)}"
