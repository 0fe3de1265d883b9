"""What a crash writer needs of a server, and the REST door to it."""

import http.client
import json
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from tests.crash.journal import DIMENSION, Attempt, metadata_of, vector_of
from tests.lib.server import LIMIT_S

COUNTERS = "counters"


class RefusedError(Exception):
    """The server answered that it did not do it; the text is the code."""


class GoneError(Exception):
    """No answer: the outcome is unknown."""


@dataclass(frozen=True, slots=True)
class Written:
    version: int


class Door(Protocol):
    """The operations a writer needs; RefusedError or GoneError on failure."""

    def connect(self, port: int) -> None: ...
    def write(self, attempt: Attempt, if_version: int | None = None) -> Written: ...
    def get(self, collection: str, record_id: str) -> tuple[int, dict[str, Any]] | None: ...
    def increment(self, record_id: str, value: int, if_version: int) -> Written: ...
    def create(self, name: str) -> None: ...
    def drop(self, name: str) -> None: ...


# ---- REST ----

METHODS = {"upsert": "PUT", "insert": "POST", "update": "PATCH", "update_vector": "PATCH"}


def rest_record(attempt: Attempt, index: int, if_version: int | None) -> dict[str, Any]:
    record: dict[str, Any] = {"id": attempt.ids[index]}
    if attempt.kind in ("upsert", "insert"):
        record["metadata"] = metadata_of(attempt.number, index)
    else:
        record["metadata"] = {"u": attempt.number}
    if attempt.kind != "update":
        record["vector"] = vector_of(attempt.number, index)
    if if_version is not None:
        record["if_version"] = if_version
    return record


@dataclass(slots=True)
class RestDoor:
    connection: http.client.HTTPConnection | None = None

    def connect(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        assert self.connection is not None
        data = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            self.connection.request(method, "/v1/collections" + path, data, headers)
            answer = self.connection.getresponse()
            parsed: dict[str, Any] = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise GoneError from error
        if answer.status >= 400:
            if parsed["error"]["details"].get("outcome") == "unknown":
                raise GoneError
            raise RefusedError(parsed["error"]["code"])
        return parsed

    def write(self, attempt: Attempt, if_version: int | None = None) -> Written:
        path = f"/{attempt.collection}/vectors"
        if attempt.kind == "delete":
            self.call("POST", path + "/delete", {"ids": list(attempt.ids)})
            return Written(0)
        records = [rest_record(attempt, i, if_version) for i in range(len(attempt.ids))]
        answer = self.call(METHODS[attempt.kind], path, {"vectors": records})
        versions = set(answer["versions"])
        assert len(versions) == 1, "a batch has one version"
        return Written(versions.pop())

    def get(self, collection: str, record_id: str) -> tuple[int, dict[str, Any]] | None:
        try:
            record = self.call("GET", f"/{collection}/vectors/{quote(record_id, safe='')}")
        except RefusedError as error:
            if str(error) != "NOT_FOUND":
                raise
            return None
        return record["version"], record["metadata"]

    def increment(self, record_id: str, value: int, if_version: int) -> Written:
        record = {"id": record_id, "metadata": {"value": value}, "if_version": if_version}
        answer = self.call("PUT", f"/{COUNTERS}/vectors", {"vectors": [record]})
        return Written(answer["versions"][0])

    def create(self, name: str) -> None:
        self.call("POST", "", {"name": name, "dimension": DIMENSION, "metric": "euclidean"})

    def drop(self, name: str) -> None:
        self.call("DELETE", f"/{name}")
