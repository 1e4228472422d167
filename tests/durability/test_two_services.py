"""The network process as a service of its own: no capability from the start, and no port or lease lost by its end."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spa_protocol.refusal import Refusal
from spa_server.tell import control
from spa_server.unprivileged import NoPerimeter, reach_perimeter
from tests.durability.test_privileges import CAP_NET_ADMIN, descriptors, status
from tests.durability.two_services import NOBODY, TwoServices
from tests.end_to_end.crafting import Keys
from tests.end_to_end.laptop import KNOCK_PORT, ask_udp, send_udp, udp_socket
from tests.end_to_end.running import WEB, enrolled, open_folder
from tests.lab import Lab
from tests.stalls import PATIENCE_S, wait_until

VAULT = '\n[service.vault]\ntcp = [9443]\nroles = ["admin"]\n'
SLOTS = 64


@pytest.fixture
def services(lab: Lab) -> Iterator[TwoServices]:
    with open_folder() as folder, TwoServices(lab, folder, WEB, slots=SLOTS) as running:
        yield running


@pytest.fixture
def keys(services: TwoServices) -> Keys:
    return enrolled(services.made, services.lab.clients["alice"], "alice-laptop").keys()


def outcome(services: TwoServices, keys: Keys, *names: str) -> Refusal | str:
    request = keys.knock(*(names or ("web",)), lease_s=60)
    reply = ask_udp(services.lab.clients["alice"], request, services.lab.server.ipv4)
    assert reply is not None, "no answer"
    answer = keys.answer(reply, request)
    assert answer is not None
    return answer.refusal or "granted"


def test_the_network_process_never_had_a_capability_and_serves(services: TwoServices, keys: Keys) -> None:
    assert outcome(services, keys) == "granted"
    fields = status(services.network.pid)
    assert [int(uid) for uid in fields["Uid"].split()] == [NOBODY] * 4
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(fields[name], 16) == 0, name
    assert fields["NoNewPrivs"] == "1"
    assert "netlink" not in descriptors(services.network.pid)
    keeper = status(services.keeper.pid)
    assert (int(keeper["CapPrm"], 16), keeper["NoNewPrivs"]) == (CAP_NET_ADMIN, "1")
    assert not any(held.startswith("udp") for held in descriptors(services.keeper.pid))


def test_the_manager_is_told_what_happens(services: TwoServices) -> None:
    assert services.network.has_said(READY="1", STATUS="serving 0 devices and invites, 0 tags armed")
    assert services.network.has_said(FDSTORE="1", FDNAME="knock")
    wait_until(lambda: sum("WATCHDOG" in said for said in services.network.manager.said) >= 3, "the watchdog is fed")
    services.made.configure(WEB, **json.loads(json.dumps(_keys(services))))
    services.network.signal(signal.SIGHUP)
    wait_until(lambda: services.network.has_said(RELOADING="1"), "RELOADING")
    wait_until(lambda: [said for said in services.network.manager.said if "READY" in said][1:] != [], "READY again")
    services.network.signal(signal.SIGTERM)
    wait_until(services.network.has_ended, "the end")
    services.network.manager.hear()
    assert services.network.has_said(STOPPING="1")
    assert services.network.process is not None
    assert services.network.process.returncode == 0


def _keys(services: TwoServices) -> dict[str, object]:
    made = services.made
    return {
        "addresses": [str(made.host.ipv4), str(made.host.ipv6)],
        "state_folder": str(made.state),
        "control_socket": str(made.control_socket),
        "user": "nobody",
        "slots": SLOTS,
    }


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_restart_keeps_the_very_sockets_and_serves_again(
    services: TwoServices, keys: Keys, number: signal.Signals
) -> None:
    assert outcome(services, keys) == "granted"
    before = services.knock_sockets()
    assert len(before) == 2
    services.network.signal(number)
    wait_until(services.network.has_ended, "the end")
    begun_s = time.monotonic()
    # Its sockets live on, the tags do not: nothing is heard, no ICMP error is drawn, and nothing is lost by it.
    request = keys.knock("web")
    assert ask_udp(services.lab.clients["alice"], request, services.lab.server.ipv4, patience_s=0.3) is None
    services.network.start()
    assert outcome(services, keys) == "granted"
    print(f"\nserving again {time.monotonic() - begun_s:.2f} s after the end by {number.name}")
    assert services.knock_sockets() == before
    assert services.made.status()["fault"] == ""


def test_the_knock_port_moves_while_sockets_are_kept(services: TwoServices, keys: Keys) -> None:
    """What does not fit the new configuration is closed, here and at the manager."""
    before = services.knock_sockets()
    services.made.configure(WEB, **{**_keys(services), "knock_port": 40_000})
    services.made.command("reload")
    after = services.knock_sockets()
    assert not set(before) & set(after)
    services.network.manager.hear()
    assert len(services.network.manager.kept["knock"]) == 2
    services.made.configure(WEB, **_keys(services))
    services.network.signal(signal.SIGKILL)
    wait_until(services.network.has_ended, "the end")
    services.network.start()
    assert not {*before, *after} & set(services.knock_sockets())
    assert outcome(services, keys) == "granted"
    services.network.manager.hear()
    assert len(services.network.manager.kept["knock"]) == 2


def test_the_manager_keeps_the_sockets_of_every_knock_port(services: TwoServices, keys: Keys) -> None:
    services.made.configure(WEB, **{**_keys(services), "more_knock_ports": [5000, 40_000]})
    services.made.command("reload")
    before = services.knock_sockets()
    assert len(before) == 6
    services.network.signal(signal.SIGKILL)
    wait_until(services.network.has_ended, "the end")
    services.network.start()
    assert services.knock_sockets() == before
    services.made.configure(WEB, **{**_keys(services), "more_knock_ports": [5000]})
    services.made.command("reload")
    assert len(set(services.knock_sockets()) & set(before)) == 4
    services.network.manager.hear()
    assert len(services.network.manager.kept["knock"]) == 4
    assert outcome(services, keys) == "granted"


def test_when_the_keeper_is_killed_the_network_process_lives_on_and_serves_with_the_next_one(
    services: TwoServices, keys: Keys
) -> None:
    assert outcome(services, keys) == "granted"
    pid = services.network.pid
    services.keeper.signal(signal.SIGKILL)
    wait_until(lambda: "is away" in services.made.status()["fault"], "word of it in the status")
    assert services.made.status()["perimeter"] == {}, "it cannot know how the perimeter stands"
    with services.lab.server.listen_tcp(8443):
        assert services.lab.clients["stranger"].is_kept_out(services.lab.server.ipv4, 8443)
        assert services.lab.clients["alice"].reaches_tcp(services.lab.server.ipv4, 8443), "the lease lives on"
    services.network.manager.said.clear()
    wait_until(lambda: services.network.has_said(WATCHDOG="1"), "the watchdog is fed meanwhile")
    services.keeper.start()
    wait_until(lambda: services.made.status()["fault"] == "", "no fault")
    assert outcome(services, keys) == "granted"
    assert not services.network.has_ended()
    assert services.made.status()["pid"] == pid


def test_a_knock_that_comes_while_the_keeper_is_away_waits_for_the_next_one(services: TwoServices, keys: Keys) -> None:
    alice, to = services.lab.clients["alice"], services.lab.server.ipv4
    services.keeper.signal(signal.SIGKILL)
    wait_until(lambda: "is away" in services.made.status()["fault"], "word of it in the status")
    request = keys.knock("web")
    with udp_socket(alice, to) as sock:
        sock.sendto(request, (str(to), KNOCK_PORT))
        services.keeper.start()
        sock.settimeout(PATIENCE_S)
        answer = keys.answer(sock.recv(2048), request)
    assert answer is not None
    # On a machine that stood still for so long meanwhile it was refused.
    assert answer.refusal is None or services.made.results() == {"kernel_failed": 1}


def test_a_knock_is_refused_when_the_keeper_stays_away(services: TwoServices, keys: Keys) -> None:
    services.keeper.signal(signal.SIGKILL)
    wait_until(lambda: "is away" in services.made.status()["fault"], "word of it in the status")
    request = keys.knock("web")
    reply = ask_udp(services.lab.clients["alice"], request, services.lab.server.ipv4, patience_s=PATIENCE_S)
    assert reply is not None, "no answer"
    answer = keys.answer(reply, request)
    assert answer is not None
    assert answer.refusal is Refusal.KERNEL_FAILED
    services.keeper.start()
    wait_until(lambda: services.made.status()["fault"] == "", "no fault")
    assert ask_udp(services.lab.clients["alice"], request, services.lab.server.ipv4, patience_s=0.3) is None
    assert outcome(services, keys) == "granted"


def test_a_file_that_was_edited_while_the_keeper_was_away_is_gone_by_afterwards(
    services: TwoServices, keys: Keys
) -> None:
    services.keeper.signal(signal.SIGKILL)
    wait_until(lambda: "is away" in services.made.status()["fault"], "word of it in the status")
    services.made.configure(VAULT + WEB, **_keys(services))
    refused = services.made.command("reload", check=False)
    assert refused.returncode == 5
    assert "is away" in refused.stderr
    services.keeper.start()
    wait_until(lambda: services.made.status()["fault"] == "", "no fault")
    assert outcome(services, keys, "web", "vault") == "granted"
    assert {lease["service"] for lease in services.made.leases()} == {"web", "vault"}


def test_whom_root_shuts_out_while_the_keeper_is_away_stays_out(services: TwoServices, keys: Keys) -> None:
    services.keeper.signal(signal.SIGKILL)
    wait_until(lambda: "is away" in services.made.status()["fault"], "word of it in the status")
    services.made.command("device", "disable", "alice-laptop", check=False)
    services.keeper.start()
    wait_until(lambda: services.made.status()["fault"] == "", "no fault")
    assert outcome(services, keys) is Refusal.DEVICE_DISABLED


def test_both_go_by_the_same_file_after_the_network_process_starts(services: TwoServices, keys: Keys) -> None:
    """The keeper had read an older one: it follows."""
    services.made.configure(VAULT + WEB, **_keys(services))
    services.network.signal(signal.SIGTERM)
    wait_until(services.network.has_ended, "the end")
    services.network.start()
    assert outcome(services, keys, "web", "vault") == "granted"


def test_a_perimeter_that_is_taken_down_and_put_up_again_is_armed_again(services: TwoServices, keys: Keys) -> None:
    services.made.command("perimeter", "remove", "--yes")
    assert outcome(services, keys) is Refusal.KERNEL_FAILED
    services.made.command("perimeter", "apply", "--yes")
    begun_s = time.monotonic()
    wait_until(lambda: services.made.status()["fault"] == "", "no fault")
    assert outcome(services, keys) == "granted"
    print(f"\ngranted {time.monotonic() - begun_s:.2f} s after the perimeter was put up again")


def test_a_member_of_the_group_sees_the_status_without_being_root(services: TwoServices, keys: Keys) -> None:
    assert outcome(services, keys) == "granted"
    done = _as_member(services, "status", "--json")
    assert done["code"] == 0, done
    numbers = json.loads(str(done["out"]))
    assert numbers["perimeter"] is True
    assert numbers["running"] is True
    assert numbers["knocks"]["admitted"] >= 1
    assert set(numbers["services"]) == {"web"}
    secrets = (services.made.folder / "server.key").read_text().strip(), keys.perimeter.gate_secret.hex()
    assert not any(secret in str(done["out"]) for secret in secrets)
    refused = _as_member(services, "reload")
    assert refused["code"] == 6
    assert "reload is for root" in str(refused["err"])


def _as_member(services: TwoServices, *argv: str) -> dict[str, object]:
    """A command by a user who is in the server's group and no more."""
    program = (
        "import contextlib, io, json, os, sys\n"
        "from spa_server.commands import run, service\n"
        "from spa_server.tell import control\n"
        f"os.setgroups([{NOBODY}]); os.setresgid(1, 1, 1); os.setresuid(1, 1, 1)\n"
        "out, err = io.StringIO(), io.StringIO()\n"
        "with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):\n"
        "    try:\n"
        "        code = run(sys.argv[1:])\n"
        "    except SystemExit as error:\n"
        "        code = error.code\n"
        "print(json.dumps({'code': code, 'out': out.getvalue(), 'err': err.getvalue()}))\n"
    )
    words = ["python3", "-c", program, *argv, "--config", str(services.made.config)]
    import sys

    words[0] = sys.executable
    said: dict[str, object] = json.loads(services.lab.server.run(words).stdout)
    return said


