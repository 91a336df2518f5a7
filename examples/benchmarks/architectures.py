"""Reads, groups and rebuilds every `keras.applications` architecture; writes what it took.

Run it from the root of the repository: python examples/benchmarks/architectures.py. It needs
about 12 GiB of memory and half an hour, and writes docs/architectures.md and
docs/images/grouping_time.svg. With names of architectures it measures those, and writes nothing.
"""

from __future__ import annotations

import gc
import inspect
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template

import keras
import numpy as np
from matplotlib.figure import Figure

import keras_lrp_prune as klp
from keras_lrp_prune.graph.analysis import channel_structure
from keras_lrp_prune.graph.channels import selects
from keras_lrp_prune.graph.reader import read_model

ROUNDS = 3
DOCS = Path(__file__).parents[2] / "docs"
PAGE, PLOT = DOCS / "architectures.md", DOCS / "images" / "grouping_time.svg"


@dataclass(frozen=True)
class Row:
    """What was counted and timed for one architecture; times are medians in seconds."""

    name: str
    size: int | None
    layers: int
    filters: int
    prunable: int
    groups: int
    before: int
    after: int
    grouping: float
    pruning: float
    cloning: float

    @property
    def ratio(self) -> float:
        """Time to read, group and rebuild over the time to clone and copy."""
        return self.pruning / self.cloning

    def cells(self) -> Iterable[str]:
        """The row of the table."""
        yield self.name
        yield f"{self.size or 'open'}"
        yield f"{self.layers}"
        yield f"{self.filters:,}"
        yield f"{self.prunable / self.filters:.1%}"
        yield f"{self.groups}"
        yield f"{self.before / 1e6:.1f} M"
        yield f"{self.after / 1e6:.1f} M"
        yield f"{self.grouping:.2f}"
        yield f"{self.pruning:.2f}"
        yield f"{self.cloning:.2f}"
        yield f"{self.ratio:.2f}"


def measure(name: str, function: Callable[..., keras.Model]) -> Row:
    """Times one architecture, in float32 and at its own input size."""
    keras.utils.set_random_seed(0)
    model = function(weights=None)
    structure = channel_structure(read_model(model))
    units = np.concatenate(list(structure.filter_units.values()))
    rng = np.random.default_rng(0)
    removed = np.zeros(structure.n_units, bool)
    for group in structure.groups:
        removed[rng.permutation(group.units)[: group.size // 2]] = True
    channels = {
        name: np.flatnonzero(selects(removed, units))
        for name, units in structure.filter_units.items()
    }

    def prune() -> keras.Model:
        return klp.delete_channels(model, channels)

    def clone() -> keras.Model:
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        return copy

    def group() -> list[klp.ChannelGroup]:
        return klp.find_channel_groups(model)

    after = prune().count_params()
    clone()  # the first round warms up
    times: dict[Callable, list[float]] = {work: [] for work in (prune, clone, group)}
    for _ in range(ROUNDS):
        for work, taken in times.items():
            gc.collect()
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return Row(
        name,
        model.input_shape[1],
        len(read_model(model).flat().nodes),
        len(units),
        int((units >= 0).sum()),
        len(structure.groups),
        model.count_params(),
        after,
        statistics.median(times[group]),
        statistics.median(times[prune]),
        statistics.median(times[clone]),
    )


def growth(rows: list[Row]) -> float:
    """The exponent b of the best fit time = a * layers**b."""
    layers, seconds = (
        np.log([getattr(row, key) for row in rows]) for key in ("layers", "grouping")
    )
    return float(np.polyfit(layers, seconds, 1)[0])


def draw(rows: list[Row], path: Path) -> None:
    """Draws the time to find the groups against the number of layers."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([row.layers for row in rows], [row.grouping for row in rows], "o", color="#2a6f97")
    by_layers = sorted(rows, key=lambda row: row.layers)
    for row in (by_layers[0], by_layers[-1], max(rows, key=lambda row: row.grouping)):
        axes.annotate(
            row.name,
            (row.layers, row.grouping),
            xytext=(-6, 6),
            textcoords="offset points",
            ha="right" if row is not by_layers[0] else "left",
            fontsize="small",
        )
    axes.set(xlabel="layers", ylabel="seconds to read and group", xlim=(0, None), ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


PAGE_TEMPLATE = Template("""\
# Architectures

Every function of `keras.applications`, measured by
`python examples/benchmarks/architectures.py`: random weights, float32, its own input size, 1000
classes. `make test-all` tests for each of them, in float64, that masking half of every group's
channels and removing them give the same outputs.

- *layers*: calls of layers and operations, those of nested models included.
- *prunable*: share of all filters that lie in a channel group. The 1000 class scores always stay;
  in ConvNeXt so does the stream that layer normalisation mixes, and what is added to it.
- *group*: seconds of `klp.find_channel_groups(model)`: read the model and find its groups.
- *prune*: seconds of `klp.delete_channels(model, channels)` with half of each group's channels:
  read, group, and build the smaller model with its weights.
- *clone*: seconds of `keras.models.clone_model(model)` and
  `set_weights(model.get_weights())`, in turn with *prune* in the same process.
- Times are medians of $rounds after one warm-up, on $cores CPU cores;
  Python $python, TensorFlow $tensorflow, Keras $keras, NumPy $numpy.

$table

*prune* takes $lowest to $highest times as long as *clone*, in the median $median times.

![Time to find the channel groups against the number of layers](images/$plot)

$most, with $layers calls the longest, is read and grouped in $seconds s. Over all 40, the time
grows with the number of layers to the power of $growth (least squares in the logarithms; 1 is
linear); what scatters around it is that wide layers take longer than narrow ones.
""")

HEADER = (
    *("architecture", "input", "layers", "filters", "prunable", "groups", "parameters", "half"),
    *("group", "prune", "clone", "prune / clone"),
)


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [HEADER, ["---"] + ["---:"] * (len(HEADER) - 1), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(rows: list[Row]) -> None:
    """Writes the page and the plot."""
    ratios = [row.ratio for row in rows]
    longest = max(rows, key=lambda row: row.layers)
    draw(rows, PLOT)
    PAGE.write_text(
        PAGE_TEMPLATE.substitute(
            rounds=ROUNDS,
            cores=len(os.sched_getaffinity(0)),
            python=platform.python_version(),
            **{name: version(name) for name in ("tensorflow", "keras", "numpy")},
            table=table(rows),
            lowest=f"{min(ratios):.2f}",
            highest=f"{max(ratios):.2f}",
            median=f"{statistics.median(ratios):.2f}",
            plot=PLOT.name,
            most=longest.name,
            layers=longest.layers,
            seconds=f"{longest.grouping:.2f}",
            growth=f"{growth(rows):.2f}",
        )
    )


def main() -> None:
    """Measures all architectures, or those named on the command line (and writes nothing)."""
    functions = {
        name: function
        for name, function in sorted(vars(keras.applications).items())
        if inspect.isfunction(function) and name in (sys.argv[1:] or [name])
    }
    rows = []
    for name, function in functions.items():
        rows.append(measure(name, function))
        print("  ".join(rows[-1].cells()), flush=True)
        keras.utils.clear_session()
        gc.collect()
    if sys.argv[1:]:
        return
    write(rows)


if __name__ == "__main__":
    main()
