"""Every reason for which a request is refused: one enumeration, each with the sentence people read.

The values are the outcome bytes of an answer (docs/protocol.md, section 9). It must not know who is told: the same
sentence serves the client's error line and `spa-server why`.
"""

from __future__ import annotations

from enum import Enum

GRANTED = 0
"""The outcome byte of an answer that grants."""


class Refusal(Enum):
    """A refusal: its outcome byte, and its sentence with `{about}` and `{skew}` left open."""

    NOT_OPENED = 1, "the datagram carried a live tag but does not open under that device's gate secret"
    BAD_SIGNATURE = 2, "bad signature: whoever sent it holds the gate secret but not the device's key"
    MALFORMED = 3, "malformed: the message breaks a rule of the protocol ({about})"
    UNKNOWN_VERSION = 4, "unknown protocol version or message type ({about}): upgrade the older side"
    STALE = 5, "stale by {skew} s: the clock of the device is behind the server's; set its clock"
    EARLY = 6, "early by {skew} s: the clock of the device is ahead of the server's; set its clock"
    ALREADY_USED = 7, "already used: this tag's window and slot opened once before"
    BEFORE_START = 8, "sent for a window that began before the server's first start after a boot; knock again"
    NOT_RECORDED = 9, "the server could not record the knock, so nothing was opened; see its log (disk full?)"
    DEVICE_DISABLED = 10, "the device is disabled; `spa-server device enable` lets it in again"
    KEY_RETIRED = 11, "the device's old key has been retired; use the one it joined with last"
    UNKNOWN_SERVICE = 12, "unknown service {about}: the server protects no service of that name"
    SERVICE_NOT_ALLOWED = 13, "the device's roles do not allow service {about}"
    NOTHING_ALLOWED = 14, "neither role nor policy allows this device any service now"
    NAME_SERVICES = 15, "the device's roles allow more services than one knock opens; name the ones you want"
    SOURCE_NOT_SIGNED = 16, "service {about} opens only to an address named in the signed knock (--source)"
    SOURCE_FAMILY = (
        17,
        "the address named in the knock is of another family than the path it came by ({about})",
    )
    SOURCE_UNUSABLE = 18, "the source address {about} is not one that a lease can open"
    KERNEL_FAILED = 19, "the kernel did not confirm the lease, so count on nothing being open; see the server's log"
    CLOCK_ONLY = 20, "sent under a clock tag, which opens nothing; the clock is right, so knock again"
    INVITE_USED = 21, "the invite was already used, by another key; ask for a new one"
    INVITE_EXPIRED = 22, "the invite has expired; ask for a new one"
    ENROLMENT_REFUSED = 23, "the server could not enrol this device: {about}"
    SERVICE_FAMILY = 24, "service {about} has no address of this IP family; knock over the other one"
    DELEGATION_EXPIRED = 25, "the delegation has expired, or has not begun; ask the one who gave it for a new one"
    DELEGATION_REVOKED = 26, "the delegation was revoked; ask the one who gave it"
    DELEGATION_TOO_LONG = 27, "the delegation runs for longer than the server allows ({about}); ask for a shorter one"
    SERVICE_NOT_DELEGATED = 28, "the delegation does not include service {about}"
    POLICY_FORBIDS = 29, "the policy forbids it ({about})"
    POLICY_FAULT = 30, "the policy could not be evaluated, so nothing was opened; see the server's log"
    RISK_TOO_HIGH = 31, "the session looks too risky ({about}); ask an operator, who sees why: `spa-server why`"
    STEP_UP_NEEDED = 32, "a second factor is needed ({about}); knock again with a code: --code"
    CODE_WRONG = 33, "the one-time code is wrong, or was used before; wait for the next one"
    APPROVAL_NEEDED = (
        34,
        "somebody has to approve it first; ask an approver to run: spa-client approve PERIMETER {about}",
    )
    NO_SUCH_REQUEST = 35, "no request {about} is waiting: it was decided, has expired, or never was"
    NOT_AN_APPROVER = 36, "the policy does not let this device decide on request {about}"
    USER_DISABLED = 37, "the user is disabled; `spa-server user enable` lets them in again"

    def __init__(self, code: int, template: str) -> None:
        self.code = code
        self.template = template

    def sentence(self, about: str = "", skew_ms: int = 0) -> str:
        """The reason for people. `skew_ms` is device clock minus server clock; `about` what it concerns."""
        return self.template.format(about=about or "unnamed", skew=f"{abs(skew_ms) / 1000:.0f}")

    @classmethod
    def of_code(cls, code: int) -> Refusal | None:
        """The refusal with that outcome byte, or None."""
        return _BY_CODE.get(code)


_BY_CODE = {refusal.code: refusal for refusal in Refusal}
