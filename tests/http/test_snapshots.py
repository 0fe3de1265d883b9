"""Snapshots over REST: taken, listed, described, deleted, restored. Archives: test_archives.py."""

import itertools
import re
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from tests.http.prometheus import Family, parse
from tests.http.wire import eventually
from tests.lib.rest import Json, RestClient
from tests.lib.server import Server, StartServer

NAME_MADE = re.compile(r"^\d{8}T\d{6}\.\d{6}Z$")


@pytest.fixture
def server(start_server: StartServer) -> Server:
    """A server of its own: what it lists is what the test has made."""
    return start_server(cores=2)


@pytest.fixture
def own(server: Server) -> RestClient:
    return RestClient(server)


def fill(rest: RestClient, name: str, count: int = 50) -> None:
    rest.create_collection(name, 4, "euclidean")
    rows = [
        {"id": f"r{i:03}", "vector": [i, i * 0.5, -i, 1], "metadata": {"n": i}}
        for i in range(count)
    ]
    rest.upsert(name, rows)


def take(rest: RestClient, **body: object) -> Json:
    answer = rest.request("POST", "/v1/snapshots", dict(body))
    assert answer.status == 201, answer.body
    return answer.json()


def names(page: Json) -> list[str]:
    return [snapshot["name"] for snapshot in page["snapshots"]]


# ---- taking ----


def test_a_snapshot_tells_what_is_in_it(own: RestClient) -> None:
    fill(own, "a", 50)
    fill(own, "b", 7)
    own.delete_one("a", "r003")
    taken = take(own, name="first")
    assert taken["name"] == "first"
    assert taken["scheduled"] is False
    parts = {part["name"]: part for part in taken["collections"]}
    assert set(parts) == {"a", "b"}
    assert parts["a"]["record_count"] == 49
    assert parts["b"]["record_count"] == 7
    for name, part in parts.items():
        live = own.get_collection(name)
        assert part["uuid"] == live["uuid"]
        assert part["version"] == live["version"]
    assert taken["bytes"] == sum(part["bytes"] for part in parts.values()) > 0
    assert own.call("GET", "/v1/snapshots/first") == taken


def test_a_snapshot_of_one_collection_has_only_that(own: RestClient) -> None:
    fill(own, "a")
    fill(own, "b")
    assert [part["name"] for part in take(own, collection="b")["collections"]] == ["b"]


def test_a_snapshot_without_a_name_is_called_after_its_time(own: RestClient) -> None:
    fill(own, "a")
    assert NAME_MADE.match(take(own)["name"])


def test_an_empty_collection_can_be_taken(own: RestClient) -> None:
    own.create_collection("empty", 3)
    (part,) = take(own)["collections"]
    assert part["record_count"] == 0


def test_taking_shares_the_files(own: RestClient, server: Server) -> None:
    fill(own, "a")
    taken = take(own, name="s")
    uuid = taken["collections"][0]["uuid"]
    live = {p.stat().st_ino for p in (server.data_dir / "collections" / uuid).glob("*.parquet")}
    kept = {p.stat().st_ino for p in (server.data_dir / "snapshots" / "s" / uuid).glob("*.parquet")}
    assert kept
    assert kept <= live


# ---- errors ----


def test_a_name_is_taken_once(own: RestClient) -> None:
    fill(own, "a")
    take(own, name="s")
    again = own.request("POST", "/v1/snapshots", {"name": "s"})
    assert (again.status, again.error_code) == (409, "ALREADY_EXISTS")
    assert "'s'" in again.error_message


