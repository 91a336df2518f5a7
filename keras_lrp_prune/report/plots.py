"""Pictures: the course of a pruning, methods side by side, heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from keras_lrp_prune.files.atomic_writes import StrPath
from keras_lrp_prune.report.figures import (
    INK,
    NAME,
    REJECTED,
    accuracy_axes,
    check_path,
    finished,
    legend_beside,
    line_styles,
    shortened,
)

Record = Mapping[str, Any]

# More classes than this are drawn without a name each.
_MAX_NAMED_CLASSES = 12

# Longer lines go without a marker at each point.
_MAX_MARKED_POINTS = 30


class Curve(Protocol):
    """Accuracy over the pruning rate, as `evaluation.AccuracyCurve` has it."""

    @property
    def rates(self) -> np.ndarray:
        """Pruning rates, shape `(r,)`."""

    def mean(self) -> np.ndarray:
        """Mean over the classes, shape `(r,)`."""

    def harmonic(self) -> np.ndarray:
        """Harmonic mean over the classes, shape `(r,)`."""

    def worst(self) -> np.ndarray:
        """Worst class, shape `(r,)`."""


def plot_history(
    history: Sequence[Record],
    path: StrPath | None = None,
    *,
    title: str | None = None,
    held_out: Sequence[Record] | None = None,
    refitted: Record | None = None,
    ylabel: str = "Accuracy (%)",
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Draws how the accuracies went while filters were removed.

    The harmonic mean is the thick line, each class a thin one, and a step that was undone a cross
    at the rate and harmonic mean that it would have had. What was measured on other samples, or
    after refitting, is a marker beside these lines.

    Args:
        history: One record per step, with the keys `"rate"` (in [0, 1)), `"harmonic_mean"`,
            `"class_accuracies"` (a list) and `"accepted"`.
        path: File to write, `.png`, `.svg` or `.pdf`; by default none.
        title: Title above the plot.
        held_out: Records with `"rate"` and `"harmonic_mean"`, measured on held-out samples, of the
            original model and of the result.
        refitted: Such a record of the model after what is left was refitted, on the reference set;
            the legend then says that the lines are of the model before.
        ylabel: Title of the axis of accuracies.
        class_names: Names of the classes, by default their numbers.

    Returns:
        The figure.

    Raises:
        ValueError: If the history is empty or lacks a key, or the path has another ending.
        OSError: If the file cannot be written.

    Example:
        >>> step = {"rate": 0.0, "harmonic_mean": 0.9, "class_accuracies": [0.9], "accepted": True}
        >>> figure = plot_history([step, step | {"rate": 0.1, "harmonic_mean": 0.8}])
        >>> figure.axes[0].get_ylabel()
        'Accuracy (%)'
    """
    check_path(path)
    _check_records(history, ("rate", "harmonic_mean", "class_accuracies", "accepted"), "history")
    if held_out:
        _check_records(held_out, ("rate", "harmonic_mean"), "held_out")
    kept = [record for record in history if record["accepted"]]
    undone = [record for record in history if not record["accepted"]]
    names = _names_of(history, class_names)
    classes = 100 * np.array([r["class_accuracies"] for r in kept], float)
    classes = classes.reshape(len(kept), len(names))
    points = [*history, *(held_out or ()), *([refitted] if refitted else ())]
    means = [100 * record["harmonic_mean"] for record in points]
    figure, axes = accuracy_axes(title, min(means + classes.ravel().tolist()))
    axes.set_ylabel(ylabel)

    # Drawn first and kept on top, so that the legend starts with what matters most.
    lines = axes.plot(
        _percent(kept, "rate"),
        _percent(kept, "harmonic_mean"),
        color=INK,
        linewidth=2.6,
        marker="o" if len(kept) <= _MAX_MARKED_POINTS else None,
        markersize=4,
        label="harmonic mean, before refitting" if refitted else "harmonic mean",
        zorder=3,
    )
    hollow = {"markerfacecolor": "white", "clip_on": False}
    if refitted:
        label = "refitted, reference set"
        lines += _marked(axes, [refitted], INK, "*", 12, label=label, **hollow)
    if held_out:
        label = "held out: original and result"
        lines += _marked(axes, held_out, INK, "D", 6, label=label, **hollow)
    if undone:
        lines += _marked(axes, undone, REJECTED, "x", 6, label="step undone", markeredgewidth=1.4)
    lines += _class_lines(axes, _percent(kept, "rate"), classes, names)
    legend_beside(axes, lines)
    return finished(figure, path)


