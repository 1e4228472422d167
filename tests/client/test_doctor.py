"""`spa-client doctor`: each thing that can be wrong is found, with what it rests on and what mends it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from spa_client.addresses import Target
from spa_client.commands import run
from spa_client.enrol import join
from spa_client.errors import BadSurroundings
from spa_client.examine import paths
from spa_client.examine.findings import Severity
from spa_client.examine.knocks import Round
from spa_client.exchange import Reply
from spa_client.perimeter import Perimeter
from spa_client.storage import Store
from spa_protocol.answer import Answer, AnsweredService
from spa_protocol.limits import MIN_SLOTS
from spa_protocol.refusal import Refusal
from spa_protocol.signature import Signature, VerifyingKey
from tests.client.gatekeeper import Gatekeeper

Captured = pytest.CaptureFixture[str]
WRONG = 8


@dataclass
class Locked:
    """A signer whose key has gone away."""

    key: VerifyingKey
    every_time: bool = True

    def sign(self, message: bytes) -> Signature:
        raise BadSurroundings("no agent: start ssh-agent")


@pytest.fixture
def listener(server: Gatekeeper) -> Iterator[socket.socket]:
    """What the server protects listens, at both of its addresses."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listening:
        port = listening.getsockname()[1]
        server.behaviour.services = (AnsweredService("web", 30, port, 0, False),)
        yield listening


def found(capsys: Captured, *arguments: str, code: int) -> dict[str, dict[str, str]]:
    """What the doctor found, by the findings' ids."""
    capsys.readouterr()
    assert run(["doctor", *arguments, "--json"]) == code
    findings = json.loads(capsys.readouterr().out)["findings"]
    return {finding["id"]: finding for finding in findings}


