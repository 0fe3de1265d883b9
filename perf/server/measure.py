#!/usr/bin/env python3
"""Measures a whole server against a peer or the machine's limit, in turns, medians of rounds.

    measure.py [--build DIR] [--rounds N] [--json FILE] ingest | livez | unary | idle

ingest  gRPC upserts of 256 x 768 floats, sync mode `batch`, against disk_groups in the same folder
livez   CPU time of GET /livez against nginx returning a fixed body; the client is wrk
unary   gRPC calls with a 3 KB message (a health check, a search), 4 connections x 10 streams,
        against the server named by --peer (a command with PORT in it) and its method
        --peer-path; the client is h2load
idle    CPU share and resident memory of a server that nobody asks

CPU time is the server's own (all threads, from /proc); the machine may be shared, so ratios within
a round are what counts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Settings:
    build: Path
    rounds: int
    seconds: int
    peer: str
    peer_path: str
    folder: Path


@dataclass(slots=True)
class Server:
    pid: int
    port: int


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process, living and ended."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def cpu_seconds_by_thread(pid: int) -> list[float]:
    """Seconds of each thread, the busiest first."""
    times = [
        int((task / "schedstat").read_text().split()[0]) / 1e9
        for task in Path(f"/proc/{pid}/task").iterdir()
    ]
    return sorted(times, reverse=True)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}")
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit(f"nothing listens on port {port}")


@contextmanager
def running(command: list[str], port: int) -> Iterator[Server]:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    )
    try:
        wait_for_port(port, process)
        yield Server(process.pid, port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


@contextmanager
def proximadb(settings: Settings, cores: int) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(dir=settings.folder) as data:
        port = free_port()
        command = [
            str(settings.build / "proximadb"), "serve", "--data-dir", f"{data}/data",
            "--listen", f"127.0.0.1:{port}", "--cores", str(cores),
        ]  # fmt: skip
        with running(command, port) as server:
            yield server


@contextmanager
def nginx() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        config = Path(folder) / "nginx.conf"
        config.write_text(
            f"""daemon off; worker_processes 1; pid {folder}/pid; error_log /dev/null;
master_process off;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 100000000; server {{ listen 127.0.0.1:{port} reuseport;
location = /livez {{ default_type application/json; return 200 '{{"live":true}}'; }} }} }}
"""
        )
        with running(["nginx", "-c", str(config)], port) as server:
            yield server


def run(command: list[str], timeout: float) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{shlex.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def per_request(server: Server, load: Callable[[], int]) -> tuple[float, float]:
    """Microseconds of the server's CPU per request, and requests per second."""
    cpu, start = cpu_seconds(server.pid), time.monotonic()
    requests = load()
    seconds = time.monotonic() - start
    return (cpu_seconds(server.pid) - cpu) / requests * 1e6, requests / seconds


def wrk(server: Server, seconds: int) -> int:
    out = run(
        ["wrk", "-t1", "-c64", f"-d{seconds}s", f"http://127.0.0.1:{server.port}/livez"],
        seconds + 20,
    )
    if "Non-2xx" in out:
        raise SystemExit(out)
    found = re.search(r"(\d+) requests in", out)
    assert found is not None
    return int(found.group(1))


def livez(settings: Settings) -> dict[str, object]:
    rounds: list[dict[str, float]] = []
    with proximadb(settings, 1) as ours, nginx() as theirs:
        for server in (ours, theirs):
            wrk(server, 1)
        for _ in range(settings.rounds):
            a, a_rate = per_request(ours, lambda: wrk(ours, settings.seconds))
            b, b_rate = per_request(theirs, lambda: wrk(theirs, settings.seconds))
            rounds.append(
                {"us": a, "nginx_us": b, "ratio": a / b, "rate": a_rate, "nginx_rate": b_rate}
            )
    return summary(rounds, goal="ratio <= 1")


def h2load(server: Server, path: str, body: Path, seconds: int) -> int:
    out = run(
        ["h2load", "-t1", "-c4", "-m10", f"-D{seconds}", "-d", str(body),
         "-H", "content-type: application/grpc", "-H", "te: trailers",
         f"http://127.0.0.1:{server.port}{path}"],
        seconds + 20,
    )  # fmt: skip
    found = re.search(r"requests: .* (\d+) succeeded, (\d+) failed", out)
    if found is None or int(found.group(2)) != 0:
        raise SystemExit(out)
    return int(found.group(1))