def _names_of(history: Sequence[Record], given: Sequence[str] | None) -> list[str]:
    """A name for each class; all records have to have the same number of classes."""
    n_classes = len(history[0]["class_accuracies"])
    if any(len(record["class_accuracies"]) != n_classes for record in history):
        raise ValueError("The records of history differ in their number of class accuracies.")
    names = list(given or (f"class {i}" for i in range(n_classes)))
    if len(names) != n_classes:
        raise ValueError(f"There are {len(names)} class names but {n_classes} class accuracies.")
    return names


def _marked(
    axes: Axes, records: Sequence[Record], color: str, marker: str, size: int, **style: Any
) -> list[Line2D]:
    """Draws the harmonic mean of records as markers, without a line between them."""
    return axes.plot(
        _percent(records, "rate"),
        _percent(records, "harmonic_mean"),
        color=color,
        linestyle="none",
        marker=marker,
        markersize=size,
        zorder=4,
        **style,
    )


def _class_lines(
    axes: Axes, x: Sequence[float], classes: np.ndarray, names: Sequence[str]
) -> list[Line2D]:
    """Draws a line for each class, `classes` in percent, shape `(points, classes)`."""
    count = len(names)
    if count > _MAX_NAMED_CLASSES:
        # The more lines, the fainter; a line of its own keeps the legend readable.
        axes.plot(x, classes, linewidth=0.6, alpha=max(0.05, 8 / count), color="#0072B2")
        return axes.plot([], [], linewidth=1, color="#0072B2", label=f"each of {count} classes")
    lines = []
    for name, values, style in zip(names, classes.T, line_styles(count), strict=True):
        lines += axes.plot(x, values, linewidth=1.1, alpha=0.85, label=name, **style)
    return lines


def plot_curves(
    curves: Mapping[str, Curve | Sequence[Curve]],
    path: StrPath | None = None,
    *,
    kind: Literal["mean", "harmonic", "worst"] = "mean",
    title: str | None = None,
) -> Figure:
    """Draws the accuracy curves of several methods side by side.

    Args:
        curves: Per method its curve, or its curves of several seeds at the same rates: their mean
            is drawn as the line and their range as a band.
        path: File to write, `.png`, `.svg` or `.pdf`; by default none.
        kind: What to draw over the rate: the `"mean"` of the class accuracies, their
            `"harmonic"` mean, or the `"worst"` class.
        title: Title above the plot.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no curve, the curves of a method differ in their rates, the kind
            is unknown, or the path has another ending.
        OSError: If the file cannot be written.

    Example:
        >>> from keras_lrp_prune.evaluation import AccuracyCurve
        >>> lrp = AccuracyCurve([0.0, 0.5], [[1.0, 0.9], [0.9, 0.8]])
        >>> figure = plot_curves({"LRP": lrp, "random": [lrp, lrp]})
        >>> len(figure.axes[0].lines)
        2
    """
    check_path(path)
    ylabels = {
        "mean": "Mean class accuracy (%)",
        "harmonic": "Harmonic mean accuracy (%)",
        "worst": "Accuracy of the worst class (%)",
    }
    if kind not in ylabels:
        raise ValueError(f"Unknown kind {kind!r}; choose from {tuple(ylabels)}.")
    if not curves:
        raise ValueError("There is no curve to draw; give at least one.")

    drawn = []
    for name, given in curves.items():
        runs = list(given) if isinstance(given, Sequence) else [given]
        if not runs or any(not np.array_equal(run.rates, runs[0].rates) for run in runs):
            raise ValueError(
                f"The curves of {name!r} need the same rates to be averaged, and at least one run."
            )
        values = 100 * np.array([getattr(run, kind)() for run in runs])
        drawn.append((name, 100 * np.asarray(runs[0].rates), values))

    figure, axes = accuracy_axes(title, min(v.min() for _, _, v in drawn))
    axes.set_ylabel(ylabels[kind])
    lines = []
    for (name, x, values), style in zip(drawn, line_styles(len(drawn)), strict=True):
        marker = "o" if len(x) <= _MAX_MARKED_POINTS else None
        lines += axes.plot(
            x, values.mean(axis=0), linewidth=2, marker=marker, markersize=4, label=name, **style
        )
        if len(values) > 1:
            axes.fill_between(
                x,
                values.min(axis=0),
                values.max(axis=0),
                color=style["color"],
                alpha=0.15,
                linewidth=0,
            )
    legend_beside(axes, lines)
    return finished(figure, path)


