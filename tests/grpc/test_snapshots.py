"""Snapshots over gRPC: the calls and the two streams."""

import io
import tarfile
from collections.abc import Iterator

import grpc
import pytest
from proximadb.v1 import proximadb_pb2 as pb
from proximadb.v1 import proximadb_pb2_grpc as rpc

from tests.grpc.client import open_client, refused
from tests.http.wire import eventually
from tests.lib.rest import RestClient
from tests.lib.server import Server, StartServer

ROWS = 2000
DIMENSION = 64
MESSAGE_BYTES_MAX = 4 << 20  # what clients accept unless told otherwise


@pytest.fixture
def source(start_server: StartServer) -> Server:
    return start_server(cores=2)


@pytest.fixture
def client(source: Server) -> Iterator[rpc.ProximaDBStub]:
    with open_client(source) as stub:
        stub.CreateCollection(
            pb.CreateCollectionRequest(name="a", dimension=DIMENSION, metric=pb.METRIC_EUCLIDEAN)
        )
        records = [
            pb.Record(id=f"r{i:05}", vector=[(i * 7 + d * 31) % 101 for d in range(DIMENSION)])
            for i in range(ROWS)
        ]
        stub.Upsert(pb.WriteRequest(collection="a", records=records))
        yield stub


def search(stub: rpc.ProximaDBStub, name: str) -> list[tuple[str, float]]:
    request = pb.SearchRequest(collection=name, query=pb.SearchQuery(vector=[50] * DIMENSION, k=20))
    return [(hit.id, hit.score) for hit in stub.Search(request).results]


def take(stub: rpc.ProximaDBStub, name: str = "s", collection: str = "") -> pb.Snapshot:
    return stub.CreateSnapshot(pb.CreateSnapshotRequest(name=name, collection=collection)).snapshot


def download(stub: rpc.ProximaDBStub, name: str = "s") -> bytes:
    messages = list(stub.DownloadSnapshot(pb.DownloadSnapshotRequest(snapshot=name)))
    archive = b"".join(message.data for message in messages)
    assert [m.total_bytes for m in messages] == [len(archive)] + [0] * (len(messages) - 1)
    assert all(len(message.data) < MESSAGE_BYTES_MAX for message in messages)
    return archive


def pieces(name: str, archive: bytes, size: int) -> Iterator[pb.UploadSnapshotRequest]:
    yield pb.UploadSnapshotRequest(snapshot=name, data=archive[:size])
    for at in range(size, len(archive), size):
        yield pb.UploadSnapshotRequest(data=archive[at : at + size])


def staged(server: Server) -> list[str]:
    return sorted(path.name for path in (server.data_dir / "snapshots").iterdir())


# ---- calls ----


def test_both_doors_tell_the_same(client: rpc.ProximaDBStub, source: Server) -> None:
    taken = take(client)
    (part,) = taken.collections
    assert (part.name, part.record_count) == ("a", ROWS)
    assert client.GetSnapshot(pb.GetSnapshotRequest(snapshot="s")).snapshot == taken
    with RestClient(source) as rest:
        told = rest.call("GET", "/v1/snapshots/s")
    assert told["created_at"] == taken.created_at
    assert told["bytes"] == taken.bytes
    assert told["collections"][0]["version"] == part.version
    assert told["collections"][0]["uuid"] == part.uuid
    assert told["collections"][0]["bytes"] == part.bytes


def test_snapshots_are_listed_in_pages_and_deleted(client: rpc.ProximaDBStub) -> None:
    for name in ("b", "a", "c"):
        take(client, name)
    first = client.ListSnapshots(pb.ListSnapshotsRequest(limit=2))
    assert [s.name for s in first.snapshots] == ["a", "b"]
    rest = client.ListSnapshots(pb.ListSnapshotsRequest(limit=2, cursor=first.next_cursor))
    assert [s.name for s in rest.snapshots] == ["c"]
    assert rest.next_cursor == ""
    assert client.DeleteSnapshot(pb.DeleteSnapshotRequest(snapshot="b")).deleted
    left = client.ListSnapshots(pb.ListSnapshotsRequest())
    assert [s.name for s in left.snapshots] == ["a", "c"]


def test_a_restored_collection_answers_as_the_old_one_did(client: rpc.ProximaDBStub) -> None:
    before = search(client, "a")
    take(client)
    client.Delete(pb.DeleteRequest(collection="a", ids=[before[0][0]]))
    request = pb.RestoreSnapshotRequest(snapshot="s", target="b")
    assert client.RestoreSnapshot(request).collection.record_count == ROWS
    assert search(client, "b") == before
    assert search(client, "a") != before
    client.RestoreSnapshot(pb.RestoreSnapshotRequest(snapshot="s", replace=True))
    assert search(client, "a") == before


