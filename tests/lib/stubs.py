"""gRPC stubs, made from proto/ when the tests start: nothing generated is ever committed or stale.

After `generate`, tests import them at their top as any module:

    from proximadb.v1 import proximadb_pb2 as pb
    from proximadb.v1 import proximadb_pb2_grpc as rpc
    from grpc_health.v1 import health_pb2

The standard services get the package names of Google's Python packages, because modules called
`grpc.health` would hide behind the library `grpc`.
"""

import sys
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

from tests.lib.server import ROOT

PROTO = ROOT / "proto"
FILES = {  # name for Python: folder and file under proto/
    "proximadb/v1/proximadb.proto": "proximadb/v1",
    "grpc_health/v1/health.proto": "grpc/health/v1",
    "grpc_reflection/v1/reflection.proto": "grpc/reflection/v1",
    "grpc_reflection/v1alpha/reflection.proto": "grpc/reflection/v1alpha",
}


def generate(folder: Path) -> None:
    """Writes the stubs into `folder` and makes them importable."""
    arguments = ["protoc", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    for name, source in FILES.items():
        arguments.append(f"--proto_path={Path(name).parent}={PROTO / source}")
    arguments.append(f"--proto_path={resources.files('grpc_tools') / '_proto'}")
    if protoc.main(arguments + list(FILES)) != 0:
        raise RuntimeError("protoc could not make the gRPC stubs, see above")
    sys.path.insert(0, str(folder))
