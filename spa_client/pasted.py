"""The invite, or the delegation, in what somebody pasted: out of a mail, a chat, or the wrong window.

Mail programs break long lines and add marks that nobody sees; none of that can be part of one. It must not know what
it holds.
"""

from __future__ import annotations

import re

from spa_client.errors import BadUsage
from spa_protocol.text import TextKind

# Spaces of every kind, soft hyphens, zero-width marks; and a mail's quotation mark at the start of a line.
_UNSEEN = re.compile(r"(^\s*>+)|[\s\u00ad\u200b-\u200f\u2060\ufeff]", re.MULTILINE)
_AROUND = re.compile(r"\A\W+|\W+\Z")
_PREFIX = f"{TextKind.INVITE.prefix}1"
_WANTED = re.compile(rf"{_PREFIX}|{TextKind.DELEGATION.prefix}1", re.IGNORECASE)
_OTHERS = {
    TextKind.DEVICE: "that is a device's identity, which an operator adds with: spa-server device add",
    TextKind.SERVER: "that is a server's identity",
    TextKind.SECRET_KEY: "that is a secret key, which belongs in nobody's hands and no command line",
    TextKind.GATE_SECRET: "that is a gate secret, which belongs in nobody's hands and no command line",
}


def may_be_joined(text: str) -> bool:
    """Whether there is an invite or a delegation in it, whole or not."""
    return _WANTED.search(text) is not None


def pasted_invite(text: str) -> str:
    """The one line of an invite or a delegation; raises BadUsage, with a sentence for whoever pasted it, for others."""
    if not text.strip():
        raise BadUsage(f"the invite is empty: give the text that starts with {_PREFIX}")
    found = _WANTED.search(text)
    if found is not None:
        return _AROUND.sub("", _UNSEEN.sub("", text[found.start() :]))
    bare = _AROUND.sub("", _UNSEEN.sub("", text)).lower()
    for kind, what in _OTHERS.items():
        if bare.startswith(f"{kind.prefix}1"):
            raise BadUsage(f"the invite cannot be used: {what}; an invite starts with {_PREFIX}")
    raise BadUsage(
        f"the invite cannot be used: it has to start with {_PREFIX}; whoever runs the server makes one with"
        " spa-server invite"
    )
