"""Leases as the kernel lists them, and taking them back behind the server's back."""

from __future__ import annotations

import json

from tests.lab import Host

_SETS = ("leases4", "leases6")


def take_back_leases(server: Host) -> None:
    """Empty the lease sets, so that any lease seen from now on is a new grant."""
    server.nft("".join(f"flush set inet spa {name}\n" for name in _SETS))


def open_leases(server: Host) -> int:
    """How many elements the lease sets hold now."""
    count = 0
    for name in _SETS:
        listed = json.loads(server.run(["nft", "-j", "list", "set", "inet", "spa", name]).stdout)
        count += sum(len(item["set"].get("elem", ())) for item in listed["nftables"] if "set" in item)
    return count
