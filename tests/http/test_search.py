"""Search against an exact oracle of numpy: every metric, every operator, every way to ask."""

import base64
import json
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from tests.lib.rest import Json, RestClient
from tests.lib.server import Server, ServerFactory, ServerOptions

Floats = npt.NDArray[np.float32]
ROWS = 600
DIMENSION = 37  # no multiple of any vector width
HIGHER_IS_BETTER = ("cosine", "dot")


def cosine(
    rows: npt.NDArray[np.float64], query: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norms > 0, rows @ query / norms, 0.0)


# scores of every row, in double: rows n x d, query d -> n
ORACLES: dict[str, Callable[..., npt.NDArray[np.float64]]] = {
    "cosine": cosine,
    "dot": lambda rows, query: rows @ query,
    "euclidean": lambda rows, query: np.linalg.norm(rows - query, axis=1),
    "manhattan": lambda rows, query: np.abs(rows - query).sum(axis=1),
    "hamming": lambda rows, query: (rows != query).sum(axis=1).astype(np.float64),
}


def make_rows(metric: str) -> Floats:
    """n x d; one zero row, some duplicates, as real data has."""
    rng = np.random.default_rng(7)
    if metric == "hamming":
        rows = rng.integers(0, 2, (ROWS, DIMENSION)).astype(np.float32)
    else:
        rows = rng.normal(size=(ROWS, DIMENSION)).astype(np.float32)
    rows[5] = 0
    rows[7] = rows[6]
    return rows


def best(metric: str, scores: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.float64]:
    """The k best scores in order."""
    ordered = np.sort(scores)
    return ordered[::-1][:k] if metric in HIGHER_IS_BETTER else ordered[:k]


def check_hits(metric: str, rows: Floats, query: Floats, hits: list[Json], k: int) -> None:
    scores = ORACLES[metric](rows.astype(np.float64), query.astype(np.float64))
    got = np.array([hit["score"] for hit in hits])
    np.testing.assert_allclose(got, best(metric, scores, k), rtol=2e-4, atol=2e-4)
    # each id has the score that its own vector has: ties may come in any order
    own = scores[[int(hit["id"]) for hit in hits]]
    np.testing.assert_allclose(got, own, rtol=2e-4, atol=2e-4)
    assert len({hit["id"] for hit in hits}) == len(hits)


@pytest.fixture(scope="module", params=[1, 2, 3])
def any_server(request: pytest.FixtureRequest, session_servers: ServerFactory) -> Server:
    return session_servers.make(ServerOptions(cores=request.param)).start()


@pytest.mark.parametrize("metric", ORACLES)
def test_scores_and_order_are_those_of_brute_force(any_server: Server, metric: str) -> None:
    rows = make_rows(metric)
    name = f"metric-{metric}"
    with RestClient(any_server) as rest:
        rest.create_collection(name, DIMENSION, metric)
        for start in range(0, ROWS, 200):
            records = [
                {"id": str(start + i), "vector": row.tolist()}
                for i, row in enumerate(rows[start : start + 200])
            ]
            rest.upsert(name, records)
        rng = np.random.default_rng(8)
        for k in (1, 10, ROWS, 10000):
            query = rows[int(rng.integers(ROWS))]
            if metric != "hamming":
                query = rng.normal(size=DIMENSION).astype(np.float32)
            hits = rest.search(name, vector=query.tolist(), k=k)["results"]
            assert len(hits) == min(k, ROWS)
            check_hits(metric, rows, query, hits, min(k, ROWS))
        zero = np.zeros(DIMENSION, dtype=np.float32)
        check_hits(metric, rows, zero, rest.search(name, vector=zero.tolist(), k=9)["results"], 9)


def test_a_batch_of_searches_equals_single_ones(rest: RestClient, collection_name: str) -> None:
    rows = make_rows("dot")
    rest.create_collection(collection_name, DIMENSION, "dot")
    rest.upsert(
        collection_name,
        [
            {"id": str(i), "vector": row.tolist(), "metadata": {"n": i}}
            for i, row in enumerate(rows)
        ],
    )
    searches: list[Json] = [
        {"vector": rows[i].tolist(), "k": i + 1, "filter": {"n": {"$gte": i * 10}}}
        for i in range(20)
    ]
    searches.append({"id": "3", "k": 5, "include": ["vectors"]})
    together = rest.search_batch(collection_name, searches)["results"]
    alone = [rest.search(collection_name, **one)["results"] for one in searches]
    assert [one["results"] for one in together] == alone


