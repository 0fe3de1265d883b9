"""Collections written to files: read by others, and imported into another server."""

import json
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.lib.certificates import Certificate
from tests.lib.rest import Json, RestClient
from tests.lib.server import Server, StartServer
from tests.transfer.client import kept, records, run

ROWS = 700
COLUMNS = [
    {"name": "price", "type": "float"},
    {"name": "count", "type": "integer"},
    {"name": "deep.at", "type": "datetime"},
    {"name": "tags", "type": "string[]"},
    {"name": "where", "type": "geo"},
    {"name": "version", "type": "string"},
    {"name": "ok", "type": "boolean"},
]


def metadata_of(i: int) -> Json:
    found: Json = {"free": {"text": f"ä {i}", "list": [1, "two", None]}, "null": None}
    if i % 2:
        found |= {"price": i / 8, "count": i, "tags": ["a", str(i)], "ok": i % 3 == 0}
        found["where"] = {"lat": 1.5, "lon": float(i % 90)}
    if i % 3:
        found |= {"deep": {"at": "2024-01-02T03:04:05.006Z", "more": i}, "version": "v"}
    return found


def fill(server: Server, name: str) -> None:
    rng = np.random.default_rng(3)
    with RestClient(server) as rest:
        rest.call(
            "POST",
            "/v1/collections",
            {
                "name": name,
                "fields": [
                    {"name": "", "dimension": 3, "metric": "euclidean"},
                    {"name": "image", "dimension": 2, "metric": "dot"},
                    {"name": "code", "dimension": 11, "metric": "hamming"},
                    {"name": "half", "dimension": 4, "metric": "cosine", "type": "float16"},
                    {"name": "byte", "dimension": 3, "metric": "euclidean", "type": "int8"},
                ],
                "columns": COLUMNS,
            },
        )
        for start in range(0, ROWS, 100):
            batch = []
            for i in range(start, start + 100):
                record: Json = {"id": f'id "{i}" ä', "metadata": metadata_of(i), "vectors": {}}
                if i % 7:
                    record["vector"] = rng.normal(size=3).astype("f4").tolist()
                if i % 5:
                    record["vectors"]["image"] = rng.normal(size=2).astype("f4").tolist()
                    record["vectors"]["half"] = rng.normal(size=4).astype("f4").tolist()
                if i % 6:
                    record["vectors"]["byte"] = rng.integers(-128, 128, 3).tolist()
                if i % 7 == 0 or i % 2:
                    record["vectors"]["code"] = rng.integers(0, 2, 11).tolist()
                if i % 4 == 0:
                    record["expires_at"] = "2200-01-02T03:04:05.678901Z"
                batch.append(record)
            rest.upsert(name, batch)


VECTOR_COLUMNS = {
    "vector": pa.float32(),
    "vector_half": pa.float16(),
    "vector_byte": pa.int8(),
}


def described(rest: RestClient, name: str) -> Json:
    """Without what is only so now."""
    found = rest.get_collection(name)
    for field in found["fields"]:
        field.pop("index_state", None)
    return found


@pytest.mark.parametrize("format_name", ["jsonl", "parquet"])
def test_a_collection_comes_back_in_another_server(
    server: Server,
    collection_name: str,
    start_server: StartServer,
    tmp_path: Path,
    format_name: str,
) -> None:
    fill(server, collection_name)
    path = tmp_path / f"all.{format_name}"
    run(server, "export", "--collection", collection_name, "-o", path)
    assert not path.with_name(path.name + ".tmp").exists()
    other = start_server()
    if format_name == "jsonl":  # says nothing of metrics and columns
        with RestClient(server) as rest:
            config = described(rest, collection_name)
        with RestClient(other) as rest:
            names = ("name", "fields", "columns")
            rest.call("POST", "/v1/collections", {key: config[key] for key in names})
    run(other, "import", "--collection", collection_name, "--create", path)
    assert kept(other, collection_name) == kept(server, collection_name)
    with RestClient(server) as one, RestClient(other) as two:
        for key in ("fields", "columns"):
            found = described(two, collection_name)[key]
            assert found == described(one, collection_name)[key]


def test_others_read_the_parquet_file(server: Server, collection_name: str, tmp_path: Path) -> None:
    fill(server, collection_name)
    path = tmp_path / "all.parquet"
    run(server, "export", "--collection", collection_name, "-o", path)
    stored = records(server, collection_name)
    table = pq.read_table(path)
    rows = {row["id"]: row for row in table.to_pylist()}
    types = {name: table.schema.field(name).type.value_type for name in VECTOR_COLUMNS}
    assert types == VECTOR_COLUMNS
    assert rows.keys() == stored.keys()
    for key, row in rows.items():
        metadata = stored[key]["metadata"]
        assert row["vector"] == stored[key].get("vector") or np.allclose(
            row["vector"], stored[key]["vector"]
        )
        vectors = stored[key].get("vectors", {})
        assert row["vector_byte"] == vectors.get("byte")
        assert (row["vector_half"] is None) == ("half" not in vectors)
        if "half" in vectors:  # bit by bit: a half has few digits
            assert np.array_equal(np.array(vectors["half"], "f2"), np.array(row["vector_half"]))
        assert json.loads(row["metadata"]) == metadata
        for name in ("price", "count", "tags", "ok", "where"):
            assert row[name] == metadata.get(name), name
        assert row["metadata.version"] == metadata.get("version")
        assert (row["deep.at"] is None) == ("deep" not in metadata)
        assert row["version"] == stored[key]["version"]
    query = f"SELECT count(*), sum(count) FROM '{path}' WHERE price < 20"
    answer = duckdb.execute(query).fetchone()
    cheap = [r["metadata"] for r in stored.values() if r["metadata"].get("price", 99) < 20]
    assert answer == (len(cheap), sum(m["count"] for m in cheap))


