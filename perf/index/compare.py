#!/usr/bin/env python3
"""Compares ProximaDB's index with hnswlib: same data, same process, in turns, CPU time of one
thread.

    python3 -m venv VENV && VENV/bin/pip install numpy hnswlib
    meson setup BUILD --buildtype=release && ninja -C BUILD perf/index/libindex_bench.so
    VENV/bin/python perf/index/compare.py BUILD clustered --rows 100000
    VENV/bin/python perf/index/compare.py BUILD fashion      (Debian's dataset-fashion-mnist)

Data: `fashion`, 60,000 images of 784 pixels, L2; `clustered`, a seeded generator of normalised
768-d clusters with falling spectra, as text embeddings have; `FILE.npy`, rows of float32,
normalised, of which the last tenth are queries.

Honesty: gamma and ef are tuned on one half of the queries and reported on the other. Rivals take
turns inside each round; a ratio is the median of the rounds' ratios. Speed at a recall is read off
each one's curve, log speed interpolated; + marks a curve whose lowest setting is better already.
hnswlib gets one query a call and one thread, is timed by the same clock, and what its Python
binding costs a call is measured with an index of one row and taken off.
"""

import argparse
import ctypes
import gzip
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import hnswlib
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]  # rows x dimensions
Rows = NDArray[np.uint32]  # queries x k

K = 10
GAMMAS = (0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.14)
EFS = (10, 15, 20, 30, 40, 60, 80, 120, 200, 300, 500)
FASHION = Path("/usr/share/datasets/fashion-mnist")
COSINE, EUCLIDEAN = 1, 3


@dataclass(frozen=True, slots=True)
class Data:
    name: str
    metric: int
    base: Floats
    queries: Floats


class Result(ctypes.Structure):
    _fields_ = (
        ("seconds", ctypes.c_double),
        ("distances", ctypes.c_uint64),
        ("expanded", ctypes.c_uint64),
        ("capped", ctypes.c_uint64),
    )


def fashion() -> Data:
    def images(name: str) -> Floats:
        with gzip.open(FASHION / name) as file:
            return (
                np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784).astype(np.float32)
            )

    base = images("train-images-idx3-ubyte.gz")
    return Data("fashion", EUCLIDEAN, base, images("t10k-images-idx3-ubyte.gz")[:4000])


def clustered(rows: int, queries: int = 2000) -> Data:
    """Clusters of power-law sizes, each in a 24-d subspace of a global 256-d one, plus noise."""
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
    member_of = rng.choice(clusters, size=rows + queries, p=weights)
    values = np.empty((rows + queries, d), np.float32)
    falling = (0.97 ** np.arange(local_d)).astype(np.float32)
    falling /= np.sqrt((falling**2).sum())
    for cluster in range(clusters):
        members = np.where(member_of == cluster)[0]
        inside = rng.standard_normal((len(members), local_d)).astype(np.float32) * falling
        values[members] = centres[cluster] + (inside @ local[cluster]) @ basis
    values += rng.standard_normal(values.shape).astype(np.float32) * (0.35 / np.sqrt(d))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    order = rng.permutation(rows + queries)
    return Data("clustered", COSINE, values[order[queries:]], values[order[:queries]])


