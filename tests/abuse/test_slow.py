"""Clients that are slow, silent or gone: limits end them, and others never notice."""

import contextlib
import json
import random
import socket
import struct

import pytest

from tests.abuse.guard import counted, guarded, many, patiently, sockets
from tests.http.h2 import DATA, END_HEADERS, HEADERS, PREFACE, frame, h2
from tests.http.wire import closed_by_peer, connect, eventually, head, read_response
from tests.lib.certificates import Certificate
from tests.lib.server import LIMIT_S, Server, ServerFactory, ServerOptions

CONFIG = """
[limits]
handshake_s = 1
header_s = 1
idle_s = 2
blocked_write_s = 1
connections_per_address = 1000
"""
JSON_TYPE = "Content-Type: application/json"


@pytest.fixture(scope="module")
def impatient(session_servers: ServerFactory, certificate: Certificate) -> Server:
    """One core and short limits; TLS beside cleartext."""
    options = ServerOptions(cores=1, config=CONFIG, tls=certificate)
    return session_servers.make(options).start()


@pytest.fixture(scope="module")
def patient(session_servers: ServerFactory, certificate: Certificate) -> Server:
    """The same with the usual limits: nobody is cut off for what his machine does."""
    return session_servers.make(ServerOptions(cores=1, tls=certificate)).start()


def exceeded(server: Server, limit: str) -> float:
    return counted(server, "proximadb_limit_exceeded_total", limit=limit)


SILENCES = (
    b"",
    b"P",
    PREFACE[:10],
    b"GET /livez HTTP/1.1\r\nHost: loc",
    b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 100,
    b"\x16\x03\x01\x02\x00",
    b"\x16",
)


def test_a_silent_client_is_cut_off(impatient: Server) -> None:
    """With nothing, or in the middle of a preface, a head or a handshake: all wait together."""
    with guarded(impatient), contextlib.ExitStack() as stack:
        clients = []
        for opening in SILENCES:
            sock = stack.enter_context(connect(impatient))
            sock.sendall(opening)
            clients.append(sock)
        for opening, sock in zip(SILENCES, clients, strict=True):
            assert closed_by_peer(sock), opening


def test_a_head_that_trickles_is_cut_off(impatient: Server) -> None:
    """One byte whenever the server has looked: progress alone is not enough."""
    with guarded(impatient), connect(impatient) as sock:
        sock.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n")
        sock.settimeout(0.2)

        def cut_off() -> bool:
            try:
                sock.sendall(b"X")
                return sock.recv(100) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        eventually("cut off", cut_off)


def idle_until_closed(server: Server) -> bool:
    """False: it was cut off before it was served, as its machine gave it no time."""
    with connect(server) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(head("GET", "/v1/info"))
        assert read_response(sock).status == 200
        return closed_by_peer(sock)
    return False


def test_an_idle_connection_is_closed(impatient: Server) -> None:
    before = exceeded(impatient, "idle")
    with guarded(impatient):
        eventually("served, then closed", lambda: idle_until_closed(impatient))
        eventually("closed for that", lambda: exceeded(impatient, "idle") > before)


def idle_until_goaway(server: Server) -> bool:
    """False: it was cut off before it was served."""
    with contextlib.suppress(OSError), h2(server) as session:
        assert session.request("GET", "/v1/info").status == 200
        assert session.until_goaway() in (0, None)
        return True
    return False


def test_an_idle_h2_connection_gets_goaway(impatient: Server) -> None:
    with guarded(impatient):
        eventually("served, then told to go", lambda: idle_until_goaway(impatient))


def test_a_client_that_reads_nothing_is_cut_off(impatient: Server) -> None:
    rows = [{"id": str(i), "vector": [0.123456 + i] * 4096} for i in range(200)]
    data = json.dumps({"vectors": rows}).encode()  # before a connection waits for it
    typed = {"content-type": "application/json"}
    patiently(impatient, lambda rest: rest.create_collection("long", 4096, "dot", sync="never"))
    target = "/v1/collections/long/vectors"
    assert patiently(impatient, lambda r: r.request("PUT", target, data, typed)).status == 200
    before = exceeded(impatient, "other")
    body = b'{"limit":200,"include":["vectors"]}'
    path = "/v1/collections/long/vectors/scroll"
    with guarded(impatient) as guard:
        with connect(impatient) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for _ in range(5):  # pipelined: more than any buffer between the two holds
                sock.sendall(head("POST", path, JSON_TYPE, f"Content-Length: {len(body)}") + body)
            eventually("cut off", lambda: exceeded(impatient, "other") > before)
            guard.answers()
        guard.small()


