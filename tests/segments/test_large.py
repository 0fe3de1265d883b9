"""Real images and a million generated rows: loaded, killed, started again, searched exactly.

LARGE=1 (`make large`) takes all 60,000 images and the million rows; else 10,000 images.
"""

import base64
import gzip
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.crash.settings import check_offline
from tests.lib.rest import RestClient
from tests.lib.server import LIMIT_S, ServerFactory, ServerOptions
from tests.segments.made import wait_for_flush

Matrix = npt.NDArray[np.float32]

LARGE = os.environ.get("LARGE", "0") != "0"
IMAGES = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")
BATCH = 1000
CONFIG = """
[storage]
flush_rows = {flush_rows}
flush_age_s = 5
"""


def images(count: int) -> Matrix:
    with gzip.open(IMAGES) as file:
        raw = np.frombuffer(file.read(), np.uint8, offset=16)
    return raw.reshape(-1, 784)[:count].astype(np.float32)


def generated(count: int) -> Matrix:
    return np.random.default_rng(5).standard_normal((count, 128), dtype=np.float32)


def load(rest: RestClient, matrix: Matrix) -> None:
    for first in range(0, len(matrix), BATCH):
        part = matrix[first : first + BATCH]
        body = {
            "packed": {
                "ids": [f"{i:07}" for i in range(first, first + len(part))],
                "vectors": base64.b64encode(part.astype("<f4").tobytes()).decode(),
            }
        }
        rest.call("PUT", "/v1/collections/c/vectors", body)


def check_exact(rest: RestClient, matrix: Matrix, seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert rest.count("c") == len(matrix)
    for row in rng.integers(0, len(matrix), 10):
        query = matrix[row]
        distances = ((matrix - query) ** 2).sum(axis=1, dtype=np.float64)
        nearest = np.sort(distances)[:10]
        hits = rest.search("c", vector=query.tolist(), k=10, include=[])["results"]
        found = [distances[int(hit["id"])] for hit in hits]
        assert np.allclose(found, nearest, rtol=1e-6), f"row {row}"
        assert found[0] == 0


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("kind", "count"),
    [("images", 60_000), ("generated", 1_000_000)] if LARGE else [("images", 10_000)],
)
def test_what_was_loaded_is_found_behind_a_kill(
    server_factory: ServerFactory, kind: str, count: int
) -> None:
    if kind == "images" and not IMAGES.exists():
        pytest.skip("the package dataset-fashion-mnist is not installed")
    matrix = images(count) if kind == "images" else generated(count)
    config = CONFIG.format(flush_rows=count // 5)
    server = server_factory.make(ServerOptions(cores=2, config=config)).start()
    with RestClient(server, 2 * LIMIT_S) as rest:
        rest.create_collection("c", matrix.shape[1], "euclidean", storage={"vectors": "mmap"})
        load(rest, matrix)
    wait_for_flush(server, 0)
    server.crash()
    with RestClient(server, 2 * LIMIT_S) as rest:
        check_exact(rest, matrix, 1)
    server.restart()
    with RestClient(server, 2 * LIMIT_S) as rest:
        check_exact(rest, matrix, 2)
    assert server.stop() == 0
    check_offline(server)
