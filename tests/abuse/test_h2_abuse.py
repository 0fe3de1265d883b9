"""HTTP/2 attacks: each ends with GOAWAY or a closed connection, and costs the server nothing."""

import contextlib
import socket
from collections.abc import Callable

import pytest

from tests.abuse.guard import counted, forget_peak, guarded, send_until_closed, sockets
from tests.http.h2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FRAME_BYTES,
    GOAWAY,
    H2,
    HEADERS,
    INITIAL_WINDOW,
    INTERNAL_ERROR,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    h2,
    settings,
)
from tests.http.wire import connect, eventually
from tests.lib.rest import RestClient
from tests.lib.server import Server, ServerFactory, ServerOptions

CANCEL = (8).to_bytes(4, "big")
CONNECTIONS = 4


@pytest.fixture(scope="module")
def target(session_servers: ServerFactory) -> Server:
    """One core: an abuser and an honest client always meet there."""
    return session_servers.make(ServerOptions(cores=1)).start()


def ended(session: H2) -> int | None:
    """The GOAWAY's code, or None for a plain close. AssertionError when neither comes."""
    try:
        return session.until_goaway()
    except TimeoutError:
        raise AssertionError("the connection goes on") from None


def flood(session: H2, data: bytes, times: int) -> None:
    """Sends until the server has had enough; reads nothing meanwhile."""
    send_until_closed(session.sock, data, times)


def test_rapid_reset(target: Server) -> None:
    before = counted(target, "proximadb_h2_abuse_total", kind="reset")
    with guarded(target) as guard:
        for _ in range(CONNECTIONS):
            with h2(target) as session:
                block = session.head("GET", "/livez")
                for _ in range(40):
                    burst = []
                    for _ in range(100):
                        stream = session.open_stream()
                        burst.append(frame(HEADERS, END_HEADERS | END_STREAM, stream, block))
                        burst.append(frame(RST_STREAM, 0, stream, CANCEL))
                    try:
                        session.send(*burst)
                    except ConnectionError:
                        break
                # nghttp2's own limiter says INTERNAL_ERROR
                assert ended(session) in (INTERNAL_ERROR, ENHANCE_YOUR_CALM, None)
            guard.answers()
    assert counted(target, "proximadb_h2_abuse_total", kind="reset") >= before + CONNECTIONS


def test_rapid_reset_of_expensive_searches(target: Server) -> None:
    """A reset gives the stream back only when its work has ended: no backlog builds up."""
    with RestClient(target) as rest:
        rest.create_collection("wide", 64, "dot", sync="never")
        for start in range(0, 4000, 1000):
            rows = [{"id": str(start + i), "vector": [i] * 64} for i in range(1000)]
            rest.upsert("wide", rows)
    body = b'{"searches":[' + b",".join([b'{"vector":[' + b"1," * 63 + b"1]}"] * 20) + b"]}"
    with guarded(target) as guard:
        with h2(target) as session:
            fields = [("content-type", "application/json")]
            path = "/v1/collections/wide/search/batch"
            for _ in range(300):
                stream = session.open_stream()
                try:
                    session.send(
                        frame(HEADERS, END_HEADERS, stream, session.head("POST", path, fields)),
                        frame(DATA, END_STREAM, stream, body),
                        frame(RST_STREAM, 0, stream, CANCEL),
                    )
                except (ConnectionError, TimeoutError):
                    break
            guard.answers()
        guard.answers()


MADE_RESETS: dict[str, Callable[[int], list[bytes]]] = {
    "window-of-zero": lambda stream: [frame(WINDOW_UPDATE, 0, stream, bytes(4))],
    "window-overflow": lambda stream: [
        frame(WINDOW_UPDATE, 0, stream, (0x7FFFFFFF).to_bytes(4, "big"))
    ],
    "data-after-the-end": lambda stream: [frame(DATA, 0, stream, b"x")],
    "headers-after-the-end": lambda stream: [
        frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x82")
    ],
    "self-dependency": lambda stream: [frame(2, 0, stream, stream.to_bytes(4, "big") + b"\x10")],
}


