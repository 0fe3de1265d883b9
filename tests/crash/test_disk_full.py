"""A disk without room: writes get 507, reads and deletes go on, and room brings writes back."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.abuse.guard import descriptors
from tests.http.wire import connect, eventually, head
from tests.lib.rest import Json, Response, RestClient
from tests.lib.server import LIMIT_S, Server, ServerFactory, ServerOptions

CONFIG = """
[wal]
segment_bytes = "1MiB"
io_mode = "buffered"
"""
RECORD: Json = {"vector": [1] * 256, "metadata": {"text": "x" * 2000}}


@contextlib.contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A tmpfs of its own; skips where this user may not mount one."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def write(rest: RestClient, batch: int) -> Response:
    records = [{"id": f"{batch}/{i}"} | RECORD for i in range(50)]
    return rest.request("PUT", "/v1/collections/c/vectors", {"vectors": records})


def fill(rest: RestClient) -> int:
    """Writes until the server refuses; how many batches it took."""
    for batch in range(1000):
        answer = write(rest, batch)
        if answer.status != 200:
            assert (answer.status, answer.error_code) == (507, "RESOURCE_EXHAUSTED"), answer.body
            return batch
    raise AssertionError("the disk never became full")


@pytest.mark.parametrize("engine", ["uring", "threads"])
def test_a_full_disk_refuses_writes_and_nothing_else(
    server_factory: ServerFactory, tmp_path: Path, engine: str
) -> None:
    with small_disk(tmp_path / "disk", "24m") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(8 << 20))
        server = server_factory.make(ServerOptions(config=CONFIG, io_engine=engine))
        server.data_dir = disk / "data"
        server.start()
        with RestClient(server) as rest:
            rest.create_collection("c", 256, "dot")
            batches = fill(rest)
            assert batches > 10
            assert rest.count("c") == batches * 50
            assert len(rest.search("c", vector=[1] * 256, k=3)["results"]) == 3
            assert rest.get_one("c", "0/0")["id"] == "0/0"
            assert rest.delete("c", ids=["0/0"])["deleted"] == 1
            assert rest.request("GET", "/livez").status == 200
            eventually("unready", lambda: rest.request("GET", "/readyz").status == 503)
            ballast.unlink()
            eventually("resumed", lambda: write(rest, batches).status == 200)
            eventually("ready", lambda: rest.request("GET", "/readyz").status == 200)
            expected = rest.count("c")
        server.crash()
        with RestClient(server) as rest:
            assert rest.count("c") == expected == (batches + 1) * 50 - 1
            assert rest.get("c", ["0/0"])["missing"] == ["0/0"]
        assert server.stop() == 0


@pytest.mark.parametrize("engine", ["uring", "threads"])
def test_a_record_too_large_for_the_file_limit_is_refused(
    server_factory: ServerFactory, engine: str
) -> None:
    """RLIMIT_FSIZE: a batch larger than any file may be. SIGXFSZ must not end the server."""
    wrapper = ("prlimit", f"--fsize={2 << 20}")
    server = server_factory.make(
        ServerOptions(config=CONFIG, io_engine=engine, wrapper=wrapper)
    ).start()
    with RestClient(server) as rest:
        rest.create_collection("c", 256, "dot")
        assert write(rest, 0).status == 200
        large: Json = {"vectors": [{"id": f"l{i}"} | RECORD for i in range(1000)]}
        answer = rest.request("PUT", "/v1/collections/c/vectors", large)
        assert (answer.status, answer.error_code) == (507, "RESOURCE_EXHAUSTED"), answer.body
        assert rest.count("c") == 50
        eventually("small batches go on", lambda: write(rest, 1).status == 200)
    server.crash()
    with RestClient(server) as rest:
        assert rest.count("c") == 100


def test_few_descriptors_are_a_clear_end_or_enough(server_factory: ServerFactory) -> None:
    """With 64 descriptors connections run out; the server must survive that and recover."""
    server = server_factory.make(ServerOptions(wrapper=("prlimit", "--nofile=64"))).start()
    with contextlib.ExitStack() as stack:
        with RestClient(server) as rest:
            rest.create_collection("c", 1)
        answered = 0
        while answers(stack.enter_context(connect(server)), server):
            answered += 1
            assert answered < 64, "more connections than descriptors"
        assert answered > 10
    eventually("room again", lambda: responds(server))
    with RestClient(server) as rest:
        rest.upsert("c", [{"id": "a", "vector": [1]}])


def answers(sock: socket.socket, server: Server) -> bool:
    """False: the server has no descriptor left for this connection."""
    sock.sendall(head("GET", "/livez"))
    sock.settimeout(0.3)
    used_up = 0
    for _ in range(int(LIMIT_S / 0.3)):
        try:
            return sock.recv(12) == b"HTTP/1.1 200"
        except TimeoutError:  # it may only be slow: asked again while there are descriptors
            used_up += descriptors(server) >= 63
            if used_up > 3:
                return False
        except ConnectionError:
            return False
    raise AssertionError("neither an answer nor too few descriptors")


def responds(server: Server) -> bool:
    with RestClient(server, 10.0) as rest, contextlib.suppress(OSError):
        return rest.request("GET", "/livez").status == 200
    return False
