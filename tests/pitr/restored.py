"""`proximadb restore` as a user runs it, and what a restored server then holds."""

import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.lib.rest import RestClient
from tests.lib.server import LIMIT_S, Server, ServerFactory, ServerOptions, binary
from tests.pitr.history import Collection, History, Rows

PAGE = 2000
AS_OF = re.compile(r"restored (\d+) collections of archive (\S+) as of (\S+) in ")
BASE = re.compile(r"^  base \S+ ended (\S+), ", re.MULTILINE)
COVERS = re.compile(r"^  covers (\S+) to (\S+)$", re.MULTILINE)


def micros(text: str) -> int:
    at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return round((at - epoch).total_seconds() * 1e6)


def restore(url: str | Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(binary()), "restore", "--from", str(url), *[str(a) for a in arguments]]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S * 5)


def covered(url: str | Path) -> list[tuple[int, int]]:
    """The ranges of the only archive there."""
    done = restore(url, "--list")
    assert done.returncode == 0, done.stderr
    return [(micros(a), micros(b)) for a, b in COVERS.findall(done.stdout)]


def bases(url: str | Path) -> list[int]:
    """When each of them had ended."""
    return [micros(text) for text in BASE.findall(restore(url, "--list").stdout)]


def may_lack_a_base(history: History, ended: list[int], time_us: int) -> bool:
    """A collection that came out of a snapshot has no base between its birth and the moment."""
    return any(
        c.born_version != 0
        and c.created.maybe_by(time_us)
        and not any(c.created.ended_us < base <= time_us for base in ended)
        for c in history.collections.values()
    )


@dataclass(slots=True)
class Restored:
    """A data directory that was brought back, served."""

    server: Server
    time_us: int

    def collections(self) -> dict[str, dict[str, object]]:
        with RestClient(self.server) as rest:
            return {c["uuid"]: c for c in rest.list_collections()["collections"]}

    def rows(self, name: str) -> Rows:
        found: Rows = {}
        cursor = None
        with RestClient(self.server) as rest:
            while True:
                page = rest.scroll(name, limit=PAGE, cursor=cursor, include=["metadata", "vectors"])
                for record in page["records"]:
                    number = float(record["metadata"]["n"])
                    assert record["vector"][0] == number, "vector and metadata of other writes"
                    found[record["id"]] = (int(record["version"]), number)
                cursor = page["next_cursor"]
                if cursor is None:
                    break
            assert rest.count(name) == len(found)
            hits = rest.search(name, vector=[0.0] * 3, k=10000, include=[])["results"]
            assert {hit["id"] for hit in hits} == set(found), "search and scroll differ"
            return found


class RefusedError(Exception):
    pass


def brought_back(
    factory: ServerFactory, url: str | Path, target: list[str], cores: int
) -> Restored:
    """Restores into the data directory of a new server, and starts that."""
    server = factory.make(ServerOptions(cores=cores))
    done = restore(url, "--data-dir", server.data_dir, *target)
    if done.returncode != 0:
        assert not server.data_dir.exists()
        raise RefusedError(done.stderr)
    match = AS_OF.search(done.stderr)
    assert match is not None, done.stderr
    server.start()
    return Restored(server, micros(match.group(3)))


def check(restored: Restored, history: History, expected: dict[str, int]) -> None:
    """All that is there is what was there: collections, settings, versions, rows and bytes of them,
    as the clients saw it; and the versions are exactly those that the logs say (`expected`)."""
    at = restored.time_us
    there = restored.collections()
    for collection in history.collections.values():
        told = f"{collection.name} ({collection.uuid}) at {at}"
        if collection.must_be_there(at):
            assert collection.uuid in there, f"{told} is lost"
        if not collection.may_be_there(at):
            assert collection.uuid not in there, f"{told} must not be there"
    for uuid, info in there.items():
        check_collection(restored, history.collections[uuid], info, expected.get(uuid, 0))


def check_collection(
    restored: Restored, collection: Collection, info: dict[str, object], expected: int
) -> None:
    at = restored.time_us
    told = f"{collection.name} ({collection.uuid}) at {at}"
    version = int(str(info["version"]))
    assert info["name"] == collection.name
    assert version == max(expected, collection.born_version), f"{told}: version {version}"
    low, high = collection.version_limits(at)
    newest = collection.newest_batch(version)
    assert low <= newest <= high, f"{told}: version {newest}, not {low} to {high}"
    assert info["description"] in collection.descriptions(at), told
    rows, must = restored.rows(collection.name), collection.rows_at(version)
    assert info["record_count"] == len(must), told
    wrong = {k for k in rows.keys() | must.keys() if rows.get(k) != must.get(k)}
    shown = [f"{k}: {rows.get(k)}, expected {must.get(k)}" for k in sorted(wrong)[:5]]
    assert not wrong, f"{told}: {len(wrong)} rows at version {version}: {shown}"
