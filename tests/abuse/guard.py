"""What every abused server must still be: alive, answering others, and not larger than before."""

import contextlib
import http.client
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.http.prometheus import parse
from tests.http.wire import connect
from tests.lib.rest import RestClient
from tests.lib.server import LIMIT_S, Server

T = TypeVar("T")
GROWTH_BYTES = 64 << 20
# AddressSanitizer keeps what is freed for a while, and maps more than any machine has
GROWTH_SANITIZED_BYTES = 640 << 20
SANITIZED_VIRTUAL_BYTES = 1 << 40
PAGE_BYTES = 4096
TRIES = 5
STALL_S = 10.0  # nothing is taken for so long: the server waits for a peer that does not read


def patiently(server: Server, ask: Callable[[RestClient], T]) -> T:
    """An honest client, who tries again.

    The servers here have short limits, and cut off whoever gets no time from his machine.
    """
    for _ in range(TRIES - 1):
        with contextlib.suppress(OSError, http.client.HTTPException), RestClient(server) as rest:
            return ask(rest)
    with RestClient(server) as rest:
        return ask(rest)


def memory_bytes(server: Server) -> tuple[int, int]:
    """Virtual and resident."""
    pages = Path(f"/proc/{server.pid}/statm").read_text().split()
    return int(pages[0]) * PAGE_BYTES, int(pages[1]) * PAGE_BYTES


def forget_peak(server: Server) -> None:
    """The most memory is what there is now."""
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")


def peak_bytes(server: Server) -> int:
    """The most resident memory since then."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def descriptors(server: Server) -> int:
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


def sockets(server: Server) -> int:
    """How many it has open; files are not counted, as the log opens its next one when it can."""
    found = 0
    for path in Path(f"/proc/{server.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found += path.readlink().name.startswith("socket:")
    return found


def counted(server: Server, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels; 0 when it has none."""
    text = patiently(server, lambda rest: rest.request("GET", "/metrics").body.decode())
    families = parse(text)
    return families[name].value(**labels) if name in families else 0.0


@dataclass(slots=True)
class Guard:
    """Looks at a server while others abuse it."""

    server: Server
    before_bytes: int
    growth_bytes: int

    def answers(self) -> None:
        """An honest client, on a connection of its own, is served by whichever core gets it."""

        def ask(rest: RestClient) -> None:
            assert rest.count("guarded") == 1
            assert rest.search("guarded", vector=[1, 1])["results"][0]["id"] == "a"

        patiently(self.server, ask)

    def small(self) -> None:
        self._allows(memory_bytes(self.server)[1], self.growth_bytes)

    def peaked_below(self, growth_bytes: int) -> None:
        """Since `forget_peak`."""
        self._allows(peak_bytes(self.server), growth_bytes)

    def _allows(self, resident: int, growth_bytes: int) -> None:
        grown = resident - self.before_bytes
        sanitized = memory_bytes(self.server)[0] > SANITIZED_VIRTUAL_BYTES
        allowed = GROWTH_SANITIZED_BYTES if sanitized else growth_bytes
        assert grown <= allowed, f"grown by {grown >> 20} MiB"


@contextlib.contextmanager
def guarded(server: Server, growth_bytes: int = GROWTH_BYTES) -> Iterator[Guard]:
    """The server must answer inside the block and after it, and stay within its memory."""

    def prepare(rest: RestClient) -> None:
        if rest.request("GET", "/v1/collections/guarded").status == 404:
            rest.create_collection("guarded", 2, "dot")
        rest.upsert("guarded", [{"id": "a", "vector": [1, 2]}])

    patiently(server, prepare)
    guard = Guard(server, memory_bytes(server)[1], growth_bytes)
    guard.answers()
    yield guard
    assert server.running
    guard.answers()
    guard.small()


def send_until_closed(sock: socket.socket, data: bytes, times: int) -> None:
    """Sends the same bytes again and again, until the server closes or takes no more."""
    sock.settimeout(STALL_S)
    with contextlib.suppress(ConnectionError, TimeoutError):
        for _ in range(times):
            sock.sendall(data)
    sock.settimeout(LIMIT_S)


@contextlib.contextmanager
def many(server: Server, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connect(server)) for _ in range(count)]
