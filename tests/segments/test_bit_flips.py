"""One bit of one file is flipped: the server says so, or it has no effect. Never a wrong answer.

Allowed: a start that is refused with a reason; a collection that answers DATA_LOSS while the others
serve; an index that is made again, with one warning; and for the log also that its last group was
taken for one that was never finished. `proximadb check` must agree with the server.

BIT_FLIPS is the number of flips in all (200), BIT_SEED replays a run.
"""

import contextlib
import os
import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from tests.crash.settings import check_offline
from tests.http.wire import eventually
from tests.lib.rest import RestClient, RestError
from tests.lib.server import Server, ServerFactory, ServerFailed, ServerOptions
from tests.segments.made import (
    CONFIG,
    Checked,
    Model,
    check_all,
    check_folder,
    checks_of,
    create,
    fill,
    folder_of,
    metric,
    record,
)

FLIPS = int(os.environ.get("BIT_FLIPS", "200"))
SEED = int(os.environ.get("BIT_SEED", str(random.SystemRandom().randrange(1 << 32))))
STORAGES = [("memory", "none"), ("memory", "zstd"), ("mmap", "none"), ("disk", "lz4")]
OFTEN = (".parquet", ".index", "MANIFEST", ".wal") * 2


@dataclass(slots=True)
class Home:
    """A data directory as a kill has left it."""

    data: Path
    models: list[Model]
    folders: dict[str, str]  # name of the folder: collection
    last: Model  # the collection that the log's last batch belongs to, and
    last_ids: set[str] = field(default_factory=set)  # the ids of that batch


def make_home(server: Server, vectors: str, compression: str) -> Home:
    server.start()
    with RestClient(server) as rest:
        models = []
        for name in ("one", "two"):
            model = create(rest, name, vectors=vectors, compression=compression)
            fill(server, rest, model, segments=3, ids=1500)  # none is to be merged
            check_all(rest, model)
            models.append(model)
        last = create(rest, "last")
        home = Home(server.data_dir, [*models, last], {}, last)
        rng = random.Random(1)
        last.upsert(rest, [record(rng, f"a{i}") for i in range(10)])
        last.upsert(rest, [record(rng, f"z{i}") for i in range(10)])
        home.last_ids = {f"z{i}" for i in range(10)}
        for model in home.models:
            folder = folder_of(server, rest, model.name)
            home.folders[folder.name] = model.name
            eventually("older manifests go", partial(few_manifests, folder))
        assert metric(server, "compactions_total") == 0
    server.kill()
    return home


def few_manifests(folder: Path) -> bool:
    return len(list(folder.glob("MANIFEST-*"))) <= 1


# ---- flipping ----


def kinds_of(data: Path) -> dict[str, list[Path]]:
    """The files that hold data, by their kind."""
    paths = [path for path in data.rglob("*") if path.is_file() and path.name != "LOCK"]
    paths = [path for path in paths if path.parent.name != "witness"]  # these are empty
    kinds: dict[str, list[Path]] = {}
    for path in sorted(paths):
        kind = path.suffix or path.name.split("-")[0]
        kinds.setdefault(kind, []).append(path)
    return kinds


def used_bytes(path: Path) -> int:
    """Without the zeros that a log's file ends with."""
    return len(path.read_bytes().rstrip(b"\0")) + 8


def flip(path: Path, rng: random.Random) -> str:
    size = path.stat().st_size
    limit = min(size, used_bytes(path)) if path.suffix == ".wal" else size
    # half of the flips where headers and footers are
    ends = (rng.randrange(min(200, limit)), limit - 1 - rng.randrange(min(900, limit)))
    at = rng.randrange(limit) if rng.random() < 0.5 else rng.choice(ends)
    bit = rng.randrange(8)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ (1 << bit)]))
    return f"{path.parent.name}/{path.name}: bit {bit} of byte {at} of {size}"


# ---- what must then be ----


