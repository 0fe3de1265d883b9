"""The checks after a crash: what is there, against what every journal says may be there."""

from dataclasses import dataclass, field
from typing import Any

from tests.crash.doors import COUNTERS
from tests.crash.journal import (
    DIMENSION,
    JournalReader,
    Outcome,
    Row,
    State,
    metadata_of,
    vector_of,
)
from tests.crash.writer import COLLECTIONS, COUNTER_IDS, TEMPORARY
from tests.lib.rest import Json, RestClient

STRONG = ("always", "batch", COUNTERS)
PAGE = 5000


@dataclass(slots=True)
class Shard:
    """One writer's part of one collection: at the last start, and what came since."""

    state: State = field(default_factory=State)
    news: list[Outcome] = field(default_factory=list)


@dataclass(slots=True)
class Oracle:
    """What must be there. `learn` after the crash, `check` after the restart."""

    readers: list[JournalReader]
    shards: dict[tuple[int, str], Shard] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTER_IDS, 0))
    counter_news: list[Outcome] = field(default_factory=list)
    temporary: dict[str, bool] = field(default_factory=dict)  # name: it must be there
    doubtful: set[str] = field(default_factory=set)  # names that may be there or not
    versions: dict[str, int] = field(default_factory=dict)  # highest ever seen or told
    cores: dict[str, int] = field(default_factory=dict)  # owners, under the load that is judged
    acknowledged: int = 0
    maybe: int = 0

    def learn(self) -> None:
        for writer, reader in enumerate(self.readers):
            for outcome in reader.news():
                self.acknowledged += outcome.acknowledged
                self.maybe += outcome.maybe
                if not outcome.refused:
                    self._take(writer, outcome)

    def _take(self, writer: int, outcome: Outcome) -> None:
        attempt = outcome.attempt
        if attempt.kind in ("create", "drop"):
            self.doubtful.discard(attempt.collection)
            if outcome.maybe:
                self.doubtful.add(attempt.collection)
            self.temporary[attempt.collection] = attempt.kind == "create"
        elif attempt.kind == "increment":
            self.counter_news.append(outcome)
        else:
            shard = self.shards.setdefault((writer, attempt.collection), Shard())
            shard.news.append(outcome)

    def _one_log(self, a: str, b: str) -> bool:
        return a in self.cores and self.cores[a] == self.cores.get(b)

    # ---- after the restart ----

    def check(self, rest: RestClient) -> None:
        infos = {c["name"]: c for c in rest.list_collections()["collections"]}
        self._check_collections(set(infos))
        self._check_counters(rest)
        lost: dict[tuple[int, str], list[Outcome]] = {}
        temporary = sorted(name for name in infos if name.startswith(TEMPORARY))
        for collection in [*COLLECTIONS, *temporary]:
            records = read_all(rest, collection)
            agree(rest, collection, records)
            self._check_rows(collection, records, lost)
        self._check_order(lost)
        self.cores = {name: int(info["owner_core"]) for name, info in infos.items()}
        for shard in self.shards.values():
            shard.news = []

    def _check_collections(self, there: set[str]) -> None:
        expected = {name for name, must in self.temporary.items() if must} - self.doubtful
        possible = expected | self.doubtful | {*COLLECTIONS, COUNTERS}
        assert expected <= there, f"collections are lost: {expected - there}"
        assert there <= possible, f"collections came back: {there - possible}"
        for name in self.doubtful:
            self.temporary[name] = name in there
        self.doubtful = set()

    def _check_counters(self, rest: RestClient) -> None:
        got = {r["id"]: r for r in rest.get(COUNTERS, list(COUNTER_IDS))["records"]}
        for name in COUNTER_IDS:
            mine = [o for o in self.counter_news if o.attempt.ids == (name,)]
            done = self.counters[name] + sum(o.acknowledged for o in mine)
            value = int(got[name]["metadata"]["value"]) if name in got else 0
            assert done <= value <= done + sum(o.maybe for o in mine), f"counter {name}"
            told = [o.version for o in mine if o.acknowledged]
            assert len(set(told)) == len(told), "two increments have one version"
            assert not told or max(told) <= got[name]["version"]
            self.counters[name] = value
        self.counter_news = []

    def _check_rows(
        self,
        collection: str,
        records: dict[str, Json],
        lost: dict[tuple[int, str], list[Outcome]],
    ) -> None:
        present = max((r["version"] for r in records.values()), default=0)
        for writer in range(len(self.readers)):
            shard = self.shards.setdefault((writer, collection), Shard())
            prefix = f"{writer}/"
            mine = {k: r for k, r in records.items() if k.startswith(prefix)}
            kept = surviving(shard, {k: row_of(r) for k, r in mine.items()}, collection)
            self._check_versions(shard.news[:kept], mine, collection)
            gone = [o for o in shard.news[kept:] if o.acknowledged]
            for outcome in gone:
                assert outcome.version == 0 or outcome.version > present, (
                    f"{collection}: version {outcome.version} is lost, {present} is there"
                )
            lost[writer, collection] = gone
            for outcome in shard.news[:kept]:
                shard.state = shard.state.apply(outcome.attempt)
        told = [
            o.version
            for (_, name), shard in self.shards.items()
            if name == collection
            for o in shard.news
        ]
        self.versions[collection] = max(self.versions.get(collection, 0), present, *told, 0)

    def _check_versions(
        self, kept: list[Outcome], records: dict[str, Json], collection: str
    ) -> None:
        """Every record has the version of the batch that wrote it last; versions only grow."""
        last: dict[str, Outcome] = {}
        floor = self.versions.get(collection, 0)
        for outcome in kept:
            last |= dict.fromkeys(outcome.attempt.ids, outcome)
        for outcome in kept:
            assert outcome.version == 0 or outcome.version > floor or not is_strong(collection)
        for name, outcome in last.items():
            if name not in records:
                continue
            version = records[name]["version"]
            if outcome.acknowledged and outcome.version != 0:
                assert version == outcome.version, f"{collection}/{name}: {version}, {outcome}"
            elif outcome.maybe:
                batch = {records[k]["version"] for k in outcome.attempt.ids if k in records}
                assert len(batch) == 1, f"a batch has versions {batch}"

    def _check_order(self, lost: dict[tuple[int, str], list[Outcome]]) -> None:
        """A log is a prefix: nothing that came before an acknowledged strong write is lost."""
        for (writer, collection), outcomes in lost.items():
            for outcome in outcomes:
                for strong in STRONG[:2]:
                    if not self._one_log(strong, collection):
                        continue
                    later = [
                        o
                        for o in self.shards[writer, strong].news
                        if o.acknowledged and o.attempt.number > outcome.attempt.number
                    ]
                    assert not any(o.version for o in later), (
                        f"{outcome} is lost, but {later[-1]} came after it in the same log"
                    )


