"""Draws what our own kinds of index make of one set of data: recall against queries a second.

    VENV/bin/python perf/peers/curves.py DATA --library LIBRARY.so --cache FOLDER --out FILE.svg
        [--only KIND]... [--build-only | --draw-only] [--rebuild]

One thread, CPU time, the reported half of the queries, median of three runs of each setting. The
table goes to standard output: build time, bytes of codes and graph or lists, speed at recalls.
The curves are for choosing a kind, not for comparing with others: for that there is compare.py.

Indexes are kept in the cache folder and used again (--rebuild: not), so that they can be built
while others use the machine (--build-only) and measured when nobody does; what was measured is kept
there, too: kinds measured before are drawn beside those of this run, and of one index measured
again the faster of each setting's runs count, because what others do only takes speed away.
"""

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from data import Data, prepare
from engines import ProximaDB

K = 10
RUNS = 3
TARGETS = (0.90, 0.95, 0.99)
FLAT_QUERIES = 400  # a scan takes milliseconds


@dataclass(frozen=True, slots=True)
class Kind:
    """An index looks the same with all quantizations but for dashes."""

    name: str
    light: str  # colour on a light page
    dark: str
    dash: str
    options: dict[str, Any]

    @property
    def flat(self) -> bool:
        return self.options.get("type") == "flat"


BLUE, SKY = ("#0550ae", "#58a6ff"), ("#2f8fff", "#b6dcff")
ORANGE, GREEN, LIME = ("#bc4c00", "#f0883e"), ("#1a7f37", "#3fb950"), ("#6f9f00", "#b5d84a")
KINDS = (
    Kind("hnsw sq8 (auto)", *BLUE, "", {}),
    Kind("hnsw sq4", *SKY, "", {"quantization": "sq4", "rerank": (20,)}),
    Kind("hnsw none", *BLUE, "7 4", {"quantization": "none"}),
    Kind("hnsw binary 1 bit", *SKY, "2 4", {"quantization": "binary", "rerank": (100,)}),
    Kind("ivf pq", *ORANGE, "", {"type": "ivf", "quantization": "pq", "rerank": (100,)}),
    Kind("ivf sq8", *ORANGE, "7 4", {"type": "ivf", "quantization": "sq8"}),
    Kind("flat sq8", *GREEN, "", {"type": "flat", "quantization": "sq8"}),
    Kind(
        "flat binary 1 bit",
        *LIME,
        "",
        {"type": "flat", "quantization": "binary", "rerank": (100,)},
    ),
)
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 760, 440, 78, 52, 44, 168
LOW, HIGH = 0.80, 0.999  # of the recalls that are drawn
TICKS = (0.80, 0.90, 0.95, 0.98, 0.99, 0.995, 0.999)
STEPS = [factor * 10**power for power in range(8) for factor in (1, 2, 5)]  # of the speeds


@dataclass(slots=True)
class Curve:
    name: str
    points: list[tuple[float, float]]  # recall, queries a second; the best at each recall
    build_s: float
    build_load: float  # of the machine while it was built
    bytes_a_row: float
    load: float  # while it was measured


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


def opened(
    kind: Kind, data: Data, cache: Path, rebuild: bool
) -> tuple[ProximaDB, dict[str, float]]:
    """From the cache, or built and put there."""
    name = "-".join([data.folder.name, "curve", *kind.name.split()])
    saved, facts = cache / f"{name}.index", cache / f"{name}.json"
    base = np.load(data.folder / "base.npy", mmap_mode="r")
    engine = ProximaDB(**kind.options)
    if facts.exists() and not rebuild:
        engine.load(saved, base, data.angular)
        told: dict[str, float] = json.loads(facts.read_text())
        return engine, told
    base = np.asarray(base).copy()
    begun = time.process_time()
    engine.build(base, data.angular)
    told = {"build_s": time.process_time() - begun, "load": os.getloadavg()[0]} | engine.facts()
    engine.save(saved)
    facts.write_text(json.dumps(told))
    return engine, told


def measure(kind: Kind, engine: ProximaDB, folder: Path) -> list[tuple[float, float]]:
    """Of rising effort, until nearly all is found; a scan has one effort."""
    most = FLAT_QUERIES if kind.flat else None
    queries = np.load(folder / "report.npy")[:most]
    truth = np.load(folder / "report_truth.npy")[:most]
    settings = engine.settings()[0]
    points = []
    for setting in settings[:1] if kind.flat else settings:
        engine.search(queries[:100], K, setting)
        times = []
        for _ in range(RUNS):
            begun = time.process_time()
            found = engine.search(queries, K, setting)
            times.append(time.process_time() - begun)
        recall = recall_of(found, truth)
        points.append((recall, len(queries) / statistics.median(times)))
        if recall > 0.9985:
            break
    return best(points)


# ---- drawing ----


def style() -> str:
    """The card has its own ground, so that it can be read on a page of either kind."""

    def rules(ground: str, ink: str, grid: str, colours: list[str]) -> str:
        lines = [f".ground{{fill:{ground};stroke:{grid}}}", f"text{{fill:{ink}}}"]
        lines.append(f".grid{{stroke:{grid}}}")
        lines += [
            f".k{i}{{stroke:{colour}}}.d{i}{{fill:{colour}}}" for i, colour in enumerate(colours)
        ]
        return "".join(lines)

    light = rules("#ffffff", "#1f2328", "#d8dee4", [kind.light for kind in KINDS])
    dark = rules("#0d1117", "#e6edf3", "#30363d", [kind.dark for kind in KINDS])
    return f"<style>{light}@media(prefers-color-scheme:dark){{{dark}}}</style>"


