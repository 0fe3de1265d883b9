#!/usr/bin/env python3
"""What the server makes of its indexes: speed over gRPC, a second core, searches beside ingest.

    approximate.py [--build DIR] [--rounds N] [--seconds N] [--rows N] [--realtime] [--json FILE]
                   doors | cores | disk | ingest

doors   one query a request over gRPC, 64 in flight, one reactor, on clustered rows (768-d) and
        Fashion-MNIST, against the library's index of the same rows (the program `library`): recall
        of both, processor time of a query in the server's threads and in the library, queries a
        second
cores   one single collection with one reactor and with two: queries a second, and processor time
        of a query in the reactors' threads, from which follows what they could do with cores of
        their own
disk    as doors, with target_recall 0.95, of two collections of the same rows in turns: one whose
        vectors are in memory, and one that reads those it ranks again through the reactor's ring
        (storage.vectors = "disk"), from a file that the page cache has
ingest  p99 of searches at a constant rate in an indexed collection, alone and while a million rows
        come into another one and are indexed; a search counts from the moment when it was due

The client has the last core for itself where a reactor does not need it. cores needs cores for the
client beside the reactors: with fewer than both need, they share, and the figures say so
("shared"): queries a second are then the client's, too, and only processor time tells.

--realtime is for machines that do other things, too: reactors, searching clients and, below these,
workers run at real-time priority, so that others get next to nothing.
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
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from measure import cpu_seconds_by_thread, free_port, wait_for_port
from steady import group_of, number, on_last_core, priority

FASHION = Path("/usr/share/datasets/fashion-mnist")
INGEST_ROWS = 1_000_000
INGEST_DIMENSION = 128
STREAMS = ["--connections", "4", "--streams", "16"]
QUERIES = ["--queries", "2000"]


@dataclass(frozen=True, slots=True)
class Settings:
    build: Path
    rounds: int
    seconds: int
    rows: int
    rate: float
    realtime: bool
    folder: Path


class Server:
    def __init__(self, settings: Settings, data: Path, cores: int) -> None:
        self.settings = settings
        self.port = free_port()
        environment = dict(os.environ, PROXIMADB_STORAGE__FLUSH_AGE_S="1")
        self.process = subprocess.Popen(
            [
                str(settings.build / "proximadb"), "serve", "--data-dir", str(data),
                "--listen", f"127.0.0.1:{self.port}", "--cores", str(cores),
            ],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for_port(self.port, self.process)  # type: ignore[arg-type]
        if settings.realtime:
            self.rise()

    def rise(self) -> None:
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            reactor = (task / "comm").read_text().startswith("pdb-core")
            os.sched_setscheduler(
                int(task.name), os.SCHED_FIFO, os.sched_param(10 if reactor else 5)
            )

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=300)

    def bench(self, *arguments: str) -> list[str]:
        program = str(self.settings.build / "pdb-bench")
        return [program, *arguments, "--url", f"127.0.0.1:{self.port}"]


@contextmanager
def serving(settings: Settings, cores: int) -> Iterator[tuple[Server, Path]]:
    with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
        server = Server(settings, Path(folder) / "data", cores)
        try:
            yield server, Path(folder)
        finally:
            server.end()


def searching(settings: Settings, command: list[str]) -> list[str]:
    return on_last_core([*(priority() if settings.realtime else []), *command])


def run(command: list[str], out: Path) -> dict[str, object]:
    """The one group of a run of pdb-bench."""
    done = subprocess.run(
        [*command, "--json", str(out)], capture_output=True, text=True, timeout=3600, check=False
    )
    if done.returncode == 2 or not out.exists():
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return group_of(out)


def clustered(settings: Settings) -> list[str]:
    return [
        "--rows", str(settings.rows), "--dimension", "768", "--clusters", "200",
        "--metric", "cosine", "--pool-mib", "2048",
    ]  # fmt: skip


def fashion() -> list[str]:
    rows = FASHION / "train-images-idx3-ubyte.gz"
    queries = FASHION / "t10k-images-idx3-ubyte.gz"
    return ["--data", str(rows), "--query-data", str(queries), "--metric", "euclidean"]


def load(server: Server, data: list[str], collection: str, folder: Path) -> float:
    """Seconds until all rows are in segments with their indexes."""
    begun = time.monotonic()
    run(
        server.bench("load", "--collection", collection, "--batch", "500", "--wait-indexed", *data),
        folder / "load.json",
    )
    return time.monotonic() - begun


def search(
    server: Server, data: list[str], collection: str, folder: Path, *more: str
) -> dict[str, object]:
    command = server.bench(
        "search", "--collection", collection, *QUERIES, *STREAMS, *data,
        "--duration", str(server.settings.seconds), *more,
    )  # fmt: skip
    return run(searching(server.settings, command), folder / "search.json")


@dataclass(frozen=True, slots=True)
class Speed:
    qps: float
    p50_us: float
    cpu_us: float  # of a query, in all threads of the server
    busy: float  # cores that these kept busy


def speed(
    server: Server, data: list[str], folder: Path, *more: str, collection: str = "bench"
) -> Speed:
    """The recall run before has warmed it."""
    before = sum(cpu_seconds_by_thread(server.process.pid))
    found = search(server, data, collection, folder, "--warmup", "0", *more)
    used = sum(cpu_seconds_by_thread(server.process.pid)) - before
    count = number(found, "operations")
    qps = number(found, "operations_per_s")
    return Speed(qps, number(found, "latency_us", "p50"), used / count * 1e6, used / count * qps)


def library(settings: Settings, data: list[str], *more: str) -> dict[str, float]:
    program = settings.build / "perf" / "server" / "library"
    command = [str(program), *QUERIES, *data, *more]
    if settings.realtime:
        command = [*priority(), *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=True)
    words = done.stdout.splitlines()[-1].split()
    return {key: float(value) for key, value in zip(words[::2], words[1::2], strict=True)}


def doors(settings: Settings) -> dict[str, float]:
    result: dict[str, float] = {}
    for name, data in (("clustered", clustered(settings)), ("fashion", fashion())):
        alone = library(settings, data, "--recall")
        with serving(settings, 1) as (server, folder):
            result[f"{name}_ready_s"] = load(server, data, "bench", folder)
            judged = search(server, data, "bench", folder, "--recall", "--min-recall", "0")
            found = speed(server, data, folder)
        result[f"{name}_recall"] = number(judged, "recall", "value")
        result[f"{name}_library_recall"] = alone["recall"]
        result[f"{name}_cpu_us"] = found.cpu_us
        result[f"{name}_library_cpu_us"] = alone["cpu_us"]
        result[f"{name}_share"] = alone["cpu_us"] / found.cpu_us
        result[f"{name}_qps"] = found.qps
        result[f"{name}_share_by_qps"] = found.qps * alone["cpu_us"] / 1e6
    return result


def create(server: Server, name: str, dimension: int, metric: str, vectors: str) -> None:
    body = {
        "name": name, "dimension": dimension, "metric": metric, "storage": {"vectors": vectors},
        "index": {"type": "hnsw"}, "quantization": {"type": "sq8"},
    }  # fmt: skip
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/v1/collections",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()


def disk(settings: Settings) -> dict[str, float]:
    result: dict[str, float] = {}
    wish = ("--target-recall", "0.95")
    for name, data, shape in (
        ("clustered", clustered(settings), (768, "cosine")),
        ("fashion", fashion(), (784, "euclidean")),
    ):
        with serving(settings, 1) as (server, folder):
            for place in ("memory", "disk"):
                create(server, place, *shape, place)
                load(server, data, place, folder)
                judged = search(server, data, place, folder, "--recall", "--min-recall", "0", *wish)
                result[f"{name}_{place}_recall"] = number(judged, "recall", "value")
            shares: list[float] = []
            shares_by_cpu: list[float] = []
            for _ in range(3):
                held, read = (
                    speed(server, data, folder, *wish, collection=place)
                    for place in ("memory", "disk")
                )
                shares.append(read.qps / held.qps)
                shares_by_cpu.append(held.cpu_us / read.cpu_us)
            result[f"{name}_memory_qps"], result[f"{name}_disk_qps"] = held.qps, read.qps
            result[f"{name}_memory_cpu_us"] = held.cpu_us
            result[f"{name}_disk_cpu_us"] = read.cpu_us
            result[f"{name}_share"] = statistics.median(shares)
            result[f"{name}_share_by_cpu"] = statistics.median(shares_by_cpu)
    return result


def cores(settings: Settings) -> dict[str, float]:
    """ratio_by_cpu: of what one and two reactors answer in a second of processor time each."""
    result: dict[str, float] = {}
    for count in (1, 2):
        with serving(settings, count) as (server, folder):
            data = clustered(settings)
            load(server, data, "bench", folder)
            speed(server, data, folder)  # warms
            found = speed(server, data, folder)
            result[f"qps_{count}"] = found.qps
            result[f"cpu_us_{count}"] = found.cpu_us
            result[f"busy_{count}"] = found.busy
    result["ratio"] = result["qps_2"] / result["qps_1"]
    result["ratio_by_cpu"] = 2 * result["cpu_us_1"] / result["cpu_us_2"]
    result["shared"] = float(len(os.sched_getaffinity(0)) < 3)
    return result


def ingest(settings: Settings) -> dict[str, float]:
    shape = ["--dimension", str(INGEST_DIMENSION), "--clusters", "1000", "--metric", "euclidean"]
    searched = ["--rows", str(settings.rows), *shape]
    offered = [
        "search", "--collection", "bench", "--queries", "2000", "--connections", "2",
        "--rate", str(settings.rate), *searched, "--warmup", "1",
    ]  # fmt: skip
    with serving(settings, 1) as (server, folder):
        load(server, searched, "bench", folder)
        client = searching(settings, server.bench(*offered))
        idle = run([*client, "--duration", str(settings.seconds)], folder / "idle.json")
        out = folder / "busy.json"
        busy = subprocess.Popen(
            [*client, "--duration", "86000", "--json", str(out)],
            stdout=subprocess.DEVNULL,
        )
        more = ["--rows", str(INGEST_ROWS), *shape, "--pool-mib", "1024", "--connections", "2"]
        seconds = load(server, more, "other", folder)
        busy.send_signal(signal.SIGINT)  # ends the run; what there is is printed
        busy.wait(timeout=300)
        group = group_of(out)
    idle_us, busy_us = number(idle, "latency_us", "p99"), number(group, "latency_us", "p99")
    return {
        "idle_p99_us": idle_us,
        "busy_p99_us": busy_us,
        "ratio": busy_us / idle_us,
        "idle_p50_us": number(idle, "latency_us", "p50"),
        "busy_p50_us": number(group, "latency_us", "p50"),
        "rows_per_s": INGEST_ROWS / seconds,
        "seconds": seconds,
    }


def main() -> None:
    measures: dict[str, Callable[[Settings], dict[str, float]]] = {
        "doors": doors,
        "cores": cores,
        "disk": disk,
        "ingest": ingest,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("measure", choices=sorted(measures))
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10, help="of a phase")
    parser.add_argument("--rows", type=int, default=100_000, help="that are searched")
    parser.add_argument("--rate", type=float, default=200, help="ingest: searches a second")
    parser.add_argument("--realtime", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    settings = Settings(
        a.build.resolve(), a.rounds, a.seconds, a.rows, a.rate, a.realtime, a.folder.resolve()
    )
    rounds: list[dict[str, float]] = []
    for _ in range(settings.rounds):
        rounds.append(measures[a.measure](settings))
        print("  ".join(f"{key} {value:.4g}" for key, value in rounds[-1].items()), flush=True)
    medians = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    print("median: " + "  ".join(f"{key} {value:.4g}" for key, value in medians.items()))
    if a.json is not None:
        a.json.write_text(json.dumps({"measure": a.measure, "rounds": rounds, "median": medians}))


if __name__ == "__main__":
    main()
