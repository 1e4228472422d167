"""Holding a lease with a key that has to be touched: one touch, and a key in memory knocks in its stead.

Theory of operation. A lease is renewed at half its life, and nobody wants to touch a key every fifteen seconds. So the
touched key signs a certificate (docs/protocol.md, section 5.2) by which this computer is a delegate of its own: for the
services that are held, for some hours, for a key that is made here and never leaves this process. The server shows it
as the device's delegate "session". Other keys sign each knock themselves. It must not know how a lease is held.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from spa_client.errors import BadUsage, NoAnswer, Refused
from spa_client.exchange import wall_ms
from spa_client.perimeter import Perimeter
from spa_client.storage import Store
from spa_protocol.delegation import MAX_DELEGATED
from spa_protocol.limits import DELEGATE_SLOTS
from spa_protocol.refusal import Refusal
from spa_protocol.signature import SeedSigner

TOUCH_EVERY_S = 8 * 3600
"""How long one touch is good for, unless somebody says otherwise: a working day."""
SESSION = "session"
"""What the server calls the key in memory."""
_LEAST_LEFT_S = 60
"""A certificate that ends sooner than this is replaced before the next knock."""

_Outcome = TypeVar("_Outcome")


class Session:
    """As whom it is knocked while a lease is held: as the device, or where that takes a touch, by a key in memory.

    One session may serve several leases, one after the other. `store`: to be used in place of the perimeter's own.
    `perimeter`: as whom to knock now.
    """

    def __init__(
        self,
        store: Store,
        perimeter: Perimeter,
        services: tuple[str, ...],
        touch_every_s: int = TOUCH_EVERY_S,
        clock: Callable[[], int] = wall_ms,
    ) -> None:
        """`services`: none for all that are known. Nothing is touched yet."""
        self._touched = not perimeter.signer.every_time
        self.store = store.for_session() if self._touched else store
        self.perimeter = self._device = perimeter
        self._services = services
        self._touch_every_s = touch_every_s
        self._clock = clock

    def first(self, attempt: Callable[[Store, Perimeter], _Outcome]) -> _Outcome:
        """The outcome of a first knock; made again where the server allows a shorter time only, after another touch.

        Raises what the attempt raises, BadUsage where no services are known, and what the signer raises.
        """
        if not self._touched:
            return attempt(self.store, self.perimeter)
        self.fresh(self.perimeter)
        try:
            return attempt(self.store, self.perimeter)
        except NoAnswer as error:
            hint = "or it allows no delegation, by which a key that has to be touched holds a lease"
            raise type(error)(f"{error.sentence}; {hint}", error.addresses) from None
        except Refused as error:
            limit_s = _limit_s(error)
            if not 0 < limit_s < self._touch_every_s:
                raise
        self._touch_every_s = limit_s
        self.perimeter = self._signed(self.perimeter)
        return attempt(self.store, self.perimeter)

    def fresh(self, perimeter: Perimeter) -> Perimeter:
        """The same perimeter, to be knocked at now; the key is touched where it was not, or its time is nearly over."""
        if not self._touched or _left_s(perimeter, self._clock()) > _LEAST_LEFT_S:
            return perimeter
        self.perimeter = self._signed(perimeter)
        return self.perimeter

    def _signed(self, perimeter: Perimeter) -> Perimeter:
        # Others need none of it, and a knock runs before every connection.
        from spa_client.delegating import delegate

        services = self._services or _known(perimeter)
        made = delegate(self._device, services, to=SESSION, for_s=self._touch_every_s, now_ms=self._clock())
        return replace(
            perimeter,
            signer=SeedSigner(made.seed),
            gate_secret=made.gate_secret,
            certificate=made.certificate,
            slots=perimeter.slots if perimeter.certificate is not None else DELEGATE_SLOTS,
        )


def _left_s(perimeter: Perimeter, now_ms: int) -> float:
    certificate = perimeter.certificate
    return 0 if certificate is None else certificate.expires_s - now_ms / 1000


def _known(perimeter: Perimeter) -> tuple[str, ...]:
    names = tuple(service.name for service in perimeter.services)
    if not 1 <= len(names) <= MAX_DELEGATED:
        raise BadUsage(
            f"name the services that are wanted, at most {MAX_DELEGATED}: a key that has to be touched signs for those"
        )
    return names


def _limit_s(error: Refused) -> int:
    """For how long the server lets a delegation run, where it refused because of that; else 0."""
    said = re.fullmatch(r"(\d{1,9}) s", error.about) if error.refusal is Refusal.DELEGATION_TOO_LONG else None
    return int(said[1]) if said else 0
