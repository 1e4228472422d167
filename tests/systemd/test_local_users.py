"""Others on the same host: a user with nothing to do with the service, and a member of its group."""

from __future__ import annotations

import json

import pytest

from tests.end_to_end.laptop import Laptop
from tests.systemd.service import KEEPER, SERVER, Service

STRANGER, OPERATOR = "mallory", "olivia"


@pytest.fixture(scope="module", autouse=True)
def local_users(running_service: Service) -> None:
    """A user without the group, and one with it."""
    running_service.machine.run("useradd", "--create-home", STRANGER)
    running_service.machine.run("useradd", "--create-home", "--groups", "spa", OPERATOR)


@pytest.mark.parametrize("path", ["/run/spa/control.sock", "/run/spa/perimeter/channel", "/run/spa/perimeter/control"])
def test_a_stranger_cannot_talk_to_the_service(service: Service, path: str) -> None:
    assert "Permission" in connecting(service, STRANGER, path)


def test_a_stranger_is_told_in_a_line_that_it_is_not_for_him(service: Service) -> None:
    done = service.command("status", user=STRANGER, check=False)
    assert (done.returncode, len(done.stderr.splitlines()), done.stdout) == (6, 1, ""), done
    assert "Permission denied" in done.stderr


@pytest.mark.parametrize("user", [STRANGER, OPERATOR])
def test_neither_can_read_a_secret(service: Service, alice: Laptop, user: str) -> None:
    secrets = ["/etc/spa/server.key", "/var/lib/spa/state.sqlite3", "/run/credentials/spa-server.service/server.key"]
    for pid in service.pids().values():
        secrets += [f"/proc/{pid}/environ", f"/proc/{pid}/mem"]
    for path in secrets:
        service.machine.run("ls", path)
        done = service.machine.run("cat", path, user=user, check=False)
        assert done.stdout == "", path
        assert "Permission denied" in done.stderr, path


@pytest.mark.parametrize("user", [STRANGER, OPERATOR])
@pytest.mark.parametrize("unit", [KEEPER, SERVER])
def test_neither_can_signal_it_or_have_systemd_do_so(service: Service, user: str, unit: str) -> None:
    pid = service.machine.main_pid(unit)
    assert "not permitted" in service.machine.run("sh", "-c", f"kill -KILL {pid}", user=user, check=False).stderr
    assert service.machine.run("systemctl", "--no-ask-password", "kill", unit, user=user, check=False).returncode != 0
    assert service.machine.run("systemctl", "--no-ask-password", "stop", unit, user=user, check=False).returncode != 0
    assert service.machine.main_pid(unit) == pid


def test_a_member_of_the_group_sees_how_it_is_and_no_secret(service: Service, alice: Laptop) -> None:
    shown = service.json("status", user=OPERATOR)
    assert shown["perimeter"] is True
    assert shown["running"] is True
    told = json.dumps(shown)
    assert "alice" not in told
    secrets = [alice.keys().perimeter.gate_secret, service.machine.read("/etc/spa/server.key").strip().encode()]
    for secret in secrets:
        assert secret.hex() not in told
    assert service.machine.read("/etc/spa/server.key").strip() not in told


@pytest.mark.parametrize("asked", ["reload", "refresh"])
def test_a_member_of_the_group_can_change_nothing(service: Service, asked: str) -> None:
    assert "error" in asking(service, OPERATOR, "/run/spa/control.sock", asked)
    for words in ("invite x --user x --role admin", "lease list", "device list", "why x", "reload"):
        done = service.command(*words.split(), user=OPERATOR, check=False)
        assert (done.returncode, len(done.stderr.splitlines()), done.stdout) == (6, 1, ""), done
        assert "sudo" in done.stderr, "he is told to mend what is not broken"


def test_a_member_of_the_group_cannot_reach_the_firewall_process(service: Service) -> None:
    """The channel's folder is open to the group; who connects is turned away by who it is."""
    assert "Permission" in connecting(service, OPERATOR, "/run/spa/perimeter/control")
    script = (
        "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
        "s.connect('/run/spa/perimeter/channel'); s.settimeout(20); print(s.recv(64))"
    )
    assert service.machine.run("python3", "-c", script, user=OPERATOR).stdout == "b''\n"
    assert service.serves()


def test_nobody_else_can_put_sockets_into_the_places_of_the_service(service: Service) -> None:
    for user in (STRANGER, OPERATOR, "spa"):
        for command in ("mv /run/spa/perimeter /run/spa/other", "rm /run/spa/perimeter/control"):
            assert service.machine.run("sh", "-c", command, user=user, check=False).returncode != 0, (user, command)
    for user in (STRANGER, OPERATOR):
        assert service.machine.run("touch", "/run/spa/try", user=user, check=False).returncode != 0


def connecting(service: Service, user: str, path: str) -> str:
    """What becomes of connecting to a stream socket as that user."""
    script = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    return service.machine.run("python3", "-c", script, path, user=user, check=False).stderr


def asking(service: Service, user: str, path: str, what: str) -> str:
    """What the control socket answers to that user."""
    script = (
        "import json, socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
        "s.sendall(json.dumps({'ask': sys.argv[2]}).encode() + b'\\n'); s.settimeout(20); print(s.recv(65536).decode())"
    )
    return service.machine.run("python3", "-c", script, path, what, user=user).stdout
