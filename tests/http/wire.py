"""Clients below the REST client: bytes over a socket, and curl for the protocols Python lacks."""

import http.client
import io
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.lib.rest import Json, Response
from tests.lib.server import LIMIT_S, Server

POLL_S = 0.01


def eventually(
    what: str, condition: Callable[[], bool], limit_s: float = LIMIT_S, poll_s: float = POLL_S
) -> None:
    """Polls until the condition holds; how long it took is never the point."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(poll_s)


# ---- bytes ----


@contextmanager
def connect(server: Server, port: int | None = None) -> Iterator[socket.socket]:
    with socket.create_connection((server.host, port or server.rest_port), timeout=LIMIT_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


def read_response(sock: socket.socket) -> Response:
    """One HTTP/1.1 response. ConnectionError when the server closes instead."""
    answer = http.client.HTTPResponse(sock)
    try:
        answer.begin()
        body = answer.read()
    except (http.client.HTTPException, OSError) as error:
        raise ConnectionError(f"closed instead of answering: {error!r}") from error
    return Response(answer.status, answer.headers, body)


def raw(server: Server, request: bytes) -> Response:
    """The answer to bytes that are sent as they are, on a connection of their own."""
    with connect(server) as sock:
        sock.sendall(request)
        return read_response(sock)


def head(method: str, path: str, *headers: str, host: str = "localhost") -> bytes:
    """A request's head with its Host; further headers as whole lines."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
    return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n"


def closed_by_peer(sock: socket.socket, limit_s: float = LIMIT_S) -> bool:
    """True once the server has closed; what it sends before that is dropped."""
    sock.settimeout(limit_s)
    try:
        while sock.recv(1 << 16):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


# ---- curl ----


@dataclass(frozen=True, slots=True)
class Curl:
    """curl with the options that choose a protocol, and the version it must end up with."""

    server: Server
    options: tuple[str, ...]
    version: str

    def request(self, method: str, path: str, body: Json | bytes | None = None) -> Response:
        command = ["curl", "-sS", "-i", "--max-time", str(LIMIT_S), "-X", method, *self.options]
        if self.server.options.tls is not None:
            command += ["--cacert", str(self.server.options.tls.cert_path)]
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            command += ["-H", "content-type: application/json", "--data-binary", "@-"]
        done = subprocess.run(
            [*command, self.server.url + path], input=data, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return self._parse(done.stdout)

    def _parse(self, output: bytes) -> Response:
        top, _, body = output.partition(b"\r\n\r\n")
        line, _, fields = top.partition(b"\r\n")
        version, status = line.split()[:2]
        assert version.decode() == self.version
        headers = http.client.parse_headers(io.BytesIO(fields + b"\r\n\r\n"))
        return Response(int(status), headers, body)


def negotiated(server: Server, offered: list[str]) -> str | None:
    """What ALPN agrees on."""
    assert server.options.tls is not None
    context = server.options.tls.client_context()
    context.set_alpn_protocols(offered)
    with (
        connect(server) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        assert isinstance(secure, ssl.SSLSocket)
        return secure.selected_alpn_protocol()