def is_strong(collection: str) -> bool:
    """An acknowledged write is on disk."""
    return collection in STRONG or collection.startswith(TEMPORARY)


def surviving(shard: Shard, rows: dict[str, Row], collection: str) -> int:
    """How many of the news are in the rows; no more and no less than whole batches."""
    states = [shard.state]
    for outcome in shard.news:
        if outcome.maybe and not applies(states[-1], outcome):
            break  # it would have been refused
        states.append(states[-1].apply(outcome.attempt))
    least = 0
    if is_strong(collection):
        least = sum(outcome.acknowledged for outcome in shard.news)
    for kept in range(len(states) - 1, least - 1, -1):
        if states[kept].rows == rows:
            return kept
    raise AssertionError(f"{collection}: {difference(states[least], rows)}")


def applies(state: State, outcome: Outcome) -> bool:
    ids = outcome.attempt.ids
    if outcome.attempt.kind == "insert":
        return not any(name in state.rows for name in ids)
    if outcome.attempt.kind in ("update", "update_vector"):
        return all(name in state.rows for name in ids)
    return True


def difference(state: State, rows: dict[str, Row]) -> str:
    """The first few rows that are not as after the last acknowledged write."""
    names = [k for k in state.rows.keys() | rows.keys() if state.rows.get(k) != rows.get(k)]
    shown = [f"{k}: expected {state.rows.get(k)}, found {rows.get(k)}" for k in sorted(names)[:5]]
    return f"{len(names)} rows are of no prefix of whole batches\n" + "\n".join(shown)


def row_of(record: Json) -> Row:
    """What a record says about its writes; its bytes must be exactly those of that write."""
    metadata = record["metadata"]
    vector = record["vector"]
    number, index = int(metadata["n"]), int(metadata["i"])
    expected = metadata_of(number, index)
    updated = int(metadata.get("u", 0))
    if updated:
        expected["u"] = updated
    assert metadata == expected, f"{record['id']}: metadata of no attempt"
    vector_number, vector_index = int(vector[0] + vector[2] * 4096), int(vector[1])
    assert vector == vector_of(vector_number, vector_index), f"{record['id']}: vector of no attempt"
    return Row(number, index, vector_number, vector_index, updated)


def read_all(rest: RestClient, collection: str) -> dict[str, Json]:
    """Every record by id, through pages."""
    records: dict[str, Json] = {}
    cursor: str | None = None
    while True:
        page = rest.scroll(collection, limit=PAGE, cursor=cursor, include=["metadata", "vectors"])
        for record in page["records"]:
            assert record["id"] not in records, "a page repeats a record"
            records[record["id"]] = record
        cursor = page["next_cursor"]
        if cursor is None:
            return records


def agree(rest: RestClient, collection: str, records: dict[str, Json]) -> None:
    """Scroll, count, description and search tell of the same records."""
    assert rest.count(collection) == len(records)
    assert rest.get_collection(collection)["record_count"] == len(records)
    query: Any = [0.0] * DIMENSION
    hits = rest.search(collection, vector=query, k=10000, include=[])["results"]
    assert {hit["id"] for hit in hits} == set(records), "search and scroll differ"
    assert all(records[hit["id"]]["version"] == hit["version"] for hit in hits)
