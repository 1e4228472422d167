"""What a device says of its own health, in a knock (docs/protocol.md, section 5.3).

A signature shows which key said so, not that it is so: posture tells neglect, not malice. Every fact is yes, no or
unknown, and unknown is never yes. It must not know how a fact is found, nor who asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from spa_protocol.body import FieldReader, FieldWriter, MalformedBody

MAX_SYSTEM = 24
_UNKNOWN_DAYS = 0xFFFF
_UNKNOWN_S = 0xFFFFFFFF


class Fact(Enum):
    """What is known of one fact: two bits."""

    UNKNOWN = 0
    NO = 1
    YES = 2


class PostureSource(Enum):
    """How the facts were found: how far they can be trusted."""

    CLIENT = 1
    """The client looked for itself."""
    OSQUERY = 2
    """An osquery on the device was asked."""
    # 3 is kept for a TPM's quote over what was started. It would be trusted for itself, not for the key that signs the
    # knock, and so comes with the enrolment of an attestation key and a challenge of the server's; until then no device
    # can claim it (docs/threat-model.md).


@dataclass(frozen=True, slots=True)
class Posture:
    """The facts, `age_s` seconds old when the knock was signed.

    `patch_age_days`: since the system's software last changed; `uptime_s`: since it was started; None where unknown.
    `system`: name and version of the operating system, printable ASCII, at most 24; "" where unknown.
    """

    age_s: int = 0
    source: PostureSource = PostureSource.CLIENT
    disk_encrypted: Fact = Fact.UNKNOWN
    screen_lock: Fact = Fact.UNKNOWN
    firewall: Fact = Fact.UNKNOWN
    secure_boot: Fact = Fact.UNKNOWN
    patch_age_days: int | None = None
    uptime_s: int | None = None
    system: str = ""

    def write(self, writer: FieldWriter) -> None:
        """Its fields; raises ValueError for what the protocol cannot say."""
        if not _is_system(self.system):
            raise ValueError(f"a system's name is at most {MAX_SYSTEM} printable ASCII characters")
        writer.number(self.age_s, 4)
        writer.number(self.source.value, 1)
        writer.number(sum(fact.value << 2 * place for place, fact in enumerate(self._facts())), 1)
        writer.number(_UNKNOWN_DAYS if self.patch_age_days is None else min(self.patch_age_days, _UNKNOWN_DAYS - 1), 2)
        writer.number(_UNKNOWN_S if self.uptime_s is None else min(self.uptime_s, _UNKNOWN_S - 1), 4)
        writer.text(self.system)

    @classmethod
    def read(cls, reader: FieldReader) -> Posture:
        """The posture whose fields come next; raises MalformedBody."""
        age_s, source, packed = reader.number(4), _SOURCES.get(reader.number(1)), reader.number(1)
        if source is None:
            raise MalformedBody("a posture of unknown source")
        facts = [packed >> 2 * place & 3 for place in range(4)]
        days, uptime_s, system = reader.number(2), reader.number(4), reader.text()
        if not _is_system(system):
            raise MalformedBody("a system's name")
        if not _FACTS.keys() >= set(facts):
            raise MalformedBody("a fact that is neither yes, no nor unknown")
        disk_encrypted, screen_lock, firewall, secure_boot = (_FACTS[fact] for fact in facts)
        return cls(
            age_s,
            source,
            disk_encrypted,
            screen_lock,
            firewall,
            secure_boot,
            None if days == _UNKNOWN_DAYS else days,
            None if uptime_s == _UNKNOWN_S else uptime_s,
            system,
        )

    def _facts(self) -> tuple[Fact, ...]:
        return self.disk_encrypted, self.screen_lock, self.firewall, self.secure_boot


_FACTS = {fact.value: fact for fact in Fact}
_SOURCES = {source.value: source for source in PostureSource}


def _is_system(text: str) -> bool:
    return len(text) <= MAX_SYSTEM and text.isascii() and (text.isprintable() or not text)