class TestAllIsWell:
    """Nothing to mend."""

    def test_every_part_of_a_knock_is_looked_at(
        self, listener: socket.socket, office: Perimeter, capsys: Captured
    ) -> None:
        findings = found(capsys, "office", code=0)
        assert set(findings) >= {"files", "ipv4", "ipv6", "granted", "clock", "service"}
        assert {finding["severity"] for finding in findings.values()} <= {"ok", "note"}

    def test_people_read_only_what_is_not_so_unless_they_ask_for_all(
        self, listener: socket.socket, office: Perimeter, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(variable, raising=False)
        assert run(["doctor"]) == 0
        assert capsys.readouterr().out.startswith("0 fault, 0 warning, 0 note, ")
        assert run(["doctor", "--all"]) == 0
        out = capsys.readouterr().out
        assert "OK       knocks get through by IPv6  [ipv6]\n         seen: ::1 udp/" in out

    def test_without_a_name_every_perimeter_is_looked_at(
        self, listener: socket.socket, server: Gatekeeper, office: Perimeter, store: Store, capsys: Captured
    ) -> None:
        join(server.invite().text(), store=store, name="home")
        assert run(["doctor", "--all", "--json"]) == 0
        findings = json.loads(capsys.readouterr().out)["findings"]
        assert {finding["perimeter"] for finding in findings} == {"home", "office"}


class TestFiles:
    """Modes, owners, what is missing, what cannot be kept."""

    @pytest.mark.file_modes
    def test_a_key_that_others_can_read(self, office: Perimeter, store: Store, capsys: Captured) -> None:
        path = store.folder / "office" / "device.key"
        path.chmod(0o640)
        finding = found(capsys, code=WRONG)["secret-mode"]
        assert finding["severity"] == "fault"
        assert finding["evidence"].endswith("mode 0640")
        assert f"chmod 600 '{path}'" in finding["remedy"]

    @pytest.mark.file_modes
    def test_a_folder_that_others_can_write(
        self, listener: socket.socket, office: Perimeter, store: Store, capsys: Captured
    ) -> None:
        (store.folder / "office").chmod(0o777)
        findings = found(capsys, code=WRONG)
        assert findings["folder-mode"]["remedy"] == f"chmod 700 '{store.folder / 'office'}'"
        assert "granted" in findings, "it goes on"

    def test_a_file_that_is_missing(self, office: Perimeter, store: Store, capsys: Captured) -> None:
        (store.folder / "office" / "gate.secret").unlink()
        assert "join again with a new invite" in found(capsys, code=WRONG)["files-unusable"]["what"]

    def test_a_state_that_cannot_be_kept(
        self, listener: socket.socket, office: Perimeter, store: Store, capsys: Captured
    ) -> None:
        store.state("office").parent.write_text("in the way")
        assert "state-unwritable" in found(capsys, code=WRONG)

    def test_what_a_removal_left_behind(
        self, listener: socket.socket, office: Perimeter, store: Store, capsys: Captured
    ) -> None:
        (store.folder / ".removed-0123").mkdir()
        assert found(capsys, code=WRONG)["left-over"]["remedy"] == f"rm -r '{store.folder / '.removed-0123'}'"


class TestTheWay:
    """Names, families, silence."""

    def test_a_name_that_does_not_resolve(self, office: Perimeter, store: Store, capsys: Captured) -> None:
        path = store.folder / "office" / "perimeter.toml"
        path.write_text(path.read_text().replace('"127.0.0.1", "::1"', '"gw.invalid"'))
        assert "gw.invalid" in found(capsys, code=WRONG)["cannot-knock"]["what"]

    def test_one_family_that_is_broken_is_named(self, store: Store, capsys: Captured) -> None:
        with Gatekeeper(families=(4,)) as server:
            join(server.invite(hosts=("127.0.0.1", "::1")).text(), store=store, name="office", timeout_s=1)
            findings = found(capsys, "--timeout", "1", code=WRONG)
        assert findings["ipv6-silent"]["severity"] == "warning"
        assert findings["ipv6-silent"]["remedy"].startswith("connect to 127.0.0.1 (curl and ssh: -4)")
        assert findings["ipv4"]["severity"] == "ok"

    def test_silence(self, server: Gatekeeper, office: Perimeter, capsys: Captured) -> None:
        server.behaviour.silent = True
        finding = found(capsys, "--timeout", "0.3", code=WRONG)["no-answer"]
        assert finding["severity"] == "fault"
        assert finding["remedy"].endswith("spa-server why alice-laptop")

    def test_with_a_wrong_clock_a_silent_family_is_no_sign_of_a_broken_one(
        self, store: Store, capsys: Captured
    ) -> None:
        """The kernel may have dropped a question about the clock whose tag was used up."""
        with Gatekeeper(families=(4,)) as server:
            join(server.invite(hosts=("127.0.0.1", "::1")).text(), store=store, name="office", timeout_s=1)
            server.behaviour.clock_ms = -600_000
            findings = found(capsys, "--timeout", "1", code=WRONG)
        assert "clock-wrong" in findings
        assert "ipv6-silent" not in findings

    def test_a_blocked_port_where_another_one_gets_through(
        self, listener: socket.socket, server: Gatekeeper, office: Perimeter, store: Store, capsys: Captured
    ) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as swallowing:
            swallowing.bind(("127.0.0.1", 0))
            blocked = swallowing.getsockname()[1]
            store.save(replace(office, hosts=("127.0.0.1",), knock_ports=(blocked, server.port)))
            findings = found(capsys, "--timeout", "0.5", code=0)
        assert findings["port-blocked"]["severity"] == "note"
        assert findings["port-blocked"]["evidence"] == f"udp/{blocked} was silent, udp/{server.port} answered"
        assert store.memory("office").port.first((blocked, server.port)) == (server.port, blocked)
        assert findings["service"]["severity"] == "ok"

    def test_silence_after_a_refusal_names_the_refusal(
        self, server: Gatekeeper, office: Perimeter, capsys: Captured
    ) -> None:
        server.behaviour.refuse = Refusal.DEVICE_DISABLED
        assert run(["knock", "office"]) == 3
        server.behaviour.silent = True
        finding = found(capsys, "--timeout", "0.3", code=WRONG)["no-answer"]
        assert "the last refusal was at 20" in finding["evidence"]
        assert "the device is disabled" in finding["evidence"]

    def test_all_knocks_of_the_minute_used(
        self, listener: socket.socket, office: Perimeter, store: Store, capsys: Captured
    ) -> None:
        from spa_client.exchange import wall_ms

        slots, now_ms = store.memory("office").slots, wall_ms()
        for _ in range(MIN_SLOTS):
            slots.claim(now_ms)
            slots.claim(now_ms + 60_000)
        assert "the next minute begins in" in found(capsys, code=WRONG)["cannot-knock"]["what"]

    def test_a_proxy_is_named_without_its_password(
        self, listener: socket.socket, office: Perimeter, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("https_proxy", "http://alice:hunter2@proxy.example.com:3128")
        monkeypatch.setenv("no_proxy", "::1")
        finding = found(capsys, code=0)["proxy"]
        assert finding["remedy"] == "export NO_PROXY=127.0.0.1"
        assert "hunter2" not in str(finding)


class TestAnswers:
    """What the server says."""

    def test_a_clock_45_seconds_off_works_with_a_warning(
        self, listener: socket.socket, server: Gatekeeper, office: Perimeter, capsys: Captured
    ) -> None:
        server.behaviour.clock_ms = 45_000
        findings = found(capsys, code=WRONG)
        assert findings["clock-off"]["severity"] == "warning"
        assert "clock is 4" in findings["clock-off"]["what"]
        assert "granted" in findings
        assert run(["knock", "office"]) == 0
        assert capsys.readouterr().err.startswith("spa-client: warning: this computer's clock is 4")

    def test_a_clock_ten_minutes_off_is_a_fault_that_says_by_how_much(
        self, server: Gatekeeper, office: Perimeter, capsys: Captured
    ) -> None:
        server.behaviour.clock_ms = -600_000
        finding = found(capsys, code=WRONG)["clock-wrong"]
        assert finding["severity"] == "fault"
        assert "clock is 600 s ahead of the server's; set it (" in finding["what"]

    def test_the_same_again_when_the_days_questions_about_the_clock_are_used_up(
        self, server: Gatekeeper, office: Perimeter, capsys: Captured
    ) -> None:
        server.behaviour.clock_ms = -600_000
        found(capsys, code=WRONG)
        server.behaviour.silent = True
        finding = found(capsys, "--timeout", "0.3", code=WRONG)["clock-wrong"]
        assert "earlier today: this computer's clock is 600 s ahead" in finding["what"]

    def test_a_key_that_cannot_sign_just_now(
        self, office: Perimeter, store: Store, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        locked = replace(office, signer=Locked(office.signer.key))
        monkeypatch.setattr(Store, "load", lambda *_: locked)
        assert found(capsys, code=WRONG)["cannot-knock"]["what"] == "no agent: start ssh-agent"

    def test_a_refusal_in_words(self, server: Gatekeeper, office: Perimeter, capsys: Captured) -> None:
        server.behaviour.refuse = Refusal.DEVICE_DISABLED
        finding = found(capsys, code=WRONG)["refused"]
        assert finding["what"].startswith("office refused: the device is disabled")
        assert finding["severity"] == "fault"

    def test_a_refusal_that_is_over_is_only_a_note(
        self, listener: socket.socket, server: Gatekeeper, office: Perimeter, capsys: Captured
    ) -> None:
        assert run(["knock", "office", "cellar"]) == 3
        finding = found(capsys, code=0)["last-refusal"]
        assert "unknown service cellar" in finding["what"]


class TestPorts:
    """The services' ports, once they are open."""

    def test_nothing_listens(self, listener: socket.socket, office: Perimeter, capsys: Captured) -> None:
        listener.close()
        finding = found(capsys, "--timeout", "0.5", code=WRONG)["service-not-listening"]
        assert finding["severity"] == "warning"

    def test_a_server_that_never_answers_is_judged_by_its_ports(
        self, listener: socket.socket, server: Gatekeeper, office: Perimeter, store: Store, capsys: Captured
    ) -> None:
        assert run(["knock", "office"]) == 0
        path = store.folder / "office" / "perimeter.toml"
        path.write_text(path.read_text().replace("answers = true", "answers = false"))
        server.behaviour.silent = True
        assert found(capsys, code=0)["service"]["severity"] == "ok"


class TestTranslation:
    """What the server saw of where knocks come from."""

    def test_the_address_seen_is_another(
        self, listener: socket.socket, server: Gatekeeper, office: Perimeter, capsys: Captured
    ) -> None:
        server.behaviour.seen = IPv4Address("203.0.113.9")
        finding = found(capsys, code=0)["ipv4-nat"]
        assert finding["evidence"] == "this computer is 127.0.0.1; the server saw 203.0.113.9"

    def test_an_address_that_changes_between_knocks(self) -> None:
        (finding,) = paths.translation_findings((seen("203.0.113.9"), seen("203.0.113.10")))
        assert finding.id == "ipv4-nat-changing"
        assert finding.severity is Severity.WARNING
        assert finding.evidence.endswith("the server saw 203.0.113.9 and then 203.0.113.10")

    def test_a_carriers_own_addresses_are_known(self) -> None:
        (finding,) = paths.translation_findings((seen("203.0.113.9", local="100.64.3.4"),))
        assert "carrier NAT" in finding.what

    def test_no_translation_is_nothing_to_tell(self) -> None:
        assert list(paths.translation_findings((seen("192.0.2.7"), seen("192.0.2.7")))) == []


def seen(source: str, local: str = "192.0.2.7") -> Round:
    """A round of one IPv4 knock, which the server saw come from that address."""
    target = Target(IPv4Address("198.51.100.1"), ("198.51.100.1", 62201))
    answer = Answer(None, 0, IPv4Address(source), 4000, MIN_SLOTS)
    return Round(62201, (Reply(target, IPv4Address(local), answer, 0, ""),))


class TestRoutes:
    """A family without a route, and none at all."""

    NO_ROUTE = Target(IPv6Address("2001:db8::1"), ("2001:db8::1", 62201, 0, 0))

    def test_a_family_without_a_route_is_only_a_note(self) -> None:
        tried = Round(62201, seen("192.0.2.7").replies, (self.NO_ROUTE,))
        assert next(paths.family_findings(tried)).severity is Severity.NOTE

    def test_no_route_at_all_is_a_fault(self) -> None:
        (finding,) = paths.family_findings(Round(62201, (), (self.NO_ROUTE,)))
        assert (finding.id, finding.severity) == ("ipv6-no-route", Severity.FAULT)


class TestUsage:
    """Exit codes as of every other command."""

    def test_no_such_perimeter(self, office: Perimeter, capsys: Captured) -> None:
        assert run(["doctor", "ofice"]) == 5
        assert "did you mean office?" in capsys.readouterr().err

    def test_nothing_joined(self, store: Store, capsys: Captured) -> None:
        assert run(["doctor"]) == 5
        assert "spa-client join INVITE" in capsys.readouterr().err
