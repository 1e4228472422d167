"""A command line of which everything behind `--` belongs to another program, so that NAME before it may be left out."""

from __future__ import annotations

import click


class NameBeforeDashes(click.Command):
    """A command with an argument `name`, which is None where the line has none before `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        nameless = "--" in args and self._is_nameless(ctx, args[: args.index("--")])
        if nameless:
            # A word in its place, for click counts words.
            args = ["-", *args]
        rest = super().parse_args(ctx, args)
        if nameless:
            ctx.params["name"] = None
        return rest

    def _is_nameless(self, ctx: click.Context, before: list[str]) -> bool:
        try:
            values, _, _ = self.make_parser(ctx).parse_args(args=list(before))
        except click.UsageError:
            # It is found once more, and told, when the whole line is read.
            return False
        return not isinstance(values.get("name"), str)
