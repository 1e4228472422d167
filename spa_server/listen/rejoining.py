"""What the network process does while the firewall process is away: it waits for the next one, and joins it.

The firewall process may be killed, or restarted, and this one need not be: it keeps the knock sockets, the registry and
every key derived. Nothing can be opened meanwhile, so for a few seconds knocks are left in their sockets, as they are
while this process itself starts; later they are judged, and refused. It must not know what a knock is.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Sequence

from spa_server.enforce.client import FirewallError, FirewallGone
from spa_server.listen.firewall_link import AWAY, FirewallLink
from spa_server.service import Service

Reach = Callable[[], socket.socket]
"""A new connection to the firewall process. Raises OSError where none listens."""

SHORTEST_S, LONGEST_S = 0.02, 1.0
"""Between two tries. In between, a tenth of the time for which it has been away: so much is lost by waiting at most."""
HELD_S = 5.0
"""How long knocks wait in their sockets: longer than a start takes, and than a client waits for its answer."""


class Rejoining:
    """Keeps `link` joined to whichever firewall process there is, as far as `reach` gets to one."""

    def __init__(
        self, link: FirewallLink, channel: socket.socket, reach: Reach | None, selector: selectors.BaseSelector
    ) -> None:
        """`channel`: the one that the link has now. `reach`: None where the end of the firewall process is for good."""
        self._link = link
        self._channel = channel
        self._reach = reach
        self._selector = selector
        self._lost_s = 0.0
        self.next_s = 0.0
        """When, on the monotonic clock, another one is looked for."""
        selector.register(channel, selectors.EVENT_READ, lambda _channel: None)

    @property
    def holds_knocks(self) -> bool:
        """Whether it has been away for so short a time that knocks are to wait."""
        return self._link.is_away and time.monotonic() < self._lost_s + HELD_S

    def lose(self) -> bool:
        """The firewall process has gone; whether another one may come."""
        if self._reach is None:
            return False
        if not self._link.is_away:
            self._selector.unregister(self._channel)
            self._link.lose()
            self._lost_s = self.next_s = time.monotonic()
        return True

    def join(self, knock_ports: Sequence[int], services: Sequence[Service]) -> None:
        """Join the firewall process that is there now, if it is time to look for it; then no tag is armed.

        Raises FirewallGone while there is none. Where it does not go by this configuration the link is stale, and it
        opens nothing before a reload succeeds.
        """
        now_s = time.monotonic()
        if self._reach is None or now_s < self.next_s:
            raise FirewallGone(AWAY)
        self.next_s = now_s + min(max((now_s - self._lost_s) / 10, SHORTEST_S), LONGEST_S)
        try:
            channel = self._reach()
        except OSError as error:
            raise FirewallGone(AWAY) from error
        self._link.join(channel, knock_ports, services)
        try:
            self._link.reload(knock_ports, services)
        except FirewallGone:
            # It has turned this process away, or has ended again.
            self._link.lose()
            raise FirewallGone(AWAY) from None
        except FirewallError:
            self._link.is_stale = True
        self._channel = channel
        self._selector.register(channel, selectors.EVENT_READ, lambda _channel: None)

    def left_s(self) -> float | None:
        """How long it may be until the next turn."""
        if not self._link.is_away:
            return None
        waits_s = [self.next_s, self._lost_s + HELD_S] if self.holds_knocks else [self.next_s]
        return max(0.0, min(waits_s) - time.monotonic())
