"""The checks find what they are for: each runs in a small repository with one offence."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TIDY = Path(__file__).resolve().parent
LISTS_WITHOUT_ENTRIES = ("layer_exceptions.txt", "long_functions.txt")


def check(name: str, folder: Path, files: dict[str, str]) -> str:
    """What a check says about a repository of these files; empty when it is content."""
    tidy = folder / "tests" / "tidy"
    shutil.copytree(TIDY, tidy)
    for empty in LISTS_WITHOUT_ENTRIES:
        (tidy / empty).write_text("", encoding="utf-8")
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    done = subprocess.run(
        [sys.executable, "-m", f"tests.tidy.{name}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (1 if done.stderr else 0), done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("path", "line", "complaint"),
    [
        ("src/wal/wal_append.c", '#include "engine/shard.h"', "wal includes engine/shard.h"),
        ("src/engine/plan.c", '#include "wal/wal_internal.h"', "internal to wal"),
        ("src/filter/filter_eval.c", '#include "os/io.h"', "pure"),
        ("src/wal/wal_format.c", '#include "reactor/reactor.h"', "pure"),
        ("src/filter/filter_eval.c", "#include <proximadb/record.h>", "pure"),
        ("src/engine/plan.c", "#include <h2o.h>", "belongs to"),
        ("src/api/api.c", "#include <openssl/ssl.h>", "belongs to"),
        ("src/api/api.c", '#include "engine/shard.h"', "only through include/proximadb"),
        ("src/server/serve.c", '#include "memtable/memtable.h"', "only through include/proximadb"),
        ("src/os/io.c", '#include "io.h"', "does not name its folder"),
        ("src/extra/extra.c", '#include "base/list.h"', "not in layers.txt"),
        ("include/proximadb/call.h", '#include "base/arena.h"', "public header"),
        ("bench/run.c", '#include "transport/transport.h"', "wire contract"),
        ("bench/client/conn.c", '#include "bench/jobs.h"', "below pdb-bench"),
        ("src/server/import.c", '#include "bench/jobs.h"', "nothing else of bench"),
        ("src/api/api.c", '#include "bench/client/conn.h"', "only src/server"),
        ("subprojects/toml/src/a.c", '#include "base/arena.h"', "knows nothing of src/"),
    ],
)
def test_a_wrong_include_is_found(tmp_path: Path, path: str, line: str, complaint: str) -> None:
    found = check("tidy_layers", tmp_path, {path: f"/* file */\n{line}\n"})
    assert f"{path}:2: " in found
    assert complaint in found


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("src/wal/wal_append.c", '#include "wal/wal_internal.h"'),
        ("tests/unit/wal/test_wal_append.c", '#include "wal/wal_internal.h"'),
        ("tests/fuzz/fuzz_h2.c", '#include "transport/grpc/h2_internal.h"'),
        ("src/engine/shard.c", '#include "memtable/memtable.h"'),
        ("src/filter/filter_eval.c", "#include <vecmath/vecmath.h>"),
        ("src/filter/filter_eval.c", "#include <proximadb/types.h>"),
        ("src/reactor/guest_h2o.c", "#include <h2o.h>"),
        ("src/api/api.c", "#include <proximadb/search.h>"),
        ("src/server/import.c", '#include "bench/client/conn.h"'),
    ],
)
def test_a_right_include_is_left_alone(tmp_path: Path, path: str, line: str) -> None:
    assert check("tidy_layers", tmp_path, {path: line + "\n"}) == ""


def test_an_exception_is_honoured_and_leaves_when_it_is_not_needed(tmp_path: Path) -> None:
    entries = "src/os/a.c wal/wal.h reason\nsrc/os/b.c wal/wal.h reason\n"
    files = {
        "src/os/a.c": '#include "wal/wal.h"\n',
        "src/os/b.c": "int b;\n",
        "tests/tidy/layer_exceptions.txt": entries,
    }
    found = check("tidy_layers", tmp_path, files)
    assert "src/os/a.c:" not in found
    assert "layer_exceptions.txt:2: src/os/b.c does not need" in found


def function(name: str, lines: int) -> str:
    body = "".join(f"    n += {i}; /* }} */\n" for i in range(lines - 5))
    return f"static int\n{name}(int n)\n{{\n{body}    return n;\n}}\n"


def test_a_function_of_71_lines_is_found_and_one_of_70_is_not(tmp_path: Path) -> None:
    text = 'struct pair {\n    int a;\n};\n#define OPEN {\nchar text[] = "{";\n'
    files = {"src/base/a.c": text + function("short_one", 70) + function("long_one", 71)}
    found = check("tidy_functions", tmp_path, files)
    assert found == "src/base/a.c:76: long_one is 71 lines (70)\n"


@pytest.mark.parametrize(("lines", "complaint"), [(80, ""), (81, "81 lines (80)"), (70, "take it")])
def test_a_listed_function_may_only_shrink(tmp_path: Path, lines: int, complaint: str) -> None:
    files = {
        "src/base/a.c": function("long_one", lines),
        "tests/tidy/long_functions.txt": "src/base/a.c long_one 80\n",
    }
    found = check("tidy_functions", tmp_path, files)
    assert complaint in found
    assert (found == "") == (complaint == "")


def test_a_header_that_needs_another_is_found(tmp_path: Path) -> None:
    good = "#include <stddef.h>\nsize_t length(const char *text);\n"
    files = {"src/base/good.h": good, "src/base/bad.h": good.split("\n", 1)[1]}
    found = check("tidy_headers", tmp_path, files)
    assert "src/base/bad.h:1: does not compile alone" in found
    assert "good.h" not in found


FAMILIES = """
    V(OP, READ, "read") V(OP, WRITE, "write")
    V(STATUS, 200, "200")
    F(DEPTH, "queue_depth", GAUGE, ONE, CORE, NONE, NONE, "Waiting")
    F(OPS, "ops_total", COUNTER, ONE, ALL, OP, NONE,
      "Finished")
    F(TOOK, "took_seconds", HISTOGRAM, NS, ALL, NONE, NONE, "Time")