def refused_rightly(failure: ServerFailed, checked: Checked, what: str) -> str:
    text = str(failure)
    assert "ended with status" in text, f"{what}: {text}"
    assert "Assert" not in text, f"{what}: {text}"
    assert "ERROR" in text or "proximadb:" in text, f"{what}: no reason is told: {text}"
    assert checked.status == 2, f"{what}: refused, but check says {checked.status}: {text}"
    return "refused"


def lost(rest: RestClient, model: Model) -> bool:
    """Every answer is right, or says that data is lost; True: one does."""
    found = False
    for check in checks_of(model, 7):
        try:
            check(rest)
        except RestError as error:
            if (error.response.status, error.code) != (500, "DATA_LOSS"):
                raise
            found = True
    return found


def tail_is_cut(rest: RestClient, home: Home) -> bool:
    """The last batch is not there, as a whole."""
    there = {r["id"] for r in rest.get("last", sorted(home.last_ids))["records"]}
    assert there in (set(), home.last_ids), f"half a batch: {there}"
    return not there


def served_rightly(server: Server, home: Home, path: Path, checked: Checked, what: str) -> str:
    damaged = home.folders.get(path.parent.name)
    with RestClient(server) as rest:
        cut = tail_is_cut(rest, home)
        assert not cut or path.suffix == ".wal", f"{what}: rows of the log are lost"
        outcomes = {}
        for model in home.models:
            if model is home.last and cut:
                rows = {k: r for k, r in model.rows.items() if k not in home.last_ids}
                model = Model(model.name, rows)
            outcomes[model.name] = lost(rest, model)
    assert not any(bad for name, bad in outcomes.items() if name != damaged), f"{what}: {outcomes}"
    if any(outcomes.values()):
        assert checked.status == 2, f"{what}: data is lost, but check says {checked.status}"
        assert "ERROR" in server.log, what
        return "data loss"
    if cut:
        return "cut"
    warnings = [line for line in server.log.splitlines() if "is made again" in line]
    if warnings:
        assert len(warnings) == 1, f"{what}: {warnings}"
        assert path.suffix == ".index", f"{what}: {warnings}"
        assert checked.status == 1, f"{what}: made again, but check says {checked.status}"
        return "made again"
    if path.suffix == ".parquet":  # a page that answers do not come from: ids are in the index
        return "not read"
    assert path.suffix == ".wal" or checked.status == 0, f"{what}: {checked.text}"
    return "no effect"


def try_one(factory: ServerFactory, home: Home, number: int) -> tuple[str, str]:
    """The kind of file and what came of it."""
    rng = random.Random(f"{SEED}/{number}")
    server = factory.make(ServerOptions(config=CONFIG))
    shutil.copytree(home.data, server.data_dir)
    kinds = kinds_of(server.data_dir)
    kind = rng.choice([*sorted(kinds), *OFTEN])
    path = rng.choice(kinds[kind])
    what = f"BIT_SEED={SEED}, flip {number}, {flip(path, rng)}"
    checked = check_folder(server.data_dir)
    assert checked.status in (0, 1, 2), f"{what}: {checked.text}"
    assert (checked.status == 0) or checked.findings, f"{what}: nothing is told"
    assert kind != ".parquet" or checked.status == 2, f"{what}: {checked.text}"
    assert kind != ".index" or checked.status == 1, f"{what}: {checked.text}"
    repaired = checked.status == 1 and number // len(STORAGES) % 2 == 0
    if repaired:
        mended = check_folder(server.data_dir, repair=True)
        assert mended.status == 0, f"{what}: {mended.text}"
        assert any(f["severity"] == "mended" for f in mended.findings), what
        checked = check_folder(server.data_dir)
        assert checked.status == 0, f"{what}: {checked.text}"
    try:
        server.start()
    except ServerFailed as failure:
        outcome = refused_rightly(failure, checked, what)
    else:
        outcome = served_rightly(server, home, path, checked, what)
        server.kill()
    assert not repaired or outcome == "no effect", f"{what}: {outcome} behind a repair"
    shutil.rmtree(server.folder)
    return kind, "repaired" if repaired else outcome


