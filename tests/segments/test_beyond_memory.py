"""Vectors that stay in their files: answers after the page cache was emptied, and a collection that
is larger than the memory the server may use."""

import base64
import ctypes
import mmap
import os
import re
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.http.wire import eventually
from tests.lib.rest import RestClient
from tests.lib.server import LIMIT_S, Server, ServerFactory, ServerOptions
from tests.segments.made import CONFIG as SMALL
from tests.segments.made import check_all, create, fill, folder_of, metric

Matrix = npt.NDArray[np.float32]

LIMIT_MIB = 64
TIMES = int(os.environ.get("BEYOND_MEMORY", "2"))  # `make large`: 4
DIMENSION = 768
BATCH = 500
CONFIG = f"""
[storage]
memory_limit = "{LIMIT_MIB}MiB"
flush_bytes = "8MiB"

[wal]
segment_bytes = "4MiB"
max_bytes = "16MiB"
"""
# What the limit does not count: stacks, buffers of connections, a merge's row group on its worker.
BESIDE_MIB = 96
# AddressSanitizer keeps what is freed for a while, and maps more than any machine has.
BESIDE_SANITIZED_MIB = 640
SANITIZED_VIRTUAL_KIB = 1 << 30


# ---- the page cache ----


def resident_pages(path: Path) -> int:
    """How many of a file's pages are in the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    size = path.stat().st_size
    with path.open("rb") as file, mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE) as view:
        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        pages = -(-size // mmap.PAGESIZE)
        flags = (ctypes.c_ubyte * pages)()
        result = libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), flags)
        assert result == 0, os.strerror(ctypes.get_errno())
        return sum(flag & 1 for flag in flags)


def evict(folder: Path) -> None:
    """The Parquet files below leave the page cache; skips where they do not."""
    for path in folder.rglob("*.parquet"):
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)
        if resident_pages(path) != 0:
            pytest.skip(f"the file system of {folder} keeps its pages in memory")


@pytest.mark.parametrize("engine", ["uring", "threads"])
@pytest.mark.parametrize("vectors", ["mmap", "disk"])
def test_answers_are_right_when_no_page_is_in_memory(
    server_factory: ServerFactory, vectors: str, engine: str
) -> None:
    server = server_factory.make(ServerOptions(config=SMALL, io_engine=engine)).start()
    with RestClient(server) as rest:
        model = create(rest, "c", 128, vectors=vectors, compression="none")
        fill(server, rest, model, segments=6)
    assert server.stop() == 0
    for seed in range(3):
        evict(server.data_dir)
        server.start()
        read_before = metric(server, "io_ops_total", op="read")
        with RestClient(server) as rest:
            check_all(rest, model, seed)
            paths = list(folder_of(server, rest, "c").glob("*.parquet"))
        if vectors == "disk":
            assert metric(server, "io_ops_total", op="read") > read_before
        assert paths
        assert server.stop() == 0


# ---- more than there is memory for ----


def anonymous_mib(server: Server) -> float:
    status = Path(f"/proc/{server.pid}/status").read_text()
    match = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    assert match is not None
    return int(match.group(1)) / 1024


def memory_bound_mib(server: Server) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text()
    match = re.search(r"^VmSize:\s+(\d+) kB$", status, re.MULTILINE)
    assert match is not None
    sanitized = int(match.group(1)) > SANITIZED_VIRTUAL_KIB
    return LIMIT_MIB + (BESIDE_SANITIZED_MIB if sanitized else BESIDE_MIB)


def put(rest: RestClient, matrix: Matrix, first: int) -> None:
    """One batch; refusals for want of memory are temporary, as flushes give it back."""
    part = matrix[first : first + BATCH]
    body = {
        "packed": {
            "ids": [f"{i:06}" for i in range(first, first + len(part))],
            "vectors": base64.b64encode(part.astype("<f4").tobytes()).decode(),
        }
    }
    deadline = time.monotonic() + LIMIT_S  # flushes wait for a merge on their worker
    while True:
        answer = rest.request("PUT", "/v1/collections/c/vectors", body)
        if answer.status == 200:
            return
        assert answer.error_code == "RESOURCE_EXHAUSTED", answer.body
        assert time.monotonic() < deadline, answer.body
        time.sleep(0.05)


def check_some(rest: RestClient, matrix: Matrix, seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert rest.count("c") == len(matrix)
    for _ in range(3):
        query = rng.standard_normal(DIMENSION, dtype=np.float32)
        distances = ((matrix - query) ** 2).sum(axis=1, dtype=np.float64)
        expected = [f"{i:06}" for i in np.argsort(distances)[:10]]
        hits = rest.search("c", vector=query.tolist(), k=10, include=["vectors"])["results"]
        assert [hit["id"] for hit in hits] == expected
        for hit in hits:
            assert np.array_equal(np.float32(hit["vector"]), matrix[int(hit["id"])])
    chosen = rng.integers(0, len(matrix), 50)
    records = rest.get("c", [f"{i:06}" for i in chosen])["records"]
    for i, one in zip(chosen, records, strict=True):
        assert np.array_equal(np.float32(one["vector"]), matrix[i])


@pytest.mark.timeout(1800)
def test_a_collection_larger_than_the_memory_loads_serves_and_starts_again(
    server_factory: ServerFactory,
) -> None:
    rows = TIMES * LIMIT_MIB * (1 << 20) // (DIMENSION * 4)
    rows -= rows % BATCH
    matrix = np.random.default_rng(1).standard_normal((rows, DIMENSION), dtype=np.float32)
    server = server_factory.make(ServerOptions(config=CONFIG)).start()
    most = 0.0
    with RestClient(server) as rest:
        rest.create_collection("c", DIMENSION, "euclidean", storage={"vectors": "disk"})
        for first in range(0, rows, BATCH):
            put(rest, matrix, first)
            most = max(most, anonymous_mib(server))
        check_some(rest, matrix, 0)
        most = max(most, anonymous_mib(server))
    print(f"loading: {most:.0f} MiB anonymous")
    assert most < memory_bound_mib(server)
    for seed, start in enumerate((server.crash, server.restart), start=1):
        start()
        most = anonymous_mib(server)
        with RestClient(server) as rest:
            check_some(rest, matrix, seed)
            eventually("ready", lambda: rest.request("GET", "/readyz").status == 200)
        most = max(most, anonymous_mib(server))
        print(f"start {seed}: {most:.0f} MiB anonymous")
        assert most < memory_bound_mib(server)
