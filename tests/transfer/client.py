"""Import and export as a user runs them, and what a collection then holds."""

import subprocess
from pathlib import Path

from tests.lib.rest import Json, RestClient
from tests.lib.server import LIMIT_S, Server, binary

PAGE = 1000

# id -> vectors, metadata, expiry: all that a round trip keeps.
Kept = tuple[object, object, Json, object]


def command(server: Server, name: str, *arguments: str | Path, url: str | None = None) -> list[str]:
    url = url or f"{server.host}:{server.rest_port}"
    return [str(binary()), name, "--url", url, *[str(argument) for argument in arguments]]


def run(
    server: Server,
    name: str,
    *arguments: str | Path,
    status: int | None = 0,
    url: str | None = None,
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(server, name, *arguments, url=url),
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert status is None or done.returncode == status, (done.returncode, done.stderr)
    return done


def records(server: Server, name: str) -> dict[str, Json]:
    found: dict[str, Json] = {}
    cursor = None
    with RestClient(server) as rest:
        while True:
            include = ["metadata", "vectors", "times"]
            page = rest.scroll(name, limit=PAGE, include=include, cursor=cursor)
            found |= {record["id"]: record for record in page["records"]}
            cursor = page["next_cursor"]
            if cursor is None:
                return found


def kept(server: Server, name: str) -> dict[str, Kept]:
    return {
        key: (r.get("vector"), r.get("vectors"), r["metadata"], r["expires_at"])
        for key, r in records(server, name).items()
    }