@pytest.mark.parametrize("trick", MADE_RESETS)
def test_made_you_reset(target: Server, trick: str) -> None:
    """CVE-2025-8671: the peer makes the server reset streams: no limit of its own resets counts."""
    before = counted(target, "proximadb_h2_abuse_total")
    with guarded(target) as guard, h2(target) as session:
        for _ in range(3000):
            stream = session.open_stream()
            block = session.head("GET", "/v1/collections")
            request = frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
            try:
                session.send(request, *MADE_RESETS[trick](stream))
            except (ConnectionError, TimeoutError):
                break
        assert ended(session) != 0
        guard.answers()
    assert counted(target, "proximadb_h2_abuse_total") >= before


def test_continuation_flood(target: Server) -> None:
    with guarded(target), h2(target) as session:
        session.send(frame(HEADERS, 0, 1, session.head("GET", "/livez")))
        filler = session.encoder.encode([("x-filler", "y" * 1000)], huffman=False)
        flood(session, frame(CONTINUATION, 0, 1, filler), 20000)
        assert ended(session) != 0


def test_empty_continuation_flood(target: Server) -> None:
    before = counted(target, "proximadb_h2_abuse_total", kind="continuation")
    with guarded(target), h2(target) as session:
        session.send(frame(HEADERS, 0, 1, session.head("GET", "/livez")))
        flood(session, frame(CONTINUATION, 0, 1) * 100, 1000)
        assert ended(session) != 0
    assert counted(target, "proximadb_h2_abuse_total", kind="continuation") == before + 1


def test_hpack_bomb(target: Server) -> None:
    """One large entry of the table, referenced again and again: 4 MB of headers in 1 KB."""
    with guarded(target), h2(target) as session:
        session.encoder.encode([("x-bomb", "z" * 4000)])
        for _ in range(20):
            stream = session.open_stream()
            block = session.head("GET", "/livez", [("x-bomb", "z" * 4000)] * 1000)
            try:
                session.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, block))
                assert session.response(stream).status == 431
            except ConnectionError:
                break


def test_hpack_table_thrash(target: Server) -> None:
    with guarded(target), h2(target) as session:
        for i in range(300):
            fields = [(f"x-{i}-{j}", "v" * 500) for j in range(20)]
            try:
                assert session.response(session.start("GET", "/livez", fields=fields)).status == 200
            except ConnectionError:
                break


def test_bad_hpack_is_a_connection_error(target: Server) -> None:
    for block in (b"\xff\xff\xff\xff\xff\xff", b"\x80", b"\x3f\xff\xff\xff\xff", b"\x00\x85\xff"):
        with guarded(target), h2(target) as session:
            session.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
            assert ended(session) != 0


