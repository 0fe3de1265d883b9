"""A whole collection as a folder of its own files: exported from a running server, read by others,
imported again, and what is done about folders that are not what they say."""

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.lib.rest import Json, RestClient
from tests.lib.server import Server, StartServer
from tests.segments.made import CONFIG, FLUSH_ROWS, metric, wait_for_flush
from tests.transfer.client import kept, records, run

SETTINGS = ("fields", "columns", "sync", "ttl_s", "description", "storage", "target_recall")
COLLECTION: Json = {
    "fields": [
        {"name": "", "dimension": 3, "metric": "euclidean", "index": {"type": "flat"}},
        {
            "name": "image",
            "dimension": 2,
            "metric": "dot",
            "index": {"type": "hnsw", "m": 8, "ef_construction": 64},
            "quantization": {"type": "binary", "bits": 3},
        },
        {
            "name": "code",
            "dimension": 11,
            "metric": "hamming",
            "index": {"type": "ivf", "nlist": 3},
        },
        {"name": "half", "dimension": 4, "metric": "cosine", "type": "float16"},
        {"name": "byte", "dimension": 5, "metric": "euclidean", "type": "int8"},
    ],
    "columns": [
        {"name": "price", "type": "float"},
        {"name": "deep.at", "type": "datetime"},
        {"name": "tags", "type": "string[]"},
        {"name": "version", "type": "string"},
        {"name": "where", "type": "geo"},
    ],
    "sync": "batch",
    "ttl_s": 500_000_000,
    "description": 'a "text" ä\n',
    "storage": {"compression": "zstd", "vectors": "mmap", "version_retention_s": 3600},
    "target_recall": 0.875,
}
ODD_FLOATS = [-0.0, 0.0, 1e-45, -3.4028235e38, 1.1754942e-38, 0.1, 2.0**-126, 16777217.0]


def record(rng: random.Random, i: int) -> Json:
    found: Json = {"id": f'{i:03} "ä"', "vectors": {}}
    found["metadata"] = {"free": {"text": f"ü{i}", "list": [1, "two", None, -0.0, 1e-300]}}
    if i % 2:
        found["metadata"] |= {"price": i / 8, "tags": ["a", str(i)], "big": 2**60 + i}
        found["metadata"]["where"] = {"lat": 1.5, "lon": float(i % 90)}
    if i % 3:
        found["metadata"] |= {"deep": {"at": "2024-01-02T03:04:05.006Z"}, "version": "v"}
    if i % 7:
        found["vector"] = [rng.choice(ODD_FLOATS) for _ in range(3)]
    if i % 5:
        found["vectors"]["image"] = [rng.uniform(-1, 1) for _ in range(2)]
        found["vectors"]["half"] = [rng.uniform(-1, 1) for _ in range(4)]
    if i % 11:
        found["vectors"]["byte"] = [rng.randrange(-128, 128) for _ in range(5)]
    if i % 7 == 0 or i % 2:
        found["vectors"]["code"] = [rng.randrange(2) for _ in range(11)]
    if i % 4 == 0:
        found["expires_at"] = None if i % 8 else "2200-01-02T03:04:05.678901Z"
    return found


