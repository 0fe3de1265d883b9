"""Vectors with structure, and their true neighbours by numpy: what a gate compares with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

QUERIES = 100
K = 10


def clustered(
    count: int, dimension: int, seed: int, of: int = 0, centre_count: int | None = None
) -> Floats:
    """Rows around `centre_count` (else `count / 50`) centres, shuffled. `of` draws others around
    the same centres, of which fewer are the first ones."""
    some = centre_count or max(count // 50, 1)
    centres = np.random.default_rng(seed).standard_normal((some, dimension))
    rng = np.random.default_rng((seed, of))
    around = centres[rng.integers(0, len(centres), count)]
    rows: Floats = (around + 0.6 * rng.standard_normal((count, dimension))).astype(np.float32)
    return rows


def in_order(rows: Floats) -> Floats:
    """The rows sorted along their first direction of change: clusters come one after the other."""
    centred = rows - rows.mean(axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    ordered: Floats = rows[np.argsort(centred @ direction)]
    return ordered


def bits_of(rows: Floats) -> Floats:
    """One bit for each number: its sign."""
    return (rows > 0).astype(np.float32)


def scores(metric: str, rows: Floats, query: Floats) -> NDArray[np.float64]:
    """As the server tells them: docs/api/rest.md."""
    a, b = rows.astype(np.float64), query.astype(np.float64)
    if metric == "dot":
        found = a @ b
    elif metric == "cosine":
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b)
        found = np.divide(a @ b, norms, out=np.zeros(len(a)), where=norms > 0)
    elif metric == "euclidean":
        found = np.linalg.norm(a - b, axis=1)
    elif metric == "manhattan":
        found = np.abs(a - b).sum(axis=1)
    else:
        assert metric == "hamming"
        found = np.count_nonzero(a != b, axis=1)
    return np.asarray(found, dtype=np.float64)


def higher_is_better(metric: str) -> bool:
    return metric in ("dot", "cosine")


@dataclass(frozen=True, slots=True)
class Truth:
    """The k-th best score of each query; whoever scores as well counts as found."""

    metric: str
    worst: NDArray[np.float64]
    k: int

    def recall(self, answers: list[list[float]]) -> float:
        """The share of the true k best that the answers' scores show, over all queries."""
        found = 0
        for worst, got in zip(self.worst, answers, strict=True):
            slack = 1e-5 * max(1.0, abs(worst))
            if higher_is_better(self.metric):
                found += sum(score >= worst - slack for score in got)
            else:
                found += sum(score <= worst + slack for score in got)
        return found / (self.k * len(self.worst)) if self.k != 0 else 1.0


def truth_of(metric: str, rows: Floats, queries: Floats, k: int = K) -> Truth:
    k = min(k, len(rows))
    worst = []
    for query in queries:
        ranked = np.sort(scores(metric, rows, query))
        best = ranked[::-1][:k] if higher_is_better(metric) else ranked[:k]
        worst.append(best[-1] if k else 0.0)
    return Truth(metric, np.array(worst), k)
