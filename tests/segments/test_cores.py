"""Starts with other core counts: segments stay where they are, old logs go when not needed."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash.settings import check_offline
from tests.http.wire import eventually
from tests.lib.rest import RestClient
from tests.lib.server import Server, ServerFactory, ServerOptions
from tests.segments.made import Model, check_all, create, record

CONFIG = """
[storage]
flush_rows = 200
flush_age_s = 1
segments_max = 2

[wal]
segment_bytes = "1MiB"
max_bytes = "2MiB"
"""
# with failpoints: while one old log goes, others are not needed any more
SLOWLY = {"PROXIMADB_FAILPOINT": "wal.retired_file:sleep:1"}
COLLECTIONS = 12  # so that every core has some
CORES = (1, 2, 6, 1)  # at last five old logs go, some at the same time


def listed_logs(server: Server) -> set[str]:
    """What catalog/LOGS names."""
    lines = (server.data_dir / "catalog" / "LOGS").read_text().splitlines()
    return {Path(line).name for line in lines[1:-1]}


def log_folders(server: Server) -> set[str]:
    return {path.name for path in (server.data_dir / "wal").iterdir() if path.is_dir()}


def wait_for_logs(server: Server, names: set[str]) -> None:
    eventually("old logs go", lambda: log_folders(server) == names)
    eventually("and are not listed", lambda: listed_logs(server) == names)


def change(rest: RestClient, models: list[Model], rng: random.Random) -> None:
    for model in models:
        for _ in range(3):
            names = [f"{rng.randrange(600):03}" for _ in range(90)]
            model.upsert(rest, [record(rng, name) for name in dict.fromkeys(names)])
        model.delete(rest, rng.sample(sorted(model.rows), 20))


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_other_core_counts_keep_the_rows_and_drop_the_old_logs(
    server_factory: ServerFactory, killed: bool
) -> None:
    rng = random.Random(killed)
    server = server_factory.make(ServerOptions(config=CONFIG, cores=CORES[0]))
    models: list[Model] = []
    for cores in CORES:
        server.options = replace(server.options, cores=cores, env=SLOWLY)
        server.start()
        with RestClient(server) as rest:
            if not models:
                models = [create(rest, f"c{i}") for i in range(COLLECTIONS)]
            owners = {info["owner_core"] for info in rest.list_collections()["collections"]}
            assert max(owners) < cores
            for model in models:
                check_all(rest, model) if model.rows else None
            change(rest, models, rng)
            for model in models:
                check_all(rest, model)
        expected = {str(i) for i in range(cores)}
        # rows get old enough for a segment within seconds, and then nobody needs an old log
        wait_for_logs(server, expected)
        if killed:
            server.kill()
        else:
            assert server.stop() == 0
            check_offline(server)
    server.start()
    with RestClient(server) as rest:
        for model in models:
            check_all(rest, model)
    assert server.stop() == 0
    check_offline(server)
