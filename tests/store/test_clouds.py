"""The same contract on Google's and Azure's dialects, and what only they or TLS have."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lib.certificates import Certificate
from tests.store import fake_clouds
from tests.store import fault_proxy as faults
from tests.store.fake_clouds import Azure, Cloud, Google
from tests.store.fault_proxy import FaultProxy, fault_proxy
from tests.store.tool import Tool

PART = 64 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """A dialect's server, the tool on it, and the tool through a proxy."""

    cloud: Cloud
    tool: Tool
    faulty: Tool
    proxy: FaultProxy


AZURE_ENV = {"AZURE_STORAGE_KEY": fake_clouds.ACCOUNT_KEY}
GOOGLE_ENV = {
    "GOOGLE_HMAC_ACCESS_ID": fake_clouds.KEY_ID,
    "GOOGLE_HMAC_SECRET": fake_clouds.SECRET,
}
PLACES = {
    "google": (Google, "gs://bucket/pre?endpoint=http://127.0.0.1:{}", GOOGLE_ENV),
    "google-bearer": (
        Google,
        "gs://bucket/pre?endpoint=http://127.0.0.1:{}",
        {"GOOGLE_OAUTH_ACCESS_TOKEN": fake_clouds.BEARER},
    ),
    "azure": (
        Azure,
        f"az://{fake_clouds.ACCOUNT}/container/pre?endpoint=http://127.0.0.1:{{}}/"
        + fake_clouds.ACCOUNT,
        AZURE_ENV,
    ),
    "azure-sas": (
        Azure,
        f"az://{fake_clouds.ACCOUNT}/container/pre?endpoint=http://127.0.0.1:{{}}/"
        + fake_clouds.ACCOUNT,
        {"AZURE_STORAGE_SAS_TOKEN": fake_clouds.SAS},
    ),
}


@pytest.fixture(params=sorted(PLACES))
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    make, url, env = PLACES[request.param]
    cloud = make()
    with fake_clouds.running(cloud) as port, fault_proxy(port) as proxy:
        options = (f"part_bytes={PART}",)
        yield Place(
            cloud,
            Tool(url.format(port), env, options),
            Tool(url.format(proxy.port), env, options),
            proxy,
        )


def test_what_is_put_is_read_until_it_is_deleted(place: Place, target: Path) -> None:
    tool = place.tool
    put = tool.put("a/b=1,2@3+", b"hello").one
    assert (put.size, put.crc32c) == (5, "9a71bb4c")
    assert tool.get("a/b=1,2@3+", target).one.delivered == 5
    assert target.read_bytes() == b"hello"
    assert tool.get("a/b=1,2@3+", target, 1, 3).one.size == 5
    assert target.read_bytes() == b"ell"
    assert tool.get("a/b=1,2@3+", target, 5, 3).one.delivered == 0
    assert tool.get("a/b=1,2@3+", target, 6, 1).error == "OUT_OF_RANGE"
    assert tool.run("head", "a/b=1,2@3+").one == put
    assert list(place.cloud.blobs) == ["pre/a/b=1,2@3+"]
    assert tool.run("delete", "a/b=1,2@3+").error == ""
    assert tool.run("delete", "a/b=1,2@3+").error == ""
    assert tool.get("a/b=1,2@3+", target).error == "NOT_FOUND"


def test_conditions_hold(place: Place) -> None:
    tool = place.tool
    assert tool.put("k", b"0", "match", "17").error == "FAILED_PRECONDITION"
    first = tool.put("k", b"1", "absent").one
    assert tool.put("k", b"2", "absent").error == "ALREADY_EXISTS"
    assert tool.put("k", b"3", "match", first.etag).error == ""
    assert tool.put("k", b"4", "match", first.etag).error == "FAILED_PRECONDITION"
    assert place.cloud.blobs["pre/k"].data == b"3"
    lines = tool.run("race", "contended", "8").output.splitlines()
    assert sorted(line.split()[0] for line in lines) == ["lost", "won"]
    assert "lost 7" in lines


def test_lists_go_page_by_page(place: Place) -> None:
    names = ["a-b", "a.b", "a/b", "a/c/d", "aa", "b"]
    puts = {name: place.tool.put(name, name.encode()).one for name in names}
    place.cloud.blobs["pre/not a key of ours"] = place.cloud.blobs["pre/aa"]
    for page in (0, 1, 2, 3):
        result = place.tool.run("list", page=page)
        assert result.keys == names, result.output
        for facts in result.objects:
            assert facts.key not in puts or facts.etag == puts[facts.key].etag
    assert place.tool.run("list", "a/", page=1).keys == ["a/b", "a/c/d"]
    assert place.tool.run("list", "", "a/b", page=2).keys == names[3:]


