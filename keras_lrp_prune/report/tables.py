"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import IO, Any

import numpy as np
from rich import box
from rich.console import Console, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from keras_lrp_prune.display_names import printable

PIPED_WIDTH = 100


def before_after_table(
    rows: Sequence[Sequence[object]],
    *,
    extra_columns: Sequence[str] = (),
    title: str | None = None,
) -> Table:
    """Makes a table of figures before and after pruning.

    Args:
        rows: Per row its name, the figure before, the figure after, and one more for each of
            `extra_columns`. Integers get thousands separators, floats three significant digits,
            `None` a dash; anything else is shown as it is.
        extra_columns: Titles of further columns, such as "random at the same rate".
        title: Title above the table.

    Returns:
        The table.

    Raises:
        ValueError: If a row has too few or too many figures.

    Example:
        >>> rows = [("Filters", 1024, 512), ("Size", "1 MB", "0.3 MB")]
        >>> print_table(before_after_table(rows))  # doctest: +NORMALIZE_WHITESPACE
                   Before    After
        ───────────────────────────
         Filters    1,024      512
         Size        1 MB   0.3 MB
    """
    headers = ("", "Before", "After", *extra_columns)
    table = new_table(headers, title)
    for i, row in enumerate(rows):
        if len(row) != len(headers):
            raise ValueError(
                f"Row {i} has {len(row)} entries, but the table has {len(headers)} columns: "
                f"name, before, after{''.join(f', {name}' for name in extra_columns)}."
            )
        name, *figures = row
        table.add_row(cell_text(name), *(cell_text(figure_text(value)) for value in figures))
    return table


def ratio_table(
    columns: Mapping[str, Mapping[str, float | None]], *, title: str | None = None
) -> Table:
    """Makes a table of figures side by side, each behind the first with its ratio to that one.

    Args:
        columns: Title of each column to its figures by row; `None`, or a row that is missing, is a
            dash.
        title: Title above the table.

    Returns:
        The table.

    Example:
        >>> columns = {"before": {"Filters": 64}, "after": {"Filters": 16}}
        >>> print_table(ratio_table(columns))  # doctest: +NORMALIZE_WHITESPACE
                   before   after   Ratio
        ──────────────────────────────────
         Filters       64      16    0.25
    """
    first, *others = columns.values()
    headers = [
        header
        for number, name in enumerate(columns)
        for header in ((name, "Ratio") if number else (name,))
    ]
    table = new_table(("", *headers), title)
    for row in dict.fromkeys(name for column in columns.values() for name in column):
        base = first.get(row)
        cells: list[object] = [base]
        for other in others:
            value = other.get(row)
            cells += [value, value / base if value is not None and base else None]
        table.add_row(cell_text(row), *(cell_text(figure_text(cell)) for cell in cells))
    return table


def class_table(
    class_names: Sequence[str],
    before: Sequence[float],
    after: Sequence[float],
    *,
    support: Sequence[int] | None = None,
    headers: tuple[str, str] = ("Before", "After"),
    title: str | None = None,
) -> Table:
    """Makes a table of the accuracy of each class before and after pruning.

    The worst class after pruning stands out in bold.

    Args:
        class_names: Names of the classes.
        before: Accuracy of each class before, in [0, 1].
        after: Accuracy of each class after, in [0, 1].
        support: Number of samples of each class.
        headers: Titles of the columns `before` and `after`.
        title: Title above the table.

    Returns:
        The table; accuracies in percent, changes in percentage points.

    Raises:
        ValueError: If a column does not have one value per class.

    Example:
        >>> table = class_table(["cat", "dog"], [1.0, 0.9], [0.95, 0.9])
        >>> print_table(table)  # doctest: +NORMALIZE_WHITESPACE
         Class   Before   After   Change
        ─────────────────────────────────
         cat      100.0    95.0     -5.0
         dog       90.0    90.0     +0.0
    """
    columns: dict[str, Sequence[object]] = {
        "Samples": [f"{count:,}" for count in support or ()],
        headers[0]: [_percent(value) for value in before],
        headers[1]: [_percent(value) for value in after],
        "Change": [f"{100 * (b - a):+.1f}" for a, b in zip(before, after, strict=False)],
    }
    if support is None:
        del columns["Samples"]
    for name, cells in columns.items():
        if len(cells) != len(class_names):
            raise ValueError(
                f"The column {name!r} has {len(cells)} values for {len(class_names)} classes."
            )
    table = new_table(("Class", *columns), title)
    worst = min(range(len(class_names)), key=lambda i: after[i], default=None)
    for i, class_name in enumerate(class_names):
        cells = [class_name, *(column[i] for column in columns.values())]
        table.add_row(*(cell_text(cell) for cell in cells), style="bold" if i == worst else None)
    return table


def relevance_table(
    relevance: Mapping[str, np.ndarray], *, share: float = 0.9, title: str | None = None
) -> Table:
    """Makes a table of how relevance spreads over the filters of each layer.

    Args:
        relevance: Layer name to signed relevances, shape `(classes, filters)`.
        share: Part of the total positive relevance that the third column counts filters for.
        title: Title above the table.

    Returns:
        The table: per layer its filters, how many of them carry `share` of the positive relevance
        of all classes together, and how many have none for any class.

    Example:
        >>> table = relevance_table({"conv": np.array([[3.0, 0.0, 1.0]])}, share=0.7)
        >>> print_table(table)  # doctest: +NORMALIZE_WHITESPACE
         Layer   Filters   Carry 70 %   Irrelevant
        ───────────────────────────────────────────
         conv          3            1            1
    """
    table = new_table(
        ("Layer", "Filters", f"Carry {share:.0%}".replace("%", " %"), "Irrelevant"), title
    )
    for name, values in relevance.items():
        totals = np.sort(np.maximum(values, 0).sum(0))[::-1]
        cumulative = np.cumsum(totals)
        carrying = int(np.searchsorted(cumulative, share * cumulative[-1]) + 1)
        irrelevant = int((values <= 0).all(0).sum())
        counts = (values.shape[1], min(carrying, len(totals)), irrelevant)
        table.add_row(cell_text(name), *(cell_text(figure_text(count)) for count in counts))
    return table


