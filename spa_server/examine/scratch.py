"""The configured ruleset, loaded by the real kernel into a network namespace of its own that ends at once.

It shows what this kernel can, and how the perimeter looks when it is whole. The host's own rules are not touched.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from spa_server.enforce.netlink import KernelError
from spa_server.enforce.nft_program import PerimeterError, load
from spa_server.enforce.perimeter import show
from spa_server.enforce.ruleset import TABLE, ruleset
from spa_server.enforce.table import NotOwnable, TableSocket
from spa_server.service import Service

CLONE_NEWNET = 0x40000000


@dataclass(frozen=True, slots=True)
class Trial:
    """How loading went. `tried` is False where no namespace could be made; `refused` is what the kernel said."""

    tried: bool = False
    can_own: bool = False
    refused: str = ""
    text: str = ""
    """The perimeter as nft prints it."""


def try_ruleset(knock_ports: Sequence[int], services: Sequence[Service]) -> Trial:
    """Load it, in a thread of its own: a namespace is a thread's, and this one's ends with it."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(_try, knock_ports, services).result()


def _try(knock_ports: Sequence[int], services: Sequence[Service]) -> Trial:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        return Trial(refused=os.strerror(ctypes.get_errno()))
    can_own = False
    try:
        with TableSocket(TABLE) as table:
            table.own()
            can_own = True
    except (NotOwnable, KernelError):
        load(f"add table inet {TABLE}\n")
    try:
        load(ruleset(knock_ports, services))
        return Trial(tried=True, can_own=can_own, text=show())
    except PerimeterError as error:
        return Trial(tried=True, can_own=can_own, refused=str(error))
