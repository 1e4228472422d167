"""What can go wrong for the client: a small tree of exceptions, each with a sentence and an exit code.

The sentence is one line that says what to do. It must not know how it is shown: the commands print it, programs read
it.

    SpaError
    ├── BadUsage          2  what was asked for makes no sense
    ├── Refused           3  the server answered, and said no
    │   ├── ClockWrong       ... because this computer's clock is off
    │   ├── CodeNeeded       ... because it wants a one-time code besides
    │   └── ApprovalNeeded   ... because somebody has to approve it first
    ├── NoAnswer          4  nothing came back
    │   └── NeverOpened      the port did not open
    ├── BadConfiguration  5  no such perimeter, or its files are broken
    ├── NotPermitted      6  a file that others can read, or that this user cannot
    └── BadSurroundings   7  no network, an unknown host name, a full disk
        └── SlotsUsedUp      every knock of this minute has been used
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from spa_protocol.body import Address
    from spa_protocol.refusal import Refusal


class SpaError(Exception):
    """Anything the client can tell its user about; `str()` of it is the sentence."""

    exit_code: ClassVar[int] = 7

    @property
    def sentence(self) -> str:
        """One line: what is wrong, and what to do."""
        return str(self)


class BadUsage(SpaError):
    """What was asked for makes no sense."""

    exit_code = 2


class Refused(SpaError):
    """The server said no. `refusal` is the reason, `about` what it concerns.

    `slots`: how many knocks a minute it takes; None where this side refused in its stead.
    """

    exit_code = 3

    def __init__(self, sentence: str, refusal: Refusal, about: str = "", slots: int | None = None) -> None:
        super().__init__(sentence)
        self.refusal = refusal
        self.about = about
        self.slots = slots


class ClockWrong(Refused):
    """The server said no because of this computer's clock. `skew_ms`: this clock minus the server's."""

    def __init__(self, sentence: str, refusal: Refusal, skew_ms: int, slots: int | None = None) -> None:
        super().__init__(sentence, refusal, slots=slots)
        self.skew_ms = skew_ms


class CodeNeeded(Refused):
    """The server said no because it wants a one-time code too, and none was to be had."""


class ApprovalNeeded(Refused):
    """The server said no because somebody has to approve it first. `about` is the number of the request."""


class NoAnswer(SpaError):
    """Nothing came back from any of `addresses`."""

    exit_code = 4

    def __init__(self, sentence: str, addresses: tuple[Address, ...] = ()) -> None:
        super().__init__(sentence)
        self.addresses = addresses


class NeverOpened(NoAnswer):
    """The port that was waited for did not open."""


class BadConfiguration(SpaError):
    """No such perimeter, or its files are broken."""

    exit_code = 5


class NotPermitted(SpaError):
    """A secret that others can read, or a file that this user may not."""

    exit_code = 6


class BadSurroundings(SpaError):
    """Something around the client is at fault: the network, the name service, the disk."""

    exit_code = 7


class SlotsUsedUp(BadSurroundings):
    """Every knock of this minute has been used; the next minute begins in `wait_s` seconds."""

    def __init__(self, sentence: str, wait_s: float) -> None:
        super().__init__(sentence)
        self.wait_s = wait_s
