"""This device's posture for a knock: the last look, or a new one where that is too old.

Theory of operation. A look costs some files and a few programs, side by side, for one second at the most (osquery:
three). That is too much for every knock, so a look serves for ten minutes. The first knock after that looks anew before
it asks, for old facts would be refused where a policy wants new ones. While a lease is held nobody waits for a renewal,
so each tells of a new look, osquery's of one a minute. It must not know who is knocked.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spa_client.elapsed import elapsed_s
from spa_client.posture import last
from spa_client.posture.telling import Telling
from spa_client.posture.tree import content

if TYPE_CHECKING:
    from spa_client.posture.cache import Looked
    from spa_client.posture.findings import Findings
    from spa_protocol.posture import Posture

INTERVAL_S = 600
"""How long a look serves."""
HELD_INTERVAL_S = 10
"""The same while a lease is held: less than from one renewal of a usual lease to the next."""
OSQUERY_INTERVAL_S = 60
"""The same for osquery, whose start costs far more."""


def look(telling: Telling) -> Findings:
    """A new look at this very computer. Raises nothing."""
    from spa_client.posture.findings import Findings
    from spa_client.posture.programs import run

    now_s = time.time()
    if telling is Telling.OSQUERY:
        from spa_client.posture import osquery

        return osquery.look(lambda commands: run(commands, osquery.TIMEOUT_S), sys.platform, now_s)
    if sys.platform == "linux":
        from spa_client.posture import linux

        return linux.look(Path("/"), run, os.environ, now_s)
    if sys.platform == "darwin":
        from spa_client.posture import macos

        return macos.look(Path("/"), run, now_s)
    if sys.platform == "win32":
        from spa_client.posture import windows
        from spa_client.posture.windows_machine import ThisMachine

        return windows.look(ThisMachine(), now_s)
    from spa_client.posture.findings import without_system

    return without_system(Findings(), sys.platform)


def _now() -> last.Moment:
    return last.Moment(elapsed_s(), time.time())


@dataclass(frozen=True, slots=True)
class Collector:
    """Tells this device's health. `path`: where looks are kept; None keeps none, and tells nothing.

    `look`: takes a new one.
    """

    path: Path | None
    look: Callable[[Telling], Findings] = look
    now: Callable[[], last.Moment] = _now

    def posture(self, telling: Telling, interval_s: int = INTERVAL_S) -> Posture | None:
        """The facts, of a look at most so many seconds ago; None where nothing is to be told. Raises nothing."""
        path = self._kept(telling)
        if telling is Telling.OFF or path is None:
            return None
        if telling is Telling.OSQUERY:
            interval_s = max(interval_s, OSQUERY_INTERVAL_S)
        now = self.now()
        told = last.posture(content(path) or b"", now)
        if told is not None and told.age_s < interval_s:
            return told
        looked = self.looked(telling, interval_s)
        return looked.findings.posture(looked.age_s)

    def looked(self, telling: Telling, interval_s: int = INTERVAL_S) -> Looked:
        """The last look, or a new one. Telling.OFF looks as ON does, for whoever asks what would be told."""
        from spa_client.posture.cache import Cache, Looked

        cache = Cache(self._kept(telling))
        begun = self.now()
        kept = cache.read(begun)
        if kept is not None and kept.age_s < interval_s:
            return kept
        findings = self._look(telling)
        cache.write(findings, begun)
        # Looking took a moment, and the first fact is as old as that.
        return Looked(findings, max(0, int(self.now().elapsed_s - begun.elapsed_s)))

    def _look(self, telling: Telling) -> Findings:
        try:
            return self.look(telling)
        except Exception:
            # Whatever a system may do to a look, nobody is kept from knocking by it; and nothing is known.
            from spa_client.posture.findings import Findings, without_system

            return without_system(Findings(), sys.platform)

    def _kept(self, telling: Telling) -> Path | None:
        if self.path is None:
            return None
        # One file for each: otherwise a change of the setting would say one source's facts as the other's.
        kind = "osquery" if telling is Telling.OSQUERY else "own"
        return self.path.with_name(f"{self.path.name}-{kind}")
