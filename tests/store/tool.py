"""store_tool as a function: runs it with nothing but the environment given, and reads its lines."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lib.server import LIMIT_S, ROOT

FACTS = re.compile(r"^(?:len=(\d+) )?(\S+) size=(\d+) etag=(\S*)(?: crc32c=([0-9a-f]{8}))? ")
ERROR = re.compile(r"^error ([A-Z_]+) (.*)$", re.MULTILINE)


def binary() -> Path:
    """STORE_TOOL_BINARY, or what `make build` has built."""
    return Path(os.environ.get("STORE_TOOL_BINARY", ROOT / "build" / "tests/store/store_tool"))


@dataclass(frozen=True, slots=True)
class Facts:
    """One object as the tool tells of it; `delivered`: bytes that a get wrote."""

    key: str
    size: int
    etag: str
    crc32c: str | None
    delivered: int | None


@dataclass(frozen=True, slots=True)
class Result:
    """What one run printed. `error` is the name of the code, "" for success."""

    output: str
    error: str
    text: str
    objects: list[Facts]

    @property
    def keys(self) -> list[str]:
        return [o.key for o in self.objects]

    @property
    def one(self) -> Facts:
        assert self.error == "", self.output
        assert len(self.objects) == 1, self.output
        return self.objects[0]


def facts_of(line: str) -> Facts | None:
    match = FACTS.match(line)
    if match is None:
        return None
    delivered, key, size, etag, crc32c = match.groups()
    return Facts(key, int(size), etag, crc32c, int(delivered) if delivered else None)


@dataclass(frozen=True, slots=True)
class Tool:
    """The tool for one store. Whatever it prints is searched for the secrets in its environment."""

    url: str
    env: Mapping[str, str]
    options: tuple[str, ...] = ()

    def run(self, *command: str | Path, stdin: bytes = b"", page: int = 0) -> Result:
        arguments = [part for option in self.options for part in ("-o", option)]
        sanitizers = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        done = subprocess.run(
            [str(binary()), *arguments, self.url, *map(str, command)],
            input=stdin,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
            env={"STORE_TOOL_PAGE": str(page)} | sanitizers | dict(self.env),
        )
        output = done.stdout.decode() + done.stderr.decode()
        for name, value in self.env.items():
            if "ENDPOINT" not in name and len(value) > 3:
                assert value not in output, f"{name} was printed"
        error = ERROR.search(output)
        assert done.returncode == (error is not None), output
        objects = [facts for line in output.splitlines() if (facts := facts_of(line))]
        return Result(
            output, error.group(1) if error else "", error.group(2) if error else "", objects
        )

    def put(self, key: str, data: bytes, *condition: str) -> Result:
        return self.run("put", key, "-", *condition, stdin=data)

    def get(self, key: str, path: Path, *span: int) -> Result:
        return self.run("get", key, path, *map(str, span))

    def with_options(self, *options: str) -> "Tool":
        return Tool(self.url, self.env, options)
