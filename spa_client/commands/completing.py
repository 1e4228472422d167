"""What a shell offers for an argument: the perimeters joined and their services, read from files that hold no secret.

It runs at every press of the key, so it must open no socket and write nothing; and whatever is wrong with a file, it
offers less, and says nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from spa_client.storage import Store

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def perimeter_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The perimeters joined."""
    return _offered(_names(Store.default()), incomplete)


def service_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The services of the perimeter that is named on the line, or of the default one, without those named already."""
    given = ctx.params.get(parameter.name or "") or ()
    # Behind an option whose value is only now being typed, click has not yet told the words apart.
    name = ctx.params.get("name") or next(iter(ctx.args), None)
    known = Store.default().service_names(name)
    return _offered(tuple(name for name in known if name not in given), incomplete)


def command_words(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Files, which is what the words of another program's command line most often are."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def _names(store: Store) -> tuple[str, ...]:
    try:
        return store.names()
    except OSError:
        return ()


def _offered(names: tuple[str, ...], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