def grpc_frame(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    length, size = b"", len(payload)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + payload


def rest(server: Server, method: str, path: str, body: object) -> None:
    run(
        ["curl", "-sS", "-f", "-X", method, "-H", "content-type: application/json",
         "-d", json.dumps(body), f"http://127.0.0.1:{server.port}{path}"],
        20,
    )  # fmt: skip


def unary(settings: Settings) -> dict[str, object]:
    """Ours twice: a health check that carries 3 KB, which is the door alone, and a whole search of
    one 768-float vector in a collection of one record. The peer echoes the first message."""
    vector = struct.pack("<768f", *(1.0 + i / 768 for i in range(768)))
    rounds: list[dict[str, float]] = []
    check, search = settings.folder / "check.body", settings.folder / "search.body"
    peer_port = free_port()
    peer = shlex.split(settings.peer.replace("PORT", str(peer_port)))
    if not peer:
        raise SystemExit("unary needs --peer")
    with proximadb(settings, 1) as ours, running(peer, peer_port) as theirs:
        rest(ours, "POST", "/v1/collections", {"name": "one", "dimension": 768, "metric": "dot"})
        records = {"vectors": [{"id": "a", "vector": [1.0] * 768}]}
        rest(ours, "PUT", "/v1/collections/one/vectors", records)
        query = field(2, vector) + bytes([5 << 3, 1])  # packed_vector, k = 1
        search.write_bytes(grpc_frame(field(1, b"one") + field(2, query)))
        check.write_bytes(grpc_frame(field(15, b"x" * 3072)))  # a field the service does not know
        loads = (
            ("check", ours, "/grpc.health.v1.Health/Check", check),
            ("search", ours, "/proximadb.v1.ProximaDB/Search", search),
            ("peer", theirs, settings.peer_path, check),
        )
        for counted in range(settings.rounds + 1):
            row: dict[str, float] = {}
            for name, server, path, body in loads:

                def load(s: Server = server, p: str = path, b: Path = body) -> int:
                    return h2load(s, p, b, settings.seconds)

                row[f"{name}_us"], row[f"{name}_rate"] = per_request(server, load)
            for name in ("check", "search"):
                row[f"{name}_ratio_cpu"] = row["peer_us"] / row[f"{name}_us"]
                row[f"{name}_ratio_rate"] = row[f"{name}_rate"] / row["peer_rate"]
            if counted:
                rounds.append(row)
    return summary(rounds, goal="ratios >= 0.8")


def disk(settings: Settings, group_bytes: int) -> float:
    command = [
        str(settings.build / "perf/server/disk_groups"),
        str(settings.folder),
        str(group_bytes),
        str(settings.seconds),
    ]
    return float(json.loads(run(command, settings.seconds + 60))["bytes_per_s"])


def ingest(settings: Settings) -> dict[str, object]:
    rows, dimension, batch = 256 * 900, 768, 256
    rounds: list[dict[str, float]] = []
    out = settings.folder / "load.json"
    for _ in range(settings.rounds):
        limit = disk(settings, batch * dimension * 4 + 8192)
        with proximadb(settings, 1) as server:
            before = cpu_seconds_by_thread(server.pid)[0]
            run(
                [str(settings.build / "pdb-bench"), "load", "--url", f"127.0.0.1:{server.port}",
                 "--protocol", "grpc", "--format", "packed", "--rows", str(rows),
                 "--dimension", str(dimension), "--batch", str(batch), "--sync", "batch",
                 "--connections", "4", "--streams", "4", "--threads", "1", "--json", str(out)],
                600,
            )  # fmt: skip
            seconds = json.loads(out.read_text())["groups"][0]["elapsed_s"]
            core = (cpu_seconds_by_thread(server.pid)[0] - before) / seconds
            rate = rows * dimension * 4 / seconds
            rounds.append(
                {
                    "bytes_per_s": rate,
                    "disk_bytes_per_s": limit,
                    "ratio": rate / limit,
                    "core_share": core,
                    "rows_per_s": rows / seconds,
                }
            )
    return summary(rounds, goal="ratio >= 0.6, or core_share near 1")


def idle(settings: Settings) -> dict[str, object]:
    rounds: list[dict[str, float]] = []
    with proximadb(settings, os.cpu_count() or 1) as server:
        time.sleep(2)
        for _ in range(settings.rounds):
            cpu = cpu_seconds(server.pid)
            time.sleep(settings.seconds)
            share = (cpu_seconds(server.pid) - cpu) / settings.seconds
            status = Path(f"/proc/{server.pid}/status").read_text()
            found = re.search(r"VmRSS:\s+(\d+) kB", status)
            assert found is not None
            rounds.append({"core_share": share, "rss_mib": int(found.group(1)) / 1024})
    return summary(rounds, goal="core_share < 0.01, rss_mib < 60")


def summary(rounds: list[dict[str, float]], goal: str) -> dict[str, object]:
    medians = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    return {"goal": goal, "median": medians, "rounds": rounds}


def main() -> None:
    measures = {"ingest": ingest, "livez": livez, "unary": unary, "idle": idle}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--peer", default="")
    parser.add_argument("--peer-path", default="/px.Echo/Unary")
    parser.add_argument("--folder", type=Path, help="where data goes: on the disk to measure")
    parser.add_argument("--json", type=Path)
    parser.add_argument("what", choices=measures)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    settings = Settings(
        args.build.resolve(), args.rounds, args.seconds, args.peer, args.peer_path, folder
    )
    try:
        result = measures[args.what](settings)
    finally:
        shutil.rmtree(folder)
    json.dump(result, sys.stdout, indent=2)
    print()
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
