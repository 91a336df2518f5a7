"""Tables and pictures for notebooks, as HTML that loads nothing from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO

from matplotlib.figure import Figure

from keras_lrp_prune.display_names import printable
from keras_lrp_prune.report.tables import figure_text

_DPI = 80


def html_report(
    title: str,
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    figure: Figure | None = None,
) -> str:
    """Makes a table, and a picture below it.

    Args:
        title: Above the table.
        headers: Titles of the columns.
        rows: Per row its name and its figures, as in `before_after_table`.
        figure: The picture, if there is one.

    Returns:
        HTML; what is text in it is escaped.

    Example:
        >>> html_report("a < b", ["", "Before"], [("Filters", 1024)])[:50]
        '<div><b>a &lt; b</b><table><tr><th></th><th>Before'
    """
    head = "".join(f"<th>{_text(name)}</th>" for name in headers)
    lines = "".join(
        f"<tr><td>{_text(name)}</td>"
        + "".join(f'<td style="text-align: right">{_text(cell)}</td>' for cell in cells)
        + "</tr>"
        for name, *cells in rows
    )
    picture = "" if figure is None else _picture(figure, title)
    table = f"<table><tr>{head}</tr>{lines}</table>"
    return f"<div><b>{_text(title)}</b>{table}{picture}</div>"


def _text(value: object) -> str:
    return escape(printable(figure_text(value)))


def _picture(figure: Figure, title: str) -> str:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    data = b64encode(buffer.getvalue()).decode()
    return f'<img alt="{_text(title)}" src="data:image/png;base64,{data}">'
