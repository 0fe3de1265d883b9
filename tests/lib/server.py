"""A real server process for tests.

The server chooses its ports (`--listen 127.0.0.1:0`) and prints them once it is ready, so nothing
here sleeps or guesses: `start` returns when both lines have been printed, or raises with the log.
"""

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.lib.certificates import Certificate

ROOT = Path(__file__).resolve().parent.parent.parent
# For anything that must happen: passed only where it never would. No test is about this time.
LIMIT_S = 240.0
LISTENER_COUNT = 2
LISTENING = re.compile(r"^listening on (https?)://(.+):(\d+) \(REST and gRPC\)$")

# Tests share a disk with everything else; the check of its free space has tests of its own. On a
# slow machine a large request may take minutes; tests of deadlines give one with the request.
TEST_ENV = {
    "PROXIMADB_DISK__MIN_FREE_BYTES": "0",
    "PROXIMADB_LIMITS__REQUEST_DEADLINE_S": "3600",
}


def binary() -> Path:
    """The server under test: PROXIMADB_BINARY, or what `make build` has built."""
    return Path(os.environ.get("PROXIMADB_BINARY", ROOT / "build" / "proximadb"))


class ServerFailed(AssertionError):
    """The server did not start, died, or did not stop. The text ends with its log."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status  # of a server that ended by itself instead of starting


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How a server is started; `env` are variables PROXIMADB_*, `config` is a TOML file's text."""

    cores: int = 1
    io_engine: str = "auto"
    config: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    tls: Certificate | None = None
    wrapper: Sequence[str] = ()


