"""One nftables table as a whole: whether it stands, who owns it, what is in it by name, taking it away.

An owned table can be changed by its owner's socket only: `nft flush ruleset` passes it over. With `persist` it also
outlives that socket, as an orphan that anyone may change or own anew. It must not know what the rules say.

Sources: the kernel's include/uapi/linux/netfilter/nf_tables.h, net/netfilter/nf_tables_api.c. `owner` is there since
Linux 5.12, `persist` since 6.9; a table that was made without `persist` cannot get it later (seen on 6.18).
"""

from __future__ import annotations

import errno
import struct
from collections import Counter
from dataclasses import dataclass

from spa_server.enforce.netlink import KernelError, attribute, attributes
from spa_server.enforce.nft_program import NotPermitted, PerimeterError
from spa_server.enforce.nftset import NFNL_SUBSYS_NFTABLES, NFPROTO_INET, NLM_F_CREATE, NftSocket, nfgenmsg

NFT_MSG_NEWTABLE, NFT_MSG_GETTABLE, NFT_MSG_DELTABLE = (NFNL_SUBSYS_NFTABLES << 8 | kind for kind in (0, 1, 2))
NFT_MSG_GETCHAIN, NFT_MSG_GETRULE = (NFNL_SUBSYS_NFTABLES << 8 | kind for kind in (4, 7))
NFT_MSG_GETSET, NFT_MSG_GETOBJ = (NFNL_SUBSYS_NFTABLES << 8 | kind for kind in (10, 19))
NFTA_TABLE_NAME, NFTA_TABLE_FLAGS, NFTA_TABLE_OWNER = 1, 2, 7
NFT_TABLE_F_OWNER, NFT_TABLE_F_PERSIST = 2, 4
NFTA_CHAIN_NAME, NFTA_RULE_CHAIN, NFTA_SET_NAME = 3, 2, 2
NFTA_ANY_TABLE = 1
"""The attribute that names the table is the same for chains, rules, sets and objects."""
NFTA_OBJ_NAME, NFTA_OBJ_TYPE, NFTA_OBJ_DATA = 2, 3, 4
NFT_OBJECT_COUNTER = 1
NFTA_COUNTER_BYTES, NFTA_COUNTER_PACKETS = 1, 2


class NotOwnable(Exception):
    """This kernel, or the table as it was made, has no ownership that outlives its owner."""


class OwnedElsewhere(PerimeterError):
    """Another process owns the table, so only that one can change it."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"table inet {table} is owned by another process: ask that one, or stop it "
            "(systemctl stop spa-server spa-perimeter)"
        )


@dataclass(frozen=True, slots=True)
class TableState:
    """How a table stands: its flags, and the netlink port of the socket that owns it (0 for none)."""

    flags: int
    owner_port: int

    @property
    def is_orphan(self) -> bool:
        return self.flags & NFT_TABLE_F_PERSIST != 0 and not self.owner_port


class TableSocket(NftSocket):
    """A socket for one table, and, after `own`, the only one through which it can be changed."""

    def state(self) -> TableState | None:
        """How the table stands; None when there is none. Raises NotPermitted."""
        name = attribute(NFTA_TABLE_NAME, self.table.encode() + b"\0")
        try:
            replies = self.netlink.ask(NFT_MSG_GETTABLE, nfgenmsg(NFPROTO_INET) + name, "looking for the table")
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return None
            if error.errno == errno.EPERM:
                raise NotPermitted from error
            raise
        found = attributes(replies[0].payload[4:]) if replies else {}
        return TableState(_whole(found.get(NFTA_TABLE_FLAGS)), _whole(found.get(NFTA_TABLE_OWNER)))

    def own(self) -> None:
        """Make the table, or adopt the orphan that is there, or go on owning it.

        Raises NotOwnable or OwnedElsewhere; nothing is changed then.
        """
        flags = struct.pack("!I", NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST)
        try:
            self.transact([(NFT_MSG_NEWTABLE, NLM_F_CREATE, self._name() + attribute(NFTA_TABLE_FLAGS, flags))])
        except KernelError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                raise NotOwnable(str(error)) from error
            if error.errno == errno.EPERM and (state := self.state()) and state.owner_port:
                raise OwnedElsewhere(self.table) from error
            raise

    def owns(self) -> bool:
        """Whether this very socket owns the table now."""
        state = self.state()
        return state is not None and state.owner_port == self.netlink.port & 0xFFFFFFFF

    def delete(self) -> bool:
        """Take the table away with all that is in it; whether there was one. Raises OwnedElsewhere."""
        try:
            self.transact([(NFT_MSG_DELTABLE, 0, self._name())])
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return False
            if error.errno == errno.EPERM and (state := self.state()) and state.owner_port:
                raise OwnedElsewhere(self.table) from error
            raise
        return True

    def chains(self) -> frozenset[str]:
        """The names of its chains."""
        return frozenset(self._names(NFT_MSG_GETCHAIN, NFTA_CHAIN_NAME))

    def sets(self) -> frozenset[str]:
        """The names of its sets and maps, those included that nft made for rules (`__set0`)."""
        return frozenset(self._names(NFT_MSG_GETSET, NFTA_SET_NAME))

    def rules(self) -> Counter[str]:
        """How many rules each chain has."""
        return Counter(self._names(NFT_MSG_GETRULE, NFTA_RULE_CHAIN))

    def counters(self) -> dict[str, tuple[int, int]]:
        """Packets and bytes of each named counter."""
        found = {}
        for listed in self._dumped(NFT_MSG_GETOBJ):
            if _whole(listed.get(NFTA_OBJ_TYPE)) == NFT_OBJECT_COUNTER:
                data = attributes(listed.get(NFTA_OBJ_DATA, b""))
                counts = (_whole(data.get(NFTA_COUNTER_PACKETS)), _whole(data.get(NFTA_COUNTER_BYTES)))
                found[_text(listed.get(NFTA_OBJ_NAME))] = counts
        return found

    def _names(self, kind: int, name: int) -> list[str]:
        return [_text(listed.get(name)) for listed in self._dumped(kind)]

    def _dumped(self, kind: int) -> list[dict[int, bytes]]:
        """Everything of one kind in this table. A kernel that does not filter lists other tables' too."""
        try:
            replies = self.netlink.dump(kind, self._name(), f"listing table inet {self.table}")
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return []
            raise
        found = (attributes(reply.payload[4:]) for reply in replies if reply.payload[:1] == bytes([NFPROTO_INET]))
        return [each for each in found if _text(each.get(NFTA_ANY_TABLE)) == self.table]

    def _name(self) -> bytes:
        return nfgenmsg(NFPROTO_INET) + attribute(NFTA_TABLE_NAME, self.table.encode() + b"\0")


def _text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode(errors="replace")


def _whole(value: bytes | None) -> int:
    return int.from_bytes(value or b"", "big")
