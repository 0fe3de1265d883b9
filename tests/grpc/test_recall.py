"""How much searches find, over gRPC."""

import grpc
import pytest
from proximadb.v1 import proximadb_pb2 as pb

from tests.grpc.client import create, open_client, records, refused
from tests.lib.server import LIMIT_S, Server


def test_recall_is_told_with_its_distribution(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name, metric=pb.METRIC_EUCLIDEAN)
        told = client.GetRecall(pb.GetRecallRequest(collection=collection_name), timeout=LIMIT_S)
        assert (told.k, told.queries) == (10, 0)
        assert not told.HasField("recall")
        vectors = {str(i): [float(i), 1.0] for i in range(50)}
        client.Upsert(pb.WriteRequest(collection=collection_name, records=records(vectors)))
        told = client.GetRecall(
            pb.GetRecallRequest(collection=collection_name, k=3, queries=5, target_recall=0.75)
        )
        assert (told.k, told.queries, told.target_recall) == (3, 5, 0.75)
        assert not told.recent_searches
        assert told.recall == pb.RecallDistribution(mean=1, min=1, p05=1, p50=1)
        assert list(told.histogram) == [0] * 10 + [5]
        assert told.exact_us > 0
        assert told.index_us > 0
        assert told.took_us > 0
        query = pb.SearchQuery(vector=[3, 1])
        client.Search(pb.SearchRequest(collection=collection_name, query=query))
        told = client.GetRecall(pb.GetRecallRequest(collection=collection_name))
        assert (told.queries, told.recent_searches) == (1, True)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (pb.GetRecallRequest(k=1001), "k: expected 1 to 1000, found 1001"),
        (pb.GetRecallRequest(queries=1001), "queries: expected 1 to 1000, found 1001"),
        (pb.GetRecallRequest(field="x"), "field: the collection has no vector field 'x'"),
        (pb.GetRecallRequest(target_recall=0.25), "target_recall: expected 0.5 to 1"),
        (pb.GetRecallRequest(target_recall=float("nan")), "target_recall: expected 0.5 to 1"),
    ],
)
def test_a_bad_question(
    server: Server, collection_name: str, request_: pb.GetRecallRequest, text: str
) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        request_.collection = collection_name
        with refused(grpc.StatusCode.INVALID_ARGUMENT, text):
            client.GetRecall(request_)
        request_ = pb.GetRecallRequest(collection="absent")
        with refused(grpc.StatusCode.NOT_FOUND, "collection 'absent' does not exist"):
            client.GetRecall(request_)
