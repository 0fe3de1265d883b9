"""openapi.json and the server say the same: every route, every status, every answer's shape."""

import json
import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from tests.lib.rest import Json, Response, RestClient
from tests.lib.server import ROOT, Server

METHODS = ("get", "put", "post", "patch", "delete")


@pytest.fixture(scope="module")
def contract(session_server: Server) -> Json:
    with RestClient(session_server) as rest:
        return rest.call("GET", "/openapi.json")


def table_of_operations() -> set[tuple[str, str, str]]:
    """(method, path, name) of every row of the server's own table that has a route."""
    source = (ROOT / "src" / "api" / "api.h").read_text(encoding="utf-8")
    rows = re.findall(r'X\((\w+), "(\w*)", "([^"]*)", "\w*", \w+\)', source)
    assert len(rows) > 20
    return {(method.lower(), path, name) for name, method, path in rows if path}


def resolve(contract: Json, schema: Json) -> Json:
    """A schema with the contract's components, for jsonschema."""
    return schema | {"components": contract["components"]}


def validate(contract: Json, method: str, path: str, answer: Response) -> None:
    """Checks an answer's status and body against the operation's contract."""
    responses = contract["paths"][path][method]["responses"]
    response = responses.get(str(answer.status), responses["default"] if not ok(answer) else None)
    assert response is not None, f"{method} {path}: {answer.status} is not in the contract"
    content = response["content"]
    media_type = (answer.header("content-type") or "").split(";")[0]
    assert media_type in content, f"{method} {path}: {media_type}"
    for header in response.get("headers", {}):
        assert answer.header(header), f"{method} {path}: no header {header}"
    if media_type == "application/json":
        schema = resolve(contract, content[media_type]["schema"])
        jsonschema.Draft202012Validator(schema).validate(answer.json())


def ok(answer: Response) -> bool:
    return answer.status < 400