def test_a_search_by_id_leaves_the_record_itself_out(
    rest: RestClient, collection_name: str
) -> None:
    rest.create_collection(collection_name, 2, "euclidean")
    points = {"a": [0, 0], "b": [1, 0], "c": [5, 0]}
    rest.upsert(collection_name, [{"id": k, "vector": v} for k, v in points.items()])
    hits = rest.search(collection_name, id="a", k=10)["results"]
    assert [(hit["id"], hit["score"]) for hit in hits] == [("b", 1), ("c", 5)]


def test_min_score_is_a_bound_in_the_metrics_direction(
    rest: RestClient, collection_name: str
) -> None:
    for metric, bound, expected in (("euclidean", 1.0, ["a", "b"]), ("dot", 1.0, ["c", "b"])):
        name = f"{collection_name}-{metric}"
        rest.create_collection(name, 1, metric)
        rest.upsert(name, [{"id": i, "vector": [v]} for i, v in (("a", 0), ("b", 1), ("c", 5))])
        query = [0.0] if metric == "euclidean" else [1.0]
        hits = rest.search(name, vector=query, min_score=bound)["results"]
        assert [hit["id"] for hit in hits] == expected


def test_include_chooses_what_comes_back(rest: RestClient, collection_name: str) -> None:
    rest.create_collection(collection_name, 1, "dot")
    rest.upsert(collection_name, [{"id": "a", "vector": [1], "metadata": {"n": 1}}])

    def keys(**body: object) -> set[str]:
        return set(rest.search(collection_name, vector=[1], **body)["results"][0])

    always = {"id", "score", "version"}
    times = {"created_at", "updated_at", "expires_at"}
    assert keys() == always | {"metadata"}
    assert keys(include=[]) == always
    assert keys(include=["vectors"]) == always | {"vector"}
    assert keys(include=["times", "metadata", "vectors"]) == always | times | {"metadata", "vector"}


# ---- named fields ----


def test_named_fields_are_searched_one_at_a_time(rest: RestClient, collection_name: str) -> None:
    fields = [
        {"name": "image", "dimension": 2, "metric": "euclidean"},
        {"name": "text", "dimension": 3, "metric": "dot"},
    ]
    rest.call("POST", "/v1/collections", {"name": collection_name, "fields": fields})
    rest.upsert(
        collection_name,
        [
            {"id": "both", "vectors": {"image": [0, 0], "text": [1, 0, 0]}},
            {"id": "image", "vectors": {"image": [3, 4]}},
            {"id": "text", "vectors": {"text": [2, 0, 0]}},
            {"id": "none", "metadata": {"n": 1}},
        ],
    )

    def ids(field: str, vector: list[float]) -> list[str]:
        hits = rest.search(collection_name, field=field, vector=vector)["results"]
        return [hit["id"] for hit in hits]

    assert ids("image", [0, 0]) == ["both", "image"]
    assert ids("text", [1, 0, 0]) == ["text", "both"]
    assert rest.count(collection_name) == 4
    stored = rest.get_one(collection_name, "both")["vectors"]
    assert stored == {"image": [0, 0], "text": [1, 0, 0]}
    update = {"id": "both", "vectors": {"image": [9, 9]}, "unset_vectors": ["text"]}
    rest.update(collection_name, [update])
    assert rest.get_one(collection_name, "both")["vectors"] == {"image": [9, 9]}
    assert ids("text", [1, 0, 0]) == ["text"]
    with pytest.raises(AssertionError, match="has no vector in the searched field"):
        rest.search(collection_name, field="text", id="image")


# ---- filters ----

