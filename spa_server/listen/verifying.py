"""Whose word a datagram is: the knock in it, with every signature that stands behind it verified.

By a device's tags the device itself must have signed; by those of its delegates the delegate, whose key stands in a
certificate that the device has signed. It must not know what is granted, nor to whom anything is told.
"""

from __future__ import annotations

from dataclasses import dataclass

from spa_protocol.body import MalformedBody
from spa_protocol.knock import Knock
from spa_protocol.refusal import Refusal
from spa_protocol.seal import Domain, Opened
from spa_protocol.signature import VerifyingKey
from spa_server.decide.decision import Refused
from spa_server.listen.holders import DeviceHolder


@dataclass(frozen=True, slots=True)
class NotVerified:
    """No knock, and why. `by_the_device`: whether the device signed it all the same, so that it may be told."""

    refused: Refused
    by_the_device: bool = False


def verified(holder: DeviceHolder, opened: Opened, server_identity: bytes) -> Knock | NotVerified:
    """The knock that the holder of these keys has sent."""
    if holder.delegated:
        return _of_delegate(holder, opened, server_identity)
    if not opened.is_signed_by(holder.key, Domain.KNOCK, server_identity):
        return NotVerified(Refused(Refusal.BAD_SIGNATURE))
    try:
        knock = Knock.parse(opened.message)
    except MalformedBody as error:
        return NotVerified(Refused(Refusal.MALFORMED, str(error)), by_the_device=True)
    if knock.certificate is not None:
        return NotVerified(Refused(Refusal.MALFORMED, "a certificate of the device's own"), by_the_device=True)
    return knock


def _of_delegate(holder: DeviceHolder, opened: Opened, server_identity: bytes) -> Knock | NotVerified:
    try:
        knock = Knock.parse(opened.message)
    except MalformedBody as error:
        return NotVerified(Refused(Refusal.MALFORMED, str(error)))
    certificate = knock.certificate
    if certificate is None:
        return NotVerified(Refused(Refusal.MALFORMED, "no certificate"))
    delegate = VerifyingKey(certificate.key)
    if not certificate.is_signed_by(holder.key, server_identity) or not opened.is_signed_by(
        delegate, Domain.KNOCK, server_identity
    ):
        return NotVerified(Refused(Refusal.BAD_SIGNATURE))
    return knock
