"""Run the fake alone: `python -m tests.gcs --port N`. It prints one line of JSON: address, bucket, credentials."""

from __future__ import annotations

import argparse
import json
import socket
import sys
import tempfile
from pathlib import Path

import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.gcs.app import Gcs

EMAIL = "remora@fake-project.iam.gserviceaccount.com"


def main() -> None:
    """Serve until a signal ends it; everything it keeps goes with it."""
    parser = argparse.ArgumentParser(prog="python -m tests.gcs", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--bucket", default="remora-test")
    given = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", given.port))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with tempfile.TemporaryDirectory(prefix="gcs-fake-") as folder:
        credentials = Path(folder) / "credentials.json"
        credentials.write_text(json.dumps(_service_account(address, key)))
        fake = Gcs(given.bucket, Path(folder), EMAIL, key)
        sys.stdout.write(
            json.dumps({"address": address, "bucket": given.bucket, "credentials": str(credentials)}) + "\n"
        )
        sys.stdout.flush()
        settings = uvicorn.Config(fake.app, log_level="error", access_log=False, proxy_headers=False, lifespan="off")
        uvicorn.Server(settings).run(sockets=[listener])


def _service_account(address: str, key: rsa.RSAPrivateKey) -> dict[str, str]:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return {
        "type": "service_account",
        "project_id": "fake-project",
        "private_key_id": "fake",
        "private_key": key.private_bytes(encoding, form, serialization.NoEncryption()).decode(),
        "client_email": EMAIL,
        "token_uri": f"{address}/token",
    }


if __name__ == "__main__":
    main()
