"""Vectors that stay in their files: answers after the page cache was emptied, and a collection that
is larger than the memory the server may use."""

import base64
import ctypes
import mmap
import os
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.http.wire import eventually
from tests.lib.rest import Json, RestClient
from tests.lib.server import LIMIT_S, Server, ServerFactory, ServerOptions
from tests.segments.made import CONFIG as SMALL
from tests.segments.made import check_all, create, fill, folder_of, metric

Matrix = npt.NDArray[np.float32]

LIMIT_MIB = 64
TIMES = int(os.environ.get("BEYOND_MEMORY", "4"))
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
# What is freed goes back at once: the allocator keeps it for seconds, for each thread, and then
# tells of the pace of flushes and merges rather than of what the server holds.
PROMPT = {"MIMALLOC_DECOMMIT_DELAY": "0", "MIMALLOC_PURGE_DELAY": "0"}
# What the limit does not count (docs/operating/configuration.md): requests, stacks, the allocator.
BESIDE_MIB = 32
# AddressSanitizer keeps what is freed for a while, and maps more than any machine has.
BESIDE_SANITIZED_MIB = 640
SANITIZED_VIRTUAL_KIB = 1 << 30
REFUSED_MAX = 100  # in a row: it is full
QUERIES = 8
EXACT_QUERIES = 3
RECALL_MIN = 0.8  # of so few queries; what is aimed at is 0.97


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


def memtable_mib(rest: RestClient) -> float:
    rows = rest.call("GET", "/v1/collections/c")["stats"]["memtable_rows"]
    return int(rows) * DIMENSION * 4 / (1 << 20)


def batch_of(matrix: Matrix, first: int) -> Json:
    part = matrix[first : first + BATCH]
    return {
        "packed": {
            "ids": [f"{i:06}" for i in range(first, first + len(part))],
            "vectors": base64.b64encode(part.astype("<f4").tobytes()).decode(),
        }
    }


def put(rest: RestClient, body: Json, refused_max: int | None = None) -> bool:
    """One batch; refusals for want of memory are temporary, as flushes give it back. False: there
    were `refused_max` of them in a row."""
    deadline = time.monotonic() + LIMIT_S
    refused = 0
    while True:
        answer = rest.request("PUT", "/v1/collections/c/vectors", body)
        if answer.status == 200:
            return True
        assert answer.error_code == "RESOURCE_EXHAUSTED", answer.body
        refused += 1
        if refused == refused_max:
            return False
        assert time.monotonic() < deadline, answer.body
        time.sleep(0.05)


def check_some(rest: RestClient, matrix: Matrix, seed: int) -> None:
    """Exact searches find what is nearest; others most of it, as there may be indexes by now."""
    rng = np.random.default_rng(seed)
    assert rest.count("c") == len(matrix)
    found = 0
    for number in range(QUERIES):
        query = rng.standard_normal(DIMENSION, dtype=np.float32)
        distances = ((matrix - query) ** 2).sum(axis=1, dtype=np.float64)
        expected = [f"{i:06}" for i in np.argsort(distances)[:10]]
        search = {"vector": query.tolist(), "k": 10, "include": ["vectors"]}
        hits = rest.search("c", **search)["results"]
        found += len({hit["id"] for hit in hits} & set(expected))
        for hit in hits:
            assert np.array_equal(np.float32(hit["vector"]), matrix[int(hit["id"])])
        if number < EXACT_QUERIES:
            hits = rest.search("c", params={"exact": True}, **search)["results"]
            assert [hit["id"] for hit in hits] == expected
    assert found >= RECALL_MIN * 10 * QUERIES
    chosen = rng.integers(0, len(matrix), 50)
    records = rest.get("c", [f"{i:06}" for i in chosen])["records"]
    for i, one in zip(chosen, records, strict=True):
        assert np.array_equal(np.float32(one["vector"]), matrix[i])


def made(times: float) -> Matrix:
    rows = int(times * LIMIT_MIB * (1 << 20)) // (DIMENSION * 4)
    rows -= rows % BATCH
    return np.random.default_rng(1).standard_normal((rows, DIMENSION), dtype=np.float32)