def comparison_table(
    figures: Mapping[str, Mapping[str, Sequence[float | None]]], *, title: str | None = None
) -> Table:
    """Makes a table of methods side by side.

    Args:
        figures: Method to figure to its value in each run; `None` where it is undefined.
        title: Title above the table.

    Returns:
        The table: a line per method, each figure as its mean over the runs and, from two runs on,
        their standard deviation (of a sample: over n - 1).

    Example:
        >>> table = comparison_table({"LRP": {"AUC": [40.0, 44.0]}, "random": {"AUC": [30.0]}})
        >>> print_table(table)  # doctest: +NORMALIZE_WHITESPACE
         Method         AUC
        ────────────────────
         LRP      42.0 ±2.8
         random        30.0
    """
    columns = list(dict.fromkeys(name for row in figures.values() for name in row))
    table = new_table(("Method", *columns), title)
    table.columns[0].no_wrap = True  # figures go on in the next line first
    for method, row in figures.items():
        table.add_row(
            cell_text(method), *(cell_text(mean_and_spread(row.get(c, ()))) for c in columns)
        )
    return table


def reason_lines(title: str, reasons: Mapping[str, str], most: int | None = None) -> list[str]:
    """Lists layers with the reason why they were treated in some way, each reason once.

    Args:
        title: How they were treated, such as `"Protected"`.
        reasons: Layer to reason.
        most: Layers to name for a reason before the rest are only counted; by default all.

    Returns:
        One line per reason.

    Example:
        >>> reason_lines("Protected", {"a": "shared", "b": "shared", "c": "output"})
        ['Protected: a, b: shared', 'Protected: c: output']
    """
    layers: dict[str, list[str]] = {}
    for layer, reason in reasons.items():
        layers.setdefault(reason, []).append(layer)
    return [
        printable(f"{title}: {enumeration(names, most)}: {reason}")
        for reason, names in layers.items()
    ]


def enumeration(names: Sequence[str], most: int | None = None) -> str:
    """Joins names by commas; those beyond `most` are counted.

    Example:
        >>> enumeration(["a", "b", "c", "d"], most=2)
        'a, b and 2 more'
    """
    # "and 1 more" is no shorter than the name that it hides.
    if most is None or len(names) <= most + 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def table_text(*tables: RenderableType, piped_width: int = PIPED_WIDTH) -> str:
    """Tables as plain text, as wide as the terminal.

    Args:
        *tables: The tables.
        piped_width: Characters per line where the output is no terminal.

    Returns:
        Their lines, without colours and without spaces at the ends.

    Example:
        >>> table_text(before_after_table([("Filters", 1024, 512)])).splitlines()[-1]
        ' Filters    1,024     512'
    """
    # In a notebook, rich would show an empty output for the text that is captured here.
    console = _console(None, piped_width, color_system=None, force_jupyter=False)
    with console.capture() as captured:
        for table in tables:
            console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def print_table(
    *tables: RenderableType, file: IO[str] | None = None, piped_width: int = PIPED_WIDTH
) -> None:
    """Prints tables, with a fixed width where the output is no terminal.

    Args:
        *tables: The tables.
        file: Where to print them, by default standard output.
        piped_width: Characters per line where the output is no terminal.

    Example:
        >>> table = before_after_table([("Filters", 1024, 512)])
        >>> print_table(table)  # doctest: +NORMALIZE_WHITESPACE
                   Before   After
        ──────────────────────────
         Filters    1,024     512
    """
    console = _console(file, piped_width)
    for table in tables:
        console.print(table)


def _console(file: IO[str] | None, piped_width: int = PIPED_WIDTH, **options: Any) -> Console:
    console = Console(file=file, **options)
    if console.is_terminal:
        return console
    # rich assumes 80 columns there, which would wrap the wider tables.
    return Console(file=file, width=piped_width, **options)


def new_table(headers: Sequence[str], title: str | None) -> Table:
    """An empty table: names in the first column, figures in the others."""
    table = Table(
        title=cell_text(title, "bold") if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
    )
    for number, name in enumerate(headers):
        # What is too long goes on in the next line: names that are cut off tell nothing apart.
        justify: JustifyMethod = "right" if number else "left"
        table.add_column(cell_text(name), justify=justify, overflow="fold")
    return table


def cell_text(value: object, style: str = "") -> Text:
    """A cell; names in it can hold anything."""
    return Text(printable(value), style=style)


def figure_text(value: object) -> str:
    """What a cell shows of a value, as in `before_after_table`."""
    if value is None:
        return "-"
    if isinstance(value, Integral):
        return f"{int(value):,}"
    if isinstance(value, Real):
        number = float(value)
        # Three significant digits, but no exponent for the large: 1,235 and not 1.23e+03.
        return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
    return str(value)


def mean_and_spread(values: Sequence[float | None]) -> str:
    """What a cell shows of a figure of several runs, as in `comparison_table`."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ±{np.std(known, ddof=1):.1f}" if len(known) > 1 else ""
    return f"{np.mean(known):,.1f}{spread}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
