"""gRPC over HTTP/2 as no library would send it."""

import struct

import pytest
from proximadb.v1 import proximadb_pb2 as pb

from tests.grpc.client import SERVICE, create, open_client
from tests.http.h2 import DATA, END_HEADERS, END_STREAM, HEADERS, frame, h2
from tests.lib.rest import Response
from tests.lib.server import Server

GRPC = ("content-type", "application/grpc+proto")
TRAILERS = ("te", "trailers")
Fields = list[tuple[str, str]]


def prefixed(message: bytes, compressed: int = 0) -> bytes:
    return struct.pack(">BI", compressed, len(message)) + message


def call(server: Server, method: str, body: bytes, fields: Fields | None = None) -> Response:
    with h2(server) as session:
        extra = [GRPC, TRAILERS, *(fields or [])]
        return session.response(session.start("POST", SERVICE + method, body, extra))


def status(answer: Response) -> int:
    assert answer.status == 200
    return int(answer.header("grpc-status") or -1)


def message_of(answer: Response) -> str:
    return answer.header("grpc-message") or ""


def test_a_call_and_its_parts(server: Server) -> None:
    answer = call(server, "GetInfo", prefixed(b""), [("x-request-id", "mine-1")])
    assert status(answer) == 0
    assert answer.header("content-type") == "application/grpc+proto"
    assert answer.header("x-request-id") == "mine-1"
    flag, length = struct.unpack(">BI", answer.body[:5])
    assert (flag, length) == (0, len(answer.body) - 5)
    assert pb.GetInfoResponse.FromString(answer.body[5:]).json.startswith("{")


def test_the_deadline_of_the_client_holds(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
    request = prefixed(pb.CountRequest(collection=collection_name).SerializeToString())
    answer = call(server, "Count", request, [("grpc-timeout", "1n")])
    assert status(answer) == 4
    assert status(call(server, "Count", request, [("grpc-timeout", "300S")])) == 0


BAD_BODIES = [
    (b"", 3, "no whole message"),
    (b"\0\0\0", 3, ""),
    (prefixed(b"")[:-1], 3, ""),
    (prefixed(b"\x0a\x01c")[:-1], 3, ""),
    (prefixed(b"") * 2, 3, "more than one message"),
    (prefixed(b"", compressed=1), 12, "compressed"),
    (b"\0\xff\xff\xff\xff", 8, "limits.body_bytes"),
    (b"\0" + struct.pack(">I", (64 << 20) + 1), 8, "limits.body_bytes"),
]


@pytest.mark.parametrize(("body", "code", "text"), BAD_BODIES)
def test_bad_framing(server: Server, body: bytes, code: int, text: str) -> None:
    answer = call(server, "Count", body)
    assert status(answer) == code
    assert text in message_of(answer)


@pytest.mark.parametrize("value", ["", "5", "S", "-1S", "1e3S", "999999999999999999999S", "1x"])
def test_a_malformed_timeout(server: Server, value: str) -> None:
    answer = call(server, "GetInfo", prefixed(b""), [("grpc-timeout", value)])
    assert status(answer) in ((0, 3) if value in ("", "5") else (3,))


def test_a_message_byte_by_byte(server: Server) -> None:
    with h2(server) as session:
        stream = session.open_stream()
        head = session.head("POST", SERVICE + "Count", [GRPC, TRAILERS])
        session.send(frame(HEADERS, END_HEADERS, stream, head))
        body = prefixed(pb.CountRequest(collection="nothing-here").SerializeToString())
        for byte in body:
            session.send(frame(DATA, 0, stream, bytes([byte])))
        session.send(frame(DATA, END_STREAM, stream))
        answer = session.response(stream)
    assert status(answer) == 5


def test_a_stream_of_batches_in_one_frame(server: Server, collection_name: str) -> None:
    with open_client(server) as client:
        create(client, collection_name)
    write = pb.WriteRequest(
        collection=collection_name, records=[pb.Record(id="a", vector=[1, 2])]
    ).SerializeToString()
    answer = call(server, "BulkUpsert", prefixed(write) * 9)
    assert status(answer) == 0
    assert pb.BulkWriteResponse.FromString(answer.body[5:]).batches == 9
    cut = call(server, "BulkUpsert", prefixed(write) * 3 + prefixed(write)[:-1])
    assert status(cut) == 3


def test_the_message_of_an_error_is_percent_encoded(server: Server) -> None:
    request = pb.GetCollectionRequest(collection="caf\u00e9-%").SerializeToString()
    answer = call(server, "GetCollection", prefixed(request))
    assert status(answer) in (3, 5)
    encoded = message_of(answer)
    assert encoded.isascii()
    assert "caf%C3%A9-%25" in encoded
