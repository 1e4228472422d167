"""How long a `spa-server` command takes on a server, and when the leases of a host end: measured so that stalls do not
count against what is measured.
"""

from __future__ import annotations

from spa_server.enforce.leases import list_leases
from spa_server.enforce.nftset import NftSocket
from tests.end_to_end.running import SCRIPTS, RunningServer
from tests.lab import Host
from tests.stalls import Between, timed


def command_s(server: RunningServer, *argv: str) -> float:
    """Run a command; the seconds that it took beyond those that the same program takes to start and do nothing."""
    _, bare = timed(lambda: server.host.run([str(SCRIPTS / "spa-server"), *argv, "--help"]))
    _, done = timed(lambda: server.command(*argv))
    return done.length_s - bare.length_s


def lease_ends(server: RunningServer, host: Host) -> dict[str, Between]:
    """When each lease of a host ends, by address, protocol and port: read from the kernel itself, for that is quick."""
    server.settle()
    with server.host.enter():
        nft = NftSocket()
    with nft:
        leases, at = timed(lambda: list_leases(nft))
    return {
        f"{lease.source} {lease.protocol} {lease.port}": at.later(lease.left_ms / 1000)
        for lease in leases
        if lease.source in (host.ipv4, host.ipv6)
    }


def assert_unmoved(before: dict[str, Between], after: dict[str, Between]) -> None:
    """The same leases, and each may still end at the very moment that it had."""
    assert after.keys() == before.keys()
    for key, end in after.items():
        assert end.can_be(before[key], slack_s=0.05), f"{key} ended {before[key]}, and now {end}"
