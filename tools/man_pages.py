"""Manual pages from the commands themselves: one page for each program, with every command, argument and option.

`tools/man` writes them; a test holds them against the commands. The text is what `--help` prints, set in man(7).
click-man is not used: it knows neither commands that are loaded when they are needed, nor examples, and it leaves what
roff would obey as it is. This must not know any command by name.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import click

import spa_client.commands
import spa_server.commands


@dataclass(frozen=True, slots=True)
class Program:
    """What a page says beyond the commands. `files` and `environment`: name and meaning of each."""

    group: click.Command
    section: int
    summary: str
    files: tuple[tuple[str, str], ...]
    environment: tuple[tuple[str, str], ...]
    see_also: str


PROGRAMS = {
    "spa-client": Program(
        spa_client.commands.group,
        1,
        "open ports that exist only for you, for seconds",
        (("~/.config/spa", "The perimeters joined, on Linux. `spa-client show` names the folder that is used."),),
        (
            ("SPA_CLIENT_FOLDER", "The folder of the perimeters, in place of the platform's own."),
            ("SPA_CODE", "A one-time code for a server that asks for one, as `--code`; it is used once."),
            ("SPA_PASSPHRASE_FILE", "The file that holds the key's passphrase, as `--passphrase-file`."),
        ),
        "`spa-server`(8), `ssh`(1)",
    ),
    "spa-server": Program(
        spa_server.commands.group,
        8,
        "keep services closed until a signed knock opens them",
        (("/etc/spa/server.toml", "The configuration."),),
        (("SPA_SERVER_CONFIG", "The configuration file, in place of /etc/spa/server.toml."),),
        "`spa-client`(1), `nft`(8), `systemctl`(1)",
    ),
}


def page(name: str) -> str:
    """The page of a program, in man(7)."""
    program = PROGRAMS[name]
    context = click.Context(program.group, info_name=name, **program.group.context_settings)
    lines = [
        f'.TH {name.upper()} {program.section} "" "spa-perimeter {version("spa-perimeter")}" "spa-perimeter"',
        ".SH NAME",
        rf"{name} \- {program.summary}",
        ".SH SYNOPSIS",
        f".B {roff(name)}",
        _usage(context),
        ".SH DESCRIPTION",
        *_set(program.group.help or ""),
        ".SH OPTIONS",
        *_parameters(context),
        ".TP",
        f".B {roff(', '.join(context.help_option_names))}",
        "Show the help of the program, or of a command, and exit.",
        ".SH COMMANDS",
    ]
    common = inspect.cleandoc(program.group.epilog or "")
    for inner in _commands(context):
        lines += [f'.SS "{roff(inner.command_path)} {_usage(inner)}"', *_set(inner.command.help or "")]
        lines += _parameters(inner)
        own = inspect.cleandoc(inner.command.epilog or "")
        if own != common:
            lines += [".PP", *_set(own)]
    lines += [".SH EXIT STATUS", *_set(common.replace("Exit codes:\n", "", 1))]
    for title, entries in (("ENVIRONMENT", program.environment), ("FILES", program.files)):
        lines.append(f".SH {title}")
        for term, meaning in entries:
            lines += [".TP", f".B {roff(term)}", *_marked(meaning)]
    lines += [".SH SEE ALSO", *_marked(program.see_also)]
    return "\n".join(_tidy(lines)) + "\n"


def _commands(context: click.Context) -> Iterator[click.Context]:
    """Every command below a group, in the order in which it lists them."""
    if not isinstance(context.command, click.Group):
        return
    for name in context.command.list_commands(context):
        command = context.command.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        yield inner
        yield from _commands(inner)


def _usage(context: click.Context) -> str:
    return roff(" ".join(context.command.collect_usage_pieces(context)))


def _parameters(context: click.Context) -> Iterator[str]:
    for parameter in context.command.params:
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            names, said = record
            yield from (".TP", f".B {roff(names)}", *_marked(said))


def _set(text: str) -> Iterator[str]:
    r"""Paragraphs as click reads them: what a \b heads is set as it stands."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text))
    for paragraph in filter(str.strip, paragraphs):
        yield ".PP"
        if paragraph.startswith("\b\n"):
            yield from (".EX", *map(roff, paragraph.removeprefix("\b\n").splitlines()), ".EE")
        else:
            yield from _marked(paragraph)


def _marked(text: str) -> list[str]:
    """Running text in short lines, with what stands in backquotes in bold."""
    parts = enumerate(text.split("`"))
    plain = "".join(rf"\fB{_escaped(part)}\fR" if number % 2 else _escaped(part) for number, part in parts)
    lines = textwrap.wrap(plain, 78, break_long_words=False, break_on_hyphens=False)
    return [_no_request(line) for line in lines]


def roff(text: str) -> str:
    """A line that roff prints as it is."""
    return _no_request(_escaped(text))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq")


def _no_request(line: str) -> str:
    return rf"\&{line}" if line.startswith((".", "'")) else line


def _tidy(lines: list[str]) -> Iterator[str]:
    """The lines without paragraphs that begin nothing, as after a heading."""
    for before, line in zip(["", *lines], lines, strict=False):
        if not (line == ".PP" and before.startswith((".SH", ".SS", ".PP"))):
            yield line


def write(folder: Path) -> None:
    """Write every page into a folder."""
    folder.mkdir(exist_ok=True)
    for name, program in PROGRAMS.items():
        (folder / f"{name}.{program.section}").write_text(page(name), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
