"""Networks that cut, servers that die, archives that lie: nothing is doubled, nothing is left."""

import io
import json
import random
import signal
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.lib.rest import RestClient
from tests.lib.server import LIMIT_S, Server, StartServer, server_starter, servers_in
from tests.segments.made import CONFIG
from tests.transfer.client import command, kept, records, run
from tests.transfer.proxy import PASS, Deed, Proxy, Request, Rule, answer
from tests.transfer.test_folder import fill, manifest_of, snapshots

ROWS = 2000
BATCH = 100


def is_archive(request: Request) -> bool:
    return request.path.endswith("/archive")


def is_write(request: Request) -> bool:
    return request.method == "PUT" and "/vectors" in request.path


def once(chosen: Callable[[Request], bool], nth: int, deed: Deed) -> Rule:
    """The deed for the n-th of the chosen requests, counted from 0."""
    seen: list[Request] = []

    def rule(request: Request) -> Deed:
        if not chosen(request):
            return PASS
        seen.append(request)
        return deed if len(seen) == nth + 1 else PASS

    return rule


def port_of(server: Server) -> Callable[[], int]:
    return lambda: server.rest_port


# ---- imports ----


def write_rows(path: Path) -> None:
    """`if_version` 0: a batch that is carried out twice fails."""
    vectors = np.random.default_rng(1).normal(size=(ROWS, 4)).astype("f4").tolist()
    lines = [{"id": str(i), "vector": v, "if_version": 0} for i, v in enumerate(vectors)]
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")


BUSY = answer("429 Too Many Requests", b'{"error":{"code":"RESOURCE_EXHAUSTED","message":"x"}}')
AWAY = answer("503 Service Unavailable", b'{"error":{"code":"UNAVAILABLE","message":"x"}}')


@pytest.mark.parametrize(
    ("what", "deed"),
    [
        ("the answer is lost", Deed(answer_max=0)),
        ("the answer is cut", Deed(answer_max=40)),
        ("the request is lost", Deed(forward=False)),
        ("busy", Deed(reply=BUSY)),
        ("away", Deed(reply=AWAY)),
    ],
)
def test_a_batch_is_repeated_and_carried_out_once(
    server: Server, collection_name: str, tmp_path: Path, what: str, deed: Deed
) -> None:
    path = tmp_path / "r.jsonl"
    write_rows(path)
    with Proxy(port_of(server), once(is_write, 3, deed)) as proxy:
        arguments = ("--collection", collection_name, "--create", "--batch", str(BATCH), path)
        run(server, "import", *arguments, url=proxy.url)
    writes = [request for request in proxy.requests if is_write(request)]
    keys = [request.path.split("request_id=")[1] for request in writes]
    assert len(writes) == ROWS // BATCH + 1, what
    assert len(set(keys)) == ROWS // BATCH, what  # the repeated one has its key again
    with RestClient(server) as rest:
        described = rest.get_collection(collection_name)
    assert described["record_count"] == ROWS
    assert described["version"] == ROWS // BATCH


