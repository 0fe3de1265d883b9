"""The failpoints that the source has, so that a test can tell when one is forgotten."""

import re

from tests.lib.server import ROOT

NAMED = re.compile(r'FAILPOINT(?:_FAILS)?\("([a-z._]+)"\)')
POINTS = re.compile(
    r"\.(?:opened|written|synced|renamed|durable|failing)\s*=\s*"
    r'"([a-z]+\.[a-z_]+)"'
)


def names_in_source() -> set[str]:
    """Every name that a test could give; those of file_write.h's steps too."""
    names: set[str] = set()
    for path in sorted((ROOT / "src").rglob("*.c")):
        text = path.read_text(encoding="utf-8")
        names.update(NAMED.findall(text), POINTS.findall(text))
    return names