def plot_heatmaps(
    images: Any,
    relevances_by_column: Mapping[str, Any],
    path: StrPath | None = None,
    titles: Sequence[str] | None = None,
) -> Figure:
    """Draws each image beside its relevance, one column per model or analyzer.

    Relevance is summed over the channels and shown red where it speaks for the class, blue where
    it speaks against it, each map on its own symmetric range.

    Args:
        images: Images, shape `(n, height, width, 1 or 3)`: in 0..1, in 0..255, or in any other
            range, which is then stretched image by image.
        relevances_by_column: Per column title the relevances, shape `(n, height, width)` or
            `(n, height, width, channels)`.
        path: File to write, `.png`, `.svg` or `.pdf`; by default none.
        titles: Label of each row.

    Returns:
        The figure.

    Raises:
        ValueError: If the shapes do not fit together, or the path has another ending.
        OSError: If the file cannot be written.

    Example:
        >>> import numpy as np
        >>> images, relevance = np.ones((2, 8, 8, 3)), np.zeros((2, 8, 8, 3))
        >>> figure = plot_heatmaps(images, {"before": relevance, "after": relevance})
        >>> len(figure.axes)
        6
    """
    check_path(path)
    pictures = np.asarray(images, float)
    if pictures.ndim != 4 or not len(pictures) or pictures.shape[3] not in (1, 3):
        raise ValueError(
            f"images must have the shape (n, height, width, 1 or 3), not {pictures.shape}."
        )
    if titles is not None and len(titles) != len(pictures):
        raise ValueError(f"There are {len(titles)} titles for {len(pictures)} images.")
    columns = {name: _summed(name, r, pictures.shape) for name, r in relevances_by_column.items()}

    n_rows, n_columns = len(pictures), 1 + len(columns)
    height = 1.75 * pictures.shape[1] / pictures.shape[2]
    figure = Figure(
        figsize=(1.75 * n_columns + 0.3, height * n_rows + 0.4),
        layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0),
        dpi=150,
    )
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    for row, (picture, cells) in enumerate(zip(_displayable(pictures), grid, strict=True)):
        cells[0].imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray")
        for cell, values in zip(cells[1:], columns.values(), strict=True):
            # Half a percent of extreme pixels would otherwise bleach the rest of the map.
            limit = np.quantile(np.abs(values[row]), 0.995) or np.abs(values[row]).max() or 1.0
            cell.imshow(values[row], cmap="seismic", vmin=-limit, vmax=limit)
        for cell in cells:
            _bare(cell)
        if titles is not None:
            cells[0].set_ylabel(shortened(titles[row]), fontsize="small", color=INK, **NAME)
    for cell, name in zip(grid[0], ("image", *columns), strict=True):
        cell.set_title(shortened(name), fontsize="small", color=INK, **NAME)
    return finished(figure, path)


def _check_records(records: Sequence[Record], keys: tuple[str, ...], name: str) -> None:
    if not records:
        raise ValueError(f"{name} holds no record; there is nothing to draw.")
    for i, record in enumerate(records):
        missing = [key for key in keys if key not in record]
        if missing:
            raise ValueError(f"Record {i} of {name} lacks {', '.join(missing)}.")


def _percent(records: Sequence[Record], key: str) -> list[float]:
    return [100 * float(record[key]) for record in records]


def _summed(name: str, relevance: Any, shape: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(relevance, float)
    if values.ndim == 4:
        values = values.sum(axis=-1)
    if values.shape != shape[:3]:
        raise ValueError(
            f"The relevances {name!r} must have the shape {shape[:3]}, or that with a channel axis "
            f"behind, to fit the images; they have {np.shape(relevance)}."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"The relevances {name!r} hold NaN or infinite values.")
    return values


def _displayable(images: np.ndarray) -> np.ndarray:
    """Brings images into 0..1."""
    low, high = images.min(), images.max()
    if low >= 0 and high <= 255:
        return images / 255 if high > 1 else images
    low = images.min(axis=(1, 2, 3), keepdims=True)
    span = images.max(axis=(1, 2, 3), keepdims=True) - low
    return (images - low) / np.where(span > 0, span, 1)


def _bare(cell: Axes) -> None:
    cell.set_xticks([])
    cell.set_yticks([])
    for spine in cell.spines.values():
        spine.set(color="#bbbbbb", linewidth=0.6)
