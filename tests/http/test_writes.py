"""Writes: versions, conditions, retries, batches, expiry, and the fast forms of a batch."""

import base64
import io
import itertools
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import numpy as np
import numpy.typing as npt
import pytest

from tests.http.wire import eventually
from tests.lib.rest import Json, RestClient, RestError
from tests.lib.server import ROOT, Server, StartServer

SCHEMA_PATH = ROOT / "proto" / "avro" / "vector_record.avsc"
AVRO = {"content-type": "application/avro"}


@pytest.fixture
def collection(rest: RestClient, collection_name: str) -> str:
    rest.create_collection(collection_name, 2, "dot")
    return collection_name


def record(name: str, *vector: float, **more: object) -> Json:
    return {"id": name, "vector": list(vector or (1, 2))} | more


def vectors_path(collection: str) -> str:
    return f"/v1/collections/{collection}/vectors"


# ---- versions and conditions ----


def test_every_batch_gets_the_next_version(rest: RestClient, collection: str) -> None:
    versions = []
    for i in range(5):
        answer = rest.upsert(collection, [record("a"), record(f"b{i}")])
        assert len(set(answer["versions"])) == 1
        versions.append(answer["versions"][0])
    assert versions == sorted(set(versions))
    assert rest.get_one(collection, "a")["version"] == versions[-1]
    assert rest.get_one(collection, "b0")["version"] == versions[0]
    assert rest.get_collection(collection)["version"] == versions[-1]


def test_a_deleted_id_never_reuses_a_version(rest: RestClient, collection: str) -> None:
    first = rest.upsert(collection, [record("a")])["versions"][0]
    rest.delete_one(collection, "a")
    again = rest.upsert(collection, [record("a", if_version=0)])["versions"][0]
    assert again > first


def test_conditions_are_kept(rest: RestClient, collection: str) -> None:
    version = rest.upsert(collection, [record("a", if_version=0)])["versions"][0]
    for wrong in (0, version + 1):
        with pytest.raises(RestError) as failure:
            rest.upsert(collection, [record("new"), record("a", 9, 9, if_version=wrong)])
        assert failure.value.code == "FAILED_PRECONDITION"
        assert f"version {version}" in failure.value.response.error_message
    assert rest.get(collection, ["new"])["missing"] == ["new"]
    rest.update(collection, [{"id": "a", "metadata": {"n": 1}, "if_version": version}])
    with pytest.raises(RestError):
        rest.delete(collection, ids=["a"], if_version=version)
    current = rest.get_one(collection, "a")["version"]
    assert rest.delete(collection, ids=["a"], if_version=current)["deleted"] == 1


def test_of_many_with_the_same_condition_one_wins(server: Server, collection: str) -> None:
    wins = []
    barrier = threading.Barrier(8)

    def race(index: int) -> None:
        with RestClient(server) as mine:
            for turn in range(20):
                barrier.wait()
                body = {"vectors": [record(f"r{turn}", index, 0, if_version=0)]}
                if mine.request("PUT", vectors_path(collection), body).status == 200:
                    wins.append(turn)

    threads = [threading.Thread(target=race, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == list(range(20))


# ---- retries ----


def test_a_retry_gets_the_first_answer(rest: RestClient, collection: str) -> None:
    body: Json = {"vectors": [{"vector": [1, 2]}, record("a")], "request_id": "retry-1"}
    first = rest.call("PUT", vectors_path(collection), body)
    rest.upsert(collection, [record("a", 5, 5)])
    again = rest.call("PUT", vectors_path(collection), body)
    assert (again["ids"], again["versions"]) == (first["ids"], first["versions"])
    assert rest.count(collection) == 2
    assert rest.get_one(collection, "a")["vector"] == [5, 5]


def test_a_request_id_with_another_body_is_refused(rest: RestClient, collection: str) -> None:
    rest.upsert(collection, [record("a")], request_id="retry-2")
    with pytest.raises(RestError) as failure:
        rest.upsert(collection, [record("a", 3, 3)], request_id="retry-2")
    assert failure.value.code == "FAILED_PRECONDITION"
    assert rest.get_one(collection, "a")["vector"] == [1, 2]


def test_retries_that_race_write_once(server: Server, collection: str) -> None:
    answers: list[Json] = []

    def write() -> None:
        with RestClient(server) as mine:
            body: Json = {"vectors": [{"vector": [1, 2]}], "request_id": "retry-3"}
            answers.append(mine.call("POST", vectors_path(collection), body))

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer["ids"][0] for answer in answers}) == 1
    with RestClient(server) as rest:
        assert rest.count(collection) == 1