def test_an_import_outlives_its_server(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(config=CONFIG)
    path = tmp_path / "r.jsonl"
    write_rows(path)
    deed = Deed(answer_max=0, then=lambda: (server.crash(), None)[1])
    with Proxy(port_of(server), once(is_write, 5, deed)) as proxy:
        arguments = ("--collection", "c", "--create", "--batch", str(BATCH), path)
        run(server, "import", *arguments, url=proxy.url)
    assert set(records(server, "c")) == {str(i) for i in range(ROWS)}


def test_an_import_that_was_broken_can_be_run_again(
    server: Server, collection_name: str, tmp_path: Path
) -> None:
    """Without ids in the file; and with the row that --skip names nothing is sent twice."""
    vectors = np.random.default_rng(1).normal(size=(ROWS, 4)).astype("f4")
    pq.write_table(pa.table({"v": vectors.tolist()}), tmp_path / "v.parquet")
    refused = answer("403 Forbidden", b'{"error":{"code":"PERMISSION_DENIED","message":"no"}}')
    arguments = ("--collection", collection_name, "--create", "--batch", str(BATCH))
    with Proxy(port_of(server), once(is_write, 7, Deed(reply=refused))) as proxy:
        done = run(server, "import", *arguments, tmp_path / "v.parquet", status=1, url=proxy.url)
    assert "go on with --skip" in done.stderr
    skip = done.stderr.split("--skip ")[1].split()[0]
    before = set(records(server, collection_name))
    assert 0 < len(before) < ROWS
    again = run(server, "import", *arguments, "--skip", skip, tmp_path / "v.parquet")
    assert f"imported {ROWS - int(skip)} rows" in again.stderr
    found = records(server, collection_name)
    assert before < set(found)
    assert {np.array(r["vector"], "f4").tobytes() for r in found.values()} == {
        row.tobytes() for row in vectors
    }
    assert len(found) == ROWS


# ---- exports ----


@pytest.fixture(name="filled")
def filled_server(start_server: StartServer) -> Server:
    server = start_server(config=CONFIG)
    fill(server)
    return server


@pytest.mark.parametrize("sent", [0, 100, 600, 1100, 3000, 9000])
def test_a_download_that_is_cut_begins_again(filled: Server, tmp_path: Path, sent: int) -> None:
    with Proxy(port_of(filled), once(is_archive, 0, Deed(answer_max=sent))) as proxy:
        arguments = ("--collection", "c", "-o", tmp_path / "all")
        run(filled, "export", *arguments, url=proxy.url)
    assert sum(map(is_archive, proxy.requests)) == 2
    assert snapshots(filled) == []
    run(filled, "import", "--collection", "again", "--create", tmp_path / "all")
    assert kept(filled, "again") == kept(filled, "c")


def test_an_export_outlives_its_server(filled: Server, tmp_path: Path) -> None:
    deed = Deed(answer_max=5000, then=lambda: (filled.crash(), None)[1])
    with Proxy(port_of(filled), once(is_archive, 0, deed)) as proxy:
        arguments = ("--collection", "c", "-o", tmp_path / "all.jsonl")
        run(filled, "export", *arguments, url=proxy.url)
    assert snapshots(filled) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("all")] == [
        "all.jsonl"
    ]
    lines = (tmp_path / "all.jsonl").read_text("utf-8").splitlines()
    assert {json.loads(line)["id"] for line in lines} == set(records(filled, "c"))