"""


@pytest.mark.parametrize(
    ("left_out", "complaint"),
    [
        ("", ""),
        ("METRICS_DEPTH_AT", ":4: nothing moves queue_depth"),
        ("METRICS_OPS_AT", ":5: nothing moves ops_total"),
        ("METRICS_TOOK_IN", ":7: nothing moves took_seconds"),
        ("METRICS_OP_WRITE", ":2: nothing counts for OP 'write'"),
    ],
)
def test_a_metric_that_nothing_moves_is_found(
    tmp_path: Path, left_out: str, complaint: str
) -> None:
    names = ["DEPTH_AT", "OPS_AT", "TOOK_IN", "OP_READ", "OP_WRITE"]
    used = "\n".join(f"METRICS_{name}" for name in names).replace(left_out or "\0", "METRICS_MORE")
    files = {"src/metrics/families.h": FAMILIES, "src/engine/stats.c": used}
    found = check("tidy_metrics", tmp_path, files)
    assert complaint in found
    assert found.count("\n") == (complaint != "")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("/* " + "é" * 98 + " */", "104 columns"),
        ("int n; /* TODO: more */", "undone"),
        ('open("/home/me/file");', "one machine"),
        ('connect("10.20.30.7");', "one machine"),
        ("int n; ", "blanks"),
        ("/* " + "é" * 94 + " */", ""),
        ('open("/srv/Users/x");', ""),
    ],
)
def test_text_that_does_not_belong_is_found(tmp_path: Path, line: str, complaint: str) -> None:
    found = check("tidy_text", tmp_path, {"src/base/a.c": line + "\n"})
    assert complaint in found
    assert (found == "") == (complaint == "")