def test_errors_have_their_codes(client: rpc.ProximaDBStub) -> None:
    take(client)
    with refused(grpc.StatusCode.ALREADY_EXISTS, "'s'"):
        take(client)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "name"):
        take(client, "../s")
    with refused(grpc.StatusCode.NOT_FOUND, "'none'"):
        take(client, "t", "none")
    with refused(grpc.StatusCode.NOT_FOUND, "'t'"):
        client.GetSnapshot(pb.GetSnapshotRequest(snapshot="t"))
    with refused(grpc.StatusCode.NOT_FOUND, "'t'"):
        client.DeleteSnapshot(pb.DeleteSnapshotRequest(snapshot="t"))
    with refused(grpc.StatusCode.ALREADY_EXISTS, "'a'"):
        client.RestoreSnapshot(pb.RestoreSnapshotRequest(snapshot="s"))
    with refused(grpc.StatusCode.NOT_FOUND, "'t'"):
        download(client, "t")


# ---- streams ----


@pytest.mark.parametrize("size", [100_000, 3 << 20])
def test_an_archive_goes_to_another_server(
    client: rpc.ProximaDBStub, start_server: StartServer, size: int
) -> None:
    taken = take(client)
    archive = download(client)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert "SNAPSHOT" in tar.getnames()
    with open_client(start_server()) as other:
        uploaded = other.UploadSnapshot(pieces("moved", archive, size)).snapshot
        assert uploaded.name == "moved"
        assert list(uploaded.collections) == list(taken.collections)
        other.RestoreSnapshot(pb.RestoreSnapshotRequest(snapshot="moved"))
        assert search(other, "a") == search(client, "a")


def test_both_doors_give_the_same_archive(client: rpc.ProximaDBStub, source: Server) -> None:
    take(client)
    with RestClient(source) as rest:
        assert rest.request("GET", "/v1/snapshots/s/archive").body == download(client)


def test_broken_uploads_are_refused_and_leave_nothing(
    client: rpc.ProximaDBStub, source: Server
) -> None:
    take(client)
    archive = download(client)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "first message"):
        client.UploadSnapshot(iter([pb.UploadSnapshotRequest(data=archive)]))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "first message"):
        client.UploadSnapshot(iter([]))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "only the first"):
        client.UploadSnapshot(iter([pb.UploadSnapshotRequest(snapshot="t")] * 2))
    # what a refused upload had begun is removed after the answer
    eventually("nothing is left of it", lambda: staged(source) == ["s"])
    with refused(grpc.StatusCode.ALREADY_EXISTS):
        client.UploadSnapshot(pieces("s", archive, 100_000))
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        client.UploadSnapshot(pieces("half", archive[: len(archive) // 2], 100_000))
    eventually("nothing is left of half of one", lambda: staged(source) == ["s"])
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        client.UploadSnapshot(pieces("../t", archive, 100_000))
    damaged = bytearray(archive)
    damaged[len(damaged) // 2] ^= 1
    with refused(grpc.StatusCode.DATA_LOSS):
        client.UploadSnapshot(pieces("damaged", bytes(damaged), 100_000))
    eventually("nothing is left of them", lambda: staged(source) == ["s"])


def test_an_upload_has_its_own_limit(start_server: StartServer) -> None:
    server = start_server(env={"PROXIMADB_LIMITS__ARCHIVE_BYTES": "1MiB"})
    with open_client(server) as stub, refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "archive_bytes"):
        # A member that is announced with 16 MiB.
        member = tarfile.TarInfo("SNAPSHOT")
        member.size = 16 << 20
        head = member.tobuf(tarfile.USTAR_FORMAT)
        stub.UploadSnapshot(pieces("t", head + bytes(member.size), 1 << 18))


def test_streams_that_are_cancelled_let_go(client: rpc.ProximaDBStub, source: Server) -> None:
    take(client)
    reading = client.DownloadSnapshot(pb.DownloadSnapshotRequest(snapshot="s"))
    assert next(reading).data
    reading.cancel()

    def deleted() -> bool:
        code = client.DeleteSnapshot.future(pb.DeleteSnapshotRequest(snapshot="s")).code()
        return bool(code == grpc.StatusCode.OK)

    eventually("the reader is gone", deleted)
    assert staged(source) == []
