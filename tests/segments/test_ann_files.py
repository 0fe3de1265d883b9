"""Files of indexes of vectors that are damaged or gone: told, made again, and nobody waits."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.crash.settings import folder_of, metrics
from tests.http.wire import eventually
from tests.lib.rest import Json, RestClient
from tests.lib.server import Server, ServerFactory, ServerOptions, binary

ROWS = 600
DIMENSION = 12
CONFIG = """
[storage]
flush_rows = 500
flush_age_s = 1
"""


def vector(row: int) -> list[float]:
    return [float((row * (11 + i) + i * i * i) % 127) for i in range(DIMENSION)]


def is_indexed(rest: RestClient) -> bool:
    described = rest.get_collection("c")
    state = described["fields"][0]["index_state"]
    return bool(
        described["stats"]["segment_rows"] == ROWS
        and state["state"] == "ready"
        and state["rows_indexed"] == ROWS
    )


def check_rows(rest: RestClient) -> None:
    assert rest.count("c") == ROWS
    for row in range(0, ROWS, 41):
        hits = rest.search("c", vector=vector(row), k=1)["results"]
        assert hits[0]["score"] == 0


@pytest.fixture(name="file")
def file_of_an_index(server_factory: ServerFactory) -> tuple[Server, Path]:
    server = server_factory.make(ServerOptions(cores=2, config=CONFIG))
    server.start()
    with RestClient(server) as rest:
        rest.create_collection("c", DIMENSION, "euclidean", index={"type": "hnsw"})
        rest.upsert("c", [{"id": str(i), "vector": vector(i)} for i in range(ROWS)])
        eventually("indexed", lambda: is_indexed(rest))
        folder = folder_of(server, rest.get_collection("c")["uuid"])
        eventually("written", lambda: len(list(folder.glob("*.ann"))) == 1)
        check_rows(rest)
    assert server.stop() == 0
    return server, next(folder.glob("*.ann"))


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)


def findings(server: Server, *more: str) -> tuple[int, list[Json]]:
    done = subprocess.run(
        [str(binary()), "check", "--data-dir", str(server.data_dir), *more],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, [line for line in lines if line.get("kind") == "index"]


@pytest.mark.parametrize("where", ["header", "middle", "end", "length", "gone"])
def test_a_bad_index_is_made_again_and_rows_are_found_meanwhile(
    file: tuple[Server, Path], where: str
) -> None:
    server, path = file
    size = path.stat().st_size
    if where == "gone":
        path.unlink()
    elif where == "length":
        path.write_bytes(path.read_bytes()[: size // 2])
    else:
        flip(path, {"header": 20, "middle": size // 2, "end": size - 1}[where])
    server.start()
    with RestClient(server) as rest:
        check_rows(rest)
        eventually("indexed", lambda: is_indexed(rest))
        check_rows(rest)
        eventually("written", lambda: path.exists() and path.stat().st_size == size)
        rebuilt = metrics(server)["proximadb_index_rebuilds_total"].samples
        assert sum(rebuilt.values()) == (0 if where == "gone" else 1)
    assert server.log.count("is bad and is made again") == (0 if where == "gone" else 1)
    assert server.stop() == 0
    assert findings(server) == (0, [])


def test_a_check_tells_of_a_bad_index_and_a_repair_removes_it(file: tuple[Server, Path]) -> None:
    server, path = file
    assert findings(server) == (0, [])
    flip(path, path.stat().st_size // 3)
    code, told = findings(server)
    assert code == 1
    assert [line["severity"] for line in told] == ["derived"]
    assert path.name in json.dumps(told[0])
    assert path.exists()
    code, told = findings(server, "--repair")
    assert [line["severity"] for line in told] == ["mended"]
    assert not path.exists()
    server.start()
    with RestClient(server) as rest:
        eventually("indexed", lambda: is_indexed(rest))
        check_rows(rest)
    assert server.stop() == 0
