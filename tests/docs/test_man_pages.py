"""The manual pages: written from the commands as they are now, whole, and what man(1) and mandoc can set."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.docs.blocks import ROOT
from tests.systemd.installing import build_wheel
from tools.man_pages import PROGRAMS, page, roff

NAMES = sorted(PROGRAMS)


def path_of(name: str) -> Path:
    return ROOT / "man" / f"{name}.{PROGRAMS[name].section}"


def commands(context: click.Context) -> Iterator[click.Context]:
    """Every command of a program, groups included."""
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            yield from commands(click.Context(command, info_name=name, parent=context))


def shown(path: Path) -> str:
    """What a reader sees, in one line."""
    if shutil.which("mandoc") is None:
        pytest.fail("missing programs: apt-get install -y mandoc", pytrace=False)
    done = subprocess.run(
        ["mandoc", "-T", "utf8", "-O", "width=1000", path], capture_output=True, text=True, check=True
    )
    overstruck = re.sub(".\b", "", done.stdout).replace("\N{NO-BREAK SPACE}", " ")
    return " ".join(overstruck.split())


@pytest.mark.parametrize("name", NAMES)
def test_the_page_says_what_the_commands_say_now(name: str) -> None:
    assert path_of(name).read_text(encoding="utf-8") == page(name), "write them anew: tools/man"


@pytest.mark.parametrize("name", NAMES)
def test_every_command_and_option_can_be_read_in_it(name: str) -> None:
    text = shown(path_of(name))
    group = PROGRAMS[name].group
    for context in commands(click.Context(group, info_name=name)):
        assert context.command_path in text
        for parameter in context.command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert all(option in text for option in parameter.opts), parameter.name
                assert parameter.help is not None
                assert parameter.help.replace("`", "") in text
        for paragraph in re.split(r"\n\s*\n", context.command.help or ""):
            assert " ".join(paragraph.replace("\b", "").replace("`", "").split()) in text


@pytest.mark.parametrize("name", NAMES)
def test_there_is_nothing_in_it_that_mandoc_would_mend(name: str) -> None:
    done = subprocess.run(["mandoc", "-T", "lint", path_of(name)], capture_output=True, text=True, check=False)
    # A date would make every day's page another one; a line of an example is as long as what is typed.
    harmless = ("missing date", "input text line longer than 80 bytes")
    assert [line for line in done.stdout.splitlines() if not any(each in line for each in harmless)] == []


@pytest.mark.parametrize("text", [".TH a", "'br", "a\\fBb", '"q"', "-x", "\\"])
def test_no_text_is_taken_for_an_order(text: str, tmp_path: Path) -> None:
    made = tmp_path / "page.1"
    made.write_text(f'.TH A 1 "" "" ""\n.SH NAME\na \\- b\n.SH B\n{roff(text)}\n')
    assert f"B {text} " in shown(made)


def test_the_wheel_brings_them_to_where_man_looks(tmp_path: Path) -> None:
    with zipfile.ZipFile(build_wheel(tmp_path)) as wheel:
        held = {name.partition(".data/data/")[2] for name in wheel.namelist()}
    assert {"share/man/man1/spa-client.1", "share/man/man8/spa-server.8"} <= held
