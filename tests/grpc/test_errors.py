"""What is wrong is answered with its code and a text that says where."""

import grpc
import pytest
from proximadb.v1 import proximadb_pb2 as pb

from tests.grpc.client import (
    SERVICE,
    condition,
    create,
    floats,
    mapping,
    open_client,
    refused,
)
from tests.grpc.client import records as records_of
from tests.lib.server import LIMIT_S, Server

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def call_raw(channel: grpc.Channel, method: str, message: bytes) -> bytes:
    """Sends bytes as they are."""
    call = channel.unary_unary(SERVICE + method)
    return bytes(call(message, timeout=LIMIT_S))


def test_what_is_not_there(server: Server) -> None:
    with open_client(server) as client:
        missing = "no-such-collection"
        calls = [
            lambda: client.GetCollection(pb.GetCollectionRequest(collection=missing)),
            lambda: client.DeleteCollection(pb.DeleteCollectionRequest(collection=missing)),
            lambda: client.UpdateCollection(
                pb.UpdateCollectionRequest(collection=missing, ttl_s=1)
            ),
            lambda: client.Upsert(
                pb.WriteRequest(collection=missing, records=records_of({"a": [1, 2]}))
            ),
            lambda: client.Upsert(
                pb.WriteRequest(collection=missing, packed=pb.PackedBatch(vectors=floats(1)))
            ),
            lambda: client.Get(pb.GetRequest(collection=missing, ids=["a"])),
            lambda: client.Delete(pb.DeleteRequest(collection=missing, ids=["a"])),
            lambda: client.Scroll(pb.ScrollRequest(collection=missing)),
            lambda: client.Count(pb.CountRequest(collection=missing)),
            lambda: client.Search(
                pb.SearchRequest(collection=missing, query=pb.SearchQuery(vector=[1]))
            ),
        ]
        for call in calls:
            with refused(grpc.StatusCode.NOT_FOUND, missing):
                call()


