"""Collections that live through everything at once, and a model in numpy that knows each of them.

A Life owns one collection: it draws what to do next, does it, and keeps what the collection then
has to hold. What is under way when the server is killed leaves two possible states, of which the
server must show one whole (`settle`). `verify` compares all that searches and reads tell.
"""

import http.client
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
import numpy as np
from proximadb.v1 import proximadb_pb2 as pb
from proximadb.v1 import proximadb_pb2_grpc as rpc

from tests.grpc.client import condition
from tests.http.wire import eventually
from tests.lib.rest import Json, RestClient, RestError
from tests.lib.server import Server
from tests.recall.truth import Floats, bits_of, scores, truth_of

GROUPS = 10
CENTRES = 20
BATCH_MAX = 300
ROWS_MAX = 4000
K = 10
QUERIES = 30
MORE_QUERIES = 500  # when few of them say little: half of a cluster missed is three points of 30
GATE = 0.9
SPARSE_SHARE = 0.6
# What a server may say to a write that it has no room for; nothing has changed then.
NO_ROOM = {"RESOURCE_EXHAUSTED"}
LOST = (OSError, http.client.HTTPException, grpc.RpcError)

INDEXES: list[Json] = [
    {"type": "auto"},
    {"type": "flat"},
    {"type": "hnsw"},
    {"type": "hnsw", "m": 6, "ef_construction": 60},
    {"type": "ivf"},
    {"type": "ivf", "nlist": 7},
]
CODES: list[Json] = [
    {"type": "auto"},
    {"type": "none"},
    {"type": "sq8"},
    {"type": "sq4"},
    {"type": "pq"},
    {"type": "binary", "bits": 1},
    {"type": "binary", "bits": 5},
]
PLAIN_CODES: list[Json] = [{"type": "auto"}, {"type": "none"}]
STORAGES = ("memory", "mmap", "disk")


@dataclass(frozen=True, slots=True)
class VectorField:
    name: str
    dimension: int
    metric: str
    type: str
    sparse: bool

    def shaped(self, rows: Floats) -> Floats:
        """As the server keeps them."""
        if self.metric == "hamming":
            return bits_of(rows)
        if self.type == "int8":
            return np.clip(np.round(rows * 20), -128, 127).astype(np.float32) + np.float32(0)
        if self.type == "float16":
            return rows.astype(np.float16).astype(np.float32)
        return rows


@dataclass(frozen=True, slots=True)
class Row:
    group: int
    vectors: dict[str, Floats]


@dataclass(frozen=True, slots=True)
class State:
    """A collection as it has to be; what is in it is never changed, only replaced."""

    fields: tuple[VectorField, ...]
    rows: dict[str, Row]


