"""Every command in the documentation exists, with the arguments and options that it is shown with."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

import spa_client.commands
import spa_server.commands
from tests.docs.blocks import PAGES, ROOT, blocks, inline_commands, typed_commands

PROGRAMS: dict[str, click.Command] = {"spa-server": spa_server.commands.group, "spa-client": spa_client.commands.group}


def find_command(words: list[str]) -> tuple[click.Command | None, list[str]]:
    """The command that the words name (None where there is none), and the words that are left for it."""
    command, rest = PROGRAMS[words[0]], words[1:]
    while isinstance(command, click.Group) and rest and rest[0][0].isalpha():
        found = command.get_command(click.Context(command), rest[0])
        if found is None:
            return None, rest
        command, rest = found, rest[1:]
    return command, rest


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_written_out_is_read_by_the_program(page: Path) -> None:
    for words in typed_commands(page):
        command, rest = find_command(words)
        assert command is not None, words
        try:
            # A file that it reads need not be here.
            command.make_context(" ".join(words), ["/dev/null" if word.startswith("/root/") else word for word in rest])
        except click.UsageError as error:
            pytest.fail(f"{page.name}: {' '.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_named_in_the_text_exists(page: Path) -> None:
    for words in inline_commands(page):
        command, rest = find_command(words)
        assert command is not None, words
        options = {option for each in command.params for option in each.opts + each.secondary_opts} | {"--help"}
        given = {word for word in rest[: rest.index("--") if "--" in rest else None] if word.startswith("--")}
        assert given <= options, f"{' '.join(words)}: no {' '.join(given - options)}"


def test_the_scripts_that_the_readme_names_are_there_to_be_run() -> None:
    for script in (
        "demo/run",
        "tests/run",
        "benchmarks/run",
        ".ci/run",
        "tests/fuzz/run",
        "tests/chaos/run",
        "tests/mutation/run",
        "tests/soak/run",
        "tools/man",
        "tools/single-file",
    ):
        assert (ROOT / script).stat().st_mode & 0o111, script


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_python_of_the_readme_compiles() -> None:
    for block in blocks(ROOT / "README.md", "python"):
        compile(block, "README.md", "exec")
