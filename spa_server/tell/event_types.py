"""What can happen that an operator is told of: one type for each kind of event.

A type has a name and a MESSAGE_ID that never change, so that a search, an alarm or `journalctl MESSAGE_ID=...` written
today works with every later version. Its `category`, `type` and `kind` are the Elastic Common Schema's
(https://www.elastic.co/docs/reference/ecs). It must not know where an event is told.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EventType:
    """A kind of event. `level` is of the logging module; `category`, `type` and `kind` are ECS's."""

    name: str
    message_id: str
    level: int
    category: str
    type: str
    means: str
    kind: str = "event"


GRANTING = EventType(
    "granting",
    "8f7c261649d648c0aab7b5639e5f43b8",
    logging.INFO,
    "network",
    "allowed",
    "leases are about to be asked of the kernel; a record with the same session.id says what came of it",
)
GRANTED = EventType(
    "granted",
    "24c2ccdd5123473990386170f4d99841",
    logging.INFO,
    "network",
    "allowed",
    "a device was let in: the kernel confirmed its leases",
)
REFUSED = EventType(
    "refused",
    "15b4d3bb918f406686b265e66f8cde99",
    logging.INFO,
    "network",
    "denied",
    "a datagram with a live tag of a device or an invite was refused; event.reason says why",
)
CLOSED = EventType(
    "closed",
    "61c7a0e644eb48d0a915d7c7961a5650",
    logging.INFO,
    "network",
    "end",
    "a device gave back what it had open, before its time",
)
ENROLLING = EventType(
    "enrolling",
    "cfa1e300acb741c282953ae63af35f3f",
    logging.INFO,
    "iam",
    "creation",
    "an invite is about to be redeemed; a record with the same session.id says what came of it",
)
ENROLLED = EventType(
    "enrolled",
    "0297e24f42cc4fe99b89a01e928b80cc",
    logging.INFO,
    "iam",
    "creation",
    "a device redeemed its invite: it can knock from now on",
)
ENROLMENT_REFUSED = EventType(
    "enrolment-refused",
    "c2a710719bb74068bc5ea388b9b3a064",
    logging.INFO,
    "iam",
    "denied",
    "an enrolment was refused; event.reason says why",
)
INVITED = EventType(
    "invited", "6811d27392bc47c1a18a7f827103aae5", logging.INFO, "iam", "creation", "an invite was made"
)
INVITES_WITHDRAWN = EventType(
    "invites-withdrawn",
    "07000add7ef24fdba35e6ee4134d2fac",
    logging.INFO,
    "iam",
    "deletion",
    "the unused invites for a device were made void",
)
DEVICE_ADDED = EventType(
    "device-added",
    "ea07392905d8499fb00669ee39ec501a",
    logging.INFO,
    "iam",
    "creation",
    "a device was put into the registry by a command",
)
DEVICE_ENABLED = EventType(
    "device-enabled",
    "8519ba6f3f5e438ca84ea417340c9e54",
    logging.INFO,
    "iam",
    "change",
    "a disabled device was let in again",
)
DEVICE_DISABLED = EventType(
    "device-disabled",
    "d1fd39d94ed947788deb1483ee9fc009",
    logging.INFO,
    "iam",
    "change",
    "a device was kept out, and its invites made void",
)
DEVICE_REMOVED = EventType(
    "device-removed",
    "1cc34e421fe94eaf8fcbc96c88b507b9",
    logging.INFO,
    "iam",
    "deletion",
    "a device was taken out of the registry",
)
DEVICES_EXPORTED = EventType(
    "devices-exported",
    "0a7b2cf246d6489a84311fe5d2964918",
    logging.WARNING,
    "iam",
    "access",
    "every device was printed, gate secrets included",
)
DEVICES_IMPORTED = EventType(
    "devices-imported",
    "9234696bf74e480eb7daee2c08200b05",
    logging.INFO,
    "iam",
    "creation",
    "the devices of an export were added",
)
DELEGATION_REVOKED = EventType(
    "delegation-revoked",
    "c05865b5df434fe2b272b770dd8ad349",
    logging.INFO,
    "iam",
    "deletion",
    "what a device had delegated was taken back",
)
DEVICE_ROLES = EventType(
    "device-roles-changed",
    "48ce8fc5c03c479a8d6c665a3553fb00",
    logging.INFO,
    "iam",
    "change",
    "a device was given other roles",
)
USER_DISABLED = EventType(
    "user-disabled",
    "662a95c731ae486294c6545572259eaa",
    logging.INFO,
    "iam",
    "change",
    "a user was kept out with all of their devices, and their unused invites made void",
)
USER_ENABLED = EventType(
    "user-enabled",
    "922c93e7ad8d44209bfb59744fdbb715",
    logging.INFO,
    "iam",
    "change",
    "a disabled user was let in again",
)
SECOND_FACTOR_SET = EventType(
    "second-factor-set",
    "e7c441fb93d840a69ae111fcdf32c2e3",
    logging.INFO,
    "iam",
    "change",
    "a user was given a secret for one-time codes, in the place of any other",
)
SECOND_FACTOR_REMOVED = EventType(
    "second-factor-removed",
    "31133dc7aaf842b3bbde3763cf48419d",
    logging.WARNING,
    "iam",
    "change",
    "one-time codes of a user are taken no more",
)
APPROVAL_ASKED = EventType(
    "approval-asked",
    "a31a494475714c7f9631bb2b9425f45c",
    logging.INFO,
    "iam",
    "info",
    "somebody wants a service that somebody else has to approve",
)
APPROVED = EventType(
    "approved",
    "eed1efa02dc848f6b36591f08970e293",
    logging.INFO,
    "iam",
    "allowed",
    "somebody let another have a service for some time",
)
DENIED = EventType(
    "denied",
    "78a6587562984fa8b2d5d1c22d4ebd45",
    logging.INFO,
    "iam",
    "denied",
    "somebody did not let another have a service",
)
APPROVAL_REVOKED = EventType(
    "approval-revoked",
    "a7447c4f7c4245a98efd0e270d4bc412",
    logging.INFO,
    "iam",
    "deletion",
    "an approval was taken back",
)
REGISTRY_SEEN = EventType(
    "registry-seen",
    "7d2210bcce84451c9292f21743d4a9d4",
    logging.INFO,
    "iam",
    "change",
    "the running server judges by an edited registry from now on",
)
REVOKED = EventType(
    "revoked",
    "2a900c2b863840a2a316e4d9c6c2a36b",
    logging.INFO,
    "session",
    "end",
    "leases and their connections were ended before their time",
)
CUT = EventType(
    "cut",
    "4602628390324914833a736d2cc880e5",
    logging.INFO,
    "session",
    "end",
    "what a device had open was ended, connections included, for it would be refused by now; event.reason says why",
)
SESSION_ENDED = EventType(
    "session-ended",
    "f9e9d676e49644d39ba27d21fdf7cba0",
    logging.INFO,
    "session",
    "end",
    "what a knock opened is over; with what went through meanwhile, where the kernel counts it",
)
RELOADED = EventType(
    "reloaded",
    "2d61b25b6a6b462d8f41d70d2e007d91",
    logging.INFO,
    "configuration",
    "change",
    "an edited server.toml is in force",
)
RELOAD_REFUSED = EventType(
    "reload-refused",
    "9410fba098f643b7a499a28ceeede1b4",
    logging.ERROR,
    "configuration",
    "denied",
    "an edited server.toml cannot be used; the old one stays in force",
)
PERIMETER_APPLIED = EventType(
    "perimeter-applied",
    "1fb4389f5bae4488b01c5382a481d012",
    logging.INFO,
    "configuration",
    "change",
    "the closed perimeter was put up, or changed, in the kernel",
)
PERIMETER_REMOVED = EventType(
    "perimeter-removed",
    "aab5b01a986b4579a56f534ef068805f",
    logging.WARNING,
    "configuration",
    "deletion",
    "root took the perimeter down: the services are as open as the rest of the firewall leaves them",
)
PERIMETER_RESTORED = EventType(
    "perimeter-restored",
    "49a771875f2043d1b69bafc6c5f9e94b",
    logging.ERROR,
    "intrusion_detection",
    "change",
    "the perimeter was gone or changed, and was put back",
    "alert",
)
PERIMETER_TAMPERED = EventType(
    "perimeter-tampered",
    "48fe3afb1fe742b5aaad307a73b759d2",
    logging.ERROR,
    "intrusion_detection",
    "change",
    "somebody else changed, or removed, something in the perimeter",
    "alert",
)
STARTED = EventType(
    "started",
    "603bbc7181be457d84d3f1e547c1f4f8",
    logging.INFO,
    "process",
    "start",
    "the server serves knocks from now on",
)
STOPPED = EventType(
    "stopped",
    "a5e4580585e64102b175fe79a6d4d2da",
    logging.INFO,
    "process",
    "end",
    "the server was told to stop; the perimeter stays closed",
)
FAULT_BEGUN = EventType(
    "fault-begun",
    "3d6aecc9d6e94e8fb12b5373a34bfcfc",
    logging.ERROR,
    "host",
    "error",
    "knocks may be refused until what the message names is mended",
    "alert",
)
FAULT_ENDED = EventType(
    "fault-ended",
    "f805bfb089024a6688b4fbd3c837bbc2",
    logging.INFO,
    "host",
    "info",
    "the fault is over; the server went on by itself",
)
STATE_CORRUPTED = EventType(
    "state-corrupted",
    "58c98de781304bff97678261fdf6548f",
    logging.CRITICAL,
    "host",
    "error",
    "the state file is damaged: nothing opens until a copy is put back",
    "alert",
)
CLOCK_STEPPED = EventType(
    "clock-stepped",
    "f4f14efea5c1405e849f474b290d7faf",
    logging.WARNING,
    "host",
    "change",
    "the wall clock was set to another time",
)
TRAIL_REPAIRED = EventType(
    "trail-repaired",
    "801eeb76a75a48558b5d62cb39d2c04a",
    logging.WARNING,
    "file",
    "change",
    "the audit file ended in part of a record, left by a kill or a full disk, or was cut short, and was mended",
)
CHAIN_BEGUN = EventType(
    "chain-begun",
    "6d08f20e3569429ba39841d4522561ee",
    logging.WARNING,
    "file",
    "change",
    "the records before this one are not chained, or could not be read: what they say cannot be verified",
)
CHECKPOINT = EventType(
    "checkpoint",
    "aaae7d0c8c5d4fcb92c25c8033cfb6f9",
    logging.INFO,
    "file",
    "info",
    "the server signed how far the audit trail had come",
)
TRAIL_PRUNED = EventType(
    "trail-pruned",
    "e4278eb017a04d1bafe077f45f519a70",
    logging.INFO,
    "file",
    "deletion",
    "the oldest records of the audit trail were deleted to keep its size; spa.about is the last one's number",
)
REFUSALS_SUMMED = EventType(
    "refusals-summed",
    "e0bd6a9fa1c14668a59ae458d3dff84f",
    logging.INFO,
    "network",
    "denied",
    "more refusals of one device or invite within a minute than are recorded each; spa.count says how many",
)
KEY_USED_TWICE = EventType(
    "key-used-twice",
    "c1d7f0a29be4437b9a53e66f2d8b410e",
    logging.WARNING,
    "authentication",
    "info",
    "a second knock, signed by a device's key, came on a tag that another had used: the key may have been copied",
    "alert",
)

TYPES: dict[str, EventType] = {value.name: value for value in globals().values() if isinstance(value, EventType)}
"""Every type by its name."""
