"""One engine in a process of its own, driven by lines of JSON: compare.py starts one for each entry
and lets only one work at a time.

    {"op": "open", "engine": ..., "options": {...}, "data": FOLDER, "angular": ..., "cpu": ...,
     "queries": so many of each part, "saved": PATH or null, "rebuild": ...}
                                                     -> what building took
    {"op": "tune"}                                   -> recall and speed of every setting
    {"op": "run", "settings": [...], "seconds": S}   -> the same on the reported queries

Times are CPU time of the whole process, so that hidden threads count; the process is pinned to one
processor. Each setting is run again until it has taken so many seconds.

Before anything is loaded the process starts itself again with malloc on huge pages and libraries
told to use one thread. Bytes are the growth of anonymous memory by building, with what was only
needed for building given back as far as malloc will; the caller's array is a mapped file and does
not count.
"""

import ctypes
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

ENOUGH = 0.995
ENVIRONMENT = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def anonymous_bytes() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


class Worker:
    def __init__(self, request: dict[str, Any]) -> None:
        import numpy as np
        from engines import MAKERS

        os.sched_setaffinity(0, {request["cpu"]})
        folder = Path(request["data"])
        self.np = np
        self.base = np.load(folder / "base.npy", mmap_mode="r")
        parts, most = ("tune", "report"), request["queries"]
        self.queries = {part: np.load(folder / f"{part}.npy")[:most] for part in parts}
        self.truth = {part: np.load(folder / f"{part}_truth.npy")[:most] for part in parts}
        self.k = self.truth["tune"].shape[1]
        int(np.asarray(self.base).sum(dtype=np.float64))  # read the file before time counts
        self.engine = MAKERS[request["engine"]](**request["options"])
        self.opened = self.open(request)

    def open(self, request: dict[str, Any]) -> dict[str, Any]:
        saved = Path(request["saved"]) if request["saved"] else None
        facts = saved.with_suffix(".json") if saved else None
        if saved and facts and facts.exists() and not request["rebuild"]:
            self.engine.load(saved, self.base, request["angular"])
            told: dict[str, Any] = json.loads(facts.read_text())
            return told
        before = anonymous_bytes()
        start, wall = time.process_time(), time.monotonic()
        self.engine.build(self.base, request["angular"])
        taken, wall = time.process_time() - start, time.monotonic() - wall
        told = {
            "build_s": taken,
            "wall_s": wall,
            "bytes": anonymous_bytes() - before,
            "load": os.getloadavg()[0],
            **self.engine.facts(),
        }
        if saved and facts and self.engine.save(saved):
            facts.write_text(json.dumps(told))
        return told

    def tune(self) -> list[dict[str, Any]]:
        """Of each family as much as is needed to know where it goes past ENOUGH."""
        told = []
        for family in self.engine.settings():
            for setting in family:
                told.append(self.measure("tune", setting, 0.0))
                if told[-1]["recall"] >= ENOUGH:
                    break
        return told

    def measure(self, part: str, setting: dict[str, float], least_s: float) -> dict[str, Any]:
        queries, truth = self.queries[part], self.truth[part]
        found = self.engine.search(queries, self.k, setting)
        same = (found[:, :, None].astype(self.np.int64) == truth[:, None, :]).any(2)
        runs, taken = 0, 0.0
        while runs == 0 or taken < least_s:
            start = time.process_time()
            self.engine.search(queries, self.k, setting)
            taken += time.process_time() - start
            runs += 1
        return {
            "setting": setting,
            "recall": float(same.mean()),
            "speed": runs * len(queries) / taken,
            "distances": getattr(self.engine, "distances", 0),
        }


def serve() -> None:
    worker: Worker | None = None
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer: Any
            if request["op"] == "open":
                worker = Worker(request)
                answer = worker.opened
            elif worker is None:
                raise RuntimeError("not open")
            elif request["op"] == "tune":
                answer = worker.tune()
            else:
                answer = [
                    worker.measure("report", setting, request["seconds"])
                    for setting in request["settings"]
                ]
        except Exception as error:  # whatever a library throws ends its entry only
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    if os.environ.get("PEERS_WORKER") != "1":
        os.environ.update(ENVIRONMENT, PEERS_WORKER="1")
        os.execv(sys.executable, [sys.executable, *sys.argv])
    serve()
