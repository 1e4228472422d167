"""What somebody gets wrong who is new to this, and the very line that each mistake prints.

Mistakes that need a network of their own are in tests/end_to_end/test_errors_client.py and test_diagnosis.py.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from spa_client.commands import run
from spa_client.enrol import join
from spa_client.pasted import pasted_invite
from spa_client.perimeter import Perimeter
from spa_client.storage import FOLDER_VARIABLE, Store
from spa_protocol.answer import AnsweredService
from spa_protocol.invite import Invite
from spa_protocol.refusal import Refusal
from spa_protocol.text import TextKind, encode
from tests.client.gatekeeper import WEB, Gatekeeper

Captured = pytest.CaptureFixture[str]
USAGE, REFUSED, NO_ANSWER, CONFIGURATION, NOT_PERMITTED, FAULT = 2, 3, 4, 5, 6, 7


@dataclass
class World:
    """A laptop that has joined `office`, its server, and one more invite."""

    server: Gatekeeper
    store: Store
    office: Perimeter
    invite: Invite
    patch: pytest.MonkeyPatch
    folder: Path

    def pipe(self, text: str) -> None:
        """What comes on standard input, which is no terminal."""
        self.patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    def edit(self, before: str, after: str) -> None:
        """Change the perimeter's file."""
        path = self.store.folder / "office" / "perimeter.toml"
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))


