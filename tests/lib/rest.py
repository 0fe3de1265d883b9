"""A small client of the REST door, on the standard library; hides nothing a test may ask."""

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import quote

from tests.lib.server import LIMIT_S, Server

Json = dict[str, Any]
# Below every idle_s that a test sets: a slow test must not meet the server closing a connection.
IDLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Json:
        value = json.loads(self.body)
        assert isinstance(value, dict), f"expected a JSON object, got {self.body[:200]!r}"
        return value

    def header(self, name: str) -> str | None:
        return self.headers.get(name)

    @property
    def error_code(self) -> str:
        """The code in an error's body, such as "NOT_FOUND"."""
        return str(self.json()["error"]["code"])

    @property
    def error_message(self) -> str:
        return str(self.json()["error"]["message"])


class RestError(AssertionError):
    """An answer other than 2xx where the test expected success."""

    def __init__(self, what: str, response: Response) -> None:
        text = response.body[:1000].decode("utf-8", "replace")
        super().__init__(f"{what}: {response.status} {text}")
        self.response = response

    @property
    def code(self) -> str:
        return self.response.error_code


class RestClient:
    """One keep-alive connection, a new one after IDLE_S of silence.

    `request` returns any answer; the operations raise RestError.
    """

    def __init__(self, server: Server, timeout_s: float = LIMIT_S) -> None:
        if server.options.tls is None:
            self._connection = http.client.HTTPConnection(
                server.host, server.rest_port, timeout=timeout_s
            )
        else:
            self._connection = http.client.HTTPSConnection(
                server.host,
                server.rest_port,
                timeout=timeout_s,
                context=server.options.tls.client_context(),
            )

        self._used = time.monotonic()

    def __enter__(self) -> "RestClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def request(
        self,
        method: str,
        path: str,
        body: Json | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """A dictionary is sent as JSON with its content type, bytes as they are."""
        sent = dict(headers or {})
        if isinstance(body, dict):
            body = json.dumps(body).encode()
            sent.setdefault("content-type", "application/json")
        if time.monotonic() - self._used > IDLE_S:
            self._connection.close()
        self._connection.request(method, path, body=body, headers=sent)
        answer = self._connection.getresponse()
        response = Response(answer.status, answer.headers, answer.read())
        self._used = time.monotonic()
        return response

    def call(self, method: str, path: str, body: Json | None = None) -> Json:
        """The body of a 2xx answer."""
        response = self.request(method, path, body)
        if not 200 <= response.status < 300:
            raise RestError(f"{method} {path}", response)
        return response.json() if response.body else {}

    # ---- operations, named as in docs/api/rest.md ----

    def create_collection(
        self, name: str, dimension: int, metric: str = "cosine", **settings: object
    ) -> Json:
        body = {"name": name, "dimension": dimension, "metric": metric} | settings
        return self.call("POST", "/v1/collections", body)

    def list_collections(self) -> Json:
        return self.call("GET", "/v1/collections")

    def get_collection(self, name: str) -> Json:
        return self.call("GET", _collection(name))

    def update_collection(self, name: str, **settings: object) -> Json:
        return self.call("PATCH", _collection(name), dict(settings))

    def delete_collection(self, name: str) -> Json:
        return self.call("DELETE", _collection(name))

    def upsert(self, name: str, vectors: Sequence[Json], **more: object) -> Json:
        return self.call("PUT", _collection(name, "vectors"), {"vectors": list(vectors)} | more)

    def insert(self, name: str, vectors: Sequence[Json], **more: object) -> Json:
        return self.call("POST", _collection(name, "vectors"), {"vectors": list(vectors)} | more)

    def update(self, name: str, vectors: Sequence[Json], **more: object) -> Json:
        return self.call("PATCH", _collection(name, "vectors"), {"vectors": list(vectors)} | more)

    def get(self, name: str, ids: Sequence[str], **more: object) -> Json:
        return self.call("POST", _collection(name, "vectors/get"), {"ids": list(ids)} | more)

    def get_one(self, name: str, record_id: str) -> Json:
        return self.call("GET", _collection(name, "vectors/" + quote(record_id, safe="")))

    def delete_one(self, name: str, record_id: str) -> Json:
        return self.call("DELETE", _collection(name, "vectors/" + quote(record_id, safe="")))

    def delete(self, name: str, **body: object) -> Json:
        return self.call("POST", _collection(name, "vectors/delete"), dict(body))

    def scroll(self, name: str, **body: object) -> Json:
        return self.call("POST", _collection(name, "vectors/scroll"), dict(body))

    def count(self, name: str, **body: object) -> int:
        return int(self.call("POST", _collection(name, "vectors/count"), dict(body))["count"])

    def search(self, name: str, **body: object) -> Json:
        return self.call("POST", _collection(name, "search"), dict(body))

    def search_batch(self, name: str, searches: Sequence[Json]) -> Json:
        body: Json = {"searches": list(searches)}
        return self.call("POST", _collection(name, "search/batch"), body)

    def info(self) -> Json:
        return self.call("GET", "/v1/info")


def _collection(name: str, rest: str = "") -> str:
    path = "/v1/collections/" + quote(name, safe="")
    return f"{path}/{rest}" if rest else path
