"""Functions have at most 70 lines from signature to closing brace.

long_functions.txt is a ratchet. A function is recognised by its braces: at the outermost level,
`)` and then `{`. Comments, texts and preprocessor lines are blanked first, keeping their lines.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.tidy.tidy import ROOT, Finding, entries, tell, tracked

LINES_MAX = 70
BLANKED = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|^[ \t]*#(?:\\\n|[^\n])*",
    re.DOTALL | re.MULTILINE,
)
NAME = re.compile(r"([A-Za-z_]\w*)\s*\(")
ATTRIBUTE = re.compile(r"__attribute__\s*\(\(.*?\)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    line: int
    lines: int


def blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match.group(0))


def functions_of(text: str) -> list[Function]:
    text = BLANKED.sub(blank, text)
    found: list[Function] = []
    depth = 0
    head = 0  # where the declaration at hand begins
    signature: str | None = None
    for position, char in enumerate(text):
        if char == "{":
            if depth == 0:
                declaration = ATTRIBUTE.sub("", text[head:position])
                signature = declaration if declaration.rstrip().endswith(")") else None
                start = head + len(text[head:position]) - len(text[head:position].lstrip())
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                if signature is not None:
                    name = NAME.search(signature)
                    first = text.count("\n", 0, start) + 1
                    last = text.count("\n", 0, position) + 1
                    found.append(Function(name.group(1) if name else "?", first, last - first + 1))
                head = position + 1
        elif char == ";" and depth == 0:
            head = position + 1
    return found


def check(root: Path) -> list[Finding]:
    list_path = "tests/tidy/long_functions.txt"
    listed = {
        (words[0], words[1]): (number, int(words[2])) for number, words in entries(root / list_path)
    }
    findings = []
    for path in tracked(root, "*.c", "*.h"):
        for function in functions_of((root / path).read_text(encoding="utf-8")):
            if function.lines <= LINES_MAX:
                continue
            limit = listed.pop((path, function.name), (0, LINES_MAX))[1]
            if function.lines > limit:
                text = f"{function.name} is {function.lines} lines ({limit})"
                findings.append(Finding(path, function.line, text))
    for (path, name), (number, _) in listed.items():
        findings.append(Finding(list_path, number, f"{path} {name} is short or gone: take it off"))
    return findings


if __name__ == "__main__":
    sys.exit(tell(check(ROOT)))
