"""A registry of images on loopback, with one image of one layer, for any name."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import tarfile
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OCI = "application/vnd.oci.image."
MANIFEST = f"{OCI}manifest.v1+json"


@contextlib.contextmanager
def serving(folder: Path, layer: Path) -> Iterator[str]:
    """Serve what a folder holds as an image; `layer` is written. Gives the registry's address."""
    with tarfile.open(layer, "w") as archive:
        archive.add(folder, ".", filter=lambda entry: None if "numpy" in entry.name else entry)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(layer.read_bytes()))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def described(content: bytes, kind: str) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"mediaType": OCI + kind, "digest": digest, "size": len(content)}


def handler(layer: bytes) -> type[http.server.BaseHTTPRequestHandler]:
    """What answers for the image."""
    of_layer = described(layer, "layer.v1.tar")
    of_system = {"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/usr/bin:/bin"]}}
    layers = {"type": "layers", "diff_ids": [of_layer["digest"]]}
    config = json.dumps({**of_system, "rootfs": layers}).encode()
    of_config = described(config, "config.v1+json")
    content = {"schemaVersion": 2, "mediaType": MANIFEST}
    manifest = json.dumps({**content, "config": of_config, "layers": [of_layer]}).encode()
    blobs = {of_layer["digest"]: layer, of_config["digest"]: config}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            what, _, name = self.path.rpartition("/")
            if what.endswith("/manifests"):
                self.give(manifest, MANIFEST)
            elif self.path == "/v2/" or name in blobs:
                self.give(blobs.get(name, b"{}"), "application/octet-stream")
            else:
                self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

        def give(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Content-Digest", described(body, "")["digest"])
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler
