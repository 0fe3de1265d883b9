"""Clients that change a server while it is stopped, killed and started, and note what happened."""

import http.client
import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.lib.server import LIMIT_S
from tests.pitr.history import Batch, Collection, Described, History, Row, Rows, Span, now_us

DIMENSION = 3
IDS = 60
SHARED = "shared"
FIELD_BYTES = 300  # of metadata: rows of some size fill the logs


class GoneError(Exception):
    """No answer: it may have happened or not."""


@dataclass(slots=True)
class Door:
    """Where the server is, for all clients; they wait while there is none."""

    port: int = 0
    opened: threading.Condition = field(default_factory=threading.Condition)
    ended: bool = False

    def open(self, port: int) -> None:
        with self.opened:
            self.port = port
            self.opened.notify_all()

    def close(self) -> None:
        with self.opened:
            self.port = 0

    def end(self) -> None:
        with self.opened:
            self.ended = True
            self.opened.notify_all()

    def wait(self) -> int:
        """The port; 0: the load is over."""
        with self.opened:
            there = self.opened.wait_for(lambda: self.port != 0 or self.ended, LIMIT_S)
            assert there, "the server did not come back"
            return 0 if self.ended else self.port


@dataclass(slots=True)
class Client:
    door: Door
    connection: http.client.HTTPConnection | None = None

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        if self.connection is None:
            raise GoneError
        data = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            self.connection.request(method, "/v1" + path, data, headers)
            answer = self.connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection = None
            raise GoneError from error
        parsed: dict[str, Any] = json.loads(text) if text else {}
        if answer.status in (499, 503):  # it is stopping
            self.connection = None
            raise GoneError
        if answer.status >= 400:
            parsed["failed"] = parsed["error"]["code"]
        return parsed

    def connect(self) -> bool:
        """Until the server answers; False: the load is over."""
        while True:
            port = self.door.wait()
            if port == 0:
                return False
            self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
            try:
                self.call("GET", "/info")
                return True
            except GoneError:
                continue


def of(name: str, rest: str = "") -> str:
    return "/collections/" + quote(name, safe="") + rest