FLOODS = {
    "settings": settings((INITIAL_WINDOW, 65535)),
    "settings-empty": frame(SETTINGS),
    "ping": frame(PING, payload=bytes(8)),
    "ping-ack": frame(PING, ACK, payload=bytes(8)),
    "priority": frame(2, 0, 1, bytes(4) + b"\x10"),
    "window-update": frame(WINDOW_UPDATE, 0, 0, (1).to_bytes(4, "big")),
    "unknown-type": frame(0xAA, 0xFF, 0, bytes(100)),
    "unknown-setting": settings((0xAAAA, 1)),
    "goaway": frame(GOAWAY, 0, 0, bytes(8)),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_control_frame_flood(target: Server, kind: str) -> None:
    """The abuser never reads, so answers pile up if anything lets them."""
    with guarded(target) as guard, h2(target) as session:
        session.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        flood(session, FLOODS[kind] * 1000, 200)
        guard.answers()
        guard.small()


def test_settings_with_many_entries(target: Server) -> None:
    with guarded(target), h2(target) as session:
        session.send(settings(*[(INITIAL_WINDOW, 1000)] * 2000))
        assert ended(session) != 0


@pytest.mark.parametrize("padding", [False, True], ids=["empty", "padded"])
def test_empty_data_flood(target: Server, padding: bool) -> None:
    with guarded(target) as guard, h2(target) as session:
        fields = [("content-type", "application/json")]
        block = session.head("POST", "/v1/collections/guarded/search", fields)
        session.send(frame(HEADERS, END_HEADERS, 1, block))
        data = frame(DATA, 8, 1, b"\x00") if padding else frame(DATA, 0, 1)
        flood(session, data * 1000, 200)
        guard.answers()


def test_zero_window_holds_no_memory(target: Server) -> None:
    """Answers that the peer never lets through: bounded by its streams."""
    with guarded(target) as guard, h2(target, (INITIAL_WINDOW, 0)) as session:
        for _ in range(100):
            session.start("GET", "/openapi.json")
        guard.answers()
        guard.small()
        with contextlib.suppress(ConnectionError):  # more streams than allowed: cut off at last
            for _ in range(300):
                session.start("GET", "/openapi.json")
        guard.answers()


def test_an_answer_is_not_copied_for_a_window_that_lets_all_of_it_through(
    session_servers: ServerFactory,
) -> None:
    """Whoever opens his windows wide and reads nothing costs the 70 MB that are answered, and
    what it takes to make them; not 70 MB more."""
    env = {"PROXIMADB_LIMITS__BLOCKED_WRITE_S": "3600"}
    server = session_servers.make(ServerOptions(cores=1, env=env)).start()
    rows = [{"id": str(i), "vector": [0.123456 + i] * 4096} for i in range(200)]
    with RestClient(server) as rest:
        rest.create_collection("long", 4096, "dot", sync="never")
        for first in range(0, 1600, 200):
            rest.upsert("long", [row | {"id": f"{first}-{row['id']}"} for row in rows])
    body, path = b'{"limit":1600,"include":["vectors"]}', "/v1/collections/long/vectors/scroll"
    widest = 0x7FFFFFFF

    def answered() -> bool:
        name = "proximadb_http_requests_total"
        return counted(server, name, operation="scroll", status="200") >= 1

    with guarded(server) as guard, h2(server, (INITIAL_WINDOW, widest)) as session:
        forget_peak(server)
        session.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        session.send(frame(WINDOW_UPDATE, 0, 0, (widest - 65535).to_bytes(4, "big")))
        session.start("POST", path, body, [("content-type", "application/json")])
        eventually("answered", answered)
        guard.answers()
        guard.peaked_below(190 << 20)  # 148 MiB with the answer once, 223 and more with it twice


def test_a_window_of_one_byte_at_a_time(target: Server) -> None:
    with guarded(target) as guard, h2(target, (INITIAL_WINDOW, 0)) as session:
        stream = session.start("GET", "/openapi.json")
        one = frame(WINDOW_UPDATE, 0, stream, (1).to_bytes(4, "big"))
        session.send(one * 3000)
        guard.answers()
        got = 0
        for received in session.frames():
            got += len(received.payload) if received.kind == DATA else 0
            if got >= 3000:
                break
        assert got == 3000


def test_a_window_that_overflows_is_a_connection_error(target: Server) -> None:
    with guarded(target), h2(target) as session:
        session.send(frame(WINDOW_UPDATE, 0, 0, (0x7FFFFFFF).to_bytes(4, "big")) * 2)
        assert ended(session) == 3  # FLOW_CONTROL_ERROR


def test_a_body_beyond_the_window_is_a_connection_error(target: Server) -> None:
    with guarded(target), h2(target) as session:
        block = session.head("POST", "/v1/collections", [("content-type", "application/json")])
        session.send(frame(HEADERS, END_HEADERS, 1, block))
        flood(session, frame(DATA, 0, 1, b" " * FRAME_BYTES), 10000)
        # the server opens windows as it reads: the body's own limit is what ends this
        for received in session.frames():
            if received.kind in (GOAWAY, RST_STREAM) or received.flags & END_STREAM:
                break


MALFORMED = {
    "oversized-frame": b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "headers-on-stream-0": frame(HEADERS, END_HEADERS, 0, b"\x82"),
    "headers-on-an-even-stream": frame(HEADERS, END_HEADERS, 2, b"\x82"),
    "data-on-stream-0": frame(DATA, 0, 0, b"x"),
    "data-on-an-idle-stream": frame(DATA, 0, 99, b"x"),
    "reset-of-an-idle-stream": frame(RST_STREAM, 0, 99, CANCEL),
    "settings-of-5-bytes": frame(SETTINGS, payload=bytes(5)),
    "settings-on-a-stream": frame(SETTINGS, 0, 1),
    "settings-ack-with-payload": frame(SETTINGS, ACK, 0, bytes(6)),
    "ping-of-7-bytes": frame(PING, payload=bytes(7)),
    "window-update-of-3-bytes": frame(WINDOW_UPDATE, payload=bytes(3)),
    "push-promise": frame(5, END_HEADERS, 1, bytes(4) + b"\x82"),
    "continuation-alone": frame(CONTINUATION, END_HEADERS, 1, b"\x82"),
    "padding-beyond-the-frame": frame(DATA, 8, 1, b"\xff"),
    "initial-window-too-large": settings((INITIAL_WINDOW, 0x80000000)),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_frame_ends_the_connection(target: Server, kind: str) -> None:
    with guarded(target), h2(target) as session:
        session.send(MALFORMED[kind])
        assert ended(session) != 0


def test_a_wrong_preface_is_no_http2(target: Server) -> None:
    with guarded(target), connect(target) as sock:
        sock.sendall(PREFACE[:20] + b"XX\r\n\r\n")
        answer = sock.recv(4096)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize(
    "fields",
    [
        [(":method", "GET"), (":scheme", "http")],  # no path
        [(":method", "GET"), (":scheme", "http"), (":path", "")],
        [(":method", "GET"), (":method", "GET"), (":scheme", "http"), (":path", "/livez")],
        [(":method", "GET"), (":scheme", "http"), (":path", "/livez"), ("X-Upper", "y")],
        [(":method", "GET"), (":scheme", "http"), (":path", "/livez"), ("connection", "close")],
        [(":method", "GET"), (":scheme", "http"), (":path", "/livez"), ("te", "gzip")],
        [(":method", "GET"), (":scheme", "http"), (":path", "/livez"), (":status", "200")],
        [("x-first", "y"), (":method", "GET"), (":scheme", "http"), (":path", "/livez")],
        [(":method", "GET"), (":scheme", "http"), (":path", "/li vez\r\nx: y")],
    ],
)
def test_a_malformed_request_is_reset_and_others_go_on(
    target: Server, fields: list[tuple[str, str]]
) -> None:
    with guarded(target), h2(target) as session:
        block = session.encoder.encode(fields)
        session.send(frame(HEADERS, END_HEADERS | END_STREAM, session.open_stream(), block))
        try:
            assert session.response(1).status >= 400
        except ConnectionError:
            pass
        else:
            assert session.request("GET", "/livez").status == 200


def test_two_content_lengths_that_differ_from_the_body(target: Server) -> None:
    for length in ("1", "3"):
        with guarded(target), h2(target) as session:
            fields = [("content-type", "application/json"), ("content-length", length)]
            stream = session.start("POST", "/v1/collections/guarded/vectors/count", b"{}", fields)
            with pytest.raises(ConnectionError):
                session.response(stream)


def test_streams_over_the_limit_are_refused(target: Server) -> None:
    with guarded(target), h2(target) as session:
        fields = [("content-type", "application/json")]
        for _ in range(150):
            stream = session.open_stream()
            block = session.head("POST", "/v1/collections/guarded/search", fields)
            session.send(frame(HEADERS, END_HEADERS, stream, block))
        refused = 0
        for received in session.frames():
            refused += received.kind == RST_STREAM
            if received.kind == GOAWAY or refused >= 50:
                break
        assert refused >= 50


# ---- gRPC ----


def grpc_stream(session: H2, method: str) -> int:
    stream = session.open_stream()
    fields = [("content-type", "application/grpc"), ("te", "trailers")]
    block = session.head("POST", f"/proximadb.v1.ProximaDB/{method}", fields)
    session.send(frame(HEADERS, END_HEADERS, stream, block))
    return stream


def grpc_status(session: H2, stream: int) -> int:
    """Reads a call to its end."""
    for received in session.frames():
        if received.kind == HEADERS and received.stream == stream:
            fields = {str(k): str(v) for k, v in session.decoder.decode(received.payload)}
            if "grpc-status" in fields:
                return int(fields["grpc-status"])
        if received.kind in (RST_STREAM, GOAWAY):
            raise ConnectionError(f"reset: {received.error}")
    raise ConnectionError("closed instead of a status")


def test_a_grpc_length_of_4_gib_is_refused_from_its_prefix(target: Server) -> None:
    with guarded(target) as guard, h2(target) as session:
        stream = grpc_stream(session, "Search")
        session.send(frame(DATA, 0, stream, b"\x00\xff\xff\xff\xff"))
        assert grpc_status(session, stream) == 8  # RESOURCE_EXHAUSTED
        guard.small()
        assert session.request("GET", "/livez").status == 200


def test_a_grpc_length_that_never_comes_costs_nothing(target: Server) -> None:
    """64 MiB announced on 90 streams of 4 connections: what is not there takes no memory."""
    with guarded(target) as guard:
        for _ in range(CONNECTIONS):
            with h2(target) as session:
                for _ in range(90):
                    stream = grpc_stream(session, "Upsert")
                    session.send(frame(DATA, 0, stream, b"\x00\x04\x00\x00\x00" + b"x"))
                session.request("GET", "/livez")
                guard.small()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 3),
        (b"\x00\x00\x00", 3),
        (b"\x00\x00\x00\x00\x05abc", 3),
        (b"\x01\x00\x00\x00\x01a", 12),
        (b"\x00\x00\x00\x00\x02\xff\xff", 3),
        (b"\x00\x00\x00\x00\x00" * 2, 3),
    ],
    ids=["nothing", "half-prefix", "half-message", "compressed", "bad-protobuf", "two-messages"],
)
def test_bad_grpc_framing_gets_a_status(target: Server, data: bytes, status: int) -> None:
    with guarded(target), h2(target) as session:
        stream = grpc_stream(session, "Count")
        session.send(frame(DATA, END_STREAM, stream, data))
        assert grpc_status(session, stream) == status
        assert session.request("GET", "/livez").status == 200


