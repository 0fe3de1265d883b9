"""Text of all files: nothing of one machine, nothing left undone, no line of C past 100 columns.

The formatter leaves comments as they are (byte tables stay as drawn), so their width is checked
here.
"""

import re
import sys
from pathlib import Path

from tests.tidy.tidy import ROOT, Finding, tell, tracked

COLUMNS_MAX = 100
UNDONE = re.compile(r"\b([T]ODO|[F]IXME|[X]XX|[H]ACK)\b")
HOME = re.compile(r"(?<![\w.:/-])/(home|root|Users|work)/[\w.]")
ADDRESS = re.compile(r"\b(10\.\d+|192\.168|172\.(1[6-9]|2\d|3[01]))\.\d+\.\d+\b")  # private ones
SKIPPED = ("LICENSE", "tests/format/", "tests/tidy/test_tidy.py")


def check_line(path: str, number: int, line: str) -> list[Finding]:
    findings = []
    breakable = len(line.split()) > 1  # a generated name may be longer than a line
    if path.endswith((".c", ".h")) and len(line) > COLUMNS_MAX and breakable:
        text = f"{len(line)} columns ({COLUMNS_MAX})"
        findings.append(Finding(path, number, text))
    if UNDONE.search(line):
        findings.append(Finding(path, number, "undone work belongs into an issue, not the source"))
    if HOME.search(line) or (ADDRESS.search(line) and not path.startswith("tests/")):
        findings.append(Finding(path, number, "names a path or an address of one machine"))
    if line != line.rstrip():
        findings.append(Finding(path, number, "blanks at the end of the line"))
    return findings


def check(root: Path) -> list[Finding]:
    findings = []
    for path in tracked(root):
        if path.startswith(SKIPPED):
            continue
        data = (root / path).read_bytes()
        if b"\0" in data:
            continue
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            if "corpus" not in path:
                findings.append(Finding(path, 1, f"not UTF-8: {error}"))
            continue
        if "corpus" in path:
            continue  # inputs for parsers look as they must
        for number, line in enumerate(text.split("\n"), 1):
            findings += check_line(path, number, line)
        if text and not text.endswith("\n"):
            findings.append(Finding(path, text.count("\n") + 1, "no newline at the end"))
    return findings


if __name__ == "__main__":
    sys.exit(tell(check(ROOT)))
