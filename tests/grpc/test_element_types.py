"""Vector fields of float16 and int8 through gRPC: floats in and out, packed in either form."""

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from proximadb.v1 import proximadb_pb2 as pb
from proximadb.v1 import proximadb_pb2_grpc as rpc

from tests.grpc.client import open_client, refused
from tests.lib.server import LIMIT_S, Server

TYPES: dict[int, type[np.generic]] = {
    pb.ELEMENT_TYPE_FLOAT16: np.float16,
    pb.ELEMENT_TYPE_INT8: np.int8,
}
DIMENSION = 70  # more than one piece of 64
Floats = npt.NDArray[np.float32]


def made(element: int, count: int = 6) -> Floats:
    rng = np.random.default_rng(element)
    if element == pb.ELEMENT_TYPE_INT8:
        return rng.integers(-128, 128, (count, DIMENSION)).astype(np.float32)
    return rng.normal(size=(count, DIMENSION)).astype(np.float32)


def kept(element: int, rows: Floats) -> Floats:
    return rows.astype(TYPES[element]).astype(np.float32)


def create(client: rpc.ProximaDBStub, name: str, element: int) -> None:
    request = pb.CreateCollectionRequest(
        name=name, dimension=DIMENSION, metric=pb.METRIC_DOT, type=element
    )
    made_of = client.CreateCollection(request, timeout=LIMIT_S).collection
    assert made_of.fields[0].type == element


def upsert(client: rpc.ProximaDBStub, **request: object) -> None:
    client.Upsert(pb.WriteRequest(**request), timeout=LIMIT_S)


def read(client: rpc.ProximaDBStub, name: str, ids: list[str]) -> Floats:
    request = pb.GetRequest(collection=name, ids=ids, include=[pb.INCLUDE_VECTORS])
    records = client.Get(request, timeout=LIMIT_S).records
    return np.array([record.vector for record in records], np.float32)


@pytest.mark.parametrize("element", TYPES)
def test_vectors_come_as_floats_or_packed_and_go_as_floats(
    server: Server, collection_name: str, element: int
) -> None:
    sent = made(element)
    narrow = sent.astype(TYPES[element])
    record = pb.Record(id="b", packed_vector=sent[1].tobytes())
    own = pb.Record(id="c", packed_vector=narrow[2].tobytes(), packed_type=element)
    batch = pb.PackedBatch(ids=["d", "e"], vectors=narrow[3:5].tobytes(), type=element)
    with open_client(server) as client:
        create(client, collection_name, element)
        upsert(client, collection=collection_name, records=[pb.Record(id="a", vector=sent[0])])
        upsert(client, collection=collection_name, records=[record, own])
        upsert(client, collection=collection_name, packed=batch)
        floats = pb.PackedBatch(ids=["f"], vectors=sent[5:].tobytes())
        upsert(client, collection=collection_name, packed=floats)
        found = read(client, collection_name, list("abcdef"))
        assert (found == kept(element, sent)).all()
        request = pb.PackedBatch(vectors=narrow.tobytes(), type=element)
        upsert(client, collection=collection_name, packed=request)  # the server makes the ids
        count = client.Count(pb.CountRequest(collection=collection_name), timeout=LIMIT_S).count
        assert count == 12


@pytest.mark.parametrize("element", TYPES)
def test_a_named_field_has_a_type_too(server: Server, collection_name: str, element: int) -> None:
    sent = made(element)
    field = pb.VectorField(name="v", dimension=DIMENSION, metric=pb.METRIC_EUCLIDEAN, type=element)
    packed = pb.Vector(packed=sent[1].astype(TYPES[element]).tobytes(), packed_type=element)
    records = [
        pb.Record(id="a", vectors={"v": pb.Vector(values=sent[0])}),
        pb.Record(id="b", vectors={"v": packed}),
    ]
    with open_client(server) as client:
        request = pb.CreateCollectionRequest(name=collection_name, fields=[field])
        made_of = client.CreateCollection(request, timeout=LIMIT_S).collection
        assert made_of.fields[0].type == element
        upsert(client, collection=collection_name, records=records)
        get = pb.GetRequest(
            collection=collection_name, ids=["a", "b"], include=[pb.INCLUDE_VECTORS]
        )
        found = [r.vectors["v"].values for r in client.Get(get, timeout=LIMIT_S).records]
        assert (np.array(found, np.float32) == kept(element, sent[:2])).all()


@pytest.mark.parametrize("element", TYPES)
def test_queries_are_floats_or_packed_in_either_form(
    server: Server, collection_name: str, element: int
) -> None:
    sent = made(element)
    rows = kept(element, sent).astype(np.float64)
    narrow = sent[0].astype(TYPES[element])
    queries = [
        (pb.SearchQuery(vector=sent[0] * 1.5), sent[0].astype(np.float64) * 1.5),
        (pb.SearchQuery(packed_vector=sent[0].tobytes()), sent[0].astype(np.float64)),
        (pb.SearchQuery(packed_vector=narrow.tobytes(), packed_type=element), rows[0]),
    ]
    with open_client(server) as client:
        create(client, collection_name, element)
        batch = pb.PackedBatch(ids=list("abcdef"), vectors=sent.tobytes())
        upsert(client, collection=collection_name, packed=batch)
        for query, values in queries:
            query.k = 3
            request = pb.SearchRequest(collection=collection_name, query=query)
            hits = client.Search(request, timeout=LIMIT_S).results
            scores = rows @ values
            expected = np.sort(scores)[::-1][:3]
            assert np.allclose([hit.score for hit in hits], expected, rtol=1e-5)


def test_what_does_not_fit_is_refused(server: Server, collection_name: str) -> None:
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    large = np.full(DIMENSION, 70000, np.float32)
    with open_client(server) as client:
        create(client, collection_name, pb.ELEMENT_TYPE_FLOAT16)
        with refused(invalid, "records[0].vector[0]: 70000 is out of range of float16"):
            record = pb.Record(id="a", vector=large)
            upsert(client, collection=collection_name, records=[record])
        with refused(invalid, "int8 values, but the field has float16"):
            record = pb.Record(
                id="a", packed_vector=bytes(DIMENSION), packed_type=pb.ELEMENT_TYPE_INT8
            )
            upsert(client, collection=collection_name, records=[record])
        with refused(invalid, "dimension 35, expected 70"):
            batch = pb.PackedBatch(
                ids=["a"], vectors=bytes(DIMENSION), type=pb.ELEMENT_TYPE_FLOAT16
            )
            upsert(client, collection=collection_name, packed=batch)
        with refused(invalid, "expected one of float32, float16, int8"):
            batch = pb.PackedBatch(ids=["a"], vectors=bytes(DIMENSION), type=17)
            upsert(client, collection=collection_name, packed=batch)
        with refused(invalid, "vectors of the metric hamming are bits"):
            client.CreateCollection(
                pb.CreateCollectionRequest(
                    name=collection_name + "-bits",
                    dimension=8,
                    metric=pb.METRIC_HAMMING,
                    type=pb.ELEMENT_TYPE_INT8,
                ),
                timeout=LIMIT_S,
            )
