"""How a field is indexed and how hard a search looks, as REST takes and tells it."""

import json

import pytest

from tests.lib.rest import Json, RestClient
from tests.lib.server import ServerFactory, ServerOptions

INDEXES: list[Json] = [
    {"type": "auto"},
    {"type": "auto", "m": 24, "ef_construction": 300},
    {"type": "flat"},
    {"type": "hnsw"},
    {"type": "hnsw", "m": 4, "ef_construction": 8},
    {"type": "hnsw", "m": 32, "ef_construction": 2000},
    {"type": "ivf"},
    {"type": "ivf", "nlist": 1},
    {"type": "ivf", "nlist": 65536},
]
QUANTIZATIONS: list[Json] = [
    {"type": "auto"},
    {"type": "none"},
    {"type": "sq8"},
    {"type": "sq4"},
    {"type": "pq"},
    {"type": "binary"},
    {"type": "binary", "bits": 1},
    {"type": "binary", "bits": 8},
]
METRICS = ("cosine", "dot", "euclidean", "manhattan", "hamming")


def field_of(described: Json, name: str = "") -> Json:
    (field,) = [field for field in described["fields"] if field["name"] == name]
    return dict(field)


@pytest.mark.parametrize("index", INDEXES, ids=json.dumps)
@pytest.mark.parametrize("metric", METRICS)
def test_every_index_is_kept_as_it_was_asked_for(
    rest: RestClient, collection_name: str, metric: str, index: Json
) -> None:
    made = rest.create_collection(collection_name, 8, metric, index=index)
    assert field_of(made)["index"] == index
    assert field_of(rest.get_collection(collection_name))["index"] == index


@pytest.mark.parametrize("quantization", QUANTIZATIONS, ids=json.dumps)
def test_every_quantization_is_kept_as_it_was_asked_for(
    rest: RestClient, collection_name: str, quantization: Json
) -> None:
    made = rest.create_collection(collection_name, 8, "euclidean", quantization=quantization)
    assert field_of(made)["quantization"] == quantization


def test_each_field_has_its_own_index(rest: RestClient, collection_name: str) -> None:
    fields = [
        {"name": "a", "dimension": 4, "metric": "dot", "index": {"type": "ivf", "nlist": 7}},
        {"name": "b", "dimension": 4, "metric": "hamming", "quantization": {"type": "none"}},
        {"name": "c", "dimension": 4, "metric": "dot", "quantization": {"type": "sq4"}},
    ]
    body = {"name": collection_name, "fields": fields, "target_recall": 0.9}
    made = rest.call("POST", "/v1/collections", body)
    default: Json = {"index": {"type": "auto"}, "quantization": {"type": "auto"}}
    for field in fields:
        told = field_of(made, str(field["name"]))
        told.pop("index_state", None)
        assert told == default | field
    assert made["target_recall"] == 0.9


def test_a_patch_changes_each_half_with_all_of_its_parameters(
    rest: RestClient, collection_name: str
) -> None:
    rest.create_collection(
        collection_name,
        8,
        "dot",
        index={"type": "hnsw", "m": 8, "ef_construction": 99},
        quantization={"type": "binary", "bits": 2},
    )
    changed = rest.update_collection(collection_name, index={"type": "hnsw", "m": 10})
    assert field_of(changed)["index"] == {"type": "hnsw", "m": 10}
    assert field_of(changed)["quantization"] == {"type": "binary", "bits": 2}
    changed = rest.update_collection(
        collection_name, quantization={"type": "binary"}, target_recall=0.5
    )
    assert field_of(changed)["index"] == {"type": "hnsw", "m": 10}
    assert field_of(changed)["quantization"] == {"type": "binary"}
    assert changed["target_recall"] == 0.5
    changed = rest.update_collection(collection_name, index={}, target_recall=None)
    assert field_of(changed)["index"] == {"type": "auto"}
    assert changed["target_recall"] is None
    changed = rest.update_collection(
        collection_name, fields=[{"name": "", "index": {"type": "ivf"}}]
    )
    assert field_of(changed)["index"] == {"type": "ivf"}
    assert field_of(changed)["quantization"] == {"type": "binary"}


