"""A live session: what one knock, and those that renewed it, opened of one service, and all that was known then.

It goes on from the knock that opened it until its lease has ended, and, where sessions may outlive their lease, until
the last flow has. It must not know who keeps it, nor who judges it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from spa_protocol.delegation import Certificate
from spa_protocol.knock import Knock
from spa_protocol.posture import Posture
from spa_server.decide.context import Approval, Context
from spa_server.decide.decision import Grant, GrantedService, Path
from spa_server.listen.arrival import Arrival
from spa_server.listen.clock import Instant
from spa_server.listen.gate import HolderId
from spa_server.listen.holders import Asker
from spa_server.remember.sessions import SessionKey
from spa_server.service import Address, OnExpiry


@dataclass(frozen=True, slots=True)
class Live:
    """One service that somebody was let in to.

    `session` is the id of the knock that opened it, `knock` of the one that renewed it last. `holder`: by which
    credential they came. `path`: the way the last knock took; `is_signed`: whether the address that was opened stood in
    it. `context`: how things stood at that knock, which came at `at`. `began_ms` and `ends_ms` are of the time since
    boot; `outlives`: its flows may go on when its lease has ended. `spared`: it is left to its own end, whatever is
    decided.
    """

    key: SessionKey
    session: str
    knock: str
    holder: HolderId
    seen: Address
    is_signed: bool
    context: Context
    certificate: Certificate | None
    at: Instant
    began_ms: int
    ends_ms: int
    outlives: bool
    spared: bool = False

    @property
    def service(self) -> str:
        """The service's name."""
        return self.key.service

    @property
    def path(self) -> Path:
        """The way its last knock took."""
        return Path(self.seen, self.key.destination)

    def as_knock(self) -> Knock:
        """The last knock, as if it had asked for this service alone."""
        source = self.key.source if self.is_signed else None
        return Knock(
            self.at.wall_ms,
            (self.service,),
            source=source,
            certificate=self.certificate,
            posture=self.context.posture,
        )

    def context_at(self, now: Instant) -> Context:
        """How things stand if nothing but time has passed: everything is older by that, and it would be renewed."""
        passed_s = max(0, now.boot_ms - self.at.boot_ms) // 1000
        then, local = self.context, time.localtime(now.wall_s)
        return replace(
            then,
            posture_age_s=None if then.posture_age_s is None else then.posture_age_s + passed_s,
            mfa_age_s=None if then.mfa_age_s is None else then.mfa_age_s + passed_s,
            approval=_later(then.approval, passed_s),
            hour=local.tm_hour,
            minute=local.tm_min,
            weekday=local.tm_wday + 1,
            renews=True,
        )

    def says_the_same(self, posture: Posture | None) -> bool:
        """Whether the device was as that posture has it: but for how old it is, and for how long the device runs."""
        return _timeless(self.context.posture) == _timeless(posture)

    def heard(self, posture: Posture | None, now: Instant) -> Live:
        """The same after its device has said how it is."""
        age_s = None if posture is None else posture.age_s
        return replace(self, context=replace(self.context_at(now), posture=posture, posture_age_s=age_s), at=now)

    def after(self, former: Live | None) -> Live:
        """The same as what goes on with a session that is open: under its id, and no shorter."""
        if former is None:
            return self
        return replace(
            self,
            session=former.session,
            began_ms=former.began_ms,
            ends_ms=max(self.ends_ms, former.ends_ms),
            outlives=self.outlives or former.outlives,
        )


def begun(arrival: Arrival, asker: Asker, holder: HolderId, knock: Knock, grant: Grant, context: Context) -> list[Live]:
    """What a grant is about to open, service by service."""
    return [_live(arrival, asker, holder, knock, grant, item, context) for item in grant.services]


def _live(
    arrival: Arrival,
    asker: Asker,
    holder: HolderId,
    knock: Knock,
    grant: Grant,
    item: GrantedService,
    context: Context,
) -> Live:
    return Live(
        SessionKey(asker.label, grant.source, grant.destination, item.service.name),
        session=arrival.session,
        knock=arrival.session,
        holder=holder,
        seen=arrival.path.source,
        is_signed=knock.source is not None,
        context=context,
        certificate=asker.certificate,
        at=arrival.at,
        began_ms=arrival.at.boot_ms,
        ends_ms=arrival.at.boot_ms + item.lease_s * 1000,
        outlives=item.service.on_expiry is OnExpiry.KEEP,
    )


def _timeless(posture: Posture | None) -> Posture | None:
    return posture and replace(posture, age_s=0, uptime_s=None)


def _later(approval: Approval, passed_s: int) -> Approval:
    """What is left of an approval; none where nothing is."""
    left_s = approval.left_s - passed_s
    return replace(approval, left_s=left_s) if left_s > 0 else Approval()
