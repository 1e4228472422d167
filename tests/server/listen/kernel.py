"""What stands where the kernel would for live sessions: it opens, expires, and takes away; it is asked what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from spa_server.enforce.client import FirewallFailed, Revoked, Standing
from spa_server.remember.sessions import SessionKey
from spa_server.traffic import Traffic


@dataclass(slots=True)
class Kernel:
    """Leases with their ends, and flows, which go on until they are ended."""

    now_ms: int = 0
    ends_ms: dict[SessionKey, int] = field(default_factory=dict)
    flows: dict[SessionKey, int] = field(default_factory=dict)
    fails: bool = False
    beats: int = 0
    finals: list[SessionKey] = field(default_factory=list)

    def is_open(self, key: SessionKey) -> bool:
        return self.ends_ms.get(key, 0) > self.now_ms

    def revoke_leases(self, held: Sequence[SessionKey]) -> Revoked:
        self._work()
        ended = tuple(int(self.is_open(key)) for key in held)
        flows = sum(self.flows.pop(key, 0) for key in held)
        for key in held:
            self.ends_ms.pop(key, None)
        return Revoked(ended, flows)

    def alive(self) -> None:
        self.beats += 1

    def look(self, held: Sequence[SessionKey], *, final: bool) -> tuple[Standing, ...]:
        self._work()
        if final:
            self.finals += held
        return tuple(
            Standing(max(0, self.ends_ms.get(key, 0) - self.now_ms), self.flows.get(key, 0), Traffic(3, 300, 2, 2_000))
            for key in held
        )

    def _work(self) -> None:
        if self.fails:
            raise FirewallFailed("the kernel fails in this test")
