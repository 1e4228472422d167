"""Turning a verified enrolment into a device of the registry (docs/protocol.md, section 6)."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from spa_protocol.enrolment import Enrolment
from spa_protocol.keys import agreed_gate_secret, exchange_public
from spa_protocol.refusal import Refusal
from spa_server.decide.decision import Refused
from spa_server.remember.registry import Device, Invite, InviteExpired, InviteUsed, Registry, RegistryError
from spa_server.remember.store import StateError

log = logging.getLogger("spa.enrolment")


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The device, and whether this very request made it, or an earlier one whose answer was lost."""

    device: Device
    first: bool


def enrol(enrolment: Enrolment, invite: Invite, registry: Registry, now_s: int) -> Enrolled | Refused:
    """Redeem the invite for the key that signed the enrolment; the same key again is told the same."""
    first = invite.exchange_key is not None
    gate_secret = None
    if invite.exchange_key is not None:
        gate_secret = agreed_gate_secret(
            own_secret=invite.exchange_key,
            peer_public=enrolment.exchange,
            invite_secret=invite.gate_secret,
            invite_exchange=exchange_public(invite.exchange_key),
            device_exchange=enrolment.exchange,
            device_key=enrolment.device_key,
        )
        if gate_secret is None:
            return Refused(Refusal.MALFORMED, "exchange value")
    try:
        device = registry.redeem(invite.id, enrolment.key.to_bytes(), enrolment.exchange, gate_secret, now_s)
    except InviteUsed:
        return Refused(Refusal.INVITE_USED)
    except InviteExpired:
        return Refused(Refusal.INVITE_EXPIRED)
    except RegistryError as error:
        log.warning("the invite for %s could not be redeemed: %s", invite.label, error)
        return Refused(Refusal.ENROLMENT_REFUSED, str(error))
    except StateError as error:
        log.error("nobody is enrolled while the state cannot be read and written: %s", error)
        return Refused(Refusal.NOT_RECORDED)
    return Enrolled(device, first)
