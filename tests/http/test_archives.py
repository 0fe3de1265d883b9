"""Snapshots as one stream: downloaded, read by others, uploaded, refused, broken off."""

import hashlib
import io
import itertools
import json
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from tests.http.wire import connect, eventually, head, raw, read_response
from tests.lib.certificates import Certificate
from tests.lib.rest import Json, RestClient
from tests.lib.server import LIMIT_S, Server, ServerFactory, ServerOptions, StartServer

UPLOAD = ("PUT", "/v1/snapshots/t/archive", "content-type: application/x-tar")
TAR = {"content-type": "application/x-tar"}
ROWS = 3000
DIMENSION = 64
STREAM_ENDED = (52, 92)  # of curl
PROTOCOLS = ("--http1.1", "--http2-prior-knowledge")
numbers = itertools.count()


def row(i: int) -> Json:
    noise = hashlib.blake2b(str(i).encode(), digest_size=DIMENSION).digest()
    return {"id": f"r{i:05}", "vector": [b / 7 for b in noise], "metadata": {"n": i}}


def search(rest: RestClient, name: str) -> Json:
    answer = rest.search(name, vector=row(7)["vector"], k=30, include=["metadata", "vectors"])
    del answer["took_us"]
    return answer


def with_snapshot(server: Server) -> Server:
    """A snapshot `s` of a collection `a`."""
    with RestClient(server) as rest:
        rest.create_collection("a", DIMENSION, "cosine")
        rest.upsert("a", [row(i) for i in range(ROWS)])
        rest.delete("a", ids=["r00003"])
        rest.call("POST", "/v1/snapshots", {"name": "s"})
    return server


@pytest.fixture
def source(start_server: StartServer) -> Server:
    """A server with a snapshot, for this test alone."""
    return with_snapshot(start_server(cores=2))


@pytest.fixture(scope="module")
def refusing(session_servers: ServerFactory) -> Server:
    """The same for all tests after which it is as before: what they send is refused."""
    return with_snapshot(session_servers.make(ServerOptions(cores=2)).start())


@pytest.fixture(scope="module")
def good(refusing: Server) -> bytes:
    """The archive of its snapshot."""
    with RestClient(refusing) as rest:
        return download(rest)


@pytest.fixture
def rest(source: Server) -> Iterator[RestClient]:
    with RestClient(source) as client:
        yield client


@pytest.fixture
def archive(rest: RestClient) -> bytes:
    return download(rest)


def download(rest: RestClient, name: str = "s") -> bytes:
    answer = rest.request("GET", f"/v1/snapshots/{name}/archive")
    assert answer.status == 200, answer.body
    assert answer.header("content-type") == "application/x-tar"
    assert answer.header("content-length") == str(len(answer.body))
    return answer.body


def curl(*arguments: str, data: bytes | None = None) -> tuple[int, bytes]:
    """Status and body; status 0: the server ended an HTTP/2 stream whose upload it had refused.

    This curl then drops the answer that came before.
    """
    command = ["curl", "--silent", "--show-error", "--max-time", str(LIMIT_S)]
    command += ["--write-out", "%{stderr}%{http_code}", *arguments]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode in STREAM_ENDED and PROTOCOLS[1] in arguments:
        return 0, b"{}"
    assert done.returncode == 0, done.stderr
    return int(done.stderr), done.stdout


def upload(protocol: str, url: str, data: bytes, *more: str) -> tuple[int, Json]:
    arguments = (protocol, "--upload-file", "-", "--header", "content-type: application/x-tar")
    status, body = curl(*arguments, *more, url, data=data)
    return status, json.loads(body)


