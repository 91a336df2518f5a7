"""What `relevance.py` measured, as tables, a chart and a page of the documentation."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

DOCS = Path(__file__).parents[2] / "docs"
PATH, CHART = DOCS / "speed.md", DOCS / "images" / "speed.svg"
COLOURS = {"native": "#2a6f97", "innvestigate": "#e07a5f", "zennit": "#b8b8b8"}


@dataclass(frozen=True)
class Timing:
    """Seconds: the first call, whatever has to be made for it included, and later calls."""

    first: float
    later: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the later calls."""
        return float(np.median(self.later))

    def __str__(self) -> str:
        low, high = np.quantile(self.later, (0.25, 0.75))
        return f"{self.median:.3f} ({low:.3f} to {high:.3f})"


@dataclass(frozen=True)
class Row:
    """What was measured for one analyzer on one model.

    Args:
        model, device, analyzer: What was measured.
        goal: How many gradient passes the native engine may take.
        timings: Contestant to times.
        differences: Contestant to layer to the difference from the native engine, relative to the
            layer's largest value; `"input"` is the model's input.
    """

    model: str
    device: str
    analyzer: str
    goal: float
    timings: dict[str, Timing]
    differences: dict[str, dict[str, float]]

    def times(self, name: str, by: str) -> float | None:
        """How often one median goes into another, `None` where either was not measured."""
        known = name in self.timings and by in self.timings
        return self.timings[name].median / self.timings[by].median if known else None

    def speed(self) -> Iterator[str]:
        """The row of the table of times."""
        yield f"`{self.analyzer}`"
        yield str(self.timings["native"])
        yield marked(self.times("native", "gradient"), "≤", self.goal)
        for name, goal in (("innvestigate", 3), ("zennit", 1)):
            yield str(self.timings.get(name, "-"))
            yield marked(self.times(name, "native"), "≥", goal)

    def agreement(self) -> Iterator[str]:
        """The row of the table of first calls and differences."""
        yield f"`{self.analyzer}`"
        for name in ("native", "innvestigate"):
            yield f"{self.timings[name].first:.1f}" if name in self.timings else "-"
        for name in ("innvestigate", "zennit", "zennit, same rules"):
            found = {**self.differences.get(name, {})}
            at_input = found.pop("input", None)
            yield f"{max(found.values()):.1g}" if found else "-"
        yield "-" if at_input is None else f"{at_input:.1g}"


def marked(ratio: float | None, sign: str, goal: float) -> str:
    """A ratio beside its goal, in bold if it misses it."""
    if ratio is None:
        return "-"
    missed = ratio > goal if sign == "≤" else ratio < goal
    return f"{'**' * missed}{ratio:.2f}{'**' * missed} ({sign} {goal:g})"


SECTION = Template("""\
## $model on $device

Forward pass $forward s, gradient pass $gradient s.

$speed

$agreement
""")

PAGE = Template("""\
# Speed

The native engine beside a gradient pass, iNNvestigate and zennit, measured by
`python examples/benchmarks/relevance.py`: random weights with live batch-norm statistics, 224x224,
ten classes, float32, $batch images a call, on $cores CPU cores, all of which TensorFlow and PyTorch
use; $versions.

![Median times of all three, in gradient passes](images/$chart)

- *Gradient pass*: one compiled function that gives the gradient of the class score with respect to
  the output of every layer, summed over space and class as relevance is, on the graph with folded
  batch norms that the engines work on too.
- *Native*, *iNNvestigate*: `filter_relevance` of an engine that is kept, as pruning keeps it. The
  first call includes making the engine. iNNvestigate runs in its worker process.
- *zennit*: its own rules on the same graph and weights in PyTorch, in a process of its own. Forward
  hooks and `retain_grad` keep the relevance of every layer's output, which is summed alike.
- Times are medians of $rounds calls after the first one, in seconds, with the quartiles; all
  contestants take turns in each round. Goals are in parentheses; **bold**: missed.
- The native engine cannot take less than a gradient pass, as it is one with other factors. So where
  iNNvestigate takes fewer than three gradient passes, nothing can be three times as fast.
  `lrp.alpha_2_beta_1` takes five convolutions a layer where inputs are not negative: forward, two
  sums and two ways back. Four would do, the negative sum being what is left of the output without
  the positive one; but in float32 that difference loses its digits where it is small (relevances of
  MobileNet with ImageNet weights were 2e-2 off), and four would be 2.2 times as fast at most.
- *Differences* are from the native engine: the largest over all layers of the largest absolute
  difference of filter relevances over their largest absolute value. zennit's alpha-beta rules give
  the positive part of the bias to the positive products and its negative part to the negative
  ones, iNNvestigate and the native engine give all of it to both, hence the large differences.
  *Same rules* compares alpha-beta rules that ignore the bias, with a stabiliser of 1e-12 in zennit
  (1e-6 by default, in sums and pooling too); last, for the relevance of single pixels. What is left
  is float32 rounding, which rules that divide by sums close to zero, `lrp.z` and `lrp.epsilon`
  above all, enlarge from layer to layer.

$sections""")

