"""Reading records as they were: as_of over both doors, before and after a restart."""

import grpc
import pytest
from proximadb.v1 import proximadb_pb2 as pb

from tests.grpc.client import open_client, refused
from tests.lib.rest import Json, RestClient, RestError
from tests.lib.server import Server, StartServer

RETAINED = {"version_retention_s": 3600}


def mark_of(record: Json) -> int:
    return int(record["metadata"]["mark"])


def write_history(rest: RestClient, name: str) -> list[int]:
    """Marks 1, 2, 3 for `a`, `b` with the second, `a` deleted at last; the version of each."""
    versions = []
    for mark in (1, 2, 3):
        batch = [{"id": "a", "vector": [mark], "metadata": {"mark": mark}}]
        if mark == 2:
            batch.append({"id": "b", "vector": [9], "metadata": {"mark": 9}})
        versions.append(int(rest.upsert(name, batch)["versions"][0]))
    rest.delete(name, ids=["a"])
    return [*versions, int(rest.get_collection(name)["version"])]


def assert_history(server: Server, name: str, versions: list[int]) -> None:
    with RestClient(server) as rest, open_client(server) as client:
        for mark, version in enumerate(versions[:3], start=1):
            one = rest.call("GET", f"/v1/collections/{name}/vectors/a?as_of={version}")
            assert (mark_of(one), one["vector"], one["version"]) == (mark, [mark], version)
            both = rest.get(name, ["a", "b"], as_of=version)
            assert [r["id"] for r in both["records"]] == (["a"] if mark == 1 else ["a", "b"])
            assert both["missing"] == (["b"] if mark == 1 else [])
            answer = client.Get(pb.GetRequest(collection=name, ids=["a", "b"], as_of=version))
            assert list(answer.records[0].vector) == [mark]
            assert list(answer.missing) == both["missing"]
        path = f"/v1/collections/{name}/vectors/a?as_of={versions[3]}"
        assert rest.request("GET", path).error_code == "NOT_FOUND"
        assert rest.get(name, ["a", "b"], as_of=versions[3])["missing"] == ["a"]
        assert rest.get(name, ["a", "b"], as_of=None)["missing"] == ["a"]


def test_every_retained_version_can_be_read(start_server: StartServer) -> None:
    server = start_server(cores=2)
    with RestClient(server) as rest:
        rest.create_collection("c", 1, "dot", storage=RETAINED)
        versions = write_history(rest, "c")
    assert_history(server, "c", versions)
    server.restart()
    assert_history(server, "c", versions)


def test_a_version_that_is_not_there_is_out_of_range(server: Server, collection_name: str) -> None:
    with RestClient(server) as rest, open_client(server) as client:
        rest.create_collection(collection_name, 1, "dot", storage=RETAINED)
        newest = write_history(rest, collection_name)[-1]
        path = f"/v1/collections/{collection_name}/vectors/b?as_of={newest + 1}"
        answer = rest.request("GET", path)
        assert (answer.status, answer.error_code) == (400, "OUT_OF_RANGE")
        assert f"newest version is {newest}" in answer.error_message
        with pytest.raises(RestError) as failure:
            rest.get(collection_name, ["b"], as_of=2**64 - 1)
        assert failure.value.code == "OUT_OF_RANGE"
        with refused(grpc.StatusCode.OUT_OF_RANGE, f"newest version is {newest}"):
            client.Get(pb.GetRequest(collection=collection_name, ids=["b"], as_of=newest + 1))


def test_without_retention_older_versions_are_refused(server: Server, collection_name: str) -> None:
    with RestClient(server) as rest:
        rest.create_collection(collection_name, 1, "dot")
        versions = write_history(rest, collection_name)
        with pytest.raises(RestError) as failure:
            rest.get(collection_name, ["a"], as_of=versions[0])
        assert failure.value.code == "OUT_OF_RANGE"
        assert f"oldest version that is still kept is {versions[-1]}" in str(failure.value)
        assert rest.get(collection_name, ["b"], as_of=versions[-1])["missing"] == []
