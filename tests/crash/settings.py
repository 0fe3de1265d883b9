"""A server in which everything of a segment's life happens within a second or two of load, and
proof from the server itself that it did."""

import contextlib
import json
import os
import re
import subprocess
from pathlib import Path

from tests.http.prometheus import Family, parse
from tests.lib.rest import RestClient
from tests.lib.server import Server, binary

FLUSH_ROWS = 300
SEGMENTS_MAX = 2  # half as many again while there is load
CONFIG = f"""
[storage]
flush_rows = {FLUSH_ROWS}
flush_age_s = 1
segments_max = {SEGMENTS_MAX}

[wal]
segment_bytes = "1MiB"
max_bytes = "2MiB"
encoding = "{{encoding}}"
"""

# What is under way when a process ends, by a kill or in order, leaves files that no manifest names.
HARMLESS = {"leftover"}


def check_offline(server: Server) -> None:
    """`proximadb check`: clean, or files that nothing names; the next start removes them."""
    done = subprocess.run(
        [str(binary()), "check", "--data-dir", str(server.data_dir)],
        capture_output=True,
        text=True,
        check=False,
    )
    told = f"check: {done.returncode}\n{done.stdout}{done.stderr}"
    if done.returncode == 0:
        return
    assert done.returncode == 1, told
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = {line["kind"] for line in lines if line.get("severity") in ("damage", "derived")}
    assert found <= HARMLESS, told


def metrics(server: Server) -> dict[str, Family]:
    with RestClient(server) as rest:
        return parse(rest.request("GET", "/metrics").body.decode())


def folder_of(server: Server, uuid: str) -> Path:
    """Where the files of a collection's shard are."""
    return server.data_dir / "collections" / uuid


MANIFEST = re.compile(r"MANIFEST-(\d+)")


def newest_manifest(folder: Path) -> int:
    """The number of a shard's newest manifest; 0: there is none."""
    matches = [MANIFEST.fullmatch(path.name) for path in folder.glob("MANIFEST-*")]
    return max((int(match.group(1)) for match in matches if match is not None), default=0)


def manifests_written(server: Server) -> int:
    """How many manifests the shards that are there have had: one for each flush and merge."""
    folders = (server.data_dir / "collections").iterdir()
    return sum(newest_manifest(folder) for folder in folders)


def log_bytes(server: Server) -> int:
    """The log files that are there; one may go while we look."""
    total = 0
    for folder, _, names in os.walk(server.data_dir / "wal"):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(folder) / name).stat().st_size if name.endswith(".wal") else 0
    return total
