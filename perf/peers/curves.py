"""Draws what our own kinds of index make of one set of data: recall against queries a second.

    VENV/bin/python perf/peers/curves.py DATA --library LIBRARY.so --cache FOLDER --out FILE.svg

One thread, CPU time, the reported half of the queries, median of three runs of each setting. The
table goes to standard output: build time, bytes of codes and graph or lists, speed at recalls.
The curves are for choosing a kind, not for comparing with others: for that there is compare.py.
"""

import argparse
import math
import os
import statistics
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from data import prepare
from engines import ProximaDB

K = 10
RUNS = 3
TARGETS = (0.90, 0.95, 0.99)
# hue by index, so that kinds of one index look alike
KINDS = (
    ("hnsw sq8 (auto)", "#1f6feb", "", {}),
    ("hnsw sq4", "#58a6ff", "", {"quantization": "sq4", "rerank": (20,)}),
    ("hnsw none", "#0b3d91", "6 3", {"quantization": "none"}),
    ("hnsw binary 1 bit", "#79c0ff", "2 3", {"quantization": "binary", "rerank": (100,)}),
    ("ivf pq", "#c2410c", "", {"type": "ivf", "quantization": "pq", "rerank": (100,)}),
    ("ivf sq8", "#fb923c", "6 3", {"type": "ivf", "quantization": "sq8"}),
    ("flat sq8", "#4d7c0f", "", {"type": "flat", "quantization": "sq8"}),
    (
        "flat binary 1 bit",
        "#84cc16",
        "2 3",
        {"type": "flat", "quantization": "binary", "rerank": (100,)},
    ),
)
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 430, 70, 50, 40, 170


@dataclass(slots=True)
class Curve:
    name: str
    colour: str
    dash: str
    points: list[tuple[float, float]]  # recall, queries a second; the best at each recall
    build_s: float
    bytes_a_row: float


def recall_of(found: np.ndarray, truth: np.ndarray) -> float:
    hits = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist(), strict=True))
    return hits / truth.size


def best(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Without those that another one beats in both."""
    kept: list[tuple[float, float]] = []
    for point in sorted(points, reverse=True):
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept[::-1]


def speed_at(points: list[tuple[float, float]], recall: float) -> float | None:
    if points[-1][0] < recall:
        return None
    if points[0][0] >= recall:
        return points[0][1]
    for (r0, s0), (r1, s1) in pairwise(points):
        if r0 <= recall <= r1:
            part = (recall - r0) / (r1 - r0)
            return math.exp(math.log(s0) * (1 - part) + math.log(s1) * part)
    return None


def measure(folder: Path, angular: bool, only: list[str]) -> list[Curve]:
    base = np.load(folder / "base.npy")
    queries, truth = np.load(folder / "report.npy"), np.load(folder / "report_truth.npy")
    curves = []
    for name, colour, dash, options in KINDS:
        if only and not any(text in name for text in only):
            continue
        engine = ProximaDB(**options)
        begun = time.process_time()
        engine.build(base, angular)
        build_s = time.process_time() - begun
        points = []
        settings = engine.settings()[0]
        for setting in settings[:1] if options.get("type") == "flat" else settings:
            times = []
            for _ in range(RUNS):
                begun = time.process_time()
                found = engine.search(queries, K, setting)
                times.append(time.process_time() - begun)
            recall = recall_of(found, truth)
            points.append((recall, len(queries) / statistics.median(times)))
            if recall > 0.9985:
                break
        size = engine.facts()["index_bytes"] / len(base)
        curves.append(Curve(name, colour, dash, best(points), build_s, size))
        print(f"  {name}: {len(points)} settings", flush=True)
    return curves


def draw(curves: list[Curve], title: str) -> str:
    """Recall to the right, speed upwards, logarithmic."""
    low, high = 0.80, 1.0
    speeds = [speed for curve in curves for recall, speed in curve.points if recall >= low]
    bottom = 10 ** math.floor(math.log10(min(speeds)))
    top = 10 ** math.ceil(math.log10(max(speeds)))

    def x(recall: float) -> float:
        return LEFT + (recall - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(speed: float) -> float:
        part = math.log(speed / bottom) / math.log(top / bottom)
        return HEIGHT - BOTTOM - part * (HEIGHT - BOTTOM - TOP)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{title}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 12}" text-anchor="middle">'
        f"recall@{K}</text>",
        f'<text x="16" y="{HEIGHT / 2:.0f}" transform="rotate(-90 16 {HEIGHT / 2:.0f})" '
        'text-anchor="middle">queries a second, one thread</text>',
    ]
    for step in range(5):
        recall = low + step * (high - low) / 4
        out.append(
            f'<line x1="{x(recall):.1f}" y1="{TOP}" x2="{x(recall):.1f}" y2="{HEIGHT - BOTTOM}" '
            f'stroke="#ddd"/><text x="{x(recall):.1f}" y="{HEIGHT - BOTTOM + 16}" '
            f'text-anchor="middle">{recall:.2f}</text>'
        )
    speed = bottom
    while speed <= top:
        for factor in (1, 2, 5):
            if speed * factor <= top:
                at = y(speed * factor)
                out.append(
                    f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" '
                    f'stroke="#eee"/><text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">'
                    f"{speed * factor:,.0f}</text>"
                )
        speed *= 10
    for i, curve in enumerate(curves):
        shown = [(x(r), y(s)) for r, s in curve.points if r >= low]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in shown)
        dash = f' stroke-dasharray="{curve.dash}"' if curve.dash else ""
        out.append(
            f'<polyline points="{path}" fill="none" stroke="{curve.colour}" '
            f'stroke-width="2"{dash}/>'
        )
        out.extend(
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" fill="{curve.colour}"/>' for a, b in shown
        )
        at = TOP + 10 + 20 * i
        left = WIDTH - RIGHT + 12
        out.append(
            f'<line x1="{left}" y1="{at}" x2="{left + 24}" y2="{at}" stroke="{curve.colour}" '
            f'stroke-width="2"{dash}/><text x="{left + 30}" y="{at + 4}">{curve.name}</text>'
        )
    return "\n".join([*out, "</svg>", ""])


def table(curves: list[Curve]) -> str:
    head = "| kind | build, CPU s | bytes a row | " + " | ".join(f"{t:.2f}" for t in TARGETS)
    lines = [head + " |", "| --- " * (3 + len(TARGETS)) + "|"]
    for curve in curves:
        cells = []
        for target in TARGETS:
            speed = speed_at(curve.points, target)
            better = "+" if speed is not None and curve.points[0][0] > target else ""
            cells.append("-" if speed is None else f"{speed:,.0f}{better}")
        facts = f"| {curve.name} | {curve.build_s:.1f} | {curve.bytes_a_row:.0f} | "
        lines.append(facts + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", choices=("fashion", "clustered", "glove"))
    parser.add_argument("--library", required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--only", action="append", default=[], help="part of a kind's name")
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, required=True)
    a = parser.parse_args()
    os.environ["PROXIMADB_LIBRARY"] = a.library
    os.sched_setaffinity(0, {a.cpu})
    data = prepare(a.data, a.cache, a.rows, 4000)
    curves = measure(data.folder, data.angular, a.only)
    title = f"{a.data}: {data.rows:,} x {data.dimension}"
    a.out.write_text(draw(curves, title))
    print(f"load {os.getloadavg()[0]:.2f}\n\n{table(curves)}")


if __name__ == "__main__":
    main()
