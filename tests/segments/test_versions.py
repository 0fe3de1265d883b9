"""Older versions and conditions, over flushes, merges and restarts."""

import random
from collections.abc import Callable

import pytest

from tests.crash.settings import check_offline
from tests.http.wire import eventually
from tests.lib.rest import Json, RestClient, RestError
from tests.lib.server import Server, StartServer
from tests.segments.made import metric, vector

CONFIG = """
[storage]
flush_rows = 60
flush_age_s = 1
segments_max = 1

[wal]
segment_bytes = "1MiB"
"""
IDS = [f"{i:02}" for i in range(40)]
State = dict[str, Json]


def write_history(rest: RestClient, rng: random.Random, count: int) -> dict[int, State]:
    """What there was at each version."""
    history: dict[int, State] = {}
    state: State = {}
    for number in range(count):
        if number % 4 == 3 and state:
            gone = rng.sample(sorted(state), min(6, len(state)))
            rest.delete("c", ids=gone)
            state = {k: v for k, v in state.items() if k not in gone}
            history[int(rest.get_collection("c")["version"])] = state
            continue
        records: list[Json] = [
            {"id": name, "vector": vector(rng, 4), "metadata": {"number": number}}
            for name in rng.sample(IDS, 15)
        ]
        version = int(rest.upsert("c", records)["versions"][0])
        state = state | {str(one["id"]): one | {"version": version} for one in records}
        history[version] = state
    return history


def check_history(server: Server, history: dict[int, State]) -> None:
    with RestClient(server) as rest:
        for version, state in history.items():
            answer = rest.get("c", IDS, as_of=version)
            assert answer["missing"] == [name for name in IDS if name not in state], version
            for one in answer["records"]:
                row = state[one["id"]]
                assert {key: one[key] for key in row} == row, version


def merged(server: Server, before: float) -> Callable[[], bool]:
    return lambda: metric(server, "compactions_total") > before


@pytest.mark.parametrize("vectors", ["memory", "disk"])
def test_retained_versions_survive_merges_and_restarts(
    start_server: StartServer, vectors: str
) -> None:
    server = start_server(config=CONFIG)
    with RestClient(server) as rest:
        storage = {"version_retention_s": 3600, "vectors": vectors, "compression": "zstd"}
        rest.create_collection("c", 4, "euclidean", storage=storage)
        history = write_history(rest, random.Random(vectors), 60)
        check_history(server, history)
        eventually("merged", merged(server, 0))
        eventually("one segment", lambda: one_segment(rest))
        check_history(server, history)
    server.crash()
    check_history(server, history)
    server.restart()
    check_history(server, history)
    assert server.stop() == 0
    check_offline(server)


def one_segment(rest: RestClient) -> bool:
    stats = rest.get_collection("c")["stats"]
    return bool(stats["segment_count"] == 1 and stats["memtable_rows"] == 0)


def refused(rest: RestClient, name: str, if_version: int) -> str:
    with pytest.raises(RestError) as failure:
        rest.upsert("c", [{"id": name, "vector": [1, 1, 1, 1], "if_version": if_version}])
    return failure.value.code


def test_a_deleted_id_is_not_what_it_was(start_server: StartServer) -> None:
    """A condition on the version before the delete fails in every state of the files."""
    server = start_server(config=CONFIG)
    with RestClient(server) as rest:
        rest.create_collection("c", 4, "euclidean")
        batch: list[Json] = [{"id": name, "vector": [1, 2, 3, 4]} for name in IDS]
        old = int(rest.upsert("c", batch)["versions"][0])
        rest.delete("c", ids=IDS[:20])
        rest.upsert("c", batch[20:])
        codes = {refused(rest, IDS[0], old)}
        eventually("flushed", lambda: one_segment(rest))
        codes.add(refused(rest, IDS[1], old))
    for start in (server.crash, server.restart):
        start()
        with RestClient(server) as rest:
            codes.add(refused(rest, IDS[2], old))
            codes.add(refused(rest, IDS[30], old))
            codes.add(refused(rest, IDS[30], 0))
    assert len(codes) == 1, codes
    with RestClient(server) as rest:
        for name in IDS[:3]:
            record: Json = {"id": name, "vector": [4, 3, 2, 1], "if_version": 0}
            new = int(rest.upsert("c", [record])["versions"][0])
            assert new > old
            assert refused(rest, name, old) in codes
            assert refused(rest, name, 0) in codes