def fill(server: Server, name: str = "c") -> None:
    """Segments of which rows have ended, rows that only memory has, and one that has expired."""
    rng = random.Random(11)
    with RestClient(server) as rest:
        rest.call("POST", "/v1/collections", {"name": name, **COLLECTION})
        for first in (0, FLUSH_ROWS // 2):
            flushed = metric(server, "flushes_total")
            rest.upsert(name, [record(rng, i) for i in range(first, first + FLUSH_ROWS)])
            wait_for_flush(server, flushed)
        gone = [record(rng, i)["id"] for i in (3, 4, 5, 60, 149)]
        rest.delete(name, ids=gone)
        rest.upsert(name, [record(rng, i) for i in range(140, 170)])
        past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        rest.upsert(name, [record(rng, 500) | {"expires_at": past}])


def alive(folder: Path) -> Json:
    """id -> row, of the files themselves: JSON would lose the sign of -0."""
    found: Json = {}
    for segment in manifest_of(folder)["segments"]:
        keep = np.ones(segment["rows"], bool)
        for first, count in segment["ended"]:
            keep[first : first + count] = False
        table = pq.read_table(folder / segment["file"]).filter(pa.array(keep))
        found |= {row["id"]: row for row in table.to_pylist()}
    now = datetime.now(UTC)
    return {k: r for k, r in found.items() if r["expires_at"] is None or r["expires_at"] > now}


def bits(folder: Path) -> Json:
    """What an import keeps, vectors as the bytes of float32."""
    return {
        key: {
            name: np.array(value, "<f4").tobytes()
            if isinstance(value, list) and name != "tags"
            else value
            for name, value in row.items()
            if name not in ("version", "created_at", "updated_at")
        }
        for key, row in alive(folder).items()
    }


def settings(server: Server, name: str) -> Json:
    with RestClient(server) as rest:
        described = rest.get_collection(name)
    for field in described["fields"]:
        field.pop("index_state", None)
    return {key: described[key] for key in SETTINGS}


def snapshots(server: Server) -> list[Json]:
    with RestClient(server) as rest:
        return list(rest.call("GET", "/v1/snapshots")["snapshots"])


@pytest.fixture(name="exported")
def exported_folder(start_server: StartServer, tmp_path: Path) -> tuple[Server, Path]:
    server = start_server(config=CONFIG)
    fill(server)
    folder = tmp_path / "all"
    run(server, "export", "--collection", "c", "-o", folder)
    return server, folder


def manifest_of(folder: Path) -> Json:
    found: Json = json.loads((folder / "manifest.json").read_text("utf-8"))
    return found


# ---- there and back ----


def test_a_folder_brings_back_exactly_the_collection(
    exported: tuple[Server, Path], start_server: StartServer, tmp_path: Path
) -> None:
    server, folder = exported
    before = kept(server, "c")
    assert len(before) > FLUSH_ROWS
    assert snapshots(server) == []
    other = start_server(config=CONFIG)
    run(other, "import", "--collection", "another.name", "--create", "--batch", "17", folder)
    assert kept(other, "another.name") == before
    assert settings(other, "another.name") == settings(server, "c")
    run(other, "import", "--collection", "another.name", folder)  # nothing is doubled
    assert kept(other, "another.name") == before
    run(other, "export", "--collection", "another.name", "-o", tmp_path / "again")
    assert bits(tmp_path / "again") == bits(folder)


def test_the_manifest_says_what_the_files_are(exported: tuple[Server, Path]) -> None:
    server, folder = exported
    manifest = manifest_of(folder)
    with RestClient(server) as rest:
        described = rest.get_collection("c")
    assert manifest["format"] == 1
    assert manifest["version"] == described["version"]
    assert manifest["source"]["uuid"] == described["uuid"]
    assert manifest["source"]["created_at"] == described["created_at"]
    assert {key: manifest["collection"][key] for key in SETTINGS} == settings(server, "c")
    live = 0
    assert sorted(path.name for path in folder.iterdir()) == [
        *(segment["file"] for segment in manifest["segments"]),
        "manifest.json",
    ]
    for segment in manifest["segments"]:
        path = folder / segment["file"]
        table = pq.read_table(path, columns=["version"])
        assert path.stat().st_size == segment["bytes"]
        assert table.num_rows == segment["rows"]
        versions = table["version"].to_pylist()
        assert segment["versions"] == [min(versions), max(versions)]
        assert segment["live_rows"] == segment["rows"] - sum(n for _, n in segment["ended"])
        sources = server.data_dir.glob(f"collections/*/{segment['file']}")
        assert [source.read_bytes() for source in sources] in ([], [path.read_bytes()])
        live += segment["live_rows"]
    assert manifest["rows"] == live == len(records(server, "c")) + 1  # the expired one


def test_others_read_the_rows_that_are_alive(exported: tuple[Server, Path]) -> None:
    """As docs/formats/export.md shows it."""
    server, folder = exported
    stored = records(server, "c")
    now = datetime.now(UTC)

    rows = alive(folder)  # pyarrow
    assert {key: row["version"] for key, row in rows.items()} == {
        key: one["version"] for key, one in stored.items()
    }

    query = f"""
        WITH ended AS (
            SELECT s.file AS file, unnest(s.ended) AS run
            FROM (SELECT unnest(segments) AS s FROM read_json('{folder}/manifest.json')))
        SELECT id, price FROM read_parquet('{folder}/*.parquet', file_row_number = true) AS r
        WHERE NOT EXISTS (SELECT 1 FROM ended WHERE parse_filename(r.filename) = ended.file
                          AND r.file_row_number >= run[1] AND r.file_row_number < run[1] + run[2])
          AND (expires_at IS NULL OR expires_at > now())"""
    found = dict(duckdb.execute(query).fetchall())
    assert found == {key: one["metadata"].get("price") for key, one in stored.items()}

    frames = []
    for segment in manifest_of(folder)["segments"]:  # Polars
        frame = pl.read_parquet(folder / segment["file"]).with_row_index("row")
        for first, count in segment["ended"]:
            frame = frame.filter((pl.col("row") < first) | (pl.col("row") >= first + count))
        frames.append(frame)
    together = pl.concat(frames).filter(
        pl.col("expires_at").is_null() | (pl.col("expires_at") > now)
    )
    assert set(together["id"]) == set(stored)
    by_id = {row["id"]: row["vector"] for row in together.iter_rows(named=True)}
    assert by_id == {key: row["vector"] for key, row in rows.items()}


def test_an_empty_collection_is_a_folder_too(
    start_server: StartServer, server: Server, collection_name: str, tmp_path: Path
) -> None:
    with RestClient(server) as rest:
        rest.call("POST", "/v1/collections", {"name": collection_name, **COLLECTION})
    run(server, "export", "--collection", collection_name, "-o", tmp_path / "empty")
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["manifest.json"]
    other = start_server()
    run(other, "import", "--collection", "e", "--create", tmp_path / "empty")
    assert records(other, "e") == {}
    assert settings(other, "e") == settings(server, collection_name)


def test_an_export_is_one_version_whatever_is_written_meanwhile(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Each batch writes all ids with its own number: one version has one number only."""
    server = start_server(config=CONFIG)
    ids = [str(i) for i in range(40)]
    with RestClient(server) as rest:
        rest.create_collection("c", 1)
        for number in range(30):
            batch = [{"id": i, "vector": [1.0], "metadata": {"n": number}} for i in ids]
            rest.upsert("c", batch)
            if number % 10 == 0:
                path = tmp_path / f"{number}.jsonl"
                run(server, "export", "--collection", "c", "-o", path)
                lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
                assert [line["id"] for line in lines] == sorted(ids)
                assert {line["metadata"]["n"] for line in lines} == {number}
                assert len({line["version"] for line in lines}) == 1


def test_lines_are_what_a_scroll_answers(exported: tuple[Server, Path], tmp_path: Path) -> None:
    server, _ = exported
    path = tmp_path / "all.jsonl"
    run(server, "export", "--collection", "c", "-o", path)
    found = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert found == [one for _, one in sorted(records(server, "c").items())]


def test_a_folder_that_is_there_is_not_touched(exported: tuple[Server, Path]) -> None:
    server, folder = exported
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    said = run(server, "export", "--collection", "c", "-o", folder, status=1).stderr
    assert "exists" in said
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert snapshots(server) == []


# ---- folders that are not what they say ----


def change(manifest: Json, path: str, value: object) -> None:
    at: Any = manifest
    *parents, last = path.split("/")
    for key in parents:
        at = at[int(key) if isinstance(at, list) else key]
    at[int(last) if isinstance(at, list) else last] = value


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("format", 2, "newer"),
        ("format", "1", "no format"),
        ("rows", 7, "rows are alive"),
        ("rows", None, "no rows"),
        ("collection", [], "no collection"),
        ("segments", {}, "no segments"),
        ("segments/0", 3, "without the name"),
        ("segments/0/file", "../all/x.parquet", "without the name"),
        ("segments/0/file", "/etc/x.parquet", "without the name"),
        ("segments/0/file", "x\u0000.parquet", "without the name"),
        ("segments/0/file", ".hidden.parquet", "without the name"),
        ("segments/0/file", "manifest.json", "without the name"),
        ("segments/0/file", "missing.parquet", "No such file"),
        ("segments/0/rows", -1, "rows, bytes"),
        ("segments/0/rows", 2**62, "rows are alive"),
        ("segments/0/bytes", 17, "checksum"),
        ("segments/0/crc32c", "00000000", "checksum"),
        ("segments/0/crc32c", "zzzzzzzz", "crc32c"),
        ("segments/0/ended", [[5, 1], [4, 1]], "rising pairs"),
        ("segments/0/ended", [[0, 2**62]], "rising pairs"),
        ("segments/0/ended", [[0, 0]], "rising pairs"),
        ("segments/0/ended", [[-1, 1]], "rising pairs"),
        ("segments/0/ended", ["x"], "not pairs"),
        ("segments/0/ended", None, "ended"),
        ("collection/unknown", 1, "unknown"),
    ],
)
def test_a_manifest_that_lies_is_refused(
    exported: tuple[Server, Path], path: str, value: object, why: str
) -> None:
    server, folder = exported
    manifest = manifest_of(folder)
    change(manifest, path, value)
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    said = run(server, "import", "--collection", "new", "--create", folder, status=1).stderr
    assert why in said
    with RestClient(server) as rest:
        answer = rest.request("GET", "/v1/collections/new")
        assert answer.status == 404 or answer.json()["record_count"] == 0


def test_a_file_with_a_flipped_bit_is_found_before_it_is_read(
    exported: tuple[Server, Path],
) -> None:
    server, folder = exported
    path = folder / manifest_of(folder)["segments"][0]["file"]
    data = bytearray(path.read_bytes())
    rng = random.Random(3)
    for _ in range(20):
        at, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
        data[at] ^= bit
        path.write_bytes(data)
        arguments = ("--collection", "new", "--create", folder)
        said = run(server, "import", *arguments, status=1).stderr
        assert f"{path}: does not fit" in said
        data[at] ^= bit
    assert records(server, "new") == {}


def test_damaged_parquet_files_give_errors_and_no_crash(
    exported: tuple[Server, Path], tmp_path: Path
) -> None:
    """The file alone, without checksums: whatever is read, the end is an orderly one."""
    server, folder = exported
    good = (folder / manifest_of(folder)["segments"][0]["file"]).read_bytes()
    rng = random.Random(4)
    run(server, "import", "--collection", "new", "--create", folder)
    for number in range(60):
        data = bytearray(good)
        # most of what matters stands at the end
        start = 0 if number % 3 == 0 else len(data) * 3 // 4
        for _ in range(rng.randrange(1, 9)):
            data[rng.randrange(start, len(data))] = rng.randrange(256)
        path = tmp_path / "bad.parquet"
        path.write_bytes(data)
        done = run(server, "import", "--collection", "new", path, status=None)
        assert done.returncode in (0, 1), done.stderr


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("id", pa.array([1, 2])),
        ("id", pa.array([["a"], ["b"]])),
        ("metadata", pa.array([1.5, 2.5])),
        ("metadata", pa.array([["{}"], ["{}"]])),
        ("vector", pa.array(["a", "b"])),
        ("vector", pa.array([[[1.0]], [[2.0]]])),
        ("code", pa.array([[1.0] * 11] * 2)),
        ("expires_at", pa.array(["never", "never"])),
        ("expires_at", pa.array([[1], [2]])),
        ("expires_at", pa.array([True, False])),
    ],
)
def test_a_footer_that_calls_a_file_ours_does_not_make_it_ours(
    server: Server, collection_name: str, tmp_path: Path, column: str, values: pa.Array
) -> None:
    schema = {
        "fields": [
            {"name": "", "column": "vector", "dimension": 1, "metric": "dot"},
            {"name": "code", "column": "code", "dimension": 11, "metric": "hamming"},
        ],
        "columns": [],
    }
    columns = {
        "id": pa.array(["a", "b"]),
        "metadata": pa.array(["{}", None]),
        "vector": pa.array([[1.0], [2.0]], pa.list_(pa.float32())),
        "code": pa.array([b"ab", b"cd"], pa.binary(2)),
    }
    table = pa.table(columns | {column: values})
    table = table.replace_schema_metadata({"proximadb.schema": json.dumps(schema)})
    path = tmp_path / "ours.parquet"
    pq.write_table(table, path)
    said = run(server, "import", "--collection", collection_name, "--create", path, status=1).stderr
    assert f"column '{column}' is not of the type" in said


def test_what_a_folder_tells_cannot_be_said_otherwise(exported: tuple[Server, Path]) -> None:
    server, folder = exported
    arguments = ("--collection", "new", "--create")
    said = run(server, "import", *arguments, "--metric", "dot", folder, status=1).stderr
    assert "itself" in said
    said = run(server, "import", *arguments, folder, folder, status=1).stderr
    assert "by itself" in said
    run(server, "import", *arguments, "--sync", "never", folder)
    assert settings(server, "new") == settings(server, "c") | {"sync": "never"}
    wrong = ("--collection", "c", "--filter", "{}", "-o", folder)
    assert "no --filter" in run(server, "export", *wrong, status=2).stderr
