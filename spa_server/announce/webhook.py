"""A POST of one JSON object to the operator's web address, over TLS that is verified.

`http.client`, so that no redirect and no proxy of the environment leads it elsewhere. The address may hold a token, so
only its host is ever named. Its certificate is checked against the system's authorities, or those of the file that
SSL_CERT_FILE in the environment names.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from spa_server.announce.news import News

PATIENCE_S = 10.0
PAUSES_S = (2.0, 10.0, 60.0)
"""Before the second try and the ones after it."""
_TRY_AGAIN = frozenset((408, 425, 429))


class WebhookFailed(Exception):
    """It was not taken; the message says what is known, without the address."""


class _ForNow(WebhookFailed):
    """It may be taken another time."""


def send(url: str, news: News, pause: Callable[[float], object], patience_s: float = PATIENCE_S) -> None:
    """Post it, several times where that may help. Raises WebhookFailed."""
    for pause_s in PAUSES_S:
        try:
            _post(url, news, patience_s)
        except _ForNow:
            pause(pause_s)
        else:
            return
    _post(url, news, patience_s)


def _post(url: str, news: News, patience_s: float) -> None:
    place = urlsplit(url)
    host = place.hostname or ""
    connection = http.client.HTTPSConnection(host, place.port, timeout=patience_s, context=ssl.create_default_context())
    # The timeout is of each read; a server that sends a byte now and then must not hold it for longer either.
    end = threading.Timer(2 * patience_s, _end, (connection,))
    end.daemon = True
    end.start()
    try:
        path = (place.path or "/") + (f"?{place.query}" if place.query else "")
        headers = {"Content-Type": "application/json", "User-Agent": "spa-server"}
        connection.request("POST", path, json.dumps(news.fields()).encode(), headers)
        status = connection.getresponse().status
    except ssl.SSLCertVerificationError as error:
        raise WebhookFailed(f"{host}: its certificate is not to be trusted: {error.verify_message}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _ForNow(f"{host}: {getattr(error, 'strerror', None) or type(error).__name__}") from error
    finally:
        end.cancel()
        connection.close()
    if status >= 500 or status in _TRY_AGAIN:
        raise _ForNow(f"{host}: answered {status}")
    if not 200 <= status < 300:
        raise WebhookFailed(f"{host}: answered {status}")


def _end(connection: http.client.HTTPSConnection) -> None:
    with suppress(OSError, AttributeError):
        connection.sock.shutdown(2)
