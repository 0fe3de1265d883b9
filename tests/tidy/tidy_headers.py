"""Every header compiles alone: python -m tests.tidy.tidy_headers [BUILD_FOLDER].

Headers that include generated ones need a build folder in which those have been made.
"""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.tidy.tidy import ROOT, Finding, tell, tracked

LIBRARIES = ("libh2o-evloop", "libnghttp2", "liburing", "openssl", "libprotobuf-c", "avro-c")
FLAGS = ("-std=gnu17", "-D_GNU_SOURCE", "-DH2O_USE_EPOLL=1", '-DPDB_VERSION="0"')
SUBPROJECTS = ("pqfile", "toml", "vecmath")
FOLDERS = ("src", "include", ".", *(f"subprojects/{name}/include" for name in SUBPROJECTS))
PATTERNS = ("src/**.h", "include/**.h", "bench/**.h", "perf/**.h", "subprojects/**.h")


def library_flags() -> list[str]:
    if shutil.which("pkg-config") is None:
        return []
    return subprocess.run(
        ["pkg-config", "--cflags", *LIBRARIES], check=True, capture_output=True, text=True
    ).stdout.split()


def check_header(root: Path, path: str, flags: list[str]) -> list[Finding]:
    compiled = subprocess.run(
        ["gcc", "-fsyntax-only", "-Wall", "-Werror", "-Wno-unused-function", *flags]
        + [f"-I{Path(path).parent}", "-include", path, "-x", "c", "-"],
        cwd=root,
        input="typedef int a_file_needs_a_declaration;\n",
        capture_output=True,
        text=True,
        check=False,
    )
    if compiled.returncode == 0:
        return []
    return [Finding(path, 1, "does not compile alone\n" + compiled.stderr)]


def check(root: Path, build: Path | None) -> list[Finding]:
    flags = [*FLAGS, *(f"-I{folder}" for folder in FOLDERS), *library_flags()]
    if build is not None:
        flags.append(f"-I{build.resolve()}/proto")
    headers = tracked(root, *PATTERNS)
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda path: check_header(root, path, flags), headers)
        return [finding for findings in results for finding in findings]


if __name__ == "__main__":
    sys.exit(tell(check(ROOT, Path(sys.argv[1]) if len(sys.argv) > 1 else None)))
