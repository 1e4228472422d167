"""A tiny web service to protect: its page says from which address it was asked."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv6Address

from tests.lab import Address, Host

PORT = 8443


class Page(BaseHTTPRequestHandler):
    """Answers every GET with one line."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Say who asked."""
        page = f"Hello {plain_address(self.client_address[0])}, this is the admin console on tcp/{PORT}.\n".encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """The demonstration prints what matters itself."""


class WebServer(ThreadingHTTPServer):
    """An HTTP server on a socket that listens already."""

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(("", 0), Page, bind_and_activate=False)
        self.socket.close()
        self.socket = listening

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that is cut is what is being shown, not an error."""


@contextlib.contextmanager
def served(host: Host) -> Iterator[None]:
    """The service, at the port, over both families, while the block runs."""
    with WebServer(host.listen_tcp(PORT)) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class Visit:
    """A browser's connection, which stays open between pages. Raises OSError when it cannot be made."""

    def __init__(self, host: Host, server: Address, patience_s: float = 0.5) -> None:
        self._connection = http.client.HTTPConnection(str(server), PORT)
        self._connection.sock = host.connect_tcp(server, PORT, patience_s)

    def page(self) -> str | None:
        """The page, or None when no answer comes any more."""
        try:
            self._connection.request("GET", "/")
            return self._connection.getresponse().read().decode().strip()
        except (OSError, http.client.HTTPException):
            return None

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def plain_address(text: str) -> str:
    """An IPv4 address as such where a socket for both families shows it as IPv6."""
    address = IPv6Address(text.partition("%")[0]) if ":" in text else None
    return str(address.ipv4_mapped) if address is not None and address.ipv4_mapped else text
