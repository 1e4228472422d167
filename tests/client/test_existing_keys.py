"""Joining and knocking with keys kept elsewhere: OpenSSH's files, a real ssh-agent, a security key, the key ring."""

from __future__ import annotations

import io
import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from spa_client.commands import run
from spa_client.enrol import join
from spa_client.errors import BadConfiguration, BadSurroundings, BadUsage, NoAnswer, NotPermitted, SpaError
from spa_client.knocking import Request, knock_perimeter
from spa_client.pace import Pace
from spa_client.perimeter import Perimeter
from spa_client.signing import agent, agent_channel, person
from spa_client.signing.choosing import KeyChoice
from spa_client.signing.place import KeyKind
from spa_client.storage import Store
from spa_protocol.enrolment import Enrolment
from spa_protocol.openssh import ssh_string
from spa_protocol.place import Place
from spa_protocol.provision import Provision
from spa_protocol.signature import SignatureKind
from spa_protocol.tag import TagKind
from tests.client.gatekeeper import Gatekeeper, KnownDevice
from tests.openssh import KeyAgent, fingerprint, new_key, new_security_key
from tests.security_key import SoftSecurityKey

Captured = pytest.CaptureFixture[str]
PASSPHRASE = "correct horse"


@pytest.fixture(scope="module")
def security_key(tmp_path_factory: pytest.TempPathFactory) -> SoftSecurityKey:
    return SoftSecurityKey(tmp_path_factory.mktemp("security-key"))


def play_pipe(monkeypatch: pytest.MonkeyPatch, place: Path) -> list[str]:
    """Put a socket in the place of Windows' pipe: opened by name, written to, read from. The names that were opened."""
    opened: list[str] = []

    def open_pipe(name: str, mode: str, buffering: int) -> io.RawIOBase:
        opened.append(name)
        channel = socket.socket(socket.AF_UNIX)
        channel.connect(str(place))
        return channel.makefile("rwb", buffering=0)

    monkeypatch.setattr(agent_channel, "open", open_pipe, raising=False)
    return opened


