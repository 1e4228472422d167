"""An admin console in the lab: HTTPS, a page that needs several connections, a WebSocket. For real browsers and curl.

The page loads pictures side by side, holds a WebSocket for as long as its address says, and then tells the console what
it saw. It must not know perimeters.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.lab import Host

PICTURES = 12
_PAGE = """<!doctype html><meta charset="utf-8"><title>console</title><h1 id="title">console</h1><script>
const seconds = Number(new URLSearchParams(location.search).get("seconds"));
const report = {{pictures: 0, said: 0, heard: [], closed: null, seconds: 0}};
const begun = performance.now();
const tell = () => {{
  report.seconds = (performance.now() - begun) / 1000;
  fetch("/report", {{method: "POST", body: JSON.stringify(report)}});
}};
const pictures = [...Array({pictures}).keys()].map(number => new Promise(done => {{
  const picture = new Image();
  picture.onload = () => {{ report.pictures++; done(); }};
  picture.onerror = done;
  picture.src = "/picture/" + number + ".svg";
}}));
Promise.all(pictures).then(() => {{
  const talk = new WebSocket("wss://" + location.host + "/talk");
  talk.onopen = () => {{
    const timer = setInterval(() => {{
      if (performance.now() - begun > seconds * 1000) {{ clearInterval(timer); talk.close(1000); }}
      else talk.send("tick " + report.said++);
    }}, 50);
  }};
  talk.onmessage = event => report.heard.push(event.data);
  talk.onclose = event => {{ report.closed = event.code; tell(); }};
}});
</script>"""
_PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><!-- {padding} --></svg>'
_WEBSOCKET_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _CLOSE = 1, 8


@dataclass(slots=True)
class Console:
    """What it has seen. `peers`: the client's end of each connection; `reports`: what pages told."""

    port: int
    peers: list[tuple[str, int]] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    told: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def running_console(host: Host, folder: Path, port: int) -> Iterator[Console]:
    """The console on every address of that host."""
    console = Console(port)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_certificate(folder))

    class Handler(_Handler):
        seen = console

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def get_request(self) -> tuple[socket.socket, Any]:
            connection, peer = super().get_request()
            console.peers.append(peer[:2])
            # The handshake is the handler's, so that a slow one holds nobody else up.
            return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), peer

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that goes away is no fault."""

    server = Server(("", port), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = host.listen_tcp(port)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield console
    finally:
        server.shutdown()
        thread.join(60)
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: Console

    def do_GET(self) -> None:
        path = urlsplit(self.path)
        if path.path == "/talk":
            self._talk()
        elif path.path.startswith("/picture/"):
            self._say(_PICTURE.format(padding="x" * 20_000), "image/svg+xml")
        elif path.path == "/":
            assert parse_qs(path.query) is not None
            self._say(_PAGE.format(pictures=PICTURES), "text/html; charset=utf-8")
        else:
            self._say("nothing here", "text/plain", 404)

    def do_POST(self) -> None:
        self.seen.reports.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._say("thanks", "text/plain")
        self.seen.told.set()

    def log_message(self, format: str, *values: object) -> None:
        """Nothing: what matters is in `Console`."""

    def _say(self, text: str, kind: str, status: int = 200) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _talk(self) -> None:
        """RFC 6455, as far as short texts need it: each is sent back, and the close answered."""
        key = self.headers["Sec-WebSocket-Key"].encode("ascii")
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        accept = base64.b64encode(hashlib.sha1(key + _WEBSOCKET_KEY).digest()).decode("ascii")
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        self.close_connection = True
        while head := self.rfile.read(2):
            kind, size = head[0] & 0x0F, head[1] & 0x7F
            if size > 125:
                size = struct.unpack(">H", self.rfile.read(2))[0]
            mask, masked = self.rfile.read(4), self.rfile.read(size)
            data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked))
            self.wfile.write(bytes((0x80 | kind, len(data))) + data)
            if kind == _CLOSE:
                return


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for the loopback addresses and its key, as files."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "console")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(text)) for text in ("127.0.0.1", "::1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / "console.pem", folder / "console.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, secret