@pytest.fixture
def world(
    server: Gatekeeper, store: Store, office: Perimeter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> World:
    """The world before the mistake."""
    monkeypatch.delenv("SUDO_USER", raising=False)
    return World(server, store, office, server.invite(), monkeypatch, tmp_path)


Prepare = Callable[[World], object]


def nothing(world: World) -> None:
    """The mistake is all in the command line."""


def joined_home_too(world: World) -> None:
    join(world.server.invite().text(), store=world.store, name="home")


def invite_used_elsewhere(world: World) -> None:
    join(world.invite.text(), store=Store(world.folder / "other", world.folder / "other-state"))


def invite_expired(world: World) -> None:
    world.invite = world.server.invite(expires_in_s=-3600)


def fresh_laptop(world: World) -> None:
    world.store.remove("office")


def fresh_laptop_under_sudo(world: World) -> None:
    fresh_laptop(world)
    world.patch.setenv("SUDO_USER", "alice")
    world.patch.setattr("os.geteuid", lambda: 0)


def folder_misspelt(world: World) -> None:
    world.patch.setenv(FOLDER_VARIABLE, str(world.folder / "spaa"))


def key_open_to_others(world: World) -> None:
    (world.store.folder / "office" / "device.key").chmod(0o644)


def key_deleted(world: World) -> None:
    (world.store.folder / "office" / "device.key").unlink()


def clock_an_hour_behind(world: World) -> None:
    world.server.behaviour.clock_ms = 3_600_000


def server_silent(world: World) -> None:
    world.server.behaviour.silent = True


def device_disabled(world: World) -> None:
    world.server.behaviour.refuse = Refusal.DEVICE_DISABLED


def two_services_known(world: World) -> None:
    world.server.behaviour.services = (WEB, AnsweredService("database", 30, 5432, 0, False))
    assert run(["knock", "office", "--quiet"]) == 0


def host_unknown(world: World) -> None:
    world.edit('"127.0.0.1", "::1"', '"gw.invalid"')


def invite_in_a_file(world: World) -> None:
    (world.folder / "invite.txt").write_text(world.invite.text())
    world.patch.chdir(world.folder)


MISTAKES: list[tuple[str, Prepare, str, int, str]] = [
    (
        "half of the invite pasted",
        nothing,
        "join {half}",
        USAGE,
        "the invite cannot be used: its checksum is wrong: some of it was lost or changed; copy the whole text again",
    ),
    (
        "join without the invite",
        nothing,
        "join",
        USAGE,
        "give the invite: spa-client join spa-invite1..., or - and the text on standard input, or --qr and a picture",
    ),
    (
        "an empty variable in place of the invite",
        nothing,
        "join ''",
        USAGE,
        "the invite is empty: give the text that starts with spa-invite1",
    ),
    (
        "nothing piped in",
        lambda world: world.pipe(""),
        "join -",
        USAGE,
        "nothing came on standard input: pipe the invite in, as in spa-client join - < invite.txt",
    ),
    (
        "the name of the file that holds the invite",
        invite_in_a_file,
        "join invite.txt",
        USAGE,
        "invite.txt is a file: to join with the invite in it, spa-client join - < invite.txt, or with its picture"
        " of a code, spa-client join --qr invite.txt",
    ),
    (
        "another text of ours in place of the invite",
        nothing,
        "join {device}",
        USAGE,
        "the invite cannot be used: that is a device's identity, which an operator adds with: spa-server device add;"
        " an invite starts with spa-invite1",
    ),
    (
        "a secret in place of the invite, which is not repeated",
        nothing,
        "join {secret}",
        USAGE,
        "the invite cannot be used: that is a secret key, which belongs in nobody's hands and no command line;"
        " an invite starts with spa-invite1",
    ),
    (
        "a link in place of the invite",
        nothing,
        "join https://office.example.com/invite",
        USAGE,
        "the invite cannot be used: it has to start with spa-invite1; whoever runs the server makes one with spa-server"
        " invite",
    ),
    (
        "an invite that was used already",
        invite_used_elsewhere,
        "join {invite} --name again",
        REFUSED,
        "the server refused: the invite was already used, by another key; ask for a new one",
    ),
    (
        "an invite that has expired",
        invite_expired,
        "join {invite} --name again",
        REFUSED,
        "the invite expired at <when> UTC, and this computer's clock says <now> UTC: ask for a new one (spa-server"
        " invite)",
    ),
    (
        "a name that is taken",
        nothing,
        "join {invite} --name office",
        USAGE,
        "a perimeter named office is joined already: choose another with --name, or give --replace",
    ),
    (
        "a name that cannot be one",
        nothing,
        "join {invite} --name 'My Office'",
        USAGE,
        "'My Office' cannot name a perimeter: small letters, digits, '_' and '-', at most 63 characters",
    ),
    (
        "knock before join",
        fresh_laptop,
        "knock",
        CONFIGURATION,
        "no perimeter is joined yet in {folder}; correct SPA_CLIENT_FOLDER, or join: spa-client join INVITE",
    ),
    (
        "sudo, where another user has joined",
        fresh_laptop_under_sudo,
        "knock office",
        CONFIGURATION,
        "no perimeter is joined yet by root; run it as alice, without sudo, or let root join: spa-client join INVITE",
    ),
    (
        "a variable that names the wrong folder",
        folder_misspelt,
        "knock office",
        CONFIGURATION,
        "no perimeter is joined yet in {folder}a, which does not exist; correct SPA_CLIENT_FOLDER, or join:"
        " spa-client join INVITE",
    ),
    (
        "a perimeter misspelt",
        joined_home_too,
        "knock ofice",
        CONFIGURATION,
        "no perimeter named ofice (joined: home, office); did you mean office?",
    ),
    (
        "the server's name in place of the perimeter's",
        nothing,
        "knock 127.0.0.1",
        CONFIGURATION,
        "no perimeter named 127.0.0.1 (joined: office); that is the server of office: spa-client knock office",
    ),
    (
        "a service in place of the perimeter",
        nothing,
        "knock web",
        CONFIGURATION,
        "no perimeter named web (joined: office); that is a service of office: spa-client knock office web",
    ),
    (
        "two perimeters and no name",
        joined_home_too,
        "knock",
        CONFIGURATION,
        "several perimeters are joined, name one of them: home, office; or choose one for good:"
        " spa-client default NAME",
    ),
    (
        "a service misspelt",
        two_services_known,
        "knock office databse",
        REFUSED,
        "office refused: unknown service databse: the server protects no service of that name; did you mean database?",
    ),
    (
        "a service that is not there",
        two_services_known,
        "knock office ssh",
        REFUSED,
        "office refused: unknown service ssh: the server protects no service of that name; this device knows of:"
        " web, database",
    ),
    (
        "a port in place of the service",
        two_services_known,
        "knock office 5432",
        USAGE,
        "'5432' cannot be a service: small letters, digits and '-', at most 24 characters; that is the port of service"
        " database",
    ),
    (
        "a service in capitals",
        nothing,
        "knock office WEB",
        USAGE,
        "'WEB' cannot be a service: small letters, digits and '-', at most 24 characters; did you mean web?",
    ),
    (
        "the words the wrong way round",
        nothing,
        "office knock",
        USAGE,
        "No such command 'office'. The command comes first: spa-client knock office (spa-client --help says more)",
    ),
    (
        "a command misspelt",
        nothing,
        "nock office",
        USAGE,
        "No such command 'nock'. Did you mean: spa-client knock office (spa-client --help says more)",
    ),
    (
        "an option misspelt",
        nothing,
        "knock office --tmeout 5",
        USAGE,
        "No such option '--tmeout'. Did you mean --timeout? (spa-client knock --help says more)",
    ),
    (
        "exec without the two dashes",
        nothing,
        "exec office ssh -p 2222 gw.example.com",
        120 + USAGE,
        "No such option '-p'. Put -- before the command to run: spa-client exec NAME -- COMMAND (spa-client exec --help"
        " says more)",
    ),
    (
        "exec without a command",
        nothing,
        "exec office",
        120 + USAGE,
        "Missing argument '-- COMMAND...'. Put -- before the command to run: spa-client exec NAME -- COMMAND"
        " (spa-client exec --help says more)",
    ),
    (
        "a command that is not installed",
        nothing,
        "exec office -- no-such-command-anywhere",
        127,
        "no-such-command-anywhere: no such command; is it installed, and spelt as it is?",
    ),
    (
        "a source that is no address",
        nothing,
        "knock office --source wlan0",
        USAGE,
        "'wlan0' is not a source: give 'seen', 'local' or an IP address",
    ),
    (
        "remove where nobody can be asked",
        lambda world: world.pipe(""),
        "remove office",
        USAGE,
        "nothing was removed: give --yes, for there is no terminal to ask on",
    ),
    (
        "a key that others can read",
        key_open_to_others,
        "knock office",
        NOT_PERMITTED,
        "{folder}/office/device.key can be read by others: chmod 600 '{folder}/office/device.key'",
    ),
    (
        "a key that was deleted",
        key_deleted,
        "knock office",
        CONFIGURATION,
        "{folder}/office/device.key is missing: join again with a new invite",
    ),
    (
        "a clock that is off",
        clock_an_hour_behind,
        "knock office",
        REFUSED,
        "this computer's clock is 36<..> s behind the server's; set it (<command>)",
    ),
    (
        "a server that does not answer",
        server_silent,
        "knock office --timeout 0.3",
        NO_ANSWER,
        "no answer from 127.0.0.1 and ::1 udp/{port} within 0.3 s: the server is down, UDP is blocked on the way, or it"
        " does not know this device any more (here: spa-client doctor office; on the server: spa-server why"
        " alice-laptop)",
    ),
    (
        "a device that was disabled",
        device_disabled,
        "knock office",
        REFUSED,
        "office refused: the device is disabled; `spa-server device enable` lets it in again",
    ),
    (
        "a host name that nobody knows",
        host_unknown,
        "knock office",
        FAULT,
        "no address for the server: gw.invalid (<reason>); check the network and the name",
    ),
]


ABOUT_MODES = {"sudo, where another user has joined", "a key that others can read"}


@pytest.mark.parametrize(
    ("prepare", "typed", "code", "line"),
    [
        pytest.param(*each[1:], id=each[0], marks=[pytest.mark.file_modes] if each[0] in ABOUT_MODES else [])
        for each in MISTAKES
    ],
)
def test_one_line_says_what_to_do(
    prepare: Prepare, typed: str, code: int, line: str, world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    import shlex

    prepare(world)
    capfd.readouterr()
    invite = world.invite.text()
    values = {
        "invite": invite,
        "half": invite[: len(invite) // 2],
        "device": world.office.device_text,
        "secret": encode(TextKind.SECRET_KEY, bytes(32)),
        "folder": str(world.store.folder),
        "port": str(world.server.port),
    }
    assert run(shlex.split(typed.format_map(values))) == code
    said = capfd.readouterr()
    assert said.out == ""
    wanted = re.sub(r"<[^>]*>", ".+", re.escape(line.format_map(values)))
    assert re.fullmatch(rf"spa-client: {wanted}\n", said.err), said.err


def test_there_are_twenty_and_more() -> None:
    assert len({typed for _, _, typed, _, _ in MISTAKES}) > 20


class TestAnInviteFromAMail:
    """What mail programs do to a long line is undone."""

    @pytest.mark.parametrize(
        "mangled",
        [
            lambda text: "\n".join(text[i : i + 72] for i in range(0, len(text), 72)),
            lambda text: "\r\n".join("> " + text[i : i + 60] for i in range(0, len(text), 60)),
            lambda text: f"Your invite:\n\n    <{text[:40]}\n    {text[40:]}>\n",
            lambda text: f"\u201c{text[:80]}\u00ad\u200b{text[80:]}\u201d.",
            lambda text: f"spa-client join {text}",
            lambda text: text.upper(),
        ],
        ids=["broken lines", "a quotation", "a sentence before it", "marks unseen", "the whole command", "capitals"],
    )
    def test_it_joins(
        self, mangled: Callable[[str], str], world: World, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = mangled(world.invite.text())
        assert run(["join", text, "--name", "argument"]) == 0
        world.pipe(mangled(world.server.invite().text()))
        assert run(["join", "-", "--name", "piped"]) == 0

    def test_a_delegation_is_mended_in_the_same_way(self) -> None:
        assert pasted_invite("> SPA-DELEGATION1QPZ\n> RY9X8\n") == "SPA-DELEGATION1QPZRY9X8"

    def test_a_shell_that_cut_it_at_the_line_breaks_is_understood_too(self, world: World) -> None:
        text = world.invite.text()
        assert run(["join", text[:70], text[70:140], text[140:], "--name", "again"]) == 0


def test_a_folder_that_cannot_be_written(world: World) -> None:
    """A disk mounted read-only, which root feels as well."""
    program = Path(sysconfig.get_path("scripts")) / "spa-client"
    folder = world.folder / "read-only"
    folder.mkdir()
    mount = 'mount -t tmpfs -o ro none "$0" && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, folder, sys.executable, program, "join", world.invite.text()],
        env={FOLDER_VARIABLE: f"{folder}/spa", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == (
        f"spa-client: {folder}/spa: Read-only file system; point SPA_CLIENT_FOLDER at a folder that can be written\n"
    )
    assert done.returncode == FAULT