def test_without_a_keeper_it_is_said_what_to_start(tmp_path: Path) -> None:
    with pytest.raises(NoPerimeter, match="systemctl start spa-perimeter"):
        reach_perimeter(tmp_path / "channel", 0.3)


def test_a_silent_caller_on_the_control_socket_holds_up_no_knock(services: TwoServices, keys: Keys) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(services.made.control_socket))
        silent.sendall(b'{"ask": "sta')
        begun_s = time.monotonic()
        assert outcome(services, keys) == "granted"
        took_s = time.monotonic() - begun_s
        print(f"\ngranted in {took_s * 1000:.1f} ms beside a silent caller")
        # Its patience is not over: had the server waited for it, the knock would have waited, too.
        assert took_s >= control.PATIENCE_S or services.made.status()["results"]["granted"] == 1


def test_a_caller_who_is_hung_up_on_for_another_while_he_speaks_ends_nothing(services: TwoServices) -> None:
    """Both are heard of in the same turn: by then his connection is closed."""
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(control.MOST_CALLERS + 1)]
        for caller in callers[:-1]:
            caller.connect(str(services.made.control_socket))
        services.made.status()  # all have been taken, and the first was hung up on for this one
        callers[0].close()
        fresh = stack.enter_context(socket.socket(socket.AF_UNIX))
        fresh.connect(str(services.made.control_socket))
        services.network.signal(signal.SIGSTOP)
        callers[-1].connect(str(services.made.control_socket))
        for caller in (*callers[1:-1], fresh):
            caller.sendall(b'{"ask": "sta')
        services.network.signal(signal.SIGCONT)
        assert "fault" in services.made.status()
    assert not services.network.has_ended(), services.network.log()


def test_a_stream_of_rubbish_wakes_it_for_nothing(services: TwoServices, keys: Keys) -> None:
    for _ in range(200):
        send_udp(services.lab.clients["stranger"], bytes(512), services.lab.server.ipv4)
    assert outcome(services, keys) == "granted"
    assert services.made.results() == {**services.made.results(), "granted": 1}


def test_a_start_with_a_bad_configuration_goes_by_the_last_good_one_until_it_is_mended(
    services: TwoServices, keys: Keys
) -> None:
    services.network.signal(signal.SIGTERM)
    services.keeper.signal(signal.SIGTERM)
    wait_until(lambda: services.network.has_ended() and services.keeper.has_ended(), "the end of both")
    services.made.config.write_text("[server\n")
    services.keeper.start()
    services.network.start()
    assert outcome(services, keys) == "granted"
    wait_until(lambda: "line 1" in services.made.status()["fault"], "the fault in the status")
    services.made.configure(WEB + VAULT, **_keys(services))
    wait_until(lambda: services.made.status()["fault"] == "", "no fault")
    assert outcome(services, keys, "vault") == "granted"
