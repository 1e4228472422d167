"""Several knock ports: any of them opens the door, no datagram opens it twice, and they come and go unnoticed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from spa_protocol.answer import Answer
from tests.end_to_end.laptop import KNOCK_PORT
from tests.end_to_end.running import WEB, Laptop, RunningServer, enrolled
from tests.lab import Address, Lab
from tests.stalls import wait_until

CONFIGURATION = 5
PORTS = (KNOCK_PORT, 443, 53)


@pytest.fixture
def server(lab: Lab, folder: Path) -> Iterator[RunningServer]:
    with RunningServer(lab, folder, WEB, slots=64, more_knock_ports=PORTS[1:]) as running:
        yield running


def knocked(laptop: Laptop, to: Address, port: int) -> Answer | None:
    """Knock by hand at that port; the answer, which comes from the same port or is not heard."""
    request = laptop.keys().knock("web", lease_s=60)
    reply = laptop.ask(request, to, port)
    return None if reply is None else laptop.keys().answer(reply, request)


def is_silent(server: RunningServer, laptop: Laptop, to: Address, port: int) -> bool:
    """Whether a knock there comes to nobody: it is neither admitted nor answered."""
    admitted = server.counter("knock_admitted")
    answered = laptop.ask(laptop.keys().knock("web"), to, port, patience_s=0.3)
    return answered is None and server.counter("knock_admitted") == admitted


def test_an_invite_tells_the_device_all_of_them(server: RunningServer, alice: Laptop) -> None:
    told = json.loads(alice.client("show", "office", "--json", check=True).stdout)
    assert tuple(told["knock_ports"]) == PORTS


@pytest.mark.parametrize("port", PORTS)
def test_the_client_gets_in_by_any_of_them_where_the_network_lets_out_no_other(
    server: RunningServer, alice: Laptop, lab: Lab, port: int
) -> None:
    """The laptop's own firewall is such a network too, one that says at once that it sends nothing."""
    let_out_only(alice, port)
    done = alice.client("knock", "office", "web", check=True)
    with lab.server.listen_tcp(8443):
        for version in (4, 6):
            assert alice.host.reaches_tcp(lab.server.address(version), 8443), done.stdout + done.stderr


def test_a_port_that_is_blocked_on_the_way_is_found_out_once(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    """Nothing says so: the knock still succeeds within its time, and the next one goes another way at once."""
    block_on_the_way(lab, KNOCK_PORT)
    first, second = explained(alice), explained(alice)
    assert (first.exit_code, first.begins_at) == (0, {KNOCK_PORT})
    assert (second.exit_code, second.begins_at) == (0, {443})


def test_an_invite_works_where_the_usual_port_is_blocked_on_the_way(server: RunningServer, lab: Lab) -> None:
    block_on_the_way(lab, KNOCK_PORT)
    bob = enrolled(server, lab.clients["neighbour"], "bob-laptop")
    assert explained(bob).begins_at == {443}


def test_a_datagram_used_at_one_port_is_void_at_every_other(server: RunningServer, alice: Laptop, lab: Lab) -> None:
    request = alice.keys().knock("web")
    assert alice.ask(request, lab.server.ipv4, 443) is not None
    dropped = server.counter("knock_dropped")
    for port in PORTS:
        alice.send(request, lab.server.ipv4, port)
    wait_until(lambda: server.counter("knock_dropped") == dropped + len(PORTS), "all of them dropped at the gate")
    assert server.results()["granted"] == 1


def test_ports_come_and_go_at_a_reload_while_leases_and_sessions_live_on(
    server: RunningServer, alice: Laptop, lab: Lab
) -> None:
    bob = enrolled(server, lab.clients["neighbour"], "bob-laptop")
    bob.client("knock", "office", "web", "--for", "300", check=True)
    with (
        lab.server.listen_tcp(8443) as listener,
        bob.host.connect_tcp(lab.server.ipv4, 8443) as session,
    ):
        inside, _ = listener.accept()
        with inside:
            inside.settimeout(20)
            for more in ([40_000, 443], [40_000], [], [5000, 40_000]):
                edit(server, more)
                done = server.command("reload", check=False)
                assert (done.returncode, done.stdout) == (0, "reloaded\n"), done.stderr
                for port in (KNOCK_PORT, *more):
                    answer = knocked(alice, lab.server.ipv4, port)
                    assert answer is not None, port
                    assert answer.refusal is None
                for port in {443, 5000, 40_000}.difference(more):
                    assert is_silent(server, alice, lab.server.ipv4, port)
                session.sendall(b"word")
                assert inside.recv(100) == b"word"
    assert {lease["device"] for lease in server.leases()} == {"alice-laptop", "bob-laptop"}
    assert server.status()["fault"] == ""


def test_a_low_port_that_comes_too_late_is_refused_and_changes_nothing(
    server: RunningServer, alice: Laptop, lab: Lab
) -> None:
    edit(server, [443, 123])
    done = server.command("reload", check=False)
    assert done.returncode == CONFIGURATION
    assert "may not listen on udp/123: a port below 1024 is bound at the server's start only." in done.stderr
    assert "nothing was changed" in done.stderr
    for port in PORTS:
        assert knocked(alice, lab.server.ipv4, port) is not None
    server.stop()
    server.start()
    for port in (KNOCK_PORT, 443, 123):
        assert knocked(alice, lab.server.ipv4, port) is not None


def test_one_that_another_program_has_is_named(server: RunningServer, lab: Lab) -> None:
    server.stop()
    edit(server, [443, 7777])
    with lab.server.bind_udp(7777):
        done = server.command("run", check=False)
    assert done.returncode == 7
    assert done.stderr.splitlines()[-1].endswith(
        "udp/7777 is in use by another program; find it with: ss -lunp 'sport = :7777'"
    )


def test_all_of_them_are_told_to_the_operator(server: RunningServer) -> None:
    applied = server.command("perimeter", "apply").stdout
    assert applied == "closed: web; knocks are taken on udp/62201, udp/443, udp/53\n"


def let_out_only(laptop: Laptop, port: int) -> None:
    """As some networks do: no UDP but to that port, and nothing back from any other."""
    laptop.host.nft(f"""
        table inet narrow {{
            chain out {{ type filter hook output priority 0; udp dport != {port} drop; }}
            chain in {{ type filter hook input priority 0; udp sport != {port} drop; }}
        }}
    """)


def block_on_the_way(lab: Lab, port: int) -> None:
    """Between laptops and server, in the switch: datagrams to that port vanish."""
    rule = f"type filter hook forward priority 0; udp dport {port} drop;"
    lab.segment.nft(f"table bridge narrow {{ chain way {{ {rule} }}\n}}")


@dataclass(frozen=True, slots=True)
class Explained:
    """What became of a knock. `begins_at`: the port that the first question of each family went to."""

    exit_code: int
    begins_at: set[int]


def explained(laptop: Laptop) -> Explained:
    done = laptop.client("knock", "office", "web", "--explain", "--json")
    steps = json.loads(done.stdout)["steps"]
    print(done.stdout)
    sent = [step["what"] for step in steps if step["step"] == "sent"]
    return Explained(done.returncode, {int(what.rpartition("/")[2]) for what in sent[:2]})


def edit(server: RunningServer, more: list[int]) -> None:
    """Change the other knock ports in server.toml; a running server does not know of it yet."""
    lines = server.config.read_text().splitlines()
    changed = [f"more_knock_ports = {more}" if line.startswith("more_knock_ports") else line for line in lines]
    server.config.write_text("\n".join(changed) + "\n")