def test_a_restart_keeps_what_was_asked_for(server_factory: ServerFactory) -> None:
    server = server_factory.make(ServerOptions(cores=2)).start()
    with RestClient(server) as rest:
        index = {"type": "ivf", "nlist": 12}
        rest.create_collection("kept", 8, "dot", index=index, target_recall=0.75)
        rest.update_collection("kept", quantization={"type": "binary", "bits": 3})
    server.kill()
    server.start()
    with RestClient(server) as rest:
        kept = rest.get_collection("kept")
        assert field_of(kept)["index"] == index
        assert field_of(kept)["quantization"] == {"type": "binary", "bits": 3}
        assert kept["target_recall"] == 0.75


BAD_FIELDS: list[tuple[str, Json, str]] = [
    ("dot", {"index": {"type": "hnsw", "m": 3}}, "index.m: expected an even number from 4 to 32"),
    ("dot", {"index": {"type": "hnsw", "m": 34}}, "index.m: expected an even number from 4 to 32"),
    ("dot", {"index": {"m": 0}}, "0 is no value for a parameter"),
    ("dot", {"index": {"m": "8"}}, "expected a number"),
    (
        "dot",
        {"index": {"type": "auto", "ef_construction": 7}},
        "index.ef_construction: expected 8 to 2000, found 7",
    ),
    (
        "dot",
        {"index": {"type": "hnsw", "ef_construction": 2001}},
        "index.ef_construction: expected 8 to 2000, found 2001",
    ),
    ("dot", {"index": {"type": "hnsw", "nlist": 8}}, "index.nlist: only of the type ivf"),
    ("dot", {"index": {"type": "ivf", "m": 8}}, "index.m: only of the types hnsw and auto"),
    ("dot", {"index": {"type": "flat", "m": 8}}, "index.m: only of the types hnsw and auto"),
    ("dot", {"index": {"type": "ivf", "nlist": 65537}}, "index.nlist: expected 1 to 65536"),
    ("dot", {"index": {"type": "HNSW"}}, "index.type: 'HNSW' is not one of"),
    ("dot", {"index": {"ef": 8}}, "unknown field 'ef'"),
    ("dot", {"index": "hnsw"}, "expected an object"),
    ("dot", {"quantization": {"type": "sq2"}}, "quantization.type: 'sq2' is not one of"),
    (
        "dot",
        {"quantization": {"type": "binary", "bits": 9}},
        "quantization.bits: expected 1 to 8, found 9",
    ),
    (
        "dot",
        {"quantization": {"type": "sq8", "bits": 8}},
        "quantization.bits: only of the type binary",
    ),
    (
        "hamming",
        {"quantization": {"type": "binary"}},
        "quantization.type: expected auto or none, as the metric is hamming",
    ),
    (
        "manhattan",
        {"quantization": {"type": "pq"}},
        "quantization.type: expected auto or none, as the metric is manhattan",
    ),
]


