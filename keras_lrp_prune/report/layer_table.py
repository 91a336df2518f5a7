"""The table of what can be pruned of each layer, for terminals of any width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from keras_lrp_prune.report.tables import cell_text, figure_text, new_table

_HEADERS = ("Layer", "Class", "Output", "Filters", "Prunable", "Remark")
_NUMBERS = ("Filters", "Prunable")
_SHORTEST_REMARK = 20
_BETWEEN = 3  # columns


@dataclass(frozen=True)
class LayerTable:
    """A table of what can be pruned of each layer.

    Each layer has a row of six columns, if the terminal is wide enough for all names. Otherwise
    each name has a line of its own, with class, output and remark below it.

    Args:
        rows: Per layer its name, class, output shape, number of filters, how many of them can be
            pruned, and a remark; figures as in `before_after_table`, but `None` is left blank.
        title: Title above the table.

    Example:
        >>> table = LayerTable([("conv", "Conv2D", "(8, 8, 16)", 16, 12, "prunable")])
        >>> print_table(table)  # doctest: +NORMALIZE_WHITESPACE
         Layer   Class    Output       Filters   Prunable   Remark
        ─────────────────────────────────────────────────────────────
         conv    Conv2D   (8, 8, 16)        16         12   prunable
    """

    rows: Sequence[Sequence[object]]
    title: str | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See rich's protocol."""
        rows = [
            [cell_text("" if value is None else figure_text(value)) for value in row]
            for row in self.rows
        ]
        *columns, remarks = zip(_HEADERS, *rows, strict=True)
        widths = [max(cell_len(str(cell)) for cell in column) for column in columns]
        words = [cell_len(word) for remark in remarks for word in str(remark).split()]
        needed = sum(widths) + len(widths) * _BETWEEN + max([_SHORTEST_REMARK, *words])
        yield self._wide(rows) if needed <= options.max_width else self._narrow(rows)

    def _wide(self, rows: Sequence[Sequence[Text]]) -> Table:
        table = new_table(_HEADERS, self.title)
        for column, header in zip(table.columns, _HEADERS, strict=True):
            column.justify = "right" if header in _NUMBERS else "left"
            column.no_wrap = header != "Remark"
        for row in rows:
            table.add_row(*row)
        return table

    def _narrow(self, rows: Sequence[Sequence[Text]]) -> Table:
        table = new_table(("Layer", *_NUMBERS), self.title)
        for name, kind, shape, filters, prunable, remark in rows:
            what = Text(" ").join(part for part in (kind, shape) if part.plain)
            below = Text(", ").join(part for part in (what, remark) if part.plain)
            table.add_row(Group(name, Padding(below, (0, 0, 0, 2))), filters, prunable)
        return table
