"""The faults, each with how to do it and how to mend what a human or the world would mend.

A fault is a generator function: what it does before its `yield` begins it, what follows ends it. For those that mend
themselves nothing follows. `weight` is how often one is chosen beside the others.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.chaos import syscalls
from tests.chaos.site import CONFIG, KEEPER, NETWORK, STATE, Site

Act = Callable[[Site], Iterator[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault. `hold_s`: it lasts a random time up to this."""

    name: str
    act: Act
    weight: int
    hold_s: float = 0.2


FAULTS: list[Fault] = []


def fault(name: str, weight: int, hold_s: float = 0.2) -> Callable[[Act], Act]:
    """Register a fault."""

    def register(act: Act) -> Act:
        FAULTS.append(Fault(name, act, weight, hold_s))
        return act

    return register


def _signal(site: Site, unit: str, number: int) -> None:
    pid = site.pid(unit)
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _nft(site: Site, text: str) -> None:
    """Root changes the firewall by hand; whether the kernel lets it is the kernel's affair."""
    site.lab.server.run(["nft", "-f", "-"], input=text, check=False)


def _ip(site: Site, words: str) -> None:
    site.lab.server.run(["ip", *words.split()])


# Processes ------------------------------------------------------------------------------------------------------------


@fault("network process killed", 14)
def _kill_network(site: Site) -> Iterator[None]:
    _signal(site, NETWORK, signal.SIGKILL)
    yield


@fault("keeper killed", 14)
def _kill_keeper(site: Site) -> Iterator[None]:
    _signal(site, KEEPER, signal.SIGKILL)
    yield


@fault("both killed", 6)
def _kill_both(site: Site) -> Iterator[None]:
    _signal(site, KEEPER, signal.SIGKILL)
    _signal(site, NETWORK, signal.SIGKILL)
    yield


@fault("network process stopped for a while", 6, hold_s=2)
def _stop_network(site: Site) -> Iterator[None]:
    _signal(site, NETWORK, signal.SIGSTOP)
    yield
    _signal(site, NETWORK, signal.SIGCONT)


@fault("keeper stopped for a while", 6, hold_s=2)
def _stop_keeper(site: Site) -> Iterator[None]:
    _signal(site, KEEPER, signal.SIGSTOP)
    yield
    _signal(site, KEEPER, signal.SIGCONT)


def _stopped_for_good(site: Site, unit: str) -> None:
    pid = site.pid(unit)
    _signal(site, unit, signal.SIGSTOP)
    end_s = time.monotonic() + 30
    while pid and site.pid(unit) == pid and time.monotonic() < end_s:
        site.knock()
        time.sleep(0.2)


@fault("network process stuck until the watchdog ends it", 1)
def _stuck_network(site: Site) -> Iterator[None]:
    _stopped_for_good(site, NETWORK)
    yield


@fault("keeper stuck until the watchdog ends it", 1)
def _stuck_keeper(site: Site) -> Iterator[None]:
    _stopped_for_good(site, KEEPER)
    yield


@fault("server restarted", 4)
def _restart_network(site: Site) -> Iterator[None]:
    site.machine.run("systemctl", "restart", NETWORK)
    yield


@fault("keeper restarted", 4)
def _restart_keeper(site: Site) -> Iterator[None]:
    site.machine.run("systemctl", "restart", KEEPER)
    yield


@fault("channel between the two closed", 6)
def _close_channel(site: Site) -> Iterator[None]:
    syscalls.shut_channel(site.pid(site.rng.choice((KEEPER, NETWORK))))
    yield


@fault("memory limit hit", 4, hold_s=1)
def _memory(site: Site) -> Iterator[None]:
    pid, most_bytes = site.pid(site.rng.choice((KEEPER, NETWORK))), site.rng.choice((1 << 16, 1 << 18))
    if not pid:
        yield
        return
    with syscalls.memory_limited(pid, most_bytes):
        # Knocks take no new memory; reading the whole configuration again does.
        site.machine.run("/opt/spa/bin/spa-server", "reload", check=False)
        yield


# The kernel -----------------------------------------------------------------------------------------------------------


