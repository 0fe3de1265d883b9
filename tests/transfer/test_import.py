"""Files that others have written, imported into a running server."""

import json
import math
import signal
import subprocess
import uuid
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.lib.rest import RestClient
from tests.lib.server import Server, StartServer
from tests.transfer.client import command, kept, records, run

ROWS = 1000
DIMENSION = 4
BAD_ROWS = 4  # exit status


def vectors_of(rows: int = ROWS, dimension: int = DIMENSION) -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).normal(size=(rows, dimension)).astype("f4")


def fixed_lists(vectors: np.ndarray[Any, Any]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])


def floats(vector: object) -> list[float]:
    return [float(np.float32(value)) for value in vector]  # type: ignore[attr-defined]


def assert_vectors(server: Server, name: str, vectors: np.ndarray[Any, Any]) -> None:
    """Row i has the id str(i)."""
    found = records(server, name)
    assert len(found) == len(vectors)
    for number, vector in enumerate(vectors):
        assert np.array_equal(np.array(found[str(number)]["vector"], "f4"), vector)


# ---- Parquet ----


def typed_rows() -> list[dict[str, Any]]:
    start = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    return [
        {
            "id": f"row-{i}",
            "n": i - 500 if i % 3 else None,
            "f": i / 7 if i % 4 else None,
            "b": i % 2 == 0,
            "ts": start + timedelta(microseconds=i * 1000 + (i % 2)),
            "tags": [["a", "b"], [], None][i % 3],
            "nested": [[1, 2], [], [3]][: i % 4],
            "s": {"x": i, "y": None} if i % 5 else None,
            "d": date(1999, 12, 31),
            "t": time(13, 14, 15, 500000),
        }
        for i in range(ROWS)
    ]


def as_metadata(row: dict[str, Any]) -> dict[str, Any]:
    """What the page import-export.md promises."""
    found = {key: value for key, value in row.items() if key != "id" and value is not None}
    text = found["ts"].strftime("%Y-%m-%dT%H:%M:%S.%f")
    text = text.removesuffix("000").removesuffix(".000")
    found["ts"] = text + "Z"
    found["d"] = "1999-12-31"
    found["t"] = "13:14:15.500"
    if "s" in found:
        found["s"] = {"x": row["s"]["x"]}
    return found


@pytest.mark.parametrize(
    ("compression", "version", "group"),
    [("zstd", "2.0", 170), ("none", "1.0", ROWS), ("snappy", "1.0", 333)],
)
def test_columns_of_all_types_become_metadata(
    server: Server, collection_name: str, tmp_path: Path, compression: str, version: str, group: int
) -> None:
    rows, vectors = typed_rows(), vectors_of()
    table = pa.Table.from_pylist(rows).append_column("embedding", fixed_lists(vectors))
    path = tmp_path / "typed.parquet"
    pq.write_table(
        table, path, row_group_size=group, compression=compression, data_page_version=version
    )
    run(server, "import", "--collection", collection_name, "--create", "--batch", "77", path)
    found = records(server, collection_name)
    assert len(found) == ROWS
    for row, vector in zip(rows, vectors, strict=True):
        record = found[row["id"]]
        assert floats(record["vector"]) == floats(vector)
        assert record["metadata"] == as_metadata(row)


def test_what_duckdb_writes_is_read(server: Server, collection_name: str, tmp_path: Path) -> None:
    path = tmp_path / "duck.parquet"
    duckdb.execute(
        "COPY (SELECT range AS id, [range::FLOAT, 1, 2] AS v, {'a': range} AS s, "
        "MAP {'k': range} AS m, (range / 4)::DECIMAL(9, 2) AS price, "
        "'2024-05-06 07:08:09'::TIMESTAMP AS at, uuid() AS u FROM range(500)) "
        f"TO '{path}' (FORMAT parquet)"
    )
    run(server, "import", "--collection", collection_name, "--create", path)
    found = records(server, collection_name)
    assert len(found) == 500
    record = found["17"]
    assert record["vector"] == [17, 1, 2]
    metadata = record["metadata"]
    assert str(uuid.UUID(metadata.pop("u"))) != ""
    assert metadata == {
        "s": {"a": 17},
        "m": {"k": 17},
        "price": 4.25,
        "at": "2024-05-06T07:08:09Z",
    }


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.float16()])
def test_lists_of_all_floats_are_vectors(
    server: Server, collection_name: str, tmp_path: Path, kind: pa.DataType
) -> None:
    vectors = vectors_of().astype("f2").astype("f4")
    table = pa.table({"anything": pa.array(vectors.astype("f8").tolist(), pa.list_(kind))})
    pq.write_table(table, tmp_path / "v.parquet")
    arguments = ("--collection", collection_name, "--create", "--ids", "row")
    run(server, "import", *arguments, tmp_path / "v.parquet")
    assert_vectors(server, collection_name, vectors)


