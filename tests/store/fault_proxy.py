"""An HTTP proxy before a real server that does to each request what a plan says.

A plan is a list of fault names, one a request; when it is used up, requests pass. What happened is
kept in `log`, so that tests can count attempts.
"""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.lib.server import LIMIT_S

PASS = "pass"
DROP = "drop"  # closes without asking the server
DROP_LATE = "drop late"  # the server does it, the client hears nothing
BUSY = "busy"  # 503 SlowDown
BUSY_LATE = "busy late"  # the server does it, the client hears 500
LIMITED = "limited"  # 429 with Retry-After: 0
CUT = "cut"  # the announced length, half the body
LIE = "lie"  # a shorter length, and only so much body
FLIP = "flip"  # one byte of the body changed
STALL = "stall"  # half the body, then nothing until the test ends
WHOLE = "whole"  # 200 where a range was asked for
REDIRECT = "redirect"  # 307 to a host that nobody must ask

SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>m</Message></Error>"
UNFORWARDED = ("connection", "keep-alive", "transfer-encoding", "content-length", "date", "server")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(slots=True)
class FaultProxy:
    target_port: int
    port: int = 0
    plan: list[str] = field(default_factory=list)
    log: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, fault
    before: dict[int, Callable[[], object]] = field(default_factory=dict)  # by number, from 1
    released: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self, method: str, path: str) -> str:
        with self.lock:
            fault = self.plan.pop(0) if self.plan else PASS
            self.log.append((method, path, fault))
            first = self.before.get(len(self.log))
        if first is not None:
            first()
        return fault

    def count(self, method: str) -> int:
        return sum(1 for m, _, _ in self.log if m == method)


def ask(proxy: FaultProxy, handler: BaseHTTPRequestHandler, body: bytes) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.target_port, timeout=LIMIT_S)
    connection.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
    for name, value in handler.headers.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    data = response.read()
    headers = [(k, v) for k, v in response.getheaders() if k.lower() not in UNFORWARDED]
    if handler.command == "HEAD":
        headers.append(("Content-Length", response.getheader("Content-Length", "0")))
    connection.close()
    return Answer(response.status, headers, data)


def handler_of(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(
            self, answer: Answer, length: int | None = None, sent: int | None = None
        ) -> None:
            self.send_response_only(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header(
                    "Content-Length", str(len(answer.body) if length is None else length)
                )
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[:sent])
                self.wfile.flush()

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            fault = proxy.next_fault(self.command, self.path)
            if fault == DROP:
                self.close_connection = True
                return
            if fault in (BUSY, LIMITED):
                retry = [("Retry-After", "0")] if fault == LIMITED else []
                self.answer(Answer(429 if fault == LIMITED else 503, retry, SLOW_DOWN))
                return
            if fault == REDIRECT:
                where = [("Location", "http://127.0.0.1:1/elsewhere")]
                self.answer(Answer(307, where, b""))
                return
            answer = ask(proxy, self, body)
            half = len(answer.body) // 2
            if fault == DROP_LATE:
                self.close_connection = True
            elif fault == BUSY_LATE:
                self.answer(Answer(500, [], SLOW_DOWN.replace(b"SlowDown", b"InternalError")))
            elif fault == CUT:
                self.answer(answer, sent=half)
                self.close_connection = True
            elif fault == LIE:
                self.answer(answer, length=half, sent=half)
                self.close_connection = True
            elif fault == FLIP:
                flipped = bytearray(answer.body)
                flipped[half] ^= 1
                self.answer(Answer(answer.status, answer.headers, bytes(flipped)))
            elif fault == WHOLE:
                others = [h for h in answer.headers if h[0].lower() != "content-range"]
                self.answer(Answer(200, others, answer.body))
            elif fault == STALL:
                self.answer(answer, sent=half)
                proxy.released.wait(LIMIT_S)
                self.close_connection = True
            else:
                self.answer(answer)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


class ProxyServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


@contextmanager
def fault_proxy(target_port: int) -> Iterator[FaultProxy]:
    proxy = FaultProxy(target_port)
    server = ProxyServer(("127.0.0.1", 0), handler_of(proxy))
    proxy.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