@pytest.mark.parametrize("name", ["all", "all.jsonl", "all.parquet", "all.npy"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_download_and_leaves_nothing(
    filled: Server, tmp_path: Path, name: str, number: signal.Signals
) -> None:
    arrived, over = threading.Event(), threading.Event()

    def hold() -> None:
        arrived.set()
        over.wait(LIMIT_S)

    folder = tmp_path / "out"
    folder.mkdir()
    with Proxy(port_of(filled), once(is_archive, 0, Deed(answer_max=5000, then=hold))) as proxy:
        arguments = ("--collection", "c", "-o", folder / name)
        process = subprocess.Popen(
            command(filled, "export", *arguments, url=proxy.url), stderr=subprocess.PIPE, text=True
        )
        assert arrived.wait(LIMIT_S)
        process.send_signal(number)
        said = process.communicate(timeout=LIMIT_S)[1]
        over.set()
    assert process.returncode == 130, said
    assert list(folder.iterdir()) == []
    assert snapshots(filled) == []


@pytest.mark.parametrize("answer_max", [0, 30])
def test_a_snapshot_whose_making_was_not_answered_is_not_left(
    filled: Server, tmp_path: Path, answer_max: int
) -> None:
    def rule(request: Request) -> Deed:
        lost = request.method == "POST" and request.path == "/v1/snapshots" and request.number < 4
        return Deed(answer_max=answer_max) if lost else PASS

    with Proxy(port_of(filled), rule) as proxy:
        run(filled, "export", "--collection", "c", "-o", tmp_path / "all", url=proxy.url)
    assert snapshots(filled) == []
    assert manifest_of(tmp_path / "all")["rows"] == len(records(filled, "c")) + 1


def test_a_snapshot_that_cannot_be_deleted_is_named(filled: Server, tmp_path: Path) -> None:
    refused = answer("403 Forbidden", b'{"error":{"code":"PERMISSION_DENIED","message":"no"}}')

    def rule(request: Request) -> Deed:
        return Deed(reply=refused) if request.method == "DELETE" else PASS

    with Proxy(port_of(filled), rule) as proxy:
        done = run(filled, "export", "--collection", "c", "-o", tmp_path / "all", url=proxy.url)
    assert f"snapshot '{snapshots(filled)[0]['name']}' may be left" in done.stderr


def test_a_disk_that_is_full_ends_an_export_and_leaves_nothing(
    filled: Server, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    for output in (tmp_path / "file" / "all", tmp_path / "file" / "all.jsonl"):
        done = run(filled, "export", "--collection", "c", "-o", output, status=1)
        assert "Not a directory" in done.stderr
    assert snapshots(filled) == []


# ---- archives that lie ----


@pytest.fixture(name="archive", scope="module")
def archive_of_a_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bytes]:
    with servers_in(tmp_path_factory.mktemp("archive")) as factory:
        server = server_starter(factory)(config=CONFIG)
        fill(server)
        with RestClient(server) as rest:
            rest.call("POST", "/v1/snapshots", {"name": "s", "collection": "c"})
            yield rest.request("GET", "/v1/snapshots/s/archive").body


def serve(archive: bytes) -> Rule:
    """A server that has nothing but this archive."""
    collection = {"name": "c", "fields": [{"name": "", "dimension": 3, "metric": "dot"}]}

    def rule(request: Request) -> Deed:
        if is_archive(request):
            return Deed(reply=answer("200 OK", archive, "application/x-tar"))
        if request.path.startswith("/v1/collections"):
            return Deed(reply=answer("200 OK", json.dumps(collection).encode()))
        return Deed(reply=answer("200 OK", b'{"name": "s", "bytes": 1000}'))

    return rule


def members(archive: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return [(info, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]


def packed(entries: list[tuple[tarfile.TarInfo, bytes]], kind: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as tar:
        for info, data in entries:
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def take(server: Server, archive: bytes, folder: Path, status: int | None = 1) -> str:
    with Proxy(None, serve(archive)) as proxy:
        done = run(
            server,
            "export",
            "--collection",
            "c",
            "-o",
            folder / "all",
            status=status,
            url=proxy.url,
        )
    if done.returncode != 0:
        assert list(folder.iterdir()) == []
    return done.stderr


@pytest.fixture(name="folder")
def empty_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def link(target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("link")
    info.type = tarfile.SYMTYPE
    info.linkname = target
    return info


def test_the_archive_itself_is_taken(server: Server, archive: bytes, folder: Path) -> None:
    take(server, archive, folder, status=0)
    assert manifest_of(folder / "all")["rows"] > 0


def test_an_archive_repacked_by_another_program_is_taken(
    server: Server, archive: bytes, folder: Path
) -> None:
    entries = members(archive)
    entries.insert(1, (tarfile.TarInfo(entries[1][0].name.split("/")[0]), b""))
    entries[1][0].type = tarfile.DIRTYPE
    take(server, packed(entries, tarfile.PAX_FORMAT), folder, status=0)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../evil.parquet", "not the next one"),
        ("/tmp/evil.parquet", "not the next one"),
        ("evil.parquet", "not the next one"),
        ("SNAPSHOT", "not the next one"),
    ],
)
def test_names_of_an_archive_are_only_compared(
    server: Server, archive: bytes, folder: Path, name: str, why: str
) -> None:
    entries = members(archive)
    entries[2][0].name = name
    assert why in take(server, packed(entries), folder)


def test_archives_that_are_not_what_their_list_says_are_refused(
    server: Server, archive: bytes, folder: Path
) -> None:
    def changed(change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], object]) -> bytes:
        entries = members(archive)
        change(entries)
        return packed(entries)

    def flip(at: int) -> Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]:
        def change(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
            info, data = entries[at]
            entries[at] = (info, data[:70] + bytes([data[70] ^ 1]) + data[71:])

        return change

    cases = [
        (b"", "too early"),
        (b"no tar at all" * 100, "no header"),
        (bytes(2048), "too early"),
        (changed(lambda entries: entries.pop(0)), "does not begin with the list"),
        (changed(lambda entries: entries.pop(1)), "not the next one"),
        (changed(lambda entries: entries.pop(2)), "not the next one"),
        (changed(lambda entries: entries.pop(-1)), "too early"),
        (changed(lambda entries: entries.append(entries[-1])), "more files"),
        (changed(lambda entries: entries.insert(1, (link("/etc/passwd"), b""))), "a link"),
        (changed(flip(0)), "checksum is wrong"),
        (changed(flip(1)), "does not fit its checksum"),
        (changed(flip(2)), "does not fit its checksum"),
    ]
    for data, why in cases:
        assert why in take(server, data, folder)


def test_an_archive_may_end_anywhere(server: Server, archive: bytes, folder: Path) -> None:
    rng = random.Random(6)
    sizes = {rng.randrange(len(archive) - 1024) for _ in range(25)} | {511, 512, 513, 1023, 1024}
    for size in sorted(sizes):
        assert "too early" in take(server, archive[:size], folder)


def test_bits_may_flip_anywhere(server: Server, archive: bytes, folder: Path) -> None:
    """Refused, or (in padding, in what is passed by) without effect; never a crash."""
    rng = random.Random(7)
    for _ in range(60):
        data = bytearray(archive)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        said = take(server, bytes(data), folder, status=None)
        if (folder / "all").exists():
            for segment in manifest_of(folder / "all")["segments"]:
                assert pq.read_table(folder / "all" / segment["file"]).num_rows == segment["rows"]
            for path in (folder / "all").iterdir():
                path.unlink()
            (folder / "all").rmdir()
        else:
            assert "proximadb export: " in said
