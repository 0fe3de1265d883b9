"""HTTP/2 by hand: frames that no well-behaved client would send, and enough to be one."""

import http.client
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import hpack

from tests.http.wire import connect
from tests.lib.rest import Json, Response
from tests.lib.server import LIMIT_S, Server

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    *(0, 1, 3, 4, 6, 7, 8, 9),
)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW = 4  # a SETTINGS identifier
INTERNAL_ERROR, ENHANCE_YOUR_CALM = 2, 11
WINDOW = 65535
FRAME_BYTES = 16384
Fields = Sequence[tuple[str, str]]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def settings(*pairs: tuple[int, int]) -> bytes:
    payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in pairs)
    return frame(SETTINGS, payload=payload)


@dataclass(frozen=True, slots=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def error(self) -> int:
        """The code of a RST_STREAM or GOAWAY."""
        at = 0 if self.kind == RST_STREAM else 4
        return int.from_bytes(self.payload[at : at + 4], "big")


@dataclass(slots=True)
class H2:
    """A connection. Windows, limits and states are the caller's to keep or to violate."""

    sock: socket.socket
    encoder: hpack.Encoder = field(default_factory=hpack.Encoder)
    decoder: hpack.Decoder = field(default_factory=hpack.Decoder)
    next_stream: int = 1
    pending: bytearray = field(default_factory=bytearray)

    def send(self, *frames: bytes) -> None:
        self.sock.sendall(b"".join(frames))

    def head(self, method: str, path: str, fields: Fields = (), scheme: str = "http") -> bytes:
        """A header block for a request."""
        pseudo = [(":method", method), (":scheme", scheme), (":path", path)]
        return bytes(self.encoder.encode([*pseudo, (":authority", "localhost"), *fields]))

    def open_stream(self) -> int:
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        return stream

    def _take(self, size: int) -> bytes | None:
        while len(self.pending) < size:
            more = self.sock.recv(1 << 16)
            if not more:
                return None
            self.pending += more
        taken = bytes(self.pending[:size])
        del self.pending[:size]
        return taken

    def read(self) -> Frame | None:
        """The next frame; None when the server has closed the connection."""
        try:
            top = self._take(9)
            if top is None:
                return None
            payload = self._take(int.from_bytes(top[:3], "big"))
        except ConnectionError:
            return None
        if payload is None:
            return None
        return Frame(top[3], top[4], int.from_bytes(top[5:9], "big") & 0x7FFFFFFF, payload)

    def frames(self) -> Iterator[Frame]:
        """Frames until the server closes."""
        while (received := self.read()) is not None:
            yield received

    def until_goaway(self) -> int | None:
        """The code of the first GOAWAY, or None when the connection just ended."""
        return next((f.error for f in self.frames() if f.kind == GOAWAY), None)

    def response(self, stream: int) -> Response:
        """Reads a stream to its end. ConnectionError if it is reset or the connection ends."""
        fields: list[tuple[str, str]] = []
        body = bytearray()
        for received in self.frames():
            if received.kind == SETTINGS and received.flags & ACK == 0:
                self.send(frame(SETTINGS, ACK))
            if received.kind == HEADERS:  # the decoder's table needs every block
                block = [(str(k), str(v)) for k, v in self.decoder.decode(received.payload)]
                if received.stream == stream:
                    fields += block
            if received.kind == GOAWAY and received.error != 0:
                raise ConnectionError(f"GOAWAY {received.error}")
            if received.kind == DATA and received.payload:
                size = len(received.payload).to_bytes(4, "big")
                self.send(frame(WINDOW_UPDATE, 0, 0, size))
                if received.flags & END_STREAM == 0:
                    self.send(frame(WINDOW_UPDATE, 0, received.stream, size))
            if received.stream != stream:
                continue
            if received.kind == RST_STREAM:
                raise ConnectionError(f"RST_STREAM {received.error}")
            if received.kind == DATA:
                body += received.payload
            if received.kind in (DATA, HEADERS) and received.flags & END_STREAM != 0:
                return _response(fields, bytes(body))
        raise ConnectionError("closed instead of answering")

    def start(self, method: str, path: str, body: bytes | None = None, fields: Fields = ()) -> int:
        """Sends a request and returns its stream; the body must fit the first window."""
        stream = self.open_stream()
        last = END_STREAM if body is None else 0
        frames = [frame(HEADERS, END_HEADERS | last, stream, self.head(method, path, fields))]
        if body is not None:
            parts = [body[i : i + FRAME_BYTES] for i in range(0, len(body), FRAME_BYTES)] or [b""]
            frames += [frame(DATA, 0, stream, part) for part in parts[:-1]]
            frames.append(frame(DATA, END_STREAM, stream, parts[-1]))
        self.send(*frames)
        return stream

    def request(self, method: str, path: str, body: Json | bytes | None = None) -> Response:
        fields: list[tuple[str, str]] = []
        if isinstance(body, dict):
            body = json.dumps(body).encode()
            fields = [("content-type", "application/json")]
        return self.response(self.start(method, path, body, fields))


def _response(fields: Fields, body: bytes) -> Response:
    headers = http.client.HTTPMessage()
    for name, value in fields:
        headers[name] = value
    return Response(int(headers[":status"]), headers, body)


@contextmanager
def h2(server: Server, *pairs: tuple[int, int]) -> Iterator[H2]:
    """A connection whose preface and SETTINGS have been sent; over TLS if the server has it."""
    with connect(server) as plain:
        sock = plain
        if server.options.tls is not None:
            context = server.options.tls.client_context()
            context.set_alpn_protocols(["h2"])
            sock = context.wrap_socket(plain, server_hostname="localhost")
        sock.settimeout(LIMIT_S)
        session = H2(sock)
        session.send(PREFACE, settings(*pairs))
        yield session
