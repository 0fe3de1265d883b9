"""Searches by index through the doors: that they find what is true, computed here with numpy."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray
from proximadb.v1 import proximadb_pb2 as pb
from proximadb.v1 import proximadb_pb2_grpc as rpc

from tests.http.prometheus import parse
from tests.http.wire import eventually
from tests.lib.rest import Json, RestClient
from tests.lib.rpc import open_channel
from tests.lib.server import Server, StartServer

DIMENSION = 32
ROWS = 4000
QUERIES = 40
MORE_QUERIES = 500  # where the few find too little: they are two points off now and then
K = 10
RECALL = 0.95
CONFIG = """
[storage]
flush_rows = 1500
flush_age_s = 1
"""

Floats = NDArray[np.float32]


@dataclass(slots=True)
class Truth:
    """What the collection holds. vectors: rows by DIMENSION, one for each id that lives."""

    rng: np.random.Generator
    centres: Floats
    vectors: dict[str, Floats] = field(default_factory=dict)

    def draw(self) -> Floats:
        centre: Floats = self.centres[self.rng.integers(len(self.centres))]
        noise = self.rng.normal(size=DIMENSION).astype(np.float32)
        drawn: Floats = centre + np.float32(0.5) * noise
        return drawn

    def best(
        self, query: Floats, metric: str, passes: Callable[[str], bool] = lambda _: True
    ) -> list[str]:
        ids = [name for name in self.vectors if passes(name)]
        if not ids:
            return []
        rows = np.stack([self.vectors[name] for name in ids])
        if metric == "euclidean":
            far = ((rows - query) ** 2).sum(axis=1)
        elif metric == "dot":
            far = -(rows @ query)
        else:
            far = -(rows @ query) / np.linalg.norm(rows, axis=1)
        return [ids[i] for i in np.argsort(far, kind="stable")[:K]]


def new_truth(seed: int) -> Truth:
    rng = np.random.default_rng(seed)
    return Truth(rng, rng.normal(size=(20, DIMENSION)).astype(np.float32))


def share_of(name: str) -> int:
    """0 to 99, as the metadata of the record says."""
    return int(name.removeprefix("r")) * 7919 % 100


def write(rest: RestClient, truth: Truth, names: list[str]) -> None:
    for first in range(0, len(names), 500):
        batch: list[Json] = []
        for name in names[first : first + 500]:
            truth.vectors[name] = truth.draw()
            vector = [float(value) for value in truth.vectors[name]]
            batch.append({"id": name, "vector": vector, "metadata": {"share": share_of(name)}})
        rest.upsert("c", batch)


def wait_for_indexes(rest: RestClient) -> None:
    def ready() -> bool:
        described = rest.get_collection("c")
        state, stats = described["fields"][0]["index_state"], described["stats"]
        at_rest = stats["memtable_rows"] == 0 and stats["segment_count"] == 1
        return bool(at_rest and state["state"] == "ready" and state["rows_indexed"] != 0)

    eventually("all rows are in one segment with its index", ready)


def recall(
    clients: list[RestClient],
    truth: Truth,
    metric: str,
    share: int = 100,
    query_count: int = QUERIES,
    **params: object,
) -> float:
    """A mean; every answer has to be K distinct live records that match, in order."""
    found = wanted = 0
    for i in range(query_count):
        query = truth.draw()
        body: Json = {"vector": [float(value) for value in query], "k": K, "params": params}
        if share < 100:
            body["filter"] = {"share": {"$lt": share}}
        hits = clients[i % len(clients)].search("c", **body)["results"]
        names = [hit["id"] for hit in hits]
        best = truth.best(query, metric, lambda name: share_of(name) < share)
        assert len(names) == len(set(names)) == len(best)
        assert all(name in truth.vectors and share_of(name) < share for name in names)
        scores = [hit["score"] for hit in hits]
        assert scores == sorted(scores, reverse=metric != "euclidean")
        found += len(set(names) & set(best))
        wanted += len(best)
    return found / wanted


def check_recall(
    clients: list[RestClient],
    truth: Truth,
    metric: str,
    share: int = 100,
    least: float = RECALL,
    **params: object,
) -> None:
    if recall(clients, truth, metric, share, QUERIES, **params) < least:
        assert recall(clients, truth, metric, share, MORE_QUERIES, **params) >= least


def walks_of(rest: RestClient) -> float:
    families = parse(rest.request("GET", "/metrics").body.decode())
    return families["proximadb_search_index_walks_total"].value()


@pytest.fixture(name="clients")
def several_clients(start_server: StartServer) -> Iterator[tuple[Server, list[RestClient]]]:
    """Connections to a server of two cores: they come to one or the other."""
    server = start_server(config=CONFIG, cores=2)
    clients = [RestClient(server) for _ in range(4)]
    yield server, clients
    for client in clients:
        client.close()


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_what_is_true_is_found(clients: tuple[Server, list[RestClient]], metric: str) -> None:
    _, rests = clients
    truth = new_truth(1)
    rests[0].create_collection("c", DIMENSION, metric, index={"type": "hnsw"})
    write(rests[0], truth, [f"r{i}" for i in range(ROWS)])
    wait_for_indexes(rests[0])
    walks = walks_of(rests[0])
    check_recall(rests, truth, metric)
    for share in (50, 10, 1):
        check_recall(rests, truth, metric, share)
    check_recall(rests, truth, metric, ef=400)
    check_recall(rests, truth, metric, least=0.98, target_recall=0.99)
    assert walks_of(rests[0]) >= walks + 6 * QUERIES
    walks = walks_of(rests[0])
    assert recall(rests, truth, metric, exact=True) == 1
    assert walks_of(rests[0]) == walks


def test_what_is_written_meanwhile_is_found(clients: tuple[Server, list[RestClient]]) -> None:
    _, rests = clients
    truth = new_truth(2)
    rests[0].create_collection("c", DIMENSION, "euclidean", index={"type": "hnsw"})
    write(rests[0], truth, [f"r{i}" for i in range(ROWS)])
    wait_for_indexes(rests[0])
    for part in range(6):
        first = part * 400
        gone = [f"r{i}" for i in range(first, first + 200)]
        rests[part % 4].delete("c", ids=gone)
        for name in gone:
            del truth.vectors[name]
        write(rests[(part + 1) % 4], truth, [f"r{i}" for i in range(first + 200, first + 400)])
        write(rests[(part + 2) % 4], truth, [f"r{ROWS + first + i}" for i in range(300)])
        check_recall(rests, truth, "euclidean")
        check_recall(rests, truth, "euclidean", 10)
    wait_for_indexes(rests[0])
    check_recall(rests, truth, "euclidean")
    assert walks_of(rests[0]) > QUERIES


def test_both_doors_find_the_same(clients: tuple[Server, list[RestClient]]) -> None:
    server, rests = clients
    truth = new_truth(3)
    rests[0].create_collection("c", DIMENSION, "cosine", index={"type": "hnsw"})
    write(rests[0], truth, [f"r{i}" for i in range(ROWS)])
    wait_for_indexes(rests[0])
    with open_channel(server) as channel:
        stub = rpc.ProximaDBStub(channel)
        for name in ("r1", "r2", "r3"):
            query = [float(value) for value in truth.vectors[name]]
            told = rests[0].search("c", vector=query, k=K)["results"]
            answer = stub.Search(
                pb.SearchRequest(collection="c", query=pb.SearchQuery(vector=query, k=K))
            )
            assert [hit.id for hit in answer.results] == [hit["id"] for hit in told]
            assert told[0]["id"] == name
