"""What HTTP asks of a server: routes, methods, headers, sizes, and the tricks of smugglers."""

import base64
import contextlib
import gzip
import json
import re
import threading

import numpy as np
import pytest

from tests.http.h2 import DATA, END_HEADERS, HEADERS, RST_STREAM, frame, h2
from tests.http.wire import closed_by_peer, connect, eventually, head, raw, read_response
from tests.lib.rest import RestClient
from tests.lib.server import Server, ServerFactory, ServerOptions, StartServer

COLLECTIONS = "/v1/collections"
JSON_TYPE = "Content-Type: application/json"


@pytest.fixture(scope="module")
def collection(session_server: Server) -> str:
    with RestClient(session_server) as rest:
        rest.create_collection("rules", 2, "dot")
        rest.upsert("rules", [{"id": "a", "vector": [1, 2]}])
    return "rules"


# ---- routes and methods ----


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/collection", "/v1/collections/", "/v1/collections/a/b", "/v2/info"]
    + ["/livez/", "/v1/collections//vectors", "/v1/collections/a/vectors/get/x", "/LIVEZ"],
)
def test_an_unknown_route_is_not_found(rest: RestClient, path: str) -> None:
    answer = rest.request("GET", path)
    assert (answer.status, answer.error_code) == (404, "NOT_FOUND")
    assert "/openapi.json" in answer.error_message


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/v1/collections", {"POST", "GET"}),
        ("POST", "/v1/collections/a", {"GET", "PATCH", "DELETE"}),
        ("GET", "/v1/collections/a/vectors", {"PUT", "POST", "PATCH"}),
        ("POST", "/livez", {"GET"}),
        ("PUT", "/v1/collections/a/search", {"POST"}),
        ("BREW", "/v1/info", {"GET"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    rest: RestClient, method: str, path: str, allow: set[str]
) -> None:
    answer = rest.request(method, path)
    assert (answer.status, answer.error_code) == (405, "UNIMPLEMENTED")
    assert set((answer.header("allow") or "").split(", ")) == allow


def test_no_get_changes_anything(rest: RestClient, collection: str) -> None:
    before = rest.get_collection(collection)
    for path in ("vectors/delete", "vectors/scroll", "search"):
        rest.request("GET", f"{COLLECTIONS}/{collection}/{path}")
    after = rest.get_collection(collection)
    assert (after["version"], after["record_count"]) == (before["version"], before["record_count"])


# ---- bodies ----


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
    + ["application/jsonx", "application/avro"],
)
def test_a_body_needs_its_content_type(
    rest: RestClient, collection: str, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    answer = rest.request("POST", f"{COLLECTIONS}/{collection}/vectors/count", b"{}", headers)
    assert (answer.status, answer.error_code) == (415, "INVALID_ARGUMENT")
    assert "application/json" in answer.error_message


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/json"]
)
def test_a_content_type_may_have_parameters(
    rest: RestClient, collection: str, content_type: str
) -> None:
    path = f"{COLLECTIONS}/{collection}/vectors/count"
    assert rest.request("POST", path, b"{}", {"content-type": content_type}).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "x"])
def test_a_compressed_body_is_refused(rest: RestClient, collection: str, encoding: str) -> None:
    headers = {"content-type": "application/json", "content-encoding": encoding}
    body = gzip.compress(b"{}")
    answer = rest.request("POST", f"{COLLECTIONS}/{collection}/vectors/count", body, headers)
    assert (answer.status, answer.error_code) == (415, "INVALID_ARGUMENT")
    assert "compressed" in answer.error_message


