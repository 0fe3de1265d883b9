"""Requests that are wrong: each gets its code, and a message with the place of the mistake."""

import contextlib
import json
import socket
from dataclasses import dataclass
from typing import Any

import pytest

from tests.http.wire import connect, head, raw, read_response
from tests.lib.rest import Json, RestClient
from tests.lib.server import Server

JSON_TYPE = {"content-type": "application/json"}
LONG = "x" * 513


@pytest.fixture(scope="module")
def collection(session_server: Server) -> str:
    """Dimension 2, columns of every type, one record `a`."""
    columns = [
        {"name": name.replace("[]", "s"), "type": name}
        for name in ("string", "integer", "float", "boolean", "datetime", "string[]", "geo")
    ]
    with RestClient(session_server) as rest:
        rest.create_collection("bad-input", 2, "euclidean", columns=columns)
        rest.create_collection("bad-bits", 9, "hamming")
        named = [{"name": "image", "dimension": 2, "metric": "dot"}]
        rest.call("POST", "/v1/collections", {"name": "bad-named", "fields": named})
        rest.upsert("bad-input", [{"id": "a", "vector": [0, 0]}])
    return "bad-input"


@dataclass(frozen=True, slots=True)
class Bad:
    name: str
    path: str
    body: Any
    says: str
    method: str = "POST"
    status: int = 400
    code: str = "INVALID_ARGUMENT"


def put(name: str, record: Json | list[Json], says: str, where: str = "bad-input") -> Bad:
    records = record if isinstance(record, list) else [record]
    return Bad(name, f"{where}/vectors", {"vectors": records}, says, "PUT")


def create(case: str, says: str, /, **settings: object) -> Bad:
    body = {"name": "never-made", "dimension": 2, "metric": "dot"} | settings
    return Bad(case, "", {k: v for k, v in body.items() if v != "absent"}, says)


def search(case: str, says: str, /, **body: object) -> Bad:
    return Bad(case, "bad-input/search", body, says)


