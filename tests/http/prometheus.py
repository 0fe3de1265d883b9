"""A strict reader of the Prometheus text format, version 0.0.4."""

import math
import re
from dataclasses import dataclass, field

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
HELP = re.compile(rf"# HELP ({NAME}) ((?:[^\\\n]|\\[\\n])*)")
TYPE = re.compile(rf"# TYPE ({NAME}) (counter|gauge|histogram|summary|untyped)")
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)?\}})? (\S+)")
SUFFIXES = ("_bucket", "_sum", "_count")
Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Family:
    name: str
    kind: str
    help: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)

    def value(self, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        wanted = set(labels.items())
        return sum(v for (_, have), v in self.samples.items() if wanted <= set(have))


def parse(text: str) -> dict[str, Family]:
    """Families by name; AssertionError with the line for anything that is not exactly right."""
    assert text.endswith("\n"), "the last line must end"
    families: dict[str, Family] = {}
    helps: dict[str, str] = {}
    current: Family | None = None
    for line in text.splitlines():
        if (match := HELP.fullmatch(line)) is not None:
            assert match.group(1) not in helps, f"twice: {line}"
            helps[match.group(1)] = match.group(2)
        elif (match := TYPE.fullmatch(line)) is not None:
            name = match.group(1)
            assert name not in families, f"twice: {line}"
            assert name in helps, f"no help: {line}"
            current = families[name] = Family(name, match.group(2), helps[name])
        else:
            _take_sample(line, current)
    for family in families.values():
        if family.kind == "histogram":
            _check_histogram(family)
    return families


def _take_sample(line: str, family: Family | None) -> None:
    match = SAMPLE.fullmatch(line)
    assert match is not None, f"malformed: {line!r}"
    assert family is not None, f"a sample before its type: {line}"
    name = match.group(1)
    suffixes = SUFFIXES if family.kind == "histogram" else ("",)
    assert name in {family.name + suffix for suffix in suffixes}, f"not of {family.name}: {line}"
    labels = tuple(re.findall(LABEL, match.group(2) or ""))
    assert len({key for key, _ in labels}) == len(labels), f"a label twice: {line}"
    assert (name, labels) not in family.samples, f"twice: {line}"
    value = float(match.groups()[-1])
    assert family.kind == "gauge" or value >= 0, f"negative: {line}"
    family.samples[name, labels] = value


def _check_histogram(family: Family) -> None:
    """Per set of labels: buckets grow, the last one is +Inf and equals the count."""
    series: dict[Labels, list[tuple[float, float]]] = {}
    for (name, labels), value in family.samples.items():
        if name.endswith("_bucket"):
            bound = float(dict(labels)["le"].replace("+Inf", "inf"))
            rest = tuple(pair for pair in labels if pair[0] != "le")
            series.setdefault(rest, []).append((bound, value))
    assert series or not family.samples, family.name
    for labels, buckets in series.items():
        bounds = [bound for bound, _ in buckets]
        counts = [count for _, count in buckets]
        assert bounds == sorted(set(bounds)), f"{family.name}: buckets out of order"
        assert counts == sorted(counts), f"{family.name}: buckets that shrink"
        assert math.isinf(bounds[-1]), f"{family.name}: no +Inf"
        assert counts[-1] == family.samples[f"{family.name}_count", labels]
        assert (f"{family.name}_sum", labels) in family.samples