@pytest.mark.parametrize("crash", [False, True], ids=["restart", "crash"])
def test_a_retry_after_a_restart_gets_the_first_answer(
    start_server: StartServer, crash: bool
) -> None:
    server = start_server()
    body: Json = {"vectors": [{"vector": [1, 2]}, {"vector": [3, 4]}], "request_id": "retry-4"}
    with RestClient(server) as rest:
        rest.create_collection("c", 2)
        first = rest.call("PUT", vectors_path("c"), body)
    server = server.crash() if crash else server.restart()
    with RestClient(server) as rest:
        again = rest.call("PUT", vectors_path("c"), body)
        assert (again["ids"], again["versions"]) == (first["ids"], first["versions"])
        assert rest.count("c") == 2


# ---- ids, merging, deleting ----


def test_missing_ids_are_made(rest: RestClient, collection: str) -> None:
    ids = rest.upsert(collection, [{"vector": [1, 2]} for _ in range(50)])["ids"]
    assert len(set(ids)) == 50
    assert all(UUID(name).version == 7 for name in ids)


def test_an_update_merges(rest: RestClient, collection: str) -> None:
    before: Json = {"keep": 1, "change": 2, "deep": {"a": 1, "b": 2}, "gone": 3}
    rest.upsert(collection, [record("a", metadata=before)])
    change: Json = {"change": [4], "deep": {"b": 5, "c": 6}}
    rest.update(collection, [{"id": "a", "metadata": change, "unset": ["gone", "deep.a", "x.y"]}])
    got = rest.get_one(collection, "a")
    assert got["metadata"] == {"keep": 1, "change": [4], "deep": {"b": 5, "c": 6}}
    assert got["vector"] == [1, 2]
    rest.update(collection, [{"id": "a", "vector": [7, 8]}])
    after = rest.get_one(collection, "a")
    assert (after["vector"], after["metadata"]) == ([7, 8], got["metadata"])
    assert after["created_at"] == got["created_at"]
    assert after["updated_at"] > got["updated_at"]


def test_an_upsert_replaces_the_whole_record(rest: RestClient, collection: str) -> None:
    rest.upsert(collection, [record("a", metadata={"n": 1})])
    rest.upsert(collection, [{"id": "a"}])
    got = rest.get_one(collection, "a")
    assert got["metadata"] == {}
    assert "vector" not in got


def test_deletes_by_filter(rest: RestClient, collection: str) -> None:
    rest.upsert(collection, [record(str(i), metadata={"n": i}) for i in range(100)])
    assert rest.delete(collection, filter={"n": {"$lt": 30}})["deleted"] == 30
    assert rest.delete(collection, ids=["29", "30", "30x"])["deleted"] == 1
    assert rest.count(collection) == 69
    assert rest.delete(collection, filter={})["deleted"] == 69


def test_a_new_column_is_checked_against_the_rows(rest: RestClient, collection: str) -> None:
    rest.upsert(collection, [record("bad", metadata={"n": "text"})])
    add = {"add_columns": [{"name": "n", "type": "integer"}]}
    answer = rest.request("PATCH", f"/v1/collections/{collection}", add)
    assert (answer.status, answer.error_code) == (412, "FAILED_PRECONDITION")
    assert "'bad'" in answer.error_message
    rest.delete_one(collection, "bad")
    assert rest.update_collection(collection, **add)["columns"] == add["add_columns"]
    with pytest.raises(RestError) as failure:
        rest.upsert(collection, [record("bad", metadata={"n": "text"})])
    assert failure.value.code == "INVALID_ARGUMENT"


def test_mutable_settings_change_and_stay(start_server: StartServer) -> None:
    server = start_server()
    with RestClient(server) as rest:
        rest.create_collection("c", 2, sync="never", ttl_s=100, description="old")
        changed = rest.update_collection("c", sync="batch", ttl_s=None, description="new")
    server.restart()
    with RestClient(server) as rest:
        again = rest.get_collection("c")
    for one in (changed, again):
        assert (one["sync"], one["ttl_s"], one["description"]) == ("batch", None, "new")
    assert again["uuid"] == changed["uuid"]


STORAGE = {"compression": "none", "vectors": "memory", "version_retention_s": 0}