def contents(archive: bytes) -> dict[str, bytes]:
    """Files by name, without the description, which has the snapshot's name on this server."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        return {n: f.read() for n, f in files.items() if f is not None and n != "SNAPSHOT"}


def snapshots(rest: RestClient) -> list[str]:
    return [snapshot["name"] for snapshot in rest.call("GET", "/v1/snapshots")["snapshots"]]


def staged(server: Server) -> list[str]:
    """What lies in the folder of snapshots, hidden names included."""
    return sorted(path.name for path in (server.data_dir / "snapshots").iterdir())


# ---- what is in it ----


def unpack(tar: tarfile.TarFile, folder: Path) -> None:
    """The files of an archive; extractall has no filter in Debian's Python."""
    for member in tar.getmembers():
        stream = tar.extractfile(member)
        if stream is not None:
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(stream.read())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_archive_is_what_others_can_read(
    source: Server, rest: RestClient, tmp_path: Path, protocol: str
) -> None:
    path = tmp_path / "s.tar"
    status, _ = curl(protocol, f"{source.url}/v1/snapshots/s/archive", "--output", str(path))
    assert status == 200
    with tarfile.open(path) as tar:
        unpack(tar, tmp_path / "out")
    described = rest.call("GET", "/v1/snapshots/s")
    uuid = described["collections"][0]["uuid"]
    assert (tmp_path / "out" / "SNAPSHOT").exists()
    tables = [pq.read_table(file) for file in (tmp_path / "out" / uuid).glob("*.parquet")]
    ids = sorted(value for table in tables for value in table.column("id").to_pylist())
    assert ids == [f"r{i:05}" for i in range(ROWS) if i != 3]


def newest(folder: Path) -> list[str]:
    """The query of docs/operating/backup.md: ids whose newest version is in these files."""
    files = str(folder / "*.parquet")
    with duckdb.connect() as db:
        found = db.execute(
            "SELECT id, version FROM read_parquet(?, union_by_name = true) "
            "QUALIFY row_number() OVER (PARTITION BY id ORDER BY version DESC) = 1",
            [files],
        ).fetchall()
    return sorted(f"{record} {version}" for record, version in found)


def test_the_documented_query_finds_the_newest_versions(
    source: Server, rest: RestClient, tmp_path: Path
) -> None:
    rest.upsert("a", [row(i) for i in range(100, 200)])
    taken = rest.call("POST", "/v1/snapshots", {"name": "later"})
    uuid = taken["collections"][0]["uuid"]
    with tarfile.open(fileobj=io.BytesIO(download(rest, "later"))) as tar:
        unpack(tar, tmp_path)
    records = rest.scroll("a", limit=10000, include=[])["records"]
    wanted = sorted(f"{record['id']} {record['version']}" for record in records)
    assert newest(source.data_dir / "collections" / uuid) == wanted
    assert newest(tmp_path / uuid) == wanted


def test_two_downloads_are_the_same(rest: RestClient, archive: bytes) -> None:
    assert download(rest) == archive


def test_the_connection_serves_on_after_a_download(rest: RestClient, archive: bytes) -> None:
    assert rest.count("a") == ROWS - 1
    assert len(archive) > 500_000


# ---- to another server ----


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_another_server_restores_what_this_one_had(
    source: Server, rest: RestClient, archive: bytes, start_server: StartServer, protocol: str
) -> None:
    other = start_server(cores=1)
    status, uploaded = upload(protocol, f"{other.url}/v1/snapshots/moved/archive", archive)
    assert status == 201, uploaded
    described = rest.call("GET", "/v1/snapshots/s")
    assert uploaded == described | {"name": "moved"}
    with RestClient(other) as target:
        assert target.call("GET", "/v1/snapshots/moved") == uploaded
        restored = target.call("POST", "/v1/snapshots/moved/restore", {})
        assert restored["record_count"] == ROWS - 1
        assert search(target, "a") == search(rest, "a")
        assert contents(download(target, "moved")) == contents(archive)
    other.crash()
    with RestClient(other) as target:
        assert search(target, "a") == search(rest, "a")


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
def test_archives_pass_tls(
    start_server: StartServer, certificate: Certificate, archive: bytes, protocol: str
) -> None:
    server = start_server(tls=certificate)
    url = f"{server.url}/v1/snapshots/t/archive"
    trust = ("--cacert", str(certificate.cert_path))
    assert upload(protocol, url, archive, *trust)[0] == 201
    status, body = curl(protocol, url, *trust)
    assert status == 200
    assert contents(body) == contents(archive)


def test_a_later_request_of_a_connection_uploads_too(rest: RestClient, archive: bytes) -> None:
    assert rest.count("a") == ROWS - 1
    answer = rest.request("PUT", "/v1/snapshots/t/archive", archive, TAR)
    assert answer.status == 201, answer.body
    assert rest.call("GET", "/v1/snapshots/t") == answer.json()