@fault("netlink requests fail", 6, hold_s=0.5)
def _netlink_send(site: Site) -> Iterator[None]:
    error = site.rng.choice(("ENOBUFS", "ENOMEM", "EPERM", "EIO"))
    with syscalls.failing(site.pid(KEEPER), "sendto", error, site.rng.choice(("1", "1+2", "1+1"))):
        yield


@fault("netlink answers fail", 6, hold_s=0.5)
def _netlink_receive(site: Site) -> Iterator[None]:
    with syscalls.failing(site.pid(KEEPER), "recvfrom", "ENOBUFS", site.rng.choice(("1", "1+2", "2+3"))):
        yield


@fault("kernel's answers lost", 4)
def _stolen(site: Site) -> Iterator[None]:
    site.knock()
    syscalls.steal_answers(site.pid(KEEPER), 0.1)
    yield


@fault("ruleset flushed", 8)
def _flush(site: Site) -> Iterator[None]:
    _nft(site, "flush ruleset\n")
    yield


@fault("table deleted", 8)
def _delete_table(site: Site) -> Iterator[None]:
    _nft(site, "delete table inet spa\n")
    yield


@fault("chains emptied and a lease put in by hand", 6)
def _edit_table(site: Site) -> Iterator[None]:
    _nft(site, "flush chain inet spa services\n")
    stranger, server = site.lab.clients["stranger"].ipv4, site.lab.server.ipv4
    _nft(site, f"add element inet spa leases4 {{ {stranger} . {server} . tcp . 8443 timeout 60s }}\n")
    yield


@fault("keeper killed, then ruleset flushed at once", 8)
def _kill_and_flush(site: Site) -> Iterator[None]:
    _signal(site, KEEPER, signal.SIGKILL)
    _nft(site, "flush ruleset\n")
    yield
    _nft(site, "delete table inet spa\n")


# Files ----------------------------------------------------------------------------------------------------------------


@fault("disk full", 8, hold_s=1)
def _disk_full(site: Site) -> Iterator[None]:
    site.machine.run("sh", "-c", f"head -c 256M /dev/zero >{STATE}/fill", check=False)
    yield
    site.machine.run("rm", "-f", f"{STATE}/fill")


@fault("disk full while the server restarts", 3, hold_s=1)
def _disk_full_at_start(site: Site) -> Iterator[None]:
    site.machine.run("sh", "-c", f"head -c 256M /dev/zero >{STATE}/fill", check=False)
    _signal(site, NETWORK, signal.SIGKILL)
    yield
    site.machine.run("rm", "-f", f"{STATE}/fill")


@fault("state file deleted", 3, hold_s=1)
def _state_gone(site: Site) -> Iterator[None]:
    site.machine.run("sh", "-c", f"mkdir -p {STATE}/gone && mv {STATE}/state.sqlite3* {STATE}/gone")
    if site.rng.random() < 0.5:
        _signal(site, NETWORK, signal.SIGKILL)
    yield
    site.machine.run("sh", "-c", f"mv {STATE}/gone/* {STATE}; rmdir {STATE}/gone", check=False)


@fault("state file corrupted", 3, hold_s=1)
def _state_corrupt(site: Site) -> Iterator[None]:
    site.machine.run("systemctl", "stop", NETWORK)
    site.machine.run("sh", "-c", f"cp -p {STATE}/state.sqlite3 /root/good.sqlite3")
    at = site.rng.randrange(2, 8)
    site.machine.run(
        "sh", "-c", f"dd if=/dev/urandom of={STATE}/state.sqlite3 bs=4096 seek={at} count=2 conv=notrunc status=none"
    )
    site.machine.run("systemctl", "start", "--no-block", NETWORK)
    yield
    site.machine.run("systemctl", "stop", NETWORK)
    site.machine.run("sh", "-c", f"rm -f {STATE}/state.sqlite3*; cp -p /root/good.sqlite3 {STATE}/state.sqlite3")
    site.machine.run("systemctl", "start", NETWORK)


