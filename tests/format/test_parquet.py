"""subprojects/pqfile against other readers and writers of Parquet: pyarrow, DuckDB and Polars.

What our writer makes (pq_make) they must read as it was meant; what they make, in all their codecs,
encodings and page versions, our reader (pq_dump) must read to the last bit of every value and every
level.
"""

import random
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from subprojects.pqfile.tests import samples
from tests.lib.parquet import (
    Column,
    assert_columns,
    assert_rows,
    check_file,
    expected_columns,
    read_dump,
    run_dump,
    tool,
)
from tests.lib.server import LIMIT_S

# ---- files of ours ----

VARIANTS = ("plain", "aligned", "encoded", "split", "dictionary", "overflow")
CODECS = ("UNCOMPRESSED", "SNAPPY", "LZ4_RAW", "ZSTD")
FILES = [f"{v}-{c}-v{n}.parquet" for v in VARIANTS for c in CODECS for n in (1, 2)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of pq_make."""
    folder = tmp_path_factory.mktemp("made")
    subprocess.run([tool("pq_make"), folder], check=True, timeout=LIMIT_S)
    return folder


@cache
def sample_rows() -> list[dict[str, Any]]:
    return samples.rows()


def read_pyarrow(path: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(path, page_checksum_verification=True).to_pylist())


def read_duckdb(path: Path) -> list[dict[str, Any]]:
    with duckdb.connect() as connection:
        table = connection.sql("select * from read_parquet(?)", params=[str(path)]).to_arrow_table()
        return list(table.to_pylist())


def read_polars(path: Path) -> list[dict[str, Any]]:
    return polars.read_parquet(path).to_dicts()


def test_all_sample_files_are_made(made: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("read", [read_pyarrow, read_duckdb, read_polars])
@pytest.mark.parametrize("name", FILES)
def test_others_read_what_we_write(
    made: Path, name: str, read: Callable[[Path], list[dict[str, Any]]]
) -> None:
    rows = read(made / name)
    expected = sample_rows()
    assert len(rows) == len(expected)
    for row, wanted in zip(rows, expected, strict=True):
        assert row == wanted


@cache
def sample_columns(made: Path) -> list[Column]:
    """Of any of the files: they differ only in how they are stored."""
    return expected_columns(read_dump(made / FILES[0]), sample_rows())


@pytest.mark.parametrize("name", FILES)
def test_we_read_what_we_write(made: Path, name: str) -> None:
    dump = read_dump(made / name)
    assert dump.rows == samples.ROW_COUNT
    assert_columns(dump, sample_columns(made))
    assert dump.page_versions() == {int(name[-9])}
    check_file(made / name)


def test_arrow_sees_the_types_that_were_meant(made: Path) -> None:
    schema = pq.read_schema(made / FILES[0])
    assert schema.field("vector").type == pa.list_(
        pa.field("element", pa.float32(), nullable=False), samples.VECTOR_SIZE
    )
    assert schema.field("u64").type == pa.uint64()
    assert schema.field("time").type == pa.timestamp("us", "UTC")


def test_statistics_and_indexes_are_found_by_pyarrow(made: Path) -> None:
    metadata = pq.read_metadata(made / "plain-ZSTD-v2.parquet")
    column = metadata.row_group(0).column(0)
    assert (column.statistics.min, column.statistics.max) == ("row-000000", "row-002999")
    assert column.statistics.null_count == 0
    assert column.has_offset_index
    assert column.has_column_index


# ---- files of others ----

ROW_COUNT = 3000


def sometimes(chooser: random.Random, values: list[Any]) -> list[Any]:
    return [None if chooser.random() < 0.2 else value for value in values]


@cache
def table() -> Any:  # noqa: ANN401
    """All kinds of columns, most with nulls."""
    chooser = random.Random(3)
    index = range(ROW_COUNT)

    def ints(bits: int) -> list[int]:
        return [chooser.randint(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for _ in index]

    def array(values: list[Any], kind: Any) -> Any:  # noqa: ANN401
        return pa.array(sometimes(chooser, values), kind)

    names = [[None if (i + j) % 5 == 0 else f"v{j}" for j in range(i % 4)] for i in index]
    return pa.table(
        {
            "boolean": array([i % 3 == 0 for i in index], pa.bool_()),
            "int32": array(ints(32), pa.int32()),
            "int64": array(ints(64), pa.int64()),
            "rising": pa.array(index, pa.int64()),
            "uint8": pa.array([i % 200 for i in index], pa.uint8()),
            "uint64": pa.array([2**64 - 1 - i for i in index], pa.uint64()),
            "float": array([chooser.gauss(0, 1) for _ in index], pa.float32()),
            "double": array([chooser.gauss(0, 1) for _ in index], pa.float64()),
            "text": array(["x" * (i % 50) + str(i % 100) for i in index], pa.string()),
            "blob": array([chooser.randbytes(i % 20) for i in index], pa.binary()),
            "code": array([chooser.randbytes(7) for _ in index], pa.binary(7)),
            "time": array(ints(40), pa.timestamp("us", "UTC")),
            "day": array([i * 3 for i in index], pa.date32()),
            "list": array(
                [[None if j % 4 == 3 else i * j for j in range(i % 7)] for i in index],
                pa.list_(pa.int32()),
            ),
            "lists": array(
                [[None if j == 2 else names[i - j] for j in range(i % 5)] for i in index],
                pa.list_(pa.list_(pa.string())),
            ),
            "struct": array(
                [{"x": i, "y": None if i % 2 else [float(i)] * (i % 3)} for i in index],
                pa.struct([("x", pa.int64()), ("y", pa.list_(pa.float32()))]),
            ),
            "map": array(
                [[(f"k{j}", None if j == 1 else j) for j in range(i % 4)] for i in index],
                pa.map_(pa.string(), pa.int32()),
            ),
            "vector": array(
                [[i + j * 0.5 for j in range(16)] for i in index], pa.list_(pa.float32(), 16)
            ),
            "nulls": pa.array([None] * ROW_COUNT, pa.int32()),
            "same": pa.array(["same"] * ROW_COUNT, pa.string()),
        }
    )


@cache
def table_rows() -> list[dict[str, Any]]:
    return list(table().to_pylist())


def assert_reads(path: Path, rows: list[dict[str, Any]]) -> None:
    dump = read_dump(path)
    assert_rows(dump, rows)
    assert run_dump(path, "--callback") == run_dump(path)
    check_file(path)


@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "lz4", "zstd"])
def test_we_read_every_codec_and_page_version_of_pyarrow(
    tmp_path: Path, codec: str, version: str, dictionary: bool
) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(
        table(),
        path,
        compression=codec,
        data_page_version=version,
        use_dictionary=dictionary,
        data_page_size=2000,
        row_group_size=1100,
        write_page_index=True,
        write_page_checksum=True,
    )
    dump = read_dump(path)
    assert dump.page_versions() == {int(version[0])}
    assert dump.row_groups == 3
    assert ("RLE_DICTIONARY" in dump.encodings()) == dictionary
    assert all(chunk["offset_index"] and chunk["column_index"] for chunk in dump.chunks)
    assert max(len(chunk["pages"]) for chunk in dump.chunks) > 3
    assert_reads(path, table_rows())


ENCODINGS = {
    "boolean": "RLE",
    "int32": "DELTA_BINARY_PACKED",
    "int64": "DELTA_BINARY_PACKED",
    "rising": "DELTA_BINARY_PACKED",
    "uint8": "BYTE_STREAM_SPLIT",
    "uint64": "BYTE_STREAM_SPLIT",
    "float": "BYTE_STREAM_SPLIT",
    "double": "BYTE_STREAM_SPLIT",
    "text": "DELTA_BYTE_ARRAY",
    "same": "DELTA_BYTE_ARRAY",
    "blob": "DELTA_LENGTH_BYTE_ARRAY",
    "code": "DELTA_BYTE_ARRAY",
    "vector.list.element": "BYTE_STREAM_SPLIT",
}


@pytest.mark.parametrize("code", ["DELTA_BYTE_ARRAY", "BYTE_STREAM_SPLIT"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_we_read_every_encoding_of_pyarrow(
    tmp_path: Path, codec: str, version: str, code: str
) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(
        table(),
        path,
        compression=codec,
        data_page_version=version,
        use_dictionary=False,
        column_encoding=ENCODINGS | {"code": code},
        data_page_size=2000,
    )
    assert read_dump(path).encodings() == set(ENCODINGS.values()) | {"PLAIN"}
    assert_reads(path, table_rows())


@pytest.mark.parametrize("version", ["V1", "V2"])
@pytest.mark.parametrize("codec", ["uncompressed", "snappy", "gzip", "lz4_raw", "zstd"])
def test_we_read_what_duckdb_writes(tmp_path: Path, codec: str, version: str) -> None:
    path = tmp_path / "file.parquet"
    # DuckDB 2.0 writes a null array as a list that goes on below its own level, which nobody reads.
    vectors = pa.array([[i, 0.5] for i in range(ROW_COUNT)], pa.list_(pa.float32(), 2))
    source = table().drop(["vector"]).append_column("vector", vectors)
    with duckdb.connect() as connection:
        connection.register("source", source)
        connection.sql(
            f"copy (select * from source) to '{path}' "
            f"(format parquet, compression {codec}, parquet_version {version}, row_group_size 2048)"
        )
    dump = read_dump(path)
    assert any(chunk["bloom"] for chunk in dump.chunks)
    assert_reads(path, source.to_pylist())


@pytest.mark.parametrize("codec", ["uncompressed", "snappy", "gzip", "lz4", "zstd"])
def test_we_read_what_polars_writes(tmp_path: Path, codec: Any) -> None:  # noqa: ANN401
    path = tmp_path / "file.parquet"
    frame = polars.from_arrow(table().drop(["map"]))
    assert isinstance(frame, polars.DataFrame)
    frame.write_parquet(
        path, compression=codec, row_group_size=1100, data_page_size=2000, statistics="full"
    )
    assert_reads(path, table_rows())


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_we_read_large_texts(tmp_path: Path, version: str) -> None:
    path = tmp_path / "file.parquet"
    texts = ["a" * 300_000, "", "b" * 17, None, "c" * 400_000]
    large = pa.table({"text": texts, "list": [[text, text] for text in texts]})
    pq.write_table(large, path, data_page_version=version, data_page_size=1000)
    assert_reads(path, large.to_pylist())


def test_we_read_files_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(table().slice(0, 0), path)
    assert_reads(path, [])
    polars.DataFrame({"a": [], "b": []}, {"a": polars.Int64, "b": polars.String}).write_parquet(
        path
    )
    assert_reads(path, [])


def test_we_read_files_without_columns(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(pa.table({}), path)
    dump = read_dump(path)
    assert (dump.rows, dump.columns, len(dump.nodes)) == (0, [], 1)


def test_we_read_many_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    some = table().select(["int64", "text", "lists"])
    pq.write_table(some, path, row_group_size=7)
    assert read_dump(path).row_groups == -(-ROW_COUNT // 7)
    assert_reads(path, some.to_pylist())


def test_a_row_that_spans_pages_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    long = pa.table({"list": [[f"{i}-{j}" for j in range(i * 100)] for i in range(60)]})
    pq.write_table(long, path, data_page_version="1.0", data_page_size=100, write_batch_size=64)
    assert_reads(path, long.to_pylist())


def test_old_timestamps_of_96_bits_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    times = pa.table({"time": pa.array([0, 86_400_000_000, None], pa.timestamp("us"))})
    pq.write_table(times, path, use_deprecated_int96_timestamps=True)
    dump = read_dump(path)
    assert dump.columns[0].values == ["0" * 16 + "8c3d2500", "0" * 16 + "8d3d2500"]
    assert "min" not in dump.chunks[0]
