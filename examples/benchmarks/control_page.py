"""What `control.py` measured, as a page of the documentation."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

BASELINE = "lrp-iterative"
COLUMNS = ("AUC", "Harmonic", "Worst", "At 30 %", "At 50 %", "At 70 %", "Passes")
PROTOCOLS = {
    "frozen": "All weights frozen",
    "head": "The head refitted after each step",
    "least-squares": "Layers refitted by least squares at each rate",
    "head-least-squares": "Head and layers refitted",
}

PAGE = Template("""\
# Which control keeps accuracy longest

Written by `python examples/benchmarks/control.py --data DATA --out runs/ --page` from its runs.

- A *task* is a network and some classes. For each seed a reference set is drawn anew from training
  images; methods decide on it alone, and every figure was measured on test images that no decision
  saw. Variants were chosen on training images outside the reference set, with other seeds, of
  `vgg16-5` and `mobilenet-flowers` (at 96 x 96). The exception: that contributions enter the
  election as they are, and not relative to their group, was decided with held-out digits in view
  too, on other networks; so `residual-digits` is not untouched by the choice.
- *AUC* is the area under the mean class accuracy over the pruning rate, from 0 to 0.95, divided by
  that span; *harmonic* and *worst* are the areas under the harmonic mean and the lowest of the
  class accuracies; *at 30 %* and so on the mean class accuracy there. All in percent: mean ±
  standard error over the seeds.
- *Passes* are forward-equivalents: what the decisions took, in forward passes of the unpruned
  model over the reference set.
- *Gain*: AUC and harmonic AUC (means over the seeds) against those of `$baseline` with the same
  seeds and the same protocol.

`vgg16-N` is VGG16 with CIFAR-10 weights on N classes with its own head (`-refit`: a head fitted on
the reference set); `mobilenet-flowers` MobileNet 0.75 with ImageNet weights on five flowers,
128 x 128, head fitted on the reference set; `residual-digits` a small residual network on
scikit-learn's digits.

The methods are those of [the comparison](comparison.md#methods). Others switch off
[a part of `accuracy-aware`](how-it-works.md): `no-balance` lets the lowest-scored filters go
(`pool=0`), `no-rate` takes equal steps of 5 % (`rate="equal"`), `no-order` weighs classes alike
(`order="uniform"`), `log-odds-alone` does all three, and `preset-a-aware` scores by
`lrp.sequential_preset_a`, with order and rate.

$sections
## Where it was measured

Python $python, TensorFlow $tensorflow, Keras $keras, CPU.
""")


def write_page(runs: Path, docs: Path) -> None:
    """Writes `control.md` from the comparisons in folders `TASK_IMAGES_PROTOCOL`."""
    found: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path in sorted(runs.glob("*_*_*/comparison.json")):
        task, per_class, protocol = path.parent.name.split("_")
        found.setdefault(protocol, []).append((task, per_class, json.loads(path.read_text())))
    sections = [
        f"## {title}\n\n" + "\n".join(_table(*entry) for entry in found[protocol])
        for protocol, title in PROTOCOLS.items()
        if protocol in found
    ]
    page = PAGE.substitute(
        baseline=BASELINE,
        sections="\n".join(sections),
        python=platform.python_version(),
        tensorflow=version("tensorflow"),
        keras=version("keras"),
    )
    (docs / "control.md").write_text(page)


def _table(task: str, per_class: str, comparison: Mapping[str, Any]) -> str:
    figures = comparison["figures"]
    seeds = len(next(iter(figures.values()))["AUC"])
    lines = [
        f"### {task}, {per_class} images per class, {seeds} seed{'s' * (seeds > 1)}\n",
        "| method | " + " | ".join(COLUMNS) + " | Gain |",
        "| --- |" + " ---: |" * (len(COLUMNS) + 1),
    ]
    lines += [
        f"| `{method}` | " + " | ".join(_cells(found)) + f" | {_gain(found, figures)} |"
        for method, found in figures.items()
    ]
    return "\n".join(lines) + "\n"


def _cells(found: Mapping[str, Sequence[float]]) -> Iterator[str]:
    for column in COLUMNS:
        values = np.array(found[column], float)
        if column == "Passes":
            yield f"{values.mean():.0f}"
        elif len(values) == 1:
            yield f"{values[0]:.1f}"
        else:
            yield f"{values.mean():.1f} ± {values.std(ddof=1) / np.sqrt(len(values)):.1f}"


def _gain(
    found: Mapping[str, Sequence[float]], figures: Mapping[str, Mapping[str, Sequence[float]]]
) -> str:
    if BASELINE not in figures:
        return ""
    gains = [
        np.mean(found[column]) / np.mean(figures[BASELINE][column]) - 1
        for column in ("AUC", "Harmonic")
    ]
    return " / ".join(f"{100 * gain:+.0f} %" for gain in gains)