def test_storage_settings_change_one_by_one_and_stay(start_server: StartServer) -> None:
    server = start_server()
    with RestClient(server) as rest:
        plain = rest.create_collection("plain", 2)
        made = rest.create_collection(
            "made", 2, storage={"vectors": "disk", "version_retention_s": 60}
        )
        assert plain["storage"] == STORAGE
        assert made["storage"] == STORAGE | {"vectors": "disk", "version_retention_s": 60}
        expected = dict(STORAGE)
        for change in (
            {"compression": "zstd"},
            {"vectors": "mmap"},
            {"version_retention_s": 315360000},
            {"compression": "snappy", "vectors": "disk"},
            {"compression": "lz4"},
            {},
        ):
            expected |= change
            assert rest.update_collection("plain", storage=change)["storage"] == expected
        rest.update_collection("made", description="still there")
        described = rest.get_collection("plain")
        assert described["stats"] == {
            "memtable_rows": 0,
            "segment_count": 0,
            "segment_rows": 0,
            "segment_bytes": 0,
            "tombstones": 0,
        }
    server.restart()
    with RestClient(server) as rest:
        assert rest.get_collection("plain")["storage"] == expected
        assert rest.get_collection("made")["storage"] == made["storage"]


# ---- atomic batches ----


def test_no_reader_ever_sees_half_a_batch(server: Server, collection: str) -> None:
    """Every batch gives all 40 records the same mark; readers on both cores look meanwhile."""
    ids = [f"r{i}" for i in range(40)]
    stop = threading.Event()
    failures: list[str] = []
    looks = [0] * 4

    def marks_of(records: Sequence[Json]) -> set[int]:
        return {r["metadata"]["mark"] for r in records} if records else set()

    def read(index: int) -> None:
        with RestClient(server) as mine:
            while not stop.is_set() and not failures:
                match index:
                    case 0:
                        records = mine.search(collection, vector=[1, 1], k=100)["results"]
                    case 1:
                        records = mine.scroll(collection)["records"]
                    case 2:
                        records = mine.get(collection, ids)["records"]
                    case _:
                        both = mine.search_batch(collection, [{"vector": [1, 1], "k": 100}] * 2)
                        records = [hit for one in both["results"] for hit in one["results"]]
                if len(marks_of(records)) > 1 or len(records) not in (0, 40, 80):
                    failures.append(f"reader {index}: {len(records)} rows, {marks_of(records)}")
                looks[index] += 1

    readers = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    for reader in readers:
        reader.start()
    with RestClient(server) as writer:
        for mark in itertools.count():
            if mark >= 250 and (min(looks) > 10 or not all(r.is_alive() for r in readers)):
                break
            if mark % 10 == 9:
                writer.delete(collection, ids=ids)
                continue
            batch = [record(name, 1, mark, metadata={"mark": mark}) for name in ids]
            writer.upsert(collection, batch)
    stop.set()
    for reader in readers:
        reader.join()
    assert not failures
    assert min(looks) > 10


def test_a_batch_with_one_bad_record_leaves_nothing(rest: RestClient, collection: str) -> None:
    good = [record(str(i)) for i in range(99)]
    for bad in (record("bad", 1), record("0"), record("x", if_version=5)):
        assert (
            rest.request("PUT", vectors_path(collection), {"vectors": [*good, bad]}).status >= 400
        )
    assert rest.count(collection) == 0


# ---- expiry ----


def in_us(seconds: float) -> int:
    return int((time.time() + seconds) * 1e6)


def test_expired_records_are_never_shown(rest: RestClient, collection: str) -> None:
    rest.upsert(
        collection,
        [
            record("past", expires_at=in_us(-10)),
            record("text", expires_at="2001-01-01T00:00:00Z"),
            record("later", expires_at=in_us(3600)),
            record("never", expires_at=None),
        ],
    )
    seen = {"later", "never"}
    assert {r["id"] for r in rest.scroll(collection)["records"]} == seen
    assert {h["id"] for h in rest.search(collection, vector=[1, 1])["results"]} == seen
    assert rest.count(collection) == 2
    assert set(rest.get(collection, ["past", "text"])["missing"]) == {"past", "text"}
    assert rest.request("GET", f"{vectors_path(collection)}/past").status == 404
    assert rest.insert(collection, [record("past")])["inserted"] == 1
    assert rest.get_one(collection, "never")["expires_at"] is None
    assert rest.get_one(collection, "later")["expires_at"].endswith("Z")


def test_a_record_disappears_at_its_time(rest: RestClient, collection: str) -> None:
    expires = in_us(0.3)
    rest.upsert(collection, [record("soon", expires_at=expires)])
    while True:
        before = in_us(0)
        there = not rest.get(collection, ["soon"])["missing"]
        if there:
            assert before < expires + 5e6, "an expired record is still shown"
        else:
            assert in_us(0) >= expires, "a record disappeared before its time"
            return


