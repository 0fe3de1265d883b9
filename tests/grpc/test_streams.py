"""BulkUpsert, deadlines, cancellation and large messages."""

import threading
from collections.abc import Iterator

import grpc
import pytest
from proximadb.v1 import proximadb_pb2 as pb

from tests.grpc.client import create, floats, open_client, refused
from tests.lib.server import LIMIT_S, Server

LARGE_ROWS = 4000  # of 6 KiB: 24 MB each way, half a minute of a slow sanitized server


def batches(name: str, count: int, size: int, dimension: int = 2) -> Iterator[pb.WriteRequest]:
    for batch in range(count):
        ids = [f"{batch}-{n}" for n in range(size)]
        vectors = floats(*([float(batch)] * dimension)) * size
        packed = pb.PackedBatch(ids=ids, vectors=vectors)
        yield pb.WriteRequest(collection=name, packed=packed)


def count(client: object, name: str) -> int:
    return int(client.Count(pb.CountRequest(collection=name)).count)  # type: ignore[attr-defined]


def test_a_stream_of_batches_is_written(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        answer = client.BulkUpsert(batches(collection_name, 50, 20), timeout=LIMIT_S)
        assert (answer.batches, answer.upserted) == (50, 1000)
        assert count(client, collection_name) == 1000


def test_an_empty_stream_is_fine(server: Server) -> None:
    with open_client(server) as client:
        answer = client.BulkUpsert(iter(()), timeout=LIMIT_S)
        assert (answer.batches, answer.upserted) == (0, 0)


def test_the_last_batch_with_an_id_wins(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        requests = [
            pb.WriteRequest(
                collection=collection_name, records=[pb.Record(id="same", vector=[n, n])]
            )
            for n in range(200)
        ]
        assert client.BulkUpsert(iter(requests), timeout=LIMIT_S).batches == 200
        (stored,) = client.Get(pb.GetRequest(collection=collection_name, ids=["same"])).records
        assert list(stored.vector) == [199, 199]


def test_batches_larger_than_what_is_copied(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name, dimension=512)
        stream = batches(collection_name, 4, 1500, dimension=512)
        answer = client.BulkUpsert(stream, timeout=LIMIT_S)
        assert (answer.batches, answer.upserted) == (4, 6000)


def test_batches_without_ids_are_counted_by_their_field(
    server: Server, collection_name: str
) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        requests = [
            pb.WriteRequest(
                collection=collection_name, packed=pb.PackedBatch(vectors=floats(1, 2, 3, 4))
            )
            for _ in range(20)
        ]
        assert client.BulkUpsert(iter(requests), timeout=LIMIT_S).upserted == 40


def test_the_first_bad_batch_ends_the_stream(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        good = list(batches(collection_name, 3, 5))
        bad = pb.WriteRequest(collection=collection_name, records=[pb.Record(id="x", vector=[1])])
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "batch 3: records[0]"):
            client.BulkUpsert(iter([*good, bad]), timeout=LIMIT_S)
        assert count(client, collection_name) == 15
        malformed = pb.WriteRequest(collection=collection_name, avro_records=b"\x02")
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "batch 0: avro_records[0]"):
            client.BulkUpsert(iter([malformed]), timeout=LIMIT_S)


def test_a_cancelled_stream_leaves_the_server_well(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        sent, release = threading.Event(), threading.Event()

        def endless() -> Iterator[pb.WriteRequest]:
            yield from batches(collection_name, 2, 5)
            sent.set()
            release.wait(LIMIT_S)

        call = client.BulkUpsert.future(endless(), timeout=LIMIT_S)
        assert sent.wait(LIMIT_S)
        call.cancel()
        release.set()
        with pytest.raises((grpc.FutureCancelledError, grpc.RpcError)):
            call.result(timeout=LIMIT_S)
        assert count(client, collection_name) in (0, 5, 10)


def test_a_batch_longer_than_its_deadline_is_cut(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name, dimension=64)
        stream = batches(collection_name, 10, 1000, dimension=64)
        client.BulkUpsert(stream, timeout=LIMIT_S)
        queries = [pb.SearchQuery(vector=[1.0] * 64, k=1000)] * 1000
        request = pb.SearchBatchRequest(collection=collection_name, queries=queries)
        with refused(grpc.StatusCode.DEADLINE_EXCEEDED):  # a thousand scans in one millisecond
            client.SearchBatch(request, timeout=0.001)
        assert count(client, collection_name) == 10000


def test_cancelled_searches_leave_the_server_well(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name, dimension=64)
        stream = batches(collection_name, 10, 1000, dimension=64)
        client.BulkUpsert(stream, timeout=LIMIT_S)
        queries = [pb.SearchQuery(vector=[1.0] * 64, k=10)] * 1000
        request = pb.SearchBatchRequest(collection=collection_name, queries=queries)
        calls = [client.SearchBatch.future(request, timeout=LIMIT_S) for _ in range(8)]
        for call in calls:
            call.cancel()
        answer = client.SearchBatch(
            pb.SearchBatchRequest(collection=collection_name, queries=queries[:2]),
            timeout=LIMIT_S,
        )
        assert len(answer.results) == 2


def test_a_large_message_comes_through(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name, dimension=1536)
        vectors = floats(*([0.5] * 1536)) * LARGE_ROWS
        ids = [f"r{n}" for n in range(LARGE_ROWS)]
        packed = pb.PackedBatch(ids=ids, vectors=vectors)
        answer = client.Upsert(
            pb.WriteRequest(collection=collection_name, packed=packed), timeout=LIMIT_S
        )
        assert answer.upserted == LARGE_ROWS
        assert list(answer.ids) == ids
        page = client.Scroll(
            pb.ScrollRequest(
                collection=collection_name, limit=LARGE_ROWS, include=[pb.INCLUDE_VECTORS]
            ),
            timeout=LIMIT_S,
        )
        assert len(page.records) == LARGE_ROWS
        assert all(len(record.vector) == 1536 for record in page.records)


def test_many_records_of_one_message_are_decoded(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name, dimension=128)
        records = [pb.Record(id=f"r{n}", vector=[n / 10000] * 128) for n in range(10000)]
        answer = client.Upsert(
            pb.WriteRequest(collection=collection_name, records=records), timeout=LIMIT_S
        )
        assert answer.upserted == 10000


def test_a_message_over_the_limit_is_refused(server: Server) -> None:
    with open_client(server) as client:
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "limits.body_bytes"):
            client.Upsert(
                pb.WriteRequest(collection="c", avro_records=bytes((64 << 20) + 1)),
                timeout=LIMIT_S,
            )
        assert client.ListCollections(pb.ListCollectionsRequest(limit=1)) is not None


def test_many_calls_at_once(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        calls = [
            client.Upsert.future(
                pb.WriteRequest(
                    collection=collection_name, records=[pb.Record(id=f"r{n}", vector=[n, n])]
                ),
                timeout=LIMIT_S,
            )
            for n in range(500)
        ]
        assert sum(call.result().upserted for call in calls) == 500
        assert count(client, collection_name) == 500
