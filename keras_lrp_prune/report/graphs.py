"""A picture of a network: its layers as boxes, a colour for each channel group."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from keras_lrp_prune.display_names import printable
from keras_lrp_prune.report.figures import INK, NAME, REJECTED, check_path, finished, shortened
from keras_lrp_prune.report.layout import COLUMN_GAP, Layout, layered_layout

# Paul Tol's "light" colours (Colour Schemes, 2021): made for areas under dark text, and told apart
# without colour vision. His light grey is kept for the channels that stay.
_TOL_LIGHT = (
    *("#77AADD", "#EE8866", "#EEDD88", "#44BB99", "#FFAABB", "#99DDFF", "#BBCC33", "#AAAA00"),
)
_STAYING = "#DDDDDD"
_LINE = "#777777"

# Inches.
_MARGIN, _TITLE_HEIGHT, _BOX_HEIGHT, _PADDING = 0.2, 0.35, 0.29, 0.05
_NARROWEST, _WIDEST = 1.0, 2.7
_LEGEND_ROW, _LEGEND_GAP, _SWATCH = 0.17, 0.2, 0.22

# Points; bold text is wider by this factor.
_TITLE_SIZE, _NAME_SIZE, _KIND_SIZE, _BOLD = 10, 6.5, 5.5, 1.1

_LEGEND_TITLE = "Channel groups (channels)"
_FEWEST_ROWS = 6

# Pixels along one side beyond which few programs open a picture.
_MOST_PIXELS = 16_000


@dataclass(frozen=True)
class Box:
    """A layer to draw.

    Args:
        name: The layer's name.
        kind: What it is, such as its class.
        channels: Channel group to the number of the layer's channels in it; `None` stands for
            channels that stay.
        barrier: Whether it is to stand out as a barrier.
    """

    name: str
    kind: str
    channels: Mapping[str | None, int]
    barrier: bool = False


def plot_graph(
    boxes: Sequence[Box],
    edges: Sequence[tuple[int, int]],
    groups: Mapping[str, int],
    path: str | os.PathLike[str] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Draws layers as boxes from top to bottom, coloured by channel group.

    Args:
        boxes: The layers; each after those that it reads.
        edges: Pairs (from, to) of numbers of boxes.
        groups: Channel group to its size, for the legend.
        path: File to write, `.png`, `.svg` or `.pdf`; by default none.
        title: Title above the picture.

    Returns:
        The figure.

    Raises:
        ValueError: If an edge leads to an earlier box, or the path has another ending.
        OSError: If the file cannot be written.

    Example:
        >>> boxes = [Box("conv", "Conv2D", {"conv": 8}), Box("relu", "ReLU", {"conv": 8})]
        >>> figure = plot_graph(boxes, [(0, 1)], {"conv": 8})
        >>> [text.get_text() for text in figure.axes[0].texts][:3]
        ['conv', 'Conv2D', '8']
    """
    check_path(path)
    for start, end in edges:
        if not 0 <= start < end < len(boxes):
            raise ValueError(f"Edge ({start}, {end}) does not lead from a box to a later one.")
    width = _box_width(boxes)
    layout = layered_layout(len(boxes), edges, (width, _BOX_HEIGHT))
    colours = _colours(boxes, edges)
    legend = _Legend.of(boxes, groups, colours, layout.height)
    top = _TITLE_HEIGHT if title else 0.0
    size = (
        layout.width + COLUMN_GAP + legend.width + 2 * _MARGIN,
        max(layout.height, legend.height) + top + 2 * _MARGIN,
    )
    figure, axes = _canvas(size, (_MARGIN, _MARGIN + top))
    _draw_lines(axes, layout)
    for box, (x, y) in zip(boxes, layout.centres, strict=True):
        _draw_box(axes, box, (x - width / 2, y - _BOX_HEIGHT / 2), width, colours)
    _draw_legend(axes, legend, layout.width + COLUMN_GAP)
    if title:
        style: dict[str, Any] = {"fontsize": _TITLE_SIZE, "fontweight": "bold", "va": "top", **NAME}
        axes.text(0, -top, printable(title), color=INK, **style)
    return finished(figure, path)