def test_the_collections_ttl_is_the_default(rest: RestClient, collection_name: str) -> None:
    rest.create_collection(collection_name, 2, "dot", ttl_s=3600)
    rest.upsert(collection_name, [record("a"), record("b", expires_at=None)])
    assert rest.get_one(collection_name, "a")["expires_at"] is not None
    assert rest.get_one(collection_name, "b")["expires_at"] is None


def test_expired_rows_are_removed_in_the_background(start_server: StartServer) -> None:
    config = "[ttl]\nsweep_ms = 10\ngrace_s = 0\n"
    server = start_server(config=config)
    with RestClient(server) as rest:
        rest.create_collection("c", 256, "dot")
        rows: list[Json] = [{"id": str(i), "vector": [1] * 256} for i in range(500)]
        rest.upsert("c", rows)
        full = int(rest.get_collection("c")["memory_bytes"])
        rest.upsert("c", [row | {"expires_at": in_us(0.2)} for row in rows])
        eventually("hidden", lambda: rest.get_collection("c")["record_count"] == 0)
        eventually("removed", lambda: rest.get_collection("c")["memory_bytes"] < full // 2)
    server.restart()
    with RestClient(server) as rest:
        assert rest.count("c") == 0


# ---- packed batches ----


def packed(array: npt.NDArray[Any], **more: object) -> Json:
    return {"packed": {"vectors": base64.b64encode(array.tobytes()).decode()} | more}


def test_a_packed_batch_is_a_batch(rest: RestClient, collection: str) -> None:
    array = np.random.default_rng(0).random((300, 2), dtype=np.float32)
    ids = [f"p{i}" for i in range(300)]
    body = packed(array, ids=ids, metadata=[{"n": i} for i in range(300)])
    answer = rest.call("PUT", vectors_path(collection), body)
    assert (answer["upserted"], answer["ids"]) == (300, ids)
    got = rest.get(collection, ids)["records"]
    assert [r["metadata"]["n"] for r in got] == list(range(300))
    assert np.array([r["vector"] for r in got], dtype=np.float32).tobytes() == array.tobytes()


def test_a_packed_batch_may_leave_ids_out(rest: RestClient, collection: str) -> None:
    array = np.ones((3, 2), dtype=np.float32)
    body = packed(array, metadata=[{}, {}, {}])
    assert len(set(rest.call("PUT", vectors_path(collection), body)["ids"])) == 3


def test_packed_bits_are_those_of_the_list(rest: RestClient, collection_name: str) -> None:
    rest.create_collection(collection_name, 11, "hamming")
    bits = np.random.default_rng(0).integers(0, 2, (5, 11))
    array = np.packbits(bits, axis=1, bitorder="little")
    ids = [str(i) for i in range(5)]
    rest.call("PUT", vectors_path(collection_name), packed(array, ids=ids))
    got = [r["vector"] for r in rest.get(collection_name, ids)["records"]]
    assert got == bits.tolist()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (packed(np.ones(3, np.float32), ids=["a", "b"]), "no whole number of float32"),
        (packed(np.ones(3, np.float32), ids=["a"]), "dimension 3, expected 2"),
        (packed(np.full(2, np.nan, np.float32), ids=["a"]), "NaN is not allowed"),
        (packed(np.full(2, np.inf, np.float32), ids=["a"]), "infinity is not allowed"),
        (packed(np.ones(4, np.float32), ids=["a", "a"]), "is the id of"),
        (packed(np.ones(4, np.float32), ids=["a", "b"], metadata=[{}]), "packed.metadata"),
        (packed(np.ones(2, np.float32), ids=["a"], field="image"), "no vector field 'image'"),
        ({"packed": {"ids": ["a"], "vectors": "AAA*"}}, "not base64"),
        ({"packed": {"ids": ["a"], "vectors": ""}}, "must not be empty"),
        ({"packed": {"ids": ["a"]}}, "packed"),
        (packed(np.ones(2, np.float32), ids=["a"]) | {"vectors": [record("b")]}, "not both"),
    ],
)
def test_a_wrong_packed_batch_is_refused(
    rest: RestClient, collection: str, body: Json, says: str
) -> None:
    answer = rest.request("PUT", vectors_path(collection), body)
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT")
    assert says in answer.error_message
    assert rest.count(collection) == 0


# ---- Avro batches ----


