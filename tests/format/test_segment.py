"""The Parquet files of segments as any analyst opens them: pyarrow, DuckDB and Polars.

segment_make writes one file for each way of storing, and what is in them as JSON. What a column
shows of a document is computed here a second time, from docs/formats/segment.md.
"""

import itertools
import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.lib.server import LIMIT_S, ROOT

FILES = ("none", "snappy", "lz4", "zstd", "zstd-in-place")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DIMENSION = 8
IMAGE_DIMENSION = 4
BIT_BYTES = 2
HALF_DIMENSION = 5
BYTE_DIMENSION = 3

Row = dict[str, Any]
T = TypeVar("T")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of segment_make."""
    folder = tmp_path_factory.mktemp("segments")
    server = Path(os.environ.get("PROXIMADB_BINARY", ROOT / "build" / "proximadb"))
    tool = server.parent / "tests" / "unit" / "segment" / "segment_make"
    subprocess.run([tool, folder], check=True, timeout=LIMIT_S)
    return folder


@pytest.fixture(scope="module")
def sources(made: Path) -> list[Row]:
    """What was written."""
    text = (made / "rows.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def read_pyarrow(path: Path) -> list[Row]:
    return list(pq.read_table(path, page_checksum_verification=True).to_pylist())


def read_duckdb(path: Path) -> list[Row]:
    with duckdb.connect() as connection:
        connection.sql("set timezone = 'UTC'")
        table = connection.sql("select * from read_parquet(?)", params=[str(path)]).to_arrow_table()
        return list(table.to_pylist())


def read_polars(path: Path) -> list[Row]:
    return polars.read_parquet(path).to_dicts()


def time_of(us: int | None) -> datetime | None:
    return None if us is None else EPOCH + timedelta(microseconds=us)


def of_type(document: Row, key: str, kind: type[T]) -> T | None:
    value = document.get(key)
    return value if isinstance(value, kind) else None


def shown(document: Row) -> Row:
    """What the declared columns show of a document."""
    price = document.get("price")
    at = of_type(document, "at", str)
    weights = of_type(document, "weights", list)
    place = of_type(document, "place", dict)
    maker = document.get("maker", {})
    return {
        "category": of_type(document, "category", str),
        "price": None if price is None else float(price),
        "stock": of_type(document, "stock", int),
        "live": of_type(document, "live", bool),
        "at": None if at is None else datetime.fromisoformat(at).astimezone(UTC),
        "tags": of_type(document, "tags", list),
        "sizes": of_type(document, "sizes", list),
        "weights": None if weights is None else [float(weight) for weight in weights],
        "place": None if place is None else {key: float(at) for key, at in place.items()},
        "body": of_type(document, "body", str),
        "metadata.id": of_type(document, "id", str),
        "maker.name": of_type(maker, "name", str),
        "never.there": None,
    }


def left_over(document: Row) -> Row:
    """What stays in the JSON: all that its column could not give back exactly."""
    rest = dict(document)
    for key in ("category", "stock", "live", "tags", "sizes", "weights", "body", "id"):
        rest.pop(key, None)
    if isinstance(rest.get("price"), float):
        del rest["price"]
    if str(rest.get("at", "")).endswith("Z"):
        del rest["at"]
    if "maker" in rest:
        rest["maker"] = {key: value for key, value in rest["maker"].items() if key != "name"}
    return rest


def expected(source: Row) -> Row:
    bits = source["vector_bits"]
    return {
        "id": source["id"],
        "version": source["version"],
        "created_at": time_of(source["created_at"]),
        "updated_at": time_of(source["updated_at"]),
        "expires_at": time_of(source["expires_at"] or None),
        **shown(source["document"]),
        "vector": source["vector"],
        "vector_image": source["vector_image"],
        "vector_bits": None if bits is None else bytes.fromhex(bits),
        "vector_half": source["vector_half"],
        "vector_byte": source["vector_byte"],
    }


@pytest.mark.parametrize("read", [read_pyarrow, read_duckdb, read_polars])
@pytest.mark.parametrize("name", FILES)
def test_others_read_every_row(
    made: Path, sources: list[Row], name: str, read: Callable[[Path], list[Row]]
) -> None:
    rows = read(made / f"{name}.parquet")
    assert len(rows) == len(sources)
    for row, source in zip(rows, sources, strict=True):
        metadata = row.pop("metadata")
        assert row == expected(source)
        rest = json.loads(metadata) if metadata is not None else {}
        assert rest == left_over(source["document"])


def test_arrow_sees_the_types_that_were_meant(made: Path) -> None:
    schema = pq.read_schema(made / "zstd.parquet")
    time = pa.timestamp("us", "UTC")
    assert schema.field("id").type == pa.string()
    assert not schema.field("id").nullable
    assert schema.field("version").type == pa.uint64()
    assert [
        schema.field(name).type for name in ("created_at", "updated_at", "expires_at", "at")
    ] == [time] * 4
    element = pa.field("element", pa.float32(), nullable=False)
    assert schema.field("vector").type == pa.list_(element, DIMENSION)
    assert schema.field("vector_image").type == pa.list_(element, IMAGE_DIMENSION)
    assert schema.field("vector_bits").type == pa.binary(BIT_BYTES)
    half = pa.field("element", pa.float16(), nullable=False)
    assert schema.field("vector_half").type == pa.list_(half, HALF_DIMENSION)
    byte = pa.field("element", pa.int8(), nullable=False)
    assert schema.field("vector_byte").type == pa.list_(byte, BYTE_DIMENSION)


def test_the_footer_says_what_the_file_is(made: Path) -> None:
    keys = pq.read_metadata(made / "zstd.parquet").metadata
    schema = json.loads(keys[b"proximadb.schema"])
    assert keys[b"proximadb.format"] == b"2"  # since there are other vectors than float32
    assert keys[b"proximadb.collection"] == b"c0ffee00-0000-0000-0000-000000000000"
    assert schema["fields"][1] == {
        "name": "image",
        "column": "vector_image",
        "dimension": IMAGE_DIMENSION,
        "metric": "euclidean",
    }
    assert [field.get("type") for field in schema["fields"]] == [None] * 3 + ["float16", "int8"]
    assert {"name": "id", "column": "metadata.id", "type": "string"} in schema["columns"]
    assert (schema["compression"], schema["vectors_in_place"]) == ("zstd", False)


def test_row_groups_say_which_ids_they_hold(made: Path) -> None:
    metadata = pq.read_metadata(made / "none.parquet")
    assert metadata.num_row_groups > 1
    statistics = [
        metadata.row_group(group).column(0).statistics for group in range(metadata.num_row_groups)
    ]
    for before, after in itertools.pairwise(statistics):
        assert before.min <= before.max <= after.min


@pytest.mark.parametrize(
    ("name", "raw"), [("none", True), ("zstd", False), ("zstd-in-place", True)]
)
def test_vectors_are_stored_as_the_setting_says(made: Path, name: str, raw: bool) -> None:
    group = pq.read_metadata(made / f"{name}.parquet").row_group(0)
    chunks = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    vector = chunks["vector.list.element"]
    assert (vector.compression == "UNCOMPRESSED") == raw
    assert ("BYTE_STREAM_SPLIT" in vector.encodings) != raw


def test_a_byte_takes_a_byte(made: Path) -> None:
    """Of int8, which Parquet has as INT32: one for each value, in every way of storing."""
    for name in FILES:
        metadata = pq.read_metadata(made / f"{name}.parquet")
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            column = group.column(group.num_columns - 1)
            assert column.physical_type == "INT32"
            assert set(column.encodings) == {"PLAIN", "RLE", "RLE_DICTIONARY"}
            # levels and headers beside it; the dictionary has 1,024
            assert column.total_uncompressed_size < column.num_values + 1024 + 13 * group.num_rows


def test_a_query_over_live_files_needs_no_server(made: Path, sources: list[Row]) -> None:
    with duckdb.connect() as connection:
        found = connection.sql(
            "select category, count(*) from read_parquet(?) where price > 100 group by all",
            params=[str(made / "snappy.parquet")],
        ).fetchall()
    prices = [shown(source["document"]) for source in sources]
    wanted: dict[str, int] = {}
    for row in prices:
        if row["price"] is not None and row["price"] > 100:
            wanted[row["category"]] = wanted.get(row["category"], 0) + 1
    assert dict(found) == wanted
