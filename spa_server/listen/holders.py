"""Everyone whose datagrams may pass the gate, as the registry had it when last read.

Kept in memory so that a knock costs no look-up in the file. Derived keys are kept from one reading to the next. It must
not know tags or messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spa_protocol.delegation import Certificate, delegate_secret
from spa_protocol.keys import Channel, ChannelKeys, derive
from spa_protocol.signature import VerifyingKey
from spa_server.decide.decision import DeviceStanding
from spa_server.lease_label import lease_label
from spa_server.listen.gate import HolderId
from spa_server.remember.registry import Credential, Device, Invite, Registry

_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class DeviceHolder:
    """A device by one of its credentials. `delegated`: it is those to whom it delegates that knock by these keys.

    `user_enabled`: whether the user, too, is let in.
    """

    device: Device
    credential: Credential
    key: VerifyingKey
    keys: ChannelKeys
    delegated: bool = False
    user_enabled: bool = True

    def standing(self, now_s: int) -> DeviceStanding:
        """What the decision needs to know of it."""
        retires_s = self.credential.retires_s
        retired = retires_s is not None and retires_s <= now_s
        return DeviceStanding(
            self.device.label, self.device.roles, self.device.enabled, retired, user_enabled=self.user_enabled
        )


@dataclass(frozen=True, slots=True)
class Asker:
    """Who knocks: a device, or its delegate by a certificate whose signatures were verified."""

    holder: DeviceHolder
    certificate: Certificate | None = None

    @property
    def delegate(self) -> str:
        """The delegate's name; "" where the device itself knocks."""
        return self.certificate.name if self.certificate is not None else ""

    @property
    def label(self) -> str:
        """What is written beside its leases."""
        return lease_label(self.holder.device.label, self.delegate)

    def __str__(self) -> str:
        device = self.holder.device
        return f"{self.delegate} for {device.label}" if self.delegate else device.label


@dataclass(frozen=True, slots=True)
class InviteHolder:
    """Whoever was given an invite."""

    invite: Invite
    keys: ChannelKeys


Holders = Mapping[HolderId, DeviceHolder | InviteHolder]


def changes(before: Holders, after: Holders) -> str:
    """What differs between two readings, for people; empty where nothing of a device or an invite does."""
    old, new = _devices(before), _devices(after)
    said = [f"{label} added" for label in new if label not in old]
    said += [f"{label} removed" for label in old if label not in new]
    for label in new.keys() & old.keys():
        if new[label].enabled != old[label].enabled:
            said.append(f"{label} {'enabled' if new[label].enabled else 'disabled'}")
        elif (new[label].user, new[label].roles) != (old[label].user, old[label].roles):
            said.append(f"{label} changed")
    was_out, is_out = _shut_out_users(before), _shut_out_users(after)
    said += [f"user {name} disabled" for name in is_out - was_out]
    said += [f"user {name} enabled" for name in (was_out - is_out) & {device.user for device in new.values()}]
    more = len(said) - _MOST_NAMED
    said = [*sorted(said)[:_MOST_NAMED], f"{more} more"] if more > 0 else sorted(said)
    invites = [sum(isinstance(holder, InviteHolder) for holder in each.values()) for each in (before, after)]
    if invites[0] != invites[1]:
        said.append(f"invites: {invites[1]} instead of {invites[0]}")
    return ", ".join(said)


def has_lost(before: Holders, after: Holders) -> bool:
    """Whether a device, its user or a credential of the former reading is another one, or gone."""
    return any(
        not isinstance(now := after.get(holder_id), DeviceHolder)
        or (now.device, now.user_enabled, now.credential) != (holder.device, holder.user_enabled, holder.credential)
        for holder_id, holder in before.items()
        if isinstance(holder, DeviceHolder)
    )


def _shut_out_users(holders: Holders) -> set[str]:
    devices = (holder for holder in holders.values() if isinstance(holder, DeviceHolder))
    return {holder.device.user for holder in devices if not holder.user_enabled}


def _devices(holders: Holders) -> dict[str, Device]:
    return {holder.device.label: holder.device for holder in holders.values() if isinstance(holder, DeviceHolder)}


def read_holders(
    registry: Registry, now_s: int, previous: Holders, *, delegates: bool, shut_out_users: frozenset[str] = frozenset()
) -> Holders:
    """Every live credential and unexpired invite, and with `delegates` what is derived of each credential for those.

    `previous` saves deriving the same keys again. `shut_out_users`: those who are kept out with all their devices.
    """
    devices = {device.id: device for device in registry.devices()}
    holders: dict[HolderId, DeviceHolder | InviteHolder] = {}
    for credential in registry.credentials(now_s):
        device = devices.get(credential.device_id)
        if device is None:
            continue  # removed between the two readings; the next one sees it gone
        holder_id = HolderId(Channel.DEVICE, credential.id)
        known = previous.get(holder_id)
        keys = known.keys if known else derive(credential.gate_secret, Channel.DEVICE)
        key = VerifyingKey.from_bytes(credential.public_key)
        is_in = device.user not in shut_out_users
        holders[holder_id] = DeviceHolder(device, credential, key, keys, user_enabled=is_in)
        if delegates:
            holder_id = HolderId(Channel.DELEGATE, credential.id)
            known = previous.get(holder_id)
            keys = known.keys if known else derive(delegate_secret(credential.gate_secret), Channel.DELEGATE)
            holders[holder_id] = DeviceHolder(device, credential, key, keys, delegated=True, user_enabled=is_in)
    for invite in registry.invites(now_s):
        holder_id = HolderId(Channel.INVITE, invite.id)
        known = previous.get(holder_id)
        keys = known.keys if known else derive(invite.gate_secret, Channel.INVITE)
        holders[holder_id] = InviteHolder(invite, keys)
    return holders
