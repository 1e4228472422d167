"""The ways in which an invite reaches `spa-client join`: pasted, piped, as a picture of its QR code."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import segno
from PIL import Image

from spa_client.commands import run
from spa_client.errors import BadUsage
from spa_client.qr_picture import invite_in_picture
from spa_client.storage import Store
from tests.client.gatekeeper import Gatekeeper

Captured = pytest.CaptureFixture[str]


def drawn(text: str, path: Path, *, border: int = 4, scale: int = 4, dark: str = "black", light: str = "white") -> Path:
    """A picture of a text's QR code, drawn as `spa-server invite --qr` draws it: in capitals, at the lowest level."""
    code = segno.make(text.upper(), error="l")
    code.save(str(path.with_suffix(".png")), border=border, scale=scale, dark=dark, light=light)
    with Image.open(path.with_suffix(".png")) as picture:
        picture.convert("RGB").save(path)
    return path


class TestAPicture:
    """`--qr FILE`."""

    def test_it_enrols_as_the_text_does(self, server: Gatekeeper, store: Store, tmp_path: Path) -> None:
        picture = drawn(server.invite().text(), tmp_path / "invite.png")
        assert run(["join", "--qr", str(picture), "--name", "office"]) == 0
        assert run(["knock", "office"]) == 0

    @pytest.mark.parametrize("name", ["invite.png", "invite.jpg", "invite.webp", "invite.bmp", "invite.gif"])
    def test_any_usual_kind_of_picture_is_read(self, name: str, server: Gatekeeper, tmp_path: Path) -> None:
        text = server.invite().text()
        assert invite_in_picture(drawn(text, tmp_path / name)) == text

    def test_the_colours_of_a_dark_terminal_are_read(self, server: Gatekeeper, tmp_path: Path) -> None:
        text = server.invite().text()
        assert invite_in_picture(drawn(text, tmp_path / "p.png", dark="#ddd", light="#222")) == text

    @pytest.mark.parametrize("degrees", [0, 90, 180, 270])
    def test_one_cut_at_its_edge_and_turned_is_read(self, degrees: int, server: Gatekeeper, tmp_path: Path) -> None:
        text = server.invite().text()
        path = drawn(text, tmp_path / "p.png", border=0)
        with Image.open(path) as picture:
            picture.rotate(degrees, expand=True).save(path)
        assert invite_in_picture(path) == text

    def test_two_invites_are_not_chosen_from(self, server: Gatekeeper, tmp_path: Path) -> None:
        both = [drawn(server.invite().text(), tmp_path / f"{number}.png") for number in (1, 2)]
        pictures = [Image.open(path) for path in both]
        wide = Image.new("RGB", (sum(each.width for each in pictures), max(each.height for each in pictures)), "white")
        wide.paste(pictures[0], (0, 0))
        wide.paste(pictures[1], (pictures[0].width, 0))
        wide.save(tmp_path / "both.png")
        with pytest.raises(BadUsage, match="shows 2 invites"):
            invite_in_picture(tmp_path / "both.png")

    def test_another_code_is_not_an_invite(self, tmp_path: Path) -> None:
        with pytest.raises(BadUsage, match="not one of an invite"):
            invite_in_picture(drawn("https://example.com/", tmp_path / "p.png"))

    def test_a_picture_without_a_code_says_what_to_try(self, tmp_path: Path) -> None:
        Image.new("RGB", (300, 300), "white").save(tmp_path / "p.png")
        with pytest.raises(BadUsage, match="paste the invite's text"):
            invite_in_picture(tmp_path / "p.png")

    def test_a_decompression_bomb_is_not_unpacked(self, tmp_path: Path) -> None:
        Image.new("1", (9_000, 9_000)).save(tmp_path / "p.png")
        with pytest.raises(BadUsage, match="larger than any picture"):
            invite_in_picture(tmp_path / "p.png")

    @pytest.mark.parametrize(
        "content", [b"", b"spa-invite1qqq", bytes(range(256)) * 20, b"\x89PNG\r\n\x1a\n" + bytes(99)]
    )
    def test_what_is_no_picture_is_said_to_be_none(
        self, content: bytes, store: Store, tmp_path: Path, capsys: Captured
    ) -> None:
        (tmp_path / "p.png").write_bytes(content)
        assert run(["join", "--qr", str(tmp_path / "p.png")]) == 2
        assert "picture" in capsys.readouterr().err

    def test_half_a_picture_is_damaged(self, server: Gatekeeper, store: Store, tmp_path: Path) -> None:
        path = drawn(server.invite().text(), tmp_path / "p.png")
        path.write_bytes(path.read_bytes()[:400])
        assert run(["join", "--qr", str(path)]) == 2

    def test_a_file_that_is_not_there_is_named(self, store: Store, tmp_path: Path, capsys: Captured) -> None:
        assert run(["join", "--qr", str(tmp_path / "none.png")]) == 7
        assert "none.png" in capsys.readouterr().err

    def test_a_picture_and_a_text_are_one_too_many(self, store: Store, tmp_path: Path, capsys: Captured) -> None:
        assert run(["join", "spa-invite1qqq", "--qr", str(tmp_path / "p.png")]) == 2
        assert "not both" in capsys.readouterr().err

    def test_without_the_libraries_the_line_says_which_to_install(
        self, store: Store, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "zxingcpp", None)
        assert run(["join", "--qr", str(tmp_path / "p.png")]) == 5
        assert "pip install 'spa-perimeter[qr]'" in capsys.readouterr().err


def test_an_invite_that_a_mail_program_broke_into_lines_is_whole_again(
    server: Gatekeeper, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = server.invite().text()
    broken = "\r\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(broken.encode())))
    assert run(["join", "-", "--name", "office"]) == 0


def test_without_a_terminal_nobody_is_asked_for_it(
    store: Store, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"spa-invite1qqq\n")))
    assert run(["join"]) == 2
    line = capsys.readouterr().err
    assert "- and the text on standard input" in line
    assert "--qr and a picture" in line
