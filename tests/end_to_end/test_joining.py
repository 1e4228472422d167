"""`spa-client join` as people do it: the invite pasted at a prompt, or photographed from the server's terminal."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.end_to_end.laptop import SCRIPTS
from tests.end_to_end.running import Laptop, RunningServer
from tests.end_to_end.terminal import Terminal
from tests.lab import Lab

CLIENT = str(SCRIPTS / "spa-client")
_HALVES = {"█": (1, 1), "▀": (1, 0), "▄": (0, 1), " ": (0, 0)}
"""The characters of a code drawn on a terminal, each two modules high: which of them are lit."""


def newcomer(server: RunningServer, lab: Lab) -> Laptop:
    """A laptop on which nothing is joined."""
    return Laptop(lab.clients["alice"], server.folder / "client-new", server.settle)


class TestAtATerminal:
    """Driven through tmux: a real terminal, real keys."""

    def test_the_invite_is_asked_for_and_pasted(self, server: RunningServer, lab: Lab) -> None:
        laptop = newcomer(server, lab)
        invite = server.invite("alice-laptop")
        with Terminal(laptop.host, [CLIENT, "join", "--name", "office", "--timeout", "20"], laptop.env) as terminal:
            terminal.wait_for("Paste the invite")
            terminal.paste(invite)
            terminal.type("Enter")
            assert terminal.status() == 0
            assert "joined: office, as alice-laptop" in terminal.screen()
            assert "try: spa-client knock office" in terminal.screen()
        assert "open: web" in laptop.client("knock", "office", check=True).stdout

    def test_nothing_pasted_is_not_an_invite(self, server: RunningServer, lab: Lab) -> None:
        laptop = newcomer(server, lab)
        with Terminal(laptop.host, [CLIENT, "join"], laptop.env) as terminal:
            terminal.wait_for("Paste the invite")
            terminal.type("Enter")
            assert terminal.status() == 2
            assert "the invite is empty" in terminal.screen()

    def test_control_c_at_the_prompt_joins_nothing(self, server: RunningServer, lab: Lab) -> None:
        laptop = newcomer(server, lab)
        with Terminal(laptop.host, [CLIENT, "join"], laptop.env) as terminal:
            terminal.wait_for("Paste the invite")
            terminal.type("C-c")
            assert terminal.status() == 130
            assert "Traceback" not in terminal.screen()
        assert not laptop.folder.exists()

    def test_remove_asks_and_takes_no_for_an_answer(self, server: RunningServer, alice: Laptop) -> None:
        for answer, status, left in (("n", 2, True), ("C-d", 2, True), ("y", 0, False)):
            with Terminal(alice.host, [CLIENT, "remove", "office"], alice.env) as terminal:
                terminal.wait_for("Delete the key of office?")
                terminal.type(answer, *([] if answer == "C-d" else ["Enter"]))
                assert terminal.status() == status
                assert ("nothing was removed" in terminal.screen()) is left
            assert (alice.folder / "office").exists() is left


def test_a_photograph_of_the_servers_terminal_enrols(server: RunningServer, lab: Lab) -> None:
    shown = server.command("invite", "alice-laptop", "--user", "alice", "--role", "admin", "--qr").stdout
    picture = server.folder / "photograph.png"
    photograph([line for line in shown.splitlines() if line and not line.strip(" █▀▄")], picture)
    laptop = newcomer(server, lab)
    laptop.client("join", "--qr", str(picture), "--name", "office", check=True)
    assert "open: web" in laptop.client("knock", "office", check=True).stdout


def photograph(lines: list[str], path: Path) -> None:
    """A picture of what a terminal with a dark ground shows."""
    width = max(map(len, lines))
    pixels = [255 * _HALVES[character][half] for line in lines for half in (0, 1) for character in line.ljust(width)]
    picture = Image.new("L", (width, 2 * len(lines)))
    picture.putdata(pixels)
    picture.resize((width * 5, len(lines) * 10), Image.Resampling.NEAREST).save(path)
