"""Every metric can move: what src/metrics/families.h lists is reached by other code of src/.

A family that nothing counts would be shown as zero for ever, and so would a value of a label that
nothing names. Names are looked for as they are written: METRICS_<family>_AT of counters and gauges,
METRICS_<family>_IN of histograms, METRICS_<set>_<value> of label values.
"""

import re
import sys
from pathlib import Path

from tests.tidy.tidy import ROOT, Finding, tell, tracked

TABLE = "src/metrics/families.h"
FAMILY = re.compile(r'\bF\((\w+), "(\w+)", (COUNTER|GAUGE|HISTOGRAM)\b')
VALUE = re.compile(r'\bV\((\w+), (\w+), "([^"]*)"\)')
USED = re.compile(r"\bMETRICS_\w+")
# Sets whose values code finds by number, not by name, and that which has no label.
BY_NUMBER = {
    "NONE": "no label",
    "ERRNO": "metrics_errno",
    "STATUS": "metrics_status",
    "CODE": "the number of a gRPC code",
    "OPERATION": "the door's table",
    "METHOD": "the door's table",
}


def used_names(root: Path) -> set[str]:
    names: set[str] = set()
    for path in tracked(root, "src/**.c", "src/**.h"):
        if path != TABLE:
            names.update(USED.findall((root / path).read_text(encoding="utf-8")))
    return names


def check(root: Path) -> list[Finding]:
    findings = []
    used = used_names(root)
    for number, line in enumerate((root / TABLE).read_text(encoding="utf-8").splitlines(), 1):
        for slot, name, kind in FAMILY.findall(line):
            if f"METRICS_{slot}_{'IN' if kind == 'HISTOGRAM' else 'AT'}" not in used:
                findings.append(Finding(TABLE, number, f"nothing moves {name}"))
        for group, value, text in VALUE.findall(line):
            if group not in BY_NUMBER and f"METRICS_{group}_{value}" not in used:
                findings.append(Finding(TABLE, number, f"nothing counts for {group} {text!r}"))
    return findings


if __name__ == "__main__":
    sys.exit(tell(check(ROOT)))
