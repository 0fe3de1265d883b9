"""The store against an S3 server that verifies signatures."""

import os
from pathlib import Path

import pytest

from tests.store import fault_proxy as faults
from tests.store.fault_proxy import FaultProxy
from tests.store.moto import Moto
from tests.store.tool import Tool

PART = 5 << 20
LARGE = 2 * PART + 12345


def test_what_is_put_is_read_until_it_is_deleted(s3: Tool, target: Path) -> None:
    put = s3.put("a/b=1,2@3", b"hello").one
    assert (put.size, put.crc32c) == (5, "9a71bb4c")
    assert s3.get("a/b=1,2@3", target).one.delivered == 5
    assert target.read_bytes() == b"hello"
    assert s3.run("head", "a/b=1,2@3").one == put
    assert s3.run("delete", "a/b=1,2@3").error == ""
    assert s3.run("delete", "a/b=1,2@3").error == ""
    assert s3.run("head", "a/b=1,2@3").error == "NOT_FOUND"
    assert s3.get("a/b=1,2@3", target).error == "NOT_FOUND"
    assert not target.exists()


def test_an_empty_object_is_an_object(s3: Tool, target: Path) -> None:
    assert s3.put("empty", b"").one.size == 0
    assert s3.get("empty", target).one.delivered == 0
    assert target.read_bytes() == b""


def test_conditions_hold(s3: Tool, target: Path) -> None:
    assert s3.put("k", b"0", "match", "no-such-etag").error == "FAILED_PRECONDITION"
    first = s3.put("k", b"1", "absent").one
    assert s3.put("k", b"2", "absent").error == "ALREADY_EXISTS"
    second = s3.put("k", b"3", "match", first.etag).one
    assert second.etag != first.etag
    assert s3.put("k", b"4", "match", first.etag).error == "FAILED_PRECONDITION"
    s3.get("k", target)
    assert target.read_bytes() == b"3"


def test_a_race_has_one_winner(s3: Tool, target: Path) -> None:
    lines = s3.run("race", "contended", "12").output.splitlines()
    winners = [line.removeprefix("won ") for line in lines if line.startswith("won ")]
    assert lines[-1] == f"lost {12 - len(winners)}"
    # moto's check and its write are two steps, so it may let in several; ours never invent one.
    assert winners
    s3.get("contended", target)
    assert target.read_text() in winners


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, 3, b"012"),
        (3, 4, b"3456"),
        (8, 100, b"89"),
        (10, 5, b""),
        (4, 0, b""),
        (9, 2**64 - 2, b"9"),
    ],
)
def test_ranges_are_cut_at_the_end(
    s3: Tool, target: Path, offset: int, length: int, expected: bytes
) -> None:
    s3.put("k", b"0123456789")
    result = s3.get("k", target, offset, length).one
    assert (result.delivered, result.size) == (len(expected), 10)
    assert target.read_bytes() == expected


def test_a_range_beyond_the_end_is_refused(s3: Tool, target: Path) -> None:
    s3.put("k", b"0123456789")
    assert s3.get("k", target, 11, 1).error == "OUT_OF_RANGE"
    assert not target.exists()


def test_lists_go_page_by_page(s3: Tool, moto: Moto) -> None:
    names = ["a-b", "a.b", "a/b", "a/c/d", "aa", "b", "z=1@2+3"]
    for name in names:
        s3.put(name, name.encode())
    above = Tool(s3.url.replace("/pre/fix", "/pre"), s3.env)
    above.put("fix2", b"not under the prefix")
    for page in (0, 1, 2, 3):
        result = s3.run("list", page=page)
        assert result.keys == names
        assert [o.size for o in result.objects] == [len(n) for n in names]
    assert s3.run("list", "a/", page=1).keys == ["a/b", "a/c/d"]
    assert s3.run("list", "", "a/b", page=2).keys == names[3:]
    assert s3.run("list", "a", "a.zzz").keys == ["a/b", "a/c/d", "aa"]
    assert s3.run("list", "none").keys == []


@pytest.mark.parametrize("condition", [(), ("absent",)])
def test_large_objects_go_up_in_parts(
    s3: Tool, tmp_path: Path, target: Path, condition: tuple[str, ...]
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(LARGE))
    in_parts = s3.with_options(f"part_bytes={PART}")
    put = in_parts.run("put", "large", source, *condition).one
    assert put.size == LARGE
    assert put.etag.endswith("-3")
    got = s3.get("large", target).one
    assert got.crc32c == put.crc32c
    assert target.read_bytes() == source.read_bytes()
    assert in_parts.run("put", "large", source, "absent").error == "ALREADY_EXISTS"


def test_wrong_and_missing_credentials_are_refused(s3: Tool, moto: Moto) -> None:
    wrong = Tool(s3.url, {**moto.env, "AWS_SECRET_ACCESS_KEY": "wrong-secret"})
    result = wrong.put("k", b"x")
    assert result.error == "PERMISSION_DENIED"
    assert "403 SignatureDoesNotMatch" in result.text
    unknown = Tool(s3.url, {**moto.env, "AWS_ACCESS_KEY_ID": "AKIANOBODY"})
    assert unknown.run("list").error == "PERMISSION_DENIED"
    none = Tool(s3.url, {})
    assert none.run("list").error == "INVALID_ARGUMENT"
    anonymous = Tool(s3.url + "&anonymous=true", {})
    assert anonymous.run("list").error != ""


def test_credentials_come_from_a_file_too(s3: Tool, moto: Moto, tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text(
        "[default]\naws_access_key_id=x\naws_secret_access_key=y\n[backup]\n"
        f"aws_access_key_id = {moto.key_id}\naws_secret_access_key = {moto.secret}\n"
    )
    by_file = Tool(f"{s3.url}&credentials={path}&profile=backup", {})
    assert by_file.put("k", b"x").one.size == 1
    assert Tool(f"{s3.url}&credentials={path}", {}).run("list").error == "PERMISSION_DENIED"


def test_credentials_that_change_are_read_again(
    faulty: Tool, moto: Moto, proxy: FaultProxy, tmp_path: Path
) -> None:
    path = tmp_path / "credentials"

    def write(secret: str) -> None:
        path.write_text(f"aws_access_key_id={moto.key_id}\naws_secret_access_key={secret}\n")

    write("out-of-date")
    proxy.plan = [faults.BUSY]
    proxy.before = {1: lambda: write(moto.secret)}
    tool = Tool(f"{faulty.url}&credentials={path}", {})
    assert tool.put("k", b"x").one.size == 1


def test_a_missing_bucket_is_named(moto: Moto, target: Path) -> None:
    tool = Tool(moto.url("no-such-bucket"), moto.env)
    for result in (tool.run("list"), tool.run("delete", "k"), tool.put("k", b"x")):
        assert result.error == "NOT_FOUND"
        assert "s3://no-such-bucket" in result.text
        assert "NoSuchBucket" in result.text


def test_the_endpoint_comes_from_the_environment_too(moto: Moto, bucket: str) -> None:
    env = {**moto.env, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{moto.port}"}
    assert Tool(f"s3://{bucket}", env).put("k", b"x").one.size == 1
