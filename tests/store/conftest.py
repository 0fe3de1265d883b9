"""Fixtures of the store's tests: servers on loopback, one bucket a test."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.fault_proxy import FaultProxy, fault_proxy
from tests.store.moto import Moto, make_bucket, moto_server
from tests.store.tool import Tool

_numbers = itertools.count()


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    with moto_server(tmp_path_factory.mktemp("moto") / "log") as server:
        yield server


@pytest.fixture
def bucket(moto: Moto) -> str:
    name = f"bucket-{next(_numbers)}"
    make_bucket(moto, name)
    return name


@pytest.fixture
def s3(moto: Moto, bucket: str) -> Tool:
    """The tool on a bucket of its own, straight to the server."""
    return Tool(moto.url(f"{bucket}/pre/fix"), moto.env)


@pytest.fixture
def proxy(moto: Moto) -> Iterator[FaultProxy]:
    with fault_proxy(moto.port) as running:
        yield running


@pytest.fixture
def faulty(moto: Moto, bucket: str, proxy: FaultProxy) -> Tool:
    """The tool on the same bucket as `s3`, through the proxy."""
    return Tool(moto.url(f"{bucket}/pre/fix", proxy.port), moto.env)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"