def from_file(path: Path) -> Data:
    values = np.load(path).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    count = min(len(values) // 10, 2000)
    return Data(path.stem, COSINE, values[:-count].copy(), values[-count:].copy())


def exact(data: Data) -> Rows:
    squares = (data.base.astype(np.float64) ** 2).sum(1).astype(np.float32)
    out = np.zeros((len(data.queries), K), np.uint32)
    for start in range(0, len(data.queries), 200):
        block = data.queries[start : start + 200]
        scores = squares[None, :] - 2 * (block @ data.base.T)
        chosen = np.argpartition(scores, K + 10, axis=1)[:, : K + 10]
        for i, rows in enumerate(chosen):
            far = ((data.base[rows].astype(np.float64) - block[i].astype(np.float64)) ** 2).sum(1)
            out[start + i] = rows[np.argsort(far, kind="stable")[:K]]
    return out


def recall(found: Rows, truth: Rows) -> float:
    same = (found[:, :, None] == truth[:, None, :]).any(2)
    return float(same.mean())


class Ours:
    def __init__(self, library: ctypes.CDLL, data: Data, arguments: argparse.Namespace) -> None:
        self.library, self.data = library, data
        self.handle = ctypes.c_void_p(
            library.bench_build(
                data.base.ctypes.data_as(ctypes.c_void_p),
                *data.base.shape,
                data.metric,
                arguments.m,
                arguments.ef_construction,
                arguments.workers,
            )
        )
        if not self.handle:
            raise RuntimeError("build failed")

    def facts(self) -> list[float]:
        facts = (ctypes.c_double * 8)()
        self.library.bench_facts(self.handle, facts)
        return list(facts)

    def search(
        self, queries: Floats, gamma: float, ef: int = 0, sq4: bool = False, want: int = 12
    ) -> tuple[Rows, Result]:
        rows = np.zeros((len(queries), K), np.uint32)
        result = Result()
        self.library.bench_search(
            self.handle,
            queries.ctypes.data_as(ctypes.c_void_p),
            len(queries),
            K,
            want,
            ctypes.c_float(gamma),
            ef,
            int(sq4),
            rows.ctypes.data_as(ctypes.c_void_p),
            ctypes.byref(result),
        )
        return rows, result


class Hnswlib:
    def __init__(self, data: Data, arguments: argparse.Namespace) -> None:
        self.index = hnswlib.Index(space="l2", dim=data.base.shape[1])
        self.index.init_index(len(data.base), M=arguments.m, ef_construction=200)
        start = time.thread_time()
        self.index.add_items(data.base, num_threads=1)
        self.build_s = time.thread_time() - start
        self.index.set_num_threads(1)
        empty = hnswlib.Index(space="l2", dim=data.base.shape[1])
        empty.init_index(1, M=2)
        empty.add_items(data.base[:1], num_threads=1)
        empty.set_num_threads(1)
        start = time.thread_time()
        for query in data.queries[:1000]:
            empty.knn_query(query, 1)
        self.call_s = (time.thread_time() - start) / min(1000, len(data.queries))

    def search(self, queries: Floats, ef: int) -> tuple[Rows, float]:
        self.index.set_ef(ef)
        rows = np.zeros((len(queries), K), np.uint32)
        start = time.thread_time()
        for i, query in enumerate(queries):
            rows[i] = self.index.knn_query(query, K)[0][0]
        return rows, time.thread_time() - start - self.call_s * len(queries)


@dataclass(slots=True)
class Curve:
    name: str
    run: Callable[[Floats, float], tuple[Rows, float]]
    settings: tuple[float, ...]
    tuned: list[float] = field(default_factory=list)  # recall of each setting on the tuning half
    points: list[tuple[float, float]] = field(default_factory=list)  # recall, speed: this round


def speed_at(points: list[tuple[float, float]], target: float) -> tuple[float, bool]:
    """Queries a second at a recall, and whether the lowest setting is better already."""
    ordered = sorted(points)
    if ordered[0][0] >= target:
        return ordered[0][1], True
    for (low, slow), (high, fast) in pairwise(ordered):
        if low <= target <= high:
            part = (target - low) / (high - low) if high > low else 0.0
            return math.exp(math.log(slow) + part * (math.log(fast) - math.log(slow))), False
    return math.nan, False


def tune(curve: Curve, queries: Floats, truth: Rows, targets: tuple[float, ...]) -> None:
    """Keeps the settings that surround the targets on the tuning half."""
    recalls = [recall(curve.run(queries, setting)[0], truth) for setting in curve.settings]
    keep: set[int] = set()
    for target in targets:
        above = [i for i, value in enumerate(recalls) if value >= target]
        first = above[0] if above else len(recalls) - 1
        keep.update(i for i in (first - 1, first, first + 1) if 0 <= i < len(recalls))
    curve.tuned = [recalls[i] for i in sorted(keep)]
    curve.settings = tuple(curve.settings[i] for i in sorted(keep))


def load(build: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(build / "perf/index/libindex_bench.so"))
    library.bench_build.restype = ctypes.c_void_p
    library.bench_score.restype = ctypes.c_double
    return library


def describe(name: str, facts: list[float], rows: int) -> None:
    print(
        f"{name}: encode {facts[0]:.2f} s, build {facts[1]:.2f} s CPU, {facts[2]:.2f} s wall, "
        f"{facts[3] / rows:.0f} distances a row, {facts[4]:.0f} rows repaired, "
        f"{facts[5] / rows:.1f} bytes a row, {facts[6]:.1f} links a row, {facts[7]:.0f} unsound"
    )


def compare(curves: list[Curve], data: Data, truth: Rows, rounds: int) -> None:
    targets = (0.90, 0.95, 0.99)
    half = len(data.queries) // 2
    for curve in curves:
        tune(curve, data.queries[:half], truth[:half], targets)
    speeds: dict[tuple[str, float], list[float]] = {}
    better: set[tuple[str, float]] = set()
    for _ in range(rounds):
        for curve in curves:
            curve.points = []
            for setting in curve.settings:
                rows, taken = curve.run(data.queries[half:], setting)
                curve.points.append((recall(rows, truth[half:]), (len(truth) - half) / taken))
        for curve in curves:
            for target in targets:
                speed, already = speed_at(curve.points, target)
                speeds.setdefault((curve.name, target), []).append(speed)
                if already:
                    better.add((curve.name, target))
    base = curves[-1].name
    for curve in curves:
        cells = []
        for target in targets:
            own, other = speeds[curve.name, target], speeds[base, target]
            ratio = statistics.median(a / b for a, b in zip(own, other, strict=True))
            mark = "+" if (curve.name, target) in better else ""
            cells.append(f"{target:.2f}: {statistics.median(own):8.0f}{mark} ({ratio:.2f}x)")
        print(f"{curve.name:12} " + "   ".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="ProximaDB's index beside hnswlib")
    parser.add_argument("build", type=Path)
    parser.add_argument("data", help="fashion, clustered or FILE.npy")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--m", type=int, default=16)
    parser.add_argument("--ef-construction", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--sq4", action="store_true")
    parser.add_argument("--alone", action="store_true", help="without hnswlib: print the curve")
    arguments = parser.parse_args()
    if arguments.data == "fashion":
        data = fashion()
        data = Data(data.name, data.metric, data.base[: arguments.rows], data.queries)
    elif arguments.data == "clustered":
        data = clustered(arguments.rows)
    else:
        data = from_file(Path(arguments.data))
    truth = exact(data)
    library = load(arguments.build)
    ours = Ours(library, data, arguments)
    print(f"{data.name}: {data.base.shape[0]} x {data.base.shape[1]}, {len(truth)} queries")
    describe("ours", ours.facts(), len(data.base))
    if arguments.sq4 and library.bench_add_sq4(ours.handle) != 0:
        raise RuntimeError("no memory")
    if arguments.alone:
        for gamma in GAMMAS:
            rows, result = ours.search(data.queries, gamma)
            count = len(truth)
            print(
                f"gamma {gamma:.4f} recall {recall(rows, truth):.4f} "
                f"{count / result.seconds:8.0f} /s "
                f"{result.distances / count:.0f} distances {result.expanded / count:.0f} expanded "
                f"{1e9 * result.seconds / result.distances:.0f} ns each",
                flush=True,
            )
        return
    other = Hnswlib(data, arguments)
    print(f"hnswlib: build {other.build_s:.2f} s CPU, binding {1e6 * other.call_s:.2f} us a call")

    def run_ours(sq4: bool) -> Callable[[Floats, float], tuple[Rows, float]]:
        def run(queries: Floats, gamma: float) -> tuple[Rows, float]:
            rows, result = ours.search(queries, gamma, sq4=sq4, want=15 if sq4 else 12)
            return rows, result.seconds

        return run

    curves = [Curve("ours sq8", run_ours(False), GAMMAS)]
    if arguments.sq4:
        curves.append(Curve("ours sq4", run_ours(True), GAMMAS))
    curves.append(Curve("hnswlib", lambda queries, ef: other.search(queries, int(ef)), EFS))
    compare(curves, data, truth, arguments.rounds)


if __name__ == "__main__":
    main()
