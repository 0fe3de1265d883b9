"""What the checks share: the files of the repository, and how a finding is told."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, slots=True)
class Finding:
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def tracked(root: Path, *patterns: str) -> list[str]:
    """Paths below `root` that git knows or would add, and that exist; sorted."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return sorted(path for path in set(listed.split("\0")) if path and (root / path).is_file())


def entries(path: Path) -> list[tuple[int, list[str]]]:
    """Line numbers and words of a list with comments; the last word of a line may hold blanks."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split("#", 1)[0].split(None, 2)
        if words:
            found.append((number, words))
    return found


def tell(findings: list[Finding]) -> int:
    """Prints the findings; the exit status of a check."""
    for finding in findings:
        print(finding, file=sys.stderr)
    return 1 if findings else 0