V = [0.0, 0.0]
WRITES = [
    put(
        "dimension-short", {"id": "b", "vector": [1]}, "vectors[0].vector: dimension 1, expected 2"
    ),
    put("dimension-long", {"id": "b", "vector": [1, 2, 3]}, "vectors[0].vector: dimension 3"),
    put("dimension-zero", {"id": "b", "vector": []}, "vectors[0].vector: dimension 0"),
    put(
        "second-record", [{"id": "b", "vector": V}, {"id": "c", "vector": [1]}], "vectors[1].vector"
    ),
    put("unknown-field", {"id": "b", "vector": V, "colour": 1}, "unknown field 'colour'"),
    put("update-only-field", {"id": "b", "vector": V, "unset": []}, "unknown field 'unset'"),
    put("vector-is-text", {"id": "b", "vector": "1,2"}, "expected"),
    put("number-is-text", {"id": "b", "vector": [1, "2"]}, "JSON at byte"),
    put("id-is-a-number", {"id": 7, "vector": V}, "expected"),
    put("id-too-long", {"id": LONG, "vector": V}, "vectors[0].id: 513 bytes"),
    put(
        "duplicate-id", [{"id": "b", "vector": V}] * 2, "vectors[1].id: 'b' is the id of vectors[0]"
    ),
    put("metadata-is-a-list", {"id": "b", "vector": V, "metadata": []}, "expected an object"),
    put(
        "expires-before-1970", {"id": "b", "vector": V, "expires_at": -1}, "expires_at: before 1970"
    ),
    put("expires-is-no-time", {"id": "b", "vector": V, "expires_at": "soon"}, "no RFC 3339 time"),
    put("if-version-negative", {"id": "b", "vector": V, "if_version": -1}, "expected an integer"),
    put("if-version-fraction", {"id": "b", "vector": V, "if_version": 1.5}, "expected an integer"),
    put("no-such-vector-field", {"id": "b", "vectors": {"x": V}}, "no vector field 'x'"),
    put("default-field-missing", {"id": "b", "vector": V}, "no default vector field", "bad-named"),
    put("named-dimension", {"id": "b", "vectors": {"image": [1]}}, "vectors.image", "bad-named"),
    put("bits-are-not-bits", {"id": "b", "vector": [0] * 8 + [2]}, "expected 0 or 1", "bad-bits"),
    put("bits-dimension", {"id": "b", "vector": [0] * 8}, "dimension 8, expected 9", "bad-bits"),
    put("column-string", {"id": "b", "vector": V, "metadata": {"string": 1}}, "metadata.string"),
    put("column-integer", {"id": "b", "vector": V, "metadata": {"integer": 1.5}}, "integer"),
    put("column-float", {"id": "b", "vector": V, "metadata": {"float": "x"}}, "metadata.float"),
    put("column-boolean", {"id": "b", "vector": V, "metadata": {"boolean": 0}}, "boolean"),
    put("column-datetime", {"id": "b", "vector": V, "metadata": {"datetime": "now"}}, "datetime"),
    put("column-list", {"id": "b", "vector": V, "metadata": {"strings": ["a", 1]}}, "strings"),
    put("column-geo", {"id": "b", "vector": V, "metadata": {"geo": {"lat": 91, "lon": 0}}}, "geo"),
    put("batch-empty", [], "vectors: must not be empty"),
    put("batch-too-large", [{"vector": V}] * 10001, "limits.batch_records (10000)"),
    Bad("batch-absent", "bad-input/vectors", {}, "vectors: must not be empty", "PUT"),
    Bad("top-unknown", "bad-input/vectors", {"vector": []}, "unknown field 'vector'", "PUT"),
    Bad("update-without-id", "bad-input/vectors", {"vectors": [{}]}, "id: missing", "PATCH"),
    Bad(
        "update-missing",
        "bad-input/vectors",
        {"vectors": [{"id": "x"}]},
        "record 'x' does not exist",
        *("PATCH", 404, "NOT_FOUND"),
    ),
    Bad(
        "insert-existing",
        "bad-input/vectors",
        {"vectors": [{"id": "b", "vector": V}, {"id": "a", "vector": V}]},
        "vectors[1].id: record 'a' already exists",
        *("POST", 409, "ALREADY_EXISTS"),
    ),
    Bad(
        "if-version-mismatch",
        "bad-input/vectors",
        {"vectors": [{"id": "a", "vector": V, "if_version": 999}]},
        "record 'a' has version",
        *("PUT", 412, "FAILED_PRECONDITION"),
    ),
    Bad(
        "if-version-of-nothing",
        "bad-input/vectors",
        {"vectors": [{"id": "x", "vector": V, "if_version": 999}]},
        "record 'x' does not exist, expected version 999",
        *("PUT", 412, "FAILED_PRECONDITION"),
    ),
]
READS = [
    Bad("get-nothing", "bad-input/vectors/get", {"ids": []}, "ids: must not be empty"),
    Bad("get-id-too-long", "bad-input/vectors/get", {"ids": [LONG]}, "expected 1 to 512 bytes"),
    Bad("get-include", "bad-input/vectors/get", {"ids": ["a"], "include": ["all"]}, "not one of"),
    Bad("delete-nothing", "bad-input/vectors/delete", {}, "exactly one of ids and filter"),
    Bad(
        "delete-both",
        "bad-input/vectors/delete",
        {"ids": ["a"], "filter": {}},
        "exactly one of ids and filter",
    ),
    Bad("scroll-limit", "bad-input/vectors/scroll", {"limit": 10001}, "limits.scroll_records"),
    Bad("scroll-cursor", "bad-input/vectors/scroll", {"cursor": "junk"}, "cursor"),
    Bad("count-unknown", "bad-input/vectors/count", {"limit": 1}, "unknown field 'limit'"),
    search("search-dimension", "dimension 3, expected 2", vector=[1, 2, 3]),
    search("search-nothing", "exactly one of vector and id"),
    search("search-both", "exactly one of vector and id", vector=V, id="a"),
    search("search-k-zero", "k: must not be empty", vector=V, k=0),
    search("search-k-large", "limits.k (10000)", vector=V, k=10001),
    search("search-k-negative", "expected an integer", vector=V, k=-1),
    search("search-field", "vector field", vector=V, field="image"),
    search("search-ef-is-text", "expected", vector=V, params={"ef": "big"}),
    Bad(
        "search-by-a-missing-id",
        "bad-input/search",
        {"id": "x"},
        "record 'x' does not exist",
        status=404,
        code="NOT_FOUND",
    ),
    search("filter-operator", "$near", vector=V, filter={"n": {"$near": 1}}),
    search("filter-empty-object", "an empty object", vector=V, filter={"n": {}}),
    search("filter-or-empty", "$or", vector=V, filter={"$or": []}),
    search("filter-in-scalar", "$in", vector=V, filter={"n": {"$in": 1}}),
    search("filter-column-type", "filter.integer", vector=V, filter={"integer": "one"}),
    search("filter-is-a-list", "expected an object", vector=V, filter=[]),
    search(
        "filter-leaves",
        "1024 conditions",
        vector=V,
        filter={"$or": [{"n": i} for i in range(1025)]},
    ),
    Bad(
        "filter-operator-of-later",
        "bad-input/search",
        {"vector": V, "filter": {"text": {"$match": "x"}}},
        "not available yet",
        status=501,
        code="UNIMPLEMENTED",
    ),
    Bad("batch-search-nothing", "bad-input/search/batch", {"searches": []}, "must not be empty"),
    Bad(
        "batch-search-second",
        "bad-input/search/batch",
        {"searches": [{"vector": V}, {"vector": [1]}]},
        "searches[1]",
    ),
    Bad(
        "batch-search-many",
        "bad-input/search/batch",
        {"searches": [{"vector": V}] * 1001},
        "1000",
    ),
]
COLLECTIONS = [
    create("name-missing", "name: expected", name="absent"),
    create("name-dot", "name: expected", name=".hidden"),
    create("name-slash", "name: expected", name="a/b"),
    create("name-long", "name: expected", name="n" * 129),
    create("dimension-0", "dimension: expected 1 to 65535", dimension=0),
    create("dimension-65536", "dimension", dimension=65536),
    create("dimension-text", "expected", dimension="2"),
    create("metric-unknown", "'l2' is not one of cosine", metric="l2"),
    create("metric-missing", "metric: expected one of", metric="absent"),
    create("nothing", "fields", dimension="absent", metric="absent"),
    create("both", "not both", fields=[{"name": "a", "dimension": 1, "metric": "dot"}]),
    create("index", "not one of auto, flat, hnsw, ivf", index={"type": "hnsw2"}),
    create("column-type", "not one of string", columns=[{"name": "a", "type": "uuid"}]),
    create("column-twice", "declared already", columns=[{"name": "a", "type": "text"}] * 2),
    create("column-dollar", "columns[0].name", columns=[{"name": "$a", "type": "text"}]),
    create("sync", "not one of always", sync="sometimes"),
    create("ttl", "expected an integer", ttl_s=-5),
    create("description", "description: at most 4096 bytes", description="d" * 4097),
    create(
        "compression",
        "storage.compression: 'gzip' is not one of none, snappy, lz4, zstd",
        storage={"compression": "gzip"},
    ),
    create(
        "vectors",
        "storage.vectors: 'tape' is not one of memory, mmap, disk",
        storage={"vectors": "tape"},
    ),
    create(
        "retention",
        "storage.version_retention_s: at most 315360000 seconds, found 315360001",
        storage={"version_retention_s": 315360001},
    ),
    create("storage-unknown", "unknown field 'level'", storage={"level": 3}),
    create("unknown", "unknown field 'shards'", shards=3),
    Bad(
        "exists",
        "",
        {"name": "bad-input", "dimension": 2, "metric": "dot"},
        "collection 'bad-input' already exists",
        status=409,
        code="ALREADY_EXISTS",
    ),
    Bad("update-name", "bad-input", {"name": "other"}, "unknown field 'name'", "PATCH"),
    Bad("update-dimension", "bad-input", {"dimension": 3}, "unknown field", "PATCH"),
    Bad(
        "update-vectors",
        "bad-input",
        {"storage": {"vectors": "tape"}},
        "storage.vectors: 'tape' is not one of",
        "PATCH",
    ),
    Bad(
        "update-retention",
        "bad-input",
        {"storage": {"version_retention_s": 1 << 40}},
        "storage.version_retention_s: at most",
        "PATCH",
    ),
]


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "1e3", "%20", "18446744073709551616"])
@pytest.mark.parametrize("name", ["as_of", "limit"])
def test_a_number_in_a_query_is_a_whole_number(
    rest: RestClient, collection: str, name: str, text: str
) -> None:
    path = "/v1/collections" if name == "limit" else f"/v1/collections/{collection}/vectors/a"
    answer = rest.request("GET", f"{path}?{name}={text}")
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT")
    assert answer.error_message.startswith(f"{name}: '")
    assert "is not a whole number from 0 to" in answer.error_message