def test_chunked_bodies_are_read(server: Server, collection: str) -> None:
    top = head(
        "POST", f"{COLLECTIONS}/{collection}/vectors/count", JSON_TYPE, "Transfer-Encoding: chunked"
    )
    answer = raw(server, top + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n")
    assert answer.json() == {"count": 1}


def test_a_bad_chunk_is_refused(server: Server, collection: str) -> None:
    top = head(
        "POST", f"{COLLECTIONS}/{collection}/vectors/count", JSON_TYPE, "Transfer-Encoding: chunked"
    )
    for chunk in (b"x\r\n{}\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n"):
        with connect(server) as sock:
            sock.sendall(top + chunk)
            with contextlib.suppress(ConnectionError):  # closed is as good
                assert read_response(sock).status == 400


def test_pipelined_requests_are_answered_in_order(server: Server, collection: str) -> None:
    gets = [head("GET", path) for path in ("/livez", "/v1/nothing", f"{COLLECTIONS}/{collection}")]
    with connect(server) as sock:
        sock.sendall(b"".join(gets) + head("GET", "/livez", "Connection: close"))
        answers = b"".join(iter(lambda: sock.recv(1 << 16), b""))
    assert re.findall(rb"HTTP/1.1 (\d+) ", answers) == [b"200", b"404", b"200", b"200"]


def test_expect_continue_is_answered(server: Server, collection: str) -> None:
    top = head(
        *("POST", f"{COLLECTIONS}/{collection}/vectors/count", JSON_TYPE),
        *("Content-Length: 2", "Expect: 100-continue"),
    )
    with connect(server) as sock:
        sock.sendall(top)
        first = sock.recv(4096)
        if first.startswith(b"HTTP/1.1 100"):
            sock.sendall(b"{}")
            assert read_response(sock).status == 200
        else:
            assert first.startswith(b"HTTP/1.1 417")


# ---- sizes ----


@pytest.fixture(scope="module")
def small(session_servers: ServerFactory) -> Server:
    config = """
        [limits]
        body_bytes = "64KiB"
        url_bytes = 1024
        header_bytes = 4096
        headers = 50
        batch_records = 10
        k = 5
        batch_searches = 3
        scroll_records = 4
        filter_depth = 3
        filter_leaves = 4
        json_depth = 8
        id_bytes = 16
        metadata_bytes = 256
        dimension = 64
        collections = 2
    """
    server = session_servers.make(ServerOptions(config=config)).start()
    with RestClient(server) as rest:
        rest.create_collection("c", 2, "dot")
    return server


def test_limits_are_shown(small: Server) -> None:
    with RestClient(small) as rest:
        limits = rest.info()["limits"]
    assert limits["body_bytes"] == 65536
    assert limits["url_bytes"] == 1024
    assert limits["collections"] == 2


@pytest.mark.parametrize(
    ("path", "method", "body", "name"),
    [
        ("/c/vectors", "PUT", {"vectors": [{"vector": [1, 2]}] * 11}, "batch_records"),
        ("/c/vectors", "PUT", {"vectors": [{"id": "x" * 17, "vector": [1, 2]}]}, "id_bytes"),
        ("/c/vectors", "PUT", {"vectors": [{"metadata": {"t": "x" * 256}}]}, "metadata_bytes"),
        ("/c/search", "POST", {"vector": [1, 2], "k": 6}, "limits.k"),
        ("/c/vectors/scroll", "POST", {"limit": 5}, "scroll_records"),
        ("", "POST", {"name": "d", "dimension": 65, "metric": "dot"}, "limits.dimension"),
        ("/c/vectors/get", "POST", {"ids": ["x"] * 11}, "10"),
        ("/c/search/batch", "POST", {"searches": [{"vector": [1, 2]}] * 4}, "3"),
        ("/c/vectors/count", "POST", {"filter": {"$or": [{"a": i} for i in range(5)]}}, "4"),
        (
            *("/c/vectors/count", "POST"),
            *({"filter": {"$not": {"$not": {"$not": {"a": 1}}}}}, "deeper than 3"),
        ),
    ],
)
def test_a_configured_limit_holds(
    small: Server, path: str, method: str, body: dict[str, object], name: str
) -> None:
    with RestClient(small) as rest:
        answer = rest.request(method, COLLECTIONS + path, body)
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT"), answer.body
    assert name in answer.error_message


def test_too_many_collections_are_refused(small: Server) -> None:
    with RestClient(small) as rest:
        rest.create_collection("second", 2)
        body = {"name": "third", "dimension": 2, "metric": "dot"}
        answer = rest.request("POST", COLLECTIONS, body)
        assert (answer.status, answer.error_code) == (429, "RESOURCE_EXHAUSTED")
        assert answer.header("retry-after")
        rest.delete_collection("second")
        rest.create_collection("third", 2)
        rest.delete_collection("third")


def test_a_body_over_the_limit_is_refused_before_it_is_sent(small: Server) -> None:
    top = head("POST", f"{COLLECTIONS}/c/vectors/count", JSON_TYPE, "Content-Length: 65537")
    answer = raw(small, top)
    assert (answer.status, answer.error_code) == (413, "RESOURCE_EXHAUSTED")
    with h2(small) as session:
        fields = [("content-type", "application/json"), ("content-length", "65537")]
        block = session.head("POST", f"{COLLECTIONS}/c/vectors/count", fields)
        session.send(frame(HEADERS, END_HEADERS, 1, block))
        answer = session.response(1)
    assert (answer.status, answer.error_code) == (413, "RESOURCE_EXHAUSTED")


def test_chunks_over_the_limit_are_refused(small: Server) -> None:
    top = head("POST", f"{COLLECTIONS}/c/vectors/count", JSON_TYPE, "Transfer-Encoding: chunked")
    with connect(small) as sock:
        sock.sendall(top)
        for _ in range(9):
            sock.sendall(b"2000\r\n" + b" " * 0x2000 + b"\r\n")
        answer = read_response(sock)
    assert (answer.status, answer.error_code) == (413, "RESOURCE_EXHAUSTED")


def test_frames_over_the_limit_are_refused_over_h2(small: Server) -> None:
    with h2(small) as session:
        fields = [("content-type", "application/json")]
        block = session.head("POST", f"{COLLECTIONS}/c/vectors/count", fields)
        parts = [frame(DATA, 0, 1, b" " * 16000) for _ in range(5)]
        session.send(frame(HEADERS, END_HEADERS, 1, block), *parts[:4])
        session.send(parts[4])
        answer = session.response(1)
    assert (answer.status, answer.error_code) == (413, "RESOURCE_EXHAUSTED")


def test_a_body_of_exactly_the_limit_is_accepted(small: Server) -> None:
    with RestClient(small) as rest:
        body = b"{}" + b" " * (65536 - 2)
        headers = {"content-type": "application/json"}
        assert rest.request("POST", f"{COLLECTIONS}/c/vectors/count", body, headers).status == 200


def test_a_header_block_over_the_limit_is_refused(small: Server) -> None:
    answer = raw(small, head("GET", "/livez", "X-Filler: " + "x" * 4096))
    assert (answer.status, answer.error_code) == (431, "RESOURCE_EXHAUSTED")
    with h2(small) as session:
        stream = session.start("GET", "/livez", fields=[("x-filler", "x" * 4096)])
        answer = session.response(stream)
        assert (answer.status, answer.error_code) == (431, "RESOURCE_EXHAUSTED")
        assert session.request("GET", "/livez").status == 200


def test_too_many_header_fields_are_refused(small: Server) -> None:
    lines = [f"X-{i}: y" for i in range(60)]
    assert raw(small, head("GET", "/livez", *lines)).status in (400, 431)
    with h2(small) as session:
        stream = session.start("GET", "/livez", fields=[(f"x-{i}", "y") for i in range(60)])
        assert session.response(stream).status in (400, 431)


def test_a_url_over_the_limit_is_refused(small: Server) -> None:
    path = "/v1/collections?cursor=" + "x" * 1024
    answer = raw(small, head("GET", path))
    assert (answer.status, answer.error_code) == (414, "INVALID_ARGUMENT")
    with h2(small) as session:
        answer = session.request("GET", path)
    assert (answer.status, answer.error_code) == (414, "INVALID_ARGUMENT")


# ---- two views of one request ----


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 2", "Content-Length: 2"),
        ("Content-Length: 2", "Content-Length: 40"),
        ("Content-Length: 2", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 2"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: identity, chunked",),
        ("Transfer-Encoding: xchunked",),
        ("Content-Length: 2, 2",),
        ("Content-Length: +2",),
        ("Content-Length: -2",),
        ("Content-Length: 0x2",),
        ("Content-Length : 2",),
        ("Content-Length:\t2 2",),
    ],
    ids=lambda lines: " ".join(lines).replace(" ", ""),
)
def test_a_smuggler_is_refused_and_cut_off(
    server: Server, collection: str, lines: tuple[str, ...]
) -> None:
    top = head("POST", f"{COLLECTIONS}/{collection}/vectors/count", JSON_TYPE, *lines)
    hidden = head("DELETE", f"{COLLECTIONS}/{collection}/vectors/a")
    with connect(server) as sock:
        sock.sendall(top + b"0\r\n\r\n" + hidden)
        with contextlib.suppress(ConnectionError):
            assert read_response(sock).status in (400, 411, 501)
        assert closed_by_peer(sock)
    with RestClient(server) as rest:
        assert rest.get_one(collection, "a")["id"] == "a"


