"""What every abused server must still be: alive, answering others, and not larger than before."""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.http.prometheus import parse
from tests.http.wire import connect
from tests.lib.rest import RestClient
from tests.lib.server import Server

GROWTH_BYTES = 64 << 20
# AddressSanitizer keeps what is freed for a while, and maps more than any machine has
GROWTH_SANITIZED_BYTES = 640 << 20
SANITIZED_VIRTUAL_BYTES = 1 << 40
PAGE_BYTES = 4096


def memory_bytes(server: Server) -> tuple[int, int]:
    """Virtual and resident."""
    pages = Path(f"/proc/{server.pid}/statm").read_text().split()
    return int(pages[0]) * PAGE_BYTES, int(pages[1]) * PAGE_BYTES


def descriptors(server: Server) -> int:
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


def counted(server: Server, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels; 0 when it has none."""
    with RestClient(server) as rest:
        families = parse(rest.request("GET", "/metrics").body.decode())
    return families[name].value(**labels) if name in families else 0.0


@dataclass(slots=True)
class Guard:
    """Looks at a server while others abuse it."""

    server: Server
    before_bytes: int
    growth_bytes: int

    def answers(self) -> None:
        """An honest client, on a connection of its own, is served by whichever core gets it."""
        with RestClient(self.server) as rest:
            assert rest.count("guarded") == 1
            assert rest.search("guarded", vector=[1, 1])["results"][0]["id"] == "a"

    def small(self) -> None:
        virtual, resident = memory_bytes(self.server)
        grown = resident - self.before_bytes
        sanitized = virtual > SANITIZED_VIRTUAL_BYTES
        allowed = GROWTH_SANITIZED_BYTES if sanitized else self.growth_bytes
        assert grown <= allowed, f"grown by {grown >> 20} MiB"


@contextlib.contextmanager
def guarded(server: Server, growth_bytes: int = GROWTH_BYTES) -> Iterator[Guard]:
    """The server must answer inside the block and after it, and stay within its memory."""
    with RestClient(server) as rest:
        if rest.request("GET", "/v1/collections/guarded").status == 404:
            rest.create_collection("guarded", 2, "dot")
            rest.upsert("guarded", [{"id": "a", "vector": [1, 2]}])
    guard = Guard(server, memory_bytes(server)[1], growth_bytes)
    guard.answers()
    yield guard
    assert server.running
    guard.answers()
    guard.small()


def send_until_closed(sock: socket.socket, data: bytes, times: int) -> int:
    """Sends the same bytes again and again; how often, before the server closed."""
    sock.settimeout(2)
    for sent in range(times):
        try:
            sock.sendall(data)
        except (ConnectionError, TimeoutError):
            return sent
    return times


@contextlib.contextmanager
def many(server: Server, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connect(server)) for _ in range(count)]
