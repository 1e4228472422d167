"""What an examination finds: values, and which of them is worse. It must not know how anything was found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Severity(IntEnum):
    """How bad a finding is; the larger the worse."""

    OK = 0
    """As it should be."""
    NOTE = 1
    """Worth knowing."""
    WARNING = 2
    """It works, but not everywhere, or not for long."""
    FAULT = 3
    """It does not work."""

    @property
    def word(self) -> str:
        """As people and scripts read it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    `id` is stable, for scripts. `what` says it in a sentence, `evidence` where it was seen, `remedy` what mends it: a
    command, or what to do; empty where nothing needs mending.
    """

    id: str
    severity: Severity
    what: str
    evidence: str = ""
    remedy: str = ""


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first, otherwise in the order in which they were found."""
    return tuple(sorted(findings, key=lambda finding: -finding.severity))


def worst(findings: Iterable[Finding]) -> Severity:
    """The severity of the worst; OK of none."""
    return max((finding.severity for finding in findings), default=Severity.OK)