@pytest.mark.parametrize(
    "request_line", [b"GET /livez HTTP/9.9", b"GET", b"GET /livez", b"\x00\x01\x02", b"GET  /a b c"]
)
def test_a_malformed_request_line_is_refused(server: Server, request_line: bytes) -> None:
    with connect(server) as sock:
        sock.sendall(request_line + b"\r\nHost: localhost\r\n\r\n")
        try:
            assert read_response(sock).status in (400, 404, 405, 505)
        except ConnectionError:
            assert closed_by_peer(sock)


# ---- who may ask ----


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:5678", 200),
        ("127.0.0.1", 200),
        ("127.1.2.3:80", 200),
        ("[::1]:5678", 200),
        ("db.localhost", 200),
        ("evil.example", 403),
        ("evil.example:5678", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("[::2]", 403),
        ("10.0.0.1", 403),
        ("0.0.0.0", 403),
    ],
)
def test_a_rebound_name_is_refused(server: Server, host: str, status: int) -> None:
    for path in ("/v1/info", "/livez"):
        answer = raw(server, head("GET", path, host=host))
        assert answer.status == status
        if status == 403:
            assert answer.error_code == "PERMISSION_DENIED"


def test_a_rebound_authority_is_refused_over_h2(server: Server) -> None:
    with h2(server) as session:
        block = session.encoder.encode(
            [(":method", "GET"), (":scheme", "http"), (":path", "/v1/info")]
            + [(":authority", "evil.example")]
        )
        session.send(frame(HEADERS, END_HEADERS | 1, 1, block))
        answer = session.response(1)
    assert (answer.status, answer.error_code) == (403, "PERMISSION_DENIED")


