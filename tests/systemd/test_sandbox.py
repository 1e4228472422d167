"""What each of the two processes can do to the host: read from the kernel, and by trying what must fail."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from spa_server.install.layout import NOTIFIER
from tests.systemd import trying
from tests.systemd.service import KEEPER, SERVER, Service

MOST_EXPOSURE = 1.5
CAP_NET_ADMIN = 1 << 12
CAPABILITIES = {KEEPER: CAP_NET_ADMIN, SERVER: 0}
SECCOMP_FILTER = "2"
UNITS = (KEEPER, SERVER)
WRITABLE = {KEEPER: {"/run/spa/perimeter", "/var/lib/spa-perimeter"}, SERVER: {"/run/spa", "/var/lib/spa"}}
MAY = {KEEPER: {"own state", "netlink", "ruleset"}, SERVER: {"own state", "internet"}}
"""What they can do, of all that is tried."""
LEFT_OUT = ("Type=", "Exec", "Restart", "Watchdog", "FileDescriptorStore", "Before=network-pre", "Wants=", "WantedBy=")
PRIVATE = {"/tmp", "/var/tmp", "/dev", "/dev/shm", "/dev/mqueue", "/dev/hugepages", "/dev/pts"}


@pytest.mark.parametrize("unit", [*UNITS, NOTIFIER])
def test_systemd_finds_the_unit_hardly_exposed(service: Service, unit: str) -> None:
    lines = service.machine.run("systemd-analyze", "security", "--no-pager", unit).stdout.splitlines()
    remaining = [line.split()[1] for line in lines if re.search(r"\d\.\d$", line) and "→" not in line]
    exposure = float(re.search(r"exposure level for \S+ (\d+\.\d)", lines[-1])[1])  # type: ignore[index]
    print(f"\n{unit}: {exposure}; what remains: {' '.join(remaining)}")
    assert exposure <= MOST_EXPOSURE, "\n".join(lines)


@pytest.mark.parametrize("unit", UNITS)
def test_the_live_process_has_no_more_than_it_needs(service: Service, unit: str) -> None:
    status = status_of(service, unit)
    held = {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    print(f"\n{unit}: {held} seccomp {status['Seccomp']} no new privileges {status['NoNewPrivs']}")
    assert all(mask & ~CAPABILITIES[unit] == 0 for mask in held.values()), held
    assert held["CapEff"] == CAPABILITIES[unit]
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == SECCOMP_FILTER
    assert "0" not in status["Uid"].split()
    assert status["Groups"].split() in ([], [status["Gid"].split()[0]])


@pytest.mark.parametrize("unit", UNITS)
def test_nothing_can_be_written_but_its_state_and_its_sockets(service: Service, unit: str) -> None:
    pid = service.machine.main_pid(unit)
    mounts = service.machine.read(f"/proc/{pid}/mountinfo").splitlines()
    writable = {line.split()[4] for line in mounts if "rw" in line.split()[5].split(",")}
    writable -= {place for place in writable if place.startswith("/run/host/")}  # nspawn's own, hidden by another mount
    print(f"\n{unit}: writable are {' '.join(sorted(writable))}")
    # /proc holds the process's own files; what of the kernel's can be set there is mounted read-only over it.
    assert writable - PRIVATE - {"/proc"} == WRITABLE[unit]


@pytest.mark.parametrize("unit", UNITS)
def test_a_program_in_its_place_cannot_write_to_the_host(service: Service, unit: str) -> None:
    """As the process's user, in its mount namespace: every place of the host's is tried."""
    places = [
        "/etc",
        "/usr",
        "/usr/local",
        "/opt/spa",
        "/var",
        "/var/lib",
        "/boot",
        "/root",
        "/home",
        "/run",
        "/srv",
        "/",
    ]
    script = "for place; do touch $place/try 2>/dev/null && echo $place; done; true"
    written = in_place_of(service, unit, "sh", "-c", script, "sh", *places)
    assert written == []
    other = "/var/lib/spa-perimeter" if unit == SERVER else "/var/lib/spa"
    assert in_place_of(service, unit, "sh", "-c", f"ls {other} 2>/dev/null; true") == []
    assert in_place_of(service, unit, "sh", "-c", "cat /etc/spa/server.key /etc/shadow 2>/dev/null; true") == []
    (state,) = (place for place in WRITABLE[unit] if place.startswith("/var"))
    assert in_place_of(service, unit, "sh", "-c", f"touch {state}/try && echo yes && rm {state}/try") == ["yes"]
    program = f"cp /bin/true {state}/try && (PATH= {state}/try && echo ran; rm {state}/try) 2>/dev/null; true"
    assert in_place_of(service, unit, "sh", "-c", program) == []


@pytest.mark.parametrize("unit", UNITS)
def test_a_program_started_in_its_place_can_do_nothing_else(service: Service, unit: str) -> None:
    """The very unit, with another program: all that a taken-over process would try."""
    machine, state = service.machine, next(place for place in WRITABLE[unit] if place.startswith("/var"))
    machine.add(Path(trying.__file__), "/usr/local/lib")
    machine.write(
        f"/run/systemd/system/spa-try-{unit}", trying_unit(machine.read(f"/etc/systemd/system/{unit}"), state)
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", f"spa-try-{unit}")
    outcomes: dict[str, str] = json.loads(machine.read(f"{state}/outcomes.json"))
    machine.run("rm", f"{state}/outcomes.json", f"/run/systemd/system/spa-try-{unit}")
    print(f"\n{unit}: " + ", ".join(f"{name}: {said}" for name, said in outcomes.items()))
    assert set(outcomes) == set(trying.ATTEMPTS)
    assert {name for name, said in outcomes.items() if said == "done"} == MAY[unit]
    machine.run("nft", "delete", "table", "inet", "try", check=False)


@pytest.mark.parametrize("unit", UNITS)
def test_another_process_of_the_same_user_can_neither_trace_nor_read_it(service: Service, unit: str) -> None:
    pid, user = service.machine.main_pid(unit), service.machine.unit(unit, "User")["User"]
    for file in ("mem", "environ", "maps", "fd"):
        done = service.machine.run("ls" if file == "fd" else "cat", f"/proc/{pid}/{file}", user=user, check=False)
        assert "Permission denied" in done.stderr, f"{file}: {done}"
    script = (
        "import ctypes, sys; libc = ctypes.CDLL(None, use_errno=True); "
        f"sys.exit(libc.ptrace(16, {pid}, 0, 0) == 0)"  # PTRACE_ATTACH
    )
    service.machine.run("python3", "-c", script, user=user)


def trying_unit(text: str, state: str) -> str:
    """The unit, in the same sandbox, running `trying` once."""
    lines = [line for line in text.splitlines() if not line.startswith(LEFT_OUT)]
    program = f"ExecStart=/usr/bin/python3 -I /usr/local/lib/trying.py {state}/outcomes.json"
    at = lines.index("[Service]") + 1
    return "\n".join([*lines[:at], "Type=oneshot", program, *lines[at:]]) + "\n"


def status_of(service: Service, unit: str) -> dict[str, str]:
    """/proc/PID/status of the unit's main process."""
    text = service.machine.read(f"/proc/{service.machine.main_pid(unit)}/status")
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def in_place_of(service: Service, unit: str, *argv: str) -> list[str]:
    """Run a program as the unit's user, among the unit's mounts; its lines."""
    machine = service.machine
    user, group = (machine.unit(unit, name)[name] for name in ("User", "Group"))
    become = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs"]
    become += ["--bounding-set=-all", "--inh-caps=-all"]
    return machine.run("nsenter", f"--target={machine.main_pid(unit)}", "--mount", *become, *argv).stdout.split()


def test_the_units_name_the_program_that_was_installed(service: Service) -> None:
    assert Path("/opt/spa/bin/spa-server").name in service.machine.read(f"/etc/systemd/system/{SERVER}")
    warned = service.machine.run("systemd-analyze", "verify", KEEPER, SERVER, check=False)
    assert warned.stderr + warned.stdout == ""
