"""Layer order: who may include whom. The order is layers.txt, the exceptions layer_exceptions.txt.

- A folder of src/ includes itself and lower folders, and names the folder in every include.
- `<module>_internal.h` belongs to its folder, its unit tests, fuzz targets and simulations.
- filter, index and every *_format are pure: they see only base, vecmath and the public types.
- api, transport and server reach the engine only through include/proximadb.
- Public headers include only one another and the C library.
- Headers of libraries stay where docs/ARCHITECTURE.md puts them.
- pdb-bench knows the server by its wire contract; subprojects know nothing of src/.
- bench/client is below pdb-bench, and the only part of it that src/ sees, from src/server.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.tidy.tidy import ROOT, Finding, entries, tell, tracked

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')

# Who may include a library's headers: prefixes of header names, then prefixes of paths.
LIBRARIES: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (re.compile(r"h2o(\.h$|/)"), ("src/transport/", "src/reactor/guest_h2o.")),
    (re.compile(r"nghttp2/"), ("src/transport/", "bench/")),
    (re.compile(r"(protobuf-c/|.*\.pb-c\.h$)"), ("src/transport/", "bench/")),
    (re.compile(r"liburing(\.h$|/)"), ("src/os/", "src/reactor/")),
    (re.compile(r"curl/"), ("src/store/", "src/cluster/")),
    (re.compile(r"expat\.h$"), ("src/store/",)),
    (re.compile(r"openssl/"), ("src/security/", "src/store/", "bench/")),
    (re.compile(r"avro(\.h$|/)"), ("src/wal/", "src/transport/codec/")),
    (re.compile(r"zlib\.h$"), ("src/transport/", "bench/")),
    (re.compile(r"toml/"), ("src/server/", "subprojects/toml/")),
)
PURE_LAYERS = {"filter", "index"}
PURE_PUBLIC = {"types.h", "error.h", "filter.h", "export.h"}
ABOVE_ENGINE = {"api", "transport", "server"}
ENGINE_ROOM = {"store", "wal", "filter", "index", "segment", "memtable", "engine", "cluster"}


@dataclass(frozen=True, slots=True)
class Include:
    path: str
    line: int
    name: str
    quoted: bool


def includes_of(root: Path, path: str) -> list[Include]:
    found = []
    text = (root / path).read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if match is not None:
            found.append(Include(path, number, match.group(2), match.group(1) == '"'))
    return found


def check_library(include: Include) -> str | None:
    if include.path.startswith(("tests/", "perf/", "subprojects/")):
        return None
    for pattern, homes in LIBRARIES:
        if pattern.match(include.name) and not include.path.startswith(homes):
            return f"<{include.name}> belongs to {', '.join(homes)}"
    return None


def check_internal(include: Include) -> str | None:
    if not include.name.endswith("_internal.h") or "/" not in include.name:
        return None
    folder = include.name.rsplit("/", 1)[0]
    home = include.path.rsplit("/", 1)[0]
    if home in (f"src/{folder}", folder) or home.startswith(
        (f"tests/unit/{folder}", "tests/fuzz", "tests/sim")
    ):
        return None
    return f"{include.name} is internal to {folder}"


def check_source(include: Include, layers: list[str]) -> str | None:
    """The rules for a file of src/."""
    layer = include.path.split("/")[1]
    target = include.name.split("/")[0]
    stem = Path(include.path).stem
    if layer not in layers:
        return f"folder {layer} is not in layers.txt"
    if include.quoted and "/" not in include.name and not include.name.endswith(".pb-c.h"):
        return f'"{include.name}" does not name its folder'
    pure = layer in PURE_LAYERS or "_format" in stem
    if target == "bench":
        if layer != "server" or not include.name.startswith("bench/client/"):
            return f"only src/server includes the client, and nothing else of bench: {include.name}"
        return None
    if target == "proximadb":
        if pure and include.name.split("/")[1] not in PURE_PUBLIC:
            return f"{stem} is pure and may not see {include.name}"
        return None
    if target not in layers or target == layer or not include.quoted:
        return None
    if layers.index(target) > layers.index(layer):
        return f"{layer} includes {include.name} (higher layer)"
    if pure and target != "base":
        return f"{stem} is pure: base and vecmath only, not {include.name}"
    if layer in ABOVE_ENGINE and target in ENGINE_ROOM:
        return f"{layer} reaches the engine only through include/proximadb, not {include.name}"
    return None


def check_outside(include: Include, layers: list[str]) -> str | None:
    """The rules for public headers, pdb-bench and the subprojects."""
    target = include.name.split("/")[0]
    if include.path.startswith("include/"):
        if include.quoted or ("/" in include.name and target not in ("proximadb", "sys")):
            return f"a public header may not include {include.name}"
    elif include.path.startswith("bench/"):
        if include.quoted and target in layers and target != "base":
            return f"pdb-bench knows the server by its wire contract, not by {include.name}"
        below = include.path.startswith("bench/client/") and target == "bench"
        if below and not include.name.startswith("bench/client/"):
            return f"bench/client is below pdb-bench: {include.name}"
    elif include.path.startswith("subprojects/"):
        ours = include.quoted and target in layers
        if ours or target == "proximadb":
            return f"a subproject knows nothing of src/: {include.name}"
    return None


def check(root: Path) -> list[Finding]:
    tidy = root / "tests" / "tidy"
    layers = [words[0] for _, words in entries(tidy / "layers.txt")]
    exceptions = {
        (words[0], words[1]): number for number, words in entries(tidy / "layer_exceptions.txt")
    }
    findings = []
    used = set()
    for path in tracked(root, "*.c", "*.h"):
        for include in includes_of(root, path):
            problem = check_library(include) or check_internal(include)
            if problem is None:
                in_source = path.startswith("src/")
                problem = (check_source if in_source else check_outside)(include, layers)
            if problem is None:
                continue
            if (path, include.name) in exceptions:
                used.add((path, include.name))
            else:
                findings.append(Finding(path, include.line, problem))
    for key in exceptions.keys() - used:
        text = f"{key[0]} does not need its exception for {key[1]} any more"
        findings.append(Finding("tests/tidy/layer_exceptions.txt", exceptions[key], text))
    return findings


if __name__ == "__main__":
    sys.exit(tell(check(ROOT)))
