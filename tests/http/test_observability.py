"""/metrics, /v1/info and the health routes."""

import os
import signal

from tests.http.prometheus import Family, parse
from tests.http.wire import eventually
from tests.lib.rest import RestClient
from tests.lib.server import Server, StartServer

UNITS = ("_seconds", "_bytes", "_total", "_info", "_ratio")


def scrape(rest: RestClient) -> dict[str, Family]:
    answer = rest.request("GET", "/metrics")
    assert answer.status == 200
    assert answer.header("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    return parse(answer.body.decode("utf-8"))


def test_the_metrics_are_well_formed(rest: RestClient) -> None:
    families = scrape(rest)
    assert len(families) > 30
    for name, family in families.items():
        assert name.startswith("proximadb_")
        assert family.help
        assert (family.kind == "counter") == name.endswith("_total"), name
        if family.kind == "histogram" and "duration" in name:
            assert name.endswith("_seconds")


def test_metrics_move_with_requests(rest: RestClient, collection_name: str) -> None:
    before = scrape(rest)

    def moved(now: dict[str, Family], name: str, **labels: str) -> float:
        old = before[name].value(**labels) if name in before else 0
        return now[name].value(**labels) - old

    rest.create_collection(collection_name, 4, "dot")
    for i in range(10):
        rest.upsert(collection_name, [{"id": f"{i}-{j}", "vector": [1] * 4} for j in range(5)])
    for _ in range(7):
        rest.search(collection_name, vector=[1] * 4)
    rest.delete(collection_name, ids=["0-0", "0-1"])
    rest.request("PUT", f"/v1/collections/{collection_name}/vectors", {"vectors": []})
    rest.request("GET", "/nothing")
    conditional = {"vectors": [{"id": "0-0", "vector": [1] * 4, "if_version": 9}]}
    rest.request("PUT", f"/v1/collections/{collection_name}/vectors", conditional)
    now = scrape(rest)
    requests = "proximadb_http_requests_total"
    assert moved(now, requests, operation="collection_create", status="201") >= 1
    assert moved(now, requests, operation="upsert", status="200") >= 10
    assert moved(now, requests, operation="upsert", status="400") >= 1
    assert moved(now, requests, operation="upsert", status="412") >= 1
    assert moved(now, requests, operation="search", status="200") >= 7
    assert moved(now, requests, status="404") >= 1
    assert moved(now, "proximadb_writes_total", op="upsert", result="ok") >= 50
    assert moved(now, "proximadb_writes_total", op="delete", result="ok") >= 2
    assert moved(now, "proximadb_conditional_failures_total") >= 1
    assert moved(now, "proximadb_wal_records_total") >= 11
    assert moved(now, "proximadb_wal_groups_total") >= 1
    assert moved(now, "proximadb_wal_bytes_total") >= 4096
    assert moved(now, "proximadb_io_ops_total") >= 1
    assert now["proximadb_connections"].value(proto="http1") >= 1
    assert now["proximadb_ready"].value() == 1
    assert now["proximadb_uptime_seconds"].value() > 0
    assert now["proximadb_memory_bytes"].value(kind="rss") > 1 << 20
    durations = now["proximadb_http_request_duration_seconds"]
    assert durations.value(operation="search") > 0


def test_turns_and_disk_operations_are_timed(start_server: StartServer) -> None:
    server = start_server(cores=2)
    with RestClient(server) as rest:
        rest.create_collection("c", 1)
        for i in range(20):
            rest.upsert("c", [{"id": str(i), "vector": [1]}])
        now = scrape(rest)
    turns = now["proximadb_reactor_loop_duration_seconds"].samples
    times = now["proximadb_io_duration_seconds"].samples
    for core in "01":
        label = ("core", core)
        assert turns["proximadb_reactor_loop_duration_seconds_count", (label,)] > 0
        busy = now["proximadb_reactor_busy_seconds_total"].value(core=core)
        assert turns["proximadb_reactor_loop_duration_seconds_sum", (label,)] == busy > 0
        assert now["proximadb_mailbox_depth"].value(core=core) >= 0
        assert now["proximadb_task_queue_depth"].value(core=core) >= 0
    for op in ("open", "read", "write", "sync", "allocate", "rename", "unlink", "other"):
        count = times["proximadb_io_duration_seconds_count", (("op", op),)]
        assert count == now["proximadb_io_ops_total"].value(op=op)
    for op in ("open", "write"):
        total = times["proximadb_io_duration_seconds_sum", (("op", op),)]
        assert 0 < total < now["proximadb_uptime_seconds"].value() * 1000


def test_scrapes_are_timed_wherever_they_come_in(start_server: StartServer) -> None:
    server = start_server(cores=2)
    for before in range(5):
        with RestClient(server) as rest:  # connections spread over the cores
            took = scrape(rest)["proximadb_scrape_duration_seconds"].samples
        assert took["proximadb_scrape_duration_seconds_count", ()] == before
        assert (took["proximadb_scrape_duration_seconds_sum", ()] > 0) == (before > 0)


def test_the_space_of_both_folders_is_told(server: Server, rest: RestClient) -> None:
    disk = scrape(rest)["proximadb_disk_bytes"]
    stat = os.statvfs(server.data_dir)
    size = stat.f_blocks * stat.f_frsize
    for folder in ("data", "wal"):
        free, used = disk.value(dir=folder, kind="free"), disk.value(dir=folder, kind="used")
        assert 0 < free < size
        assert 0 < used < size
        assert free + used <= size


def test_counters_never_fall(rest: RestClient) -> None:
    first = scrape(rest)
    second = scrape(rest)
    for name, family in first.items():
        if family.kind == "counter":
            for key, value in family.samples.items():
                assert second[name].samples[key] >= value, key


def test_labels_hold_no_ids_and_no_routes_of_clients(
    rest: RestClient, collection_name: str
) -> None:
    rest.create_collection(collection_name, 1)
    rest.request("GET", f"/v1/collections/{collection_name}/vectors/secret-id")
    rest.request("GET", "/secret-route")
    text = rest.request("GET", "/metrics").body.decode()
    for word in ("secret-id", "secret-route"):
        assert word not in text


def test_info_tells_the_facts(start_server: StartServer) -> None:
    server = start_server(
        cores=3, io_engine="threads", env={"PROXIMADB_SIMD": "scalar"}, config=INFO_CONFIG
    )
    with RestClient(server) as rest:
        info = rest.info()
    assert info["cores"] == 3
    assert info["simd"] == "scalar"
    assert info["io"]["engine"] == "threads"
    assert info["wal"] == {"encoding": "avro", "io_mode": "buffered"}
    assert info["memory_limit_bytes"] == 100 << 20
    assert info["limits"]["k"] == 77
    assert info["uptime_s"] >= 0
    assert info["recovery"]["records"] == 0
    assert str(server.data_dir) not in str(info), "a path is nobody's business"


INFO_CONFIG = """
[storage]
memory_limit = "100MiB"
[wal]
encoding = "avro"
io_mode = "buffered"
[limits]
k = 77
"""


def test_recovery_is_told(start_server: StartServer) -> None:
    server = start_server()
    with RestClient(server) as rest:
        rest.create_collection("c", 1)
        for i in range(5):
            rest.upsert("c", [{"id": str(i), "vector": [1]}])
    server.crash()
    with RestClient(server) as rest:
        recovery = rest.info()["recovery"]
        assert recovery["records"] >= 5
        assert recovery["clean"] is False
        assert scrape(rest)["proximadb_recovery_records"].value() >= 5
    server.restart()
    with RestClient(server) as rest:
        assert rest.info()["recovery"]["clean"] is True


def test_health_is_told_by_every_core(server: Server) -> None:
    for _ in range(20):  # connections spread over the cores
        with RestClient(server) as rest:
            assert rest.call("GET", "/livez") == {"live": True}
            assert rest.call("GET", "/readyz") == {"ready": True, "reasons": []}
            health = rest.call("GET", "/health")
            assert (health["status"], health["live"], health["ready"]) == ("ok", True, True)


def test_a_process_that_was_stopped_recovers_its_health(start_server: StartServer) -> None:
    server = start_server(cores=2)
    os.kill(server.pid, signal.SIGSTOP)
    os.kill(server.pid, signal.SIGCONT)

    def healthy() -> bool:
        with RestClient(server) as rest:
            return rest.request("GET", "/livez").status == 200

    eventually("live again", healthy)