@pytest.mark.parametrize("bad", WRITES + READS + COLLECTIONS, ids=lambda bad: bad.name)
def test_a_wrong_request_is_refused_with_its_place(
    rest: RestClient, collection: str, bad: Bad
) -> None:
    before = rest.count(collection)
    path = "/v1/collections" + (f"/{bad.path}" if bad.path else "")
    answer = rest.request(bad.method, path, json.dumps(bad.body).encode(), JSON_TYPE)
    assert (answer.status, answer.error_code) == (bad.status, bad.code), answer.body
    assert bad.says in answer.error_message
    assert rest.count(collection) == before, "a refused batch left something"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("PUT", "/vectors"),
        ("POST", "/vectors"),
        ("PATCH", "/vectors"),
        ("GET", "/vectors/a"),
        ("DELETE", "/vectors/a"),
        ("POST", "/vectors/get"),
        ("POST", "/vectors/delete"),
        ("POST", "/vectors/scroll"),
        ("POST", "/vectors/count"),
        ("POST", "/search"),
        ("POST", "/search/batch"),
        ("GET", "/recall"),
    ],
)
def test_a_collection_that_is_not_there_is_not_found(
    rest: RestClient, method: str, path: str
) -> None:
    bodies: dict[str, Json] = {
        "/vectors": {"vectors": [{"id": "a", "vector": [1]}]},
        "/vectors/get": {"ids": ["a"]},
        "/vectors/delete": {"ids": ["a"]},
        "/search": {"vector": [1]},
        "/search/batch": {"searches": [{"vector": [1]}]},
    }
    body = bodies.get(path, {}) if method in ("PUT", "POST", "PATCH") else None
    answer = rest.request(method, "/v1/collections/absent" + path, body)
    assert (answer.status, answer.error_code) == (404, "NOT_FOUND")
    assert "collection 'absent' does not exist" in answer.error_message


