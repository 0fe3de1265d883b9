"""Where io_uring is denied: `auto` goes on with threads and says so once, `uring` refuses."""

import sys
from collections.abc import Callable

import pytest

from tests.lib import deny_io_uring
from tests.lib.rest import RestClient
from tests.lib.server import Server, ServerFailed

StartServer = Callable[..., Server]
WRAPPER = (sys.executable, deny_io_uring.__file__)


def test_auto_goes_on_with_threads_and_warns_once(start_server: StartServer) -> None:
    server = start_server(cores=2, wrapper=WRAPPER)
    warnings = [line for line in server.log.splitlines() if "io_uring is not used" in line]
    assert len(warnings) == 1
    assert '"level":"WARN"' in warnings[0]
    assert "Operation not permitted" in warnings[0] or "EPERM" in warnings[0]
    with RestClient(server) as rest:
        info = rest.request("GET", "/v1/info").json()
        assert info["io"]["engine"] == "threads"
        assert info["io"]["reason"] != ""
        metrics = rest.request("GET", "/metrics").body.decode()
        assert 'proximadb_io_engine_info{engine="threads",reason="' in metrics
        assert rest.request("GET", "/readyz").status == 200
        created = {"name": "kept", "dimension": 2, "metric": "dot"}
        assert rest.request("POST", "/v1/collections", created).status == 201
        body = {"vectors": [{"id": "a", "vector": [1, 2]}]}
        assert rest.request("PUT", "/v1/collections/kept/vectors", body).status == 200
    server.kill()
    server.start()
    with RestClient(server) as rest:
        assert rest.request("GET", "/v1/collections/kept/vectors/a").json()["vector"] == [1, 2]


def test_uring_refuses_and_says_what_would_help(start_server: StartServer) -> None:
    with pytest.raises(ServerFailed) as failed:
        start_server(io_engine="uring", wrapper=WRAPPER)
    text = str(failed.value)
    assert "io_uring" in text
    assert "seccomp" in text
