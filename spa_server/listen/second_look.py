"""A live session judged again: the decision on its knock as it would be now, by the registry, policy and time of now.

All that the knock said is as it was, and older. It must not know what follows from the answer.
"""

from __future__ import annotations

from collections.abc import Callable

from spa_protocol.refusal import Refusal
from spa_server.decide.decision import Delegated, Refused, decide
from spa_server.listen.clock import Instant
from spa_server.listen.holders import Asker, DeviceHolder
from spa_server.listen.knocks import Rules
from spa_server.listen.membership import Membership
from spa_server.listen.session import Live
from spa_server.listen.trust import Trust
from spa_server.remember.delegations import is_revoked

MINUTE_MS = 60_000


class SecondLook:
    """Judges live sessions by what stands in the registry and the configuration."""

    def __init__(self, membership: Membership, trust: Trust, rules: Callable[[], Rules]) -> None:
        self._membership = membership
        self._trust = trust
        self._rules = rules

    def __call__(self, live: Live, now: Instant) -> Refused | None:
        """Why the session's knock would be refused by now; None where it would not be."""
        holder = self._membership.holders.get(live.holder)
        if not isinstance(holder, DeviceHolder):
            return Refused(Refusal.KEY_RETIRED)
        asker = Asker(holder, live.certificate)
        decision = decide(
            live.as_knock(),
            live.path,
            holder.standing(now.wall_s),
            self._rules().services,
            self._trust.again(live.context_at(now), asker, now),
            self._delegated(asker, now),
        )
        return decision if isinstance(decision, Refused) else None

    def _delegated(self, asker: Asker, now: Instant) -> Delegated | None:
        certificate, rules = asker.certificate, self._rules()
        if certificate is None:
            return None
        revoked = is_revoked(self._membership.revoked, asker.holder.device.id, certificate.name, certificate.issued_s)
        return Delegated(certificate, revoked, now.wall_ms, rules.max_delegation_s, rules.max_skew_ms)

    def may_change(self, live: Live, now: Instant) -> int | None:
        """When its delegation expires, its key retires or a minute is full (UTC, ms), whichever comes first.

        Policies may go by hour, minute and weekday, and by how old things are.
        """
        holder = self._membership.holders.get(live.holder)
        times_ms = [(now.wall_ms // MINUTE_MS + 1) * MINUTE_MS]
        if isinstance(holder, DeviceHolder) and holder.credential.retires_s is not None:
            times_ms.append(holder.credential.retires_s * 1000)
        if live.certificate is not None:
            times_ms.append((live.certificate.expires_s - 1) * 1000 + 1)  # less than a whole second left is none
        return min((each for each in times_ms if each > now.wall_ms), default=None)
