"""moto's server as S3: a process of its own that checks every signature.

It verifies with botocore's implementation, so that ours is held against Amazon's own.
"""

import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lib.server import LIMIT_S

LISTENS = re.compile(r"Running on http://127\.0\.0\.1:(\d+)")
POLICY = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
ROUTE = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/iam/aws4_request, Signature=x"


@dataclass(frozen=True, slots=True)
class Moto:
    port: int
    key_id: str
    secret: str

    @property
    def env(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.key_id, "AWS_SECRET_ACCESS_KEY": self.secret}

    def url(self, bucket: str, port: int | None = None) -> str:
        return f"s3://{bucket}?endpoint=http://127.0.0.1:{port or self.port}"


def post(port: int, path: str, data: bytes) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data)
    request.add_header("Authorization", ROUTE)
    if path != "/":
        request.add_header("Content-Type", "text/plain")  # else it is taken for a form
    with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
        return str(response.read().decode())


def iam(port: int, **fields: str) -> str:
    return post(port, "/", urllib.parse.urlencode({"Version": "2010-05-08", **fields}).encode())


def chosen_port(log_path: Path, process: subprocess.Popen[bytes]) -> int:
    """The port it has taken and told, so that nobody else can have it."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        match = LISTENS.search(log_path.read_text(encoding="utf-8", errors="replace"))
        if match is not None:
            return int(match.group(1))
        assert process.poll() is None, "moto's server died"
        assert time.monotonic() < deadline, "moto's server does not start"
        time.sleep(0.05)


def set_auth(port: int, unchecked: str) -> None:
    """How many requests pass unchecked before signatures are verified."""
    post(port, "/moto-api/reset-auth", unchecked.encode())


def make_user(port: int) -> tuple[str, str]:
    iam(port, Action="CreateUser", UserName="user")
    iam(
        port,
        Action="PutUserPolicy",
        UserName="user",
        PolicyName="all",
        PolicyDocument=POLICY,
    )
    answer = iam(port, Action="CreateAccessKey", UserName="user")
    key_id = re.search(r"<AccessKeyId>(.*?)</AccessKeyId>", answer)
    secret = re.search(r"<SecretAccessKey>(.*?)</SecretAccessKey>", answer)
    assert key_id is not None
    assert secret is not None
    return key_id.group(1), secret.group(1)


def make_bucket(moto: Moto, bucket: str) -> None:
    set_auth(moto.port, "inf")
    request = urllib.request.Request(f"http://127.0.0.1:{moto.port}/{bucket}", method="PUT")
    urllib.request.urlopen(request, timeout=LIMIT_S).close()
    set_auth(moto.port, "0")


@contextmanager
def moto_server(log_path: Path) -> Iterator[Moto]:
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            port = chosen_port(log_path, process)
            key_id, secret = make_user(port)
            set_auth(port, "0")
            yield Moto(port, key_id, secret)
        finally:
            process.kill()
            process.wait()