def test_packed_bits_are_read_for_hamming(
    server: Server, collection_name: str, tmp_path: Path
) -> None:
    table = pa.table({"id": [1, 2], "code": pa.array([b"\x05\x02", b"\xff\x03"], pa.binary(2))})
    pq.write_table(table, tmp_path / "bits.parquet")
    with RestClient(server) as rest:
        rest.create_collection(collection_name, 10, "hamming")
    run(server, "import", "--collection", collection_name, tmp_path / "bits.parquet")
    found = records(server, collection_name)
    assert found["1"]["vector"] == [1, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert found["2"]["vector"] == [1] * 10


def test_metadata_text_is_merged_and_wins(
    server: Server, collection_name: str, tmp_path: Path
) -> None:
    table = pa.table(
        {
            "id": ["a", "b", "c"],
            "vector": [[1.0], [2.0], [3.0]],
            "x": [1, 2, 3],
            "metadata": ['{"x": 9, "y": {"z": null}}', None, "no json"],
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    arguments = ("--collection", collection_name, "--create", "--metric", "dot")
    run(server, "import", *arguments, tmp_path / "m.parquet")
    found = {key: r["metadata"] for key, r in records(server, collection_name).items()}
    assert found == {
        "a": {"x": 9, "y": {"z": None}},
        "b": {"x": 2},
        "c": {"x": 3, "metadata": "no json"},
    }


def test_columns_that_could_both_be_meant_are_asked_for(
    server: Server, collection_name: str, tmp_path: Path
) -> None:
    table = pa.table({"one": [[1.0, 2.0]], "two": [[3.0, 4.0]], "key": ["k"]})
    path = tmp_path / "two.parquet"
    pq.write_table(table, path)
    arguments = ("--collection", collection_name, "--create")
    said = run(server, "import", *arguments, path, status=1).stderr
    assert "'one' and 'two'" in said
    assert "--vector-column" in said
    run(server, "import", *arguments, "--vector-column", "two", "--id-column", "key", path)
    record = records(server, collection_name)["k"]
    assert (record["vector"], record["metadata"]) == ([3, 4], {"one": [1, 2]})
    missing = run(server, "import", *arguments, "--id-column", "nokey", path, status=1).stderr
    assert "no column 'nokey'" in missing


# ---- the other formats ----


@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_files_are_read(
    server: Server, collection_name: str, tmp_path: Path, kind: str, version: tuple[int, int]
) -> None:
    vectors = vectors_of()
    if kind == "<f2":
        vectors = vectors.astype(kind).astype("f4")
    with (tmp_path / "v.npy").open("wb") as file:
        np.lib.format.write_array(file, vectors.astype(kind), version)
    arguments = ("--collection", collection_name, "--create", "--ids", "row")
    run(server, "import", *arguments, tmp_path / "v.npy")
    assert_vectors(server, collection_name, vectors)


def test_fvecs_files_are_read_and_rows_count_on_from_file_to_file(
    server: Server, collection_name: str, tmp_path: Path
) -> None:
    vectors = vectors_of()
    head = np.full((ROWS, 1), DIMENSION, "<i4").view("<f4")
    both = np.hstack([head, vectors])
    both[:600].tofile(tmp_path / "a.fvecs")
    both[600:].tofile(tmp_path / "b.fvecs")
    arguments = ("--collection", collection_name, "--create", "--ids", "row", "--batch", "64")
    run(server, "import", *arguments, tmp_path / "a.fvecs", tmp_path / "b.fvecs")
    assert_vectors(server, collection_name, vectors)
    found = records(server, collection_name)
    with RestClient(server) as rest:
        hit = rest.search(collection_name, vector=found["700"]["vector"], k=1)["results"][0]
    assert hit["id"] == "700"


def test_lines_of_json_are_records(server: Server, collection_name: str, tmp_path: Path) -> None:
    lines = [
        {"id": "a", "vector": [1, 2.5], "metadata": {"t": "ä\n", "n": 2**60}, "version": 7},
        {"id": "b", "vector": [3, 4], "expires_at": "2200-01-01T00:00:00Z", "created_at": "x"},
    ]
    text = "\n\n".join(json.dumps(line) for line in lines)
    (tmp_path / "r.jsonl").write_text(text + "\r\n", encoding="utf-8")
    run(server, "import", "--collection", collection_name, "--create", tmp_path / "r.jsonl")
    assert kept(server, collection_name) == {
        "a": ([1, 2.5], None, {"t": "ä\n", "n": 2**60}, None),
        "b": ([3, 4], None, {}, "2200-01-01T00:00:00.000000Z"),
    }


# ---- what is wrong ----


def test_a_bad_row_is_named_and_its_batch_is_not_stored(
    server: Server, collection_name: str, tmp_path: Path
) -> None:
    vectors = vectors_of(100)
    vectors[57, 2] = math.nan
    path = tmp_path / "nan.parquet"
    pq.write_table(pa.table({"id": range(100), "vector": fixed_lists(vectors)}), path)
    arguments = ("--collection", collection_name, "--create", "--batch", "20")
    said = run(server, "import", *arguments, path, status=1).stderr
    assert f"{path}: row 57: column 'vector': element 2" in said
    assert "--skip 40" in said
    assert set(records(server, collection_name)) == {str(i) for i in range(40)}
    said = run(server, "import", *arguments, "--continue", path, status=BAD_ROWS).stderr
    assert "1 bad rows left out" in said
    assert set(records(server, collection_name)) == {str(i) for i in range(100)} - {"57"}


def test_rows_that_the_server_refuses_are_left_out_alone(
    server: Server, collection_name: str, tmp_path: Path
) -> None:
    with RestClient(server) as rest:
        columns = [{"name": "n", "type": "integer"}]
        rest.create_collection(collection_name, 1, "dot", columns=columns)
    lines = [
        {"id": str(i), "vector": [i], "metadata": {"n": "text" if i in (3, 77) else i}}
        for i in range(100)
    ]
    path = tmp_path / "typed.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    run(server, "import", "--collection", collection_name, path, status=1)
    assert records(server, collection_name) == {}
    arguments = ("--collection", collection_name, "--continue")
    said = run(server, "import", *arguments, path, status=BAD_ROWS).stderr
    assert f"{path}: line 4: " in said
    assert f"{path}: line 78: " in said
    assert set(records(server, collection_name)) == {str(i) for i in range(100)} - {"3", "77"}


def test_garbled_files_are_refused(server: Server, collection_name: str, tmp_path: Path) -> None:
    vectors = vectors_of(200)
    path = tmp_path / "good.parquet"
    pq.write_table(pa.table({"id": range(200), "vector": fixed_lists(vectors)}), path)
    good = path.read_bytes()
    with RestClient(server) as rest:
        rest.create_collection(collection_name, DIMENSION)
    for number, data in enumerate([b"", b"PAR1", good[:-20], good[: len(good) // 2], b"x" * 999]):
        bad = tmp_path / f"bad{number}.parquet"
        bad.write_bytes(data)
        said = run(server, "import", "--collection", collection_name, bad, status=1).stderr
        assert bad.name in said
    (tmp_path / "short.npy").write_bytes(b"\x93NUMPY\x01\x00")
    (tmp_path / "bad.jsonl").write_text('{"id": "a", "vector": [1}\n', encoding="utf-8")
    for name in ("short.npy", "bad.jsonl", "missing.npy"):
        path = tmp_path / name
        said = run(server, "import", "--collection", collection_name, path, status=1).stderr
        assert name in said
    assert records(server, collection_name) == {}


def test_another_dimension_is_told_before_anything_is_sent(
    server: Server, collection_name: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "v.npy", vectors_of(10, 5))
    with RestClient(server) as rest:
        rest.create_collection(collection_name, DIMENSION)
    path = tmp_path / "v.npy"
    said = run(server, "import", "--collection", collection_name, path, status=1).stderr
    assert "dimension 5" in said
    assert "have 4" in said


def test_wrong_command_lines_are_told(server: Server, tmp_path: Path) -> None:
    assert "--collection" in run(server, "import", tmp_path, status=2).stderr
    assert "no files" in run(server, "import", "--collection", "c", status=2).stderr
    wrong = ("--collection", "c", "--batch", "0", "f.npy")
    assert "--batch" in run(server, "import", *wrong, status=2).stderr
    assert "--what" in run(server, "export", "--what", status=2).stderr
    (tmp_path / "f.txt").write_text("", encoding="utf-8")
    said = run(server, "import", "--collection", "c", tmp_path / "f.txt", status=1).stderr
    assert "--format" in said
    np.save(tmp_path / "v.npy", vectors_of(3))
    said = run(server, "import", "--collection", "not-there", tmp_path / "v.npy", status=1).stderr
    assert "--create" in said


# ---- going on ----


def test_a_killed_import_can_be_repeated(
    server: Server, collection_name: str, tmp_path: Path
) -> None:
    vectors = vectors_of(20000)
    np.save(tmp_path / "v.npy", vectors)
    arguments = ("--collection", collection_name, "--create", "--ids", "row", "--batch", "50")
    process = subprocess.Popen(
        command(server, "import", *arguments, tmp_path / "v.npy"), stderr=subprocess.PIPE
    )
    with RestClient(server) as rest:
        while True:  # until something is stored
            answer = rest.request("GET", f"/v1/collections/{collection_name}")
            if answer.status == 200 and answer.json()["record_count"] > 0:
                break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(records(server, collection_name)) % 50 == 0  # batches are whole
    run(server, "import", *arguments, tmp_path / "v.npy")
    assert_vectors(server, collection_name, vectors)


def test_an_interrupted_import_says_where_to_go_on(
    server: Server, collection_name: str, tmp_path: Path
) -> None:
    vectors = vectors_of(20000)
    np.save(tmp_path / "v.npy", vectors)
    arguments = ("--collection", collection_name, "--create", "--ids", "row", "--batch", "50")
    process = subprocess.Popen(
        command(server, "import", *arguments, tmp_path / "v.npy"), stderr=subprocess.PIPE, text=True
    )
    with RestClient(server) as rest:
        while True:
            answer = rest.request("GET", f"/v1/collections/{collection_name}")
            if answer.status == 200 and answer.json()["record_count"] > 0:
                break
    process.send_signal(signal.SIGINT)
    said = process.communicate()[1]
    assert process.returncode in (0, 130)
    if process.returncode == 130:
        skip = said.split("--skip ")[1].split()[0]
        assert {str(i) for i in range(int(skip))} <= set(records(server, collection_name))
        run(server, "import", *arguments, "--skip", skip, tmp_path / "v.npy")
    assert_vectors(server, collection_name, vectors)


@pytest.mark.parametrize("end", ["npy", "jsonl", "parquet"])
def test_rows_without_ids_come_once_however_often_a_file_is_imported(
    server: Server, collection_name: str, tmp_path: Path, end: str
) -> None:
    vectors = vectors_of(300)

    def write(path: Path, rows: np.ndarray[Any, Any]) -> None:
        if end == "npy":
            np.save(path, rows)
        elif end == "jsonl":
            lines = [json.dumps({"vector": row.tolist()}) for row in rows]
            path.write_text("\n".join(lines), encoding="utf-8")
        else:
            pq.write_table(pa.table({"vector": fixed_lists(rows)}), path)

    one, two = tmp_path / f"one.{end}", tmp_path / f"two.{end}"
    write(one, vectors[:200])
    write(two, vectors[200:])
    arguments = ("--collection", collection_name, "--create", "--batch", "64")
    run(server, "import", *arguments, one)
    run(server, "import", *arguments, "--skip", "77", two, one)  # in another order, and not all
    run(server, "import", *arguments, two)
    found = records(server, collection_name)
    assert len(found) == 300
    assert {uuid.UUID(key).version for key in found} == {8}
    stored = {np.array(record["vector"], "f4").tobytes() for record in found.values()}
    assert stored == {row.tobytes() for row in vectors}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"id": "a", "id": "b", "vector": [1, 2, 3, 4]}', "'id' is given twice"),
        ('{"id": "a", "vector": [1, 2, 3, 4], "what": 1}', "unknown member 'what'"),
        ('{"id": "a", "vector": [1, 2, 3, 1e39]}', "JSON at byte"),
        ('{"id": "a", "vector": [1, 2, 3]}', "dimension 3, expected 4"),
        ('{"id": "a", "vectors": {"b": [1]}}', "no vector field 'b'"),
        ('{"id": "a", "vector": [1, 2, 3, 4], "metadata": 1}', "metadata: expected an object"),
        ('{"id": "a", "vector": [1, 2, 3, 4], "expires_at": "x"}', "no RFC 3339 time"),
        ('{"id": "a", "vector": [1, 2, 3, 4]} 1', "JSON at byte"),
        ('{"id": "a", "vector": [1, 2, 3, 4], "metadata": {"x": 1, "x": 2}}', "metadata"),
        ('["a"]', "not a JSON object"),
    ],
)
def test_a_line_that_is_no_record_is_named_with_its_reason(
    server: Server, collection_name: str, tmp_path: Path, line: str, why: str
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"id": "0", "vector": [1, 2, 3, 4]}\n' + line + "\n", encoding="utf-8")
    with RestClient(server) as rest:
        rest.create_collection(collection_name, DIMENSION)
    arguments = ("--collection", collection_name, "--continue", path)
    said = run(server, "import", *arguments, status=BAD_ROWS).stderr
    assert f"{path}: line 2: " in said
    assert why in said
    assert set(records(server, collection_name)) == {"0"}


def test_members_that_are_null_count_as_absent_and_versions_are_heeded(
    server: Server, collection_name: str, tmp_path: Path
) -> None:
    lines = [
        {"id": "a", "vector": [1, 0, 0, 0], "metadata": None, "expires_at": None},
        {"id": "b", "vector": [0, 1, 0, 0], "if_version": 0, "expires_at": 2**52},
    ]
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    arguments = ("--collection", collection_name, "--create", path)
    run(server, "import", *arguments)
    expires = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=2**52)).strftime(
        "%Y-%m-%dT%H:%M:%S.%fZ"
    )
    assert kept(server, collection_name) == {
        "a": ([1, 0, 0, 0], None, {}, None),
        "b": ([0, 1, 0, 0], None, {}, expires),
    }
    assert "'b'" in run(server, "import", *arguments, status=1).stderr  # it is there by now


def test_skipped_rows_are_not_sent(server: Server, collection_name: str, tmp_path: Path) -> None:
    vectors = vectors_of(900)
    ids = [str(i) for i in range(900)]
    path = tmp_path / "v.parquet"
    pq.write_table(pa.table({"id": ids, "v": fixed_lists(vectors)}), path, row_group_size=100)
    arguments = ("--collection", collection_name, "--create", "--skip", "750")
    run(server, "import", *arguments, path)
    found = records(server, collection_name)
    assert set(found) == set(ids[750:])
    assert floats(found["751"]["vector"]) == floats(vectors[751])


def test_rows_of_a_server_that_restarts_arrive(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    vectors = vectors_of(3000)
    np.save(tmp_path / "v.npy", vectors)
    arguments = ("--collection", "c", "--create", "--ids", "row", "--batch", "100")
    run(server, "import", *arguments, "--sync", "always", tmp_path / "v.npy")
    server.crash()
    assert_vectors(server, "c", vectors)