def test_an_archive_may_be_larger_than_a_body(
    start_server: StartServer, archive: bytes, rest: RestClient
) -> None:
    server = start_server(env={"PROXIMADB_LIMITS__BODY_BYTES": "64KiB"})
    for protocol, name in zip(PROTOCOLS, ("one", "two"), strict=True):
        assert upload(protocol, f"{server.url}/v1/snapshots/{name}/archive", archive)[0] == 201
    with RestClient(server) as client:
        assert client.request("PUT", "/v1/snapshots/four/archive", archive, TAR).status == 201
    with RestClient(server) as client:
        assert client.call("POST", "/v1/snapshots/one/restore", {})["record_count"] == ROWS - 1
    with connect(server) as sock:
        sock.sendall(head("GET", "/livez"))
        assert read_response(sock).status == 200
        sock.sendall(head(*UPLOAD, f"content-length: {len(archive)}"))
        later = read_response(sock)
        assert (later.status, later.error_code) == (413, "RESOURCE_EXHAUSTED")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_archives_have_a_limit_of_their_own(
    start_server: StartServer, archive: bytes, protocol: str
) -> None:
    server = start_server(env={"PROXIMADB_LIMITS__ARCHIVE_BYTES": "1MiB"})
    large = archive + bytes((2 << 20) - len(archive))
    url = f"{server.url}/v1/snapshots/t/archive"
    status, body = upload(protocol, url, large)
    if status != 0:
        assert status == 413
        assert "limits.archive_bytes" in body["error"]["message"]
    with RestClient(server) as client:
        assert client.info()["limits"]["archive_bytes"] == 1 << 20
        assert snapshots(client) == []


# ---- what is no archive ----


def nothing_is_left(server: Server) -> None:
    eventually("nothing is left of it", lambda: staged(server) == ["s"])


def bad_path() -> str:
    """Another name each time: that of a refused upload is free when its files are gone."""
    return f"/v1/snapshots/bad{next(numbers)}"


def refused(server: Server, data: bytes, code: str) -> None:
    with RestClient(server) as rest:
        for protocol in PROTOCOLS:
            path = bad_path()
            status, body = upload(protocol, f"{server.url}{path}/archive", data)
            assert status == 0 or (status >= 400 and body["error"]["code"] == code), body
            assert rest.request("GET", path).status == 404
            assert snapshots(rest) == ["s"]
    nothing_is_left(server)


@pytest.mark.parametrize("keep", [0, 1, 511, 512, 1000, 0.5, -1024])
def test_a_cut_archive_is_refused(refusing: Server, good: bytes, keep: float) -> None:
    size = int(len(good) * keep) if 0 < keep < 1 else int(keep)
    if size < 0:  # without its last member's end
        size = good.rstrip(b"\0").__len__() - 1
    refused(refusing, good[:size], "INVALID_ARGUMENT")


