"""Self-signed certificates for the TLS tests, made by openssl."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate for localhost and 127.0.0.1, which is its own authority."""

    cert_path: Path
    key_path: Path

    def client_context(self) -> ssl.SSLContext:
        """Trusts this certificate and nothing else."""
        context = ssl.create_default_context(cafile=str(self.cert_path))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


def make_certificate(folder: Path) -> Certificate:
    cert_path, key_path = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(key_path), "-out", str(cert_path)),
        ],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    return Certificate(cert_path, key_path)
