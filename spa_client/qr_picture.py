"""The invite in a picture of its QR code: a screenshot, or a photograph of a terminal.

Reading pictures takes libraries that nothing else needs, the extra `qr`; they are loaded here when a picture is given.
It must not know what is done with an invite.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from spa_client.errors import BadConfiguration, BadUsage
from spa_protocol.text import TextKind

_MOST_PIXELS = 80_000_000
_MARGIN = 64
"""Pixels of plain ground put round the picture: a screenshot may be cut at the code's edge, where none is found."""


def invite_in_picture(path: Path) -> str:
    """The text of the one invite in a picture. Raises BadUsage, BadConfiguration without the libraries, and OSError."""
    try:
        import zxingcpp
        from PIL import Image, ImageOps
    except ImportError:
        raise BadConfiguration(
            "pictures cannot be read here: pip install 'spa-perimeter[qr]', or join with the invite's text"
        ) from None
    try:
        with (
            warnings.catch_warnings(category=Image.DecompressionBombWarning, action="ignore"),
            Image.open(path) as opened,
        ):
            if opened.width * opened.height > _MOST_PIXELS:
                raise BadUsage(f"{path} is larger than any picture of an invite: cut the code out of it")
            picture = ImageOps.exif_transpose(opened).convert("L")
    except OSError as error:
        if error.errno is not None:
            raise
        raise BadUsage(f"{path} is not a picture: give a PNG or JPEG file of the code") from None
    except (ValueError, SyntaxError, Image.DecompressionBombError):
        raise BadUsage(f"{path} is a damaged picture: save it again as PNG") from None
    texts: set[str] = set()
    for ground in (255, 0):
        framed = ImageOps.expand(picture, _MARGIN, fill=ground)
        texts |= {found.text.strip() for found in zxingcpp.read_barcodes(framed, formats=zxingcpp.BarcodeFormat.QRCode)}
    invites = sorted({text.lower() for text in texts if text.lower().startswith(TextKind.INVITE.prefix)})
    if len(invites) == 1:
        return invites[0]
    if invites:
        raise BadUsage(f"{path} shows {len(invites)} invites: give a picture of one of them")
    if texts:
        raise BadUsage(f"{path} shows a QR code, but not one of an invite (spa-server invite LABEL --qr)")
    raise BadUsage(f"no QR code can be made out in {path}: take it closer and straight, or paste the invite's text")
