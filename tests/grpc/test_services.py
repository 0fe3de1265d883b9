"""The standard services: health and reflection."""

import threading
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1 import reflection_pb2 as v1
from grpc_reflection.v1 import reflection_pb2_grpc as v1_rpc
from grpc_reflection.v1alpha import reflection_pb2 as v1alpha
from grpc_reflection.v1alpha import reflection_pb2_grpc as v1alpha_rpc
from proximadb.v1 import proximadb_pb2 as pb
from proximadb.v1 import proximadb_pb2_grpc as rpc

from tests.grpc.client import create, refused
from tests.lib.rpc import open_channel
from tests.lib.server import LIMIT_S, Server, StartServer

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
SERVICES = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "proximadb.v1.ProximaDB",
]

# ---- health ----


@pytest.mark.parametrize("service", ["", "proximadb.v1.ProximaDB"])
def test_a_ready_server_is_serving(channel: grpc.Channel, service: str) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=service)
    assert health.Check(request, timeout=LIMIT_S).status == SERVING
    watch = health.Watch(request, timeout=LIMIT_S)
    assert next(watch).status == SERVING
    watch.cancel()


def test_an_unknown_service(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="other")
    with refused(grpc.StatusCode.NOT_FOUND, "unknown service"):
        health.Check(request, timeout=LIMIT_S)
    watch = health.Watch(request, timeout=LIMIT_S)
    assert next(watch).status == SERVICE_UNKNOWN
    watch.cancel()


def test_watchers_are_told_when_the_server_stops(start_server: StartServer) -> None:
    server = start_server(cores=2)
    with open_channel(server) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watches = [health.Watch(health_pb2.HealthCheckRequest(), timeout=LIMIT_S) for _ in range(3)]
        assert [next(watch).status for watch in watches] == [SERVING] * 3
        unknown = health.Watch(health_pb2.HealthCheckRequest(service="other"), timeout=LIMIT_S)
        assert next(unknown).status == SERVICE_UNKNOWN
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        for watch in watches:
            assert next(watch).status == NOT_SERVING
            with refused(grpc.StatusCode.UNAVAILABLE, "stopping"):
                next(watch)
        stopper.join()


def test_open_streams_do_not_hold_up_a_stop(start_server: StartServer) -> None:
    server = start_server(cores=2)
    with open_channel(server) as channel:
        release = threading.Event()

        def question() -> Iterator[v1.ServerReflectionRequest]:
            yield v1.ServerReflectionRequest(list_services="")
            release.wait(LIMIT_S)

        def batch() -> Iterator[pb.WriteRequest]:
            yield pb.WriteRequest(collection="c", records=[pb.Record(id="a", vector=[1, 2])])
            taken.set()
            release.wait(LIMIT_S)

        taken = threading.Event()
        client = rpc.ProximaDBStub(channel)
        create(client, "c")
        answers = v1_rpc.ServerReflectionStub(channel).ServerReflectionInfo(question())
        next(answers)
        bulk = client.BulkUpsert.future(batch(), timeout=LIMIT_S)
        assert taken.wait(LIMIT_S)
        while client.Count(pb.CountRequest(collection="c"), timeout=LIMIT_S).count == 0:
            continue  # the stream is known to the server once its batch is there
        assert server.stop() == 0
        with refused(grpc.StatusCode.UNAVAILABLE, "stopping"):
            next(answers)
        with refused(grpc.StatusCode.UNAVAILABLE, "batch 1: the server is stopping"):
            bulk.result(timeout=LIMIT_S)
        release.set()


# ---- reflection ----


def ask(stub: object, request: object) -> object:
    """One question in a stream of its own."""
    (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=LIMIT_S)  # type: ignore[attr-defined]
    return answer


VERSIONS = [(v1, v1_rpc), (v1alpha, v1alpha_rpc)]