def test_a_record_that_is_not_there_is_not_found(rest: RestClient, collection: str) -> None:
    for method in ("GET", "DELETE"):
        answer = rest.request(method, f"/v1/collections/{collection}/vectors/x")
        assert (answer.status, answer.error_code) == (404, "NOT_FOUND")
        assert "record 'x' does not exist" in answer.error_message


def test_a_version_conflict_tells_the_current_version(rest: RestClient, collection: str) -> None:
    current = rest.get_one(collection, "a")["version"]
    body = {"vectors": [{"id": "a", "vector": V, "if_version": 0}]}
    answer = rest.request("PUT", f"/v1/collections/{collection}/vectors", body)
    assert answer.status == 412
    assert answer.json()["error"]["details"] == {"current_version": current}


SEARCH = "/v1/collections/bad-input/search"
BYTES = [
    ("empty", b"", 0),
    ("not-json", b"hello", 0),
    ("cut-off", b'{"vector":[1,2]', 15),
    ("cut-in-a-number", b'{"vector":[1,-', 14),
    ("behind-the-end", b'{"vector":[1,2]} x', 17),
    ("comma", b'{"vector":[1,2,]}', 15),
    ("nan", b'{"vector":[1,NaN]}', 13),
    ("infinity", b'{"vector":[1,1e999]}', 13),
    ("beyond-float32", b'{"vector":[1,1e39]}', 13),
    ("leading-zero", b'{"vector":[1,01]}', None),
    ("single-quotes", b"{'vector':[1,2]}", 1),
    ("utf-8", b'{"id":"\xff"}', 7),
    ("utf-8-surrogate", b'{"id":"\xed\xa0\x80"}', 7),
    ("utf-8-overlong", b'{"id":"\xc0\xaf"}', 7),
    ("lone-surrogate", b'{"id":"\\ud800"}', None),
    ("control-character", b'{"id":"a\nb"}', 8),
    ("duplicate-key", b'{"id":"a","id":"a"}', None),
    ("duplicate-filter-key", b'{"id":"a","filter":{"n":1,"n":2}}', None),
    ("deep", b'{"id":"a","filter":' + b'{"$not":' * 70 + b"{}" + b"}" * 71, None),
    ("very-deep", b"[" * 100_000, None),
]


