#!/usr/bin/env python3
"""What sealed segments cost and bring: bytes written, bytes kept, starts.

    segments.py [--build DIR] [--rounds N] [--rows N] [--json FILE] amplify | restart

amplify  loads rows, waits until the collection is at rest (one segment), and divides what the
         process has sent to the disk, and what lies in collections/ then, by the rows' own bytes
restart  loads rows, kills the server (or stops it), and times the first right answer afterwards

Rows are 128 floats, ids of up to 7 digits and a small label. Ratios within a round are what
counts; the machine may be shared.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from measure import free_port, wait_for_port

DIMENSION = 128
ROW_BYTES = DIMENSION * 4 + 7 + 10  # vector, id, {"label":12}
FLUSH_BYTES = 256 << 20  # the default
REST_S = 600.0


@dataclass(slots=True)
class Settings:
    build: Path
    rounds: int
    rows: int
    folder: Path


class Server:
    """A server on a folder that outlives it."""

    def __init__(self, settings: Settings, data: Path) -> None:
        self.settings = settings
        self.data = data
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = dict(
            os.environ,
            PROXIMADB_STORAGE__FLUSH_BYTES=str(FLUSH_BYTES),
            PROXIMADB_STORAGE__FLUSH_AGE_S="2",
        )
        self.process = subprocess.Popen(
            [
                str(self.settings.build / "proximadb"), "serve", "--data-dir", str(self.data),
                "--listen", f"127.0.0.1:{self.port}", "--cores", "1",
            ],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for_port(self.port, self.process)  # type: ignore[arg-type]

    def end(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(timeout=120)

    def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.loads(answer.read()))

    def counter(self, name: str, label: str = "") -> float:
        url = f"http://127.0.0.1:{self.port}/metrics"
        with urllib.request.urlopen(url, timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        wanted = [line for line in lines if line.startswith(name) and label in line]
        return sum(float(line.split()[-1]) for line in wanted)

    def bench(self, *arguments: str) -> list[str]:
        return [
            str(self.settings.build / "pdb-bench"), *arguments,
            "--url", f"127.0.0.1:{self.port}", "--dimension", str(DIMENSION), "--threads", "1",
        ]  # fmt: skip

    def load(self, collection: str, rows: int) -> list[str]:
        return self.bench(
            "load", "--collection", collection, "--rows", str(rows), "--batch", "500",
            "--label-count", "100", "--metric", "euclidean", "--pool-mib", "1024",
        )  # fmt: skip

    def stats(self, collection: str) -> dict[str, int]:
        return dict(self.call("GET", f"/v1/collections/{collection}")["stats"])

    def rest(self, collection: str) -> dict[str, int]:
        """Until nothing is left to flush or merge."""
        end = time.monotonic() + REST_S
        while time.monotonic() < end:
            stats = self.stats(collection)
            if stats["memtable_rows"] == 0 and stats["segment_count"] == 1:
                return stats
            time.sleep(0.1)
        raise SystemExit(f"never at rest: {stats}")


def quiet(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def amplify(settings: Settings, data: Path) -> dict[str, float]:
    server = Server(settings, data)
    server.start()
    quiet(server.load("bench", settings.rows))
    server.rest("bench")
    assert server.process is not None
    io = Path(f"/proc/{server.process.pid}/io").read_text()
    sent = int(next(x.split()[1] for x in io.splitlines() if x.startswith("write_bytes")))
    logical = settings.rows * ROW_BYTES
    result = {
        "write": sent / logical,
        "write_log": server.counter("proximadb_wal_bytes_total") / logical,
        "write_flush": server.counter("proximadb_flush_bytes_total") / logical,
        "write_merge": server.counter("proximadb_compaction_bytes_total", "written") / logical,
        "merges": server.counter("proximadb_compactions_total"),
        "space": folder_bytes(data / "collections") / logical,
    }
    server.end(signal.SIGTERM)
    return result


def first_answer(server: Server) -> float:
    """Seconds from the start of the program to an answer with rows in it."""
    body = {"vector": [0.1] * DIMENSION, "k": 5}
    started = time.monotonic()
    server.start()
    while True:
        try:
            answer = server.call("POST", "/v1/collections/bench/search", body)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.005)
            continue
        assert len(answer["results"]) == 5
        return time.monotonic() - started


def restart(settings: Settings, data: Path) -> dict[str, float]:
    server = Server(settings, data)
    server.start()
    quiet(server.load("bench", settings.rows))
    server.end(signal.SIGKILL)
    log_bytes = folder_bytes(data / "wal")
    result = {"killed_s": first_answer(server), "log_mib": log_bytes / 2**20}
    server.rest("bench")
    server.end(signal.SIGKILL)
    result["killed_at_rest_s"] = first_answer(server)
    server.end(signal.SIGTERM)
    result["stopped_s"] = first_answer(server)
    server.end(signal.SIGTERM)
    return result


def main() -> None:
    measures: dict[str, Callable[[Settings, Path], dict[str, float]]] = {
        "amplify": amplify,
        "restart": restart,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("measure", choices=sorted(measures))
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    settings = Settings(a.build.resolve(), a.rounds, a.rows, a.folder.resolve())
    rounds: list[dict[str, float]] = []
    for _ in range(settings.rounds):
        with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
            rounds.append(measures[a.measure](settings, Path(folder) / "data"))
        print("  ".join(f"{key} {value:.3f}" for key, value in rounds[-1].items()), flush=True)
    medians = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    print("median: " + "  ".join(f"{key} {value:.3f}" for key, value in medians.items()))
    if a.json is not None:
        a.json.write_text(json.dumps({"measure": a.measure, "rounds": rounds, "median": medians}))


if __name__ == "__main__":
    main()
