"""What is told of indexes that are built in the background, through both doors."""

import re

import pytest
from proximadb.v1 import proximadb_pb2 as pb
from proximadb.v1 import proximadb_pb2_grpc as rpc

from tests.http.wire import eventually
from tests.lib.rest import Json, RestClient
from tests.lib.rpc import open_channel
from tests.lib.server import Server, StartServer

ROWS = 1000
CONFIG = """
[storage]
flush_rows = 500
flush_age_s = 3600
"""
STATES = ("ready", "waiting", "building", "failed")


def fill(rest: RestClient, name: str, rows: int = ROWS) -> None:
    """Vectors of the default field or of `a`; every third record of two fields has no `b`."""
    named = rest.get_collection(name)["fields"][0]["name"] != ""
    for first in range(0, rows, 250):
        batch: list[Json] = []
        for i in range(first, first + 250):
            vector = [float(i % 31), float(i % 37), float(i % 41), float(i)]
            one: Json = {"id": str(i)}
            if not named:
                one["vector"] = vector
            else:
                one["vectors"] = {"a": vector} | ({} if i % 3 == 0 else {"b": vector})
            batch.append(one)
        rest.upsert(name, batch)


def states(rest: RestClient, name: str) -> list[Json]:
    return [field["index_state"] for field in rest.get_collection(name)["fields"]]


def wait_until_ready(rest: RestClient, name: str, rows: int = ROWS) -> list[Json]:
    """Until all rows are in segments, and these have what they are to have."""

    def ready() -> bool:
        described = rest.get_collection(name)
        for field in described["fields"]:
            state = field["index_state"]
            assert state["state"] in STATES
            assert 0 <= state["progress"] <= 1
            assert state["rows_indexed"] <= state["rows"]
        stats = described["stats"]
        in_segments = stats["segment_rows"] - stats["tombstones"] == rows
        return in_segments and all(
            field["index_state"]["state"] == "ready" for field in described["fields"]
        )

    eventually("all rows are in segments with their indexes", ready)
    return states(rest, name)


@pytest.fixture(name="indexing")
def indexing_server(start_server: StartServer) -> Server:
    return start_server(config=CONFIG, cores=2)


def test_a_new_collection_is_ready_with_nothing(indexing: Server) -> None:
    with RestClient(indexing) as rest:
        rest.create_collection("empty", 4, "dot", index={"type": "hnsw"})
        assert states(rest, "empty") == [
            {
                "state": "ready",
                "rows": 0,
                "rows_indexed": 0,
                "rows_wanted": 0,
                "progress": 1,
                "eta_s": 0,
                "bytes": 0,
                "indexes": 0,
                "recall_estimate": None,
            }
        ]
        listed = rest.list_collections()["collections"]
        assert [field["index_state"]["state"] for field in listed[0]["fields"]] == ["ready"]


def test_each_field_tells_of_its_own_index(indexing: Server) -> None:
    with RestClient(indexing) as rest:
        fields = [
            {"name": "a", "dimension": 4, "metric": "euclidean", "index": {"type": "hnsw"}},
            {"name": "b", "dimension": 4, "metric": "euclidean", "index": {"type": "flat"}},
        ]
        rest.call("POST", "/v1/collections", {"name": "two", "fields": fields})
        fill(rest, "two")
        a, b = wait_until_ready(rest, "two")
        assert (a["rows"], a["rows_indexed"], a["rows_wanted"]) == (ROWS, ROWS, ROWS)
        assert a["indexes"] >= 1
        assert a["bytes"] > ROWS
        assert (b["rows"], b["rows_indexed"], b["rows_wanted"]) == (666, 0, 0)
        assert (b["indexes"], b["bytes"]) == (0, 0)
        listed = rest.list_collections()["collections"]
        assert [field["index_state"] for field in listed[0]["fields"]] == [a, b]
    with open_channel(indexing) as channel:
        client = rpc.ProximaDBStub(channel)
        told = client.GetCollection(pb.GetCollectionRequest(collection="two")).collection
        assert [state.field for state in told.index_states] == ["a", "b"]
        first = told.index_states[0]
        assert (first.state, first.rows, first.rows_indexed) == ("ready", ROWS, ROWS)
        assert (first.bytes, first.indexes) == (a["bytes"], a["indexes"])
        assert first.progress == 1
        assert not first.HasField("recall_estimate")


def test_the_log_tells_what_was_made(start_server: StartServer) -> None:
    """Of a segment that was measured, and aims at what its collection says (500 rows are few)."""
    server = start_server(config=CONFIG.replace("500", "2000"), cores=1)
    with RestClient(server) as rest:
        rest.create_collection("told", 4, "euclidean", index={"type": "hnsw"}, target_recall=0.9)
        uuid = rest.get_collection("told")["uuid"]
        fill(rest, "told", 2000)
        wait_until_ready(rest, "told", 2000)
    lines = re.findall(rf'collection {uuid}: segment \d+ has an index: ([^"]*)', server.log)
    assert lines
    for line in lines:
        told = dict(part.split("=", 1) for part in line.split())
        assert set(told) == {
            *("field", "kind", "rows", "bytes", "merged"),
            *("repaired", "recall", "target", "took_ms"),
        }
        assert (told["kind"], told["target"]) == ("hnsw", "0.9")
        assert int(told["repaired"]) <= int(told["rows"])
        assert 0.85 <= float(told["recall"]) <= 1


def test_a_patch_brings_an_index_and_takes_it_away(indexing: Server) -> None:
    with RestClient(indexing) as rest:
        rest.create_collection("changing", 4, "euclidean", index={"type": "flat"})
        fill(rest, "changing")
        (state,) = wait_until_ready(rest, "changing")
        assert state["rows_indexed"] == 0
        query: Json = {"vector": [1, 1, 1, 1], "k": 5}
        before = [hit["id"] for hit in rest.search("changing", **query)["results"]]
        changed = rest.update_collection("changing", index={"type": "hnsw", "m": 8})
        assert changed["fields"][0]["index_state"]["rows_wanted"] == ROWS
        (state,) = wait_until_ready(rest, "changing")
        assert (state["rows_indexed"], state["rows_wanted"]) == (ROWS, ROWS)
        exact = rest.search("changing", params={"exact": True}, **query)["results"]
        assert [hit["id"] for hit in exact] == before
        rest.update_collection("changing", index={"type": "flat"})
        eventually("no index", lambda: states(rest, "changing")[0]["indexes"] == 0)
        assert [hit["id"] for hit in rest.search("changing", **query)["results"]] == before
