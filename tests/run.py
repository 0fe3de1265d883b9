#!/usr/bin/env python3
"""Runs the tests of one build folder and sums them.

The last line is `N passed, N failed`. A case is a test function of cmocka, pytest or the TOML
suite, a kernel test per instruction set, or one tidy check; a program that tells no cases counts
as one.
Whatever breaks before its cases were counted counts as one failure, so that nothing is lost.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON_FOLDERS = (
    "http",
    "grpc",
    "abuse",
    "crash",
    "segments",
    "recall",
    "archive",
    "transfer",
    "pitr",
    "bench",
    "tidy",
    "lib",
    "format",
    "store",
    "peers",
    "issues",
)
PYTHON_SOURCES = ("tests", "src", "clients", "perf", "bench", "deploy")

# Folders and files that a sanitized server brings little to: what they run is no server, or what
# they prove is no matter of memory, and simulations and unit tests go the same ways there.
UNSANITIZED_FOLDERS = ("format", "tidy", "lib", "bench", "peers", "crash", "transfer", "recall")
UNSANITIZED_FILES = ("archive/test_kills.py",)

# What threads share, and what is built on it; the only tests worth a TSan build.
TSAN_TESTS = (
    *("spsc", "mailbox", "worker", "core", "task", "timer", "io", "guest_h2o"),
    *("engine_concurrent", "engine_attack_stress", "engine_ann_threads"),
)

# What meson.build says is for a quiet machine; a busy one must not fail a test.
PATIENCE = 4

SANITIZER_ENV = {
    "ASAN_OPTIONS": "halt_on_error=1:exitcode=99:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "halt_on_error=1:exitcode=99:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=99:second_deadlock_stack=1",
    "LSAN_OPTIONS": f"suppressions={ROOT}/tests/lib/lsan.supp:print_suppressions=0",
}


@dataclass(slots=True)
class Tally:
    passed: int = 0
    failed: int = 0

    def add(self, other: "Tally") -> None:
        self.passed += other.passed
        self.failed += other.failed


# Servers choose their ports, and nothing outside a test's folder is written. Not more processes
# than cores: a server's workers get what nobody else takes, and tests wait for flushes and merges.
PYTEST_PROCESSES = int(os.environ.get("PYTEST_PROCESSES", min(os.cpu_count() or 1, 8)))


def run(command: list[str], **env: str) -> int:
    """The exit status of a command that runs in the root, told first."""
    print("+", " ".join(command), flush=True)
    return subprocess.run(command, cwd=ROOT, env=os.environ | env, check=False).returncode


def cases_of(output: str, ok: bool) -> Tally:
    """How many cases a program of meson's had, from what it printed."""
    tally = Tally()
    for passed in re.findall(r"\[  PASSED  \] (\d+) test", output):
        tally.passed += int(passed)
    for failed in re.findall(r"\[  FAILED  \] \S+: (\d+) test", output):
        tally.failed += int(failed)
    for passed, failed in re.findall(r"tests: *(\d+) passed, *(\d+) failed", output):
        tally.add(Tally(int(passed), int(failed)))
    tally.passed += len(re.findall(r"^ok     \w+ ", output, re.MULTILINE))
    tally.failed += len(re.findall(r"^FAILED \w+ ", output, re.MULTILINE))
    if ok and tally.passed == 0:
        tally.passed = 1
    if not ok and tally.failed == 0:
        tally.failed = 1
    return tally


def run_meson(build: Path, sanitized: bool, names: list[str]) -> Tally:
    """The tests of these names, which are built first; without names all, which are built."""
    log = build / "meson-logs" / "testlog.json"
    log.unlink(missing_ok=True)
    command = ["meson", "test", "-C", str(build), "--print-errorlogs"]
    command += ["--timeout-multiplier", str(PATIENCE * (2 if sanitized else 1))]
    command += [] if names else ["--no-rebuild"]
    status = run(command + names, **SANITIZER_ENV)
    tally = Tally()
    if log.exists():
        for line in log.read_text(encoding="utf-8").splitlines():
            test = json.loads(line)
            output = str(test.get("stdout", "")) + str(test.get("stderr", ""))
            tally.add(cases_of(output, test["result"] in ("OK", "EXPECTEDFAIL")))
    if (status != 0 or tally.passed == 0) and tally.failed == 0:
        tally.failed = 1
    return tally