DOCUMENTS: dict[str, Json] = {
    "a": {"s": "shoe", "n": 10, "f": 1.5, "b": True, "l": ["x", "y"], "o": {"p": 1}},
    "b": {"s": "shirt", "n": 20, "f": 2.0, "b": False, "l": ["y"], "o": {"p": 2, "q": "z"}},
    "c": {"s": "shoelace", "n": 30, "f": 10, "b": True, "l": [], "when": "2024-01-01T00:00:00Z"},
    "d": {"s": "", "n": -5, "nothing": None, "when": "2025-06-01T12:00:00+02:00"},
    "e": {},
}
FILTERS: list[tuple[Json, str]] = [
    ({}, "abcde"),
    ({"s": "shoe"}, "a"),
    ({"s": {"$eq": "shoe"}}, "a"),
    ({"s": {"$ne": "shoe"}}, "bcde"),
    ({"n": {"$gt": 10}}, "bc"),
    ({"n": {"$gte": 10}}, "abc"),
    ({"n": {"$lt": 10}}, "d"),
    ({"n": {"$lte": 10}}, "ad"),
    ({"n": {"$gt": 10, "$lt": 30}}, "b"),
    ({"n": 10.0}, "a"),
    ({"f": {"$gte": 2}}, "bc"),
    ({"f": 10}, "c"),
    ({"s": {"$gt": "shoe"}}, "c"),
    ({"b": True}, "ac"),
    ({"b": {"$ne": True}}, "bde"),
    ({"n": {"$in": [10, 30, 77]}}, "ac"),
    ({"n": {"$nin": [10, 30, 77]}}, "bde"),
    ({"s": {"$in": ["shoe", "shirt"]}}, "ab"),
    ({"l": {"$exists": True}}, "abc"),
    ({"l": {"$exists": False}}, "de"),
    ({"nothing": {"$exists": True}}, "d"),
    ({"nothing": None}, "d"),
    ({"l": {"$contains": "y"}}, "ab"),
    ({"l": "x"}, "a"),
    ({"l": ["x", "y"]}, "a"),
    ({"s": {"$contains": "lace"}}, "c"),
    ({"s": {"$prefix": "sho"}}, "ac"),
    ({"s": {"$prefix": ""}}, "abcd"),
    ({"o.p": 1}, "a"),
    ({"o.q": {"$prefix": "z"}}, "b"),
    ({"o": {"$eq": {"p": 1}}}, "a"),
    ({"s": "shoe", "n": 10}, "a"),
    ({"s": "shoe", "n": 11}, ""),
    ({"$and": [{"n": {"$gt": 5}}, {"b": True}]}, "ac"),
    ({"$or": [{"n": 10}, {"n": 20}]}, "ab"),
    ({"$or": [{"n": 10}, {"$and": [{"b": True}, {"n": 30}]}]}, "ac"),
    ({"$not": {"n": 10}}, "bcde"),
    ({"$not": {"$or": [{"n": 10}, {"b": False}]}}, "cde"),
    ({"when": {"$lt": "2025-01-01T00:00:00Z"}}, "c"),
    ({"when": {"$gte": "2025-06-01T10:00:00Z"}}, "d"),
    ({"when": "2025-06-01T10:00:00Z"}, "d"),
]


@pytest.fixture(scope="module", params=["declared", "free"])
def documents(request: pytest.FixtureRequest, session_server: Server) -> str:
    """The same records with declared columns and without; `when` is a time in both."""
    name = f"documents-{request.param}"
    columns = [{"name": "when", "type": "datetime"}]
    if request.param == "declared":
        types = {"s": "string", "n": "integer", "f": "float", "b": "boolean", "l": "string[]"}
        columns += [{"name": key, "type": kind} for key, kind in types.items()]
    with RestClient(session_server) as rest:
        rest.create_collection(name, 1, "dot", columns=columns)
        rest.upsert(name, [{"id": k, "vector": [1], "metadata": v} for k, v in DOCUMENTS.items()])
    return name


@pytest.mark.parametrize(
    ("condition", "expected"), FILTERS, ids=[json.dumps(f[0]) for f in FILTERS]
)
def test_a_filter_chooses_the_same_rows_everywhere(
    rest: RestClient, documents: str, condition: Json, expected: str
) -> None:
    hits = rest.search(documents, vector=[1], filter=condition, k=100)["results"]
    assert sorted(hit["id"] for hit in hits) == list(expected)
    assert rest.count(documents, filter=condition) == len(expected)
    records = rest.scroll(documents, filter=condition)["records"]
    assert [record["id"] for record in records] == list(expected)


