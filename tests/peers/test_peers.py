"""What perf/peers makes of its measurements, and what it must hold on to. Needs none of the
libraries that it compares."""

import dataclasses
import gc
import importlib
import json
import math
import sys
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

PEERS = Path(__file__).resolve().parents[2] / "perf" / "peers"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401
    """Imports a module of perf/peers by its name, which are no package."""
    monkeypatch.syspath_prepend(str(PEERS))
    return importlib.import_module


class Owner:
    """What faiss.read_index gives: frees the index when it goes."""


class View:
    """What faiss.downcast_index gives: the same index, not owned, as what it really is."""

    k_factor = 0.0


def faiss_that_reads(owners: list[weakref.ref[Owner]]) -> Any:  # noqa: ANN401
    def read_index(_path: str) -> Owner:
        owner = Owner()
        owners.append(weakref.ref(owner))
        return owner

    module: Any = ModuleType("faiss")
    module.read_index = read_index
    module.downcast_index = lambda _owner: View()
    return module


def test_lists_of_faiss_that_were_read_stay_until_they_are_done_with(
    peers: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owners: list[weakref.ref[Owner]] = []
    monkeypatch.setitem(sys.modules, "faiss", faiss_that_reads(owners))
    engine = peers("engines").Faiss("IVF{lists},PQ{half}x4fs,RFlat", k_factors=(4,))
    engine.load(Path("lists"), np.zeros((1, 2), np.float32), False)
    gc.collect()
    assert isinstance(engine.index, View)  # has the settings that what was read hides
    assert owners[0]() is not None
    del engine
    gc.collect()
    assert owners[0]() is None


def test_speed_at_a_recall_lies_on_the_curve_by_its_logarithm(peers: Any) -> None:  # noqa: ANN401
    points = [(0.98, 100.0), (0.90, 10_000.0)]
    speed, mark = peers("compare").speed_at(points, 0.94)
    assert speed == pytest.approx(1000.0)
    assert mark == ""


def test_speed_at_a_recall_is_marked_where_the_curve_does_not_pass_it(
    peers: Any,  # noqa: ANN401
) -> None:
    speed_at = peers("compare").speed_at
    points = [(0.96, 500.0), (0.97, 400.0)]
    assert speed_at(points, 0.95) == (500.0, "+")
    speed, mark = speed_at(points, 0.99)
    assert math.isnan(speed)
    assert mark == "-"


def test_a_ratio_is_the_median_of_the_rounds_that_reach_the_recall(
    peers: Any,  # noqa: ANN401
) -> None:
    compare = peers("compare")

    def entry(*speeds: float | None) -> Any:  # noqa: ANN401
        one = compare.Entry("one", "hnswlib", {})
        for speed in speeds:
            recall = 0.90 if speed is None else 0.99
            one.rounds.append([{"setting": {}, "recall": recall, "speed": speed or 1.0}])
        return one

    ours, theirs = entry(300.0, 800.0, 400.0, 900.0), entry(100.0, 100.0, 200.0, None)
    assert compare.ratio(ours, theirs, 0.95) == pytest.approx(3.0)
    assert math.isnan(compare.ratio(ours, None, 0.95))


def test_settings_that_another_one_beats_in_both_are_not_kept(peers: Any) -> None:  # noqa: ANN401
    measured = [
        {"recall": recall, "speed": speed}
        for recall, speed in ((0.9, 100.0), (0.95, 120.0), (0.99, 50.0), (0.98, 40.0))
    ]
    kept = peers("compare").frontier(measured)
    assert [one["recall"] for one in kept] == [0.95, 0.99]
    points = [(one["recall"], one["speed"]) for one in measured]
    assert peers("curves").best(points) == [(0.95, 120.0), (0.99, 50.0)]


def test_what_was_measured_before_is_read_as_it_was(peers: Any, tmp_path: Path) -> None:  # noqa: ANN401
    curves = peers("curves")
    one = curves.Curve("ivf pq", [(0.9, 200.0), (0.99, 100.0)], 1.0, 0.0, 100.0, 0.0)
    file = tmp_path / "curves.json"
    file.write_text(json.dumps([dataclasses.asdict(one)]))
    kept = curves.kept_curves(file)
    assert kept == {"ivf pq": one}
    assert curves.best(kept["ivf pq"].points + [(0.95, 150.0)]) == [
        (0.9, 200.0),
        (0.95, 150.0),
        (0.99, 100.0),
    ]


def test_a_picture_has_every_measured_kind_inside_its_frame(peers: Any) -> None:  # noqa: ANN401
    curves = peers("curves")
    points = [(0.70, 90_000.0), (0.85, 60_000.0), (0.97, 20_000.0), (1.0, 300.0)]
    drawn = [
        curves.Curve(kind.name, points[-1:] if kind.flat else points, 1.0, 0.0, 100.0, 0.0)
        for kind in curves.KINDS[1:]
    ]
    picture = ElementTree.fromstring(curves.draw(drawn, "rows"))
    svg = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in picture.iter(f"{svg}text")]
    assert [kind.name in texts for kind in curves.KINDS] == [False] + [True] * len(drawn)
    dots = [
        (float(one.attrib["cx"]), float(one.attrib["cy"])) for one in picture.iter(f"{svg}circle")
    ]
    graphs = sum(not kind.flat for kind in curves.KINDS[1:])
    assert len(dots) == 3 * graphs  # what is below the least recall is not drawn
    assert all(curves.LEFT <= x <= curves.WIDTH - curves.RIGHT for x, _ in dots)
    assert all(curves.TOP <= y <= curves.HEIGHT - curves.BOTTOM for _, y in dots)
