"""A picture of what the parts of a model cost, as bars."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from keras_lrp_prune.files.atomic_writes import StrPath
from keras_lrp_prune.report.figures import (
    INK,
    NAME,
    check_path,
    finished,
    shortened,
    titled_axes,
)

_LOST, _GAINED = "#D55E00", "#0072B2"


def plot_losses(
    losses: Mapping[str, float],
    path: StrPath | None = None,
    *,
    xlabel: str,
    title: str | None = None,
) -> Figure:
    """Draws what each part of a model costs as a bar, the first part at the top.

    Args:
        losses: Name of each part to what it costs, as a share: 0.1 is drawn as 10.
        path: File to write, `.png`, `.svg` or `.pdf`; by default none.
        xlabel: What the bars are.
        title: Title above the plot.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no part, or the path has another ending.
        OSError: If the file cannot be written.

    Example:
        >>> figure = plot_losses({"stem": 0.02, "block": 0.1}, xlabel="Accuracy lost (points)")
        >>> [bar.get_width() for bar in figure.axes[0].patches]
        [2.0, 10.0]
    """
    check_path(path)
    if not losses:
        raise ValueError("There is nothing to draw; give at least one part.")
    figure, axes = titled_axes(title, height=1.2 + 0.22 * len(losses))
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    axes.set_ylim(len(losses) - 0.4, -0.6)
    axes.tick_params(axis="y", labelsize="small", length=0)
    places, widths = range(len(losses)), [100 * loss for loss in losses.values()]
    colors = [_LOST if width > 0 else _GAINED for width in widths]
    axes.barh(places, widths, height=0.7, color=colors)
    axes.set_yticks(places, [shortened(name) for name in losses], **NAME)
    for place, width in zip(places, widths, strict=True):
        shown = round(width, 1) + 0.0  # no minus in front of a zero
        side = "left" if shown >= 0 else "right"
        text = f" {shown:.1f} "
        axes.text(width, place, text, ha=side, va="center", fontsize="x-small", color=INK)
    axes.margins(x=0.12)
    axes.set_xlabel(xlabel)
    return finished(figure, path)
