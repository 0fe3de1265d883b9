"""Everything at once, killed and started again, against a model.

In each of LIFE_ROUNDS rounds, for each of LIFE_SEEDS seeds from LIFE_SEED on, several collections
live by themselves (index_life.py) until enough was done. Then the server is killed or stopped and
started again with another number of cores and another way of I/O, and all is compared. In the end
everything is dropped, and nothing may be left.
"""

import contextlib
import json
import os
import random
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash.index_life import LOST, Life
from tests.crash.settings import check_offline, metrics
from tests.crash.test_disk_full import small_disk
from tests.http.wire import eventually
from tests.lib.rest import RestClient
from tests.lib.server import Server, ServerFactory, ServerOptions

ROUNDS = int(os.environ.get("LIFE_ROUNDS", "2"))
STEPS = int(os.environ.get("LIFE_STEPS", "50"))  # of each collection in a round
FIRST_SEED = int(os.environ.get("LIFE_SEED", "1"))
SEEDS = int(os.environ.get("LIFE_SEEDS", "1"))
LIVES = 4
LEFT_BYTES = 12 << 20  # twice what a fresh server of four cores has
CONFIG = """
[storage]
flush_rows = 500
flush_age_s = 1
segments_max = 3

[wal]
segment_bytes = "1MiB"
max_bytes = "4MiB"
"""
CORES = (1, 2, 4)
ENGINES = ("uring", "threads")


def live(life: Life, steps: int, stop: threading.Event, failures: list[BaseException]) -> None:
    try:
        for _ in range(steps):
            if stop.is_set():
                break
            life.step()
    except LOST as error:
        if not stop.is_set():
            failures.append(error)
    except BaseException as error:
        failures.append(error)
    finally:
        life.hang_up()


def run_round(server: Server, lives: list[Life], rng: random.Random, kill: bool) -> None:
    """All lives at once; a kill comes after a drawn number of their steps."""
    stop = threading.Event()
    failures: list[BaseException] = []
    threads = [threading.Thread(target=live, args=(one, STEPS, stop, failures)) for one in lives]
    done_at = sum(sum(one.done.values()) for one in lives) + rng.randint(1, STEPS * LIVES)
    for thread in threads:
        thread.start()
    if kill:
        while any(thread.is_alive() for thread in threads) and not failures:
            if sum(sum(one.done.values()) for one in lives) >= done_at:
                stop.set()
                server.kill()
                break
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def check_all(lives: list[Life]) -> None:
    for one in lives:
        one.verify()  # whatever is built meanwhile
    for one in lives:
        one.wait_indexed()
    for one in lives:
        one.verify()


def heap_bytes(server: Server) -> float:
    return metrics(server)["proximadb_memory_bytes"].value(kind="heap")


def check_nothing_is_left(server: Server, lives: list[Life]) -> None:
    """Dropped, with all snapshots: no file and no memory of it stays."""
    with RestClient(server) as rest:
        for one in lives:
            if one.state is not None:
                one.drop()
            one.hang_up()
        for snapshot in rest.call("GET", "/v1/snapshots")["snapshots"]:
            rest.call("DELETE", f"/v1/snapshots/{snapshot['name']}")
    folder = server.data_dir
    eventually("no index is left", lambda: not list(folder.rglob("*.ann")))
    eventually("no segment is left", lambda: not list(folder.rglob("*.parquet")))
    eventually("memory is given back", lambda: heap_bytes(server) < LEFT_BYTES)


def check_log(server: Server) -> None:
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    bad = [line for line in lines if line["level"] == "ERROR"]
    bad += [line for line in lines if line["level"] == "WARN" and line["module"] != "reactor"]
    assert not bad, bad[:5]


def again(server: Server, rng: random.Random) -> None:
    """Starts it, with as many cores and in the way that are drawn."""
    cores, engine = rng.choice(CORES), rng.choice(ENGINES)
    server.options = replace(server.options, cores=cores, io_engine=engine)
    server.start()


def run_rounds(server: Server, lives: list[Life], rng: random.Random) -> None:
    for _ in range(ROUNDS):
        kill = rng.random() < 0.7
        run_round(server, lives, rng, kill)
        if not kill:
            check_all(lives)
        for one in lives:
            one.hang_up()
        if server.running:
            assert server.stop() == 0
        check_offline(server)
        again(server, rng)
        check_all(lives)


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + SEEDS))
def test_collections_live_through_everything(server_factory: ServerFactory, seed: int) -> None:
    rng = random.Random(seed)
    server = server_factory.make(ServerOptions(config=CONFIG, cores=2))
    server.start()
    lives = [Life(f"life{i}", random.Random(f"{seed}/{i}"), server) for i in range(LIVES)]
    run_rounds(server, lives, rng)
    check_nothing_is_left(server, lives)
    assert server.stop() == 0
    check_log(server)


def fill_now_and_then(disk: Path, rng: random.Random, stop: threading.Event) -> None:
    """A file that takes all room for a while, and goes again."""
    ballast = disk / "ballast"
    while not stop.wait(rng.uniform(0.2, 1)):
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while not stop.is_set():
                file.write(bytes(1 << 20))
        stop.wait(rng.uniform(0.2, 1))
        ballast.unlink(missing_ok=True)


def test_they_live_on_a_disk_that_is_full_now_and_then(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    rng = random.Random(FIRST_SEED)
    with small_disk(tmp_path / "disk", "96m") as disk:
        server = server_factory.make(ServerOptions(config=CONFIG, cores=2))
        server.data_dir = disk / "data"
        server.start()
        lives = [Life(f"full{i}", random.Random(f"{rng}/{i}"), server) for i in range(LIVES)]
        stop = threading.Event()
        filling = threading.Thread(target=fill_now_and_then, args=(disk, rng, stop))
        filling.start()
        run_round(server, lives, rng, kill=False)
        stop.set()
        filling.join()
        check_all(lives)
        server.crash()
        for one in lives:
            one.hang_up()
        check_all(lives)
        check_nothing_is_left(server, lives)
        assert server.stop() == 0