def _canvas(size: tuple[float, float], origin: tuple[float, float]) -> tuple[Figure, Axes]:
    """Axes without frame whose unit is an inch, y downwards, with the origin where it is wanted."""
    figure = Figure(figsize=size, dpi=min(150.0, _MOST_PIXELS / max(size)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-origin[0], size[0] - origin[0])
    axes.set_ylim(size[1] - origin[1], -origin[1])
    return figure, axes


def _text_width(text: str, size: float) -> float:
    """About how many inches wide a text is."""
    return 0.6 * size / 72 * len(text)


def _box_width(boxes: Sequence[Box]) -> float:
    """Wide enough for the longest text, within bounds."""
    names = [_text_width(box.name, _NAME_SIZE * _BOLD) for box in boxes]
    kinds = [_text_width(f"{box.kind}  {_number(box)}", _KIND_SIZE) for box in boxes]
    longest = max((*names, *kinds), default=0.0)
    return float(np.clip(longest + 2 * _PADDING, _NARROWEST, _WIDEST))


def _number(box: Box) -> str:
    return f"{sum(box.channels.values()):,}"


def _fitted(text: str, size: float, width: float) -> str:
    """The text, its middle left out if it is too wide."""
    return shortened(text, int(width / _text_width("x", size)))


def _colours(boxes: Sequence[Box], edges: Sequence[tuple[int, int]]) -> dict[str | None, str]:
    """A colour for each group, different from those of its neighbours if there are enough."""
    beside: dict[str, Counter[str]] = {}

    def meet(names: Sequence[str | None], others: Sequence[str | None]) -> None:
        for name in names:
            for other in others:
                if name is not None and other is not None and name != other:
                    beside.setdefault(name, Counter())[other] += 1
                    beside.setdefault(other, Counter())[name] += 1

    for box in boxes:
        names = list(box.channels)
        for left, right in pairwise(names):
            meet([left], [right])
    for start, end in edges:
        meet(list(boxes[start].channels), list(boxes[end].channels))
    colours: dict[str | None, str] = {None: _STAYING}
    used: Counter[str] = Counter()
    for name in dict.fromkeys(name for box in boxes for name in box.channels if name is not None):
        clashes: Counter[str] = Counter()
        for other, times in beside.get(name, {}).items():
            if other in colours:
                clashes[colours[other]] += times
        colour = min(_TOL_LIGHT, key=lambda c: (clashes[c], used[c]))
        colours[name] = colour
        used[colour] += 1
    return colours


def _draw_lines(axes: Axes, layout: Layout) -> None:
    paths = []
    for points in layout.lines:
        (x0, y0), (x1, y1) = points[0], points[-1]
        if len(points) == 2 and abs(x0 - x1) > 1e-3:
            middle = (y0 + y1) / 2
            curve = [(x0, y0), (x0, middle), (x1, middle), (x1, y1)]
            paths.append(Path(curve, [Path.MOVETO, *[Path.CURVE4] * 3]))
        else:
            paths.append(Path(points))
    patches = [PathPatch(path) for path in paths]
    axes.add_collection(
        PatchCollection(patches, facecolor="none", edgecolor=_LINE, linewidth=0.7, zorder=1),
        autolim=False,
    )


def _draw_box(
    axes: Axes,
    box: Box,
    corner: tuple[float, float],
    width: float,
    colours: Mapping[str | None, str],
) -> None:
    (x, y), height = corner, _BOX_HEIGHT
    channels = box.channels or {None: 1}
    left, scale = x, width / sum(channels.values())
    for name, count in channels.items():
        part: dict[str, Any] = {"facecolor": colours[name], "linewidth": 0}
        axes.add_patch(Rectangle((left, y), count * scale, height, zorder=2, **part))
        left += count * scale
    outline = _outline(box.barrier)
    axes.add_patch(Rectangle((x, y), width, height, facecolor="none", zorder=3, **outline))

    text: dict[str, Any] = {
        **NAME,
        "color": INK,
        "zorder": 4,
        "va": "baseline",
        "fontsize": _NAME_SIZE,
    }
    inside = width - 2 * _PADDING
    name_size = _NAME_SIZE
    if box.name in box.channels:  # it names the group
        text["fontweight"], name_size = "bold", _NAME_SIZE * _BOLD
    axes.text(x + _PADDING, y + 0.13, _fitted(box.name, name_size, inside), **text)
    text |= {"fontsize": _KIND_SIZE, "fontweight": "normal"}
    number = _number(box)
    room = inside - _text_width(number + "  ", _KIND_SIZE)
    axes.text(x + _PADDING, y + 0.235, _fitted(box.kind, _KIND_SIZE, room), **text)
    axes.text(x + width - _PADDING, y + 0.235, number, ha="right", **text)


def _outline(barrier: bool) -> dict[str, Any]:
    if barrier:
        return {"edgecolor": REJECTED, "linewidth": 1.6}
    return {"edgecolor": "#555555", "linewidth": 0.5}


@dataclass(frozen=True)
class _LegendEntry:
    name: str
    number: str
    colour: str
    barrier: bool = False


@dataclass(frozen=True)
class _Legend:
    """What the colours mean, in columns of `rows` entries."""

    entries: Sequence[_LegendEntry]
    rows: int
    column_width: float

    @classmethod
    def of(
        cls,
        boxes: Sequence[Box],
        groups: Mapping[str, int],
        colours: Mapping[str | None, str],
        height: float,
    ) -> _Legend:
        entries = [
            _LegendEntry(name, f"{size:,}", colours[name])
            for name, size in groups.items()
            if name in colours
        ]
        if any(None in box.channels for box in boxes):
            entries.append(_LegendEntry("protected", "", _STAYING))
        if any(box.barrier for box in boxes):
            entries.append(_LegendEntry("barrier", "", _STAYING, barrier=True))
        texts = [_text_width(f"{entry.name}  {entry.number}", _NAME_SIZE) for entry in entries]
        width = _SWATCH + min(max(texts, default=0.0), _WIDEST)
        title = _text_width(_LEGEND_TITLE, _NAME_SIZE * _BOLD)
        rows = max(int(height / _LEGEND_ROW) - 1, _FEWEST_ROWS)
        return cls(entries, rows, max(width, title) + _LEGEND_GAP)

    @property
    def width(self) -> float:
        """All columns together."""
        return -(-len(self.entries) // self.rows) * self.column_width

    @property
    def height(self) -> float:
        """Title included."""
        return _LEGEND_ROW * (1 + min(len(self.entries), self.rows))


def _draw_legend(axes: Axes, legend: _Legend, left: float) -> None:
    text: dict[str, Any] = {**NAME, "fontsize": _NAME_SIZE, "color": INK, "va": "baseline"}
    if legend.entries:
        axes.text(left, 0.1, _LEGEND_TITLE, fontweight="bold", **text)
    width = legend.column_width - _LEGEND_GAP
    for i, entry in enumerate(legend.entries):
        column, row = divmod(i, legend.rows)
        x, y = left + column * legend.column_width, _LEGEND_ROW * (1 + row)
        outline = _outline(entry.barrier)
        axes.add_patch(Rectangle((x, y), 0.16, 0.11, facecolor=entry.colour, **outline))
        room = width - _SWATCH - _text_width(entry.number + " ", _NAME_SIZE)
        axes.text(x + _SWATCH, y + 0.095, _fitted(entry.name, _NAME_SIZE, room), **text)
        axes.text(x + width, y + 0.095, entry.number, ha="right", **text)
