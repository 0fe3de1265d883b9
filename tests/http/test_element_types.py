"""Vector fields of float16 and int8: what is kept, refused and found, on disk and back."""

import base64
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.http.test_search import ORACLES, best
from tests.http.wire import eventually
from tests.lib.rest import Json, RestClient
from tests.lib.server import Server, StartServer
from tests.segments.made import CONFIG, folder_of, read_all

Floats = npt.NDArray[np.float32]
TYPES: dict[str, type[np.generic]] = {"float16": np.float16, "int8": np.int8}
METRICS = ("cosine", "dot", "euclidean", "manhattan")
ARROW = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8()}
WIDTH = {"float32": 4, "float16": 2, "int8": 1}
DIMENSION = 37  # no multiple of any vector width
ROWS = 240


def made(element: str, count: int = ROWS, dimension: int = DIMENSION, seed: int = 3) -> Floats:
    """n x d: what is sent. Of int8 all of the range; of float16 much that no half has exactly."""
    rng = np.random.default_rng(seed)
    if element == "int8":
        rows = rng.integers(-128, 128, (count, dimension)).astype(np.float32)
    else:
        rows = (rng.normal(size=(count, dimension)) * 3).astype(np.float32)
    rows[5] = 0
    return rows


def kept(element: str, rows: Floats) -> Floats:
    """What must come back: numpy rounds to the nearest half, too."""
    return rows.astype(TYPES[element]).astype(np.float32) if element in TYPES else rows


def float32(vector: Sequence[float]) -> list[float]:
    """JSON has the shortest text that gives the same float32."""
    return [float(value) for value in np.array(vector, np.float32)]


def records(rows: Floats, first: int = 0) -> list[Json]:
    return [{"id": f"{first + i:05}", "vector": row.tolist()} for i, row in enumerate(rows)]


def fill(rest: RestClient, name: str, rows: Floats) -> None:
    for start in range(0, len(rows), 60):
        rest.upsert(name, records(rows[start : start + 60], start))


def packed(ids: Sequence[str], values: npt.NDArray[np.generic], **more: str) -> Json:
    text = base64.b64encode(values.tobytes()).decode()
    return {"packed": {"ids": list(ids), "vectors": text} | more}


def check_search(rest: RestClient, name: str, kind: str, rows: Floats, query: Floats) -> None:
    body: Json = {"vector": query.tolist(), "k": 25, "include": ["vectors"]}
    hits = rest.search(name, params={"exact": True}, **body)["results"]
    scores = ORACLES[kind](rows.astype(np.float64), query.astype(np.float64))
    got = np.array([hit["score"] for hit in hits])
    np.testing.assert_allclose(got, best(kind, scores, 25), rtol=2e-5, atol=2e-5)
    for hit in hits:
        assert float32(hit["vector"]) == rows[int(hit["id"])].tolist()


def check_rows(rest: RestClient, name: str, rows: Floats) -> None:
    found = read_all(rest, name)
    assert [row["id"] for row in found] == [f"{i:05}" for i in range(len(rows))]
    for row, expected in zip(found, rows, strict=True):
        assert float32(row["vector"]) == expected.tolist()


def wait_for_segments(rest: RestClient, name: str, rows: int) -> None:
    eventually("segments", lambda: rest.get_collection(name)["stats"]["segment_rows"] >= rows)


@pytest.mark.parametrize(("element", "kind"), list(itertools.product(TYPES, METRICS)))
def test_scores_are_those_of_the_kept_values(
    rest: RestClient, collection_name: str, element: str, kind: str
) -> None:
    sent = made(element)
    rows = kept(element, sent)
    rest.create_collection(collection_name, DIMENSION, kind, type=element)
    fill(rest, collection_name, sent)
    check_rows(rest, collection_name, rows)
    whole = made(element, 8, seed=9)
    for query in [*whole, *(whole + np.float32(0.25)), rows[17]]:
        check_search(rest, collection_name, kind, rows, query)
    by_id = rest.search(collection_name, id="00017", k=10, params={"exact": True})["results"]
    scores = ORACLES[kind](rows.astype(np.float64), rows[17].astype(np.float64))
    others = np.delete(scores, 17)
    got = np.array([hit["score"] for hit in by_id])
    np.testing.assert_allclose(got, best(kind, others, 10), rtol=2e-5, atol=2e-5)


