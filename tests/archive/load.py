"""Writers, and waiting for what the archive says of itself."""

import time
from pathlib import Path

from tests.http.prometheus import Family, parse
from tests.http.wire import eventually
from tests.lib.rest import RestClient
from tests.lib.server import Server

# Rows stay in the log: what the archive holds of them is then all in the archive's logs.
CONFIG = """
[storage]
flush_age_s = 3600

[wal]
segment_bytes = "1MiB"

[archive]
url = "{url}"
interval_s = 1
base_interval_s = {base_interval_s}
keep = {keep}

[server]
shutdown_timeout_s = {shutdown_s}
"""


def config(
    url: str | Path, base_interval_s: int = 3600, keep: int = 7, shutdown_s: int = 60
) -> str:
    return CONFIG.format(url=url, base_interval_s=base_interval_s, keep=keep, shutdown_s=shutdown_s)


def metrics(server: Server) -> dict[str, Family]:
    with RestClient(server) as rest:
        return parse(rest.request("GET", "/metrics").body.decode())


def metric(server: Server, name: str) -> float:
    return metrics(server)["proximadb_" + name].value()


def now_us() -> int:
    return time.time_ns() // 1000


def wait_covered(server: Server, since_us: int | None = None) -> None:
    """Until everything up to now (or then) can be brought back."""
    target_s = (now_us() if since_us is None else since_us) / 1e6
    eventually(
        "the archive covers it", lambda: metric(server, "archive_covered_time_seconds") > target_s
    )


def wait_failing(server: Server) -> None:
    before = metric(server, "archive_failures_total")
    eventually("it fails", lambda: metric(server, "archive_failures_total") > before)


class Writer:
    """Upserts of rows with ids that are never used again; remembers what was acknowledged."""

    def __init__(self, prefix: str = "r") -> None:
        self.prefix = prefix
        self.acknowledged: set[str] = set()
        self._next = 0

    def make(self, rest: RestClient, names: list[str]) -> None:
        for name in names:
            rest.create_collection(name, 3, "dot")

    def write(self, rest: RestClient, collection: str, rows: int = 20) -> None:
        ids = [f"{self.prefix}-{self._next + i:06}" for i in range(rows)]
        self._next += rows
        rest.upsert(collection, [{"id": i, "vector": [1.0, 2.0, 3.0]} for i in ids])
        self.acknowledged |= set(ids)