def test_many_slow_clients_do_not_stop_others(impatient: Server) -> None:
    openings = [
        b"GET /livez HTTP/1.1\r\nX-Slow: ",
        head("PUT", "/v1/collections/guarded/vectors", JSON_TYPE, "Content-Length: 1000") + b"{",
        PREFACE,
        b"\x16\x03\x01",
        b"",
    ]
    with guarded(impatient) as guard, many(impatient, 500) as socks:
        for i, sock in enumerate(socks):
            with contextlib.suppress(ConnectionError):
                sock.sendall(openings[i % len(openings)])
        for _ in range(20):
            guard.answers()
        guard.small()


def test_a_body_over_h2_that_never_comes_is_no_burden(patient: Server) -> None:
    with guarded(patient) as guard, h2(patient) as session:
        fields = [("content-type", "application/json"), ("content-length", "60000000")]
        for _ in range(90):
            stream = session.open_stream()
            block = session.head("PUT", "/v1/collections/guarded/vectors", fields)
            session.send(frame(HEADERS, END_HEADERS, stream, block), frame(DATA, 0, stream, b"{"))
        guard.answers()
        guard.small()


def test_half_open_and_reset_connections_leak_nothing(impatient: Server) -> None:
    with guarded(impatient):
        before = sockets(impatient)
        for turn in range(300):
            sock = socket.create_connection((impatient.host, impatient.rest_port), LIMIT_S)
            if turn % 3 == 0:
                sock.sendall(b"GET /li")
            elif turn % 3 == 1:
                sock.sendall(head("GET", "/livez"))
            linger = struct.pack("ii", 1, 0)  # close with RST
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            sock.close()
        eventually("closed", lambda: sockets(impatient) <= before)


def test_a_client_that_closes_its_side_is_answered(impatient: Server) -> None:
    with guarded(impatient), connect(impatient) as sock:
        sock.sendall(head("GET", "/livez"))
        sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            assert read_response(sock).status == 200


def test_bodies_in_flight_are_bounded(session_servers: ServerFactory) -> None:
    """More unfinished bodies than a core may hold: the largest go, the server stays small.

    Three bodies arrive between two looks, and each may be moved from 8 to 16 MiB just then: 72 MiB.
    Were they kept, the rounds would add up to 210 MiB.
    """
    config = '[limits]\nbody_bytes = "8MiB"\ninflight_body_bytes_per_core = "8MiB"\n'
    server = session_servers.make(ServerOptions(cores=1, config=config)).start()
    top = head("PUT", "/v1/collections/x/vectors", JSON_TYPE, "Content-Length: 8000000")
    part = b" " * (7 << 20)
    with guarded(server, 128 << 20) as guard, contextlib.ExitStack() as stack:
        for _ in range(10):  # 210 MiB in all, three bodies at a time
            before = exceeded(server, "inflight")
            for _ in range(3):
                sock = stack.enter_context(connect(server))
                with contextlib.suppress(OSError):
                    sock.sendall(top + part)
            eventually("cut off", lambda: exceeded(server, "inflight") > before)  # noqa: B023
            guard.small()


def test_random_bytes_never_harm(impatient: Server) -> None:
    rng = random.Random(42)
    with guarded(impatient):
        for _ in range(200):
            with connect(impatient) as sock, contextlib.suppress(OSError):
                start = rng.choice([b"", b"GET ", PREFACE, b"\x16\x03\x01", b"POST / HTTP/1.1\r\n"])
                sock.sendall(start + rng.randbytes(rng.randrange(1, 4000)))
                sock.shutdown(socket.SHUT_WR)
                sock.settimeout(0.05)
                sock.recv(1000)