# ---- request ids and deadlines ----


def test_the_callers_request_id_comes_back(rest: RestClient) -> None:
    for path in ("/livez", "/v1/nothing"):
        answer = rest.request("GET", path, headers={"x-request-id": "caller-1_A"})
        assert answer.header("x-request-id") == "caller-1_A"


@pytest.mark.parametrize("offered", ["", "a b", "x" * 200, "a\tb", "ä", '"quoted"'])
def test_a_request_id_that_could_harm_a_log_is_replaced(server: Server, offered: str) -> None:
    answer = raw(server, head("GET", "/livez", f"X-Request-Id: {offered}"))
    assert re.fullmatch(r"[0-9a-f]{16}", answer.header("x-request-id") or "")


def test_made_request_ids_differ(rest: RestClient) -> None:
    ids = {rest.request("GET", "/livez").header("x-request-id") for _ in range(100)}
    assert len(ids) == 100


@pytest.mark.parametrize("timeout", ["0", "1n", "0.000000001", "1u"])
def test_a_deadline_that_has_passed_ends_the_request(
    rest: RestClient, collection: str, timeout: str
) -> None:
    body = json.dumps({"vector": [1, 2]}).encode()
    headers = {"content-type": "application/json", "x-request-timeout": timeout}
    answer = rest.request("POST", f"{COLLECTIONS}/{collection}/search", body, headers)
    assert (answer.status, answer.error_code) == (504, "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("timeout", ["300", "300S", "5M", "1H", "300000m", "300.5"])
def test_a_deadline_that_is_far_changes_nothing(
    rest: RestClient, collection: str, timeout: str
) -> None:
    headers = {"content-type": "application/json", "x-request-timeout": timeout}
    path = f"{COLLECTIONS}/{collection}/vectors/count"
    assert rest.request("POST", path, b"{}", headers).status == 200


@pytest.mark.parametrize("timeout", ["soon", "-1", "1x", "S", "1 S", "1e3"])
def test_a_malformed_deadline_is_refused(rest: RestClient, timeout: str) -> None:
    answer = rest.request("GET", "/v1/info", headers={"x-request-timeout": timeout})
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT")


def test_a_late_write_is_not_done(rest: RestClient, collection: str) -> None:
    headers = {"content-type": "application/json", "x-request-timeout": "0"}
    body = json.dumps({"vectors": [{"id": "late", "vector": [1, 1]}]}).encode()
    path = f"{COLLECTIONS}/{collection}/vectors"
    assert rest.request("PUT", path, body, headers).status == 504
    assert rest.get(collection, ["late"])["missing"] == ["late"]


# ---- clients that leave ----


@pytest.fixture(scope="module")
def heavy(session_server: Server) -> str:
    """A collection that a batch of searches keeps a core busy with."""
    rng = np.random.default_rng(1)
    with RestClient(session_server) as rest:
        rest.create_collection("heavy", 256, "dot", sync="batch")
        for _ in range(4):
            block = rng.random((5000, 256), dtype=np.float32)
            packed = {"vectors": base64.b64encode(block.tobytes()).decode()}
            packed_body = {"packed": packed | {"ids": [str(rng.integers(1 << 62)) for _ in block]}}
            rest.call("PUT", f"{COLLECTIONS}/heavy/vectors", packed_body)
    return "heavy"


LIGHT_COUNT = 60


def heavy_body() -> bytes:
    """About a second of work on one core."""
    return json.dumps({"searches": [{"vector": [0.5] * 256, "k": 10}] * 400}).encode()


def test_a_client_that_leaves_stops_its_work(server: Server, heavy: str, rest: RestClient) -> None:
    def cancelled() -> float:
        text = rest.request("GET", "/metrics").body.decode()
        found = re.findall(
            r'^proximadb_http_requests_total\{.*search_batch.*status="499".*\} (\S+)$',
            text,
            re.MULTILINE,
        )
        return sum(float(value) for value in found)

    before = cancelled()
    body = heavy_body()
    path = f"{COLLECTIONS}/{heavy}/search/batch"
    # They share the core, so that none is done before the sweep has looked, however fast it is.
    for _ in range(16):
        with connect(server) as sock:
            sock.sendall(head("POST", path, JSON_TYPE, f"Content-Length: {len(body)}") + body)
    with h2(server) as session:
        fields = [("content-type", "application/json")]
        block = session.head("POST", path, fields)
        stream = session.open_stream()
        session.send(frame(HEADERS, END_HEADERS, stream, block))
        session.send(frame(RST_STREAM, 0, stream, (8).to_bytes(4, "big")))
        assert session.request("GET", "/livez").status == 200
    eventually("the calls of those who left are cancelled", lambda: cancelled() >= before + 4)
    assert rest.count(heavy) == 20000


def test_a_deadline_stops_long_work(server: Server, heavy: str, rest: RestClient) -> None:
    headers = {"content-type": "application/json", "x-request-timeout": "20m"}
    path = f"{COLLECTIONS}/{heavy}/search/batch"
    answer = rest.request("POST", path, heavy_body(), headers)
    assert (answer.status, answer.error_code) == (504, "DEADLINE_EXCEEDED")


def test_light_requests_are_answered_while_heavy_ones_run(server: Server, heavy: str) -> None:
    """Were they to wait, each core would be through with a heavy one before it answers a light."""
    enough = threading.Event()
    done = [0, 0]
    body = heavy_body()

    def load(index: int) -> None:
        with RestClient(server) as mine:
            headers = {"content-type": "application/json"}
            while not enough.is_set():
                mine.request("POST", f"{COLLECTIONS}/{heavy}/search/batch", body, headers)
                done[index] += 1

    workers = [threading.Thread(target=load, args=(index,)) for index in range(2)]
    for worker in workers:
        worker.start()
    with RestClient(server) as rest:
        for _ in range(LIGHT_COUNT):
            assert rest.request("GET", "/livez").status == 200
    enough.set()
    before = sum(done)
    for worker in workers:
        worker.join()
    assert before < LIGHT_COUNT // 2


# ---- CORS ----


def test_cors_is_off_unless_configured(rest: RestClient) -> None:
    origin = {"origin": "https://app.example.com"}
    answer = rest.request("GET", "/v1/info", headers=origin)
    assert answer.header("access-control-allow-origin") is None
    preflight = rest.request(
        "OPTIONS",
        COLLECTIONS,
        headers=origin | {"access-control-request-method": "POST"},
    )
    assert preflight.header("access-control-allow-origin") is None
    assert preflight.header("access-control-allow-methods") is None


def test_configured_origins_may_call(start_server: StartServer) -> None:
    server = start_server(env={"PROXIMADB_SERVER__CORS_ORIGINS": "https://app.example.com"})
    with RestClient(server) as rest:
        origin = {"origin": "https://app.example.com"}
        for path in ("/v1/info", "/v1/nothing"):
            answer = rest.request("GET", path, headers=origin)
            assert answer.header("access-control-allow-origin") == "https://app.example.com"
            assert answer.header("vary") == "origin"
            assert answer.header("access-control-expose-headers") == "x-request-id"
        preflight = rest.request(
            "OPTIONS",
            COLLECTIONS,
            headers=origin
            | {
                "access-control-request-method": "POST",
                "access-control-request-headers": "content-type",
            },
        )
        assert preflight.status == 204
        assert preflight.header("access-control-allow-origin") == "https://app.example.com"
        assert "POST" in (preflight.header("access-control-allow-methods") or "")
        assert "content-type" in (preflight.header("access-control-allow-headers") or "")
        other = rest.request("GET", "/v1/info", headers={"origin": "https://evil.example"})
        assert other.status == 200
        assert other.header("access-control-allow-origin") is None
    with h2(server) as session:
        stream = session.start("GET", "/v1/info", fields=[("origin", "https://app.example.com")])
        answer = session.response(stream)
        assert answer.header("access-control-allow-origin") == "https://app.example.com"


def test_a_star_allows_every_origin(start_server: StartServer) -> None:
    server = start_server(env={"PROXIMADB_SERVER__CORS_ORIGINS": "*"})
    with RestClient(server) as rest:
        answer = rest.request("GET", "/v1/info", headers={"origin": "https://any.example"})
        assert answer.header("access-control-allow-origin") in ("*", "https://any.example")


# ---- connections ----


def test_connections_of_one_address_are_limited(start_server: StartServer) -> None:
    server = start_server(env={"PROXIMADB_LIMITS__CONNECTIONS_PER_ADDRESS": "4"})
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            sock = stack.enter_context(connect(server))
            sock.sendall(head("GET", "/livez"))
            assert read_response(sock).status == 200
        fifth = stack.enter_context(connect(server))
        assert closed_by_peer(fifth)
    eventually("room again", lambda: answers(server))


def answers(server: Server) -> bool:
    try:
        return raw(server, head("GET", "/livez")).status == 200
    except ConnectionError:
        return False


def test_connection_close_is_kept(server: Server) -> None:
    with connect(server) as sock:
        sock.sendall(head("GET", "/livez", "Connection: close"))
        assert read_response(sock).status == 200
        assert closed_by_peer(sock)


def test_http_1_0_is_answered_and_closed(server: Server) -> None:
    with connect(server) as sock:
        sock.sendall(b"GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert read_response(sock).status == 200
        assert closed_by_peer(sock)


def test_h2c_upgrade_is_not_taken(server: Server) -> None:
    lines = (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
    )
    answer = raw(server, head("GET", "/livez", *lines))
    assert answer.status == 200
    assert answer.json() == {"live": True}
