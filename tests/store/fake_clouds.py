"""Google Cloud Storage and Azure Blob Storage as far as the store speaks to them, in memory.

Both verify what a request is signed with by code of their own, from the providers' references, and
refuse what the real ones refuse: a wrong checksum, a header of the other dialect, a failed
condition.
"""

import base64
import hashlib
import hmac
import itertools
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape

from tests.lib.certificates import Certificate

KEY_ID = "GOOG1EXAMPLE"
SECRET = "google-hmac-secret"
BEARER = "ya29.bearer-token-of-a-test"
ACCOUNT = "testaccount1"
ACCOUNT_KEY = base64.b64encode(b"a key of thirty-two bytes or so.").decode()
SAS = "sv=2020-10-02&ss=b&sig=c2lnbmF0dXJlIG9mIGEgdGVzdA%3D%3D"


def table_entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


CRC_TABLE = [table_entry(byte) for byte in range(256)]


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


@dataclass(frozen=True, slots=True)
class Blob:
    data: bytes
    version: int
    meta: dict[str, str]


@dataclass(slots=True)
class Reply:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        """What follows the bucket or container."""
        return urllib.parse.unquote("/".join(self.path.split("/")[2:]))

    def meta(self, prefix: str) -> dict[str, str]:
        return {k: v for k, v in self.headers.items() if k.startswith(prefix)}


class Refused(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


def ranged(request: Request, blob: Blob, headers: dict[str, str]) -> Reply:
    if "range" not in request.headers:
        return Reply(200, blob.data, headers)
    first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last or 1 << 62), len(blob.data) - 1)
    if start > end:
        raise Refused(416, "InvalidRange")
    span = f"bytes {start}-{end}/{len(blob.data)}"
    return Reply(206, blob.data[start : end + 1], headers | {"Content-Range": span})


class Cloud:
    """What both have: objects under a lock, and answers made of replies."""

    def __init__(self) -> None:
        self.blobs: dict[str, Blob] = {}
        self.lock = threading.Lock()
        self.versions = itertools.count(1000)
        self.seen: list[Request] = []

    def authorise(self, request: Request) -> None:
        raise NotImplementedError

    def serve(self, request: Request) -> Reply:
        raise NotImplementedError

    def answer(self, request: Request) -> Reply:
        with self.lock:
            self.seen.append(request)
            try:
                self.authorise(request)
                return self.serve(request)
            except Refused as refused:
                body = f"<?xml version='1.0'?><Error><Code>{refused.code}</Code></Error>"
                return Reply(refused.status, body.encode())

    def find(self, request: Request, code: str) -> Blob:
        if request.key not in self.blobs:
            raise Refused(404, code)
        return self.blobs[request.key]


class Google(Cloud):
    def authorise(self, request: Request) -> None:
        if any(name.startswith("x-amz-") for name in request.headers):
            raise Refused(400, "ExcessHeaderValues")
        given = request.headers.get("authorization", "")
        if given == f"Bearer {BEARER}":
            return
        algorithm, _, rest = given.partition(" ")
        if algorithm != "GOOG4-HMAC-SHA256":
            raise Refused(401, "InvalidToken")
        fields = dict(part.split("=", 1) for part in rest.split(","))
        scope = fields["Credential"].removeprefix(KEY_ID + "/")
        names = fields["SignedHeaders"].split(";")
        query = "&".join(
            f"{urllib.parse.quote(k, safe='~')}={urllib.parse.quote(v, safe='~')}"
            for k, v in sorted(request.query.items())
        )
        lines = [request.method, request.path, query]
        lines += [f"{name}:{request.headers[name].strip()}" for name in names]
        payload = request.headers["x-goog-content-sha256"]
        lines += ["", ";".join(names), payload]
        text = "\n".join(
            [
                "GOOG4-HMAC-SHA256",
                request.headers["x-goog-date"],
                scope,
                hashlib.sha256("\n".join(lines).encode()).hexdigest(),
            ]
        )
        key = ("GOOG4" + SECRET).encode()
        for part in scope.split("/"):
            key = mac(key, part)
        expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        unsigned = [k for k in request.headers if k.startswith("x-goog-") and k not in names]
        if expected != fields["Signature"] or unsigned:
            raise Refused(403, "SignatureDoesNotMatch")
        if payload != hashlib.sha256(request.body).hexdigest():
            raise Refused(400, "XAmzContentSHA256Mismatch")

    def serve(self, request: Request) -> Reply:
        if request.key == "" and request.query.get("list-type") == "2":
            return self.list(request)
        if request.method == "PUT":
            return self.put(request)
        if request.method == "DELETE":
            self.find(request, "NoSuchKey")
            del self.blobs[request.key]
            return Reply(204)
        blob = self.find(request, "NoSuchKey")
        self.check_condition(request)
        headers = blob.meta | {"x-goog-generation": str(blob.version), "ETag": '"of-google"'}
        return ranged(request, blob, headers)

    def check_condition(self, request: Request) -> None:
        wanted = request.headers.get("x-goog-if-generation-match")
        there = self.blobs.get(request.key)
        if wanted is not None and int(wanted) != (there.version if there else 0):
            raise Refused(412, "PreconditionFailed")

    def put(self, request: Request) -> Reply:
        self.check_condition(request)
        digest = base64.b64encode(crc32c(request.body).to_bytes(4, "big")).decode()
        if request.headers.get("x-goog-hash") != f"crc32c={digest}":
            raise Refused(400, "BadDigest")
        blob = Blob(request.body, next(self.versions), request.meta("x-goog-meta-"))
        self.blobs[request.key] = blob
        return Reply(200, headers={"x-goog-generation": str(blob.version), "ETag": '"of-google"'})

    def list(self, request: Request) -> Reply:
        after = request.query.get("continuation-token", request.query.get("start-after", ""))
        prefix, most = request.query["prefix"], int(request.query["max-keys"])
        keys = sorted(k for k in self.blobs if k.startswith(prefix) and k > after)
        items = "".join(
            f"<Contents><Key>{escape(k)}</Key><Generation>{self.blobs[k].version}</Generation>"
            f"<LastModified>2026-01-02T03:04:05.678Z</LastModified><ETag>&quot;x&quot;</ETag>"
            f"<Size>{len(self.blobs[k].data)}</Size></Contents>"
            for k in keys[:most]
        )
        more = ""
        if len(keys) > most:
            more = f"<NextContinuationToken>{escape(keys[most - 1])}</NextContinuationToken>"
        text = f"<ListBucketResult>{items}{more}</ListBucketResult>"
        return Reply(200, text.encode())