@pytest.mark.parametrize(
    "name", ["../x", ".hidden", "a/b", "a b", "-x", "x" * 129, "é", "a\u0000b"]
)
def test_names_that_are_no_names_are_refused(own: RestClient, server: Server, name: str) -> None:
    answer = own.request("POST", "/v1/snapshots", {"name": name})
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT")
    assert answer.error_message.startswith("name")
    folder = server.data_dir / "snapshots"
    assert not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "..%2fcatalog", "%2e%2e%2f%2e%2e", "nothing", "%00"]
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_paths_that_name_no_snapshot_touch_nothing(
    own: RestClient, server: Server, method: str, name: str
) -> None:
    fill(own, "a")
    answer = own.request(method, "/v1/snapshots/" + name)
    assert answer.status in (400, 404), answer.body
    assert (server.data_dir / "catalog" / "CURRENT").exists()
    assert own.count("a") == 50


def test_a_collection_that_is_not_there_cannot_be_taken(own: RestClient) -> None:
    answer = own.request("POST", "/v1/snapshots", {"name": "s", "collection": "none"})
    assert (answer.status, answer.error_code) == (404, "NOT_FOUND")
    assert "'none'" in answer.error_message
    assert names(own.call("GET", "/v1/snapshots")) == []


def test_a_body_with_another_field_is_refused(own: RestClient) -> None:
    answer = own.request("POST", "/v1/snapshots", {"nmae": "s"})
    assert answer.error_code == "INVALID_ARGUMENT"
    assert "unknown field 'nmae'" in answer.error_message


# ---- lists ----


def test_lists_are_paged_by_name(own: RestClient) -> None:
    fill(own, "a")
    wanted = ["B", "_x", "a", "a.1", "b"]
    for name in reversed(wanted):
        take(own, name=name)
    whole = own.call("GET", "/v1/snapshots")
    assert names(whole) == wanted
    assert whole["next_cursor"] is None
    seen: list[str] = []
    path = "/v1/snapshots?limit=2"
    while True:
        page = own.call("GET", path)
        seen += names(page)
        assert len(page["snapshots"]) <= 2
        if page["next_cursor"] is None:
            break
        path = f"/v1/snapshots?limit=2&cursor={page['next_cursor']}"
    assert seen == wanted


def test_a_limit_that_is_no_number_is_refused(own: RestClient) -> None:
    answer = own.request("GET", "/v1/snapshots?limit=two")
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT")
    assert answer.error_message.startswith("limit")


# ---- deleting, and other lives ----


def test_a_deleted_snapshot_is_gone_with_its_files(own: RestClient, server: Server) -> None:
    fill(own, "a")
    take(own, name="s")
    take(own, name="t")
    assert own.call("DELETE", "/v1/snapshots/s") == {"deleted": True}
    assert own.request("GET", "/v1/snapshots/s").status == 404
    assert own.request("DELETE", "/v1/snapshots/s").status == 404
    assert names(own.call("GET", "/v1/snapshots")) == ["t"]
    assert [path.name for path in (server.data_dir / "snapshots").iterdir()] == ["t"]
    assert own.count("a") == 50


def test_snapshots_outlive_their_collection_and_the_server(own: RestClient, server: Server) -> None:
    fill(own, "a")
    taken = take(own, name="s")
    own.delete_collection("a")
    own.close()
    server.restart()
    with RestClient(server) as rest:
        assert rest.call("GET", "/v1/snapshots/s") == taken
    server.crash()
    with RestClient(server) as rest:
        assert rest.call("GET", "/v1/snapshots/s") == taken
    kept = Path(server.data_dir / "snapshots" / "s" / taken["collections"][0]["uuid"])
    assert list(kept.glob("*.parquet"))


# ---- restoring ----


def search(rest: RestClient, name: str) -> list[Json]:
    answer = rest.search(name, vector=[3, 1, -3, 1], k=20, include=["metadata", "vectors"])
    hits: list[Json] = answer["results"]
    return hits


def restore(rest: RestClient, snapshot: str, **body: object) -> Json:
    answer = rest.request("POST", f"/v1/snapshots/{snapshot}/restore", dict(body))
    assert answer.status == 201, answer.body
    return answer.json()


