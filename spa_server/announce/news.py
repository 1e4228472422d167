"""What is new on the notice board, and how it reads. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from spa_server.announce.board import Notice


class What(StrEnum):
    """What has happened to a wish."""

    ASKED = "asked"
    APPROVED = "approved"
    DENIED = "denied"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class News:
    """One thing to tell. `who`: who asked, approved or denied; "" where that is not on the board."""

    what: What
    who: str
    notice: Notice

    @property
    def text(self) -> str:
        """A sentence for people, with what to type where somebody has to."""
        wish = f"{self.notice.service} for {self.notice.user} (request {self.notice.number})"
        match self.what:
            case What.ASKED:
                return (
                    f"{self.notice.user} asks for {self.notice.service} with {self.notice.device}; "
                    f"to let them: {self.to_type}"
                )
            case What.REVOKED:
                return f"taken back: {wish}"
            case _:
                return f"{self.who} {self.what}: {wish}"

    @property
    def to_type(self) -> str:
        """What lets them have it, typed at the server; "" where nothing waits."""
        return f"spa-server request approve {self.notice.number}" if self.what is What.ASKED else ""

    def fields(self) -> dict[str, object]:
        """All of it, fit for JSON."""
        notice = self.notice
        return {
            "what": self.what.value,
            "text": self.text,
            "type": self.to_type,
            "who": self.who,
            "number": notice.number,
            "user": notice.user,
            "device": notice.device,
            "service": notice.service,
            "state": notice.state,
            "approved_by": list(notice.by),
            "asked_s": notice.asked_s,
            "waits_until_s": notice.waits_until_s,
        }


def at_start(now: Iterable[Notice]) -> Iterator[News]:
    """What to tell when nothing is known of before: what waits, for nobody may have heard of it."""
    return (News(What.ASKED, each.user, each) for each in now if each.state == "waiting")


def since(before: Mapping[int, Notice], now: Iterable[Notice]) -> Iterator[News]:
    """What has happened between two looks at the board; what merely ran out is no news."""
    for each in now:
        then = before.get(each.number)
        if then is None and each.state in ("waiting", "approved"):
            yield News(What.ASKED, each.user, each)
        for name in each.by:
            if then is None or name not in then.by:
                yield News(What.APPROVED, name, each)
        if then is not None and then.state == each.state:
            continue
        if each.state == "denied":
            yield News(What.DENIED, each.denied_by, each)
        elif each.state == "revoked":
            yield News(What.REVOKED, "", each)