@pytest.mark.parametrize(
    ("format_name", "field", "kind"),
    [
        ("npy", "image", "<f4"),
        ("npy", "half", "<f2"),
        ("npy", "byte", "|i1"),
        ("fvecs", "image", "<f4"),
        ("fvecs", "half", "<f4"),
    ],
)
def test_vectors_alone_come_with_their_ids(
    server: Server, collection_name: str, tmp_path: Path, format_name: str, field: str, kind: str
) -> None:
    """NumPy's files have the type that the collection keeps, and bring it back."""
    fill(server, collection_name)
    path = tmp_path / f"v.{format_name}"
    said = run(server, "export", "--collection", collection_name, "--field", field, "-o", path)
    stored = records(server, collection_name)
    with_it = [key for key, row in stored.items() if field in row.get("vectors", {})]
    assert 0 < len(with_it) < ROWS
    assert f"{ROWS - len(with_it)} records without this vector" in said.stderr
    ids = [json.loads(line) for line in Path(f"{path}.ids").read_text("utf-8").splitlines()]
    if format_name == "npy":
        found = np.load(path)
    else:
        width = len(stored[with_it[0]]["vectors"][field])
        found = np.fromfile(path, "<f4").reshape(-1, width + 1)[:, 1:]
    assert found.dtype == np.dtype(kind)
    assert sorted(ids) == sorted(with_it)
    assert len(ids) == len(found)
    for key, vector in zip(ids, found, strict=True):
        assert np.array_equal(np.array(stored[key]["vectors"][field], kind), vector)
    name = f"{collection_name}-again"
    run(server, "import", "--collection", name, "--create", "--metric", "euclidean", path)
    again = records(server, name)
    assert {key: r["vector"] for key, r in again.items()} == {
        key: stored[key]["vectors"][field] for key in ids
    }
    with RestClient(server) as rest:
        made = rest.get_collection(name)["fields"][0]
    types = {"<f2": "float16", "|i1": "int8"}
    assert made.get("type") == types.get(kind)


def test_a_filter_chooses_records(server: Server, collection_name: str, tmp_path: Path) -> None:
    fill(server, collection_name)
    path = tmp_path / "some.jsonl"
    wanted = '{"price": {"$lt": 20}}'
    run(server, "export", "--collection", collection_name, "--filter", wanted, "-o", path)
    found = {json.loads(line)["id"] for line in path.read_text("utf-8").splitlines()}
    stored = records(server, collection_name).items()
    assert found == {key for key, r in stored if r["metadata"].get("price", 99) < 20}


def test_nothing_is_left_of_an_export_that_fails(
    server: Server, collection_name: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.jsonl"
    run(server, "export", "--collection", "not-there", "-o", path, status=1)
    fill(server, collection_name)
    arguments = ("--collection", collection_name, "--filter", '{"price": {"$what": 1}}')
    said = run(server, "export", *arguments, "-o", path, status=1).stderr
    assert "$what" in said
    assert list(tmp_path.iterdir()) == []


def test_an_empty_collection_gives_files_that_can_be_read(
    server: Server, collection_name: str, tmp_path: Path
) -> None:
    with RestClient(server) as rest:
        rest.create_collection(collection_name, 3)
    for name in ("e.parquet", "e.npy", "e.jsonl", "e.fvecs"):
        run(server, "export", "--collection", collection_name, "-o", tmp_path / name)
    assert pq.read_table(tmp_path / "e.parquet").num_rows == 0
    assert np.load(tmp_path / "e.npy").shape == (0, 3)
    assert (tmp_path / "e.jsonl").read_bytes() == b""
    run(server, "import", "--collection", collection_name, tmp_path / "e.parquet")


def test_tls_is_spoken_and_its_certificate_checked(
    start_server: StartServer, certificate: Certificate, tmp_path: Path
) -> None:
    server = start_server(tls=certificate)
    np.save(tmp_path / "v.npy", np.eye(3, dtype="f4"))
    arguments = ("--collection", "c", "--create", "--ids", "row", tmp_path / "v.npy")
    trusted = ("--tls", "--ca", certificate.cert_path)
    run(server, "import", *trusted, *arguments)
    run(server, "export", "--tls", "--insecure", "--collection", "c", "-o", tmp_path / "o.npy")
    assert np.array_equal(np.load(tmp_path / "o.npy"), np.eye(3, dtype="f4"))
