"""Short ways to say what a gRPC test says often."""

import contextlib
import struct
from collections.abc import Iterator, Mapping, Sequence

import grpc
import pytest
from proximadb.v1 import proximadb_pb2 as pb
from proximadb.v1 import proximadb_pb2_grpc as rpc

from tests.lib.rpc import open_channel
from tests.lib.server import LIMIT_S, Server

SERVICE = "/proximadb.v1.ProximaDB/"

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]


@contextlib.contextmanager
def open_client(server: Server, *options: tuple[str, object]) -> Iterator[rpc.ProximaDBStub]:
    with open_channel(server, *options) as channel:
        yield rpc.ProximaDBStub(channel)


@contextlib.contextmanager
def refused(code: grpc.StatusCode, text: str = "") -> Iterator[None]:
    """The call inside must end with this status and a message that has this text."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error = caught.value
    assert error.code() == code, error.details()
    assert text in error.details(), error.details()


def value(plain: object) -> pb.Value:
    if plain is None:
        return pb.Value(null_value=pb.NULL_VALUE)
    if isinstance(plain, bool):
        return pb.Value(bool_value=plain)
    if isinstance(plain, int):
        return pb.Value(integer_value=plain)
    if isinstance(plain, float):
        return pb.Value(float_value=plain)
    if isinstance(plain, str):
        return pb.Value(string_value=plain)
    if isinstance(plain, list):
        return pb.Value(list_value=pb.ListValue(values=[value(item) for item in plain]))
    assert isinstance(plain, dict), f"no JSON value: {plain!r}"
    return pb.Value(map_value=mapping(plain))


def mapping(plain: Mapping[str, object]) -> pb.MapValue:
    return pb.MapValue(fields={key: value(item) for key, item in plain.items()})


def plain_of(message: pb.Value) -> Plain:
    kind = message.WhichOneof("kind")
    if kind == "null_value":
        return None
    if kind == "list_value":
        return [plain_of(item) for item in message.list_value.values]
    if kind == "map_value":
        return plain_map(message.map_value)
    return getattr(message, kind)  # type: ignore[no-any-return]


def plain_map(message: pb.MapValue) -> dict[str, Plain]:
    return {key: plain_of(item) for key, item in message.fields.items()}


def condition(key: str, operator: int, operand: Plain) -> pb.Filter:
    return pb.Filter(condition=pb.Condition(key=key, operator=operator, value=value(operand)))


def floats(*numbers: float) -> bytes:
    """Little-endian float32."""
    return struct.pack(f"<{len(numbers)}f", *numbers)


def create(
    client: rpc.ProximaDBStub, name: str, dimension: int = 2, metric: int = pb.METRIC_DOT
) -> pb.Collection:
    request = pb.CreateCollectionRequest(name=name, dimension=dimension, metric=metric)
    return client.CreateCollection(request, timeout=LIMIT_S).collection


def records(vectors: Mapping[str, Sequence[float]]) -> list[pb.Record]:
    return [pb.Record(id=id, vector=vector) for id, vector in vectors.items()]


# ---- Avro, written by hand: proto/avro/vector_record.avsc ----


def avro_long(number: int) -> bytes:
    zigzag = (number << 1) ^ (number >> 63)
    out = bytearray()
    while zigzag >= 0x80:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)


def avro_bytes(data: bytes) -> bytes:
    return avro_long(len(data)) + data


def avro_record(id: str, vector: bytes, metadata: str | None = None) -> bytes:
    out = avro_bytes(id.encode()) + avro_long(1) + avro_bytes(b"") + avro_bytes(vector)
    out += avro_long(0)
    out += avro_long(0) if metadata is None else avro_long(1) + avro_bytes(metadata.encode())
    return out + avro_long(0) + avro_long(0)


def avro_batch(*items: bytes) -> bytes:
    """One block that tells its size, and the end."""
    body = b"".join(items)
    return avro_long(-len(items)) + avro_long(len(body)) + body + avro_long(0)