def lead_to(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Have the client find an agent at that socket, on whatever system it believes to be."""
    monkeypatch.setenv("SSH_AUTH_SOCK", str(place))
    if vars(agent_channel)["sys"].platform == "win32":
        play_pipe(monkeypatch, place)


@pytest.fixture
def keys(security_key: SoftSecurityKey, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyAgent]:
    """A running agent, which the client finds."""
    with KeyAgent(security_key) as running:
        lead_to(monkeypatch, running.socket)
        yield running


@pytest.fixture
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a script has it, wherever the tests were started."""
    monkeypatch.setattr(person, "_has_terminal", lambda: False)
    monkeypatch.delenv(person.FILE_VARIABLE, raising=False)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A terminal at which PASSPHRASE is typed whenever one is asked for; the prompts."""
    prompts: list[str] = []

    def type_it(prompt: str) -> str:
        prompts.append(prompt)
        return PASSPHRASE

    monkeypatch.setattr(person, "_has_terminal", lambda: True)
    monkeypatch.setattr("getpass.getpass", type_it)
    monkeypatch.delenv(person.FILE_VARIABLE, raising=False)
    return prompts


def joined(server: Gatekeeper, store: Store, choice: KeyChoice) -> Perimeter:
    return join(server.invite().text(), store=store, name="office", place=choice.place())


def named(path: Path) -> str:
    """Its fingerprint as a pattern: some hold a plus sign."""
    return re.escape(fingerprint(path))


def knocked(store: Store) -> None:
    """Knock with what is on disk, as another process would."""
    knock_perimeter(store.load("office"), Request(("web",)), store.memory("office"))


def works(server: Gatekeeper, store: Store, perimeter: Perimeter) -> None:
    """What was joined is what is loaded, it opens, and the server has just that key."""
    loaded = store.load("office")
    assert loaded == replace(perimeter, signer=loaded.signer)
    assert loaded.signer.key == perimeter.signer.key
    assert server.devices[0].key == perimeter.signer.key
    knocked(store)
    assert server.knocks()
    assert server.badly_signed == 0


def files_of(store: Store) -> set[str]:
    return {path.name for path in (store.folder / "office").iterdir()}


class TestAKeyFile:
    """A private key that the user has in a file."""

    def test_one_of_openssh_s_signs_from_where_it_is(self, server: Gatekeeper, store: Store, tmp_path: Path) -> None:
        path = new_key(tmp_path)
        perimeter = joined(server, store, KeyChoice(file=path))
        works(server, store, perimeter)
        assert perimeter.place.path == str(path)
        assert files_of(store) == {"perimeter.toml", "gate.secret"}

    def test_its_passphrase_is_asked_for_once(
        self, server: Gatekeeper, store: Store, tmp_path: Path, typed: list[str]
    ) -> None:
        path = new_key(tmp_path, passphrase=PASSPHRASE)
        perimeter = joined(server, store, KeyChoice(file=path))
        for _ in range(3):
            knock_perimeter(perimeter, Request(), store.memory("office"))
        assert typed == [f"Passphrase of {path}: "]

    @pytest.mark.file_modes
    def test_a_script_names_a_file_that_holds_it(
        self, server: Gatekeeper, store: Store, tmp_path: Path, no_terminal: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, given = new_key(tmp_path, passphrase=PASSPHRASE), tmp_path / "passphrase"
        given.write_text(PASSPHRASE + "\nand more\n")
        given.chmod(0o600)
        # What the option does is undone after the test.
        monkeypatch.setenv(person.FILE_VARIABLE, "/nonexistent")
        words = ["join", server.invite().text(), "--name", "office", "--key", str(path)]
        assert run([*words, "--passphrase-file", str(given)]) == 0
        assert run(["knock", "office", "--passphrase-file", str(given)]) == 0
        given.chmod(0o644)
        with pytest.raises(NotPermitted, match="can be read by everybody: chmod 600"):
            knocked(store)

    def test_without_a_terminal_nobody_is_asked(
        self, server: Gatekeeper, store: Store, tmp_path: Path, no_terminal: None
    ) -> None:
        path = new_key(tmp_path, passphrase=PASSPHRASE)
        with pytest.raises(NotPermitted, match="no terminal to ask at: name a --passphrase-file"):
            joined(server, store, KeyChoice(file=path))
        assert server.requests == []

    def test_a_wrong_passphrase_is_told_from_a_damaged_file(
        self, server: Gatekeeper, store: Store, tmp_path: Path, typed: list[str]
    ) -> None:
        path = new_key(tmp_path, passphrase="another")
        with pytest.raises(NotPermitted, match="id_ed25519: the passphrase is wrong"):
            joined(server, store, KeyChoice(file=path))
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines[:2], *lines[3:]]))
        with pytest.raises(BadConfiguration, match="damaged"):
            joined(server, store, KeyChoice(file=path))

    @pytest.mark.file_modes
    def test_one_that_others_can_read_is_refused(self, store: Store, tmp_path: Path) -> None:
        path = new_key(tmp_path)
        path.chmod(0o640)
        with pytest.raises(NotPermitted, match="chmod 600"):
            KeyChoice(file=path).place()

    def test_what_is_no_key_that_can_sign_is_refused_with_what_to_do(
        self, tmp_path: Path, security_key: SoftSecurityKey
    ) -> None:
        texts = {
            new_key(tmp_path, "ecdsa", kind="ecdsa"): "ssh-keygen -t ed25519",
            new_key(tmp_path, "rsa", kind="rsa"): "ssh-keygen -t ed25519",
            new_security_key(tmp_path, security_key): "ssh-add .* and give --agent",
            _written(tmp_path, "old.pem", "-----BEGIN RSA PRIVATE KEY-----\n"): "ssh-keygen -t ed25519",
            _written(tmp_path, "hello", "hello"): "spa-secret-key1",
            _written(tmp_path, "half", "-----BEGIN OPENSSH PRIVATE KEY-----\nabc"): "damaged",
            tmp_path / "gone": "there is no key file",
        }
        public = new_key(tmp_path, "plain").with_name("plain.pub")
        public.chmod(0o600)
        for path, why in {**texts, public: "the public half"}.items():
            with pytest.raises(BadConfiguration, match=why):
                KeyChoice(file=path).place()

    def test_the_libraries_that_it_needs_are_named(
        self, server: Gatekeeper, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "cryptography.hazmat.primitives.serialization", None)
        with pytest.raises(BadSurroundings, match=r"pip install 'spa-perimeter\[openssh\]'"):
            joined(server, store, KeyChoice(file=new_key(tmp_path)))

    def test_another_key_in_its_place_is_noticed(self, server: Gatekeeper, store: Store, tmp_path: Path) -> None:
        path = new_key(tmp_path)
        joined(server, store, KeyChoice(file=path))
        path.unlink()
        new_key(tmp_path, "other").rename(path)
        with pytest.raises(BadConfiguration, match="another than the one that joined"):
            knocked(store)


def _written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.touch(0o600)
    path.write_text(text)
    return path


class TestAnAgent:
    """A key in ssh-agent."""

    def test_its_only_key_signs(self, server: Gatekeeper, store: Store, tmp_path: Path, keys: KeyAgent) -> None:
        keys.add(new_key(tmp_path))
        perimeter = joined(server, store, KeyChoice(agent=""))
        works(server, store, perimeter)
        assert files_of(store) == {"perimeter.toml", "gate.secret"}

    def test_one_of_several_is_named_by_fingerprint_or_comment(self, tmp_path: Path, keys: KeyAgent) -> None:
        one, other = new_key(tmp_path, "one"), new_key(tmp_path, "other")
        for path in (one, other, new_key(tmp_path, "rsa", kind="rsa")):
            keys.add(path)
        assert KeyChoice(agent="one").place() == KeyChoice(agent=fingerprint(one)).place()
        assert KeyChoice(agent="one").place() != KeyChoice(agent="other").place()
        with pytest.raises(BadUsage, match=f"say which.*{named(one)} one, {named(other)} other$"):
            KeyChoice(agent="").place()
        with pytest.raises(BadUsage, match="holds no key rsa; it holds: "):
            KeyChoice(agent="rsa").place()

    def test_the_invite_is_not_taken_for_the_name_of_a_key(
        self, server: Gatekeeper, store: Store, tmp_path: Path, keys: KeyAgent
    ) -> None:
        keys.add(new_key(tmp_path))
        assert run(["join", "--name", "office", "--agent", server.invite().text()]) == 0
        assert store.load("office").place.kind is KeyKind.AGENT

    def test_a_key_that_is_not_loaded_any_more_is_named_with_those_that_are(
        self, server: Gatekeeper, store: Store, tmp_path: Path, keys: KeyAgent
    ) -> None:
        path = new_key(tmp_path)
        keys.add(path)
        joined(server, store, KeyChoice(agent=""))
        keys.forget(path)
        with pytest.raises(BadSurroundings, match=r"holds no key that can sign knocks: add one \(ssh-add\)"):
            knocked(store)
        keys.add(new_key(tmp_path, "other"))
        with pytest.raises(BadSurroundings, match=f"does not hold {named(path)}.*it holds: .* other$"):
            knocked(store)

    def test_a_locked_agent_is_to_be_unlocked(
        self, server: Gatekeeper, store: Store, tmp_path: Path, keys: KeyAgent
    ) -> None:
        keys.add(new_key(tmp_path))
        joined(server, store, KeyChoice(agent=""))
        with keys.locked(), pytest.raises(BadSurroundings, match="unlock the agent"):
            knocked(store)
        knocked(store)

    def test_one_that_is_gone_is_told(self, server: Gatekeeper, store: Store, tmp_path: Path, keys: KeyAgent) -> None:
        keys.add(new_key(tmp_path))
        joined(server, store, KeyChoice(agent=""))
        keys.stop()
        with pytest.raises(BadSurroundings, match=f"the key agent at {keys.socket} is gone"):
            knocked(store)

    def test_where_none_is_known_that_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(agent_channel, "sys", SimpleNamespace(platform="linux"))
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        with pytest.raises(BadSurroundings, match="SSH_AUTH_SOCK is not set"):
            agent.identities()

    def test_one_whose_user_must_agree_and_does_not_refuses(
        self, server: Gatekeeper, store: Store, tmp_path: Path, keys: KeyAgent
    ) -> None:
        # Without a program to ask with, ssh-agent takes the answer for no.
        keys.add(new_key(tmp_path), "-c")
        with pytest.raises(NotPermitted, match="refused to sign: nobody agreed"):
            joined(server, store, KeyChoice(agent=""))


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes | None], None]:
    """Have the client reach something else than an agent: it answers each request with those bytes, or never."""
    place = tmp_path / "s"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(place))
    listening.listen()
    lead_to(monkeypatch, place)
    kept: list[socket.socket] = [listening]

    def serve(answer: bytes | None) -> None:
        def talk() -> None:
            while True:
                channel, _ = listening.accept()
                kept.append(channel)
                if answer is not None:
                    channel.recv(65536)
                    channel.sendall(answer)
                    channel.shutdown(socket.SHUT_WR)

        threading.Thread(target=talk, daemon=True).start()

    return serve


NO_AGENTS = {
    "hangs up": b"",
    "half a length": b"\0\0",
    "half an answer": b"\0\0\0\x09\x0c\0",
    "nothing": bytes(4),
    "far too much": b"\xff\xff\xff\xff",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "another message": ssh_string(b"\x06"),
    "too many keys": ssh_string(b"\x0c\0\0\0\x02" + ssh_string(b"") + ssh_string(b"")),
    "no list": ssh_string(b"\x05"),
}


@pytest.mark.parametrize("answer", NO_AGENTS.values(), ids=NO_AGENTS)
def test_what_is_no_agent_is_one_line(answer: bytes, pretended: Callable[[bytes | None], None]) -> None:
    pretended(answer)
    with pytest.raises(BadSurroundings, match="agent"):
        agent.identities()


def test_an_agent_that_says_nothing_is_given_up(
    pretended: Callable[[bytes | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretended(None)
    monkeypatch.setattr(agent, "LIST_S", 0.2)
    with pytest.raises(BadSurroundings, match=r"gave no answer within 0\.2 s"):
        agent.identities()


def test_windows_agent_is_reached_by_its_pipe(keys: KeyAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.add(new_key(tmp_path))
    opened = play_pipe(monkeypatch, keys.socket)
    monkeypatch.setattr(agent_channel, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.delenv("SSH_AUTH_SOCK")
    (held,) = agent.identities()
    assert held.comment == "id_ed25519"
    assert opened == [r"\\.\pipe\openssh-ssh-agent"]


class TestASecurityKey:
    """A key that has to be touched: OpenSSH's own agent and helper sign, with a key in software behind them."""

    @pytest.fixture
    def touched(
        self, server: Gatekeeper, store: Store, tmp_path: Path, keys: KeyAgent, security_key: SoftSecurityKey
    ) -> Perimeter:
        """The office, joined with such a key."""
        keys.add(new_security_key(tmp_path, security_key))
        return joined(server, store, KeyChoice(agent=""))

    def test_it_joins_and_knocks(self, server: Gatekeeper, store: Store, touched: Perimeter) -> None:
        assert touched.signer.key.kind is SignatureKind.SK_ED25519
        assert touched.signer.key.application == "ssh:"
        works(server, store, touched)

    def test_a_knock_takes_one_touch_for_each_family_however_often_it_is_sent(
        self, server: Gatekeeper, store: Store, touched: Perimeter, security_key: SoftSecurityKey
    ) -> None:
        before = security_key.touches
        server.requests.clear()
        server.behaviour.drop_first = 1
        server._lost.update({4: 0, 6: 0})
        opened = knock_perimeter(touched, Request(), store.memory("office"))
        assert len(opened.addresses) == 2
        assert security_key.touches - before == 2
        assert len({seen.message.time_ms for seen in server.knocks()}) == len(server.knocks()) == 2

    def test_nobody_is_asked_to_touch_it_for_the_clocks_sake(
        self, server: Gatekeeper, store: Store, touched: Perimeter, security_key: SoftSecurityKey
    ) -> None:
        before = security_key.touches
        server.behaviour.silent = True
        with pytest.raises(NoAnswer, match="this computer's clock is wrong, which was not asked"):
            knock_perimeter(touched, Request(timeout_s=0.5), store.memory("office"))
        assert security_key.touches - before == 2
        assert server.knocks(TagKind.CLOCK) == []

    def test_it_says_when_to_touch_it_at_a_terminal_only(
        self, store: Store, touched: Perimeter, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        knocked(store)
        assert capsys.readouterr().err == ""
        monkeypatch.setattr("sys.stderr", _Terminal())
        knocked(store)
        assert __import__("sys").stderr.getvalue() == "spa-client: touch the key\n" * 2

    def test_untouched_it_does_not_knock(
        self, server: Gatekeeper, store: Store, touched: Perimeter, security_key: SoftSecurityKey
    ) -> None:
        server.requests.clear()
        with security_key.left_alone(), pytest.raises(NotPermitted, match="nobody touched the key"):
            knocked(store)
        assert server.requests == []

    def test_one_that_signs_without_a_touch_is_refused_here(
        self, server: Gatekeeper, store: Store, tmp_path: Path, keys: KeyAgent, security_key: SoftSecurityKey
    ) -> None:
        keys.add(new_security_key(tmp_path, security_key, "lax", "no-touch-required"))
        with pytest.raises(NotPermitted, match="was it made with no-touch-required"):
            joined(server, store, KeyChoice(agent=""))
        assert server.requests == []

    def test_the_time_of_the_touch_does_not_count(
        self, server: Gatekeeper, store: Store, touched: Perimeter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The clock of the retries starts when it is signed: a slow hand leaves as much time for the answer."""
        signer = touched.signer
        assert isinstance(signer, agent.AgentSigner)
        sign = agent.AgentSigner.sign

        def slowly(self: agent.AgentSigner, message: bytes) -> object:
            time.sleep(0.6)
            return sign(self, message)

        monkeypatch.setattr(agent.AgentSigner, "sign", slowly)
        monkeypatch.setattr(Pace, "within", lambda *_: Pace((0.0,), None, 0.5, 0.5, 0.5))
        server.behaviour.delay_s = {4: 0.2, 6: 0.2}
        assert len(knock_perimeter(touched, Request(), store.memory("office")).addresses) == 2


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _no_network(*_: object) -> None:
    raise OSError("no route")


class TestOnesOwnKey:
    """A key made for the perimeter, locked or elsewhere."""

    def test_under_a_passphrase_it_is_typed_twice_and_then_once_for_each_use(
        self, server: Gatekeeper, store: Store, typed: list[str]
    ) -> None:
        perimeter = joined(server, store, KeyChoice(passphrase=True))
        assert [prompt.partition(" ")[0] for prompt in typed] == ["New", "The"]
        works(server, store, perimeter)
        assert len(typed) == 3
        assert files_of(store) == {"perimeter.toml", "gate.secret", "device.key"}

    def test_ssh_keygen_can_change_its_passphrase(
        self, server: Gatekeeper, store: Store, typed: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        joined(server, store, KeyChoice(passphrase=True))
        path = store.folder / "office" / "device.key"
        words = ["ssh-keygen", "-q", "-p", "-P", PASSPHRASE, "-N", "another", "-f", str(path)]
        assert subprocess.run(words, check=False).returncode == 0
        with pytest.raises(NotPermitted, match="the passphrase is wrong"):
            knocked(store)
        monkeypatch.setattr("getpass.getpass", lambda prompt: "another")
        knocked(store)

    def test_two_different_passphrases_make_no_key(
        self, server: Gatekeeper, store: Store, typed: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = iter(["one", "two"])
        monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
        with pytest.raises(NotPermitted, match="the two passphrases differ"):
            joined(server, store, KeyChoice(passphrase=True))
        assert server.requests == []

    @pytest.mark.parametrize("choice", [KeyChoice(), KeyChoice(passphrase=True), KeyChoice(keyring=True)])
    def test_a_join_whose_answer_was_lost_goes_on_with_the_same_key(
        self, choice: KeyChoice, server: Gatekeeper, store: Store, typed: list[str], ring: dict[str, str]
    ) -> None:
        invite = server.invite().text()
        server.behaviour.silent = True
        with pytest.raises(NoAnswer):
            join(invite, store=store, name="office", place=choice.place(), timeout_s=0.3)
        server.behaviour.silent = False
        works(server, store, join(invite, store=store, name="office", place=choice.place()))
        assert len(server.devices) == 1

    @pytest.mark.parametrize("choice", [KeyChoice(), KeyChoice(passphrase=True), KeyChoice(keyring=True)])
    def test_a_join_may_be_begun_with_one_key_and_ended_with_another(
        self,
        choice: KeyChoice,
        server: Gatekeeper,
        store: Store,
        tmp_path: Path,
        typed: list[str],
        ring: dict[str, str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        invite, file = server.invite().text(), new_key(tmp_path)
        with monkeypatch.context() as unplugged:
            unplugged.setattr("spa_client.enrol.ask", _no_network)
            with pytest.raises(BadSurroundings):
                join(invite, store=store, name="office", place=choice.place())
        works(server, store, join(invite, store=store, name="office", place=KeyChoice(file=file).place()))
        assert files_of(store) == {"perimeter.toml", "gate.secret"}

    def test_in_the_key_ring_no_file_holds_it_and_it_goes_with_the_perimeter(
        self, server: Gatekeeper, store: Store, ring: dict[str, str]
    ) -> None:
        perimeter = joined(server, store, KeyChoice(keyring=True))
        works(server, store, perimeter)
        assert files_of(store) == {"perimeter.toml", "gate.secret"}
        assert list(ring) == [perimeter.device_text]
        store.remove("office")
        assert ring == {}

    def test_a_replaced_perimeter_leaves_no_key_in_the_ring(
        self, server: Gatekeeper, store: Store, ring: dict[str, str]
    ) -> None:
        joined(server, store, KeyChoice(keyring=True))
        join(server.invite().text(), store=store, name="office", replace_old=True)
        assert ring == {}

    def test_a_refused_join_leaves_none_either(self, server: Gatekeeper, store: Store, ring: dict[str, str]) -> None:
        invite = server.invite().text()
        join(invite, store=store, name="office")
        with pytest.raises(SpaError, match="invite"):
            join(invite, store=store, name="second", place=KeyChoice(keyring=True).place())
        assert ring == {}

    def test_without_a_key_ring_it_is_said(
        self, server: Gatekeeper, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import keyring
        from keyring.backends.fail import Keyring

        before = keyring.get_keyring()
        keyring.set_keyring(Keyring())  # type: ignore[no-untyped-call]
        try:
            with pytest.raises(BadSurroundings, match="the key ring cannot be used: No recommended backend"):
                joined(server, store, KeyChoice(keyring=True))
        finally:
            keyring.set_keyring(before)
        monkeypatch.setitem(__import__("sys").modules, "keyring", None)
        with pytest.raises(BadSurroundings, match=r"pip install 'spa-perimeter\[keyring\]'"):
            joined(server, store, KeyChoice(keyring=True))


@pytest.fixture
def ring() -> Iterator[dict[str, str]]:
    """A key ring that `keyring` finds; its entries."""
    import keyring
    from keyring.backend import KeyringBackend

    entries: dict[str, str] = {}

    class Ring(KeyringBackend):
        priority = 1

        def get_password(self, service: str, username: str) -> str | None:
            return entries.get(username)

        def set_password(self, service: str, username: str, password: str) -> None:
            entries[username] = password

        def delete_password(self, service: str, username: str) -> None:
            del entries[username]

    before = keyring.get_keyring()
    keyring.set_keyring(Ring())  # type: ignore[no-untyped-call]
    yield entries
    keyring.set_keyring(before)


class TestAProvision:
    """A device whose key the server was given before."""

    def provision(self, server: Gatekeeper, key: Path, secret: bytes | None = bytes(range(32))) -> str:
        public = KeyChoice(file=key).place().public
        assert public is not None
        if secret is not None:
            server.devices.append(KnownDevice(public, secret))
        return Provision("build-1", public, secret, server.identity, Place((server.port,), server.hosts)).text()

    def test_its_line_and_the_key_are_all_that_is_needed(
        self, server: Gatekeeper, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = new_key(tmp_path)
        line = self.provision(server, path)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(line.encode() + b"\n")))
        assert run(["join", "-", "--name", "office", "--key", str(path)]) == 0
        assert server.requests == []
        assert store.load("office").label == "build-1"
        works(server, store, store.load("office"))

    def test_the_agent_s_key_is_found_by_the_line(
        self, server: Gatekeeper, store: Store, tmp_path: Path, keys: KeyAgent
    ) -> None:
        path = new_key(tmp_path)
        for each in (new_key(tmp_path, "other"), path):
            keys.add(each)
        assert run(["join", self.provision(server, path), "--name", "office", "--agent"]) == 0
        works(server, store, store.load("office"))

    def test_any_other_key_is_refused(
        self, server: Gatekeeper, store: Store, tmp_path: Path, keys: KeyAgent, capsys: Captured
    ) -> None:
        path, other = new_key(tmp_path), new_key(tmp_path, "other")
        keys.add(other)
        line = self.provision(server, path)
        wrong = {
            ("--key", str(other)): f"was given the key {fingerprint(path)}; this one is {fingerprint(other)}",
            ("--agent",): f"the key agent holds no key {fingerprint(path)}",
            ("--agent", "other"): f"was given the key {fingerprint(path)}",
            ("--passphrase",): "say where it is: --key FILE or --agent",
            (): "say where it is: --key FILE or --agent",
        }
        for words, why in wrong.items():
            assert run(["join", line, "--name", "office", *words]) == 2
            assert why in capsys.readouterr().err
        assert store.names() == ()

    def test_one_without_its_secret_says_what_is_missing(
        self, server: Gatekeeper, store: Store, tmp_path: Path, capsys: Captured
    ) -> None:
        path = new_key(tmp_path)
        assert run(["join", self.provision(server, path, None), "--key", str(path)]) == 2
        assert "holds no gate secret" in capsys.readouterr().err


class TestTheDoctor:
    """`spa-client doctor` looks at a key that is elsewhere, and asks nobody for anything."""

    def found(self, capsys: Captured) -> dict[str, dict[str, str]]:
        capsys.readouterr()
        run(["doctor", "office", "--json", "--timeout", "1"])
        return {each["id"]: each for each in json.loads(capsys.readouterr().out)["findings"]}

    def test_an_agent_that_is_gone_or_holds_another_key_is_found_before_any_knock(
        self, server: Gatekeeper, store: Store, tmp_path: Path, keys: KeyAgent, capsys: Captured
    ) -> None:
        path = new_key(tmp_path)
        keys.add(path)
        joined(server, store, KeyChoice(agent=""))
        assert fingerprint(path) in self.found(capsys)["key"]["evidence"]
        server.requests.clear()
        keys.forget(path)
        assert self.found(capsys)["key-missing"]["remedy"].startswith("ssh-add the key's file")
        keys.stop()
        assert "is gone" in self.found(capsys)["key-unusable"]["what"]
        assert server.requests == []

    def test_a_file_that_is_gone_or_holds_another_key_too(
        self, server: Gatekeeper, store: Store, tmp_path: Path, no_terminal: None, capsys: Captured
    ) -> None:
        path = new_key(tmp_path)
        joined(server, store, KeyChoice(file=path))
        path.unlink()
        assert self.found(capsys)["key-unusable"]["what"] == f"there is no key file {path}"
        new_key(tmp_path, "other", passphrase=PASSPHRASE).rename(path)
        assert "bring the key back" in self.found(capsys)["key-missing"]["remedy"]

    def test_a_security_key_is_touched_for_one_round_of_knocks_only(
        self,
        server: Gatekeeper,
        store: Store,
        tmp_path: Path,
        keys: KeyAgent,
        security_key: SoftSecurityKey,
        capsys: Captured,
    ) -> None:
        keys.add(new_security_key(tmp_path, security_key))
        joined(server, store, KeyChoice(agent=""))
        before = security_key.touches
        assert {"key", "ipv4", "ipv6"} <= self.found(capsys).keys()
        assert security_key.touches - before == 2


class TestTheCommands:
    """What is printed, and mistakes."""

    def test_show_names_the_place_and_the_fingerprint(
        self, server: Gatekeeper, store: Store, tmp_path: Path, capsys: Captured
    ) -> None:
        path = new_key(tmp_path)
        joined(server, store, KeyChoice(file=path))
        assert run(["show", "office"]) == 0
        assert f"ssh-ed25519 {fingerprint(path)}, in the file {path}" in capsys.readouterr().out
        assert run(["show", "office", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["key"] == {
            "kept_in": "file",
            "file": str(path),
            "openssh": "ssh-ed25519",
            "fingerprint": fingerprint(path),
        }

    def test_show_needs_neither_passphrase_nor_agent(
        self, server: Gatekeeper, store: Store, keys: KeyAgent, tmp_path: Path, typed: list[str], capsys: Captured
    ) -> None:
        keys.add(new_key(tmp_path))
        joined(server, store, KeyChoice(agent=""))
        keys.stop()
        join(server.invite().text(), store=store, name="cellar", place=KeyChoice(passphrase=True).place())
        del typed[:]
        assert (run(["show", "office"]), run(["show", "cellar"]), run(["list"])) == (0, 0, 0)
        assert ", in the key agent\n" in capsys.readouterr().out
        assert typed == []

    def test_two_keys_are_one_too_many(self, server: Gatekeeper, store: Store, capsys: Captured) -> None:
        assert run(["join", server.invite().text(), "--passphrase", "--keyring"]) == 2
        assert "give one of --key, --agent, --passphrase and --keyring" in capsys.readouterr().err

    def test_removing_leaves_a_key_that_was_there_before(
        self, server: Gatekeeper, store: Store, tmp_path: Path
    ) -> None:
        path = new_key(tmp_path)
        joined(server, store, KeyChoice(file=path))
        assert run(["remove", "office", "--yes"]) == 0
        assert path.exists()

    @pytest.mark.parametrize(
        "lines",
        [
            'key = "pocket"\n',
            'key = "agent"\n',
            'key = "agent"\npublic_key = "spa-device1qq"\n',
            'key = "file"\npublic_key = "{public}"\n',
            'key = "agent"\npublic_key = "{public}"\nkey_file = "/x"\n',
        ],
    )
    def test_a_damaged_place_is_named(self, lines: str, office: Perimeter, store: Store) -> None:
        path = store.folder / "office" / "perimeter.toml"
        path.write_text(lines.format(public=office.device_text) + path.read_text())
        with pytest.raises(BadConfiguration, match=r"(key|public_key|key_file) must be"):
            store.load("office")


def test_the_enrolment_says_which_kind_of_key_it_is(server: Gatekeeper, store: Store, tmp_path: Path) -> None:
    joined(server, store, KeyChoice(file=new_key(tmp_path)))
    (seen, *_) = [each.message for each in server.requests if isinstance(each.message, Enrolment)]
    assert seen.application == ""