def test_an_archive_with_a_flipped_bit_is_refused(refusing: Server, good: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(good)) as tar:
        members = [(m.name, m.offset_data + m.size // 2) for m in tar if m.isfile()]
    assert len(members) >= 3
    for name, at in members:
        url = f"{refusing.url}{bad_path()}/archive"
        damaged = bytearray(good)
        damaged[at] ^= 4
        status, body = upload("--http1.1", url, bytes(damaged))
        assert status == 500, name
        assert body["error"]["code"] == "DATA_LOSS", name
        with RestClient(refusing) as rest:
            assert snapshots(rest) == ["s"]
    nothing_is_left(refusing)


@pytest.mark.parametrize(
    "name",
    ["../evil", "/tmp/evil", "..", "SNAPSHOT/../../evil", "a/b/c/d", "snapshots/../../../evil"],
)
def test_names_that_lead_out_of_the_snapshot_are_refused(
    refusing: Server, good: bytes, name: str
) -> None:
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(good)) as tar,
        tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as made,
    ):
        for member in tar:
            made.addfile(member, tar.extractfile(member) if member.isfile() else None)
        evil = tarfile.TarInfo(name)
        evil.size = 4
        made.addfile(evil, io.BytesIO(b"evil"))
    refused(refusing, out.getvalue(), "INVALID_ARGUMENT")
    assert not list(refusing.folder.rglob("evil"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_in_an_archive_are_refused(refusing: Server, good: bytes, kind: bytes) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as made:
        link = tarfile.TarInfo("SNAPSHOT")
        link.type = kind
        link.linkname = "/etc/passwd"
        made.addfile(link)
    refused(refusing, out.getvalue() + good, "INVALID_ARGUMENT")


def test_what_is_no_tar_is_refused(refusing: Server) -> None:
    refused(refusing, b"no tar" * 10_000, "INVALID_ARGUMENT")


# ---- requests that are refused ----


def test_an_upload_must_say_what_it_is(refusing: Server, good: bytes) -> None:
    path = "/v1/snapshots/t/archive"
    with RestClient(refusing) as rest:
        for headers in (
            {},
            {"content-type": "application/json"},
            {"content-type": "application/tar"},
        ):
            answer = rest.request("PUT", path, good[:10], headers)
            assert answer.status == 415
            assert "application/x-tar" in answer.error_message
        compressed = TAR | {"content-encoding": "gzip"}
        assert rest.request("PUT", path, b"x", compressed).status == 415
    nothing_is_left(refusing)


@pytest.mark.parametrize("name", ["..", "%2e%2e", "a%2fb", ".x", "%00"])
def test_an_upload_under_a_name_that_is_none_is_refused(
    refusing: Server, good: bytes, name: str
) -> None:
    request = head("PUT", f"/v1/snapshots/{name}/archive", "content-type: application/x-tar",
                   f"content-length: {len(good)}")  # fmt: skip
    answer = raw(refusing, request + good[:1000])
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT")
    nothing_is_left(refusing)


def test_a_name_that_is_taken_is_refused_before_the_body(refusing: Server) -> None:
    request = head("PUT", "/v1/snapshots/s/archive", "content-type: application/x-tar",
                   "content-length: 100000000", "expect: 100-continue")  # fmt: skip
    answer = raw(refusing, request)
    assert (answer.status, answer.error_code) == (409, "ALREADY_EXISTS")
    assert answer.header("connection") == "close"


def test_who_expects_the_word_gets_it(source: Server, archive: bytes) -> None:
    request = head("PUT", "/v1/snapshots/t/archive", "content-type: application/x-tar",
                   f"content-length: {len(archive)}", "Expect: 100-continue")  # fmt: skip
    with connect(source) as sock:
        sock.sendall(request)
        word = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert sock.recv(len(word), socket.MSG_WAITALL) == word
        sock.sendall(archive)
        assert read_response(sock).status == 201
        assert sock.recv(1) == b"", "the connection ends with the answer"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("content-length: 5", "content-length: 5"), 400),
        (("content-length: 5", "transfer-encoding: chunked"), 400),
        (("transfer-encoding: gzip",), 501),
        (("transfer-encoding: gzip, chunked",), 501),
        (("content-length: -5",), 400),
        (("content-length: 5x",), 400),
        (("content-length: ",), 400),
        (("content-length: 99999999999999999999",), 400),
        (("content-length: 999999999999999999",), 413),
        (("content-length: 5", "expect: a miracle"), 417),
        (("content-length : 5",), 400),
        (("content-length: 5", " folded: line"), 400),
        (("content-length: 5", *(f"x-{i}: 1" for i in range(100))), 431),
        (("content-length: 5", "x-request-timeout: soon"), 400),
    ],
)
def test_heads_that_smugglers_use_are_refused(
    refusing: Server, lines: tuple[str, ...], status: int
) -> None:
    answer = raw(refusing, head(*UPLOAD, *lines) + b"hello")
    assert answer.status == status, answer.body
    assert answer.header("x-request-id")
    nothing_is_left(refusing)


