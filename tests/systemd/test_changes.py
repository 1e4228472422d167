"""A new configuration, and a new version, under a service that is in use."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.laptop import Laptop
from tests.stalls import wait_until
from tests.systemd.installing import install_wheel
from tests.systemd.probing import Prober
from tests.systemd.service import KEEPER, OPEN_PORT, PORT, SERVER, SERVICE_TOML, Knocker, Service
from tests.systemd.talking import Session, listening

EXTRA_PORT = 9443
FEWEST_KNOCKS = 24
EXTRA_TOML = f"""
[service.extra]
tcp = [{EXTRA_PORT}]
roles = ["admin"]
"""
BAD_TOML = """
[service.broken]
tcp = ["from 1 to 5"]
"""


@pytest.fixture
def inside(service: Service, alice: Laptop) -> Iterator[Session]:
    """A session of alice's, which must live through whatever the test does."""
    with listening(service.host, PORT, OPEN_PORT):
        alice.client("knock", "office", "web", "--for", "120", check=True)
        session = Session(alice.host, service.host, PORT)
        yield session
        session.end()
        assert session.echoes > 0


@pytest.mark.parametrize(
    "command", [("systemctl", "reload", SERVER), ("/opt/spa/bin/spa-server", "reload")], ids=" ".join
)
def test_a_good_configuration_is_taken_over_whole(
    service: Service, alice: Laptop, inside: Session, command: tuple[str, ...]
) -> None:
    stranger, pids, leases = service.lab.clients["stranger"], service.pids(), len(service.leases())
    with listening(service.host, EXTRA_PORT):
        assert stranger.reaches_tcp(service.host.ipv4, EXTRA_PORT)
        service.configure(SERVICE_TOML + EXTRA_TOML)
        service.machine.run(*command)
        assert stranger.is_kept_out(service.host.ipv4, EXTRA_PORT)
        assert len(service.leases()) == leases
        alice.client("knock", "office", "extra", check=True)
        assert alice.host.reaches_tcp(service.host.ipv4, EXTRA_PORT)
    assert service.pids() == pids


@pytest.mark.parametrize(
    "command", [("systemctl", "reload", SERVER), ("/opt/spa/bin/spa-server", "reload")], ids=" ".join
)
def test_a_bad_configuration_changes_nothing_and_says_why(
    service: Service, bob: Laptop, inside: Session, command: tuple[str, ...]
) -> None:
    before, pids = service.host.run(["nft", "--stateless", "list", "chains"]).stdout, service.pids()
    service.configure(SERVICE_TOML + EXTRA_TOML + BAD_TOML)
    done = service.machine.run(*command, check=False)
    assert done.returncode != 0
    said = done.stderr + service.log()
    assert "service.broken.tcp" in said
    assert "service.broken.roles" in said, "not every fault is named"
    assert service.host.run(["nft", "--stateless", "list", "chains"]).stdout == before
    assert service.pids() == pids
    bob.client("knock", "office", check=True)


def test_the_perimeter_is_put_up_at_a_start_though_the_configuration_is_bad(service: Service) -> None:
    """The keeper takes the last good one; nobody can knock until the file is mended, and then nobody has to help."""
    stranger = service.lab.clients["stranger"]
    with listening(service.host, PORT, OPEN_PORT), Prober(stranger, service.host, PORT, OPEN_PORT) as prober:
        service.configure(BAD_TOML)
        service.machine.run("systemctl", "kill", "--signal=KILL", KEEPER, SERVER)
        service.host.nft("flush ruleset\n")
        service.wait_for_log("the last good configuration")
        service.configure()
        service.wait_until_it_serves()
    print(f"\nthrough a start with a bad configuration: {prober.seen}")
    assert prober.seen.answered == 0, prober.seen.first_answer
    assert prober.seen.control > 0


@pytest.mark.timeout(300)
def test_an_upgrade_and_restarts_lose_no_session_and_no_knock(
    service: Service, inside: Session, bob: Laptop, wheel: Path
) -> None:
    """The whole of it under load: clients knock one after the other, a session talks, a stranger probes."""
    laptops = [
        service.enrolled(service.lab.clients["neighbour"], f"{name}-laptop") for name in ("carol", "dave", "erin")
    ]
    stranger = service.lab.clients["stranger"]
    with Prober(stranger, service.host, PORT, OPEN_PORT) as prober, knocking([bob, *laptops]) as knocks:
        pids = service.pids()
        begun_s = time.monotonic()
        install_wheel(service.machine, wheel)
        service.install()
        assert service.pids()[SERVER] != pids[SERVER], "the upgrade was not taken into use"
        for unit in (SERVER, KEEPER, SERVER):
            service.machine.run("systemctl", "restart", unit)
        service.wait_until_it_serves()
        took_s = time.monotonic() - begun_s
        wait_until(lambda: len(knocks) >= FEWEST_KNOCKS, f"{FEWEST_KNOCKS} knocks", 120)
    longest_s = max(each_s for each_s, _ in knocks)
    failed = [said for _, said in knocks if said]
    print(
        f"\nupgrade and 3 restarts in {took_s:.1f} s: {len(knocks)} knocks, {len(failed)} failed, longest "
        f"{longest_s:.2f} s; "
        f"{inside.echoes} echoes in the session; {prober.seen}"
    )
    assert failed == []
    assert prober.seen.answered == 0, prober.seen.first_answer
    with Knocker(bob, service.host) as knocker:
        knocker.knock_until_granted()


@contextmanager
def knocking(laptops: list[Laptop]) -> Iterator[list[tuple[float, str]]]:
    """Each laptop knocks again and again, as its user would; how long each knock took, and what failed of it."""
    knocks: list[tuple[float, str]] = []
    stop = threading.Event()

    def knock(laptop: Laptop) -> None:
        while not stop.is_set():
            begun_s = time.monotonic()
            done = laptop.client("knock", "office", "--timeout", "30")
            knocks.append((time.monotonic() - begun_s, done.stderr if done.returncode else ""))
            stop.wait(0.3)

    threads = [threading.Thread(target=knock, args=(laptop,), daemon=True) for laptop in laptops]
    with ExitStack() as stack:
        for thread in threads:
            stack.callback(thread.join)
            thread.start()
        stack.callback(stop.set)
        yield knocks