@dataclass(slots=True)
class Writer:
    """Changes its own collections, one at a time, and its own ids in the shared one."""

    index: int
    rng: random.Random
    client: Client
    history: History
    lock: threading.Lock  # of the history
    shared: Collection
    mine: dict[str, Collection] = field(default_factory=dict)  # by name
    rows: dict[str, Rows] = field(default_factory=dict)  # by uuid: what is there now
    versions: dict[str, int] = field(default_factory=dict)  # by uuid: the newest one
    number: int = 0
    steps: int = 0
    snapshots: int = 0
    copy_due: bool = False

    def run(self) -> None:
        """Until the load is over."""
        while self.client.connect():
            try:
                self.settle()
                self.look_at_versions()
                while not self.client.door.ended:
                    self.step()
                    self.steps += 1
            except GoneError:
                continue

    # ---- what was not answered ----

    pending: Callable[[], None] | None = None

    def settle(self) -> None:
        """Finds out what became of the operation that was not answered."""
        if self.pending is not None:
            self.pending()
            self.pending = None

    def look_at_versions(self) -> None:
        """They may have jumped, where a sync mode may have been a weak one."""
        for collection in self.mine.values():
            self.versions[collection.uuid] = self.version_of(collection)

    def version_of(self, collection: Collection) -> int:
        return int(self.client.call("GET", of(collection.name))["version"])

    def do(self, operation: Callable[[], bool], look_up: Callable[[int], None]) -> None:
        """`operation` is True when it was answered; else `look_up` runs after the restart."""
        begun = now_us()
        self.pending = lambda: look_up(begun)
        operation()
        self.pending = None

    # ---- operations ----

    def step(self) -> None:
        if self.copy_due and self.mine:
            self.copy()
            self.copy_due = False
            return
        roll = self.rng.random()
        if len(self.mine) < 2 or (roll < 0.03 and len(self.mine) < 4):
            self.create()
        elif roll < 0.05 and len(self.mine) > 2:
            self.drop()
        elif roll < 0.08:
            self.describe()
        elif roll < 0.30:
            self.upsert(self.shared, shared=True)
        elif roll < 0.80:
            self.upsert(self.rng.choice(list(self.mine.values())))
        else:
            self.delete(self.rng.choice(list(self.mine.values())))

    def create(self) -> None:
        # a name that was dropped may come again
        name = f"w{self.index}-{self.rng.randrange(6)}"
        if name in self.mine:
            return
        sync = self.rng.choice(["always", "batch"])
        body = {"name": name, "dimension": DIMENSION, "metric": "euclidean", "sync": sync}
        begun = now_us()

        def operation() -> bool:
            answer = self.client.call("POST", "/collections", body)
            assert "failed" not in answer, answer
            self.created(answer["uuid"], name, Span(begun, now_us()))
            return True

        def look_up(begun: int) -> None:
            answer = self.client.call("GET", of(name))
            if "failed" not in answer:
                self.created(answer["uuid"], name, Span(begun, now_us()))

        self.do(operation, look_up)

    def created(self, uuid: str, name: str, span: Span) -> None:
        with self.lock:
            self.mine[name] = self.history.begin(Collection(name, uuid, span))
        self.rows[uuid] = {}
        self.versions[uuid] = 0

    def drop(self) -> None:
        name = self.rng.choice(list(self.mine))
        begun = now_us()

        def gone(begun: int) -> None:
            self.mine.pop(name).dropped = Span(begun, now_us())

        def operation() -> bool:
            answer = self.client.call("DELETE", of(name))
            assert "failed" not in answer, answer
            gone(begun)
            return True

        def look_up(begun: int) -> None:
            answer = self.client.call("GET", of(name))
            if answer.get("failed") == "NOT_FOUND":
                gone(begun)

        self.do(operation, look_up)

    def describe(self) -> None:
        collection = self.rng.choice(list(self.mine.values()))
        self.number += 1
        text = f"text {self.number}"
        begun = now_us()

        def noted(begun: int) -> None:
            collection.described.append(Described(text, Span(begun, now_us())))

        def operation() -> bool:
            answer = self.client.call("PATCH", of(collection.name), {"description": text})
            assert "failed" not in answer, answer
            noted(begun)
            return True

        def look_up(begun: int) -> None:
            if self.client.call("GET", of(collection.name))["description"] == text:
                noted(begun)

        self.do(operation, look_up)

    def ids(self) -> list[str]:
        count = int(2 ** (self.rng.random() * 5))
        return [f"{self.index}/{i}" for i in self.rng.sample(range(IDS), count)]

    def upsert(self, collection: Collection, *, shared: bool = False) -> None:
        self.number += 1
        value = float(self.number)
        ids = self.ids()
        records = [
            {
                "id": name,
                "vector": [value, float(self.index), 1.0],
                "metadata": {"n": self.number, "pad": "x" * self.rng.randrange(FIELD_BYTES)},
            }
            for name in ids
        ]
        begun = now_us()

        def noted(version: int, begun: int) -> None:
            batch = Batch(version, Span(begun, now_us()), dict.fromkeys(ids, value))
            with self.lock:
                collection.batches.append(batch)
            if not shared:
                self.rows[collection.uuid] |= dict.fromkeys(ids, (version, value))
                self.versions[collection.uuid] = version

        def operation() -> bool:
            answer = self.client.call("PUT", of(collection.name, "/vectors"), {"vectors": records})
            assert "failed" not in answer, answer
            versions = set(answer["versions"])
            assert len(versions) == 1, "a batch has one version"
            noted(versions.pop(), begun)
            return True

        def look_up(begun: int) -> None:
            found = self.get(collection, ids[0])
            if found is not None and found[1] == value:
                noted(found[0], begun)

        self.do(operation, look_up)

    def get(self, collection: Collection, name: str) -> Row | None:
        answer = self.client.call("GET", of(collection.name, "/vectors/" + quote(name, safe="")))
        if answer.get("failed") == "NOT_FOUND":
            return None
        assert "failed" not in answer, answer
        return int(answer["version"]), float(answer["metadata"]["n"])

    def delete(self, collection: Collection) -> None:
        there = self.rows[collection.uuid]
        ids = [name for name in self.ids() if name in there]
        if not ids:
            return
        begun = now_us()
        # nobody else changes this collection: its versions are consecutive
        version = self.versions[collection.uuid] + 1

        def noted(begun: int) -> None:
            self.versions[collection.uuid] = version
            batch = Batch(version, Span(begun, now_us()), dict.fromkeys(ids))
            with self.lock:
                collection.batches.append(batch)
            for name in ids:
                del there[name]

        def operation() -> bool:
            path = of(collection.name, "/vectors/delete")
            answer = self.client.call("POST", path, {"ids": ids})
            assert answer.get("deleted") == len(ids), answer
            noted(begun)
            return True

        def look_up(begun: int) -> None:
            if self.get(collection, ids[0]) is None:
                noted(begun)

        self.do(operation, look_up)
        there_now = self.version_of(collection)
        assert there_now == version, f"{collection.name}: {there_now}, expected {version}"

    # ---- once in a while, asked for by the test ----

    def copy(self) -> None:
        """One of its collections comes again out of a snapshot, under another name."""
        source = next(iter(self.mine.values()))
        self.snapshots += 1
        snapshot = f"s{self.index}-{self.snapshots}"
        target = f"copy{self.index}-{self.snapshots}"
        done = self.client.call("POST", "/snapshots", {"name": snapshot, "collection": source.name})
        assert "failed" not in done, done
        begun = now_us()
        body = {"target": target}
        answer = self.client.call("POST", f"/snapshots/{snapshot}/restore", body)
        assert "failed" not in answer, answer
        copy = Collection(target, answer["uuid"], Span(begun, now_us()))
        copy.born = dict(self.rows[source.uuid])
        copy.born_version = int(answer["version"])
        copy.born_description = source.description()
        with self.lock:
            self.mine[target] = self.history.begin(copy)
        self.rows[copy.uuid] = dict(copy.born)
        self.versions[copy.uuid] = copy.born_version