def test_a_restored_collection_answers_as_the_old_one_did(own: RestClient) -> None:
    fill(own, "a")
    own.delete_one("a", "r004")
    before = search(own, "a")
    take(own, name="s")
    own.upsert("a", [{"id": "later", "vector": [3, 1, -3, 1]}])
    own.delete("a", filter={"n": {"$lt": 10}})
    restored = restore(own, "s", target="b")
    assert restored["name"] == "b"
    assert restored["record_count"] == 49
    assert own.get_collection("b")["uuid"] == restored["uuid"] != own.get_collection("a")["uuid"]
    assert search(own, "b") == before
    assert own.request("GET", "/v1/collections/b/vectors/r004").status == 404
    assert search(own, "a") != before, "the live one has not changed"
    own.upsert("b", [{"id": "new", "vector": [1, 1, 1, 1]}])
    assert own.count("b") == 50


def test_a_collection_that_is_there_is_replaced_only_on_demand(own: RestClient) -> None:
    fill(own, "a")
    before = search(own, "a")
    take(own, name="s")
    own.delete("a", filter={"n": {"$lt": 40}})
    refused = own.request("POST", "/v1/snapshots/s/restore", {})
    assert (refused.status, refused.error_code) == (409, "ALREADY_EXISTS")
    assert own.count("a") == 10
    old = own.get_collection("a")["uuid"]
    restore(own, "s", replace=True)
    assert own.get_collection("a")["uuid"] != old
    assert search(own, "a") == before


def test_one_collection_of_many_must_be_named(own: RestClient) -> None:
    fill(own, "a", 5)
    fill(own, "b", 6)
    take(own, name="s")
    unnamed = own.request("POST", "/v1/snapshots/s/restore", {"target": "c"})
    assert (unnamed.status, unnamed.error_code) == (400, "INVALID_ARGUMENT")
    absent = own.request("POST", "/v1/snapshots/s/restore", {"collection": "c"})
    assert (absent.status, absent.error_code) == (404, "NOT_FOUND")
    nowhere = own.request("POST", "/v1/snapshots/t/restore", {"collection": "a"})
    assert (nowhere.status, nowhere.error_code) == (404, "NOT_FOUND")
    bad = own.request("POST", "/v1/snapshots/s/restore", {"collection": "a", "target": "../b"})
    assert (bad.status, bad.error_code) == (400, "INVALID_ARGUMENT")
    wrong = own.request("POST", "/v1/snapshots/s/restore", {"collection": "a", "replace": 1})
    assert (wrong.status, wrong.error_code) == (400, "INVALID_ARGUMENT")
    assert restore(own, "s", collection="b", target="c")["record_count"] == 6


def test_a_restored_collection_outlives_crash_and_snapshot(own: RestClient, server: Server) -> None:
    fill(own, "a")
    before = search(own, "a")
    take(own, name="s")
    restore(own, "s", target="b")
    own.call("DELETE", "/v1/snapshots/s")
    own.close()
    server.crash()
    with RestClient(server) as rest:
        assert search(rest, "b") == before


