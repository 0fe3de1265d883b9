"""Export of a stopped server's data: its Parquet files as they are, and a manifest."""

import json
import random
import subprocess
from pathlib import Path

import pyarrow.parquet as pq

from tests.lib.rest import RestClient
from tests.lib.server import LIMIT_S, Server, StartServer, binary
from tests.segments.made import CONFIG, FLUSH_ROWS, create, metric, record, wait_for_flush
from tests.transfer.client import kept, run


def copy(server: Server, folder: Path, status: int = 0, name: str = "c") -> str:
    command = [str(binary()), "export", "--collection", name, "--data-dir", str(server.data_dir)]
    done = subprocess.run(
        [*command, "-o", str(folder)], capture_output=True, text=True, check=False, timeout=LIMIT_S
    )
    assert done.returncode == status, done.stderr
    return done.stderr


def fill(server: Server) -> None:
    """Two segments; half of the rows of the first are replaced by the second."""
    rng = random.Random(5)
    with RestClient(server) as rest:
        model = create(rest, "c")
        for first in (0, FLUSH_ROWS // 2):
            flushed = metric(server, "flushes_total")
            names = range(first, first + FLUSH_ROWS)
            model.upsert(rest, [record(rng, f"{i:04}") for i in names])
            wait_for_flush(server, flushed)


def test_a_copy_brings_back_the_rows_that_live(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(config=CONFIG)
    fill(server)
    before = kept(server, "c")
    assert "another process" in copy(server, tmp_path / "early", status=1)
    server.stop()
    folder = tmp_path / "copy"
    copy(server, folder)
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert manifest["rows"] == len(before) == FLUSH_ROWS * 3 // 2
    for segment in manifest["segments"]:
        path = folder / segment["file"]
        assert path.stat().st_size == segment["bytes"]
        assert pq.read_table(path).num_rows == segment["rows"]
        sources = server.data_dir.glob(f"collections/*/{segment['file']}")
        assert [source.read_bytes() for source in sources] == [path.read_bytes()]
    other = start_server()
    run(other, "import", "--collection", "c", "--create", folder)
    assert kept(other, "c") == before
    assert "exists" in copy(server, folder, status=1)


def test_rows_that_only_the_log_has_refuse_a_copy(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(config=CONFIG)
    fill(server)
    with RestClient(server) as rest:
        rest.delete("c", ids=["0001"])
    server.stop()
    assert "the log holds rows" in copy(server, tmp_path / "copy", status=1)
    assert "does not exist" in copy(server, tmp_path / "copy", status=1, name="other")
    assert not (tmp_path / "copy").exists()


def test_a_damaged_segment_is_not_copied(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(config=CONFIG)
    fill(server)
    server.stop()
    path = min(server.data_dir.glob("collections/*/*.parquet"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "checksum" in copy(server, tmp_path / "copy", status=1)
    assert not (tmp_path / "copy" / "manifest.json").exists()
