"""A stop-gap for the milliseconds that putting a removed perimeter up again takes: nothing at all comes in meanwhile.

One chain that drops every incoming packet, made over netlink in a fraction of a millisecond. Its table is owned without
`persist`, so the kernel removes it with its socket, after LONGEST_S at the latest, whatever happens: it cannot lock
anybody out. What is dropped is what networks lose anyway, and TCP repeats it. Needs Linux 5.12; before that there is no
stop-gap.

Source: the kernel's include/uapi/linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Iterator

from spa_server.enforce.netlink import KernelError, attribute, nested
from spa_server.enforce.nftset import NFNL_SUBSYS_NFTABLES, NFPROTO_INET, NLM_F_CREATE, nfgenmsg
from spa_server.enforce.table import NFT_MSG_NEWTABLE, NFT_TABLE_F_OWNER, NFTA_TABLE_FLAGS, NFTA_TABLE_NAME, TableSocket

SHUT = "spa-shut"
NFT_MSG_NEWCHAIN = NFNL_SUBSYS_NFTABLES << 8 | 3
NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK, NFTA_CHAIN_POLICY, NFTA_CHAIN_TYPE = 1, 3, 4, 5, 7
NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY = 1, 2
NF_INET_PRE_ROUTING, NF_DROP = 0, 0
LONGEST_S = 10.0
PRIORITY = -400
"""The first of all, with defragmentation."""

_number = struct.Struct("!i")


@contextlib.contextmanager
def nothing_comes_in() -> Iterator[None]:
    """Drop every incoming packet for the time of the block, if the kernel can be made to at once."""
    with TableSocket(SHUT) as nft:
        with contextlib.suppress(KernelError):
            nft.transact([(NFT_MSG_NEWTABLE, NLM_F_CREATE, _table()), (NFT_MSG_NEWCHAIN, NLM_F_CREATE, _chain())])
        # Should loading hang, the table goes with its socket.
        limit = threading.Timer(LONGEST_S, nft.close)
        limit.start()
        try:
            yield
        finally:
            limit.cancel()


def _table() -> bytes:
    flags = attribute(NFTA_TABLE_FLAGS, _number.pack(NFT_TABLE_F_OWNER))
    return nfgenmsg(NFPROTO_INET) + attribute(NFTA_TABLE_NAME, SHUT.encode() + b"\0") + flags


def _chain() -> bytes:
    hook = nested(
        NFTA_CHAIN_HOOK,
        attribute(NFTA_HOOK_HOOKNUM, _number.pack(NF_INET_PRE_ROUTING)),
        attribute(NFTA_HOOK_PRIORITY, _number.pack(PRIORITY)),
    )
    return b"".join(
        (
            nfgenmsg(NFPROTO_INET),
            attribute(NFTA_CHAIN_TABLE, SHUT.encode() + b"\0"),
            attribute(NFTA_CHAIN_NAME, b"all\0"),
            hook,
            attribute(NFTA_CHAIN_POLICY, _number.pack(NF_DROP)),
            attribute(NFTA_CHAIN_TYPE, b"filter\0"),
        )
    )