def across(recall: float) -> float:
    """As far again for each half of what is missing."""

    def part(value: float) -> float:
        return -math.log(1 - value)

    share = (part(min(recall, HIGH)) - part(LOW)) / (part(HIGH) - part(LOW))
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def grid(bottom: int, top: int, y: Callable[[float], float]) -> list[str]:
    out = []
    for recall in TICKS:
        at, end = across(recall), HEIGHT - BOTTOM
        more = " or more" if recall == HIGH else ""
        out.append(
            f'<path class="grid" d="M{at:.1f} {TOP}V{end}"/><text x="{at:.1f}" y="{end + 17}" '
            f'text-anchor="middle">{recall:.3g}{more}</text>'
        )
    for speed in (step for step in STEPS if bottom <= step <= top):
        at = y(speed)
        out.append(
            f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{speed:,}</text>'
        )
    return out


def dot(kind: Kind, number: int, x: float, y: float) -> str:
    if kind.flat:
        return f'<rect class="d{number}" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10"/>'
    return f'<circle class="d{number}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>'


def draw(curves: list[Curve], title: str) -> str:
    """Recall to the right, speed upwards, both logarithmic."""
    speeds = [speed for curve in curves for recall, speed in curve.points if recall >= LOW]
    bottom = max(step for step in STEPS if step <= min(speeds))
    top = min(step for step in STEPS if step >= max(speeds))

    def y(speed: float) -> float:
        part = math.log(speed / bottom) / math.log(top / bottom)
        return HEIGHT - BOTTOM - part * (HEIGHT - BOTTOM - TOP)

    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" font-family="sans-serif" font-size="12">',
        f"<title>{title}</title>",
        style(),
        f'<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="6"/>',
        f'<text x="{LEFT}" y="26" font-size="14" font-weight="bold">{title}</text>',
        f'<text x="{middle_x:.0f}" y="{HEIGHT - 14}" text-anchor="middle">recall of the {K} '
        "nearest</text>",
        f'<text x="18" y="{middle_y:.0f}" transform="rotate(-90 18 {middle_y:.0f})" '
        'text-anchor="middle">queries a second, one thread</text>',
        *grid(bottom, top, y),
    ]
    drawn = {curve.name: curve for curve in curves}
    legend = TOP + 8
    for number, kind in enumerate(KINDS):
        if kind.name not in drawn:
            continue
        shown = [(across(r), y(s)) for r, s in drawn[kind.name].points if r >= LOW]
        dash = f' stroke-dasharray="{kind.dash}"' if kind.dash else ""
        line = f'class="k{number}" fill="none" stroke-width="2"{dash}'
        left = WIDTH - RIGHT + 14
        if kind.flat:
            out.append(dot(kind, number, left + 12, legend))
        else:
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in shown)
            out.append(f'<polyline {line} points="{path}"/>')
            out.append(f'<path {line} d="M{left} {legend}h24"/>')
        out.extend(dot(kind, number, a, b) for a, b in shown)
        out.append(f'<text x="{left + 31}" y="{legend + 4}">{kind.name}</text>')
        legend += 22
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
        loaded = "*" if curve.build_load > 1.5 else ""
        facts = f"| {curve.name} | {curve.build_s:.1f}{loaded} | {curve.bytes_a_row:.0f} | "
        lines.append(facts + " | ".join(cells) + " |")
    return "\n".join(lines)


# ---- one data set ----


def kept_curves(file: Path) -> dict[str, Curve]:
    if not file.exists():
        return {}
    curves = [Curve(**one) for one in json.loads(file.read_text())]
    for curve in curves:
        curve.points = [(recall, speed) for recall, speed in curve.points]  # lists, in JSON
    return {curve.name: curve for curve in curves}


def run(data: Data, a: argparse.Namespace) -> list[Curve]:
    file = a.cache / f"{data.folder.name}-curves.json"
    curves = kept_curves(file)
    for kind in KINDS:
        if a.draw_only or (a.only and not any(text in kind.name for text in a.only)):
            continue
        engine, facts = opened(kind, data, a.cache, a.rebuild)
        if a.build_only:
            print(f"  {kind.name}: {facts['build_s']:.1f} CPU s", flush=True)
            continue
        before = curves.get(kind.name)
        same = before is not None and before.build_s == facts["build_s"]
        points = measure(kind, engine, data.folder)
        curves[kind.name] = Curve(
            kind.name,
            best(points + (before.points if before and same else [])),
            facts["build_s"],
            facts["load"],
            facts["index_bytes"] / data.rows,
            os.getloadavg()[0],
        )
        told = curves[kind.name]
        print(f"  {kind.name}: {len(told.points)} settings, load {told.load:.2f}", flush=True)
        file.write_text(json.dumps([asdict(curve) for curve in curves.values()]))
    return [curves[kind.name] for kind in KINDS if kind.name in curves]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", choices=("fashion", "clustered", "glove"))
    parser.add_argument("--library", default="")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--only", action="append", default=[], help="part of a kind's name")
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--rebuild", action="store_true")
    parser.add_argument(
        "--build-only", action="store_true", help="what the cache does not have yet"
    )
    parser.add_argument("--draw-only", action="store_true", help="what was measured before")
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    os.environ["PROXIMADB_LIBRARY"] = a.library
    os.sched_setaffinity(0, {a.cpu})
    data = prepare(a.data, a.cache, a.rows, 4000)
    curves = run(data, a)
    if a.build_only:
        return
    titles = {"fashion": "Fashion-MNIST", "clustered": "clustered", "glove": "GloVe"}
    if a.out:
        a.out.write_text(draw(curves, f"{titles[a.data]}, {data.rows:,} x {data.dimension}"))
    print(table(curves))


if __name__ == "__main__":
    main()