@pytest.mark.parametrize(("pb2", "stubs"), VERSIONS, ids=["v1", "v1alpha"])
def test_services_are_listed(channel: grpc.Channel, pb2: object, stubs: object) -> None:
    stub = stubs.ServerReflectionStub(channel)  # type: ignore[attr-defined]
    request = pb2.ServerReflectionRequest(list_services="*")  # type: ignore[attr-defined]
    answer = ask(stub, request)
    names = [each.name for each in answer.list_services_response.service]  # type: ignore[attr-defined]
    assert sorted(names) == SERVICES
    assert answer.original_request == request  # type: ignore[attr-defined]


@pytest.mark.parametrize(("pb2", "stubs"), VERSIONS, ids=["v1", "v1alpha"])
def test_files_are_found_and_symbols(channel: grpc.Channel, pb2: object, stubs: object) -> None:
    stub = stubs.ServerReflectionStub(channel)  # type: ignore[attr-defined]
    questions = [
        {"file_by_filename": "proximadb/v1/proximadb.proto"},
        {"file_containing_symbol": "proximadb.v1.ProximaDB"},
        {"file_containing_symbol": "proximadb.v1.ProximaDB.Search"},
        {"file_containing_symbol": "proximadb.v1.Record.VectorsEntry"},
        {"file_containing_symbol": "proximadb.v1.METRIC_DOT"},
    ]
    requests = [pb2.ServerReflectionRequest(**each) for each in questions]  # type: ignore[attr-defined]
    expected = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(expected)
    answers = list(stub.ServerReflectionInfo(iter(requests), timeout=LIMIT_S))
    assert len(answers) == len(questions)
    for answer in answers:
        (file,) = answer.file_descriptor_response.file_descriptor_proto
        shown = descriptor_pb2.FileDescriptorProto.FromString(file)
        assert shown.package == "proximadb.v1"
        assert [m.name for m in shown.message_type] == [m.name for m in expected.message_type]
        methods = {method.name for method in shown.service[0].method}
        assert methods == {method.name for method in expected.service[0].method}


def test_what_is_not_there_is_an_error_answer(channel: grpc.Channel) -> None:
    stub = v1_rpc.ServerReflectionStub(channel)
    for question in (
        {"file_by_filename": "no.proto"},
        {"file_containing_symbol": "no.Such"},
        {"all_extension_numbers_of_type": "no.Such"},
        {"file_containing_extension": v1.ExtensionRequest(containing_type="proximadb.v1.Record")},
    ):
        answer = ask(stub, v1.ServerReflectionRequest(**question))
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]  # type: ignore[attr-defined]
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "message_request"):
        ask(stub, v1.ServerReflectionRequest())


def test_a_client_without_stubs_can_use_the_service(server: Server) -> None:
    """As grpcurl would: the descriptors come from the server alone."""
    from google.protobuf import descriptor_pool, message_factory

    with open_channel(server) as channel:
        stub = v1_rpc.ServerReflectionStub(channel)
        answer = ask(stub, v1.ServerReflectionRequest(file_containing_symbol=SERVICES[-1]))
        pool = descriptor_pool.DescriptorPool()
        for file in answer.file_descriptor_response.file_descriptor_proto:  # type: ignore[attr-defined]
            pool.AddSerializedFile(file)
        method = pool.FindServiceByName(SERVICES[-1]).methods_by_name["ListCollections"]
        request = message_factory.GetMessageClass(method.input_type)()
        response = message_factory.GetMessageClass(method.output_type)
        call = channel.unary_unary(f"/{SERVICES[-1]}/ListCollections")
        listed = response.FromString(call(request.SerializeToString(), timeout=LIMIT_S))
        assert listed.DESCRIPTOR.full_name == "proximadb.v1.ListCollectionsResponse"


def test_a_stream_may_ask_only_so_often(channel: grpc.Channel) -> None:
    stub = v1_rpc.ServerReflectionStub(channel)

    def questions() -> Iterator[v1.ServerReflectionRequest]:
        for _ in range(300):
            yield v1.ServerReflectionRequest(list_services="")

    answers = stub.ServerReflectionInfo(questions(), timeout=LIMIT_S)
    seen = 0
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "256"):
        for _ in answers:
            seen += 1
    assert seen == 256
