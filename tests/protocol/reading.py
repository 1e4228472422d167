"""Requests as a server reads them, up to what it decides: opened, verified, parsed (docs/protocol.md, 11.1).

It stands on the product's protocol alone; how a server does it between its other checks is tested with the server.
"""

from __future__ import annotations

from spa_protocol.body import MalformedBody
from spa_protocol.enrolment import Enrolment
from spa_protocol.knock import Knock
from spa_protocol.seal import Domain, Opened, unseal
from spa_protocol.signature import VerifyingKey
from tests.protocol import world


def read_knock(datagram: bytes, holder: world.Holder, server_identity: bytes = world.SERVER_IDENTITY) -> Knock | None:
    """What has a live tag of the holder; None for what is refused."""
    opened = unseal(datagram, holder.keys.request_seal)
    if opened is None:
        return None
    if holder.delegated:
        return _by_a_delegate(opened, holder.device.key, server_identity)
    if not opened.is_signed_by(holder.device.key, Domain.KNOCK, server_identity):
        return None
    knock = Knock.parse(opened.message)
    return knock if knock.certificate is None else None


def _by_a_delegate(opened: Opened, device: VerifyingKey, server_identity: bytes) -> Knock | None:
    try:
        knock = Knock.parse(opened.message)
    except MalformedBody:
        return None
    if knock.certificate is None or not knock.certificate.is_signed_by(device, server_identity):
        return None
    delegate = VerifyingKey(knock.certificate.key)
    return knock if opened.is_signed_by(delegate, Domain.KNOCK, server_identity) else None


def read_enrolment(datagram: bytes, server_identity: bytes = world.SERVER_IDENTITY) -> Enrolment | None:
    """What has a live tag of the world's invite; the key that must have signed is the one in the body."""
    opened = unseal(datagram, world.INVITE_KEYS.request_seal)
    if opened is None:
        return None
    try:
        enrolment = Enrolment.parse(opened.message)
    except MalformedBody:
        return None
    return enrolment if opened.is_signed_by(enrolment.key, Domain.ENROLMENT, server_identity) else None