@dataclass(slots=True)
class Life:
    name: str
    rng: random.Random
    server: Server
    state: State | None = None
    snapshots: dict[str, State] = field(default_factory=dict)
    candidates: list[State | None] = field(default_factory=list)
    refused: int = 0
    done: dict[str, int] = field(default_factory=dict)
    _rest: RestClient | None = None
    _channel: grpc.Channel | None = None

    # ---- talking ----

    @property
    def rest(self) -> RestClient:
        if self._rest is None:
            self._rest = RestClient(self.server)
        return self._rest

    @property
    def stub(self) -> rpc.ProximaDBStub:
        if self._channel is None:
            target = f"{self.server.host}:{self.server.grpc_port}"
            options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
            self._channel = grpc.insecure_channel(target, options=options)
        return rpc.ProximaDBStub(self._channel)

    def hang_up(self) -> None:
        if self._rest is not None:
            self._rest.close()
        if self._channel is not None:
            self._channel.close()
        self._rest = self._channel = None

    def attempt(self, what: str, after: State | None, act: Callable[[], object]) -> bool:
        """Does it, and takes its outcome over. Raises when the server is lost meanwhile."""
        self.candidates = [self.state, after]
        try:
            act()
        except RestError as error:
            if error.code not in NO_ROOM:
                raise
            self.refused += 1
            self.candidates = []
            return False
        self.candidates = []
        self.state = after
        self.done[what] = self.done.get(what, 0) + 1
        return True

    # ---- what there is to do ----

    def step(self) -> None:
        if self.state is None:
            self.create()
            return
        acts = [
            (30, self.upsert),
            (8, self.replace_some),
            (8, self.delete_ids),
            (3, self.delete_group),
            (6, self.change_groups),
            (6, self.patch_index),
            (2, self.patch_more),
            (20, self.search_one),
            (5, self.count_one),
            (1, self.drop),
            (2, self.take_snapshot),
            (1, self.restore),
            (1, self.measure),
        ]
        act = self.rng.choices([act for _, act in acts], [weight for weight, _ in acts])[0]
        act()

    def create(self) -> None:
        rng = self.rng
        fields = []
        names = ("",) if rng.random() < 0.6 else ("a", "b")
        for name in names:
            metric = rng.choice(("cosine", "dot", "euclidean", "manhattan", "hamming"))
            kind = "float32" if metric == "hamming" else rng.choice(("float32", "float16", "int8"))
            dimension = rng.choice((1, 3, 16, 33, 64)) if metric == "euclidean" else 32
            if metric == "hamming":
                dimension = rng.choice((96, 128, 133))
            fields.append(VectorField(name, dimension, metric, kind, name == "b"))
        told = []
        for one in fields:
            settings: Json = {"name": one.name, "dimension": one.dimension, "metric": one.metric}
            if one.type != "float32":
                settings["type"] = one.type
            told.append(settings | self.draw_settings(one))
        body: Json = {"name": self.name, "storage": {"vectors": rng.choice(STORAGES)}}
        if fields[0].name == "":
            body |= {key: value for key, value in told[0].items() if key != "name"}
        else:
            body["fields"] = told
        state = State(tuple(fields), {})
        self.attempt("create", state, lambda: self.rest.call("POST", "/v1/collections", body))

    def draw_settings(self, one: VectorField) -> Json:
        plain = one.metric in ("manhattan", "hamming")
        return {
            "index": self.rng.choice(INDEXES),
            "quantization": self.rng.choice(PLAIN_CODES if plain else CODES),
        }

    def draw(self, one: VectorField, count: int) -> Floats:
        """Around centres that are always the same for vectors of the same kind."""
        rng = np.random.default_rng(self.rng.getrandbits(63))
        fixed = np.random.default_rng(one.dimension)
        centres = fixed.standard_normal((CENTRES, one.dimension)).astype(np.float32)
        around = centres[rng.integers(0, len(centres), count)]
        noise = rng.standard_normal((count, one.dimension)).astype(np.float32)
        return one.shaped((around + np.float32(0.6) * noise).astype(np.float32))

    def write(self, what: str, ids: list[str]) -> None:
        assert self.state is not None
        drawn = {one.name: self.draw(one, len(ids)) for one in self.state.fields}
        rows, told = {}, []
        for at, row_id in enumerate(ids):
            vectors = {
                one.name: drawn[one.name][at]
                for one in self.state.fields
                if not (one.sparse and self.rng.random() > SPARSE_SHARE)
            }
            row = Row(self.rng.randrange(GROUPS), vectors)
            rows[row_id] = row
            record: Json = {"id": row_id, "metadata": {"g": row.group}}
            if "" in vectors:
                record["vector"] = vectors[""].tolist()
            else:
                record["vectors"] = {name: value.tolist() for name, value in vectors.items()}
            told.append(record)
        after = State(self.state.fields, self.state.rows | rows)
        self.attempt(what, after, lambda: self.rest.upsert(self.name, told))

    def some_ids(self, count: int) -> list[str]:
        assert self.state is not None
        ids = list(self.state.rows)
        return self.rng.sample(ids, min(count, len(ids)))

    def upsert(self) -> None:
        assert self.state is not None
        if len(self.state.rows) >= ROWS_MAX:
            self.delete_ids()
            return
        first = self.rng.randrange(1 << 30)
        count = self.rng.randint(1, BATCH_MAX)
        self.write("upsert", [f"r{first + i}" for i in range(count)])

    def replace_some(self) -> None:
        ids = self.some_ids(self.rng.randint(1, BATCH_MAX))
        if ids:
            self.write("replace", ids)

    def without(self, ids: set[str]) -> State:
        assert self.state is not None
        rows = {name: row for name, row in self.state.rows.items() if name not in ids}
        return State(self.state.fields, rows)

    def delete_ids(self) -> None:
        ids = self.some_ids(self.rng.randint(1, BATCH_MAX))
        if ids:
            after = self.without(set(ids))
            self.attempt("delete", after, lambda: self.rest.delete(self.name, ids=ids))

    def delete_group(self) -> None:
        assert self.state is not None
        group = self.rng.randrange(GROUPS)
        gone = {name for name, row in self.state.rows.items() if row.group == group}

        def act() -> None:
            told = self.rest.delete(self.name, filter={"g": group})
            assert told["deleted"] == len(gone), f"{told} instead of {len(gone)}"

        self.attempt("delete by filter", self.without(gone), act)

    def change_groups(self) -> None:
        assert self.state is not None
        ids = self.some_ids(self.rng.randint(1, BATCH_MAX))
        if not ids:
            return
        group = self.rng.randrange(GROUPS)
        changed = {name: Row(group, self.state.rows[name].vectors) for name in ids}
        told = [{"id": name, "metadata": {"g": group}} for name in ids]
        after = State(self.state.fields, self.state.rows | changed)
        self.attempt("patch rows", after, lambda: self.rest.update(self.name, told))

    def patch_index(self) -> None:
        assert self.state is not None
        one = self.rng.choice(self.state.fields)
        settings = self.draw_settings(one)
        if self.rng.random() < 0.5:
            settings.pop(self.rng.choice(list(settings)))
        body = settings if one.name == "" else {"fields": [{"name": one.name} | settings]}
        self.attempt(
            "patch index", self.state, lambda: self.rest.update_collection(self.name, **body)
        )

    def patch_more(self) -> None:
        body: Json = self.rng.choice(
            (
                {"target_recall": self.rng.choice((None, 0.95, 0.99, 1))},
                {"storage": {"vectors": self.rng.choice(STORAGES)}},
                {"storage": {"compression": self.rng.choice(("none", "zstd", "lz4"))}},
            )
        )
        self.attempt(
            "patch more", self.state, lambda: self.rest.update_collection(self.name, **body)
        )

    def drop(self) -> None:
        self.attempt("drop", None, lambda: self.rest.delete_collection(self.name))

    def take_snapshot(self) -> None:
        assert self.state is not None
        name = f"{self.name}-{self.rng.randrange(1 << 30)}"
        state = self.state

        def act() -> None:
            body = {"name": name, "collection": self.name}
            self.rest.call("POST", "/v1/snapshots", body)

        if self.attempt("snapshot", state, act):
            self.snapshots[name] = state
        if len(self.snapshots) > 2:
            gone = next(iter(self.snapshots))
            del self.snapshots[gone]  # first: a kill leaves open whether it is there
            self.attempt(
                "forget", self.state, lambda: self.rest.call("DELETE", f"/v1/snapshots/{gone}")
            )

    def restore(self) -> None:
        if not self.snapshots:
            return
        name = self.rng.choice(list(self.snapshots))
        state = self.snapshots[name]
        body = {"collection": self.name, "replace": True}
        path = f"/v1/snapshots/{name}/restore"
        self.attempt("restore", state, lambda: self.rest.call("POST", path, body))

    def measure(self) -> None:
        assert self.state is not None
        one = self.rng.choice(self.state.fields)
        path = f"/v1/collections/{self.name}/recall?queries=8&field={one.name}"
        self.attempt("measure", self.state, lambda: self.rest.call("GET", path))

    # ---- what it has to tell ----

    def query_of(self, one: VectorField) -> Floats:
        query: Floats = self.draw(one, 1)[0]
        return query

    def hits_of_rest(
        self, one: VectorField, query: Floats, group: int | None, params: Json
    ) -> list[tuple[str, float]]:
        body: Json = {"vector": query.tolist(), "k": K, "params": params}
        if one.name:
            body["field"] = one.name
        if group is not None:
            body["filter"] = {"g": group}
        hits = self.rest.search(self.name, **body)["results"]
        return [(hit["id"], float(hit["score"])) for hit in hits]

    def hits_of_grpc(
        self, one: VectorField, query: Floats, group: int | None, params: Json
    ) -> list[tuple[str, float]]:
        asked = pb.SearchQuery(
            vector=query.tolist(), k=K, field=one.name, params=pb.SearchParams(**params)
        )
        if group is not None:
            asked.filter.CopyFrom(condition("g", pb.OPERATOR_EQ, group))
        request = pb.SearchRequest(collection=self.name, query=asked)
        return [(hit.id, hit.score) for hit in self.stub.Search(request).results]

    def check_hits(
        self, one: VectorField, query: Floats, group: int | None, params: Json | None = None
    ) -> list[float]:
        """Full, of rows that live and match, each once, with the right scores, in order."""
        assert self.state is not None
        rows = {
            name: row.vectors[one.name]
            for name, row in self.state.rows.items()
            if one.name in row.vectors and group in (None, row.group)
        }
        ask = self.rng.choice((self.hits_of_rest, self.hits_of_grpc))
        hits = ask(one, query, group, params or {})
        ids = [hit[0] for hit in hits]
        told = f"{self.name} {one} group={group} {params}: {len(ids)} of {len(rows)}"
        assert len(set(ids)) == len(ids) == min(K, len(rows)), told
        assert set(ids) <= set(rows), f"{told}: {set(ids) - set(rows)}"
        found = [hit[1] for hit in hits]
        if ids:
            true = scores(one.metric, np.stack([rows[name] for name in ids]), query)
            assert np.allclose(found, true, rtol=1e-3, atol=1e-3), f"{told}: {found} {true}"
        return found

    def draw_params(self) -> Json:
        return self.rng.choice(
            (
                {},
                {"exact": True},
                {"ef": self.rng.choice((1, 10, 200, 16384))},
                {"nprobe": self.rng.choice((1, 5, 65536))},
                {"target_recall": self.rng.choice((0.5, 0.9, 0.99, 1.0))},
            )
        )

    def search_one(self) -> None:
        assert self.state is not None
        one = self.rng.choice(self.state.fields)
        group = self.rng.choice((None, self.rng.randrange(GROUPS)))
        params = self.draw_params()
        query = self.query_of(one)
        self.attempt(
            "search", self.state, lambda: self.check_hits(one, query, group, params=params)
        )

    def count_one(self) -> None:
        assert self.state is not None
        rows = self.state.rows
        assert self.rest.count(self.name) == len(rows)
        group = self.rng.randrange(GROUPS)
        wanted = sum(row.group == group for row in rows.values())
        assert self.rest.count(self.name, filter={"g": group}) == wanted

    # ---- after a kill ----

    def shown(self) -> dict[str, tuple[int, dict[str, bytes]]] | None:
        """What the server has, all of it; None: no such collection."""
        rows: dict[str, tuple[int, dict[str, bytes]]] = {}
        cursor = None
        while True:
            body: Json = {"limit": 1000, "include": ["metadata", "vectors"]}
            if cursor is not None:
                body["cursor"] = cursor
            try:
                page = self.rest.scroll(self.name, **body)
            except RestError as error:
                if error.code != "NOT_FOUND":
                    raise
                return None
            for one in page["records"]:
                vectors = dict(one.get("vectors") or {})
                if one.get("vector") is not None:
                    vectors[""] = one["vector"]
                rows[one["id"]] = (one["metadata"]["g"], {k: packed(v) for k, v in vectors.items()})
            cursor = page.get("next_cursor")
            if cursor is None:
                return rows

    def settle(self) -> None:
        """Finds which of the possible states the server is in; it has to be one of them."""
        shown = self.shown()
        states = self.candidates or [self.state]
        for state in reversed(states):
            if shown == plain_of(state):
                self.state = state
                self.candidates = []
                return
        told = [None if state is None else len(state.rows) for state in states]
        found = None if shown is None else len(shown)
        wanted, have = plain_of(self.state) or {}, shown or {}
        odd = [name for name in wanted.keys() | have.keys() if wanted.get(name) != have.get(name)]
        some = [(name, wanted.get(name), have.get(name)) for name in odd[:2]]
        raise AssertionError(f"{self.name}: {found} rows shown, possible are {told}; {some}")

    # ---- at rest ----

    def wait_indexed(self) -> None:
        if self.state is None:
            return

        def settled() -> bool:
            info = self.rest.get_collection(self.name)
            states = [one["index_state"] for one in info["fields"]]
            return bool(
                info["stats"]["memtable_rows"] == 0
                and all(state["state"] == "ready" for state in states)
                and all(state["rows_indexed"] >= state["rows_wanted"] for state in states)
            )

        eventually(f"{self.name} is indexed", settled)

    def verify(self) -> None:
        """Reads, exact searches and searches by index tell what the model knows."""
        self.settle()
        if self.state is None:
            return
        self.count_one()
        for one in self.state.fields:
            self.verify_field(one)

    def verify_field(self, one: VectorField) -> None:
        assert self.state is not None
        held = [
            row.vectors[one.name] for row in self.state.rows.values() if one.name in row.vectors
        ]
        rows = np.array(held, dtype=np.float32).reshape(-1, one.dimension)
        queries = np.stack([self.query_of(one) for _ in range(QUERIES)])
        exact = [self.check_hits(one, q, None, params={"exact": True}) for q in queries[:10]]
        part = truth_of(one.metric, rows, queries[:10], K)
        assert part.recall([loose(one, found) for found in exact]) == 1.0, f"{self.name} {one}"
        if self.recall(one, rows, queries) < GATE:
            more = np.stack([self.query_of(one) for _ in range(MORE_QUERIES)])
            recall = self.recall(one, rows, more)
            info = self.rest.get_collection(self.name)
            assert recall >= GATE, f"{self.name} {one}: recall {recall} {info}"
        for query in queries[:10]:
            self.check_hits(one, query, self.rng.randrange(GROUPS))

    def recall(self, one: VectorField, rows: Floats, queries: Floats) -> float:
        found = [loose(one, self.check_hits(one, query, None)) for query in queries]
        return truth_of(one.metric, rows, queries, K).recall(found)


def loose(one: VectorField, found: list[float]) -> list[float]:
    """Scores of float32 arithmetic, a little better than they are, for numpy's to compare with."""
    better = 1.0 if one.metric in ("cosine", "dot") else -1.0
    return [score + better * 2e-4 * max(1.0, abs(score)) for score in found]


def packed(vector: list[float]) -> bytes:
    return np.array(vector, dtype=np.float32).tobytes()


def plain_of(state: State | None) -> dict[str, tuple[int, dict[str, bytes]]] | None:
    if state is None:
        return None
    return {
        name: (
            row.group,
            {field: v.astype(np.float32).tobytes() for field, v in row.vectors.items()},
        )
        for name, row in state.rows.items()
    }
