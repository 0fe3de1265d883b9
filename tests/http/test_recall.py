"""How much searches find, as it is asked for and as it is measured all the time, over REST."""

import random

import pytest

from tests.http.test_index_state import wait_until_ready
from tests.http.wire import connect, eventually, head
from tests.lib.rest import Json, RestClient
from tests.lib.server import Server, StartServer
from tests.segments.made import metrics

ROWS = 1000
DIMENSION = 16
CONFIG = """
[storage]
flush_rows = 500
flush_age_s = 3600

[ttl]
sweep_ms = 20
"""


def vector(rng: random.Random) -> list[float]:
    return [rng.uniform(-1, 1) for _ in range(DIMENSION)]


def fill(rest: RestClient, name: str) -> None:
    rng = random.Random(7)
    for first in range(0, ROWS, 250):
        rest.upsert(
            name, [{"id": str(i), "vector": vector(rng)} for i in range(first, first + 250)]
        )


def recall(rest: RestClient, name: str, query: str = "") -> Json:
    return rest.call("GET", f"/v1/collections/{name}/recall{query}")


@pytest.fixture(name="measuring")
def measuring_server(start_server: StartServer) -> Server:
    return start_server(config=CONFIG, cores=2)


def test_an_empty_collection_has_no_recall(rest: RestClient, collection_name: str) -> None:
    rest.create_collection(collection_name, 4)
    told = recall(rest, collection_name)
    assert told["queries"] == 0
    assert told["recall"] is None
    assert (told["k"], told["target_recall"], told["source"]) == (10, 0.97, "records")
    assert told["histogram"] == [0] * 11


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean", "manhattan", "hamming"])
def test_exact_searches_find_everything(
    rest: RestClient, collection_name: str, metric: str
) -> None:
    rest.create_collection(collection_name, 9, metric, target_recall=0.5)
    rng = random.Random(3)
    rows = [{"id": str(i), "vector": [rng.randrange(2) for _ in range(9)]} for i in range(200)]
    rest.upsert(collection_name, rows)
    told = recall(rest, collection_name, "?queries=12&k=5")
    assert (told["queries"], told["source"], told["k"]) == (12, "records", 5)
    assert told["target_recall"] == 0.5
    assert told["recall"] == {"mean": 1, "min": 1, "p05": 1, "p50": 1}
    assert told["histogram"] == [0] * 10 + [12]
    assert told["exact_us"] > 0
    assert told["index_us"] > 0
    for row in rows[:3]:
        rest.search(collection_name, vector=row["vector"], k=3)
    told = recall(rest, collection_name)
    assert (told["queries"], told["source"]) == (3, "searches")
    assert told["recall"]["mean"] == 1


def test_fields_are_asked_by_name(rest: RestClient, collection_name: str) -> None:
    fields = [{"name": name, "dimension": 2, "metric": "dot"} for name in ("a.b", "c")]
    rest.call("POST", "/v1/collections", {"name": collection_name, "fields": fields})
    rows = [{"id": str(i), "vectors": {"c": [i, 1]}} for i in range(20)]
    rest.upsert(collection_name, rows)
    told = recall(rest, collection_name, "?field=c")
    assert (told["field"], told["queries"]) == ("c", 20)
    told = recall(rest, collection_name, "?field=a%2Eb")
    assert (told["field"], told["queries"]) == ("a.b", 0)
    answer = rest.request("GET", f"/v1/collections/{collection_name}/recall")
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT")
    assert "field: the collection has no default vector field" in answer.error_message


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("k=0", "k: expected 1 to 1000, found 0"),
        ("k=1001", "k: expected 1 to 1000, found 1001"),
        ("k=x", "k: 'x' is not a whole number"),
        ("queries=0", "queries: expected 1 to 1000, found 0"),
        ("queries=1001", "queries: expected 1 to 1000"),
        ("queries=-1", "queries: '-1' is not a whole number"),
        ("field=x", "field: the collection has no vector field 'x'"),
        ("target_recall=0.4", "target_recall: expected 0.5 to 1, found '0.4'"),
        ("target_recall=1.1", "target_recall: expected 0.5 to 1"),
        ("target_recall=0", "target_recall: expected 0.5 to 1"),
        ("target_recall=", "target_recall: expected 0.5 to 1, found ''"),
        ("target_recall=nan", "target_recall: expected 0.5 to 1"),
        ("target_recall=0.9x", "target_recall: expected 0.5 to 1"),
    ],
)
def test_bad_questions_say_where_and_what(
    rest: RestClient, collection_name: str, query: str, says: str
) -> None:
    rest.create_collection(collection_name, 4)
    answer = rest.request("GET", f"/v1/collections/{collection_name}/recall?{query}")
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT"), answer.body
    assert says in answer.error_message


def test_an_index_is_measured_on_demand_and_all_the_time(measuring: Server) -> None:
    rng = random.Random(11)
    with RestClient(measuring) as rest:
        rest.create_collection("c", DIMENSION, "euclidean", index={"type": "hnsw"})
        fill(rest, "c")
        wait_until_ready(rest, "c")
        told = recall(rest, "c", "?queries=20&target_recall=0.9")
        assert (told["queries"], told["source"]) == (20, "records")
        assert 0.8 <= told["recall"]["mean"] <= 1
        assert told["recall"]["min"] <= told["recall"]["p05"] <= told["recall"]["p50"]
        assert sum(told["histogram"]) == 20

        def measured() -> bool:
            rest.search("c", vector=vector(rng), k=10)
            state = rest.get_collection("c")["fields"][0]["index_state"]
            return state["recall_estimate"] is not None

        eventually("recent searches were measured", measured)
        state = rest.get_collection("c")["fields"][0]["index_state"]
        assert 0.8 <= state["recall_estimate"] <= 1
        family = metrics(measuring)["proximadb_recall_estimate"]
        assert family.kind == "gauge"
        assert 0.8 <= family.value(collection="c", field="") <= 1
        assert recall(rest, "c")["source"] == "searches"
        rest.update_collection("c", quantization={"type": "sq4"})  # nothing is known of that
        wait_until_ready(rest, "c")
        assert measuring.running
        rest.delete_collection("c")
    assert measuring.stop() == 0


def test_clients_that_leave_harm_nothing(
    server: Server, rest: RestClient, collection_name: str
) -> None:
    rest.create_collection(collection_name, 4, "dot")
    rows = [{"id": str(i), "vector": [i, 1, 2, 3]} for i in range(2000)]
    rest.upsert(collection_name, rows)
    path = f"/v1/collections/{collection_name}/recall?queries=1000&k=1000"
    for _ in range(8):
        with connect(server) as sock:
            sock.sendall(head("GET", path))
    assert recall(rest, collection_name, "?queries=2")["queries"] == 2
    rest.delete_collection(collection_name)


def test_a_stop_does_not_wait_for_what_is_measured(measuring: Server) -> None:
    rng = random.Random(12)
    with RestClient(measuring) as rest:
        rest.create_collection("c", DIMENSION, "euclidean", index={"type": "hnsw"})
        fill(rest, "c")
        wait_until_ready(rest, "c")
        for _ in range(30):
            rest.search("c", vector=vector(rng), k=10)
    assert measuring.stop() == 0
