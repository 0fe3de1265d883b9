"""Starting, stopping, restarting, refusing to start, and running out of memory."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http.h2 import GOAWAY, h2
from tests.http.wire import closed_by_peer, connect, eventually, head, read_response
from tests.lib.rest import Json, Response, RestClient
from tests.lib.server import (
    LIMIT_S,
    Server,
    ServerFactory,
    ServerFailed,
    ServerOptions,
    StartServer,
    binary,
)

JSON_TYPE = "Content-Type: application/json"


def proximadb(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(binary()), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
        env={"PATH": "/usr/bin:/bin"} | env,
    )


# ---- restarts ----


def contents(rest: RestClient, names: list[str]) -> Json:
    """Everything that a restart must keep."""
    kept = ["name", "uuid", "fields", "columns", "sync", "ttl_s", "description", "created_at"]
    kept += ["storage"]
    collections = rest.list_collections()["collections"]
    records = {
        name: rest.scroll(name, limit=10000, include=["metadata", "vectors", "times"])["records"]
        for name in names
    }
    return {"collections": [{k: c[k] for k in kept} for c in collections], "records": records}


@pytest.mark.parametrize("encoding", ["binary", "avro"])
@pytest.mark.parametrize("engine", ["uring", "threads"])
def test_another_number_of_cores_keeps_everything(
    server_factory: ServerFactory, engine: str, encoding: str
) -> None:
    env = {"PROXIMADB_WAL__ENCODING": encoding}
    names = [f"c{i}" for i in range(6)]
    folder: Path | None = None
    expected: Json = {}
    version = 0
    for turn, cores in enumerate((1, 2, 4, 1, 3)):
        options = ServerOptions(cores=cores, io_engine=engine, env=env)
        server = server_factory.make(options)
        if folder is not None:
            server.data_dir = folder
        folder = server.data_dir
        server.start()
        with RestClient(server) as rest:
            if turn == 0:
                for i, name in enumerate(names):
                    sync = ("always", "batch", "periodic", "never")[i % 4]
                    rest.create_collection(name, 3, "dot", sync=sync, description=name)
            else:
                assert contents(rest, names) == expected
                assert rest.info()["recovery"]["clean"] is True
            for name in names:
                batch = [
                    {"id": f"{turn}-{i}", "vector": [turn, i, 0.5], "metadata": {"turn": turn}}
                    for i in range(20)
                ]
                told = rest.upsert(name, batch)["versions"][0]
                rest.delete(name, ids=[f"{turn}-0"])
                version = max(version, told)
            owners = {c["owner_core"] for c in rest.list_collections()["collections"]}
            assert owners <= set(range(cores))
            expected = contents(rest, names)
        if turn % 2 == 0:
            assert server.stop() == 0
        else:
            assert server.signal(signal.SIGINT) == 0
    assert proximadb("check", "--data-dir", str(folder)).returncode == 0


def test_versions_go_on_after_a_restart(start_server: StartServer) -> None:
    server = start_server()
    last = 0
    for _ in range(3):
        with RestClient(server) as rest:
            if last == 0:
                rest.create_collection("c", 1)
            told = rest.upsert("c", [{"id": "a", "vector": [1]}])["versions"][0]
            assert told > last
            last = told
        server.restart()


def test_a_dropped_collection_stays_dropped(start_server: StartServer) -> None:
    server = start_server(cores=2)
    with RestClient(server) as rest:
        for name in ("a", "b"):
            rest.create_collection(name, 1)
            rest.upsert(name, [{"id": "x", "vector": [1]}])
        rest.delete_collection("a")
    server.crash()
    with RestClient(server) as rest:
        assert [c["name"] for c in rest.list_collections()["collections"]] == ["b"]
        rest.create_collection("a", 2)
        assert rest.count("a") == 0


# ---- stopping ----


def begin_write(sock: socket.socket, body_bytes: int) -> None:
    """Sends the head of a write, and returns when the server has certainly read it."""
    length = f"Content-Length: {body_bytes}"
    sock.sendall(
        head("PUT", "/v1/collections/c/vectors", JSON_TYPE, length, "Expect: 100-continue")
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += sock.recv(1)
    assert answer.startswith(b"HTTP/1.1 100 ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_at_once(start_server: StartServer, number: signal.Signals) -> None:
    server = start_server(cores=2)
    port = server.rest_port
    with connect(server) as idle, h2(server) as session:
        idle.sendall(head("GET", "/livez"))
        assert read_response(idle).status == 200
        assert session.request("GET", "/livez").status == 200
        assert server.signal(number) == 0
        assert closed_by_peer(idle)
        assert any(f.kind == GOAWAY and f.error == 0 for f in session.frames())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, port), timeout=LIMIT_S)
    assert "stopped" in server.log


def test_requests_in_flight_are_finished(start_server: StartServer) -> None:
    """The signal comes while a body is still on its way: the request is read, done and answered."""
    server = start_server(cores=2)
    with RestClient(server) as rest:
        rest.create_collection("c", 2, "dot")
    body = json.dumps({"vectors": [{"id": "late", "vector": [1, 2]}]}).encode()
    with connect(server) as sock:
        begin_write(sock, len(body))
        sock.sendall(body[:10])
        stopped: list[int] = []
        stopper = threading.Thread(target=lambda: stopped.append(server.stop()))
        stopper.start()
        eventually("the stop has begun", lambda: "stopping on signal" in server.log)
        sock.sendall(body[10:])
        answer = read_response(sock)
        assert answer.status == 200, answer.body
        stopper.join()
    assert stopped == [0]
    server.start()
    with RestClient(server) as rest:
        assert rest.get_one("c", "late")["vector"] == [1, 2]


def test_a_request_that_never_ends_is_given_up(start_server: StartServer) -> None:
    server = start_server(env={"PROXIMADB_SERVER__SHUTDOWN_TIMEOUT_S": "1"})
    with connect(server) as sock:
        begin_write(sock, 5)
        status = server.stop()
        assert status != 0
        assert closed_by_peer(sock)
    assert "forced" in server.log
    server.start()


def test_a_second_signal_ends_the_wait(start_server: StartServer) -> None:
    server = start_server()
    with connect(server) as sock:
        begin_write(sock, 5)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        eventually("the stop has begun", lambda: "stopping on signal" in server.log)
        assert server.signal(signal.SIGTERM) != 0
        stopper.join()
    server.start()


def listens(server: Server) -> bool:
    try:
        socket.create_connection((server.host, server.rest_port), timeout=LIMIT_S).close()
    except OSError:
        return False
    return True


def test_nobody_new_is_let_in_while_stopping(start_server: StartServer) -> None:
    server = start_server()
    with connect(server) as slow:
        begin_write(slow, 2)
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        eventually("the stop has begun", lambda: "stopping on signal" in server.log)
        eventually("the listener is closed", lambda: not listens(server))
        slow.sendall(b"{}")
        assert read_response(slow).status in (400, 404)
        stopper.join()


# ---- before the doors open ----


@contextlib.contextmanager
def recovering(server: Server, port: int) -> Iterator[None]:
    """A process on this server's data that waits for its catalog, which has become a pipe."""
    current = server.data_dir / "catalog" / "CURRENT"
    content = current.read_bytes()
    current.unlink()
    os.mkfifo(current)
    command = [str(binary()), "serve", "--data-dir", str(server.data_dir), "--cores=2"]
    process = subprocess.Popen(
        [*command, f"--listen=127.0.0.1:{port}"],
        env={"PATH": "/usr/bin:/bin", "PROXIMADB_IO__ENGINE": "threads"},
        cwd=server.folder,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()
        current.unlink()
        current.write_bytes(content)


def quiet_port() -> int:
    """A free port below those that the kernel hands out, so that nobody gets it meanwhile."""
    for port in random.SystemRandom().sample(range(20000, 32000), 100):
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def test_probes_are_answered_before_the_data_is_there(start_server: StartServer) -> None:
    server = start_server()
    port = quiet_port()
    with RestClient(server) as rest:
        rest.create_collection("c", 1)
    assert server.stop() == 0
    server.ports = [port]
    statuses: list[int] = []

    def answered() -> bool:
        with contextlib.suppress(ConnectionRefusedError), RestClient(server) as rest:
            statuses.append(rest.request("GET", "/livez").status)
        return bool(statuses)

    with recovering(server, port):
        eventually("an answer", answered)
        assert statuses == [200]
        with RestClient(server) as rest:
            ready = rest.request("GET", "/readyz")
        assert (ready.status, ready.header("retry-after")) == (503, "1")
        assert ready.json() == {"ready": False, "reasons": ["the server is starting"]}
        with RestClient(server) as rest:
            health = rest.request("GET", "/health").json()
        assert (health["status"], health["live"], health["ready"]) == ("unavailable", True, False)
        with RestClient(server) as rest:
            body = {"name": "d", "dimension": 1, "metric": "dot"}
            refused = rest.request("POST", "/v1/collections", body)
        assert (refused.status, refused.error_code) == (503, "UNAVAILABLE")
        assert refused.header("x-request-id")
    server.start()
    with RestClient(server) as rest:
        assert rest.call("GET", "/readyz") == {"ready": True, "reasons": []}
        assert [c["name"] for c in rest.list_collections()["collections"]] == ["c"]


# ---- refusing to start ----


def test_a_second_server_on_the_same_data_is_refused(server_factory: ServerFactory) -> None:
    first = server_factory.make(ServerOptions()).start()
    second = server_factory.make(ServerOptions())
    second.data_dir = first.data_dir
    with pytest.raises(ServerFailed, match="in use by another process"):
        second.start()
    check = proximadb("check", "--data-dir", str(first.data_dir))
    assert check.returncode == 1
    assert "in use" in check.stderr
    with RestClient(first) as rest:
        rest.create_collection("still-there", 1)


def test_a_port_in_use_is_refused_before_anything_is_made(
    start_server: StartServer, tmp_path: Path
) -> None:
    first = start_server()
    for port in (first.rest_port, first.grpc_port):
        data = tmp_path / "never-made"
        done = proximadb("serve", "--data-dir", str(data), "--listen", f"127.0.0.1:{port}")
        assert done.returncode not in (0, 2)
        assert f"127.0.0.1 port {port}: Address already in use" in done.stderr
        assert not data.exists()


def test_a_data_directory_without_parent_is_refused(tmp_path: Path) -> None:
    done = proximadb("serve", "--data-dir", str(tmp_path / "a" / "b"), "--listen", "127.0.0.1:0")
    assert done.returncode not in (0, 2)
    assert "cannot be made" in done.stderr


def test_a_file_as_data_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("", encoding="utf-8")
    done = proximadb("serve", "--data-dir", str(path), "--listen", "127.0.0.1:0")
    assert done.returncode not in (0, 2)
    assert "not a directory" in done.stderr


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        ("[server]\nlisen = []\n", "2:1", "did you mean 'server.listen'?"),
        ('[server]\ncores = "two"\n', "2:9", "server.cores: expected an integer"),
        ("[server]\ncores = 100000\n", "2:9", "server.cores"),
        ('[wal]\nencoding = "xml"\n', "2:12", "binary"),
        ("[nothing]\na = 1\n", "1:", "nothing"),
        ("[server\n", "1:8", "expected ']'"),
        ("a = \n", "1:5", ""),
        ('[wal]\nsegment_bytes = "1000KiB"\n', "2:", "multiple of 1 MiB"),
        ('[tls]\ncert = "/x.pem"\n', "", "tls.key"),
    ],
)
def test_a_mistake_in_the_file_stops_the_start(
    tmp_path: Path, text: str, where: str, says: str
) -> None:
    path = tmp_path / "proximadb.toml"
    path.write_text(text, encoding="utf-8")
    done = proximadb("serve", "--config", str(path), "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 2
    assert f"{path}:{where}" in done.stderr if where else str(path) in done.stderr or says
    assert says in done.stderr
    assert not (tmp_path / "data").exists()


def test_mistakes_of_environment_and_flags_stop_the_start() -> None:
    done = proximadb("serve", PROXIMADB_REACTOR__PIN="yes")
    assert (done.returncode, "PROXIMADB_REACTOR__PIN" in done.stderr) == (2, True)
    done = proximadb("serve", "--cores", "many")
    assert (done.returncode, "--cores" in done.stderr) == (2, True)
    done = proximadb("serve", "--core", "1")
    assert (done.returncode, "--core" in done.stderr) == (2, True)
    done = proximadb("serve", PROXIMADB_SERVER__CORS="x")
    assert (done.returncode, "PROXIMADB_SERVER__CORS" in done.stderr) == (2, True)


def test_an_address_that_others_can_reach_needs_tls_or_a_word(tmp_path: Path) -> None:
    done = proximadb("serve", "--listen", "*:0", "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 2
    assert "server.insecure" in done.stderr


def test_a_certificate_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    arguments = ("serve", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"))
    done = proximadb(*arguments, PROXIMADB_TLS__CERT="/no.pem", PROXIMADB_TLS__KEY="/no.key")
    assert done.returncode not in (0,)
    assert "/no.pem" in done.stderr


# ---- other commands ----


def test_the_printed_configuration_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[server]\ncores = 3\n[wal]\nencoding = "avro"\n', encoding="utf-8")
    done = proximadb(
        *("serve", "--print-config", "--config", str(path), "--listen", "127.0.0.1:1"),
        PROXIMADB_LIMITS__K="5",
    )
    assert done.returncode == 0
    config = tomllib.loads(done.stdout)
    assert config["server"]["cores"] == 3
    assert config["server"]["listen"] == ["127.0.0.1:1"]
    assert config["limits"]["k"] == 5
    assert re.search(rf"cores = 3 +# file {re.escape(str(path))}:2$", done.stdout, re.MULTILINE)
    assert re.search(r"^listen = .*# flag --listen$", done.stdout, re.MULTILINE)
    assert re.search(r"^k = 5 .*# environment PROXIMADB_LIMITS__K$", done.stdout, re.MULTILINE)
    assert re.search(r"^pin = true .*# default$", done.stdout, re.MULTILINE)
    path.write_text(done.stdout, encoding="utf-8")
    again = proximadb("serve", "--print-config", "--config", str(path))
    assert tomllib.loads(again.stdout) == config


def test_version_and_usage() -> None:
    assert re.fullmatch(r"proximadb \d+\.\d+\.\d+\n", proximadb("version").stdout)
    assert proximadb().returncode == 2
    assert proximadb("no-such-command").returncode == 2
    assert proximadb("help").returncode == 0
    assert proximadb("check").returncode == 2


def test_check_finds_damage(start_server: StartServer) -> None:
    server = start_server()
    with RestClient(server) as rest:
        rest.create_collection("c", 64, "dot")
        for i in range(20):
            rest.upsert("c", [{"id": str(i), "vector": [1] * 64}])
    assert server.stop() == 0
    assert proximadb("check", "--data-dir", str(server.data_dir)).returncode == 0
    segment = next(
        path
        for path in sorted((server.data_dir / "wal").rglob("*.wal"))
        if b"\x00\x00\x80\x3f" * 64 in path.read_bytes()
    )
    bytes_of = bytearray(segment.read_bytes())
    bytes_of[bytes_of.index(b"\x00\x00\x80\x3f" * 64) + 5] ^= 1
    segment.write_bytes(bytes_of)
    done = proximadb("check", "--data-dir", str(server.data_dir))
    assert done.returncode == 2
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    damage = [finding for finding in findings if finding["severity"] == "damage"]
    assert any(str(segment) in finding["file"] for finding in damage)
    with pytest.raises(ServerFailed, match=re.escape(segment.name)):
        server.start()
    assert proximadb("check", "--data-dir", "/no/such/directory").returncode == 1


# ---- memory ----

WIDE = 8192  # 32 KiB a row


def test_past_the_memory_limit_writes_are_refused_and_reads_go_on(
    start_server: StartServer,
) -> None:
    server = start_server(cores=2, env={"PROXIMADB_STORAGE__MEMORY_LIMIT": "64MiB"})
    with RestClient(server) as rest:
        rest.create_collection("c", WIDE, "dot", sync="never")
        batch = 0

        def put() -> Response:
            records = [{"id": f"{batch}-{i}", "vector": [1] * WIDE} for i in range(100)]
            return rest.request("PUT", "/v1/collections/c/vectors", {"vectors": records})

        # A flush, a merge or the making of an index holds memory until it is done: who waits gets
        # a quarter of the limit in rows in, at whatever pace those are.
        while batch * 100 * WIDE * 4 <= 16 << 20:
            eventually("a write is taken", lambda: put().status == 200)
            batch += 1
        while (answer := put()).status == 200:
            batch += 1
            assert batch < 100, "the limit never came"
        assert (answer.status, answer.error_code) == (429, "RESOURCE_EXHAUSTED")
        assert "storage.memory_limit" in answer.error_message
        assert answer.header("retry-after")
        assert rest.count("c") == batch * 100
        assert len(rest.search("c", vector=[1] * WIDE, k=5)["results"]) == 5
        assert rest.get_one("c", "0-0")["id"] == "0-0"
        assert rest.call("GET", "/readyz")["ready"] is True
        # deletes are the way out
        ids = [f"{b}-{i}" for b in range(batch // 2) for i in range(100)]
        assert rest.delete("c", ids=ids)["deleted"] == len(ids)

        def accepted() -> bool:
            record = {"id": "again", "vector": [1] * WIDE}
            body: Json = {"vectors": [record]}
            return rest.request("PUT", "/v1/collections/c/vectors", body).status == 200

        eventually("deleted rows give their memory back", accepted)
    server.restart()
    with RestClient(server) as rest:
        assert rest.count("c") == batch * 100 - len(ids) + 1


def test_a_full_disk_is_told_before_it_is_full(start_server: StartServer) -> None:
    """disk.min_free_bytes larger than any disk: writes are refused, reads and deletes work."""
    server = start_server()
    with RestClient(server) as rest:
        rest.create_collection("c", 1)
        rest.upsert("c", [{"id": "a", "vector": [1]}, {"id": "b", "vector": [1]}])
    assert server.stop() == 0
    options = ServerOptions(env={"PROXIMADB_DISK__MIN_FREE_BYTES": "100000TiB"})
    full = Server(server.folder, options)
    full.start()
    try:
        with RestClient(full) as rest:

            def refused() -> bool:
                body: Json = {"vectors": [{"id": "c", "vector": [1]}]}
                answer = rest.request("PUT", "/v1/collections/c/vectors", body)
                if answer.status == 200:
                    return False
                assert (answer.status, answer.error_code) == (507, "RESOURCE_EXHAUSTED")
                return True

            eventually("writes are refused", refused)
            assert rest.get_one("c", "a")["id"] == "a"
            assert len(rest.search("c", vector=[1])["results"]) >= 2
            assert rest.delete_one("c", "b")["deleted"] == 1
            eventually("not ready", lambda: rest.request("GET", "/readyz").status == 503)
            assert rest.request("GET", "/livez").status == 200
    finally:
        assert full.stop() == 0