SPEED = (
    *("analyzer", "native, s", "in gradient passes", "iNNvestigate, s", "native is faster by"),
    *("zennit, s", "native is faster by"),
)
AGREEMENT = (
    *("analyzer", "first call, native", "first call, iNNvestigate", "difference, iNNvestigate"),
    *("zennit", "zennit, same rules", "at the input"),
)


def table(header: tuple[str, ...], lines: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    every = [header, ["---"] + ["---:"] * (len(header) - 1), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in every)


def section(rows: list[Row]) -> str:
    """What was measured on one model and device."""
    passes = {
        name: Timing(0, sum((row.timings[name].later for row in rows), ()))
        for name in ("forward", "gradient")
    }
    return SECTION.substitute(
        passes,
        model=rows[0].model,
        device=rows[0].device,
        speed=table(SPEED, [row.speed() for row in rows]),
        agreement=table(AGREEMENT, [row.agreement() for row in rows]),
    )


def draw(groups: list[list[Row]], path: Path) -> None:
    """Draws the medians of the contestants in gradient passes, a panel for each model."""
    figure = Figure(figsize=(3 * len(groups), 3.6), layout="constrained")
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for axes, rows in zip(panels, groups, strict=True):
        for index, (name, colour) in enumerate(COLOURS.items()):
            places = np.arange(len(rows)) + 0.27 * (index - 1)
            values = [row.times(name, "gradient") or 0.0 for row in rows]
            axes.barh(places, values, 0.27, color=colour, label=name)
        axes.set(title=f"{rows[0].model}, {rows[0].device}", xlabel="gradient passes")
        axes.set_yticks(range(len(rows)), [row.analyzer for row in rows])
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    panels[-1].legend(frameon=False, fontsize="small")
    figure.savefig(path, metadata={"Date": None})


def cores() -> int:
    """The CPU cores that everything may use."""
    return len(os.sched_getaffinity(0))


def environment(batch: int, rounds: int) -> dict[str, Any]:
    """The machine, what was installed on it, and what was asked for."""
    packages = ("tensorflow", "keras", "innvestigate", "torch", "zennit")
    parts = [f"Python {platform.python_version()}"]
    parts += [f"{name} {version(name)}" for name in packages if find_spec(name)]
    for device in tf.config.list_physical_devices("GPU")[:1]:
        parts.append(tf.config.experimental.get_device_details(device)["device_name"])
    return {"cores": cores(), "batch": batch, "rounds": rounds, "versions": ", ".join(parts)}


def write(found: Mapping[str, Any], groups: list[list[Row]]) -> None:
    """Writes the page and its chart.

    Args:
        found: Cores, versions, images and rounds.
        groups: For each model and device, a row for each analyzer.
    """
    sections = "\n".join(section(rows) for rows in groups)
    PATH.write_text(PAGE.substitute(found, sections=sections, chart=CHART.name))
    draw(groups, CHART)