def avro_schema(path: Path = SCHEMA_PATH) -> object:
    return fastavro.parse_schema({"type": "array", "items": json.loads(path.read_text())})


def avro(records: Sequence[Json]) -> bytes:
    out = io.BytesIO()
    defaults: Json = {"id": "", "vectors": [], "metadata": None, "expires_at_us": None}
    rows = [defaults | {"if_version": None} | r for r in records]
    fastavro.schemaless_writer(out, avro_schema(), rows)
    return out.getvalue()


def avro_vector(values: npt.ArrayLike, field: str = "") -> Json:
    return {"field": field, "values": np.asarray(values, dtype=np.float32).tobytes()}


def test_an_avro_batch_is_a_batch(rest: RestClient, collection: str) -> None:
    rng = np.random.default_rng(0)
    array = rng.random((200, 2), dtype=np.float32)
    body = avro(
        [
            {"id": f"v{i}", "vectors": [avro_vector(row)], "metadata": json.dumps({"n": i})}
            for i, row in enumerate(array)
        ]
    )
    answer = rest.request("PUT", vectors_path(collection), body, AVRO)
    assert (answer.status, answer.json()["upserted"]) == (200, 200)
    got = rest.get(collection, [f"v{i}" for i in range(200)])["records"]
    assert [r["metadata"] for r in got] == [{"n": i} for i in range(200)]
    assert np.array([r["vector"] for r in got], dtype=np.float32).tobytes() == array.tobytes()


def test_avro_carries_conditions_and_expiry(rest: RestClient, collection: str) -> None:
    one = avro([{"id": "a", "vectors": [avro_vector([1, 2])], "if_version": 0}])
    assert rest.request("PUT", vectors_path(collection), one, AVRO).status == 200
    assert rest.request("PUT", vectors_path(collection), one, AVRO).status == 412
    assert rest.request("POST", vectors_path(collection), one, AVRO).status in (409, 412)
    past = avro([{"id": "b", "vectors": [avro_vector([1, 2])], "expires_at_us": in_us(-1)}])
    assert rest.request("PUT", vectors_path(collection), past, AVRO).status == 200
    assert rest.get(collection, ["b"])["missing"] == ["b"]


def test_avro_may_carry_a_retry_key(rest: RestClient, collection: str) -> None:
    body = avro([{"vectors": [avro_vector([1, 2])]}])
    path = vectors_path(collection) + "?request_id=avro-1"
    ids = {rest.request("PUT", path, body, AVRO).json()["ids"][0] for _ in range(3)}
    assert len(ids) == 1
    assert rest.count(collection) == 1


GOOD = avro([{"id": "a", "vectors": [avro_vector([1, 2])], "metadata": "{}"}])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", ""),
        (b"\x00", "must not be empty"),
        (GOOD[:-1], ""),
        (GOOD + b"x", "follow the block"),
        (b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", ""),  # 2^63 - 1 records
        (b"\xff" * 11, ""),  # a number that does not end
        (b"\x01" + GOOD[1:], ""),  # a block of -1 records has a size
        (avro([{"id": "a", "vectors": [avro_vector([1])]}]), "dimension 1, expected 2"),
        (avro([{"id": "a", "vectors": [{"field": "", "values": b"abc"}]}]), "float32"),
        (avro([{"id": "a", "vectors": [avro_vector([1, 2], "x")]}]), "no vector field 'x'"),
        (avro([{"id": "a", "metadata": "[1]"}]), "not a JSON object"),
        (avro([{"id": "a", "metadata": "{"}]), "JSON"),
        (avro([{"id": "a", "if_version": -1}]), "must not be negative"),
        (avro([{"id": "x" * 513}]), "513 bytes"),
        (avro([{"id": "a"}, {"id": "a"}]), "is the id of"),
        (avro([{"id": "a", "vectors": [avro_vector([np.nan, 1])]}]), "NaN"),
    ],
)
def test_bad_avro_is_refused(rest: RestClient, collection: str, body: bytes, says: str) -> None:
    answer = rest.request("PUT", vectors_path(collection), body, AVRO)
    assert (answer.status, answer.error_code) == (400, "INVALID_ARGUMENT"), answer.body
    assert says in answer.error_message
    assert rest.count(collection) == 0


def test_every_prefix_of_an_avro_batch_is_refused(rest: RestClient, collection: str) -> None:
    for size in range(len(GOOD)):
        assert rest.request("PUT", vectors_path(collection), GOOD[:size], AVRO).status == 400
    assert rest.count(collection) == 0