def test_what_is_there_already(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        with refused(grpc.StatusCode.ALREADY_EXISTS, collection_name):
            create(client, collection_name)
        write = pb.WriteRequest(collection=collection_name, records=records_of({"a": [1, 2]}))
        client.Insert(write)
        with refused(grpc.StatusCode.ALREADY_EXISTS, "a"):
            client.Insert(write)


def test_an_update_of_a_missing_record(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        update = pb.RecordUpdate(id="nobody", vector=[1, 2])
        with refused(grpc.StatusCode.NOT_FOUND, "nobody"):
            client.Update(pb.UpdateRequest(collection=collection_name, records=[update]))


def test_a_condition_that_does_not_hold(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        record = pb.Record(id="a", vector=[1, 2], if_version=0)
        written = client.Upsert(pb.WriteRequest(collection=collection_name, records=[record]))
        with refused(grpc.StatusCode.FAILED_PRECONDITION, str(written.versions[0])):
            client.Upsert(pb.WriteRequest(collection=collection_name, records=[record]))
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "a"):
            client.Delete(pb.DeleteRequest(collection=collection_name, ids=["a"], if_version=1234))


RECORDS = [
    (pb.Record(id="a", vector=[1]), "records[1]"),
    (pb.Record(id="a", vector=[1, float("nan")]), "records[1]"),
    (pb.Record(id="a", vector=[1, float("inf")]), "records[1]"),
    (pb.Record(id="a", packed_vector=b"12345"), "records[1]"),
    (pb.Record(id="a", vectors={"no": pb.Vector(values=[1, 2])}), "no"),
    (pb.Record(id="a", vector=[1, 2], packed_vector=floats(1, 2)), "records[1]: a vector has"),
    (pb.Record(id="x" * 513, vector=[1, 2]), "records[1].id"),
    (pb.Record(id="first", vector=[1, 2]), "first"),
    (
        pb.Record(id="a", vector=[1, 2], metadata=mapping({"n": float("nan")})),
        "records[1].metadata",
    ),
    (
        pb.Record(id="a", vector=[1, 2], metadata=pb.MapValue(fields={"n": pb.Value()})),
        "records[1].metadata: a Value without a kind",
    ),
    (
        pb.Record(id="a", vector=[1, 2], metadata=mapping({"t": "x" * (1 << 20)})),
        "records[1].metadata",
    ),
    (pb.Record(id="a", vector=[1, 2], metadata=mapping({"price": "cheap"})), "price"),
]


@pytest.mark.parametrize(("record", "text"), RECORDS)
def test_a_bad_record_fails_its_batch(
    server: Server, collection_name: str, record: pb.Record, text: str
) -> None:
    with open_client(server) as client:
        client.CreateCollection(
            pb.CreateCollectionRequest(
                name=collection_name,
                dimension=2,
                metric=pb.METRIC_DOT,
                columns=[pb.Column(name="price", type=pb.COLUMN_TYPE_FLOAT)],
            )
        )
        batch = [pb.Record(id="first", vector=[1, 2]), record]
        with refused(INVALID, text):
            client.Upsert(pb.WriteRequest(collection=collection_name, records=batch))
        assert client.Count(pb.CountRequest(collection=collection_name)).count == 0


def test_bad_writes(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        with refused(INVALID, "records: must not be empty"):
            client.Upsert(pb.WriteRequest(collection=collection_name))
        with refused(INVALID, "exactly one of records, packed and avro_records"):
            client.Upsert(
                pb.WriteRequest(
                    collection=collection_name,
                    records=[pb.Record(id="a", vector=[1, 2])],
                    avro_records=b"\0",
                )
            )
        many = [pb.Record(id="a")] * 10001
        with refused(INVALID, "limits.batch_records (10000)"):
            client.Upsert(pb.WriteRequest(collection=collection_name, records=many))
        packed = pb.PackedBatch(ids=["a", "b"], vectors=b"12345")
        with refused(INVALID, "packed.vectors"):
            client.Upsert(pb.WriteRequest(collection=collection_name, packed=packed))
        packed = pb.PackedBatch(vectors=floats(1, 2, 3))
        with refused(INVALID, "packed.vectors"):
            client.Upsert(pb.WriteRequest(collection=collection_name, packed=packed))
        packed = pb.PackedBatch(vectors=floats(1, 2), field="no")
        with refused(INVALID, "packed.field"):
            client.Upsert(pb.WriteRequest(collection=collection_name, packed=packed))
        with refused(INVALID, "avro_records[0]"):
            client.Upsert(pb.WriteRequest(collection=collection_name, avro_records=b"\x02\x01"))


COLLECTIONS = [
    (pb.CreateCollectionRequest(name="../x", dimension=2, metric=pb.METRIC_DOT), "name"),
    (pb.CreateCollectionRequest(name="", dimension=2, metric=pb.METRIC_DOT), "name"),
    (pb.CreateCollectionRequest(name="c", metric=pb.METRIC_DOT), "dimension"),
    (pb.CreateCollectionRequest(name="c", dimension=65536, metric=pb.METRIC_DOT), "dimension"),
    (pb.CreateCollectionRequest(name="c", dimension=2), "metric"),
    (pb.CreateCollectionRequest(name="c"), ""),
    (
        pb.CreateCollectionRequest(
            name="c",
            dimension=2,
            metric=pb.METRIC_DOT,
            fields=[pb.VectorField(dimension=2, metric=pb.METRIC_DOT)],
        ),
        "not both",
    ),
    (
        pb.CreateCollectionRequest(
            name="c", dimension=2, metric=pb.METRIC_DOT, columns=[pb.Column(name="x")]
        ),
        "column",
    ),
    (
        pb.CreateCollectionRequest(
            name="c", dimension=2, metric=pb.METRIC_DOT, storage=pb.Storage(compression="zip")
        ),
        "storage.compression: 'zip' is not one of none, snappy, lz4, zstd",
    ),
    (
        pb.CreateCollectionRequest(
            name="c", dimension=2, metric=pb.METRIC_DOT, storage=pb.Storage(vectors="tape")
        ),
        "storage.vectors: 'tape' is not one of memory, mmap, disk",
    ),
    (
        pb.CreateCollectionRequest(
            name="c",
            dimension=2,
            metric=pb.METRIC_DOT,
            storage=pb.Storage(version_retention_s=315360001),
        ),
        "storage.version_retention_s: at most 315360000",
    ),
]


@pytest.mark.parametrize(("request_", "text"), COLLECTIONS)
def test_a_bad_collection(server: Server, request_: pb.CreateCollectionRequest, text: str) -> None:
    with open_client(server) as client, refused(INVALID, text):
        client.CreateCollection(request_)


QUERIES = [
    (pb.SearchQuery(), "exactly one of vector, packed_vector and id"),
    (pb.SearchQuery(vector=[1, 2], id="a"), "exactly one of"),
    (pb.SearchQuery(vector=[1]), ""),
    (pb.SearchQuery(vector=[1, float("nan")]), ""),
    (pb.SearchQuery(vector=[1, 2], k=10001), "limits.k (10000)"),
    (pb.SearchQuery(vector=[1, 2], field="no"), "no"),
    (pb.SearchQuery(vector=[1, 2], min_score=float("nan")), "min_score: must be finite"),
    (pb.SearchQuery(vector=[1, 2], filter=pb.Filter()), "filter"),
    (
        pb.SearchQuery(vector=[1, 2], filter=condition("$or", pb.OPERATOR_EQ, 1)),
        "must not begin with '$'",
    ),
    (
        pb.SearchQuery(vector=[1, 2], filter=condition("x", pb.OPERATOR_UNSPECIFIED, 1)),
        "without an operator",
    ),
    (pb.SearchQuery(vector=[1, 2], filter=condition("x", pb.OPERATOR_IN, 1)), "$in"),
]


@pytest.mark.parametrize(("query", "text"), QUERIES)
def test_a_bad_query(
    server: Server, collection_name: str, query: pb.SearchQuery, text: str
) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        with refused(INVALID, text):
            client.Search(pb.SearchRequest(collection=collection_name, query=query))
        queries = [pb.SearchQuery(vector=[1, 2]), query]
        with refused(INVALID, text):
            client.SearchBatch(pb.SearchBatchRequest(collection=collection_name, queries=queries))


def test_bad_reads(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        with refused(INVALID, "query: missing"):
            client.Search(pb.SearchRequest(collection=collection_name))
        with refused(INVALID, "queries"):
            client.SearchBatch(pb.SearchBatchRequest(collection=collection_name))
        with refused(INVALID, "limits.batch_searches (1000)"):
            client.SearchBatch(
                pb.SearchBatchRequest(
                    collection=collection_name, queries=[pb.SearchQuery(id="a")] * 1001
                )
            )
        with refused(INVALID, "ids"):
            client.Get(pb.GetRequest(collection=collection_name))
        with refused(INVALID, "limits.batch_records"):
            client.Get(pb.GetRequest(collection=collection_name, ids=["a"] * 10001))
        with refused(INVALID, "exactly one of ids and filter"):
            client.Delete(pb.DeleteRequest(collection=collection_name))
        with refused(INVALID, "limits.scroll_records"):
            client.Scroll(pb.ScrollRequest(collection=collection_name, limit=1_000_000))
        with refused(INVALID, "cursor"):
            client.Scroll(pb.ScrollRequest(collection=collection_name, cursor="???"))


def nested_filter(levels: int) -> pb.Filter:
    filter = condition("x", pb.OPERATOR_EQ, 1)
    for _ in range(levels):
        filter = pb.Filter(**{"not": filter})
    return filter


def test_depth_is_limited(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        fits = pb.CountRequest(collection=collection_name, filter=nested_filter(20))
        assert client.Count(fits).count == 0
        with refused(INVALID, "filter"):
            client.Count(pb.CountRequest(collection=collection_name, filter=nested_filter(40)))
        with refused(INVALID, "nested more than 64 deep"):
            client.Count(pb.CountRequest(collection=collection_name, filter=nested_filter(70)))


def length(size: int) -> bytes:
    out = bytearray()
    while size >= 0x80:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes(out) + bytes([size])


def test_a_depth_bomb_is_refused(channel: grpc.Channel) -> None:
    bomb = b""
    for _ in range(20000):
        bomb = b"\x1a" + length(len(bomb)) + bomb  # Filter.not
    with refused(INVALID, "nested more than 64 deep"):
        call_raw(channel, "Count", b"\x12" + length(len(bomb)) + bomb)


MALFORMED = [
    ("Count", b"\x0a\x05abc", "malformed"),
    ("Count", b"\x0a\x01\xff", "collection: invalid UTF-8"),
    ("Count", b"\x08\x01", "collection: a wire type"),
    ("Count", b"\x0b\x0c", "malformed"),
    ("GetCollection", b"\x0a\x03a\0b", "collection: a NUL character"),
    ("CreateCollection", b"\x18\x63", "metric: not a value of this enum"),
    ("Upsert", b"\x12\x03\x0a\x01\xff", "records[0].id: invalid UTF-8"),
    ("Upsert", b"\x12\xff\xff\xff\xff\x0f", "malformed"),
    ("Upsert", b"\x10\x01", "wire type"),
    ("Search", b"\x12\x03\x0a\x01\x00", "query.vector[0]: a packed run"),
    ("SearchBatch", b"\x12\x02\x28", "malformed"),
    ("GetInfo", b"\x0a", "malformed"),
    ("GetMetrics", b"\xff", "malformed"),
]


@pytest.mark.parametrize(("method", "message", "text"), MALFORMED)
def test_malformed_messages(channel: grpc.Channel, method: str, message: bytes, text: str) -> None:
    with refused(INVALID, text):
        call_raw(channel, method, message)


def test_unknown_methods(channel: grpc.Channel) -> None:
    with refused(grpc.StatusCode.UNIMPLEMENTED, "/proximadb.v1.ProximaDB/Nothing"):
        call_raw(channel, "Nothing", b"")
    with refused(grpc.StatusCode.UNIMPLEMENTED):
        channel.unary_unary("/other.Service/Search")(b"", timeout=LIMIT_S)


def test_a_compressed_message_is_refused(server: Server) -> None:
    with open_client(server) as client, refused(grpc.StatusCode.UNIMPLEMENTED, "compressed"):
        request = pb.GetCollectionRequest(collection="c" * 5000)
        client.GetCollection(request, compression=grpc.Compression.Gzip, timeout=LIMIT_S)
