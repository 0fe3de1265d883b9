"""Servers that drop, lie, stall and refuse: what is repeated, what is not, what is told."""

import os
from pathlib import Path

import pytest

from tests.store import fault_proxy as faults
from tests.store.fault_proxy import FaultProxy
from tests.store.tool import Tool

PART = 5 << 20
DATA = bytes(range(256)) * 40


@pytest.mark.parametrize("fault", [faults.DROP, faults.BUSY, faults.LIMITED, faults.BUSY_LATE])
def test_what_may_pass_is_tried_again(
    s3: Tool, faulty: Tool, proxy: FaultProxy, target: Path, fault: str
) -> None:
    proxy.plan = [fault, fault]
    assert faulty.put("k", DATA).one.size == len(DATA)
    assert proxy.count("PUT") == 3
    proxy.plan = [fault]
    assert faulty.run("list").keys == ["k"]
    proxy.plan = [fault]
    assert faulty.get("k", target).one.delivered == len(DATA)
    proxy.plan = [fault]
    assert faulty.run("delete", "k").error == ""
    assert s3.run("list").keys == []


def test_attempts_are_limited_and_told(faulty: Tool, proxy: FaultProxy) -> None:
    proxy.plan = [faults.BUSY] * 9
    result = faulty.with_options("attempts=3").put("k", b"x")
    assert result.error == "UNAVAILABLE"
    assert "503 SlowDown, 3 attempts" in result.text
    assert "put 'k'" in result.text
    assert proxy.count("PUT") == 3


@pytest.mark.parametrize("fault", [faults.DROP_LATE, faults.BUSY_LATE])
def test_a_conditional_put_that_arrived_unseen_is_recognised(
    s3: Tool, faulty: Tool, proxy: FaultProxy, target: Path, fault: str
) -> None:
    proxy.plan = [fault]
    put = faulty.put("k", DATA, "absent").one
    assert put == s3.run("head", "k").one
    assert proxy.count("PUT") == 1
    proxy.plan = [fault]
    replaced = faulty.put("k", b"new", "match", put.etag).one
    assert proxy.count("PUT") == 2
    assert replaced == s3.run("head", "k").one


def test_a_conditional_put_that_was_lost_is_sent_again(
    s3: Tool, faulty: Tool, proxy: FaultProxy
) -> None:
    proxy.plan = [faults.DROP]
    first = faulty.put("k", DATA, "absent").one
    assert [m for m, _, _ in proxy.log] == ["PUT", "HEAD", "PUT"]
    proxy.plan = [faults.BUSY]
    assert faulty.put("k", b"2", "match", first.etag).one == s3.run("head", "k").one


def test_anothers_object_is_not_taken_for_ours(
    s3: Tool, faulty: Tool, proxy: FaultProxy, target: Path
) -> None:
    theirs = s3.put("k", b"theirs").one
    for fault in (faults.DROP, faults.DROP_LATE, faults.PASS):
        proxy.plan = [fault]
        assert faulty.put("k", b"ours", "absent").error == "ALREADY_EXISTS"
        proxy.plan = [fault]
        assert faulty.put("k", b"ours", "match", "0" * 32).error == "FAILED_PRECONDITION"
    assert s3.run("head", "k").one == theirs


def test_an_outcome_that_cannot_be_looked_up_is_called_unknown(
    faulty: Tool, proxy: FaultProxy
) -> None:
    proxy.plan = [faults.DROP_LATE] + [faults.DROP] * 20
    result = faulty.with_options("attempts=2").put("k", b"x", "absent")
    assert result.error == "UNAVAILABLE"
    assert "outcome unknown" in result.text


@pytest.mark.parametrize("span", [(), (100, 5000)])
def test_a_body_that_breaks_off_goes_on_where_it_was(
    s3: Tool, faulty: Tool, proxy: FaultProxy, target: Path, span: tuple[int, ...]
) -> None:
    s3.put("k", DATA)
    proxy.plan = [faults.CUT, faults.CUT]
    expected = DATA[span[0] : span[0] + span[1]] if span else DATA
    assert faulty.get("k", target, *span).one.delivered == len(expected)
    assert target.read_bytes() == expected
    assert proxy.count("GET") == 3


