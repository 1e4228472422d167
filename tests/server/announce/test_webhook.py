"""The webhook: over TLS that is verified, tried again where that helps, and never a word of the address's token."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from spa_server.announce.webhook import PAUSES_S, WebhookFailed, send
from tests.server.announce.told import news, web_server


def posts(url: str, patience_s: float = 10.0) -> list[float]:
    """The pauses that it made."""
    pauses: list[float] = []
    send(url, news(), pauses.append, patience_s)
    return pauses


def test_the_news_is_posted_once_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with web_server(tmp_path, [204]) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
        assert posts(server.url) == []
    ((path, posted),) = server.posted
    assert path == "/hooks/t0ken?x=1"
    assert posted == news().fields()
    assert posted["text"] == ("alice asks for vault with alice-laptop; to let them: spa-server request approve 482113")


def test_a_server_in_trouble_is_asked_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with web_server(tmp_path, [503, 429, 200]) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
        assert posts(server.url) == list(PAUSES_S[:2])
        assert len(server.posted) == 3


def test_it_is_given_up_after_some_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with web_server(tmp_path, [500]) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
        with pytest.raises(WebhookFailed) as caught:
            posts(server.url)
        assert str(caught.value) == "localhost: answered 500"
        assert len(server.posted) == len(PAUSES_S) + 1


@pytest.mark.parametrize("status", [302, 400, 404])
def test_what_will_not_change_is_not_tried_again_and_no_redirect_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with web_server(tmp_path, [status]) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
        with pytest.raises(WebhookFailed, match=f"^localhost: answered {status}$"):
            posts(server.url)
        assert len(server.posted) == 1


def test_nothing_is_sent_to_a_server_that_cannot_show_who_it_is(tmp_path: Path) -> None:
    with web_server(tmp_path, [200]) as server:
        with pytest.raises(WebhookFailed, match="certificate is not to be trusted") as caught:
            posts(server.url)
        assert "t0ken" not in str(caught.value)
        assert server.posted == []


def test_a_name_that_the_certificate_does_not_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with web_server(tmp_path, [200]) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
        with pytest.raises(WebhookFailed, match="certificate is not to be trusted"):
            posts(server.url.replace("localhost", "127.0.0.1"))
        assert server.posted == []


def test_nobody_at_the_address_is_tried_again_and_then_said_without_the_token() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(WebhookFailed) as caught:
        posts(f"https://127.0.0.1:{port}/t0ken")
    assert str(caught.value).startswith("127.0.0.1: ")
    assert "t0ken" not in str(caught.value)


def test_a_server_that_says_nothing_is_waited_for_so_long_only() -> None:
    came: list[socket.socket] = []

    def take(listener: socket.socket) -> None:
        while True:
            try:
                came.append(listener.accept()[0])
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=take, args=(listener,), daemon=True)
        thread.start()
        with pytest.raises(WebhookFailed):
            posts(f"https://127.0.0.1:{listener.getsockname()[1]}/", patience_s=0.2)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert len(came) == len(PAUSES_S) + 1
    for each in came:
        each.close()