def test_another_host_may_not_upload(refusing: Server) -> None:
    answer = raw(refusing, head(*UPLOAD, "content-length: 5", host="evil.example") + b"hello")
    assert (answer.status, answer.error_code) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    "chunks",
    [
        b"xyz\r\n",
        b"\r\n",
        b"-1\r\n",
        b"5\r\nhelloXX5\r\n",
        b"1000000000000000\r\n",
        b"5" + b";" * 2000 + b"\r\n",
        b"0" * 2000,
    ],
)
def test_chunks_that_are_none_are_refused(refusing: Server, chunks: bytes) -> None:
    upload_head = head("PUT", f"{bad_path()}/archive", UPLOAD[2], "transfer-encoding: chunked")
    answer = raw(refusing, upload_head + chunks)
    assert answer.status == 400
    assert answer.error_code == "INVALID_ARGUMENT"
    nothing_is_left(refusing)


@pytest.mark.parametrize("size", [1, 7, 512, 100_000])
def test_chunks_of_any_size_are_put_together(source: Server, archive: bytes, size: int) -> None:
    body = archive if size > 100 else archive[:2048]
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    chunked = b"".join(b"%X;note=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    sent = head(*UPLOAD, "transfer-encoding: chunked") + chunked + b"0\r\nx-trailer: 1\r\n\r\n"
    answer = raw(source, sent)
    if size > 100:
        assert answer.status == 201, answer.body
    else:
        assert "too early" in answer.error_message


def test_a_head_in_single_bytes_is_understood(source: Server, archive: bytes) -> None:
    with connect(source) as sock:
        for byte in head(*UPLOAD, f"content-length: {len(archive)}"):
            sock.sendall(bytes([byte]))
        sock.sendall(archive)
        assert read_response(sock).status == 201


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_requests_that_only_look_like_uploads_are_served(source: Server, method: str) -> None:
    """They are looked at first, and then h2o's, whole."""
    answer = raw(source, head(method, "/v1/snapshots/t/nothing", "content-length: 2") + b"{}")
    assert answer.status == 404
    with connect(source) as sock:
        for _ in range(2):
            sock.sendall(head("PUT", "/v1/snapshots/t", "content-length: 2") + b"{}")
            assert read_response(sock).status == 405


# ---- clients that leave ----


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_upload_that_is_broken_off_leaves_nothing(
    source: Server, rest: RestClient, archive: bytes, protocol: str
) -> None:
    command = ["curl", "--silent", protocol, "--limit-rate", "100k", "--upload-file", "-"]
    command += ["--header", "content-type: application/x-tar"]
    command += [f"{source.url}/v1/snapshots/t/archive"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as client:
        assert client.stdin is not None
        client.stdin.write(archive[:60_000])
        client.stdin.flush()
        eventually("the server writes it", lambda: len(staged(source)) > 1)
        client.kill()
    eventually("nothing is left of it", lambda: staged(source) == ["s"])
    assert snapshots(rest) == ["s"]
    url = f"{source.url}/v1/snapshots/t/archive"
    eventually("the name is free", lambda: upload(protocol, url, archive)[0] == 201)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_download_that_is_broken_off_lets_go_of_the_snapshot(
    source: Server, rest: RestClient, protocol: str
) -> None:
    rest.upsert("a", [row(i) for i in range(ROWS, 3 * ROWS)])
    rest.upsert("a", [row(i) for i in range(3 * ROWS, 6 * ROWS)])
    rest.call("POST", "/v1/snapshots", {"name": "large"})
    command = ["curl", "--silent", protocol, "--limit-rate", "10k"]
    command += [f"{source.url}/v1/snapshots/large/archive"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.read(1000)
        client.kill()
    path = "/v1/snapshots/large"
    eventually("the reader is gone", lambda: rest.request("DELETE", path).status != 412)
    eventually("its files are gone", lambda: staged(source) == ["s"])
    assert search(rest, "a")["results"]


def test_a_stop_in_the_middle_of_streams_ends_in_order(source: Server, archive: bytes) -> None:
    with connect(source) as sending, connect(source) as reading:
        sending.sendall(head(*UPLOAD, f"content-length: {len(archive)}") + archive[:50_000])
        eventually("the server writes it", lambda: len(staged(source)) > 1)
        reading.sendall(head("GET", "/v1/snapshots/s/archive"))
        assert reading.recv(1000)
        source.kill()
    source.start()
    with RestClient(source) as client:
        assert snapshots(client) == ["s"]
        assert staged(source) == ["s"]
        assert download(client) == archive
