"""The state, the gate and the judging of knocks, put together from a configuration and changed to another one.

It must not know sockets or signals; time is an argument.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from spa_protocol.keys import Channel
from spa_server.config import ServerConfig
from spa_server.decide.decision import Refused
from spa_server.decide.policy import Policy
from spa_server.listen.account import Account, FirstRecord
from spa_server.listen.approvals import Approvals
from spa_server.listen.arrival import Arrival
from spa_server.listen.clock import Instant
from spa_server.listen.firewall_link import FirewallLink
from spa_server.listen.gate import Gate, Slots
from spa_server.listen.knocks import KnockHandler, Rules
from spa_server.listen.live import LiveSessions, MayChange
from spa_server.listen.membership import Membership
from spa_server.listen.risk_watch import RiskWatch
from spa_server.listen.second_look import SecondLook
from spa_server.listen.session import Live
from spa_server.listen.trust import Trust
from spa_server.remember.baseline import Baselines
from spa_server.remember.delegations import Delegations
from spa_server.remember.fence import enter_boot, read_boot_id
from spa_server.remember.identity import ServerIdentity
from spa_server.remember.refusals import RefusalRing
from spa_server.remember.registry import Registry
from spa_server.remember.requests import Requests
from spa_server.remember.sessions import SessionRecord
from spa_server.remember.sources import SourcesOfDevices
from spa_server.remember.store import Store
from spa_server.remember.used import UsedSlots
from spa_server.remember.users import Users
from spa_server.remember.witness import Witness
from spa_server.risk_lists import read_lists
from spa_server.tell.counts import Counts

HOUSEKEEPING_MS = 60_000
LOOK_EVERY_S = 0.1
"""How often, while somebody is inside, it is looked whether the registry was edited: nobody gives notice of it when a
command ends half way, or when another program wrote."""
MOST_UNFOLDED = 1_000
"""Transactions after which the state's log is folded back without waiting for the next minute."""
LEAST_USED_KEPT = 100_000
"""Used slots that are kept at least when the oldest windows are retired for good, however few can be used."""


def most_used(keep: int) -> int:
    """How many used slots there may be before all but `keep` of them go: more, so that it need not be each minute."""
    return keep + keep // 4


