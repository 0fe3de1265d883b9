"""A signal that comes while the server is still starting."""

import os
import signal
import subprocess

from tests.lib.rest import RestClient
from tests.lib.server import LIMIT_S, StartServer, binary


def stop_in_advance() -> None:
    """In the child, before it becomes the server: a signal that waits through the exec."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_ends_the_recovery_in_order(start_server: StartServer) -> None:
    server = start_server(cores=2)
    with RestClient(server) as rest:
        rest.create_collection("c", 1)
        for i in range(20):
            rest.upsert("c", [{"id": f"{i}", "vector": [i]}])
    server.kill()
    done = subprocess.run(
        [str(binary()), "serve", "--data-dir", str(server.data_dir), "--listen=127.0.0.1:0"],
        env=server.environment(),
        cwd=server.folder,
        preexec_fn=stop_in_advance,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    assert "stopped by a signal before recovery was over" in done.stderr
    assert "listening" not in done.stdout
    server.start()
    with RestClient(server) as rest:
        assert rest.count("c") == 20