class Peak:
    """The most anonymous memory that was seen."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.mib = 0.0

    def look(self) -> None:
        self.mib = max(self.mib, anonymous_mib(self.server))

    def check(self, what: str) -> None:
        self.look()
        print(f"{what}: {self.mib:.0f} MiB anonymous")
        assert self.mib < memory_bound_mib(self.server)
        self.mib = 0.0


def load(server: Server, peak: Peak, matrix: Matrix, first: int, end: int) -> None:
    with RestClient(server) as rest:
        for at in range(first, end, BATCH):
            assert put(rest, batch_of(matrix, at))
            peak.look()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("vectors", ["disk", "mmap"])
def test_a_collection_larger_than_the_memory_loads_serves_and_starts_again(
    server_factory: ServerFactory, vectors: str
) -> None:
    matrix = made(TIMES)
    server = server_factory.make(ServerOptions(config=CONFIG, env=PROMPT)).start()
    peak = Peak(server)
    middle = len(matrix) // 2 // BATCH * BATCH
    with RestClient(server) as rest:
        rest.create_collection("c", DIMENSION, "euclidean", storage={"vectors": vectors})
    load(server, peak, matrix, 0, middle)
    server.crash()  # among flushes and merges
    load(server, peak, matrix, middle, len(matrix))
    with RestClient(server) as rest:
        check_some(rest, matrix, 0)
    peak.check("loading")
    for seed, start in enumerate((server.crash, server.restart), start=1):
        start()
        peak.look()
        with RestClient(server) as rest:
            check_some(rest, matrix, seed)
            eventually("ready", lambda: rest.request("GET", "/readyz").status == 200)
        peak.check(f"start {seed}")


@pytest.mark.timeout(1800)
def test_documents_larger_than_the_memory_are_flushed_and_merged_within_it(
    server_factory: ServerFactory,
) -> None:
    """An index holds the documents once more: it is not gathered in memory."""
    server = server_factory.make(ServerOptions(config=CONFIG, env=PROMPT)).start()
    peak = Peak(server)
    text = "z" * 20000
    rows = TIMES * LIMIT_MIB * (1 << 20) // len(text)
    with RestClient(server) as rest:
        rest.create_collection("c", 4, "euclidean", storage={"vectors": "mmap"})
        for first in range(0, rows, 100):
            records = [
                {"id": f"{i:06}", "vector": [i, 1, 2, 3], "metadata": {"text": text, "i": i}}
                for i in range(first, min(first + 100, rows))
            ]
            assert put(rest, {"vectors": records})
            peak.look()
    eventually("a merge", lambda: metric(server, "compactions_total") > 0)
    peak.check("loading")
    server.crash()
    with RestClient(server) as rest:
        assert rest.get("c", ["000007"])["records"][0]["metadata"] == {"text": text, "i": 7}
        assert rest.count("c") == rows
    peak.check("start")


@pytest.mark.timeout(1800)
def test_in_memory_means_that_writes_end_at_the_limit_and_deletes_give_room(
    server_factory: ServerFactory,
) -> None:
    matrix = made(2)
    server = server_factory.make(ServerOptions(config=CONFIG, env=PROMPT)).start()
    peak = Peak(server)
    rows = 0
    with RestClient(server) as rest:
        rest.create_collection("c", DIMENSION, "euclidean", storage={"vectors": "memory"})
        while put(rest, batch_of(matrix, rows), REFUSED_MAX):
            peak.look()
            rows += BATCH
            assert rows < len(matrix), "the limit never came"
        assert rows > BATCH
        check_some(rest, matrix[:rows], 0)
    peak.check("full")
    server.crash()
    with RestClient(server) as rest:
        check_some(rest, matrix[:rows], 1)
        ids = [f"{i:06}" for i in range(rows) if i % 2 != 0]
        for at in range(0, len(ids), BATCH):
            rest.delete("c", ids=ids[at : at + BATCH])
        assert put(rest, batch_of(matrix, rows))  # a merge has left the deleted rows out
        assert rest.count("c") == rows - len(ids) + BATCH
    peak.check("after deletes")


@pytest.mark.timeout(1800)
def test_a_start_with_less_memory_than_there_are_rows_serves_and_refuses_writes(
    server_factory: ServerFactory,
) -> None:
    matrix = made(2)
    roomy = CONFIG.replace(f'"{LIMIT_MIB}MiB"', f'"{8 * LIMIT_MIB}MiB"')
    server = server_factory.make(ServerOptions(config=roomy, env=PROMPT)).start()
    with RestClient(server) as rest:
        rest.create_collection("c", DIMENSION, "euclidean", storage={"vectors": "memory"})
    load(server, Peak(server), matrix, 0, len(matrix))
    with RestClient(server) as rest:
        # A replay holds what the log has: less than the limit that comes now.
        eventually("flushes", lambda: memtable_mib(rest) < LIMIT_MIB / 4)
    server.kill()
    server.options = replace(server.options, config=CONFIG)
    peak = Peak(server.start())
    with RestClient(server) as rest:
        check_some(rest, matrix, 1)
        answer = rest.request("PUT", "/v1/collections/c/vectors", batch_of(matrix, 0))
        assert answer.error_code == "RESOURCE_EXHAUSTED", answer.body
        assert rest.delete("c", ids=["000000"])["deleted"] == 1
        assert rest.count("c") == len(matrix) - 1
    peak.check("start")
