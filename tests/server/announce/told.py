"""Notices for tests, and a web server with a certificate of its own. It must not know pytest."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from spa_server.announce.board import Notice
from spa_server.announce.news import News, What

NOW_S = 1_767_225_600


def notice(number: int = 482113, state: str = "waiting", by: tuple[str, ...] = (), denied_by: str = "") -> Notice:
    """Alice's wish for the vault."""
    return Notice(number, "alice", "alice-laptop", "vault", state, by, denied_by, NOW_S, NOW_S + 900)


def news(number: int = 482113) -> News:
    """That she asks for it."""
    return News(What.ASKED, "alice", notice(number))


@dataclass
class Answering:
    """A web server: what it answers, one after another (the last again and again), and what was posted to it."""

    url: str
    certificate: Path
    answers: list[int]
    posted: list[tuple[str, Any]] = field(default_factory=list)


@contextmanager
def web_server(folder: Path, answers: Sequence[int]) -> Iterator[Answering]:
    """On loopback, with a certificate for localhost that nobody else has signed."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    what = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    who = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        ["openssl", *what, *who, "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answering.posted.append((self.path, json.loads(body)))
            status = answering.answers.pop(0) if len(answering.answers) > 1 else answering.answers[0]
            self.send_response(status)
            self.send_header("Location", "https://localhost/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    server = Quiet(("localhost", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    answering = Answering(f"https://localhost:{server.server_address[1]}/hooks/t0ken?x=1", certificate, list(answers))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield answering
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