def test_another_type_matches_nothing_on_a_free_key(rest: RestClient, collection_name: str) -> None:
    rest.create_collection(collection_name, 1)
    rest.upsert(collection_name, [{"id": "a", "metadata": {"n": 10}}])
    assert rest.count(collection_name, filter={"n": "10"}) == 0
    assert rest.count(collection_name, filter={"n": {"$gt": "1"}}) == 0


def test_metadata_comes_back_as_it_went_in(rest: RestClient, documents: str) -> None:
    got = rest.get(documents, list(DOCUMENTS))["records"]
    assert {record["id"]: record["metadata"] for record in got} == DOCUMENTS


def test_numbers_keep_their_value(rest: RestClient, collection_name: str) -> None:
    rest.create_collection(collection_name, 1)
    numbers = [0, -1, 2**63 - 1, -(2**63), 2**53 + 1, 0.1, 1e300, 5e-324, -0.0, 1.0]
    rest.upsert(collection_name, [{"id": "a", "metadata": {"n": numbers}}])
    assert rest.get_one(collection_name, "a")["metadata"]["n"] == numbers
    for value in (2**53, 2**53 + 2):
        assert rest.count(collection_name, filter={"n": value}) == 0
    assert rest.count(collection_name, filter={"n": 2**53 + 1}) == 1


def test_float32_values_survive_unchanged(rest: RestClient, collection_name: str) -> None:
    bits = np.random.default_rng(3).integers(0, 1 << 32, 4000, dtype=np.uint64)
    values = bits.astype(np.uint32).view(np.float32)
    values = values[np.isfinite(values)]
    rest.create_collection(collection_name, len(values), "dot")
    rest.upsert(collection_name, [{"id": "a", "vector": [float(v) for v in values]}])
    packed = base64.b64encode(values.tobytes()).decode()
    body: Json = {"packed": {"ids": ["b"], "vectors": packed}}
    rest.call("PUT", f"/v1/collections/{collection_name}/vectors", body)
    for name in ("a", "b"):
        got = np.array(rest.get_one(collection_name, name)["vector"], dtype=np.float32)
        assert got.tobytes() == values.tobytes()


# ---- pages ----


def test_pages_are_in_order_and_complete(rest: RestClient, collection_name: str) -> None:
    rest.create_collection(collection_name, 1)
    ids = [f"{i:04d}" for i in range(1000)]
    shuffled = list(np.random.default_rng(1).permutation(ids))
    rest.upsert(
        collection_name, [{"id": str(i), "metadata": {"even": int(i) % 2 == 0}} for i in shuffled]
    )
    for limit, condition, expected in (
        (1, {}, ids[:5]),
        (7, {}, ids),
        (100, {"even": True}, ids[::2]),
    ):
        got: list[str] = []
        cursor: str | None = None
        while len(got) < len(expected):
            page = rest.scroll(collection_name, limit=limit, filter=condition, cursor=cursor)
            assert 0 < len(page["records"]) <= limit
            got += [record["id"] for record in page["records"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert got == expected
        if limit != 1:
            assert cursor is None or rest.scroll(collection_name, cursor=cursor)["records"] == []


def test_a_page_goes_on_behind_deleted_records(rest: RestClient, collection_name: str) -> None:
    rest.create_collection(collection_name, 1)
    rest.upsert(collection_name, [{"id": str(i)} for i in range(9)])
    page = rest.scroll(collection_name, limit=3)
    rest.delete(collection_name, ids=["2", "3"])
    rest.upsert(collection_name, [{"id": "25"}])
    rest_of = rest.scroll(collection_name, cursor=page["next_cursor"])["records"]
    assert [record["id"] for record in rest_of] == ["25", "4", "5", "6", "7", "8"]


def test_collections_are_listed_in_pages(session_servers: ServerFactory) -> None:
    server = session_servers.make(ServerOptions(cores=2)).start()
    with RestClient(server) as rest:
        names = [f"c{i:02d}" for i in range(25)]
        for name in reversed(names):
            rest.create_collection(name, 1)
        got: list[str] = []
        cursor = ""
        while True:
            page = rest.call("GET", f"/v1/collections?limit=10&cursor={cursor}")
            got += [collection["name"] for collection in page["collections"]]
            if page["next_cursor"] is None:
                break
            cursor = page["next_cursor"]
        assert got == names
        assert {c["owner_core"] for c in rest.list_collections()["collections"]} == {0, 1}