@pytest.mark.parametrize("fault", [faults.DROP_LATE, faults.BUSY_LATE])
def test_a_conditional_put_that_arrived_unseen_is_recognised(place: Place, fault: str) -> None:
    place.proxy.plan = [fault]
    put = place.faulty.put("k", b"1", "absent").one
    assert place.tool.run("head", "k").one == put
    place.proxy.plan = [fault]
    again = place.faulty.put("k", b"2", "match", put.etag).one
    assert place.tool.run("head", "k").one == again


def test_a_body_that_breaks_off_goes_on(place: Place, target: Path) -> None:
    data = os.urandom(10000)
    place.tool.put("k", data)
    place.proxy.plan = [faults.CUT]
    assert place.faulty.get("k", target).one.delivered == len(data)
    assert target.read_bytes() == data
    assert "range" in place.cloud.seen[-1].headers


def test_wrong_keys_are_refused_unseen(place: Place) -> None:
    wrong = dict.fromkeys(place.tool.env, "d3Jvbmcga2V5")
    result = Tool(place.tool.url, wrong).put("k", b"x")
    assert result.error == "PERMISSION_DENIED"
    assert place.cloud.blobs == {}


@pytest.mark.parametrize("condition", [(), ("absent",)])
def test_large_azure_objects_are_lists_of_blocks(
    tmp_path: Path, target: Path, condition: tuple[str, ...]
) -> None:
    cloud = Azure()
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3 * PART + 7))
    _, url, env = PLACES["azure"]
    with fake_clouds.running(cloud) as port, fault_proxy(port) as proxy:
        tool = Tool(url.format(proxy.port), env, (f"part_bytes={PART}",))
        for step in range(5):
            proxy.plan = [faults.PASS] * step + [faults.DROP_LATE]
            put = tool.run("put", f"k{step}", source, *condition).one
            assert tool.get(f"k{step}", target).one.crc32c == put.crc32c
            assert target.read_bytes() == source.read_bytes()
        assert len(cloud.blocks["pre/k0"]) == 4
        assert tool.run("put", "k0", source, "absent").error == "ALREADY_EXISTS"


def test_large_conditional_google_objects_go_up_in_one_put(tmp_path: Path) -> None:
    cloud = Google()
    source = tmp_path / "source"
    source.write_bytes(bytes(6 << 20))
    _, url, env = PLACES["google"]
    with fake_clouds.running(cloud) as port:
        tool = Tool(url.format(port), env, (f"part_bytes={5 << 20}",))
        result = tool.run("put", "k", source, "absent")
    assert cloud.seen[0].method == "PUT"
    assert len(cloud.seen[0].body) == 6 << 20
    assert result.error == ""


# ---- TLS ----


def test_a_certificate_must_be_trusted(certificate: Certificate) -> None:
    with fake_clouds.running(Google(), certificate) as port:
        url = f"gs://bucket?endpoint=https://localhost:{port}"
        stranger = Tool(url, GOOGLE_ENV).put("k", b"x")
        assert stranger.error == "UNAVAILABLE"
        assert "certificate" in stranger.text
        trusting = Tool(f"{url}&ca_file={certificate.cert_path}", GOOGLE_ENV)
        assert trusting.put("k", b"x").one.size == 1
        renamed = Tool(trusting.url.replace("localhost", "127.0.0.2"), GOOGLE_ENV)
        assert renamed.put("k", b"x").error == "UNAVAILABLE"


def test_plain_http_goes_to_this_machine_only() -> None:
    url = "gs://bucket?endpoint=http://storage.example"
    refused = Tool(url, GOOGLE_ENV).put("k", b"x")
    assert refused.error == "INVALID_ARGUMENT"
    assert "plain http" in refused.text


def test_a_missing_ca_file_is_told(tmp_path: Path) -> None:
    url = f"gs://bucket?endpoint=https://127.0.0.1:1&ca_file={tmp_path / 'none'}"
    assert Tool(url, GOOGLE_ENV, ("attempts=1",)).put("k", b"x").error == "UNAVAILABLE"