class Azure(Cloud):
    """Path style, as its emulator has it: /account/container/blob."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: dict[str, dict[str, bytes]] = {}

    def authorise(self, request: Request) -> None:
        h = request.headers
        if request.query.pop("sig", None) is not None:
            del request.query["sv"], request.query["ss"]
            if "authorization" in h:
                raise Refused(400, "InvalidAuthenticationInfo")
            return
        length = h.get("content-length", "0")
        standard = ["content-encoding", "content-language", None, "content-md5", "content-type"]
        standard += ["date", "if-modified-since", "if-match", "if-none-match"]
        standard += ["if-unmodified-since", "range"]
        lines = [request.method]
        for name in standard:
            lines.append(h.get(name, "") if name else ("" if length == "0" else length))
        lines += [f"{k}:{v}" for k, v in sorted(h.items()) if k.startswith("x-ms-")]
        lines.append(f"/{ACCOUNT}{request.path}")
        lines += [f"{k}:{v}" for k, v in sorted(request.query.items())]
        key = base64.b64decode(ACCOUNT_KEY)
        signature = base64.b64encode(mac(key, "\n".join(lines))).decode()
        if h.get("authorization") != f"SharedKey {ACCOUNT}:{signature}":
            raise Refused(403, "AuthenticationFailed")

    def serve(self, request: Request) -> Reply:
        request.path = request.path.removeprefix(f"/{ACCOUNT}")
        if request.query.get("restype") == "container":
            return self.list(request)
        comp = request.query.get("comp", "")
        md5 = base64.b64encode(hashlib.md5(request.body).digest()).decode()
        if request.method == "PUT" and request.headers.get("content-md5", md5) != md5:
            raise Refused(400, "Md5Mismatch")
        if comp == "block":
            self.blocks.setdefault(request.key, {})[request.query["blockid"]] = request.body
            return Reply(201)
        if request.method == "PUT":
            return self.put(request, comp)
        blob = self.find(request, "BlobNotFound")
        self.check_condition(request)
        if request.method == "DELETE":
            del self.blobs[request.key]
            return Reply(202)
        return ranged(request, blob, blob.meta | {"ETag": f'"0x{blob.version:X}"'})

    def check_condition(self, request: Request) -> None:
        there = self.blobs.get(request.key)
        if request.headers.get("if-none-match") == "*" and there is not None:
            raise Refused(409, "BlobAlreadyExists")
        wanted = request.headers.get("if-match")
        if wanted is not None and (there is None or wanted != f'"0x{there.version:X}"'):
            raise Refused(412, "ConditionNotMet")

    def put(self, request: Request, comp: str) -> Reply:
        self.check_condition(request)
        data = request.body
        if comp == "blocklist":
            names = data.decode().split("<Latest>")[1:]
            data = b"".join(self.blocks[request.key][n.split("<")[0]] for n in names)
        elif request.headers.get("x-ms-blob-type") != "BlockBlob":
            raise Refused(400, "MissingRequiredHeader")
        blob = Blob(data, next(self.versions), request.meta("x-ms-meta-"))
        self.blobs[request.key] = blob
        return Reply(201, headers={"ETag": f'"0x{blob.version:X}"'})

    def list(self, request: Request) -> Reply:
        after = request.query.get("marker", "")
        prefix, most = request.query["prefix"], int(request.query["maxresults"])
        keys = sorted(k for k in self.blobs if k.startswith(prefix) and k > after)
        items = "".join(
            f"<Blob><Name>{escape(k)}</Name><Properties>"
            f"<Last-Modified>Fri, 02 Jan 2026 03:04:05 GMT</Last-Modified>"
            f"<Etag>0x{self.blobs[k].version:X}</Etag>"
            f"<Content-Length>{len(self.blobs[k].data)}</Content-Length></Properties></Blob>"
            for k in keys[:most]
        )
        marker = escape(keys[most - 1]) if len(keys) > most else ""
        text = (
            f"<?xml version='1.0' encoding='utf-8'?><EnumerationResults><Blobs>{items}</Blobs>"
            f"<NextMarker>{marker}</NextMarker></EnumerationResults>"
        )
        return Reply(200, b"\xef\xbb\xbf" + text.encode())


def handler_of(cloud: Cloud) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            path, _, query = self.path.partition("?")
            headers = {k.lower(): v for k, v in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", "0")))
            pairs = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
            reply = cloud.answer(Request(self.command, path, pairs, headers, body))
            self.send_response_only(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Last-Modified", formatdate(usegmt=True))
            if reply.status != 204:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that refuses our certificate


@contextmanager
def running(cloud: Cloud, certificate: Certificate | None = None) -> Iterator[int]:
    """The port that it listens on."""
    server = QuietServer(("127.0.0.1", 0), handler_of(cloud))
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.cert_path, certificate.key_path)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