def test_an_unknown_grpc_method_is_unimplemented(target: Server) -> None:
    with guarded(target), h2(target) as session:
        stream = grpc_stream(session, "Drop")
        assert grpc_status(session, stream) == 12


def test_grpc_one_byte_at_a_time(target: Server) -> None:
    message = b"\x0a\x07guarded"  # CountRequest{collection: "guarded"}
    data = b"\x00" + len(message).to_bytes(4, "big") + message
    with guarded(target), h2(target) as session:
        stream = grpc_stream(session, "Count")
        for byte in data:
            for part in frame(DATA, 0, stream, bytes([byte])):
                session.send(bytes([part]))
        session.send(frame(DATA, END_STREAM, stream))
        assert grpc_status(session, stream) == 0


def test_a_reset_call_leaves_no_stream_behind(target: Server) -> None:
    """Far more calls than streams are allowed: each one that is reset must free its place."""
    with guarded(target), h2(target) as session:
        for _ in range(300):
            stream = grpc_stream(session, "BulkUpsert")
            session.send(frame(RST_STREAM, 0, stream, CANCEL))
        assert session.request("GET", "/livez").status == 200


def test_abuse_leaves_no_sockets(target: Server) -> None:
    before = sockets(target)
    for _ in range(50):
        with h2(target) as session:
            session.send(MALFORMED["ping-of-7-bytes"])
            session.until_goaway()
    eventually("closed", lambda: sockets(target) <= before)
