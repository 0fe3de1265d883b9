"""A proxy that stands before a server and does to chosen requests what networks do."""

import socket
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from tests.lib.server import LIMIT_S

PIECE = 65536


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    number: int  # of all requests that came, from 0
    body: bytes


@dataclass(frozen=True, slots=True)
class Deed:
    """What becomes of a request. Nothing set: it is passed on, and so is its answer."""

    reply: bytes | None = None  # an answer of our own: head and body
    forward: bool = True
    answer_max: int | None = None  # so many bytes of the answer, then the connection ends
    then: Callable[[], None] = field(default=lambda: None)  # once those are sent, before the end


PASS = Deed()
Rule = Callable[[Request], Deed]


def answer(status: str, body: bytes, content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def _read_message(connection: socket.socket) -> tuple[bytes, bytes, bytes]:
    """Its head, what came of its body with that, and its length as bytes."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(PIECE)
        if not piece:
            return b"", b"", b"0"
        data += piece
    head, body = data.split(b"\r\n\r\n", 1)
    length = b"0"
    for line in head.split(b"\r\n")[1:]:
        name, value = line.split(b":", 1)
        if name.lower() == b"content-length":
            length = value.strip()
    return head, body, length


class Proxy:
    """`url` is where a client connects; `target` is asked for the server's port each time."""

    def __init__(self, target: Callable[[], int] | None, rule: Rule) -> None:
        self.target = target
        self.rule = rule
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                try:
                    while proxy._serve(self.request):
                        pass
                except OSError:
                    pass  # either side left

        class Listener(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._listener = Listener(("127.0.0.1", 0), Handler)
        self.url = f"127.0.0.1:{self._listener.server_address[1]}"
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(0.01,), daemon=True
        )

    def __enter__(self) -> "Proxy":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown()
        self._listener.server_close()

    def _serve(self, client: socket.socket) -> bool:
        head, body, length = _read_message(client)
        if not head:
            return False
        while len(body) < int(length):
            body += client.recv(PIECE)
        method, path = head.split(b" ", 2)[:2]
        with self._lock:
            request = Request(method.decode(), path.decode(), len(self.requests), body)
            self.requests.append(request)
        deed = self.rule(request)
        if deed.reply is not None:
            client.sendall(deed.reply)
            return True
        if not deed.forward:
            return False
        return self._forward(client, head + b"\r\n\r\n" + body, deed)

    def _forward(self, client: socket.socket, data: bytes, deed: Deed) -> bool:
        assert self.target is not None
        with socket.create_connection(("127.0.0.1", self.target()), timeout=LIMIT_S) as server:
            server.sendall(data)
            head, body, length = _read_message(server)
            if not head:
                return False
            left = len(head) + 4 + int(length)
            allowed = left if deed.answer_max is None else min(left, deed.answer_max)
            piece = head + b"\r\n\r\n" + body
            while left > 0 and piece:
                left -= len(piece)
                client.sendall(piece[:allowed])
                allowed -= min(allowed, len(piece))
                if deed.answer_max is not None and allowed == 0:
                    if deed.answer_max == 0 and left > 0:
                        piece = server.recv(PIECE)  # the server has answered whole
                        continue
                    break
                piece = server.recv(PIECE) if left > 0 else b""
        if deed.answer_max is None:
            return True
        deed.then()
        return False
