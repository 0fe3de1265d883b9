"""Compares ProximaDB's index with other libraries': queries a second at equal recall on one thread,
time to build, bytes.

    perf/peers/run.sh [--quick] [--data NAME]... [--only ENTRY]... [--rounds N] [--cache FOLDER]

run.sh makes the environments, fetches the data and calls this. --quick: 20,000 rows, fewer entries
and three rounds, under ten minutes; its figures show that everything works, nothing else.

Honesty
- Each entry (a library with build parameters) is a process of its own, all are pinned to the same
  processor, and only one works at a time (worker.py).
- Search parameters are chosen on one half of the queries; recall and speed are measured on the
  other. Which entry is the best peer is decided on the first half, too, and so is which of ours.
- Everybody takes a turn in each round, each round beginning with another one. Speed at a recall is
  read off a round's curve, log speed interpolated; a ratio is the median of the rounds' ratios.
- Times are CPU time of the process; + marks a curve whose lowest setting is better already, its
  speed is that setting's. - : not reached.
- The load of the machine is told; with other work beside it nothing here is a result.

Peers' builds take an hour in all, so they are kept in the cache folder and used again, with their
time and bytes and the load when they were made (--rebuild: not). Ours is built, unless --keep-ours
says that what the cache has is of this version.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from data import NAMES, Data, prepare

TARGETS = (0.90, 0.95, 0.99)
HERE = Path(__file__).parent
IVF = "IVF{lists},PQ{half}x4fs,RFlat"
OURS = "proximadb"
# What issue and design aim at: against hnswlib at .95 and .99, against the best peer.
GOALS = {"fashion": (4.0, 5.0, 2.0), "clustered": (4.5, 4.5, 2.0), "glove": (6.0, 6.0, 2.0)}

Measured = dict[str, Any]  # setting, recall, speed, distances: a worker's answer
Point = tuple[float, float]  # recall, queries a second


@dataclass(slots=True)
class Entry:
    name: str
    engine: str
    options: dict[str, Any]
    data: tuple[str, ...] = NAMES
    quick: bool = False  # part of --quick
    process: subprocess.Popen[str] | None = None
    facts: dict[str, float] = field(default_factory=dict)
    tuned: list[Measured] = field(default_factory=list)
    settings: list[dict[str, float]] = field(default_factory=list)
    rounds: list[list[Measured]] = field(default_factory=list)

    @property
    def ours(self) -> bool:
        return self.engine == OURS


def entries() -> list[Entry]:
    wide = ("glove",)
    return [
        Entry("ours sq8", OURS, {}, quick=True),
        Entry("ours sq8 efc200", OURS, {"ef_construction": 200}),
        Entry("ours sq8 m24", OURS, {"m": 24, "ef_construction": 200}, wide),
        Entry("ours sq4", OURS, {"quantization": "sq4", "rerank": (15, 20)}),
        Entry("ours ivf pq", OURS, {"type": "ivf", "quantization": "pq", "rerank": (30, 60, 120)}),
        Entry("hnswlib m16", "hnswlib", {}, quick=True),
        Entry("hnswlib m32", "hnswlib", {"m": 32}, wide),
        Entry("faiss hnsw16", "faiss", {"factory": "HNSW16,Flat"}),
        Entry("faiss hnsw16 sq8", "faiss", {"factory": "HNSW16,SQ8"}, quick=True),
        Entry("faiss ivf pq4fs", "faiss", {"factory": IVF, "k_factors": (4, 10, 25)}, quick=True),
        Entry("usearch f32", "usearch", {}),
        Entry("usearch i8", "usearch", {"dtype": "i8"}, ("clustered", "glove"), quick=True),
        Entry("svs lvq8", "svs", {"codes": "8x0"}, quick=True),
        Entry("svs lvq4x8", "svs", {"codes": "4x8"}),
        Entry("svs lvq8 r64", "svs", {"codes": "8x0", "degree": 64}, wide),
        Entry("svs leanvec", "svs", {"lean": 0.25}, ("fashion", "clustered")),
        Entry("glass sq8", "glass", {"level": 1}),
        Entry("glass sq4", "glass", {"level": 2}, quick=True),
    ]


# ---- workers ----


def start(entry: Entry, arguments: argparse.Namespace) -> None:
    python = arguments.glass_python if entry.engine == "glass" else sys.executable
    if not python:
        raise RuntimeError("needs a Python 3.10 (run.sh)")
    environment = os.environ | {
        "PROXIMADB_LIBRARY": str(arguments.library),
        "PEERS_SCRATCH": str(arguments.cache),
    }
    entry.process = subprocess.Popen(
        [python, str(HERE / "worker.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(arguments.cache / "workers.log").open("a"),
        text=True,
        env=environment,
    )


def ask(entry: Entry, request: dict[str, Any]) -> Any:  # noqa: ANN401
    process = entry.process
    if process is None or process.stdin is None or process.stdout is None:
        raise RuntimeError("not started")
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"ended with {process.wait()} (see workers.log)")
    answer = json.loads(line)
    if isinstance(answer, dict) and "error" in answer:
        raise RuntimeError(answer["error"])
    return answer


def stop(entry: Entry) -> None:
    if entry.process is not None and entry.process.stdin is not None:
        entry.process.stdin.close()
        entry.process.wait()
        entry.process = None


# ---- curves ----


def speed_at(points: list[Point], target: float) -> tuple[float, str]:
    """Queries a second at a recall, and a mark; NaN where the curve does not reach it."""
    ordered = sorted(points)
    if not ordered:
        return math.nan, "-"
    if ordered[0][0] >= target:
        return max(speed for _, speed in ordered), "+"
    best = math.nan
    for (low, fast), (high, slow) in pairwise(ordered):
        if low < target <= high:
            part = (target - low) / (high - low)
            best = math.exp(math.log(fast) + part * (math.log(slow) - math.log(fast)))
    return best, "-" if math.isnan(best) else ""


def frontier(measured: list[Measured]) -> list[Measured]:
    """Those that nobody beats in both recall and speed, by rising recall."""
    kept: list[Measured] = []
    for one in sorted(measured, key=lambda m: (-m["recall"], -m["speed"])):
        if not kept or one["speed"] > kept[-1]["speed"]:
            kept.append(one)
    return kept[::-1]


def points_of(measured: list[Measured]) -> list[Point]:
    return [(one["recall"], one["speed"]) for one in measured]


def choose(entry: Entry) -> None:
    """Keeps the settings about the targets, as seen on the tuning queries."""
    best = frontier(entry.tuned)
    keep: set[int] = set()
    for target in TARGETS:
        above = [i for i, one in enumerate(best) if one["recall"] >= target]
        first = above[0] if above else len(best) - 1
        keep.update(i for i in (first - 1, first, first + 1) if 0 <= i < len(best))
    entry.settings = [best[i]["setting"] for i in sorted(keep)]


def best_at(candidates: list[Entry], target: float) -> Entry | None:
    """By the tuning queries."""
    speeds = [(speed_at(points_of(frontier(one.tuned)), target)[0], one) for one in candidates]
    known = [(speed, one) for speed, one in speeds if not math.isnan(speed)]
    return max(known, key=lambda pair: pair[0])[1] if known else None


def ratio(one: Entry, other: Entry | None, target: float) -> float:
    """Median over the rounds; NaN where either does not reach the recall."""
    if other is None:
        return math.nan
    pairs = zip(one.rounds, other.rounds, strict=True)
    ratios = [
        speed_at(points_of(a), target)[0] / speed_at(points_of(b), target)[0] for a, b in pairs
    ]
    known = [value for value in ratios if not math.isnan(value)]
    return statistics.median(known) if known else math.nan


# ---- reporting ----


def shown(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def table(data: Data, ran: list[Entry]) -> list[str]:
    lines = [
        f"## {data.name}: {data.rows:,} x {data.dimension}",
        "",
        "| | QPS at "
        + " | at ".join(f"{t:.2f}" for t in TARGETS)
        + " | x hnswlib, .95 | .99 | rounds' ratios at .95 | build, CPU s | bytes a row |",
        "| --- " * (len(TARGETS) + 6) + "|",
    ]
    base = next((one for one in ran if one.name == "hnswlib m16"), None)
    for one in ran:
        cells = []
        for target in TARGETS:
            speeds = [speed_at(points_of(points), target) for points in one.rounds]
            known = [speed for speed, _ in speeds if not math.isnan(speed)]
            mark = "+" if any(mark == "+" for _, mark in speeds) else ""
            cells.append(f"{statistics.median(known):,.0f}{mark}" if known else "-")
        cells += [shown(ratio(one, base, target), ".2f") for target in TARGETS[1:]]
        cells.append(spread(one, base))
        loaded = "*" if one.facts.get("load", 0) > 1.5 else ""
        cells.append(f"{one.facts['build_s']:.1f}{loaded}")
        cells.append(f"{one.facts['bytes'] / data.rows:,.0f}" + own_bytes(one, data))
        lines.append(f"| {one.name} | " + " | ".join(cells) + " |")
    return lines


def spread(one: Entry, base: Entry | None) -> str:
    if base is None or one is base:
        return ""
    ratios = [
        speed_at(points_of(a), 0.95)[0] / speed_at(points_of(b), 0.95)[0]
        for a, b in zip(one.rounds, base.rounds, strict=True)
    ]
    known = [value for value in ratios if not math.isnan(value)]
    return f"{min(known):.2f} to {max(known):.2f}" if known else ""


def own_bytes(one: Entry, data: Data) -> str:
    """Of ours: without full vectors."""
    if "index_bytes" not in one.facts:
        return ""
    return f" ({one.facts['index_bytes'] / data.rows:,.0f} without vectors)"


def verdict(data: Data, ran: list[Entry]) -> list[str]:
    ours = [one for one in ran if one.ours]
    peers = [one for one in ran if not one.ours]
    base = next((one for one in ran if one.name == "hnswlib m16"), None)
    lines = ["", "| recall | ours | x hnswlib (goal) | best peer | x best peer (goal) |"]
    lines.append("| --- | --- | --- | --- | --- |")
    goal95, goal99, goal_peer = GOALS[data.name]
    for target, goal in ((0.95, goal95), (0.99, goal99)):
        own, peer = best_at(ours, target), best_at(peers, target)
        if own is None:
            continue
        lines.append(
            f"| {target} | {own.name} | {shown(ratio(own, base, target), '.2f')} ({goal}) | "
            f"{peer.name if peer else '-'} | {shown(ratio(own, peer, target), '.2f')} "
            f"({goal_peer}) |"
        )
    lines += ["", "Settings reported: "]
    for one in ran:
        told = "; ".join(
            f"{m['recall']:.4f} at {compact(m['setting'])}"
            + (f", {m['distances']:.0f} distances" if m["distances"] else "")
            for m in sorted(one.rounds[-1], key=lambda m: m["recall"])
        )
        lines.append(f"- {one.name}: {told}")
    return lines


def compact(setting: dict[str, float]) -> str:
    return " ".join(f"{key} {value:g}" for key, value in setting.items())


# ---- one data set ----


def open_all(data: Data, arguments: argparse.Namespace) -> list[Entry]:
    ran = []
    for entry in entries():
        wanted = entry.quick if arguments.quick else data.name in entry.data
        if data.name not in entry.data or not wanted:
            continue
        if entry.ours and arguments.build_only and not arguments.keep_ours:
            continue
        if arguments.only and not any(text in entry.name for text in arguments.only):
            continue
        began = time.monotonic()
        try:
            prepare_entry(entry, data, arguments)
        except (RuntimeError, OSError) as error:
            print(f"  {entry.name}: left out: {error}", flush=True)
            stop(entry)
            continue
        if arguments.build_only:
            stop(entry)
        ran.append(entry)
        print(
            f"  {entry.name}: build {entry.facts['build_s']:.1f} CPU s, tuned over "
            f"{len(entry.tuned)} settings, {time.monotonic() - began:.0f} s",
            flush=True,
        )
    return ran


def prepare_entry(entry: Entry, data: Data, arguments: argparse.Namespace) -> None:
    start(entry, arguments)
    name = "-".join([data.folder.name, *entry.name.split()])
    kept = not entry.ours or arguments.keep_ours
    entry.facts = ask(
        entry,
        {
            "op": "open",
            "engine": entry.engine,
            "options": entry.options,
            "data": str(data.folder),
            "angular": data.angular,
            "cpu": arguments.cpu,
            "queries": arguments.queries,
            "saved": str(arguments.cache / f"{name}.index") if kept else None,
            "rebuild": arguments.rebuild,
        },
    )
    if not arguments.build_only:
        entry.tuned = ask(entry, {"op": "tune"})
        choose(entry)


def compare(data: Data, arguments: argparse.Namespace) -> list[str]:
    print(f"{data.name}: {data.rows} x {data.dimension}", flush=True)
    ran = open_all(data, arguments)
    if arguments.build_only:
        return []
    loads = []
    for number in range(arguments.rounds):
        began = time.monotonic()
        for i in range(len(ran)):
            entry = ran[(i + number) % len(ran)]
            request = {"op": "run", "settings": entry.settings, "seconds": arguments.seconds}
            entry.rounds.append(ask(entry, request))
        loads.append(os.getloadavg()[0])
        print(
            f"  round {number + 1} of {arguments.rounds}: {time.monotonic() - began:.0f} s, "
            f"load {loads[-1]:.1f}",
            flush=True,
        )
    for entry in ran:
        stop(entry)
    lines = table(data, ran) + verdict(data, ran)
    lines += ["", f"Load of the machine, by rounds: {', '.join(f'{x:.1f}' for x in loads)}", ""]
    print("\n".join(lines), flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="ProximaDB's index beside other libraries'")
    parser.add_argument("--library", type=Path, required=True, help="libproximadb.so, release")
    parser.add_argument("--glass-python", default="", help="a Python 3.10 with glassppy")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--data", action="append", choices=NAMES)
    parser.add_argument("--only", action="append", default=[], help="part of an entry's name")
    parser.add_argument("--rows", type=int, help="only so many rows of each set")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--queries", type=int, default=2000, help="of each half, at most")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each setting in a round")
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--rebuild", action="store_true")
    parser.add_argument(
        "--build-only", action="store_true", help="of peers, what the cache does not have yet"
    )
    parser.add_argument(
        "--keep-ours", action="store_true", help="ours is taken from the cache, too, and left there"
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, help="where the tables go, too")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (3 if arguments.quick else 7)
    if arguments.quick:
        arguments.rows, arguments.seconds = arguments.rows or 20_000, 0.2
    arguments.cache.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    for name in arguments.data or NAMES:
        queries = 1000 if arguments.quick else 4000
        data = prepare(name, arguments.cache, arguments.rows, queries)
        lines += compare(data, arguments)
    if arguments.output:
        arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