class Judge:
    """All that a datagram meets between the sockets and the firewall process. It owns the store."""

    def __init__(
        self,
        config: ServerConfig,
        store: Store,
        link: FirewallLink,
        identity: ServerIdentity,
        audit: FirstRecord,
        now: Instant,
        *,
        policy: Policy,
        judge_again: Callable[[Live, Instant], Refused | None] | None = None,
        may_change: MayChange | None = None,
    ) -> None:
        """`judge_again`: what is said to a live session by now; by default, what would be said to its knock.
        `may_change`: when that may be another answer because time has passed.

        Raises StateError, FirewallError, and ConfigError where a list that it names cannot be read.
        """
        self.store = store
        registry = Registry(store)
        witness = Witness.open(config.newest_use_file)
        boot_id = read_boot_id()
        fenced_at_boot_ms = enter_boot(store, witness, boot_id, now.boot_ms)
        self._used = UsedSlots(store, witness)
        self._sources = SourcesOfDevices(store)
        self._delegations = Delegations(store)
        self._users = Users(store)
        self._account = Account(RefusalRing(store), audit)
        self._housekept_ms = now.boot_ms
        max_skew_ms = config.max_skew_s * 1000
        self._membership = Membership(
            registry,
            self._delegations,
            self._users,
            Gate(link, slots=_slots(config), max_skew_ms=max_skew_ms, used=self._used.of_window),
            delegates=config.delegate_slots > 0,
            fenced_at_boot_ms=fenced_at_boot_ms,
            floor_window=self._used.first_window(),
            max_skew_ms=max_skew_ms,
            now=now,
        )
        self._baselines = Baselines(store)
        self._risk = RiskWatch(self._baselines, config.risk, read_lists(config.risk))
        self._approvals = Approvals(Requests(store), config.approval, config.notice_board)
        self._trust = Trust(policy, self._users, self._risk, self._approvals)
        self._rules = _rules(config)
        second_look = SecondLook(self._membership, self._trust, lambda: self._rules)
        self._judge_again = judge_again or second_look
        self._judged_losses = -1
        self.live = LiveSessions(SessionRecord(store, boot_id), link, may_change or second_look.may_change)
        self._handler = KnockHandler(
            membership=self._membership,
            rules=self._rules,
            identity=identity,
            used=self._used,
            sources=self._sources,
            delegations=self._delegations,
            account=self._account,
            trust=self._trust,
            live=self.live,
            leases=link,
            random_bytes=os.urandom,
        )

    @property
    def armed(self) -> int:
        """How many tags are armed and not yet taken."""
        return len(self._membership.gate)

    @property
    def holders(self) -> int:
        """How many keys and invites may knock; those of delegates are not counted besides."""
        return sum(holder.channel is not Channel.DELEGATE for holder in self._membership.holders)

    @property
    def policy_hash(self) -> str:
        """Of the policy that is in force."""
        return self._trust.policy.hash

    @property
    def results(self) -> Mapping[str, int]:
        """What came of the datagrams, by outcome."""
        return self.counts.results

    @property
    def counts(self) -> Counts:
        """What was counted of the datagrams."""
        return self._account.counts

    def handle(self, arrival: Arrival) -> bytes | None:
        """The datagram to answer with, or None for silence."""
        return self._handler.handle(arrival)

    def follow(self, config: ServerConfig, policy: Policy) -> None:
        """Judge by another configuration and policy. What was used and who may knock stay; `keep_up` arms it, and
        `keep_sessions` judges by it who is inside.
        """
        self._rules = _rules(config)
        self._handler.follow(self._rules)
        self._trust.follow(policy)
        self._risk.follow(config.risk, read_lists(config.risk))
        self._approvals.follow(config.approval)
        self._judged_losses = -1
        self._membership.follow(slots=_slots(config), max_skew_ms=config.max_skew_s * 1000)

    def tags_are_gone(self) -> None:
        """The kernel has lost the tags; `keep_up` arms them all."""
        self._membership.tags_are_gone()

    def keep_up(self, now: Instant) -> None:
        """Keep the gate true to the clock and the registry. Raises StateError and FirewallError."""
        self._membership.keep_time(now)
        self._membership.catch_up(now)

    def keep_sessions(self, now: Instant) -> None:
        """Judge again who is inside if there is reason, and let go of what is over. Raises StateError, FirewallError.

        There is reason where somebody's device or key was changed or is gone, and where the time has come; of a device
        that says something else of itself than before, for all that it has open.
        """
        if self._judged_losses != self._membership.losses or self.live.next_due(now) == 0:
            self.reconsider(now)
        elif self.live.has_news:
            self.live.reconsider(lambda live: self._judge_again(live, now), now, news_only=True)
        self.live.keep_up(now)

    def reconsider(self, now: Instant) -> int:
        """Judge everybody inside again, and cut off who would be refused by now; how many sessions that were.

        To be called when anything has changed that a decision rests on. Raises StateError and FirewallError.
        """
        losses = self._membership.losses
        cut = self.live.reconsider(lambda live: self._judge_again(live, now), now)
        self._judged_losses = losses
        return cut

    def next_look_s(self, now: Instant) -> float | None:
        """How long who is inside need not be looked after; None: as long as nobody comes."""
        due_ms = self.live.next_due(now)
        if not len(self.live):
            return None
        if self.live.has_news:
            return 0.0
        return LOOK_EVERY_S if due_ms is None else min(LOOK_EVERY_S, due_ms / 1000)

    def keep_house(self, now: Instant) -> None:
        """Once in a while: forget what is over, and fold the log back. Raises StateError and FirewallError."""
        self.store.check_in_place()
        self._used.settle()
        self.live.keep_house()
        if self.store.unfolded >= MOST_UNFOLDED:
            self.store.checkpoint()
        if now.boot_ms - self._housekept_ms < HOUSEKEEPING_MS:
            return
        self._membership.forget_expired(now)
        keep = max(LEAST_USED_KEPT, self._membership.gate.capacity)
        self._used.prune(keep, most_used(keep))
        self._sources.prune()
        self._baselines.prune(now.wall_s)
        self._delegations.prune()
        self.store.checkpoint()
        self._housekept_ms = now.boot_ms

    def next_renewal_s(self, now: Instant) -> float:
        """How long the gate stays true by itself."""
        return (self._membership.gate.next_renewal_ms(now.wall_ms) - now.wall_ms) / 1000


def _slots(config: ServerConfig) -> Slots:
    return Slots(config.slots, config.delegate_slots)


def _rules(config: ServerConfig) -> Rules:
    return Rules(
        services=config.services,
        max_skew_ms=config.max_skew_s * 1000,
        slots=_slots(config),
        replies=config.replies,
        max_delegation_s=config.max_delegation_s,
    )
