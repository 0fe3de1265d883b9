"""Are vecmath's kernels as fast as SimSIMD's, called as each is meant to be called from C?

One query against rows that lie in the second-level cache, where arithmetic is the limit: vecmath
scores them by one scan; SimSIMD, which has functions of two vectors, by a loop in C over the one
that it has chosen for this processor. Both in this process, in turns within each round; CPU time of
the thread; the median over rounds, and of the ratios within a round. Sums are compared first: two
fast wrong answers are no result.

    python -m venv venv && venv/bin/pip install simsimd numpy
    venv/bin/python perf/kernels/beside_simsimd.py [--rounds 15]

vecmath is compiled anew, as in a release, from the sources beside this file.
"""

import argparse
import ctypes
import platform
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import simsimd

LIBRARY = Path(__file__).resolve().parents[2] / "subprojects" / "vecmath"
ROW_BYTES = 512 << 10
ROUND_S = 0.02
METRICS = {"l2_squared": 0, "dot": 1}
ELEMENTS: dict[str, np.dtype[Any]] = {
    "f32": np.dtype("f4"),
    "f16": np.dtype("f2"),
    "i8": np.dtype("i1"),
}

LOOP = """
#include "vecmath/elements.h"
#include "vecmath/vecmath.h"
#include <time.h>
typedef void (*peer_fn)(const void *, const void *, size_t, double *);
static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}
static vecmath_scan_fn scan_of(int metric, int element)
{
    enum vecmath_metric m = metric == 0 ? VECMATH_L2_SQUARED : VECMATH_DOT;
    return element == 2   ? vecmath_scan_of_bytes(m)
           : element == 1 ? vecmath_scan_of_element(m, VECMATH_F16)
                          : vecmath_scan_of(m);
}
double run_ours(int metric, int element, const void *query, const void *rows, size_t row_bytes,
                size_t n, size_t count, size_t repeat, float *out)
{
    vecmath_scan_fn scan = scan_of(metric, element);
    double from = now();
    for (size_t r = 0; r < repeat; r++)
        scan(query, rows, row_bytes, count, n, out);
    return now() - from;
}
double run_peer(peer_fn pair, const void *query, const void *rows, size_t row_bytes, size_t n,
                size_t count, size_t repeat, float *out)
{
    double from = now();
    for (size_t r = 0; r < repeat; r++)
        for (size_t i = 0; i < count; i++) {
            double score;
            pair(query, (const char *)rows + i * row_bytes, n, &score);
            out[i] = (float)score;
        }
    return now() - from;
}
const char *implementation(void)
{
    (void)vecmath_select(NULL, NULL, 0);
    return vecmath_isa_name();
}
"""


@dataclass(frozen=True, slots=True)
class Case:
    metric: str
    element: str
    dimension: int


def compile_library(folder: Path) -> ctypes.CDLL:
    loop = folder / "loop.c"
    loop.write_text(LOOP)
    sources = [path for path in sorted((LIBRARY / "src").glob("*.c")) if "neon" not in path.name]
    if platform.machine() == "aarch64":
        sources = [path for path in sorted((LIBRARY / "src").glob("*.c")) if "avx" not in path.name]
    target = folder / "vecmath.so"
    flags = [
        "-std=gnu17",
        "-O3",
        "-D_GNU_SOURCE",
        "-shared",
        "-fPIC",
        "-I",
        str(LIBRARY / "include"),
    ]
    subprocess.run(["cc", *flags, "-o", target, loop, *sources, "-lm"], check=True)
    library = ctypes.CDLL(str(target))
    library.run_ours.restype = library.run_peer.restype = ctypes.c_double
    library.implementation.restype = ctypes.c_char_p
    return library


def peer_of(case: Case) -> int:
    find = {"l2_squared": simsimd.pointer_to_sqeuclidean, "dot": simsimd.pointer_to_dot}
    names = {"f32": "f32", "f16": "f16", "i8": "int8"}
    return int(find[case.metric](names[case.element]))


class Duel:
    """One case: `ours` and `theirs` score the rows `repeat` times and say the CPU time."""

    def __init__(self, library: ctypes.CDLL, case: Case) -> None:
        kind = ELEMENTS[case.element]
        rng = np.random.default_rng(1)
        self.library, self.case = library, case
        self.row_bytes = case.dimension * kind.itemsize
        self.count = ROW_BYTES // self.row_bytes
        shape = (self.count, case.dimension)
        values: npt.NDArray[np.generic]
        if case.element == "i8":
            values = rng.integers(-127, 128, shape).astype(kind)
        else:
            values = rng.normal(size=shape).astype(kind)
        self.rows = values
        self.query = values[0].copy()
        # vecmath takes queries of halves as floats
        self.ours_query = self.query.astype("f4") if case.element == "f16" else self.query
        self.out = np.zeros(self.count, "f4")

    def ours(self, repeat: int) -> float:
        element = list(ELEMENTS).index(self.case.element)
        return float(
            self.library.run_ours(
                METRICS[self.case.metric], element, *self.arguments(self.ours_query, repeat)
            )
        )

    def theirs(self, repeat: int) -> float:
        pair = ctypes.c_void_p(peer_of(self.case))
        return float(self.library.run_peer(pair, *self.arguments(self.query, repeat)))

    def arguments(self, query: npt.NDArray[np.generic], repeat: int) -> list[object]:
        sizes = (self.row_bytes, self.case.dimension, self.count, repeat)
        return [
            ctypes.c_void_p(query.ctypes.data),
            ctypes.c_void_p(self.rows.ctypes.data),
            *(ctypes.c_size_t(size) for size in sizes),
            ctypes.c_void_p(self.out.ctypes.data),
        ]

    def compare_answers(self) -> None:
        self.ours(1)
        mine = self.out.copy()
        self.theirs(1)
        size = float(np.abs(mine).max())
        if not np.allclose(mine, self.out, rtol=1e-2, atol=1e-2 * size):
            raise SystemExit(f"{self.case}: other sums: {mine[:4]} and {self.out[:4]}")


def median_line(duel: Duel, rounds: int) -> str:
    duel.compare_answers()
    repeat = max(1, int(ROUND_S / max(duel.ours(4) / 4, 1e-7)))
    ours, theirs, ratios = [], [], []
    for number in range(rounds):
        order = ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours")
        times = {name: getattr(duel, name)(repeat) for name in order}
        ours.append(times["ours"])
        theirs.append(times["theirs"])
        ratios.append(times["theirs"] / times["ours"])
    rows = repeat * duel.count
    case = duel.case
    mine, other = (statistics.median(times) / rows * 1e9 for times in (ours, theirs))
    return (
        f"| {case.metric} | {case.element} | {case.dimension} | {mine:.1f} | {other:.1f} "
        f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        library = compile_library(Path(folder))
        print(
            f"vecmath: {library.implementation().decode()}; SimSIMD {simsimd.__version__}:", end=" "
        )
        print(" ".join(name for name, there in simsimd.get_capabilities().items() if there))
        print("| metric | values | dimension | vecmath, ns a row | SimSIMD, ns a row | ratio |")
        print("| --- | --- | --- | --- | --- | --- |")
        for element in ELEMENTS:
            for metric in METRICS:
                for dimension in (100, 128, 768, 1536):
                    print(median_line(Duel(library, Case(metric, element, dimension)), rounds))


if __name__ == "__main__":
    main()
