"""Every method once, and what it answers."""

import json

import pytest
from proximadb.v1 import proximadb_pb2 as pb

from tests.grpc.client import (
    avro_batch,
    avro_record,
    condition,
    create,
    floats,
    mapping,
    open_client,
    plain_map,
    records,
)
from tests.lib.rest import RestClient
from tests.lib.server import LIMIT_S, Server

METADATA = {
    "text": "café",
    "number": -(2**62),
    "real": 0.25,
    "yes": True,
    "nothing": None,
    "list": [1, "two", [3.5], {}],
    "nested": {"a": {"b": {"c": 1}}},
}


def test_a_collection_lives_and_dies(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        made = client.CreateCollection(
            pb.CreateCollectionRequest(
                name=collection_name,
                fields=[
                    pb.VectorField(name="image", dimension=3, metric=pb.METRIC_COSINE),
                    pb.VectorField(name="bits", dimension=12, metric=pb.METRIC_HAMMING),
                ],
                columns=[pb.Column(name="price", type=pb.COLUMN_TYPE_FLOAT)],
                sync=pb.SYNC_MODE_BATCH,
                ttl_s=3600,
                description="shoes",
                storage=pb.Storage(compression="zstd", version_retention_s=60),
            ),
            timeout=LIMIT_S,
        ).collection
        assert made.name == collection_name
        assert [field.name for field in made.fields] == ["image", "bits"]
        assert [field.dimension for field in made.fields] == [3, 12]
        assert made.fields[1].metric == pb.METRIC_HAMMING
        assert made.columns[0].type == pb.COLUMN_TYPE_FLOAT
        assert (made.sync, made.ttl_s, made.description) == (pb.SYNC_MODE_BATCH, 3600, "shoes")
        assert made.storage == pb.Storage(
            compression="zstd", vectors="memory", version_retention_s=60
        )
        assert made.stats == pb.CollectionStats()
        assert made.created_at.endswith("Z")
        assert len(made.uuid) == 36

        got = client.GetCollection(pb.GetCollectionRequest(collection=collection_name)).collection
        assert got.uuid == made.uuid
        changed = client.UpdateCollection(
            pb.UpdateCollectionRequest(
                collection=collection_name,
                sync=pb.SYNC_MODE_ALWAYS,
                ttl_s=0,
                description="",
                add_columns=[pb.Column(name="kind", type=pb.COLUMN_TYPE_STRING)],
                storage=pb.Storage(vectors="disk"),
            )
        ).collection
        assert changed.storage == pb.Storage(
            compression="zstd", vectors="disk", version_retention_s=60
        )
        assert (changed.sync, changed.ttl_s, changed.description) == (pb.SYNC_MODE_ALWAYS, 0, "")
        assert [column.name for column in changed.columns] == ["price", "kind"]
        names = [c.name for c in client.ListCollections(pb.ListCollectionsRequest()).collections]
        assert collection_name in names
        assert client.DeleteCollection(
            pb.DeleteCollectionRequest(collection=collection_name)
        ).deleted
        names = [c.name for c in client.ListCollections(pb.ListCollectionsRequest()).collections]
        assert collection_name not in names


def test_collections_are_listed_in_pages(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        wanted = {f"{collection_name}-{i}" for i in range(5)}
        for name in wanted:
            create(client, name)
        seen: list[str] = []
        cursor = ""
        while True:
            page = client.ListCollections(pb.ListCollectionsRequest(limit=2, cursor=cursor))
            seen += [c.name for c in page.collections]
            cursor = page.next_cursor
            if not cursor:
                break
        assert wanted <= set(seen)
        assert seen == sorted(set(seen))


def test_a_record_comes_back_as_it_was(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name, dimension=3)
        record = pb.Record(id="a", vector=[1, -2, 0.5], metadata=mapping(METADATA))
        answer = client.Upsert(
            pb.WriteRequest(collection=collection_name, records=[record]), timeout=LIMIT_S
        )
        assert (answer.upserted, list(answer.ids)) == (1, ["a"])
        got = client.Get(pb.GetRequest(collection=collection_name, ids=["a", "x"]))
        assert list(got.missing) == ["x"]
        (stored,) = got.records
        assert list(stored.vector) == [1, -2, 0.5]
        assert plain_map(stored.metadata) == METADATA
        assert stored.version == answer.versions[0]
        assert stored.created_at == stored.updated_at != ""
        assert stored.expires_at == ""


def test_an_id_is_made_for_a_record_without_one(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        answer = client.Insert(
            pb.WriteRequest(collection=collection_name, records=[pb.Record(vector=[1, 2])])
        )
        assert len(answer.ids[0]) == 36


def test_named_fields_and_packed_bits(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        client.CreateCollection(
            pb.CreateCollectionRequest(
                name=collection_name,
                fields=[
                    pb.VectorField(name="image", dimension=2, metric=pb.METRIC_DOT),
                    pb.VectorField(name="bits", dimension=12, metric=pb.METRIC_HAMMING),
                ],
            )
        )
        record = pb.Record(
            id="a",
            vectors={
                "image": pb.Vector(packed=floats(1, 2)),
                "bits": pb.Vector(packed=b"\xff\x0f"),
            },
        )
        client.Upsert(pb.WriteRequest(collection=collection_name, records=[record]))
        (stored,) = client.Get(pb.GetRequest(collection=collection_name, ids=["a"])).records
        assert list(stored.vectors["image"].values) == [1, 2]
        assert stored.vectors["bits"].packed == b"\xff\x0f"
        query = pb.SearchQuery(
            packed_vector=b"\xfe\x0f", field="bits", include=[pb.INCLUDE_VECTORS]
        )
        (hit,) = client.Search(pb.SearchRequest(collection=collection_name, query=query)).results
        assert hit.score == 1
        assert hit.vectors["bits"].packed == b"\xff\x0f"


@pytest.mark.parametrize("with_ids", [True, False])
def test_a_packed_batch(server: Server, collection_name: str, with_ids: bool) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        packed = pb.PackedBatch(ids=["a", "b"] if with_ids else [], vectors=floats(1, 2, 3, 4))
        answer = client.Upsert(pb.WriteRequest(collection=collection_name, packed=packed))
        assert answer.upserted == 2
        got = client.Get(pb.GetRequest(collection=collection_name, ids=answer.ids)).records
        assert [list(record.vector) for record in got] == [[1, 2], [3, 4]]
        if with_ids:
            assert list(answer.ids) == ["a", "b"]


def test_a_packed_batch_with_metadata(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        packed = pb.PackedBatch(
            vectors=floats(1, 2, 3, 4), metadata=[mapping({"n": 1}), mapping({"n": 2})]
        )
        answer = client.Insert(pb.WriteRequest(collection=collection_name, packed=packed))
        got = client.Get(pb.GetRequest(collection=collection_name, ids=answer.ids)).records
        assert [plain_map(record.metadata) for record in got] == [{"n": 1}, {"n": 2}]


def test_avro_records(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        batch = avro_batch(
            avro_record("a", floats(1, 2), '{"n":1}'), avro_record("b", floats(3, 4))
        )
        answer = client.Upsert(pb.WriteRequest(collection=collection_name, avro_records=batch))
        assert list(answer.ids) == ["a", "b"]
        first, second = client.Get(
            pb.GetRequest(collection=collection_name, ids=["a", "b"])
        ).records
        assert plain_map(first.metadata) == {"n": 1}
        assert list(second.vector) == [3, 4]


def test_an_update_merges_and_unsets(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        record = pb.Record(id="a", vector=[1, 2], metadata=mapping({"a": {"x": 1, "y": 2}, "b": 3}))
        written = client.Upsert(pb.WriteRequest(collection=collection_name, records=[record]))
        update = pb.RecordUpdate(
            id="a",
            vector=[5, 6],
            metadata=mapping({"a": {"z": 9}}),
            unset=["a.x", "b"],
            if_version=written.versions[0],
        )
        answer = client.Update(pb.UpdateRequest(collection=collection_name, records=[update]))
        assert answer.upserted == 1
        (stored,) = client.Get(pb.GetRequest(collection=collection_name, ids=["a"])).records
        assert plain_map(stored.metadata) == {"a": {"y": 2, "z": 9}}
        assert list(stored.vector) == [5, 6]
        assert stored.version > written.versions[0]


def test_records_are_deleted_by_id_and_by_filter(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        batch = [pb.Record(id=f"r{n}", vector=[n, n], metadata=mapping({"n": n})) for n in range(6)]
        client.Upsert(pb.WriteRequest(collection=collection_name, records=batch))
        by_id = pb.DeleteRequest(collection=collection_name, ids=["r0", "none"])
        assert client.Delete(by_id).deleted == 1
        by_filter = pb.DeleteRequest(
            collection=collection_name, filter=condition("n", pb.OPERATOR_GTE, 4)
        )
        assert client.Delete(by_filter).deleted == 2
        assert client.Count(pb.CountRequest(collection=collection_name)).count == 3


def test_scroll_pages_through_what_the_filter_lets_pass(
    server: Server, collection_name: str
) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        batch = [
            pb.Record(id=f"r{n:03}", vector=[n, n], metadata=mapping({"even": n % 2 == 0}))
            for n in range(100)
        ]
        client.Upsert(pb.WriteRequest(collection=collection_name, records=batch))
        request = pb.ScrollRequest(
            collection=collection_name, filter=condition("even", pb.OPERATOR_EQ, True), limit=7
        )
        seen: list[str] = []
        while True:
            page = client.Scroll(request)
            assert all(not record.vector for record in page.records)
            seen += [record.id for record in page.records]
            if not page.next_cursor:
                break
            request.cursor = page.next_cursor
        assert seen == [f"r{n:03}" for n in range(0, 100, 2)]


def test_filters_of_every_kind(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        batch = [
            pb.Record(
                id=f"r{n}",
                vector=[n, n],
                metadata=mapping({"n": n, "name": f"name{n}", "tags": [f"t{n}"]}),
            )
            for n in range(10)
        ]
        client.Upsert(pb.WriteRequest(collection=collection_name, records=batch))

        def count(filter: pb.Filter) -> int:
            request = pb.CountRequest(collection=collection_name, filter=filter)
            return int(client.Count(request).count)

        assert count(condition("n", pb.OPERATOR_EQ, 3)) == 1
        assert count(condition("n", pb.OPERATOR_NE, 3)) == 9
        assert count(condition("n", pb.OPERATOR_GT, 3)) == 6
        assert count(condition("n", pb.OPERATOR_GTE, 3.0)) == 7
        assert count(condition("n", pb.OPERATOR_LT, 3)) == 3
        assert count(condition("n", pb.OPERATOR_LTE, 3)) == 4
        assert count(condition("n", pb.OPERATOR_IN, [1, 2, 99])) == 2
        assert count(condition("n", pb.OPERATOR_NIN, [1, 2, 99])) == 8
        assert count(condition("n", pb.OPERATOR_EXISTS, True)) == 10
        assert count(condition("tags", pb.OPERATOR_CONTAINS, "t4")) == 1
        assert count(condition("name", pb.OPERATOR_PREFIX, "name")) == 10
        low, high = condition("n", pb.OPERATOR_LT, 2), condition("n", pb.OPERATOR_GT, 7)
        group = pb.FilterGroup(filters=[low, high])
        assert count(pb.Filter(**{"or": group})) == 4
        assert count(pb.Filter(**{"and": group})) == 0
        assert count(pb.Filter(**{"not": pb.Filter(**{"or": group})})) == 6


def test_search_answers_the_nearest_first(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name, metric=pb.METRIC_EUCLIDEAN)
        vectors = {f"r{n}": [float(n), 0.0] for n in range(20)}
        client.Upsert(pb.WriteRequest(collection=collection_name, records=records(vectors)))
        query = pb.SearchQuery(vector=[3.2, 0], k=3, include=[pb.INCLUDE_VECTORS, pb.INCLUDE_TIMES])
        answer = client.Search(pb.SearchRequest(collection=collection_name, query=query))
        assert [hit.id for hit in answer.results] == ["r3", "r4", "r2"]
        assert answer.results[0].score == pytest.approx(0.2)
        assert list(answer.results[0].vector) == [3, 0]
        assert answer.results[0].created_at != ""
        assert not answer.results[0].HasField("metadata")
        by_id = pb.SearchQuery(id="r3", k=2)
        answer = client.Search(pb.SearchRequest(collection=collection_name, query=by_id))
        assert {hit.id for hit in answer.results} == {"r2", "r4"}
        near = pb.SearchQuery(vector=[3.2, 0], k=20, min_score=1)
        answer = client.Search(pb.SearchRequest(collection=collection_name, query=near))
        assert [hit.id for hit in answer.results] == ["r3", "r4"]
        filtered = pb.SearchQuery(packed_vector=floats(3.2, 0), k=20)
        answer = client.Search(pb.SearchRequest(collection=collection_name, query=filtered))
        assert len(answer.results) == 20


def test_a_batch_of_searches_answers_each(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        client.Upsert(
            pb.WriteRequest(collection=collection_name, records=records({"x": [1, 0], "y": [0, 1]}))
        )
        queries = [pb.SearchQuery(vector=[n % 2, 1 - n % 2], k=1) for n in range(200)]
        answer = client.SearchBatch(
            pb.SearchBatchRequest(collection=collection_name, queries=queries), timeout=LIMIT_S
        )
        assert [each.results[0].id for each in answer.results] == ["y", "x"] * 100


def test_both_doors_show_the_same(server: Server, rest: RestClient, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
        record = pb.Record(id="a", vector=[1, 2], metadata=mapping(METADATA))
        client.Upsert(pb.WriteRequest(collection=collection_name, records=[record]))
        shown = rest.request("GET", f"/v1/collections/{collection_name}/vectors/a").json()
        assert shown["metadata"] == METADATA
        assert shown["vector"] == [1, 2]


def test_facts_and_metrics(server: Server, rest: RestClient) -> None:
    with open_client(server) as client:
        facts = json.loads(client.GetInfo(pb.GetInfoRequest()).json)
        assert facts["version"] == rest.request("GET", "/v1/info").json()["version"]
        assert facts["limits"]["batch_records"] == 10000
        text = client.GetMetrics(pb.GetMetricsRequest()).text
        assert "# TYPE proximadb_" in text
