#!/usr/bin/env python3
"""How fast `proximadb import` and `export` are, against what the server takes and the disk does.

    transfer.py [--build DIR] [--rounds N] [--rows N] [--dimension N] [--cores N] [--json FILE]

In each round, one after the other, on an empty server each:

load     pdb-bench loads rows with a small label: what the server takes (float32 by gRPC); sync
         mode `batch`, as in all imports
npy      an import of the same number of rows and dimension from .npy: vectors alone
fvecs    the same from .fvecs
parquet  the same from Parquet with an id and a label
jsonl    the same from JSON lines; floats are text there: parsing them is the bound
folder   an export of what was imported, as it is (MB/s), and a plain copy of it with sync (cp)
again    an import of that folder
lines    an export as JSON lines

The ratios to `load` within a round are what counts; the machine may be shared. Where it is busy,
CPU time tells more: *_cpu_us is the server's of a row, *_client_us that of the command. Files are
written with numpy and pyarrow, which must be installed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent))

from measure import cpu_seconds, free_port, wait_for_port

LABELS = 100


@dataclass(slots=True)
class Settings:
    build: Path
    rounds: int
    rows: int
    dimension: int
    cores: int
    connections: int
    folder: Path


class Server:
    """One with nothing in it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.data = Path(tempfile.mkdtemp(prefix="data-", dir=settings.folder))
        self.port = free_port()
        self.process = subprocess.Popen(
            [
                str(settings.build / "proximadb"), "serve", "--data-dir", str(self.data),
                "--listen", f"127.0.0.1:{self.port}", "--cores", str(settings.cores),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def __enter__(self) -> Server:
        wait_for_port(self.port, self.process)  # type: ignore[arg-type]
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.data)

    def run(self, *arguments: str | Path) -> str:
        """What a command says."""
        command = [str(self.settings.build / arguments[0]), *map(str, arguments[1:])]
        command += ["--url", f"127.0.0.1:{self.port}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def load(self) -> float:
        settings = self.settings
        said = self.run(
            "pdb-bench", "load", "--collection", "load", "--rows", str(settings.rows),
            "--dimension", str(settings.dimension), "--label-count", str(LABELS),
            "--metric", "cosine", "--threads", "1", "--pool-mib", "1024",
        )  # fmt: skip
        found = re.search(r"([0-9.]+) records/s", said)
        assert found is not None, said
        return float(found[1])

    def import_file(self, path: Path) -> float:
        """Rows a second."""
        arguments = ("--collection", "import", "--create", "--quiet", "--sync", "batch")
        more = ("--connections", str(self.settings.connections))
        return rate(self.run("proximadb", "import", *arguments, *more, path))

    def export(self, path: Path) -> float:
        return rate(
            self.run("proximadb", "export", "--collection", "import", "--quiet", "-o", path)
        )


def rate(said: str) -> float:
    found = re.search(r"\(([0-9]+) rows/s\)", said)
    assert found is not None, said
    return float(found[1])


def timed(settings: Settings, server: Server, name: str, path: Path | None) -> dict[str, float]:
    """Rows a second, and CPU time of a row: the server's, and that of the command."""
    cpu = cpu_seconds(server.process.pid)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {name: server.load() if path is None else server.import_file(path)}
    found[f"{name}_cpu_us"] = (cpu_seconds(server.process.pid) - cpu) / settings.rows * 1e6
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
    found[f"{name}_client_us"] = used / settings.rows * 1e6
    return found


def write_files(settings: Settings) -> None:
    folder, rows, dimension = settings.folder, settings.rows, settings.dimension
    vectors = np.random.default_rng(1).standard_normal((rows, dimension), dtype="f4")
    np.save(folder / "v.npy", vectors)
    head = np.full((rows, 1), dimension, "<i4").view("<f4")
    np.hstack([head, vectors]).tofile(folder / "v.fvecs")
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dimension)
    ids = [str(i) for i in range(rows)]
    labels = [i % LABELS for i in range(rows)]
    table = pa.table({"id": ids, "label": labels, "vector": lists})
    pq.write_table(table, folder / "v.parquet", row_group_size=65536)
    with (folder / "v.jsonl").open("w") as file:
        for i, vector in enumerate(vectors.tolist()):
            line = {"id": ids[i], "vector": vector, "metadata": {"label": labels[i]}}
            file.write(json.dumps(line) + "\n")


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def one_round(settings: Settings) -> dict[str, float]:
    found: dict[str, float] = {}
    with Server(settings) as server:
        found |= timed(settings, server, "load", None)
    for kind in ("npy", "fvecs", "parquet", "jsonl"):
        with Server(settings) as server:
            found |= timed(settings, server, kind, settings.folder / f"v.{kind}")
            if kind != "parquet":
                continue
            out = settings.folder / "out"
            start = time.monotonic()
            server.export(out)
            seconds = time.monotonic() - start
            found["folder_mb_s"] = folder_bytes(out) / 1e6 / seconds
            found["folder"] = settings.rows / seconds
            start = time.monotonic()
            copy = settings.folder / "copy"
            subprocess.run(["cp", "-r", str(out), str(copy)], check=True)
            subprocess.run(["sync", "-f", str(copy)], check=True)
            found["cp_mb_s"] = folder_bytes(out) / 1e6 / (time.monotonic() - start)
            shutil.rmtree(copy)
            start = time.monotonic()
            server.export(settings.folder / "out.jsonl")
            found["lines"] = settings.rows / (time.monotonic() - start)
            (settings.folder / "out.jsonl").unlink()
    with Server(settings) as server:
        found |= timed(settings, server, "again", settings.folder / "out")
    shutil.rmtree(settings.folder / "out")
    for kind in ("npy", "fvecs", "parquet", "jsonl", "again"):
        found[f"{kind}_of_load"] = found[kind] / found["load"]
        found[f"{kind}_cpu_of_load"] = found["load_cpu_us"] / found[f"{kind}_cpu_us"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--cores", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="transfer-") as folder:
        settings = Settings(
            arguments.build.resolve(), arguments.rounds, arguments.rows, arguments.dimension,
            arguments.cores, arguments.connections, Path(folder),
        )  # fmt: skip
        write_files(settings)
        rounds = []
        for number in range(settings.rounds):
            rounds.append(one_round(settings))
            print(number, {key: round(value, 2) for key, value in rounds[-1].items()}, flush=True)
    medians = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
    print("median", {key: round(value, 2) for key, value in medians.items()})
    if arguments.json:
        arguments.json.write_text(json.dumps({"rounds": rounds, "medians": medians}, indent=1))


if __name__ == "__main__":
    main()
