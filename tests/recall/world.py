"""A collection with an index, driven over REST; what it holds is known here."""

from dataclasses import dataclass, field

import numpy as np

from tests.http.wire import eventually
from tests.lib.rest import Json, RestClient
from tests.lib.server import Server
from tests.recall.truth import QUERIES, Floats, K, bits_of, clustered, truth_of

# Flushes come by count alone, so that a test knows when its rows are in a segment.
FLUSH_ROWS = 2000
CONFIG = f"""
[storage]
flush_rows = {FLUSH_ROWS}
flush_age_s = 1
"""
BATCH = 1000


@dataclass(frozen=True, slots=True)
class Kind:
    metric: str
    index: str
    quantization: str
    bits: int = 0

    @property
    def name(self) -> str:
        bits = str(self.bits) if self.bits else ""
        return f"{self.metric}-{self.index}-{self.quantization}{bits}"

    def settings(self) -> Json:
        quantization: Json = {"type": self.quantization}
        if self.bits:
            quantization["bits"] = self.bits
        return {"index": {"type": self.index}, "quantization": quantization}


@dataclass(slots=True)
class World:
    server: Server
    kind: Kind
    dimension: int
    rows: dict[str, Floats] = field(default_factory=dict)
    suffix: str = ""

    @property
    def name(self) -> str:
        return self.kind.name + self.suffix

    def make(self) -> None:
        with RestClient(self.server) as rest:
            rest.create_collection(
                self.name, self.dimension, self.kind.metric, **self.kind.settings()
            )

    def shaped(self, rows: Floats) -> Floats:
        return bits_of(rows) if self.kind.metric == "hamming" else rows

    def write(self, ids: list[str], rows: Floats) -> None:
        rows = self.shaped(rows)
        with RestClient(self.server) as rest:
            for at in range(0, len(ids), BATCH):
                batch = [
                    {"id": i, "vector": [float(x) for x in row]}
                    for i, row in zip(ids[at : at + BATCH], rows[at : at + BATCH], strict=True)
                ]
                rest.upsert(self.name, batch)
        self.rows.update(zip(ids, rows, strict=True))

    def delete(self, ids: list[str]) -> None:
        with RestClient(self.server) as rest:
            for at in range(0, len(ids), BATCH):
                rest.delete(self.name, ids=ids[at : at + BATCH])
        for i in ids:
            del self.rows[i]

    def info(self) -> Json:
        with RestClient(self.server) as rest:
            return rest.get_collection(self.name)

    def wait_indexed(self, at_least: int = 0, segments_max: int | None = None) -> None:
        """Until all rows are in segments, and all segments have the index they are to have."""

        def settled() -> bool:
            info = self.info()
            state = index_state(info)
            return bool(
                info["stats"]["memtable_rows"] == 0
                and state["state"] == "ready"
                and state["rows_indexed"] >= max(state["rows_wanted"], at_least)
                and (segments_max is None or info["stats"]["segment_count"] <= segments_max)
            )

        eventually(f"{self.name} is indexed", settled)

    def wait_merged(self) -> None:
        """Until a collection at rest is one segment with its index: a shape that is always so."""
        self.wait_indexed(segments_max=1)

    def queries(
        self, seed: int = 7, count: int = QUERIES, centre_count: int | None = None
    ) -> Floats:
        return self.shaped(clustered(count, self.dimension, seed, 99, centre_count))

    def recall(self, queries: Floats, k: int = K, **params: object) -> float:
        """Against numpy. Every answer has to be full, and hold only what is alive, once."""
        held = np.array(list(self.rows.values()), dtype=np.float32)
        truth = truth_of(self.kind.metric, held.reshape(-1, self.dimension), queries, k)
        answers = []
        with RestClient(self.server) as rest:
            for query in queries:
                body: Json = {"vector": [float(x) for x in query], "k": k}
                if params:
                    body["params"] = params
                hits = rest.search(self.name, **body)["results"]
                ids = [hit["id"] for hit in hits]
                assert len(set(ids)) == len(ids) == truth.k
                assert all(i in self.rows for i in ids)
                answers.append([float(hit["score"]) for hit in hits])
        return truth.recall(answers)


def index_state(info: Json) -> Json:
    """Of the one field."""
    state = info["fields"][0]["index_state"]
    assert isinstance(state, dict)
    return state
