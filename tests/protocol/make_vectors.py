"""Make vectors.json: `python -m tests.protocol.make_vectors` writes it anew, the same bytes each time.

docs/protocol.md, section 12, says what it holds. The product writes it; tests check that the second reading agrees.
"""

from __future__ import annotations

import json
from pathlib import Path

from spa_protocol.delegation import delegate_secret
from spa_protocol.keys import ChannelKeys, exchange_public
from spa_protocol.tag import CLOCK_SLOTS, TagKind, TagPosition, compute_tag
from tests.protocol import bad_vectors, message_vectors, text_vectors, world

PATH = Path(__file__).with_name("vectors.json")

Entry = dict[str, object]

TIMES_MS = (0, 59_999, 60_000, world.TIME_MS, world.TIME_MS + 86_400_000, 2**63, 2**64 - 1)


def vectors() -> dict[str, object]:
    """All that vectors.json holds."""
    return {
        "protocol": "spa-perimeter knock protocol, version 1: docs/protocol.md, section 12",
        "secrets": _secrets(),
        "application": world.SECURITY_KEY.application,
        "derived": {channel: _keys(keys) for channel, keys in message_vectors.CHANNELS.items()},
        "tags": _tags(),
        "knocks": message_vectors.knocks(),
        "enrolments": message_vectors.enrolments(),
        "answers": message_vectors.answers(),
        "certificates": text_vectors.certificates(),
        "judged": message_vectors.judged(),
        "texts": text_vectors.texts(),
        "invites": text_vectors.invites(),
        "delegations": text_vectors.delegations(),
        "refused": bad_vectors.refused(),
    }


def rendered() -> str:
    """The file's text."""
    return json.dumps(vectors(), indent=1) + "\n"


def _secrets() -> Entry:
    named = {
        "device_seed": world.DEVICE_SEED,
        "device_key": world.DEVICE_KEY,
        "security_key_seed": world.SECURITY_KEY.seed,
        "security_key": world.SECURITY_KEY.key.public,
        "delegate_seed": world.DELEGATE_SEED,
        "server_seed": world.SERVER_SEED,
        "server_identity": world.SERVER_IDENTITY,
        "other_server_identity": world.OTHER_SERVER_IDENTITY,
        "gate_secret": world.GATE_SECRET,
        "delegate_secret": world.DELEGATE_SECRET,
        "security_key_gate_secret": world.SECURITY_KEY_GATE_SECRET,
        "security_key_delegate_secret": delegate_secret(world.SECURITY_KEY_GATE_SECRET),
        "invite_secret": world.INVITE_SECRET,
        "invite_exchange_secret": world.INVITE_EXCHANGE_SECRET,
        "invite_exchange": exchange_public(world.INVITE_EXCHANGE_SECRET),
        "device_exchange_secret": world.DEVICE_EXCHANGE_SECRET,
        "device_exchange": exchange_public(world.DEVICE_EXCHANGE_SECRET),
    }
    return {name: value.hex() for name, value in named.items()}


def _keys(keys: ChannelKeys) -> Entry:
    names = ("tag", "clock_tag", "request_seal", "answer_tag", "answer_seal")
    return {name: getattr(keys, name).hex() for name in names}


def _tags() -> list[Entry]:
    return [
        {
            "channel": channel,
            "kind": kind.name.lower(),
            "time_ms": time_ms,
            "window": kind.window(time_ms),
            "slot": slot,
            "tag": compute_tag(keys, TagPosition(kind, kind.window(time_ms), slot)).hex(),
        }
        for channel, keys, kinds in (
            ("device", world.DEVICE_KEYS, tuple(TagKind)),
            ("invite", world.INVITE_KEYS, tuple(TagKind)),
            ("delegate", world.DELEGATE_KEYS, (TagKind.KNOCK,)),
        )
        for kind in kinds
        for time_ms in TIMES_MS
        for slot in ((0, 1, 15, 63) if kind is TagKind.KNOCK else range(CLOCK_SLOTS))
    ]


def main() -> None:
    """Write the file."""
    PATH.write_text(rendered(), encoding="ascii")


if __name__ == "__main__":
    main()
