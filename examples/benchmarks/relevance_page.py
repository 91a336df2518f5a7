"""What `relevance.py` measured, as tables and as a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

PATH = Path(__file__).parents[2] / "docs" / "speed.md"


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
        return f"{self.median:.3f} ({low:.3f}-{high:.3f})"


@dataclass(frozen=True)
class Row:
    """What was measured for one analyzer on one model; differences are relative to the largest."""

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
        yield marked(self.times("native", "gradient"), "at most", self.goal)
        for name, goal in (("innvestigate", 3), ("zennit", 1)):
            yield str(self.timings.get(name, "-"))
            yield marked(self.times(name, "native"), "at least", goal)

    def agreement(self) -> Iterator[str]:
        """The row of the table of first calls and differences."""
        yield f"`{self.analyzer}`"
        for name in ("native", "innvestigate"):
            yield f"{self.timings[name].first:.1f}" if name in self.timings else "-"
        for name in ("innvestigate", "zennit", "zennit, same rules"):
            found = self.differences.get(name)
            yield f"{max(found.values()):.0e}" if found else "-"


def marked(ratio: float | None, bound: str, goal: float) -> str:
    """A ratio beside its goal, in bold if it misses it."""
    if ratio is None:
        return "-"
    missed = ratio > goal if bound == "at most" else ratio < goal
    return f"{'**' * missed}{ratio:.2f}{'**' * missed} ({bound} {goal:g})"


SECTION = Template("""\
## $model, $device

Forward pass $forward s, gradient pass $gradient s, $batch images.

$speed

$agreement
""")

PAGE = Template("""\
# Speed

The native engine beside a gradient pass, iNNvestigate and zennit, measured by
`python examples/benchmarks/relevance.py`: random weights with live batch-norm statistics, 224x224,
ten classes, float32, $batch images a call, on $cores CPU cores, all of which TensorFlow and PyTorch
use; $versions.

- A time is the median of $rounds calls after the first, in seconds, and the quartiles. All
  contestants took turns in each round. **Bold**: the goal is missed.
- *Gradient pass*: one compiled function that gives the gradient of the class score with respect to
  the output of every layer, summed over space and class as relevance is, on the same graph with
  folded batch norms that the engines work on.
- *Native*, *iNNvestigate*: `engine.filter_relevance` of an engine that is kept, as pruning does;
  the first call includes making the engine. iNNvestigate runs in its worker process.
- *zennit*: the same graph and weights in PyTorch, its own rules and composites; the relevance of
  every layer's output is kept by forward hooks and `retain_grad`, and summed alike.
- *Differences*: the largest over all layers of the largest absolute difference of filter relevances
  over their largest absolute value. zennit's alpha-beta rules give the positive part of the bias to
  the positive products and the negative part to the negative ones, iNNvestigate and this package
  give the whole bias to both; *same rules* compares rules that ignore the bias, relevance of the
  input included. What is left are float32 rounding, which dividing by sums close to zero enlarges,
  and the stabiliser of 1e-6 that zennit adds to every divisor, sums and pooling included.

$sections""")

SPEED = ("analyzer", "native", "/ gradient", "iNNvestigate", "/ native", "zennit", "/ native")
AGREEMENT = (
    *("analyzer", "first call, native", "first call, iNNvestigate", "difference to iNNvestigate"),
    *("to zennit", "to zennit, same rules"),
)


def table(header: tuple[str, ...], lines: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    every = [header, ["---"] + ["---:"] * (len(header) - 1), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in every)


def section(rows: list[Row], batch: int) -> str:
    """What was measured on one model and device."""
    passes = {
        name: Timing(0, sum((row.timings[name].later for row in rows), ()))
        for name in ("forward", "gradient")
    }
    return SECTION.substitute(
        passes,
        model=rows[0].model,
        device=rows[0].device,
        batch=batch,
        speed=table(SPEED, [row.speed() for row in rows]),
        agreement=table(AGREEMENT, [row.agreement() for row in rows]),
    )


def write(found: Mapping[str, Any], sections: list[str]) -> None:
    """Writes the page.

    Args:
        found: Cores, versions, images and rounds.
        sections: One for each model and device.
    """
    PATH.write_text(PAGE.substitute(found, sections="\n".join(sections)))