def operations(contract: Json) -> set[tuple[str, str, str]]:
    return {
        (method, path, operation["operationId"])
        for path, methods in contract["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    }


def test_the_contract_is_a_valid_openapi_document(contract: Json) -> None:
    assert contract["openapi"].startswith("3.1")
    for name, schema in contract["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert "$ref" not in schema, name
    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(contract)))
    for reference in references:
        folder, _, name = reference.rpartition("/")
        assert folder == "#/components/schemas"
        assert name in contract["components"]["schemas"], reference


def test_the_contract_has_exactly_the_servers_routes(contract: Json) -> None:
    assert operations(contract) == table_of_operations()


def test_every_route_of_the_contract_is_served(rest: RestClient, contract: Json) -> None:
    for method, path, name in operations(contract):
        concrete = path.replace("{c}", "absent").replace("{id}", "x").replace("{s}", "x")
        answer = rest.request(method.upper(), concrete)
        assert answer.status != 405, name
        if answer.status == 404:
            assert answer.error_message != "no such route; see /openapi.json", name
        validate(contract, method, path, answer)


# What is sent to each operation, in order; {c} is a collection with two fields, {d} one with one.
CALLS: list[tuple[str, str, Json | None]] = [
    (
        "post",
        "/v1/collections",
        {
            "name": "{c}",
            "fields": [
                {
                    "name": "a",
                    "dimension": 2,
                    "metric": "dot",
                    "index": {"type": "hnsw", "m": 8, "ef_construction": 40},
                    "quantization": {"type": "binary", "bits": 2},
                },
                {
                    "name": "b",
                    "dimension": 9,
                    "metric": "hamming",
                    "index": {"type": "ivf", "nlist": 4},
                },
                {"name": "c", "dimension": 3, "metric": "manhattan", "type": "int8"},
            ],
            "columns": [{"name": "n", "type": "integer"}],
            "sync": "batch",
            "ttl_s": 1000,
            "description": "two fields",
            "storage": {"compression": "zstd", "vectors": "mmap", "version_retention_s": 5},
            "target_recall": 0.9,
        },
    ),
    (
        "post",
        "/v1/collections",
        {"name": "{d}", "dimension": 2, "metric": "cosine", "type": "float16"},
    ),
    ("get", "/v1/collections", None),
    ("get", "/v1/collections/{c}", None),
    (
        "patch",
        "/v1/collections/{c}",
        {
            "ttl_s": None,
            "sync": "always",
            "storage": {"compression": "lz4"},
            "fields": [{"name": "a", "index": {"type": "flat"}}],
            "target_recall": None,
        },
    ),
    (
        "patch",
        "/v1/collections/{d}",
        {"index": {"type": "auto", "m": 12}, "quantization": {"type": "sq8"}},
    ),
    (
        "put",
        "/v1/collections/{c}/vectors",
        {
            "vectors": [
                {"id": "x", "vectors": {"a": [1, 2], "b": [1] * 9}, "metadata": {"n": 1}},
                {"id": "y", "expires_at": "2999-01-01T00:00:00Z"},
            ],
            "request_id": "r",
        },
    ),
    ("put", "/v1/collections/{d}/vectors", {"vectors": [{"id": "x", "vector": [1, 2]}]}),
    ("post", "/v1/collections/{d}/vectors", {"packed": {"ids": ["z"], "vectors": "AACAPwAAgD8="}}),
    (
        "put",
        "/v1/collections/{d}/vectors",
        {"packed": {"ids": ["z"], "vectors": "ADwAPA==", "type": "float16"}},
    ),
    ("patch", "/v1/collections/{d}/vectors", {"vectors": [{"id": "x", "metadata": {"m": [1]}}]}),
    ("get", "/v1/collections/{c}/vectors/{id}", None),
    ("get", "/v1/collections/{d}/vectors/{id}", None),
    ("post", "/v1/collections/{c}/vectors/get", {"ids": ["x", "y", "nothing"], "as_of": None}),
    ("post", "/v1/collections/{c}/vectors/scroll", {"limit": 1, "include": ["times", "vectors"]}),
    ("post", "/v1/collections/{d}/vectors/count", {"filter": {"m": 1}}),
    (
        "post",
        "/v1/collections/{c}/search",
        {"vector": [1, 2], "field": "a", "include": ["vectors", "times", "metadata"]},
    ),
    ("post", "/v1/collections/{d}/search", {"id": "x", "params": {"exact": True}}),
    ("post", "/v1/collections/{d}/search", {"id": "x", "params": {"ef": 64}}),
    (
        "post",
        "/v1/collections/{d}/search/batch",
        {
            "searches": [
                {"vector": [1, 2], "params": {"nprobe": 1}},
                {"id": "x", "params": {"target_recall": 0.5}},
                {"id": "x", "params": None},
            ]
        },
    ),
    ("get", "/v1/collections/{d}/recall?queries=3&k=1&target_recall=0.9", None),
    ("post", "/v1/snapshots", {"name": "contract-s", "collection": "{d}"}),
    ("get", "/v1/snapshots?limit=1", None),
    ("get", "/v1/snapshots/{s}", None),
    ("post", "/v1/snapshots/{s}/restore", {"target": "contract-e", "replace": False}),
    ("get", "/v1/snapshots/{s}/archive", None),
    ("delete", "/v1/snapshots/{s}", None),
    ("put", "/v1/snapshots/{s}/archive", None),
    ("post", "/v1/collections/{d}/vectors/delete", {"ids": ["z"]}),
    ("delete", "/v1/collections/{d}/vectors/{id}", None),
    ("delete", "/v1/collections/{d}", None),
    ("delete", "/v1/collections/{c}", None),
    ("get", "/health", None),
    ("get", "/livez", None),
    ("get", "/readyz", None),
    ("get", "/metrics", None),
    ("get", "/v1/info", None),
    ("get", "/openapi.json", None),
]


def test_requests_and_answers_follow_their_schemas(rest: RestClient, contract: Json) -> None:
    seen: set[tuple[str, str]] = set()
    archive = b""  # what a download gave is what an upload sends
    for method, path, body in CALLS:
        names = {"{c}": "contract-c", "{d}": "contract-d"}
        collection = next((name for key, name in names.items() if key in path), "")
        concrete = path.replace("{c}", "contract-c").replace("{d}", "contract-d")
        concrete = concrete.replace("{id}", "x").replace("{s}", "contract-s")
        path = path.replace("{d}", "{c}").partition("?")[0]
        sent: Any = None
        headers = {}
        if (method, path) == ("put", "/v1/snapshots/{s}/archive"):
            sent, headers = archive, {"content-type": "application/x-tar"}
        if body is not None:
            text = json.dumps(body).replace("{c}", "contract-c").replace("{d}", "contract-d")
            sent = json.loads(text)
            request = contract["paths"][path][method]["requestBody"]
            schema = request["content"]["application/json"]["schema"]
            jsonschema.Draft202012Validator(resolve(contract, schema)).validate(sent)
        answer = rest.request(method.upper(), concrete, sent, headers)
        assert ok(answer), f"{method} {concrete}: {answer.body!r} {collection}"
        if answer.header("content-type") == "application/x-tar":
            archive = answer.body
        validate(contract, method, path, answer)
        seen.add((method, path))
    assert seen == {(method, path) for method, path, _ in operations(contract)}


def test_a_field_the_contract_does_not_know_is_refused(rest: RestClient, contract: Json) -> None:
    """Every request schema is closed, and so is the server."""
    for path, methods in contract["paths"].items():
        for method, operation in methods.items():
            if "application/json" not in operation.get("requestBody", {}).get("content", {}):
                continue
            concrete = path.replace("{c}", "absent").replace("{id}", "x").replace("{s}", "x")
            answer = rest.request(method.upper(), concrete, {"no_such_field": 1})
            assert answer.error_code == "INVALID_ARGUMENT", operation["operationId"]
            assert "unknown field 'no_such_field'" in answer.error_message