@pytest.mark.parametrize(("metric", "settings", "says"), BAD_FIELDS)
def test_a_bad_index_is_refused_at_birth_and_later(
    rest: RestClient, collection_name: str, metric: str, settings: Json, says: str
) -> None:
    body: Json = {"name": collection_name, "dimension": 8, "metric": metric}
    answer = rest.request("POST", "/v1/collections", body | settings)
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT"), answer.body
    assert says in answer.error_message
    fields = [{"name": "a", "dimension": 8, "metric": metric}, body | settings | {"name": "b"}]
    answer = rest.request("POST", "/v1/collections", {"name": collection_name, "fields": fields})
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT"), answer.body
    assert says in answer.error_message
    rest.create_collection(collection_name, 8, metric)
    before = rest.get_collection(collection_name)
    path = f"/v1/collections/{collection_name}"
    answer = rest.request("PATCH", path, settings)
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT"), answer.body
    assert says in answer.error_message
    assert rest.get_collection(collection_name) == before


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"fields": [{"name": "x", "index": {}}]}, "fields[0].name: the collection has no vector"),
        ({"fields": [{"name": ""}]}, "fields[0]: give index or quantization"),
        (
            {"index": {}, "fields": [{"name": "", "quantization": {}}]},
            "the vector field '' is given twice",
        ),
        ({"fields": [{"name": "", "dimension": 3}]}, "unknown field 'dimension'"),
        ({"target_recall": 0.4999}, "target_recall: expected 0.5 to 1"),
        ({"target_recall": 1.001}, "target_recall: expected 0.5 to 1"),
        ({"target_recall": 97}, "target_recall: expected 0.5 to 1"),
    ],
)
def test_a_bad_patch_says_where_and_what(
    rest: RestClient, collection_name: str, body: Json, says: str
) -> None:
    rest.create_collection(collection_name, 8, "dot")
    answer = rest.request("PATCH", f"/v1/collections/{collection_name}", body)
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT"), answer.body
    assert says in answer.error_message


def test_an_index_beside_named_fields_is_refused(rest: RestClient, collection_name: str) -> None:
    fields = [{"name": "a", "dimension": 2, "metric": "dot"}]
    body = {"name": collection_name, "fields": fields, "index": {"type": "hnsw"}}
    answer = rest.request("POST", "/v1/collections", body)
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT")
    assert "or into fields" in answer.error_message


PARAMS: list[Json | None] = [
    None,
    {},
    {"exact": True},
    {"exact": False, "ef": 1},
    {"ef": 16384},
    {"nprobe": 65536},
    {"target_recall": 0.5},
    {"target_recall": 1},
]


@pytest.mark.parametrize("params", PARAMS, ids=json.dumps)
def test_every_way_to_look_finds_the_few_rows_there_are(
    rest: RestClient, collection_name: str, params: Json | None
) -> None:
    rest.create_collection(collection_name, 2, "euclidean")
    rest.upsert(collection_name, [{"id": str(i), "vector": [i, 0]} for i in range(20)])
    query: Json = {"vector": [3.2, 0], "k": 3, "params": params}
    for hits in (
        rest.search(collection_name, **query)["results"],
        *(r["results"] for r in rest.search_batch(collection_name, [query, query])["results"]),
    ):
        assert [hit["id"] for hit in hits] == ["3", "4", "2"]


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"ef": 0}, "0 is no value for a parameter"),
        ({"ef": 16385}, "params.ef: expected 1 to 16384, found 16385"),
        ({"ef": -1}, "expected an integer"),
        ({"nprobe": 0}, "0 is no value for a parameter"),
        ({"nprobe": 65537}, "params.nprobe: expected 1 to 65536, found 65537"),
        ({"target_recall": 0}, "target_recall: expected 0.5 to 1"),
        ({"target_recall": 1.5}, "target_recall: expected 0.5 to 1"),
        ({"target_recall": "0.9"}, "expected a number"),
        ({"ef": 1, "nprobe": 1}, "params: at most one of ef, nprobe and target_recall"),
        ({"ef": 1, "target_recall": 1}, "params: at most one of ef, nprobe and target_recall"),
        ({"ef": 1, "exact": True}, "params: exact goes without ef, nprobe and target_recall"),
        ({"target_recall": 1, "exact": True}, "params: exact goes without ef"),
        ({"gamma": 1}, "unknown field 'gamma'"),
        ([], "expected an object"),
    ],
)
def test_bad_params_say_where_and_what(
    rest: RestClient, collection_name: str, params: object, says: str
) -> None:
    rest.create_collection(collection_name, 1)
    good: Json = {"vector": [1]}
    bad = good | {"params": params}
    path = f"/v1/collections/{collection_name}/search"
    answer = rest.request("POST", path, bad)
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT"), answer.body
    assert says in answer.error_message
    answer = rest.request("POST", path + "/batch", {"searches": [good, bad]})
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT"), answer.body
    place = "searches[1]." if says.startswith("params") else ""
    assert place + says in answer.error_message