def test_an_object_that_changed_meanwhile_is_never_mixed(
    s3: Tool, faulty: Tool, proxy: FaultProxy, target: Path
) -> None:
    s3.put("k", DATA)
    proxy.plan = [faults.CUT]
    proxy.before = {2: lambda: s3.put("k", DATA[::-1])}
    assert faulty.get("k", target).one.delivered == len(DATA)
    assert target.read_bytes() == DATA[::-1]
    assert proxy.count("GET") == 3
    proxy.plan = [faults.CUT, faults.PASS, faults.CUT]
    proxy.before = {5: lambda: s3.put("k", DATA), 7: lambda: s3.put("k", DATA[::-1])}
    result = faulty.get("k", target)
    assert result.error == "UNAVAILABLE"
    assert "changes while it is read" in result.text


# A changed byte in a part of an object is its reader's to find: parts have no checksum.
@pytest.mark.parametrize(
    ("fault", "span"), [(faults.LIE, ()), (faults.LIE, (100, 5000)), (faults.FLIP, ())]
)
def test_damage_is_read_again_and_then_told(
    s3: Tool, faulty: Tool, proxy: FaultProxy, target: Path, fault: str, span: tuple[int, ...]
) -> None:
    s3.put("k", DATA)
    proxy.plan = [fault]
    assert faulty.get("k", target, *span).error == ""
    proxy.plan = [fault] * 9
    result = faulty.get("k", target, *span)
    assert result.error == "DATA_LOSS"
    assert not target.exists()


def test_a_server_that_ignores_ranges_is_not_believed(
    s3: Tool, faulty: Tool, proxy: FaultProxy, target: Path
) -> None:
    s3.put("k", DATA)
    proxy.plan = [faults.WHOLE]
    assert faulty.get("k", target, 5, 10).error == "UNAVAILABLE"
    assert not target.exists()


def test_a_stalled_transfer_is_given_up_and_repeated(
    s3: Tool, faulty: Tool, proxy: FaultProxy, target: Path
) -> None:
    s3.put("k", DATA)
    proxy.plan = [faults.STALL]
    assert faulty.with_options("stall_ms=4000").get("k", target).one.delivered == len(DATA)
    assert target.read_bytes() == DATA


def test_a_deadline_and_a_cancelled_call_end_a_stalled_transfer(
    s3: Tool, faulty: Tool, proxy: FaultProxy, target: Path
) -> None:
    s3.put("k", DATA)
    proxy.plan = [faults.STALL]
    assert faulty.with_options("deadline_ms=300").get("k", target).error == "DEADLINE_EXCEEDED"
    proxy.plan = [faults.STALL]
    assert faulty.run("cancelled", "get", "k", target, "300").error == "CANCELLED"
    assert not target.exists()


def test_redirects_are_not_followed(faulty: Tool, proxy: FaultProxy) -> None:
    proxy.plan = [faults.REDIRECT]
    result = faulty.put("k", b"x")
    assert result.error == "INVALID_ARGUMENT"
    assert "307" in result.text
    assert len(proxy.log) == 1


@pytest.mark.parametrize("condition", [(), ("absent",)])
@pytest.mark.parametrize("fault", [faults.DROP, faults.DROP_LATE, faults.BUSY_LATE])
def test_each_step_of_an_upload_in_parts_may_fail_once(
    s3: Tool,
    faulty: Tool,
    proxy: FaultProxy,
    tmp_path: Path,
    target: Path,
    condition: tuple[str, ...],
    fault: str,
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(PART + 1000))
    in_parts = faulty.with_options(f"part_bytes={PART}")
    steps = 4  # begin, two parts, complete
    for step in range(steps):
        key = f"k{step}"
        proxy.plan = [faults.PASS] * step + [fault]
        put = in_parts.run("put", key, source, *condition).one
        assert put.size == PART + 1000
        assert s3.get(key, target).one.crc32c == put.crc32c
        assert target.read_bytes() == source.read_bytes()


def test_an_upload_that_fails_is_aborted(
    faulty: Tool, s3: Tool, proxy: FaultProxy, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(PART + 1000))
    in_parts = faulty.with_options(f"part_bytes={PART}", "attempts=2")
    proxy.plan = [faults.PASS, faults.BUSY, faults.BUSY]
    assert in_parts.run("put", "k", source).error == "UNAVAILABLE"
    assert proxy.log[-1][0] == "DELETE"
    assert "uploadId=" in proxy.log[-1][1]
    assert s3.run("list").keys == []


def test_a_server_that_is_not_there_is_told(s3: Tool, proxy: FaultProxy) -> None:
    nobody = Tool("s3://bucket?endpoint=http://127.0.0.1:1", s3.env, ("attempts=2",))
    result = nobody.put("k", b"x", "absent")
    assert result.error == "UNAVAILABLE"
    assert "outcome unknown" not in result.text