@pytest.mark.timeout(900 + 2 * FLIPS)
@pytest.mark.parametrize(("vectors", "compression"), STORAGES)
def test_a_flipped_bit_is_told_or_has_no_effect(
    server_factory: ServerFactory, vectors: str, compression: str
) -> None:
    print(f"BIT_SEED={SEED} BIT_FLIPS={FLIPS}")
    home = make_home(server_factory.make(ServerOptions(config=CONFIG)), vectors, compression)
    first = STORAGES.index((vectors, compression))
    seen: Counter[tuple[str, str]] = Counter()
    for number in range(first, FLIPS, len(STORAGES)):
        seen[try_one(server_factory, home, number)] += 1
    for (kind, outcome), count in sorted(seen.items()):
        print(f"{kind}: {outcome}: {count}")
    assert sum(seen.values()) == len(range(first, FLIPS, len(STORAGES)))


def test_a_damaged_segment_takes_its_collection_out_of_use_and_no_other(
    server_factory: ServerFactory,
) -> None:
    server = server_factory.make(ServerOptions(config=CONFIG))
    home = make_home(server, "memory", "none")
    folder = next(name for name, model in home.folders.items() if model == "one")
    parquet = min((home.data / "collections" / folder).glob("*.parquet"))
    content = bytearray(parquet.read_bytes())
    content[len(content) // 2] ^= 0x10
    parquet.write_bytes(content)
    server.start()
    with RestClient(server) as rest:
        assert lost(rest, home.models[0])
        assert metric(server, "segments", state="quarantined") == 1
        assert "is out of use" in server.log or "is damaged" in server.log
        with contextlib.suppress(RestError):  # a row that may end nothing there is taken
            home.models[0].upsert(rest, [record(random.Random(0), "new")])
        for model in home.models[1:]:
            check_all(rest, model)
            model.upsert(rest, [record(random.Random(0), "new")])
    server.crash()
    with RestClient(server) as rest:
        assert lost(rest, home.models[0])
        for model in home.models[1:]:
            check_all(rest, model)
        rest.delete_collection("one")
        assert {c["name"] for c in rest.list_collections()["collections"]} == {"two", "last"}
    assert server.stop() == 0
    check_offline(server)


def test_a_segment_that_is_gone_is_counted_at_the_start(server_factory: ServerFactory) -> None:
    server = server_factory.make(ServerOptions(config=CONFIG))
    home = make_home(server, "memory", "none")
    folder = next(name for name, model in home.folders.items() if model == "one")
    first, second = sorted((home.data / "collections" / folder).glob("*.parquet"))[:2]
    first.unlink()
    second.write_bytes(b"")
    server.start()
    assert metric(server, "recovery_corrupt_total") == 2
    assert metric(server, "segments", state="quarantined") == 2
    with RestClient(server) as rest:
        assert lost(rest, home.models[0])
        rest.delete_collection("one")
    server.restart()
    assert metric(server, "recovery_corrupt_total") == 0


def test_a_lost_index_is_made_again_with_one_warning(server_factory: ServerFactory) -> None:
    server = server_factory.make(ServerOptions(config=CONFIG))
    home = make_home(server, "disk", "zstd")
    for index in home.data.rglob("*.index"):
        index.unlink()
    checked = check_folder(home.data)
    assert checked.status == 1, checked.text
    server.start()
    with RestClient(server) as rest:
        for model in home.models:
            check_all(rest, model)
    rebuilt = metric(server, "index_rebuilds_total")
    assert rebuilt == len(list(home.data.rglob("*.index"))) == 6
    assert server.stop() == 0
    check_offline(server)