class Server:
    """A server with its own data directory; the object can be started again after its end."""

    def __init__(self, folder: Path, options: ServerOptions) -> None:
        self.host = "127.0.0.1"
        self.options = options
        self.folder = folder
        self.data_dir = folder / "data"
        self.log_path = folder / "server.log"
        self.ports: list[int] = []
        self._process: subprocess.Popen[str] | None = None
        self._end_seen = True
        self._output: list[str] = []
        self._printed = threading.Condition()
        self._reader: threading.Thread | None = None

    # ---- facts ----

    @property
    def rest_port(self) -> int:
        return self.ports[0]

    @property
    def grpc_port(self) -> int:
        return self.ports[1]

    @property
    def scheme(self) -> str:
        return "http" if self.options.tls is None else "https"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.rest_port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def end_seen(self) -> bool:
        """Never started, or ended with the test's knowledge."""
        return self._end_seen

    @property
    def log(self) -> str:
        """Everything the server has written to standard error, over all its starts."""
        if not self.log_path.exists():
            return ""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def output(self) -> str:
        """Standard output since the last start."""
        with self._printed:
            return "".join(self._output)

    # ---- life ----

    def command(self) -> list[str]:
        options = self.options
        command = [*options.wrapper, str(binary()), "serve"]
        command += ["--data-dir", str(self.data_dir), "--cores", str(options.cores)]
        command += ["--listen", f"{self.host}:0"] * LISTENER_COUNT
        if options.config is not None:
            path = self.folder / "proximadb.toml"
            path.write_text(options.config, encoding="utf-8")
            command += ["--config", str(path)]
        return [*command, *options.arguments]

    def environment(self) -> dict[str, str]:
        env = {name: value for name, value in os.environ.items() if "PROXIMADB_" not in name}
        env |= TEST_ENV | {"PROXIMADB_IO__ENGINE": self.options.io_engine}
        if self.options.tls is not None:
            env["PROXIMADB_TLS__CERT"] = str(self.options.tls.cert_path)
            env["PROXIMADB_TLS__KEY"] = str(self.options.tls.key_path)
        return env | dict(self.options.env)

    def start(self) -> "Server":
        """Starts the process; returns when it is ready. ServerFailed if it ends or is too slow."""
        assert not self.running, "the server is running already"
        self._output = []
        with self.log_path.open("ab") as log:
            process = subprocess.Popen(
                self.command(),
                env=self.environment(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._process = process
        self._end_seen = False
        self._reader = threading.Thread(target=self._read_output, args=(process,), daemon=True)
        self._reader.start()
        self.ports = self._wait_for_ports(process)
        return self

    def start_to_be_killed(self) -> bool:
        """Starts a server that a failpoint kills; False when that came before it was ready."""
        try:
            self.start()
        except ServerFailed as failure:
            if failure.status != -signal.SIGKILL:
                raise
            return False
        return True

    def stop(self, limit_s: float = LIMIT_S) -> int:
        """Sends SIGTERM and returns the exit status; ServerFailed if the stop takes too long."""
        return self.signal(signal.SIGTERM, limit_s)

    def signal(self, number: signal.Signals, limit_s: float = LIMIT_S) -> int:
        """Sends a signal that ends the server, and returns its exit status."""
        process = self._process
        assert process is not None, "the server was never started"
        if process.poll() is None:
            process.send_signal(number)
        return self.wait(limit_s)

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """Waits for the server to end by itself, and returns its exit status."""
        assert self._process is not None, "the server was never started"
        self._end_seen = True
        try:
            status = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerFailed(f"still there after {limit_s} s\n{self.log}") from None
        self._join_reader()
        return status

    def kill(self) -> None:
        """SIGKILL, as a crash would; returns when the process is gone."""
        if self._process is None:
            return
        self._end_seen = True
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._join_reader()

    def restart(self) -> "Server":
        """Stops in order and starts again on the same data; the ports may be others."""
        status = self.stop()
        if status != 0:
            raise ServerFailed(f"stopped with status {status}\n{self.log}")
        return self.start()

    def crash(self) -> "Server":
        """SIGKILL and a new start on the same data."""
        self.kill()
        return self.start()

    # ---- inside ----

    def _read_output(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with self._printed:
                self._output.append(line)
                self._printed.notify_all()
        with self._printed:
            self._output.append("")  # the end wakes those who wait
            self._printed.notify_all()
        process.stdout.close()

    def _join_reader(self) -> None:
        if self._reader is not None:
            self._reader.join()

    def _listening(self) -> list[int]:
        matches = [LISTENING.match(line.rstrip("\n")) for line in self._output]
        return [int(match.group(3)) for match in matches if match is not None]

    def _wait_for_ports(self, process: subprocess.Popen[str]) -> list[int]:
        def settled() -> bool:
            ended = bool(self._output) and self._output[-1] == ""
            return len(self._listening()) >= LISTENER_COUNT or ended

        with self._printed:
            in_time = self._printed.wait_for(settled, LIMIT_S)
            ports = self._listening()
        if len(ports) >= LISTENER_COUNT:
            return ports
        if not in_time:
            process.kill()
        status = process.wait()
        self._end_seen = True
        why = f"ended with status {status}" if in_time else f"not ready after {LIMIT_S} s"
        raise ServerFailed(
            f"the server {why} instead of starting\n{self.output}\n{self.log}",
            status if in_time else None,
        )


@dataclass(slots=True)
class ServerFactory:
    """Makes servers in numbered folders and ends them all; what `start_server` calls."""

    folder: Path
    servers: list[Server] = field(default_factory=list)

    def make(self, options: ServerOptions) -> Server:
        """A server that is not started yet."""
        folder = self.folder / f"server{len(self.servers)}"
        folder.mkdir()
        server = Server(folder, options)
        self.servers.append(server)
        return server

    def close(self) -> None:
        """Ends every server; one that died unseen or does not stop with status 0 is a failure."""
        failures = []
        for server in self.servers:
            if server.end_seen:
                continue
            died = not server.running
            try:
                status = server.stop()
            except ServerFailed as failure:
                failures.append(str(failure))
                continue
            if died or status != 0:
                how = "died" if died else "stopped"
                failures.append(f"{how} with status {status}\n{server.log}")
        if failures:
            raise ServerFailed("\n".join(failures))


StartServer = Callable[..., Server]


def server_starter(factory: ServerFactory) -> StartServer:
    """start_server(**options): the fields of ServerOptions, all with defaults."""

    def start(**options: object) -> Server:
        return factory.make(ServerOptions(**options)).start()  # type: ignore[arg-type]

    return start


@contextlib.contextmanager
def servers_in(folder: Path) -> Iterator[ServerFactory]:
    """A factory whose servers end with the block."""
    factory = ServerFactory(folder)
    try:
        yield factory
    finally:
        factory.close()
