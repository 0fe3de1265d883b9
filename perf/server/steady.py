#!/usr/bin/env python3
"""What searches feel of ingest, flushes and merges on the same core: their p99 with and without.

    steady.py [--build DIR] [--rounds N] [--seconds N] [--rate N] [--share X] [--rows-per-s N]
              [--realtime] [--json FILE]

One reactor. A collection of --rows rows of 128 floats is searched at --rate a second throughout,
each search counted from the moment when it was due. Each round is a fresh server and three phases:

idle   searches alone
heavy  the same beside another collection that takes rows at --share of what the server takes when
       nothing else is asked of it (measured before the rounds), in batches of 500
full   the same beside a load as fast as it is taken

The heavy and the full phase must hold flushes and a merge, or the round fails. The client has the
last of the process's cores for itself and is not waited for: searches come from a process of its
own, at real-time priority where that is allowed. The server may use all cores, so its reactor has
the first one.

--realtime is for machines that do other things, too: the reactor (not its worker, nor the kernel's
threads of its ring) runs at real-time priority. There is no full phase then, because the kernel
takes 50 ms of each second from a thread at such a priority that never rests.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import segments
from segments import Server, Settings, quiet

BATCH = 500
FLUSH_BYTES = 64 << 20
FLUSHES_MIN = 3
MERGES_MIN = 1
WARM_S = 2


@dataclass(slots=True)
class Options:
    settings: Settings
    seconds: int
    rate: float
    share: float
    realtime: bool


@dataclass(slots=True)
class Phase:
    p50_us: float
    p99_us: float
    flushes: float
    merges: float
    rows_per_s: float
    step_us: float  # the longest until its end
    turn_us: float


def priority() -> list[str]:
    """What goes before the command of the searching client."""
    tried = subprocess.run(["chrt", "-f", "10", "true"], capture_output=True, check=False)
    return ["chrt", "-f", "10"] if tried.returncode == 0 else []


def on_last_core(command: list[str]) -> list[str]:
    return ["taskset", "-c", str(max(os.sched_getaffinity(0))), *command]


def group_of(path: Path) -> dict[str, object]:
    group = json.loads(path.read_text())["groups"][0]
    assert isinstance(group, dict)
    if group["error_count"] != 0:
        raise SystemExit(f"{path}: {group['errors']}")
    return group


def number(group: dict[str, object], *path: str) -> float:
    value: object = group
    for key in path:
        assert isinstance(value, dict)
        value = value[key]
    assert isinstance(value, (int, float))
    return float(value)


def writer(server: Server, out: Path, rate: float, seconds: int) -> subprocess.Popen[bytes]:
    """Loads into the other collection; rate 0: as fast as it goes."""
    command = server.bench(
        "load", "--collection", "other", "--drop", "--rows", "100000000", "--batch", str(BATCH),
        "--label-count", "100", "--metric", "euclidean", "--pool-mib", "64", "--connections", "2",
        "--rate", str(rate), "--duration", str(seconds), "--json", str(out),
    )  # fmt: skip
    return subprocess.Popen(on_last_core(command), stdout=subprocess.DEVNULL)


def search(server: Server, options: Options, out: Path) -> dict[str, object]:
    command = server.bench(
        "search", "--collection", "bench", "--rate", str(options.rate), "--connections", "2",
        "--duration", str(options.seconds), "--warmup", "1", "--json", str(out),
    )  # fmt: skip
    quiet(on_last_core([*priority(), *command]))
    return group_of(out)


def phase(server: Server, options: Options, data: Path, rate: float | None) -> Phase:
    """rate: batches a second of the other collection; None: nobody writes."""
    flushes = server.counter("proximadb_flushes_total")
    merges = server.counter("proximadb_compactions_total")
    load = None
    if rate is not None:
        load = writer(server, data / "load.json", rate, options.seconds + WARM_S + 2)
        time.sleep(WARM_S)
    found = search(server, options, data / "search.json")
    result = Phase(
        p50_us=number(found, "latency_us", "p50"),
        p99_us=number(found, "latency_us", "p99"),
        flushes=server.counter("proximadb_flushes_total") - flushes,
        merges=server.counter("proximadb_compactions_total") - merges,
        rows_per_s=0,
        step_us=server.counter("proximadb_reactor_longest_step_seconds") * 1e6,
        turn_us=server.counter("proximadb_reactor_longest_turn_seconds") * 1e6,
    )
    if load is not None:
        load.wait(timeout=120)
        result.rows_per_s = number(group_of(data / "load.json"), "records_per_s")
        if result.flushes < FLUSHES_MIN or result.merges < MERGES_MIN:
            raise SystemExit(f"{result.flushes} flushes and {result.merges} merges: too few")
        server.call("DELETE", "/v1/collections/other")
        time.sleep(WARM_S)
    return result


def raise_reactor(server: Server) -> None:
    assert server.process is not None
    for task in Path(f"/proc/{server.process.pid}/task").iterdir():
        if (task / "comm").read_text().startswith("pdb-core"):
            subprocess.run(["chrt", "-R", "-f", "-p", "10", task.name], check=True)


@contextmanager
def serving(options: Options, data: Path) -> Iterator[Server]:
    """With the collection that is searched, at rest."""
    segments.FLUSH_BYTES = FLUSH_BYTES
    server = Server(options.settings, data)
    server.start()
    if options.realtime:
        raise_reactor(server)
    try:
        quiet(server.load("bench", options.settings.rows))
        server.rest("bench")
        yield server
    finally:
        server.end(signal.SIGTERM)


def ceiling(options: Options) -> float:
    """Rows a second that the server takes when nobody searches."""
    with tempfile.TemporaryDirectory(dir=options.settings.folder) as folder:
        data = Path(folder)
        with serving(options, data / "data") as server:
            for seconds in (WARM_S, options.seconds):
                load = writer(server, data / "load.json", 0, seconds)
                load.wait(timeout=options.seconds + 120)
        return number(group_of(data / "load.json"), "records_per_s")


def one_round(options: Options, rows_per_s: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=options.settings.folder) as folder:
        data = Path(folder)
        with serving(options, data / "data") as server:
            idle = phase(server, options, data, None)
            heavy = phase(server, options, data, rows_per_s * options.share / BATCH)
            full = None if options.realtime else phase(server, options, data, 0)
    result: dict[str, float] = {}
    for name, p in (("idle", idle), ("heavy", heavy), ("full", full)):
        if p is None:
            continue
        result |= {f"{name}_p50_us": p.p50_us, f"{name}_p99_us": p.p99_us}
        if p is idle:
            continue
        result |= {
            f"{name}_p50_ratio": p.p50_us / idle.p50_us,
            f"{name}_p99_ratio": p.p99_us / idle.p99_us,
            f"{name}_rows_per_s": p.rows_per_s,
            f"{name}_flushes": p.flushes,
            f"{name}_merges": p.merges,
            f"{name}_longest_step_us": p.step_us,
            f"{name}_longest_turn_us": p.turn_us,
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=15, help="of a phase")
    parser.add_argument("--rows", type=int, default=50_000, help="that are searched")
    parser.add_argument("--rate", type=float, default=100, help="searches a second")
    parser.add_argument("--share", type=float, default=0.5, help="of the ceiling, when heavy")
    parser.add_argument("--rows-per-s", type=float, help="take this for the ceiling")
    parser.add_argument("--realtime", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    settings = Settings(a.build.resolve(), a.rounds, a.rows, a.folder.resolve())
    options = Options(settings, a.seconds, a.rate, a.share, a.realtime)
    rows_per_s = a.rows_per_s or ceiling(options)
    print(f"ceiling {rows_per_s:.0f} rows/s", flush=True)
    rounds: list[dict[str, float]] = []
    for _ in range(a.rounds):
        rounds.append(one_round(options, rows_per_s))
        print("  ".join(f"{key} {value:.4g}" for key, value in rounds[-1].items()), flush=True)
    medians = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    print("median: " + "  ".join(f"{key} {value:.4g}" for key, value in medians.items()))
    if a.json is not None:
        a.json.write_text(json.dumps({"rows_per_s": rows_per_s, "rounds": rounds}))


if __name__ == "__main__":
    main()
