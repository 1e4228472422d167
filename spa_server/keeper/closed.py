"""What closes the ports when the keeper itself cannot start: rules that the unit loads with nft alone.

Kept as a file of the keeper's state, which only a service has. The rules go into a table that stands in for the
perimeter's, admits nobody, and is removed as soon as the perimeter itself stands.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from spa_server.enforce.ruleset import HOLD_TABLES, hold_ruleset
from spa_server.keeper.applied import keep_text
from spa_server.service import Service

CLOSED = "closed.nft"


def save_closed(knock_ports: Sequence[int], services: Sequence[Service]) -> None:
    """Keep the rules for the unit to load. A failure is a warning: the perimeter stands all the same."""
    folder = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if folder:
        name = HOLD_TABLES[0]
        keep_text(Path(folder, CLOSED), f"add table inet {name}\n{hold_ruleset(name, knock_ports, services)}".encode())