def test_a_description_tells_the_type_where_it_is_not_float32(
    rest: RestClient, collection_name: str
) -> None:
    fields = [
        {"name": "half", "dimension": 3, "metric": "dot", "type": "float16"},
        {"name": "byte", "dimension": 3, "metric": "cosine", "type": "int8"},
        {"name": "plain", "dimension": 3, "metric": "dot", "type": "float32"},
        {"name": "bits", "dimension": 8, "metric": "hamming"},
    ]
    made_of = rest.call("POST", "/v1/collections", {"name": collection_name, "fields": fields})
    types = [field.get("type") for field in made_of["fields"]]
    assert types == ["float16", "int8", None, None]
    vectors = {"half": [0.1, 1, 2], "byte": [-128, 0, 127], "bits": [1, 0, 1, 0, 0, 0, 0, 1]}
    rest.upsert(collection_name, [{"id": "a", "vectors": vectors}])
    row = rest.get(collection_name, ["a"], include=["vectors"])["records"][0]
    half = np.array([0.1, 1, 2], np.float16).astype(np.float32)
    assert np.array(row["vectors"].pop("half"), np.float32).tolist() == half.tolist()
    assert row["vectors"] == {"byte": vectors["byte"], "bits": vectors["bits"]}


@pytest.mark.parametrize(
    ("element", "vector", "message"),
    [
        ("float16", [0, 65520, 0], "vectors[1].vector[1]: 65520 is out of range of float16"),
        ("float16", [-1e30, 0, 0], "vectors[1].vector[0]: -1e+30 is out of range of float16"),
        ("int8", [0, 0, 128], "vectors[1].vector[2]: 128 is no integer from -128 to 127"),
        ("int8", [0.5, 0, 0], "vectors[1].vector[0]: 0.5 is no integer from -128 to 127"),
        ("int8", [0, -129, 0], "vectors[1].vector[1]: -129 is no integer from -128 to 127"),
        ("int8", [0, 0], "vectors[1].vector: dimension 2, expected 3"),
    ],
)
def test_what_a_type_cannot_hold_is_refused_with_its_place(
    rest: RestClient, collection_name: str, element: str, vector: list[float], message: str
) -> None:
    rest.create_collection(collection_name, 3, "dot", type=element)
    batch = {"vectors": [{"id": "a", "vector": [1, 2, 3]}, {"id": "b", "vector": vector}]}
    answer = rest.request("PUT", f"/v1/collections/{collection_name}/vectors", batch)
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT")
    assert message in answer.error_message
    assert rest.count(collection_name) == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"dimension": 3, "metric": "dot", "type": "float64"}, "'float64' is not one of"),
        ({"dimension": 8, "metric": "hamming", "type": "int8"}, "type: vectors of the metric"),
        (
            {"type": "int8", "fields": [{"name": "a", "dimension": 3, "metric": "dot"}]},
            "type goes with dimension and metric",
        ),
    ],
)
def test_types_that_there_are_not_are_refused(
    rest: RestClient, collection_name: str, body: Json, message: str
) -> None:
    answer = rest.request("POST", "/v1/collections", {"name": collection_name} | body)
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT")
    assert message in answer.error_message


@pytest.mark.parametrize("element", TYPES)
def test_packed_batches_come_as_float32_or_as_the_field_keeps_them(
    rest: RestClient, collection_name: str, element: str
) -> None:
    sent = made(element, 20)
    rows = kept(element, sent)
    path = f"/v1/collections/{collection_name}/vectors"
    rest.create_collection(collection_name, DIMENSION, "dot", type=element)
    ids = [f"{i:05}" for i in range(20)]
    rest.call("PUT", path, packed(ids[:10], sent[:10]))
    rest.call("PUT", path, packed(ids[10:], sent[10:].astype(TYPES[element]), type=element))
    check_rows(rest, collection_name, rows)
    other = "int8" if element == "float16" else "float16"
    wrong = packed(ids[:1], sent[:1].astype(TYPES[element]), type=other)
    answer = rest.request("PUT", path, wrong)
    assert answer.status == 400
    assert f"but the field has {element}" in answer.error_message


