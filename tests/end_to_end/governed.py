"""A server that goes by a policy of the test's. It must not know pytest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.end_to_end.running import NETWORK_USER, RunningServer, open_folder
from tests.lab import Lab

SLOTS = 64


@contextmanager
def governed(lab: Lab, services: str, policy: str) -> Iterator[RunningServer]:
    """It runs while the block does; its policy is in `policy.cedar` in its folder."""
    with open_folder() as folder:
        made = RunningServer(lab, folder, services, slots=SLOTS)
        write(made, services, policy)
        with made:
            yield made


def write(server: RunningServer, services: str, policy: str) -> None:
    """Write its configuration and policy anew; a running server takes them over at a reload."""
    path = server.folder / "policy.cedar"
    path.write_text(policy)
    server.configure(
        services,
        addresses=[str(server.host.ipv4), str(server.host.ipv6)],
        state_folder=str(server.state),
        control_socket=str(server.control_socket),
        user=NETWORK_USER,
        slots=SLOTS,
        policy_file=str(path),
    )
