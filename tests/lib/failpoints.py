"""Named places of the source where a server of a test dies or fails, and which there are."""

import dataclasses
import re

from tests.lib.server import ROOT, Server

NAMED = re.compile(r'FAILPOINT(?:_FAILS)?\("([a-z._]+)"\)')
POINTS = re.compile(
    r"\.(?:opened|written|synced|renamed|durable|failing)\s*=\s*"
    r'"([a-z]+\.[a-z_]+)"'
)


def arm(server: Server, spec: str | None) -> None:
    """The next start acts on this failpoint; None: on none."""
    env = {} if spec is None else {"PROXIMADB_FAILPOINT": spec}
    server.options = dataclasses.replace(server.options, env=env)


def names_in_source() -> set[str]:
    """Every name that a test could give; those of file_write.h's steps too."""
    names: set[str] = set()
    for path in sorted((ROOT / "src").rglob("*.c")):
        text = path.read_text(encoding="utf-8")
        names.update(NAMED.findall(text), POINTS.findall(text))
    return names
