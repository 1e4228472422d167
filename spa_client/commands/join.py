"""`spa-client join`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from spa_client.commands import EXIT_CODES
from spa_client.commands.key_options import key_options
from spa_client.commands.options import passphrase_option, timeout_option
from spa_client.commands.terminal import at_terminal
from spa_client.delegating import is_delegation, take_up
from spa_client.enrol import join
from spa_client.errors import BadUsage
from spa_client.pasted import may_be_joined, pasted_invite
from spa_client.perimeter import Perimeter
from spa_client.provisioned import is_provision, take_up_provision
from spa_client.signing.choosing import KeyChoice
from spa_client.storage import Store

_LONGEST_INVITE = 4096


@click.command("join", epilog=EXIT_CODES, short_help="Enrol this device with an invite.")
@click.argument("words", metavar="[INVITE]", nargs=-1)
@click.option(
    "--qr",
    "picture",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Read the invite from a picture of its QR code.",
)
@click.option("--name", help="What to call the perimeter here; else the first part of the server's name.")
@click.option("--replace", "replace_old", is_flag=True, help="Take the place of a perimeter of that name.")
@click.option("--no-answer", is_flag=True, help="The server never answers: store the perimeter without its word.")
@key_options
@passphrase_option
@timeout_option
@click.option("--json", "as_json", is_flag=True, help="Print the perimeter as JSON.")
def command(
    words: tuple[str, ...],
    picture: Path | None,
    name: str | None,
    replace_old: bool,
    no_answer: bool,
    choice: KeyChoice,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Enrol this device with an INVITE, the text that `spa-server invite` printed; '-' reads it from standard input.

    Without INVITE it is asked for, where there is a terminal to ask at. It may be pasted as it came in a mail, with the
    line breaks (quoted, or into '-'). A key is made here and never leaves this computer, unless you choose one that you
    have. After any failure the same join may be run again. In place of an invite it takes what `spa-client delegate` or
    `spa-server device add` printed.

    \b
    Examples:
      spa-client join spa-invite1... --name office
      spa-client join
      spa-client join - < invite.txt
      spa-client join --qr screenshot.png --name office
      spa-client join spa-invite1... --name office --replace
      spa-client join spa-invite1... --key ~/.ssh/id_ed25519
      spa-client join spa-invite1... --agent
    """
    if not words and choice.agent and (is_provision(choice.agent) or may_be_joined(choice.agent)):
        # `--agent INVITE` was read as the agent's key of that name.
        words, choice = (choice.agent,), replace(choice, agent="")
    given, store, answers = _given(words, picture), Store.default(), not no_answer
    if is_provision(given):
        perimeter = take_up_provision(
            given, store=store, choice=choice, name=name, replace_old=replace_old, answers=answers
        )
    elif is_delegation(text := pasted_invite(given)):
        if choice != KeyChoice():
            raise BadUsage("a delegation brings its own key: leave out --key, --agent, --passphrase and --keyring")
        perimeter = take_up(text, store=store, name=name, replace_old=replace_old)
    else:
        perimeter = join(
            text,
            store=store,
            place=choice.place(),
            name=name,
            replace_old=replace_old,
            answers=answers,
            timeout_s=timeout_s,
        )
    _tell(perimeter, as_json)


def _tell(perimeter: Perimeter, as_json: bool) -> None:
    if as_json:
        from spa_client.checkpoints import CheckpointNote
        from spa_client.commands.show import as_json_text

        click.echo(as_json_text(perimeter, CheckpointNote(None)))
        return
    click.echo(f"joined: {perimeter.name}, as {perimeter.label}")
    if not perimeter.answers:
        click.echo("the server has not confirmed it; the first connection will show")
    for service in perimeter.services:
        click.echo(f"may open: {service.name}")
    click.echo(f"try: spa-client knock {perimeter.name}")


def _given(words: tuple[str, ...], picture: Path | None) -> str:
    """What was given as the invite: words of the command line, standard input, a picture, or what is pasted now."""
    if picture is not None:
        if words:
            raise BadUsage("give the invite's text or a picture of it, not both")
        from spa_client.qr_picture import invite_in_picture

        return invite_in_picture(picture)
    if not words:
        return _pasted()
    if words == ("-",):
        # As bytes: whatever was piped in by mistake gets the sentence about invites, not a decoding error.
        given = sys.stdin.buffer.read(_LONGEST_INVITE).decode("utf-8", "replace")
        if not given.strip():
            raise BadUsage("nothing came on standard input: pipe the invite in, as in spa-client join - < invite.txt")
        return given
    if len(words) == 1 and _is_file(words[0]):
        raise BadUsage(
            f"{words[0]} is a file: to join with the invite in it, spa-client join - < {words[0]},"
            f" or with its picture of a code, spa-client join --qr {words[0]}"
        )
    # A shell cuts an unquoted text at its line breaks; the pieces are still in order.
    return " ".join(words)


def _pasted() -> str:
    if not at_terminal():
        raise BadUsage(
            "give the invite: spa-client join spa-invite1..., or - and the text on standard input,"
            " or --qr and a picture"
        )
    answer: str = click.prompt("Paste the invite (spa-invite1...)", err=True, default="", show_default=False)
    return answer


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        # Far too long to be a path, or with characters that none has.
        return False
