"""What the pictures share: colours, axes, and saving."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from keras_lrp_prune.display_names import printable
from keras_lrp_prune.files import new_file
from keras_lrp_prune.report.fonts import show_all_characters

FORMATS = (".png", ".svg", ".pdf")

# For texts with names from elsewhere: dollar signs in them do not mark formulas.
NAME: Mapping[str, Any] = {"parse_math": False}
_LONGEST_NAME = 32

INK = "#1a1a1a"
REJECTED = "#b2182b"

# Okabe and Ito, Color Universal Design (2008): told apart with every common colour blindness.
# Black is kept for the harmonic mean, and yellow is left out, as it fades on white.
_OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_DASHES = ("solid", (0, (5, 1.5)), (0, (1, 1)))


def line_styles(count: int) -> list[dict[str, Any]]:
    """Colour and dash of each of `count` lines.

    Up to 18 lines differ by colour, then by dash; more than that cannot be told apart anyway and
    share one colour scale that stays readable without colour vision.
    """
    if count <= len(_OKABE_ITO) * len(_DASHES):
        return [
            {
                "color": _OKABE_ITO[i % len(_OKABE_ITO)],
                "linestyle": _DASHES[i // len(_OKABE_ITO)],
            }
            for i in range(count)
        ]
    return [{"color": c} for c in colormaps["cividis"](np.linspace(0.1, 0.9, count))]


def accuracy_axes(title: str | None, lowest: float) -> tuple[Figure, Axes]:
    """An empty plot of accuracy over the pruning rate, both in percent.

    Args:
        title: Title above the plot.
        lowest: Lowest accuracy to show, in percent.
    """
    figure, axes = titled_axes(title, height=4.8)
    axes.set_xlabel("Pruning rate: filters removed (%)")
    axes.set_ylabel("Accuracy (%)")
    # Down to the next ten below what is drawn, so that small losses stay visible.
    axes.set_ylim(max(-2.0, 10 * np.floor((lowest - 1) / 10)), 102)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 5, 10]))
    axes.grid(color="#dddddd", linewidth=0.7)
    return figure, axes


def titled_axes(title: str | None, height: float) -> tuple[Figure, Axes]:
    """An empty plot of that height in inches."""
    figure = Figure(figsize=(9.2, height), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    if title:
        axes.set_title(printable(title), loc="left", fontweight="bold", color=INK, pad=10, **NAME)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    axes.tick_params(color="#888888", labelcolor="#444444")
    return figure, axes


def legend_beside(axes: Axes, lines: Sequence[Line2D]) -> None:
    """Puts a legend of these lines, by their labels, to the right of the axes.

    matplotlib leaves out labels that begin with an underscore, and reads formulas between dollar
    signs. Names of classes and layers may have both, so that the texts are set afterwards.
    """
    legend = axes.legend(
        lines,
        list(map(str, range(len(lines)))),
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        fontsize="small",
        handlelength=2.6,
    )
    for text, line in zip(legend.get_texts(), lines, strict=True):
        text.set(text=shortened(str(line.get_label())), **NAME)


def shortened(name: str, most: int = _LONGEST_NAME) -> str:
    """A name as it may be drawn: printable, its middle left out if it is too long.

    Example:
        >>> shortened("abcdefghij", 6)
        'ab…hij'
    """
    name = printable(name)
    if len(name) <= most:
        return name
    head = max(most // 3, 1)
    return f"{name[:head]}…{name[len(name) - (most - head - 1) :]}"


def finished(figure: Figure, path: str | os.PathLike[str] | None) -> Figure:
    """Makes a complete figure ready to be shown, and writes it, whole or not at all.

    Args:
        figure: The figure.
        path: File to write, if any, as `check_path` takes it; its folder is made if it is missing.

    Returns:
        The figure, with all characters of its texts, as `show_all_characters` shows them.

    Raises:
        OSError: If the file cannot be written.
    """
    show_all_characters(figure)
    if path is None:
        return figure
    path = Path(path)
    try:
        with new_file(path) as file:
            figure.savefig(file, format=path.suffix[1:].lower())
    except OSError as error:
        raise OSError(
            f"Cannot write the picture {path}: {error.strerror or error}. Give a path in a folder "
            "that you may write to."
        ) from error
    return figure


def check_path(path: str | os.PathLike[str] | None) -> None:
    """Refuses a path that no picture can be written to, before anything is drawn.

    Raises:
        ValueError: For a path that ends otherwise.
    """
    if path is not None and Path(path).suffix.lower() not in FORMATS:
        raise ValueError(
            f"A picture is written as {', '.join(FORMATS)}, but not as {Path(path).name!r}."
        )
