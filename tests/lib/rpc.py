"""Channels to the gRPC door."""

import contextlib
from collections.abc import Iterator

import grpc

from tests.lib.server import LIMIT_S, Server

MESSAGE_BYTES_MAX = (
    128 << 20
)  # above the server's limit, so that the server's is the one that is met


@contextlib.contextmanager
def open_channel(server: Server, *options: tuple[str, object]) -> Iterator[grpc.Channel]:
    """A channel that is connected, to the port people know as the gRPC one."""
    sizes = [
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.enable_http_proxy", 0),
        # Channels to the same address would share one connection.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    target = f"{server.host}:{server.grpc_port}"
    if server.options.tls is None:
        channel = grpc.insecure_channel(target, options=[*sizes, *options])
    else:
        roots = server.options.tls.cert_path.read_bytes()
        credentials = grpc.ssl_channel_credentials(root_certificates=roots)
        channel = grpc.secure_channel(target, credentials, options=[*sizes, *options])
    with channel:
        grpc.channel_ready_future(channel).result(timeout=LIMIT_S)
        yield channel