def test_a_damaged_snapshot_is_not_restored(own: RestClient, server: Server) -> None:
    fill(own, "a")
    uuid = take(own, name="s")["collections"][0]["uuid"]
    own.delete_collection("a")
    (parquet,) = (server.data_dir / "snapshots" / "s" / uuid).glob("*.parquet")
    damaged = bytearray(parquet.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    parquet.unlink()
    parquet.write_bytes(damaged)
    answer = own.request("POST", "/v1/snapshots/s/restore", {})
    assert (answer.status, answer.error_code) == (500, "DATA_LOSS")
    assert own.list_collections()["collections"] == []


# ---- under load ----


def longer(numbers: list[int], count: int) -> bool:
    return len(numbers) > count


def test_a_snapshot_under_writes_has_every_batch_whole(own: RestClient, server: Server) -> None:
    """Each batch gives all its rows one number: a snapshot that cut one would have two numbers."""
    rows = [f"r{i}" for i in range(200)]
    own.create_collection("a", 2, "dot")
    stop = threading.Event()
    written: list[int] = []

    def write() -> None:
        with RestClient(server) as rest:
            for number in itertools.count(1):
                batch = [
                    {"id": row, "vector": [number, i], "metadata": {"number": number}}
                    for i, row in enumerate(rows)
                ]
                rest.upsert("a", batch)
                written.append(number)
                if stop.is_set():
                    return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for turn in range(4):
            so_far = len(written)
            eventually("more batches are written", partial(longer, written, so_far + 2))
            acknowledged = written[-1]
            part = take(own, name=f"s{turn}", collection="a")["collections"][0]
            after = len(written) + 1
            assert part["record_count"] == len(rows)
            restore(own, f"s{turn}", target=f"b{turn}")
            found = own.scroll(f"b{turn}", limit=1000, include=["metadata"])["records"]
            numbers = {record["metadata"]["number"] for record in found}
            assert len(found) == len(rows)
            assert len(numbers) == 1, "a batch is in the snapshot in part"
            assert acknowledged <= numbers.pop() <= after
    finally:
        stop.set()
        writer.join()


# ---- metrics ----


def metrics(rest: RestClient) -> dict[str, Family]:
    return parse(rest.request("GET", "/metrics").body.decode())


def test_metrics_tell_what_is_there_and_how_it_went(own: RestClient, server: Server) -> None:
    fill(own, "a")
    taken = take(own, name="one", collection="a")
    take(own, name="two")
    own.request("POST", "/v1/snapshots", {"name": "two"})
    restore(own, "one", target="b")
    now = metrics(own)
    assert now["proximadb_snapshots"].value(kind="asked") == 2
    assert now["proximadb_snapshots"].value(kind="scheduled") == 0
    assert now["proximadb_snapshot_bytes"].value(kind="asked") >= 2 * taken["bytes"]
    assert now["proximadb_snapshots_taken_total"].value(kind="asked", result="ok") == 2
    assert now["proximadb_snapshots_taken_total"].value(kind="asked", result="refused") == 1
    assert now["proximadb_snapshot_restores_total"].value(result="ok") == 1
    assert now["proximadb_snapshot_duration_seconds"].samples
    last = now["proximadb_snapshot_last_success_time_seconds"].value(kind="asked")
    assert abs(last - time.time()) < 600
    assert now["proximadb_snapshot_schedule_interval_seconds"].value() == 0
    assert own.request("DELETE", "/v1/snapshots/two").status == 200
    assert metrics(own)["proximadb_snapshots"].value(kind="asked") == 1
    (server.data_dir / "snapshots" / "one" / "SNAPSHOT").write_bytes(b"damaged")
    server.restart()
    with RestClient(server) as rest:
        now = metrics(rest)
    assert now["proximadb_snapshots"].value(kind="asked") == 0
    assert now["proximadb_snapshots_damaged"].value() == 1
    assert now["proximadb_snapshot_bytes"].value(kind="asked") == 0


def test_metrics_tell_of_the_schedule(start_server: StartServer) -> None:
    server = start_server(env={"PROXIMADB_SNAPSHOTS__INTERVAL_S": "1"})
    taken = "proximadb_snapshots_taken_total"
    with RestClient(server) as rest:
        fill(rest, "a")

        def has_one() -> bool:
            now = metrics(rest)
            return taken in now and now[taken].value(kind="scheduled", result="ok") > 0

        eventually("a scheduled one", has_one)
        now = metrics(rest)
    last = now["proximadb_snapshot_last_success_time_seconds"].value(kind="scheduled")
    assert now["proximadb_snapshot_schedule_interval_seconds"].value() == 1
    assert now["proximadb_snapshot_schedule_next_time_seconds"].value() >= last > 0
    assert now["proximadb_snapshots"].value(kind="scheduled") >= 1
