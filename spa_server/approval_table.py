"""The `[approval]` table of server.toml: how long wishes wait and approvals hold, and by what people are told.

Knows its keys; nothing of the rest of the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from spa_server.toml_table import Table, absolute_path, text, whole

LONGEST_S = 7 * 86_400
_LONGEST_URL = 2048
_WEB_ADDRESS = "an address such as https://chat.example.org/hooks/spa"


@dataclass(frozen=True, slots=True)
class ApprovalSettings:
    """Seconds that a wish waits, that an approval holds when its approver does not say, and that it holds at most.

    `hook`: a program that tells people; `webhook`: an address that takes a POST, which may hold a token.
    """

    waits_s: int = 900
    valid_s: int = 1800
    longest_s: int = 8 * 3600
    hook: Path | None = None
    webhook: str | None = None

    @property
    def tells(self) -> bool:
        """Whether anybody is told of wishes."""
        return self.hook is not None or self.webhook is not None

    def until_s(self, wanted_s: int, now_s: int) -> int:
        """Until when an approval holds that is wanted for so long; 0 for the usual time."""
        return now_s + min(wanted_s or self.valid_s, self.longest_s)


USUAL = ApprovalSettings()


def read_approval(table: Table) -> ApprovalSettings:
    """The settings; every problem is noted, and a default stands in for what was refused."""
    hook = table.one("hook", absolute_path(), None)
    settings = ApprovalSettings(
        waits_s=table.one("waits_s", whole(10, LONGEST_S, "seconds"), USUAL.waits_s),
        valid_s=table.one("valid_s", whole(10, LONGEST_S, "seconds"), USUAL.valid_s),
        longest_s=table.one("longest_s", whole(10, LONGEST_S, "seconds"), USUAL.longest_s),
        hook=None if hook is None else Path(hook),
        webhook=table.one("webhook", text(_is_web_address, _WEB_ADDRESS), None),
    )
    table.finish()
    if settings.valid_s > settings.longest_s:
        key = "valid_s" if table.given("valid_s") else "longest_s"
        table.note(key, "valid_s of at most longest_s")
    return settings


def _is_web_address(value: str) -> bool:
    if len(value) > _LONGEST_URL or not value.isascii() or not value.isprintable() or " " in value:
        return False
    try:
        place = urlsplit(value)
        is_port = place.port is None or place.port > 0
    except ValueError:
        return False
    return (
        place.scheme == "https" and bool(place.hostname) and is_port and "@" not in place.netloc and not place.fragment
    )
