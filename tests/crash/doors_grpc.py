"""The gRPC door of a crash writer."""

from dataclasses import dataclass
from typing import Any

import grpc
from proximadb.v1 import proximadb_pb2 as pb
from proximadb.v1 import proximadb_pb2_grpc as rpc

from tests.crash.doors import COUNTERS, GoneError, RefusedError, Written
from tests.crash.journal import DIMENSION, Attempt, metadata_of, vector_of
from tests.lib.server import LIMIT_S

UNKNOWN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
)


def value(python: object) -> pb.Value:
    if isinstance(python, int):
        return pb.Value(integer_value=python)
    return pb.Value(string_value=str(python))


def document(fields: dict[str, object]) -> pb.MapValue:
    return pb.MapValue(fields={key: value(item) for key, item in fields.items()})


@dataclass(slots=True)
class GrpcDoor:
    channel: grpc.Channel | None = None
    stub: rpc.ProximaDBStub | None = None

    def connect(self, port: int) -> None:
        if self.channel is not None:
            self.channel.close()
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
        self.stub = rpc.ProximaDBStub(self.channel)

    def call(self, method: str, request: Any) -> Any:  # noqa: ANN401
        try:
            return getattr(self.stub, method)(request, timeout=LIMIT_S)
        except grpc.RpcError as error:
            code = error.code()
            if code in UNKNOWN:
                raise GoneError from error
            raise RefusedError(code.name) from error

    def write(self, attempt: Attempt, if_version: int | None = None) -> Written:
        if attempt.kind == "delete":
            request = pb.DeleteRequest(collection=attempt.collection, ids=attempt.ids)
            self.call("Delete", request)
            return Written(0)
        if attempt.kind in ("upsert", "insert"):
            records = [
                pb.Record(
                    id=name,
                    vector=vector_of(attempt.number, i),
                    metadata=document(metadata_of(attempt.number, i)),
                    if_version=if_version,
                )
                for i, name in enumerate(attempt.ids)
            ]
            request = pb.WriteRequest(collection=attempt.collection, records=records)
            answer = self.call(attempt.kind.capitalize(), request)
        else:
            moved = attempt.kind == "update_vector"
            updates = [
                pb.RecordUpdate(
                    id=name,
                    vector=vector_of(attempt.number, i) if moved else [],
                    metadata=document({"u": attempt.number}),
                    if_version=if_version,
                )
                for i, name in enumerate(attempt.ids)
            ]
            request = pb.UpdateRequest(collection=attempt.collection, records=updates)
            answer = self.call("Update", request)
        versions = set(answer.versions)
        assert len(versions) == 1, "a batch has one version"
        return Written(versions.pop())

    def get(self, collection: str, record_id: str) -> tuple[int, dict[str, Any]] | None:
        answer = self.call("Get", pb.GetRequest(collection=collection, ids=[record_id]))
        if not answer.records:
            return None
        record = answer.records[0]
        return record.version, {k: v.integer_value for k, v in record.metadata.fields.items()}

    def increment(self, record_id: str, value: int, if_version: int) -> Written:
        record = pb.Record(id=record_id, metadata=document({"value": value}), if_version=if_version)
        answer = self.call("Upsert", pb.WriteRequest(collection=COUNTERS, records=[record]))
        return Written(answer.versions[0])

    def create(self, name: str) -> None:
        request = pb.CreateCollectionRequest(
            name=name, dimension=DIMENSION, metric=pb.METRIC_EUCLIDEAN
        )
        self.call("CreateCollection", request)

    def drop(self, name: str) -> None:
        self.call("DeleteCollection", pb.DeleteCollectionRequest(collection=name))
