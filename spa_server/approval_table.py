"""The `[approval]` table of server.toml: how long wishes wait and approvals hold.

Knows its keys; nothing of the rest of the file.
"""

from __future__ import annotations

from dataclasses import dataclass

from spa_server.toml_table import Table, whole

LONGEST_S = 7 * 86_400


@dataclass(frozen=True, slots=True)
class ApprovalSettings:
    """Seconds that a wish waits, that an approval holds when its approver does not say, and that it holds at most."""

    waits_s: int = 900
    valid_s: int = 1800
    longest_s: int = 8 * 3600

    def until_s(self, wanted_s: int, now_s: int) -> int:
        """Until when an approval holds that is wanted for so long; 0 for the usual time."""
        return now_s + min(wanted_s or self.valid_s, self.longest_s)


USUAL = ApprovalSettings()


def read_approval(table: Table) -> ApprovalSettings:
    """The settings; every problem is noted, and a default stands in for what was refused."""
    settings = ApprovalSettings(
        waits_s=table.one("waits_s", whole(10, LONGEST_S, "seconds"), USUAL.waits_s),
        valid_s=table.one("valid_s", whole(10, LONGEST_S, "seconds"), USUAL.valid_s),
        longest_s=table.one("longest_s", whole(10, LONGEST_S, "seconds"), USUAL.longest_s),
    )
    table.finish()
    if settings.valid_s > settings.longest_s:
        key = "valid_s" if table.given("valid_s") else "longest_s"
        table.note(key, "valid_s of at most longest_s")
    return settings