def run_tsan(build: Path) -> Tally:
    listed = subprocess.run(
        ["meson", "test", "-C", str(build), "--list", "--no-rebuild"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    known = {line.split(" / ")[-1].strip() for line in listed.splitlines()}
    missing = [name for name in TSAN_TESTS if name not in known]
    tally = run_meson(build, True, [name for name in TSAN_TESTS if name in known])
    for name in missing:
        print(f"tests/run.py: there is no test '{name}' for TSan")
        tally.failed += 1
    return tally


def tally_of(report: Path, status: int) -> Tally:
    tally = Tally()
    if report.exists():
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            failed = int(suite.get("failures", "0")) + int(suite.get("errors", "0"))
            skipped = int(suite.get("skipped", "0"))
            tally.add(Tally(int(suite.get("tests", "0")) - failed - skipped, failed))
    if status != 0 and tally.failed == 0:
        tally.failed = 1
    return tally


def run_pytest(build: Path, sanitized: bool, paths: list[str]) -> Tally:
    folders = [
        f"tests/{name}"
        for name in PYTHON_FOLDERS
        if any((ROOT / "tests" / name).glob("test_*.py"))
        and not (sanitized and name in UNSANITIZED_FOLDERS)
    ]
    report = build / "meson-logs" / "pytest.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}"]
    # who is done takes tests from who has most left
    command += ["-n", str(PYTEST_PROCESSES), "--dist", "worksteal", *(paths or folders)]
    env = {}
    if sanitized:
        command += [f"--ignore=tests/{name}" for name in UNSANITIZED_FILES]
        # what a sanitizer itself takes is more than what would be found missing by more rows
        env["BEYOND_MEMORY"] = os.environ.get("BEYOND_MEMORY", "2")
    status = run(
        command,
        **env,
        **SANITIZER_ENV,
        PROXIMADB_BINARY=str(build / "proximadb"),
        PDB_BENCH_BINARY=str(build / "pdb-bench"),
        STORE_TOOL_BINARY=str(build / "tests" / "store" / "store_tool"),
    )
    return tally_of(report, status)


def run_tidy(build: Path) -> Tally:
    sources = [name for name in PYTHON_SOURCES if any((ROOT / name).rglob("*.py"))]
    commands = [
        [sys.executable, "-m", "tests.tidy.tidy_layers"],
        [sys.executable, "-m", "tests.tidy.tidy_headers", str(build)],
        [sys.executable, "-m", "tests.tidy.tidy_functions"],
        [sys.executable, "-m", "tests.tidy.tidy_text"],
        [sys.executable, "-m", "tests.tidy.tidy_metrics"],
        ["tests/tidy/tidy_format.sh"],
        [sys.executable, "-m", "ruff", "format", "--check", "-q", *sources],
        [sys.executable, "-m", "ruff", "check", "-q", *sources],
        [sys.executable, "-m", "mypy", "--no-error-summary", "tests"],
    ]
    tally = Tally()
    for command in commands:
        ok = run(command) == 0
        tally.add(Tally(int(ok), int(not ok)))
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--only", action="append", choices=("unit", "python", "tidy", "tsan"))
    parser.add_argument("--path", action="append", default=[], help="for python: only these")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    sanitized = build.name in ("build-asan", "build-tsan")
    total = Tally()
    for runner in arguments.only or ("tidy", "unit", "python"):
        if runner == "unit":
            tally = run_meson(build, sanitized, [])
        elif runner == "tsan":
            tally = run_tsan(build)
        elif runner == "python":
            tally = run_pytest(build, sanitized, arguments.path)
        else:
            tally = run_tidy(build)
        print(f"{runner}: {tally.passed} passed, {tally.failed} failed", flush=True)
        total.add(tally)
    print(f"{total.passed} passed, {total.failed} failed")
    return 0 if total.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
