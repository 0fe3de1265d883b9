"""One writer process: mixed load through one door, so many steps or until the server is gone.

    writer.py SEED INDEX DOOR JOURNAL [STUBS]

Commands come on standard input, one line each: `run PORT [STEPS]`; the answer `done N` follows once
the steps are done or the server is gone. The work follows from the seed alone, not from the clock.
"""

import itertools
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.doors import COUNTERS, Door, GoneError, RefusedError, RestDoor
from tests.crash.journal import Attempt, Journal

COLLECTIONS = ("always", "batch", "periodic", "never")
TEMPORARY = "temporary-"  # what their names begin with
COUNTER_IDS = ("c0", "c1", "c2")
ID_COUNT = 600  # of each writer in each collection
BATCH_MAX = 500
TEMPORARY_ROWS = 400  # enough for a segment, so that a drop has files to remove


def grpc_door() -> Door:
    """Imported only here: the REST writers need no stubs."""
    from tests.crash.doors_grpc import GrpcDoor

    return GrpcDoor()


# ---- the load ----


@dataclass(slots=True)
class Writer:
    index: int
    rng: random.Random
    door: Door
    journal: Journal
    number: int = 0
    temporary: list[str] = field(default_factory=list)

    def run(self, port: int, steps: int | None = None) -> None:
        self.door.connect(port)
        try:
            for _ in itertools.count() if steps is None else range(steps):
                self.step()
        except GoneError:
            pass

    def step(self) -> None:
        roll = self.rng.random()
        if roll < 0.55:
            self.write("upsert")
        elif roll < 0.65:
            self.write("insert")
        elif roll < 0.80:
            self.write(self.rng.choice(("update", "update_vector")))
        elif roll < 0.90:
            self.write("delete")
        elif roll < 0.95:
            self.conditional()
        elif roll < 0.97 or self.index != 0:
            self.increment()
        else:
            self.create_or_drop()

    def names(self, count_max: int = BATCH_MAX) -> Sequence[str]:
        """A batch's ids: small ones are common, as in life."""
        count = min(count_max, int(2 ** (self.rng.random() * 9.3)))
        chosen = self.rng.sample(range(ID_COUNT), min(count, ID_COUNT))
        return [f"{self.index}/{i}" for i in chosen]

    def attempt(self, attempt: Attempt, call: Callable[[], int | None]) -> bool:
        """Journals an attempt and its outcome; False when it was refused."""
        self.journal.attempt(attempt)
        try:
            version = call()
        except RefusedError:
            self.journal.refused(attempt)
            return False
        self.journal.acknowledged(attempt, version or 0)
        return True

    def next(self, collection: str, kind: str, names: Sequence[str]) -> Attempt:
        self.number += 1
        return Attempt(self.number, collection, kind, tuple(names))

    def write(self, kind: str) -> None:
        # updates and inserts of many records are mostly refused: their batches are small
        names = self.names(BATCH_MAX if kind in ("upsert", "delete") else 3)
        attempt = self.next(self.rng.choice(COLLECTIONS), kind, names)
        self.attempt(attempt, lambda: self.door.write(attempt).version)

    def conditional(self) -> None:
        """Right and wrong conditions on a record that only this writer changes."""
        collection = self.rng.choice(COLLECTIONS)
        names = self.names(1)
        found = self.door.get(collection, names[0])
        version = found[0] if found is not None else 0
        right = self.rng.random() < 0.7
        attempt = self.next(collection, "upsert", names)
        condition = version if right else version + 12345
        done = self.attempt(attempt, lambda: self.door.write(attempt, condition).version)
        assert done == right, f"{attempt}: if_version {condition}, the record has {version}"

    def increment(self) -> None:
        """Races with the other writers: only one of two with the same condition may win."""
        name = self.rng.choice(COUNTER_IDS)
        found = self.door.get(COUNTERS, name)
        version, value = (found[0], int(found[1]["value"])) if found is not None else (0, 0)
        attempt = self.next(COUNTERS, "increment", [name])
        self.attempt(attempt, lambda: self.door.increment(name, value + 1, version).version)

    def create_or_drop(self) -> None:
        if len(self.temporary) >= 3:
            name = self.temporary.pop(0)
            attempt = self.next(name, "drop", [])
            self.attempt(attempt, lambda: self.door.drop(name))
            return
        name = f"{TEMPORARY}{self.index}-{self.number}"
        attempt = self.next(name, "create", [])
        if self.attempt(attempt, lambda: self.door.create(name)):
            self.temporary.append(name)
            names = [f"{self.index}/{i}" for i in range(TEMPORARY_ROWS)]
            rows = self.next(name, "upsert", names)
            self.attempt(rows, lambda: self.door.write(rows).version)


def main() -> None:
    seed, index, door_name, path = sys.argv[1:5]
    sys.path[:0] = sys.argv[5:]
    door: Door = RestDoor() if door_name == "rest" else grpc_door()
    with Path(path).open("a", encoding="utf-8") as file:
        rng = random.Random(f"{seed}/{index}")
        writer = Writer(int(index), rng, door, Journal(file))
        for line in sys.stdin:
            writer.run(*map(int, line.split()[1:]))
            print(f"done {writer.number}", flush=True)


if __name__ == "__main__":
    main()