@pytest.mark.parametrize("vectors", ["memory", "mmap", "disk"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_segments_keep_the_type_for_us_and_for_others(
    start_server: StartServer, compression: str, vectors: str
) -> None:
    server = start_server(cores=2, config=CONFIG)
    storage = {"compression": compression, "vectors": vectors}
    with RestClient(server) as rest:
        for element in ("float32", *TYPES):
            rest.create_collection(element, DIMENSION, "cosine", type=element, storage=storage)
            fill(rest, element, made(element))
        for element in ("float32", *TYPES):
            wait_for_segments(rest, element, 100)
            rows = kept(element, made(element))
            check_rows(rest, element, rows)
            for query in (rows[3], made(element, 8, seed=5)[0] / 2):
                check_search(rest, element, "cosine", rows, query)
            check_columns(folder_of(server, rest, element), element, rows)
        server.crash()
    with RestClient(server) as rest:
        for element in ("float32", *TYPES):
            rows = kept(element, made(element))
            check_rows(rest, element, rows)
            check_search(rest, element, "cosine", rows, rows[3])


def check_columns(folder: Path, element: str, rows: Floats) -> None:
    """As pyarrow reads the files: the type, and every value."""
    found = 0
    for path in sorted(folder.glob("*.parquet")):
        table = pq.read_table(path, page_checksum_verification=True)
        column = table.column("vector")
        assert column.type.value_type == ARROW[element]
        assert column.type.list_size == DIMENSION
        for record_id, vector in zip(
            table.column("id").to_pylist(), column.to_pylist(), strict=True
        ):
            assert [float(value) for value in vector] == rows[int(record_id)].tolist()
            found += 1
    assert found > 0


def test_files_and_memory_take_as_many_bytes_as_the_type_has(start_server: StartServer) -> None:
    server = start_server(cores=1, config=CONFIG)
    dimension, rows = 2048, 100
    on_disk, in_memory = {}, {}
    with RestClient(server) as rest:
        for element in WIDTH:
            rest.create_collection(element, dimension, "dot", type=element)
            values = made(element, rows, dimension)
            path = f"/v1/collections/{element}/vectors"
            ids = [f"{i:05}" for i in range(rows)]
            rest.call("PUT", path, packed(ids[:90], values[:90]))
            in_memory[element] = rest.get_collection(element)["memory_bytes"]
            rest.call("PUT", path, packed(ids[90:], values[90:]))
            wait_for_segments(rest, element, rows)
            on_disk[element] = sum(
                chunk_bytes(path) for path in folder_of(server, rest, element).glob("*.parquet")
            )
    for element, width in WIDTH.items():
        raw = rows * dimension * width
        assert raw <= on_disk[element] < 1.05 * raw + 4096, on_disk
    assert in_memory["float16"] < 0.6 * in_memory["float32"], in_memory
    assert in_memory["int8"] < 0.35 * in_memory["float32"], in_memory


def chunk_bytes(path: Path) -> int:
    """Of the column of vectors."""
    total = 0
    metadata = pq.ParquetFile(path).metadata
    for group in range(metadata.num_row_groups):
        for number in range(metadata.num_columns):
            column = metadata.row_group(group).column(number)
            if column.path_in_schema.startswith("vector"):
                total += column.total_compressed_size
    return total


@pytest.mark.parametrize("element", TYPES)
def test_a_kill_loses_nothing_that_is_only_in_the_log(
    start_server: StartServer, element: str
) -> None:
    server = start_server(cores=2)
    sent = made(element, 50)
    with RestClient(server) as rest:
        rest.create_collection("c", DIMENSION, "euclidean", type=element)
        fill(rest, "c", sent)
        rest.update("c", [{"id": "00003", "metadata": {"a": 1}}])
    server.crash()
    with RestClient(server) as rest:
        assert rest.get_collection("c")["fields"][0]["type"] == element
        check_rows(rest, "c", kept(element, sent))


@pytest.mark.parametrize("element", TYPES)
def test_a_restored_snapshot_has_the_type(start_server: StartServer, element: str) -> None:
    server = start_server(cores=2, config=CONFIG)
    sent = made(element)
    with RestClient(server) as rest:
        rest.create_collection("c", DIMENSION, "dot", type=element)
        fill(rest, "c", sent)
        rest.call("POST", "/v1/snapshots", {"name": "s", "collection": "c"})
        rest.call("POST", "/v1/snapshots/s/restore", {"target": "d"})
        assert rest.get_collection("d")["fields"][0]["type"] == element
        check_rows(rest, "d", kept(element, sent))


INDEX_CONFIG = """
[storage]
flush_rows = 1500
flush_age_s = 1
"""


def wait_for_index(rest: RestClient, name: str) -> None:
    def ready() -> bool:
        found = rest.get_collection(name)
        state, stats = found["fields"][0]["index_state"], found["stats"]
        at_rest = stats["memtable_rows"] == 0 and stats["segment_count"] == 1
        return bool(at_rest and state["state"] == "ready" and state["rows_indexed"] != 0)

    eventually("all rows are in one segment with its index", ready)


def recall(rest: RestClient, name: str, kind: str, rows: Floats, queries: Floats) -> float:
    """Each score must be that of the kept values, whichever rows the index finds."""
    found = 0
    for query in queries:
        hits = rest.search(name, vector=query.tolist(), k=10)["results"]
        scores = ORACLES[kind](rows.astype(np.float64), query.astype(np.float64))
        ids = [int(hit["id"]) for hit in hits]
        got = [hit["score"] for hit in hits]
        np.testing.assert_allclose(got, scores[ids], rtol=2e-4, atol=2e-4)
        order = np.argsort(-scores if kind == "dot" else scores, kind="stable")[:10]
        found += len(set(ids) & set(order.tolist()))
    return found / (10 * len(queries))


def clustered(element: str, count: int) -> Floats:
    rng = np.random.default_rng(11)
    centres = rng.normal(size=(20, DIMENSION)) * 3
    rows = centres[rng.integers(20, size=count)] + rng.normal(size=(count, DIMENSION))
    if element == "int8":
        rows = np.clip(np.rint(rows * 12), -128, 127)
    return rows.astype(np.float32)


@pytest.mark.parametrize(
    ("element", "kind", "index", "vectors"),
    [
        ("float16", "euclidean", "hnsw", "memory"),
        ("float16", "dot", "ivf", "disk"),
        ("int8", "euclidean", "hnsw", "disk"),
        ("int8", "dot", "ivf", "memory"),
        ("int8", "manhattan", "hnsw", "mmap"),
    ],
)
def test_an_index_finds_what_is_true_of_the_kept_values(
    start_server: StartServer, element: str, kind: str, index: str, vectors: str
) -> None:
    server = start_server(cores=2, config=INDEX_CONFIG)
    sent = clustered(element, 3030)
    sent, queries = sent[:3000], sent[3000:]
    rows = kept(element, sent)
    with RestClient(server) as rest:
        settings = {"index": {"type": index}, "storage": {"vectors": vectors}}
        rest.create_collection("c", DIMENSION, kind, type=element, **settings)
        for start in range(0, 3000, 500):
            rest.upsert("c", records(sent[start : start + 500], start))
        wait_for_index(rest, "c")
        assert recall(rest, "c", kind, rows, queries) >= 0.95
        server.crash()
    with RestClient(server) as rest:
        wait_for_index(rest, "c")
        assert recall(rest, "c", kind, rows, queries) >= 0.95
        report = rest.call("GET", "/v1/collections/c/recall?queries=20")
        assert report["recall"]["mean"] >= 0.9


def test_types_and_versions_live_together(server: Server, rest: RestClient) -> None:
    """A float32 collection's answers are as they were, beside the others."""
    name = "plain-beside-narrow"
    rows = made("float32", 20)
    rest.create_collection(name, DIMENSION, "euclidean", type="float32")
    fill(rest, name, rows)
    check_rows(rest, name, rows)
    assert server.running
