"""The program as a whole: a check of every word of the command line."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from keras_lrp_prune.cli.outcome import BAD_INPUT, fail


class Program(TyperGroup):
    """Refuses empty words, such as a shell makes of a variable that is not set.

    A path that is empty would be taken for the working directory.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Checks the words before they are parsed."""
        for before, word in zip([ctx.info_name or "", *args], args, strict=False):
            if not word or (word.startswith("--") and word.endswith("=")):
                where = f"{word} has no value" if word else f"The word after {before!r} is empty"
                fail(f"{where}. Is a variable of the shell not set?", BAD_INPUT)
        return super().parse_args(ctx, args)