@fault("bad configuration, reloaded", 4)
def _bad_reload(site: Site) -> Iterator[None]:
    good = site.text_of_configuration()
    site.machine.write(CONFIG, site.rng.choice(("nonsense = [", good + "\n[service.Bad]\ntcp = [0]\n")))
    done = site.machine.run("/opt/spa/bin/spa-server", "reload", check=False)
    assert done.returncode, "a bad configuration was taken"
    yield
    site.machine.write(CONFIG, good)


@fault("bad configuration while both restart", 3, hold_s=1)
def _bad_start(site: Site) -> Iterator[None]:
    good = site.text_of_configuration()
    site.machine.write(CONFIG, "nonsense = [")
    _signal(site, KEEPER, signal.SIGKILL)
    _signal(site, NETWORK, signal.SIGKILL)
    yield
    site.machine.write(CONFIG, good)


@fault("another service and back, reloaded", 4)
def _good_reload(site: Site) -> Iterator[None]:
    good = site.text_of_configuration()
    site.machine.write(CONFIG, good + '\n[service.other]\ntcp = [9000]\nroles = ["admin"]\n')
    site.machine.run("/opt/spa/bin/spa-server", "reload", check=False)
    yield
    site.machine.write(CONFIG, good)
    site.machine.run("/opt/spa/bin/spa-server", "reload", check=False)


# The clock ------------------------------------------------------------------------------------------------------------


@fault("clock stepped by hours and back", 6, hold_s=1)
def _step_clock(site: Site) -> Iterator[None]:
    site.clock.is_off_by(site.rng.choice((-1, 1)) * site.rng.uniform(60, 12 * 3600), site.pid(NETWORK))
    yield
    site.clock.is_off_by(0, site.pid(NETWORK))


@fault("clock stepped by hours and back, with a restart meanwhile", 3, hold_s=1)
def _restart_by_a_wrong_clock(site: Site) -> Iterator[None]:
    site.clock.is_off_by(site.rng.choice((-1, 1)) * site.rng.uniform(60, 12 * 3600), site.pid(NETWORK))
    _signal(site, site.rng.choice((KEEPER, NETWORK)), signal.SIGKILL)
    yield
    site.clock.is_off_by(0, site.pid(NETWORK))


# The network ----------------------------------------------------------------------------------------------------------


def _restore_link(site: Site) -> None:
    _ip(site, "link set eth0 up")
    _ip(site, f"-6 address replace {site.lab.server.ipv6}/64 dev eth0 nodad")


@fault("interface down and up", 6, hold_s=0.5)
def _link_down(site: Site) -> Iterator[None]:
    _ip(site, "link set eth0 down")
    yield
    _restore_link(site)


@fault("interface renamed", 4)
def _link_renamed(site: Site) -> Iterator[None]:
    _ip(site, "link set eth0 down")
    _ip(site, "link set eth0 name other0")
    _ip(site, "link set other0 up")
    yield
    _ip(site, "link set other0 down")
    _ip(site, "link set other0 name eth0")
    _restore_link(site)


@fault("address removed and added", 4, hold_s=0.5)
def _address(site: Site) -> Iterator[None]:
    _ip(site, f"address del {site.lab.server.ipv4}/24 dev eth0")
    _ip(site, f"-6 address del {site.lab.server.ipv6}/64 dev eth0")
    yield
    _ip(site, f"address add {site.lab.server.ipv4}/24 dev eth0")
    _ip(site, f"-6 address add {site.lab.server.ipv6}/64 dev eth0 nodad")


# Other firewalls ------------------------------------------------------------------------------------------------------


@fault("nftables restarted", 2)
def _nftables(site: Site) -> Iterator[None]:
    site.machine.run("systemctl", "restart", "nftables", check=False)
    yield
    site.machine.run("systemctl", "stop", "nftables", check=False)


@fault("ufw switched on and off", 1)
def _ufw(site: Site) -> Iterator[None]:
    site.machine.run("ufw", "--force", "enable", check=False)
    yield
    site.machine.run("ufw", "--force", "disable", check=False)
    _nft(site, "delete table ip filter\n")
    _nft(site, "delete table ip6 filter\n")
