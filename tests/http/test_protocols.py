"""Every operation over every protocol that carries REST: HTTP/1.1 and HTTP/2, also with TLS."""

import re
import subprocess
from collections.abc import Callable

import pytest

from tests.http.h2 import h2
from tests.http.wire import Curl, connect, negotiated
from tests.lib.certificates import Certificate
from tests.lib.rest import Json, Response
from tests.lib.server import LIMIT_S, Server, ServerFactory, ServerOptions

Call = Callable[..., Response]

CURL = {
    "http1": (("--http1.1",), "HTTP/1.1"),
    "h2": (("--http2-prior-knowledge",), "HTTP/2"),
}


@pytest.fixture(scope="module")
def tls_server(session_servers: ServerFactory, certificate: Certificate) -> Server:
    return session_servers.make(ServerOptions(cores=1, tls=certificate)).start()


@pytest.mark.parametrize("protocol", CURL)
def test_every_operation_is_served_in_the_clear(
    server: Server, collection_name: str, protocol: str
) -> None:
    exercise(Curl(server, *CURL[protocol]).request, collection_name)


def test_every_operation_is_served_over_tls_as_http1(
    tls_server: Server, collection_name: str
) -> None:
    exercise(Curl(tls_server, *CURL["http1"]).request, collection_name)


def test_every_operation_is_served_over_tls_as_h2(tls_server: Server, collection_name: str) -> None:
    # curl offers both protocols, of which the server takes HTTP/1.1: this client offers h2 alone
    with h2(tls_server) as session:
        exercise(session.request, collection_name)


def exercise(call: Call, name: str) -> None:
    """Calls each operation once and looks at what came back."""

    def ok(method: str, path: str, body: Json | None = None, status: int = 200) -> Json:
        answer = call(method, path, body)
        assert answer.status == status, answer.body
        assert answer.header("content-type") == "application/json"
        assert answer.header("x-request-id")
        return answer.json()

    c = f"/v1/collections/{name}"
    made = ok("POST", "/v1/collections", {"name": name, "dimension": 2, "metric": "dot"}, 201)
    assert made["name"] == name
    assert name in [x["name"] for x in ok("GET", "/v1/collections")["collections"]]
    assert ok("GET", c)["dimension"] == 2
    assert ok("PATCH", c, {"description": "new"})["description"] == "new"
    a = {"id": "a", "vector": [1, 2], "metadata": {"n": 1}}
    assert ok("PUT", f"{c}/vectors", {"vectors": [a]})["upserted"] == 1
    assert ok("POST", f"{c}/vectors", {"vectors": [{"id": "b", "vector": [3, 4]}]})["inserted"] == 1
    update = {"vectors": [{"id": "b", "metadata": {"n": 2}}]}
    assert ok("PATCH", f"{c}/vectors", update)["updated"] == 1
    assert ok("GET", f"{c}/vectors/a")["vector"] == [1, 2]
    assert ok("POST", f"{c}/vectors/get", {"ids": ["b", "x"]})["missing"] == ["x"]
    assert [r["id"] for r in ok("POST", f"{c}/vectors/scroll", {})["records"]] == ["a", "b"]
    assert ok("POST", f"{c}/vectors/count", {"filter": {"n": {"$gt": 1}}})["count"] == 1
    hits = ok("POST", f"{c}/search", {"vector": [1, 1], "k": 2})["results"]
    assert [(hit["id"], hit["score"]) for hit in hits] == [("b", 7), ("a", 3)]
    both = ok("POST", f"{c}/search/batch", {"searches": [{"vector": [1, 0]}, {"id": "a"}]})
    assert [len(one["results"]) for one in both["results"]] == [2, 1]
    assert ok("DELETE", f"{c}/vectors/a")["deleted"] == 1
    assert ok("POST", f"{c}/vectors/delete", {"filter": {"n": 2}})["deleted"] == 1
    assert ok("DELETE", c)["deleted"] is True
    assert ok("GET", "/livez")["live"] is True
    assert ok("GET", "/readyz")["ready"] is True
    assert ok("GET", "/health")["status"] == "ok"
    assert ok("GET", "/v1/info")["version"]
    assert ok("GET", "/openapi.json")["openapi"].startswith("3.")
    metrics = call("GET", "/metrics")
    assert metrics.status == 200
    assert (metrics.header("content-type") or "").startswith("text/plain; version=0.0.4")
    missing = call("GET", c)
    assert missing.status == 404
    assert missing.error_code == "NOT_FOUND"


def test_alpn_prefers_http1_when_both_are_offered(tls_server: Server) -> None:
    assert negotiated(tls_server, ["h2", "http/1.1"]) == "http/1.1"
    assert negotiated(tls_server, ["http/1.1"]) == "http/1.1"
    assert negotiated(tls_server, ["h2"]) == "h2"


def test_a_client_without_alpn_gets_http1(tls_server: Server) -> None:
    assert tls_server.options.tls is not None
    context = tls_server.options.tls.client_context()
    with (
        connect(tls_server) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert secure.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


def test_cleartext_still_works_on_loopback_beside_tls(tls_server: Server) -> None:
    with connect(tls_server) as sock:
        sock.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


def test_tls_below_1_2_is_refused(tls_server: Server) -> None:
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{tls_server.rest_port}", "-tls1_1"],
        input=b"",
        capture_output=True,
        check=False,
    )
    assert done.returncode != 0


def test_every_listener_serves_both_protocols(server: Server) -> None:
    for port in server.ports:
        url = f"http://127.0.0.1:{port}/livez"
        for option, version in (("--http1.1", b"1.1"), ("--http2-prior-knowledge", b"2")):
            done = subprocess.run(
                ["curl", "-sS", option, "-o", "/dev/null", "-w", "%{http_version} %{http_code}"]
                + [url],
                capture_output=True,
                check=True,
            )
            assert done.stdout == version + b" 200"


def test_the_preface_may_come_byte_by_byte(server: Server) -> None:
    with connect(server) as sock:
        for byte in b"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n":
            sock.sendall(bytes([byte]))
        assert sock.recv(4096).startswith(b"HTTP/1.1 405 ")
    with connect(server) as sock:
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5):
            sock.sendall(bytes([byte]))
        assert sock.recv(9)[3] == 4  # SETTINGS, the server's preface


@pytest.mark.parametrize("protocol", ["h1", "h2", "h1-tls"])
def test_h2load_gets_an_answer_to_every_request(
    server: Server, tls_server: Server, protocol: str
) -> None:
    target = tls_server if protocol.endswith("tls") else server
    options = ["--npn-list=http/1.1"] if protocol.endswith("tls") else []
    options += ["--h1"] if protocol == "h1" else []
    command = ["h2load", "-n", "2000", "-c", "8", "-m", "10", *options, target.url + "/livez"]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=LIMIT_S)
    assert re.search(r"2000 succeeded, 0 failed, 0 errored, 0 timeout", done.stdout), done.stdout
    assert "status codes: 2000 2xx" in done.stdout
