"""How a field is indexed and how hard a search looks, as gRPC takes and tells it."""

import grpc
import pytest
from proximadb.v1 import proximadb_pb2 as pb

from tests.grpc.client import create, open_client, records, refused
from tests.lib.rest import RestClient
from tests.lib.server import LIMIT_S, Server

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def test_both_doors_tell_the_same_of_an_index(
    server: Server, rest: RestClient, collection_name: str
) -> None:
    with open_client(server) as client:
        made = client.CreateCollection(
            pb.CreateCollectionRequest(
                name=collection_name,
                dimension=8,
                metric=pb.METRIC_EUCLIDEAN,
                index=pb.INDEX_TYPE_HNSW,
                index_params=pb.IndexParams(m=16, ef_construction=100),
                quantization=pb.QUANTIZATION_TYPE_BINARY,
                quantization_params=pb.QuantizationParams(bits=2),
                target_recall=0.75,
            ),
            timeout=LIMIT_S,
        ).collection
        (field,) = made.fields
        assert field.index == pb.INDEX_TYPE_HNSW
        assert field.index_params == pb.IndexParams(m=16, ef_construction=100)
        assert field.quantization == pb.QUANTIZATION_TYPE_BINARY
        assert field.quantization_params.bits == 2
        assert made.target_recall == 0.75
    told = rest.get_collection(collection_name)
    assert told["fields"][0]["index"] == {"type": "hnsw", "m": 16, "ef_construction": 100}
    assert told["fields"][0]["quantization"] == {"type": "binary", "bits": 2}
    assert told["target_recall"] == 0.75


def test_an_update_changes_each_half_of_each_field(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        client.CreateCollection(
            pb.CreateCollectionRequest(
                name=collection_name,
                fields=[
                    pb.VectorField(
                        name="a",
                        dimension=2,
                        metric=pb.METRIC_DOT,
                        index=pb.INDEX_TYPE_IVF,
                        index_params=pb.IndexParams(nlist=9),
                    ),
                    pb.VectorField(name="b", dimension=2, metric=pb.METRIC_DOT),
                ],
            )
        )
        changed = client.UpdateCollection(
            pb.UpdateCollectionRequest(
                collection=collection_name,
                fields=[
                    pb.VectorFieldChange(name="b", index=pb.INDEX_TYPE_FLAT),
                    pb.VectorFieldChange(name="a", quantization=pb.QUANTIZATION_TYPE_PQ),
                ],
                target_recall=0.5,
            )
        ).collection
        a, b = changed.fields
        assert (a.index, a.index_params.nlist) == (pb.INDEX_TYPE_IVF, 9)
        assert (a.quantization, b.index) == (pb.QUANTIZATION_TYPE_PQ, pb.INDEX_TYPE_FLAT)
        assert b.quantization == pb.QUANTIZATION_TYPE_AUTO
        assert changed.target_recall == 0.5
        changed = client.UpdateCollection(
            pb.UpdateCollectionRequest(collection=collection_name, target_recall=0)
        ).collection
        assert changed.target_recall == 0
        assert changed.fields[0] == a


DOT = {"dimension": 4, "metric": pb.METRIC_DOT}


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (
            pb.VectorField(index_params=pb.IndexParams(m=5), **DOT),
            "index.m: expected an even number from 4 to 32, found 5",
        ),
        (
            pb.VectorField(index=pb.INDEX_TYPE_HNSW, index_params=pb.IndexParams(nlist=5), **DOT),
            "index.nlist: only of the type ivf",
        ),
        (
            pb.VectorField(quantization_params=pb.QuantizationParams(bits=5), **DOT),
            "quantization.bits: only of the type binary",
        ),
        (
            pb.VectorField(
                dimension=4,
                metric=pb.METRIC_HAMMING,
                quantization=pb.QUANTIZATION_TYPE_SQ8,
            ),
            "quantization.type: expected auto or none, as the metric is hamming",
        ),
    ],
)
def test_a_bad_index(
    server: Server, collection_name: str, field: pb.VectorField, text: str
) -> None:
    good = pb.VectorField(name="good", dimension=1, metric=pb.METRIC_DOT)
    with open_client(server) as client, refused(INVALID, "fields[1]." + text):
        client.CreateCollection(
            pb.CreateCollectionRequest(name=collection_name, fields=[good, field])
        )


def test_an_unknown_type_is_refused(server: Server, collection_name: str) -> None:
    with open_client(server) as client, refused(INVALID, "index: not a value of this enum"):
        client.CreateCollection(
            pb.CreateCollectionRequest(
                name=collection_name, dimension=1, metric=pb.METRIC_DOT, index=7
            )
        )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (pb.VectorFieldChange(name="x", index=1), "fields[0].name: the collection has no vector"),
        (pb.VectorFieldChange(), "fields[0]: give index or quantization"),
        (
            pb.VectorFieldChange(index_params=pb.IndexParams(ef_construction=1)),
            "index.ef_construction: expected 8 to 2000, found 1",
        ),
    ],
)
def test_a_bad_change(
    server: Server, collection_name: str, change: pb.VectorFieldChange, text: str
) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        with refused(INVALID, text):
            client.UpdateCollection(
                pb.UpdateCollectionRequest(collection=collection_name, fields=[change])
            )


@pytest.mark.parametrize(
    "params",
    [
        pb.SearchParams(),
        pb.SearchParams(exact=True),
        pb.SearchParams(ef=64),
        pb.SearchParams(nprobe=3),
        pb.SearchParams(target_recall=1),
    ],
)
def test_every_way_to_look(server: Server, collection_name: str, params: pb.SearchParams) -> None:
    with open_client(server) as client:
        create(client, collection_name, metric=pb.METRIC_EUCLIDEAN)
        vectors = {str(i): [float(i), 0.0] for i in range(9)}
        client.Upsert(pb.WriteRequest(collection=collection_name, records=records(vectors)))
        query = pb.SearchQuery(vector=[5.2, 0], k=2, params=params)
        found = client.Search(pb.SearchRequest(collection=collection_name, query=query))
        assert [hit.id for hit in found.results] == ["5", "6"]
        batch = client.SearchBatch(
            pb.SearchBatchRequest(collection=collection_name, queries=[query, query])
        )
        assert [[hit.id for hit in one.results] for one in batch.results] == [["5", "6"]] * 2


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (pb.SearchParams(ef=0), "params.ef: 0 is no value for a parameter"),
        (pb.SearchParams(ef=16385), "params.ef: expected 1 to 16384, found 16385"),
        (pb.SearchParams(nprobe=65537), "params.nprobe: expected 1 to 65536, found 65537"),
        (pb.SearchParams(target_recall=0.25), "params.target_recall: expected 0.5 to 1"),
        (pb.SearchParams(target_recall=float("nan")), "params.target_recall: expected 0.5 to 1"),
        (pb.SearchParams(ef=1, nprobe=1), "params: at most one of ef, nprobe and target_recall"),
        (pb.SearchParams(ef=1, exact=True), "params: exact goes without ef, nprobe"),
    ],
)
def test_bad_params(
    server: Server, collection_name: str, params: pb.SearchParams, text: str
) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        query = pb.SearchQuery(vector=[1, 2], params=params)
        with refused(INVALID, text):
            client.Search(pb.SearchRequest(collection=collection_name, query=query))
        with refused(INVALID, "queries[1]." + text):
            client.SearchBatch(
                pb.SearchBatchRequest(
                    collection=collection_name,
                    queries=[pb.SearchQuery(vector=[1, 2]), query],
                )
            )
