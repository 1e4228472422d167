"""What was found of each fact, and how: what a posture is made of, and what `spa-client posture` shows.

Plain values. It must not know how to look for anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from spa_protocol.posture import MAX_SYSTEM, Fact, Posture, PostureSource

MAX_DAYS = 36_500
"""Ages beyond this are a clock's fault."""
MAX_UPTIME_S = MAX_DAYS * 86_400


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact. `how`: the path or command that told it. `unknown`: why it is not known; "" where it is.

    `remedy`: what would make it known, where there is such a thing.
    """

    fact: Fact = Fact.UNKNOWN
    how: str = ""
    unknown: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Number:
    """A number, or None where it is not known; the rest as a Finding's."""

    value: int | None = None
    how: str = ""
    unknown: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Name:
    """A text, or "" where it is not known; the rest as a Finding's."""

    value: str = ""
    how: str = ""
    unknown: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was found in one look, which the given source took."""

    source: PostureSource = PostureSource.CLIENT
    disk_encrypted: Finding = Finding()
    screen_lock: Finding = Finding()
    firewall: Finding = Finding()
    secure_boot: Finding = Finding()
    patch_age_days: Number = Number()
    uptime_s: Number = Number()
    system: Name = Name()

    def posture(self, age_s: int = 0) -> Posture:
        """The facts as a knock says them, so many seconds after the look; the uptime has gone on since."""
        uptime_s = self.uptime_s.value
        return Posture(
            age_s,
            self.source,
            self.disk_encrypted.fact,
            self.screen_lock.fact,
            self.firewall.fact,
            self.secure_boot.fact,
            self.patch_age_days.value,
            None if uptime_s is None else uptime_s + age_s,
            self.system.value,
        )


def yes_or_no(value: bool | None, how: str, unknown: str, remedy: str = "") -> Finding:
    """A fact: None is unknown, for the reason given."""
    if value is None:
        return Finding(Fact.UNKNOWN, how, unknown, remedy)
    return Finding(Fact.YES if value else Fact.NO, how)


def days_since(then_s: float | None, now_s: float, how: str, unknown: str) -> Number:
    """The whole days since a time of the wall clock; None and what cannot be are unknown."""
    if then_s is None:
        return Number(None, how, unknown)
    days = (now_s - then_s) // 86_400
    if not 0 <= days <= MAX_DAYS:
        return Number(None, how, "that time is in the future, or too long ago: is the clock right?")
    return Number(int(days), how)


def uptime(seconds: float | None, how: str) -> Number:
    """The seconds since the start; None and what cannot be are unknown."""
    if seconds is None or not 0 <= seconds <= MAX_UPTIME_S:
        return Number(None, how, "it does not say since when the system runs")
    return Number(int(seconds), how)


def system_name(name: str, version: str, how: str) -> Name:
    """A system's name and version, cut to what a knock can say."""
    text = " ".join(f"{name} {version}".split())
    said = "".join(each for each in text if each.isascii() and each.isprintable())[:MAX_SYSTEM].strip()
    return Name(said, how) if said else Name("", how, "it names no system")


def without_system(findings: Findings, name: str) -> Findings:
    """The findings with the bare name of the system where its version was not found."""
    return findings if findings.system.value else replace(findings, system=system_name(name, "", "sys.platform"))