@pytest.mark.parametrize(("body", "offset"), [b[1:] for b in BYTES], ids=[b[0] for b in BYTES])
def test_bad_json_is_refused_with_the_byte(
    rest: RestClient, collection: str, body: bytes, offset: int | None
) -> None:
    answer = rest.request("POST", SEARCH, body, JSON_TYPE)
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT"), answer.body
    expected = "JSON at byte " + (f"{offset}: " if offset is not None else "")
    assert expected in answer.error_message


def test_a_filter_nested_too_deeply_is_refused(rest: RestClient, collection: str) -> None:
    inner: Json = {"n": 1}
    for _ in range(33):
        inner = {"$not": inner}
    answer = rest.request("POST", SEARCH, {"vector": V, "filter": inner})
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT")
    assert "nested deeper than 32" in answer.error_message


def test_metadata_over_a_mebibyte_is_refused(rest: RestClient, collection: str) -> None:
    records = {"vectors": [{"id": "m", "vector": V, "metadata": {"text": "x" * (1 << 20)}}]}
    answer = rest.request("PUT", f"/v1/collections/{collection}/vectors", records)
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT")
    assert "vectors[0].metadata" in answer.error_message


def test_the_largest_values_are_accepted(rest: RestClient, collection_name: str) -> None:
    rest.create_collection(collection_name, 65535, "dot", description="d" * 4096)
    record = {"id": "x" * 512, "vector": [1] * 65535, "metadata": {"t": "x" * 1_000_000}}
    rest.upsert(collection_name, [record])
    assert rest.get_one(collection_name, "x" * 512)["vector"] == [1] * 65535
    rest.delete_collection(collection_name)


def test_ids_may_hold_any_utf8(rest: RestClient, collection_name: str) -> None:
    rest.create_collection(collection_name, 1)
    ids = ["a b", "ä/ö?#%", "日本", "\u0000", "🎉", "..", "get", '"\\']
    rest.upsert(collection_name, [{"id": name, "vector": [1]} for name in ids])
    assert sorted(r["id"] for r in rest.scroll(collection_name)["records"]) == sorted(ids)
    for name in ids:
        assert rest.get_one(collection_name, name)["id"] == name
        assert rest.delete_one(collection_name, name)["deleted"] == 1


def test_an_id_in_the_url_that_is_not_utf8_is_refused(rest: RestClient, collection: str) -> None:
    answer = rest.request("GET", f"/v1/collections/{collection}/vectors/%ff")
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT")


def test_many_errors_in_a_row_leave_the_connection_usable(
    rest: RestClient, collection: str
) -> None:
    for _ in range(200):
        assert rest.request("POST", SEARCH, b"{", JSON_TYPE).status == 400
    assert rest.request("POST", SEARCH, {"vector": V}).status == 200


def test_a_query_string_that_is_no_count_is_refused(rest: RestClient) -> None:
    for text in ("x", "-1", "1.5", "99999999999"):
        answer = rest.request("GET", f"/v1/collections?limit={text}")
        assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT")


def test_a_body_shorter_than_announced_never_reaches_the_engine(
    server: Server, rest: RestClient, collection: str
) -> None:
    body = b'{"vectors":[{"id":"cut","vector":[1,2]}]}'
    request = head(
        "PUT",
        f"/v1/collections/{collection}/vectors",
        "Content-Type: application/json",
        f"Content-Length: {len(body) + 1}",
    )
    with connect(server) as sock:
        sock.sendall(request + body)
        sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):  # a close is as good as an error
            assert read_response(sock).status >= 400
    assert rest.request("GET", f"/v1/collections/{collection}/vectors/cut").status == 404


def test_an_absurd_content_length_is_refused_at_once(server: Server) -> None:
    for length in ("9223372036854775808", "18446744073709551616", "99999999999999999999999"):
        request = head(
            "POST", SEARCH, "Content-Type: application/json", f"Content-Length: {length}"
        )
        assert raw(server, request).status in (400, 413)
