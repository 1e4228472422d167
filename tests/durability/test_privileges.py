"""Who the two processes are, from /proc, and what they therefore cannot do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.durability.conftest import Site

NOBODY = 65534
CAP_NET_ADMIN = 1 << 12


@pytest.fixture
def site(module_site: Site) -> Site:
    """One for all: nothing here changes it."""
    return module_site


def status(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def descriptors(pid: int) -> list[str]:
    """What each open descriptor beyond 0, 1 and 2 is: a path, or the kind of socket and its local port."""
    kinds = socket_kinds(pid)
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if int(entry.name) > 2:
            target = str(entry.readlink())
            inode = re.fullmatch(r"socket:\[(\d+)\]", target)
            found.append(kinds.get(inode[1], "socket of an unknown kind") if inode else target)
    return sorted(found)


def socket_kinds(pid: int) -> dict[str, str]:
    """Inode to kind, for every socket of the process's network namespace (proc_net(5))."""
    net = Path(f"/proc/{pid}/net")
    kinds: dict[str, str] = {}
    for name in ("udp", "udp6", "tcp", "tcp6", "raw", "raw6"):
        for line in (net / name).read_text().splitlines()[1:]:
            fields = line.split()
            kinds[fields[9]] = f"{name} {int(fields[1].rpartition(':')[2], 16)}"
    for line in (net / "netlink").read_text().splitlines()[1:]:
        kinds[line.split()[9]] = "netlink"
    for line in (net / "packet").read_text().splitlines()[1:]:
        kinds[line.split()[8]] = "packet"
    for line in (net / "unix").read_text().splitlines()[1:]:
        fields = line.split()
        kind = {1: "stream", 2: "datagram", 5: "seqpacket"}[int(fields[4], 16)]
        path = f" {Path(fields[7]).name}" if len(fields) > 7 else ""
        kinds[fields[6]] = f"unix {kind}{path}"
    return kinds


def test_the_network_process_is_nobody_and_can_do_nothing(site: Site) -> None:
    fields = status(site.server.network_pid)
    assert [int(uid) for uid in fields["Uid"].split()] == [NOBODY] * 4
    assert [int(gid) for gid in fields["Gid"].split()] == [NOBODY] * 4
    assert fields["Groups"] == ""
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == 0, name
    assert fields["NoNewPrivs"] == "1"


def test_the_firewall_process_has_one_capability(site: Site) -> None:
    fields = status(site.server.firewall_pid)
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(fields[name], 16) == CAP_NET_ADMIN, name
    for name in ("CapInh", "CapAmb"):
        assert int(fields[name], 16) == 0, name
    assert fields["Groups"] == ""
    assert fields["NoNewPrivs"] == "1"


def test_the_network_process_holds_its_own_sockets_and_its_state_and_nothing_else(site: Site) -> None:
    port = site.server.knock_port
    names = ("state.sqlite3", "state.sqlite3-wal", "state.sqlite3-shm", "audit.jsonl", "audit.jsonl.lock")
    files = {str(site.server.state / name) for name in names} | {str(site.server.folder / "run" / "newest-use")}
    held = descriptors(site.server.network_pid)
    own = [
        "anon_inode:[eventpoll]",
        "anon_inode:[timerfd]",
        f"udp {port}",
        f"udp6 {port}",
        "unix seqpacket",
        "unix stream",
        "unix stream",
        "unix stream control.sock",
    ]
    assert sorted(held) == sorted([*own, *files]), "the unnamed stream pair wakes it for signals"


def test_the_firewall_process_reads_nothing_from_the_network(site: Site) -> None:
    signals = ["unix stream"] * 2
    orders = "unix stream control"
    netlink = ["netlink"] * 2  # the table's, and the one by which the kernel tells of connections that have ended
    own = ["anon_inode:[eventpoll]", *netlink, "unix seqpacket", *signals, orders]
    assert descriptors(site.server.firewall_pid) == own


def test_both_stand_apart_from_debuggers_and_leave_no_core(site: Site) -> None:
    """Not dumpable: the files of the process in /proc belong to root, whoever the process is (prctl(2))."""
    for pid in site.server.pids:
        assert Path(f"/proc/{pid}/environ").stat().st_uid == 0


def as_network_user(site: Site, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program on the server as the network process's user, without capabilities or other groups."""
    drop = [
        "setpriv",
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        "--no-new-privs",
        "--bounding-set=-all",
    ]
    return site.lab.server.run([*drop, *argv], check=False)


@pytest.mark.parametrize(
    "command",
    [
        "delete table inet spa",
        "flush set inet spa tags",
        "add element inet spa leases4 { 192.0.2.1 . 198.51.100.1 . tcp . 8443 timeout 60s }",
        "list ruleset",
    ],
)
def test_the_network_processs_user_cannot_touch_the_firewall(site: Site, command: str) -> None:
    done = as_network_user(site, "nft", command)
    assert done.returncode != 0
    assert "Operation not permitted" in done.stderr
    site.lab.server.run(["nft", "list", "table", "inet", "spa"])
    assert site.watch.new() == 0


def test_the_network_processs_user_cannot_change_the_configuration(site: Site) -> None:
    before = site.server.config.read_bytes()
    for script in (f"echo >> {site.server.config}", f"rm -f {site.server.config}", f"mv {site.server.config} /tmp/"):
        assert as_network_user(site, "sh", "-c", script).returncode != 0
    assert site.server.config.read_bytes() == before


def test_other_users_can_read_neither_the_state_nor_the_key_and_use_no_socket(site: Site) -> None:
    assert site.server.state.stat().st_mode & 0o777 == 0o700
    for file in site.server.state.iterdir():
        assert file.stat().st_mode & 0o007 == 0, file
    key = (site.server.folder / "server.key").stat()
    assert (key.st_mode & 0o777, key.st_uid) == (0o600, 0)
    control = site.server.control_socket.stat()
    assert (control.st_mode & 0o777, control.st_uid, control.st_gid) == (0o660, 0, NOBODY), "for root and the group"
    orders = (site.server.control_socket.parent / "perimeter" / "control").stat()
    assert (orders.st_mode & 0o777, orders.st_uid) == (0o600, 0), "for root"


def test_the_network_processs_user_cannot_change_the_network(site: Site) -> None:
    done = as_network_user(site, "ip", "address", "add", "198.51.100.99/24", "dev", "eth0")
    assert done.returncode != 0
    assert "Operation not permitted" in done.stderr
