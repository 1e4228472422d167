"""Two servers and one laptop, a thousand devices on one server, and keys that are changed while they are in use."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spa_protocol.refusal import Refusal
from tests.end_to_end.crafting import Keys
from tests.end_to_end.crowd import enrol_crowd, send_all
from tests.end_to_end.pace import command_s, lease_ends
from tests.end_to_end.running import Laptop, RunningServer, ask_udp, enrolled, open_folder
from tests.lab import Address, Host, Lab
from tests.stalls import ATTEMPTS, TooLate, in_time, promptly, timed

CROWD = 1000


@pytest.fixture
def second(lab: Lab) -> Iterator[RunningServer]:
    """Another server, on the host that is otherwise the stranger."""
    with open_folder() as folder, RunningServer(lab, folder, host=lab.clients["stranger"]) as running:
        yield running


def test_a_laptop_that_joined_two_servers_opens_each_by_its_own_knock_only(
    server: RunningServer, second: RunningServer, alice: Laptop, lab: Lab
) -> None:
    alice.join(second.invite("alice-laptop"), name="lab")
    assert alice.client("list").stdout.count("as alice-laptop") == 2
    alice.client("knock", "office", check=True)
    assert (len(server.leases()), len(second.leases())) == (4, 0)
    alice.client("knock", "lab", check=True)
    assert (len(server.leases()), len(second.leases())) == (4, 4)


def test_a_knock_for_one_server_is_void_at_another(
    server: RunningServer, second: RunningServer, alice: Laptop, lab: Lab
) -> None:
    alice.join(second.invite("alice-laptop"), name="lab")
    datagram = alice.keys("office").knock("web")
    admitted = second.counter("knock_admitted")
    assert send_all(second, alice.host, [datagram], second.host.ipv4) == {}
    assert second.counter("knock_admitted") == admitted
    assert send_all(server, alice.host, [datagram], server.host.ipv4) == {"granted": 1}


def test_with_the_same_keys_at_both_servers_a_knock_still_opens_only_the_one_it_is_for(
    server: RunningServer, second: RunningServer, lab: Lab
) -> None:
    """The worst case: an operator moved the registry, gate secrets included, to a second server."""
    (keys,) = enrol_crowd(server, 1, "moved")
    exported = server.command("device", "export").stdout
    second.command("device", "import", "-", input=exported)
    datagram = keys.knock("web", slot=3)
    # The import lets it knock from the next minutes on only; a server started later has no such memory to rely on.
    assert send_all(second, lab.clients["alice"], [datagram], second.host.ipv4) == {"bad_signature": 1}
    assert send_all(server, lab.clients["alice"], [datagram], server.host.ipv4) == {"granted": 1}


def test_a_thousand_devices_can_all_knock(lab: Lab, folder: Path) -> None:
    server = RunningServer(lab, folder)
    crowd = enrol_crowd(server, CROWD)
    with server:
        ready_s = promptly(lambda: restarted_s(server), 5)
        ask(crowd[-1], lab.clients["alice"], lab.server.ipv4)
        took_ms = [ask(keys, lab.clients["alice"], lab.server.ipv6) for keys in (*crowd[:5], *crowd[-6:-1])]
        status = server.status()
        print(
            f"\n{CROWD} devices: ready after {ready_s * 1000:.0f} ms, {status['tags_armed']} tags armed, "
            f"knock to answer {min(took_ms):.1f} to {max(took_ms):.1f} ms, resident KiB {server.resident_kib()}"
        )
        assert status["results"] == {"granted": 11}
        others = iter(crowd[7:])
        disabled_s = min(command_s(server, "device", "disable", next(others).perimeter.label) for _ in range(ATTEMPTS))
        print(f"disabling one of them took {disabled_s * 1000:.0f} ms beyond the start of the program")
        assert disabled_s < 1


def restarted_s(server: RunningServer) -> float:
    """Stop and start; the seconds until it serves."""
    server.stop()
    return server.start()


def ask(keys: Keys, host: Host, to: Address) -> float:
    """Knock by hand, be granted, and return the milliseconds that the answer took."""
    request = keys.knock("web")
    begun_s = time.monotonic()
    reply = ask_udp(host, request, to)
    took_ms = (time.monotonic() - begun_s) * 1000
    answer = keys.answer(reply, request)
    assert answer is not None
    assert answer.refusal is None
    return took_ms


def test_a_second_invite_changes_the_keys_and_both_work_until_the_overlap_ends(
    server: RunningServer, alice: Laptop, lab: Lab
) -> None:
    def attempt(overlap_s: int) -> None:
        label = f"laptop-{overlap_s}"
        old = enrolled(server, alice.host, label, user="alice")
        new = Laptop(alice.host, old.folder.with_name(f"new-{label}"), server.settle)
        invite, begun_s = server.invite(label, "--overlap", f"{overlap_s}s"), time.time()
        new.join(invite)
        overlap_ends_s = time.time() + overlap_s
        new.client("knock", "office", check=True)
        knocked = old.client("knock", "office")
        if time.time() >= begun_s + overlap_s - 1:
            raise TooLate("the overlap may have ended before the old key was tried")
        assert knocked.returncode == 0, knocked.stderr
        assert len(server.leases()) == 4, "it is one device still"
        assert len(server.json("device", "show", label)["keys"]) == 2
        time.sleep(max(0.0, overlap_ends_s + 1 - time.time()))
        keys = old.keys()
        request = keys.knock("web")
        answer = keys.answer(old.ask(request, lab.server.ipv4, patience_s=0.3), request)
        assert answer is None or answer.refusal is Refusal.KEY_RETIRED
        print(f"\nthe old key after the overlap: {answer.refusal.name if answer and answer.refusal else 'silence'}")
        new.client("knock", "office", check=True)
        refused = old.client("knock", "office", "--timeout", "0.6")
        assert refused.returncode in (3, 4)

    in_time(attempt, (4, 12, 40))


def test_without_an_overlap_the_old_key_is_dead_when_the_new_one_is_enrolled(
    server: RunningServer, alice: Laptop
) -> None:
    new = Laptop(alice.host, alice.folder.with_name("new"), server.settle)
    new.join(server.invite("alice-laptop", "--overlap", "0s"))
    new.client("knock", "office", check=True)
    assert alice.client("knock", "office", "--timeout", "0.6").returncode == 4


def test_until_the_second_invite_is_used_nothing_changes(server: RunningServer, alice: Laptop) -> None:
    server.invite("alice-laptop", "--overlap", "0s")
    alice.client("knock", "office", check=True)


def test_an_invite_for_another_users_device_is_refused(server: RunningServer, alice: Laptop) -> None:
    refused = server.command("invite", "alice-laptop", "--user", "mallory", "--role", "admin", check=False)
    assert refused.returncode == 3
    assert "already a device alice-laptop of user alice" in refused.stderr


def test_two_laptops_behind_one_address_share_a_lease_of_the_later_end(
    server: RunningServer, alice: Laptop, lab: Lab
) -> None:
    second = enrolled(server, alice.host, "alice-tablet")
    alice.client("knock", "office", "--for", "300", check=True)
    before = lease_ends(server, alice.host)
    _, knocked = timed(lambda: second.client("knock", "office", "--for", "10", check=True))
    after = lease_ends(server, alice.host)
    assert len(after) == len(before) == 4
    # What is left is read and written anew, so the end may move by as long as that takes.
    assert all(end.can_be(before[key], knocked.length_s) for key, end in after.items())
