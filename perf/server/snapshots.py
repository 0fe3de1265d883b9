#!/usr/bin/env python3
"""Whether taking a snapshot holds anybody up: the worst latencies of seconds with and without one.

    snapshots.py [--build DIR] [--rounds N] [--rows N] [--cores N] [--json FILE] take | restore

take     a loaded collection takes writes and searches at constant rates (an open loop: a late
         answer counts from when its request was due). Windows without snapshots and windows in
         which some are taken, listed and deleted take turns
restore  the same, while the snapshot is restored under another name and that one is deleted again

Each round is one window of each kind, the kind that comes first alternating. Prints the worst and
the 99.9th percentile of both, and how long a snapshot took; last the medians. The figure that has a
goal is `stall`: the worst latency with snapshots less the worst one without; under 50 ms. Steps of
a reactor that took over 10 ms are printed with the names that the server gives them.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from measure import free_port, wait_for_port

DIMENSION = 128
WARM_UP_S = 2
STEP = re.compile(r"a step of task (\S+) took (\d+) us")


@dataclass(slots=True)
class Settings:
    build: Path
    rounds: int
    rows: int
    cores: int
    window_s: int
    snapshots: int  # in a window
    write_rate: int
    read_rate: int


class Server:
    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.port = free_port()
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    str(settings.build / "proximadb"), "serve",
                    "--data-dir", str(folder / "data"),
                    "--listen", f"127.0.0.1:{self.port}", "--cores", str(settings.cores),
                ],
                env=dict(os.environ, PROXIMADB_LOG__FORMAT="text"),
                stdout=subprocess.DEVNULL,
                stderr=log,
            )  # fmt: skip
        wait_for_port(self.port, self.process)  # type: ignore[arg-type]
        while not self.ready():
            time.sleep(0.05)

    def ready(self) -> bool:
        """Its port is open before its data is there."""
        try:
            self.call("GET", "/readyz")
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            text = answer.read()
        return dict(json.loads(text)) if text else {}

    def bench(self, *arguments: str) -> list[str]:
        core = str(max(os.sched_getaffinity(0)))  # the reactors begin with the lowest
        return [
            "taskset", "-c", core, str(self.settings.build / "pdb-bench"), *arguments,
            "--url", f"127.0.0.1:{self.port}",
            "--dimension", str(DIMENSION), "--threads", "1", "--label-count", "100",
            "--metric", "euclidean", "--sync", "always",
        ]  # fmt: skip

    def load(self) -> None:
        rows = str(self.settings.rows)
        run(self.bench("load", "--rows", rows, "--batch", "500", "--pool-mib", "1024"))

    def steps(self) -> list[tuple[str, int]]:
        """Steps of over 10 ms that the log tells, with microseconds."""
        found = STEP.findall(self.log.read_text(errors="replace"))
        return [(name, int(took)) for name, took in found]

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=120)


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")


def take_once(server: Server, name: str) -> float:
    """Seconds that taking one took; it is listed, described and deleted afterwards."""
    started = time.monotonic()
    server.call("POST", "/v1/snapshots", {"name": name})
    took = time.monotonic() - started
    server.call("GET", "/v1/snapshots")
    server.call("GET", f"/v1/snapshots/{name}")
    server.call("DELETE", f"/v1/snapshots/{name}")
    return took


def restore_once(server: Server, name: str) -> float:
    started = time.monotonic()
    server.call("POST", "/v1/snapshots/base/restore", {"target": name})
    took = time.monotonic() - started
    server.call("DELETE", f"/v1/collections/{name}")
    return took


def window(server: Server, measure: str, busy: bool) -> dict[str, float]:
    settings = server.settings
    result = server.folder / "window.json"
    mixed = subprocess.Popen(
        server.bench(
            "mixed", "--rows", str(settings.rows), "--batch", "16",
            "--duration", str(WARM_UP_S + settings.window_s), "--warmup", str(WARM_UP_S),
            "--write-rate", str(settings.write_rate), "--read-rate", str(settings.read_rate),
            "--connections", "2", "--streams", "2", "--json", str(result),
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    took: list[float] = []
    start = time.monotonic() + WARM_UP_S + 0.5
    for i in range(settings.snapshots if busy else 0):
        due = start + i * (settings.window_s - 1) / settings.snapshots
        time.sleep(max(0.0, due - time.monotonic()))
        once = take_once if measure == "take" else restore_once
        took.append(once(server, f"s{i}"))
    told, _ = mixed.communicate(timeout=600)
    if mixed.returncode != 0:
        raise SystemExit(f"pdb-bench mixed: {told}")
    figures: dict[str, float] = {}
    for group in json.loads(result.read_text())["groups"]:
        kind = "search" if group["name"] == "search" else "write"
        latency = group["latency_us"]
        figures[f"{kind}_worst_ms"] = latency["max"] / 1000
        figures[f"{kind}_p999_ms"] = latency["p99.9"] / 1000
    if took:
        figures["took_ms"] = max(took) * 1000
    return figures


def measure_round(server: Server, measure: str, number: int) -> dict[str, float]:
    windows: dict[bool, dict[str, float]] = {}
    for busy in (False, True) if number % 2 == 0 else (True, False):
        windows[busy] = window(server, measure, busy)
    figures = {f"alone_{key}": value for key, value in windows[False].items()}
    figures |= {f"with_{key}": value for key, value in windows[True].items()}
    for kind in ("write", "search"):
        figures[f"{kind}_stall_ms"] = (
            windows[True][f"{kind}_worst_ms"] - windows[False][f"{kind}_worst_ms"]
        )
    return figures


def by_name(steps: list[tuple[str, int]]) -> dict[str, list[int]]:
    result: dict[str, list[int]] = {}
    for name, took in steps:
        result.setdefault(name, []).append(took)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("measure", choices=("take", "restore"))
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--window", type=int, default=6, help="seconds")
    parser.add_argument("--snapshots", type=int, default=3, help="in each window")
    parser.add_argument("--write-rate", type=int, default=100, help="batches of 16 a second")
    parser.add_argument("--read-rate", type=int, default=50)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    settings = Settings(
        a.build.resolve(), a.rounds, a.rows, a.cores, a.window, a.snapshots, a.write_rate,
        a.read_rate,
    )  # fmt: skip
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(dir=a.folder.resolve()) as folder:
        server = Server(settings, Path(folder))
        atexit.register(server.process.kill)
        server.load()
        server.call("POST", "/v1/snapshots", {"name": "base"})
        window(server, a.measure, True)  # not counted
        told = len(server.steps())
        for number in range(settings.rounds):
            rounds.append(measure_round(server, a.measure, number))
            print("  ".join(f"{k} {v:.1f}" for k, v in rounds[-1].items()), flush=True)
        for name, all_took in by_name(server.steps()[told:]).items():
            print(f"steps {name}: {len(all_took)}, the worst {max(all_took) / 1000:.1f} ms")
        server.end()
    medians = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    print("median: " + "  ".join(f"{key} {value:.1f}" for key, value in medians.items()))
    if a.json is not None:
        a.json.write_text(json.dumps({"measure": a.measure, "rounds": rounds, "median": medians}))


if __name__ == "__main__":
    main()
