"""Real firewalls beside the perimeter: ufw and firewalld of a Debian tree, in the network namespace of a lab's host.

Their files are a layer over the prepared tree (`tests/systemd/prepare`) that ends with the test, so nothing of the
host's own is touched. It must not know pytest, nor what is examined.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType

from tests.lab import Host
from tests.stalls import wait_until

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_HOLD = """
set -eu
mount -t tmpfs -o mode=0755 layer "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
mount -t proc proc "$1/root/proc"
mount -t sysfs sysfs "$1/root/sys"
mount -t tmpfs tmpfs "$1/root/run"
mount -t tmpfs tmpfs "$1/root/tmp"
mount --bind /dev "$1/root/dev"
mkdir -p "$1/root/run/dbus"
echo mounted
exec cat
"""


class Debian:
    """A Debian that is not booted: programs run in it one by one, on the host's network."""

    def __init__(self, host: Host, folder: Path, tree: Path) -> None:
        self._host = host
        self._root = folder / "root"
        argv = ["unshare", "--mount", "sh", "-c", _HOLD, "sh", str(folder), str(tree)]
        self._started: list[subprocess.Popen[bytes]] = []
        self._holder = host.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Debian:
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"mounted\n", "the layer over the Debian tree could not be mounted"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (*self._started, self._holder):
            process.kill()
            process.wait()
        self._host.run(["sh", "-c", 'for pid in $(ip netns pids "$0"); do :; done', self._host.name])
        self._holder.kill()
        self._holder.wait()

    def run(self, command: str, *, check: bool = True) -> str:
        """Run a shell command in it; what it prints."""
        return self._host.run(self._inside("sh", "-c", command), check=check, env={"PATH": _PATH}).stdout

    def start(self, *argv: str) -> None:
        """Start a program that goes on until the end."""
        self._started.append(self._host.popen(self._inside(*argv), env={"PATH": _PATH}, stdout=subprocess.DEVNULL))

    def start_ufw(self) -> None:
        """Enable ufw as an operator does."""
        self.run("ufw --force enable")

    def start_firewalld(self) -> None:
        """Start firewalld on a bus of its own."""
        self.start("dbus-daemon", "--system", "--nofork")
        wait_until(lambda: self.run("test -S /run/dbus/system_bus_socket && echo there", check=False) != "", "the bus")
        self.start("firewalld", "--nofork", "--nopid")
        wait_until(lambda: "running" in self.run("firewall-cmd --state", check=False), "firewalld")

    def _inside(self, *argv: str) -> list[str]:
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "chroot", str(self._root), *argv]


DOCKER_RULES = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 9443 -j DNAT --to-destination 172.17.0.2:80
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
"""
"""What dockerd 20.10.24 (Debian 12's) wrote for `docker run -p 8080:80 -p 9443:80`, as iptables-save printed it."""


def docker_rules(interface: str, address: str, network: str) -> str:
    """The same with another bridge and container."""
    text = DOCKER_RULES.replace("docker0", interface).replace("172.17.0.2", address)
    return text.replace("172.17.0.0/16", network)


LIBVIRT_RULES = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:LIBVIRT_FWI - [0:0]
:LIBVIRT_FWO - [0:0]
:LIBVIRT_FWX - [0:0]
:LIBVIRT_INP - [0:0]
:LIBVIRT_OUT - [0:0]
-A INPUT -j LIBVIRT_INP
-A FORWARD -j LIBVIRT_FWX
-A FORWARD -j LIBVIRT_FWI
-A FORWARD -j LIBVIRT_FWO
-A OUTPUT -j LIBVIRT_OUT
-A LIBVIRT_FWI -d 192.168.122.0/24 -o virbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A LIBVIRT_FWI -o virbr0 -j REJECT --reject-with icmp-port-unreachable
-A LIBVIRT_FWO -s 192.168.122.0/24 -i virbr0 -j ACCEPT
-A LIBVIRT_FWO -i virbr0 -j REJECT --reject-with icmp-port-unreachable
-A LIBVIRT_FWX -i virbr0 -o virbr0 -j ACCEPT
-A LIBVIRT_INP -i virbr0 -p udp -m udp --dport 53 -j ACCEPT
-A LIBVIRT_INP -i virbr0 -p tcp -m tcp --dport 53 -j ACCEPT
-A LIBVIRT_OUT -o virbr0 -p udp -m udp --dport 68 -j ACCEPT
COMMIT
"""
"""What libvirtd 9.0.0 (Debian 12's) wrote for its default network, as iptables-save printed it; shortened by rules for
name and address service."""


def libvirt_rules(interface: str, network: str) -> str:
    """The same with another bridge and network."""
    return LIBVIRT_RULES.replace("virbr0", interface).replace("192.168.122.0/24", network)
