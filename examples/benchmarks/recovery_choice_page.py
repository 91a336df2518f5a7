"""What `recovery_choice.py` measured, as a page of the documentation."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template

import numpy as np

from keras_lrp_prune.evaluation import harmonic_mean_accuracy

OPTIONS = ("None", "head", "least_squares", "head+least_squares")
# What "auto" comes to, by whether there is a linear head: see `Recovery.chosen`.
AUTO = {True: "head+least_squares", False: "least_squares"}

TEXT = Template("""\
# Which recovery is the default

Written by `python examples/benchmarks/recovery_choice.py --data DATA --out runs/ --page` from its
runs. `prune(recovery="auto")`, the default, is `"head+least_squares"`, and `"least_squares"` where
there is no linear head; this is what it was chosen by. (It leaves the weights as they are where
refitting would lose more than a quarter of the harmonic mean accuracy on the reference set; that is
not looked at here.)

- Decisions are taken on the reference set, drawn anew from training images for each seed, by the
  default, in steps of 10 %: for `None` and `head` by the one for weights that stay, else by the one
  that refits layers at each step. They are judged on *other training images*, which are neither in
  the reference set nor among those that a network below was trained on for this page (VGG16 and the
  backbone of MobileNet came as they are); never on test images.
- Figures are the harmonic mean of the class accuracies, in percent of that of the unpruned network,
  in the mean of the rates 30, 50, 70 and 80 %.
- *Head*: `own`, the network's; `fitted`, by `with_linear_head` on the reference set; `none`, no
  linear head on pooled features, so that there is none to refit.
- *Auto*: what the default is ahead of the best of the fixed options, in points; 0 where it is the
  best.

## Network by network

$networks
## In the mean

Of all networks, those with a linear head apart.

$means
$findings
## Where it was measured

Python $python, TensorFlow $tensorflow, Keras $keras, CPU.
""")

FINDINGS = """
## What follows

- `vgg-transfer`, unpruned at 36 to 43 %, is at times better refitted than unpruned: its figures
  say little.
- Least squares cannot mend what depthwise and grouped layers lose; the summary names them. In front
  of them and behind them it does (`inverted-cifar10`, `mobilenet-flowers`).
- With one reference set, differences of one or two points say nothing.
"""


@dataclass(frozen=True)
class Cell:
    """One network with one number of images: its seeds.

    Args:
        network: Its name.
        head: `"own"`, `"fitted"` or `"none"`.
        per_class: Images of each class in the reference set.
        unpruned: Harmonic mean accuracies, shape `(seeds,)`.
        kept: Option to the share of them that is left, shape `(seeds, rates)`.
    """

    network: str
    head: str
    per_class: int
    unpruned: np.ndarray
    kept: dict[str, np.ndarray]


def read_cells(folder: Path, fitted: AbstractSet[str]) -> list[Cell]:
    """All cells that are finished, in the order of networks and images."""
    runs: dict[tuple[str, int], list[dict]] = {}
    for path in sorted(folder.glob("*_*_*.json")):
        network, per_class, _ = path.stem.rsplit("_", 2)
        runs.setdefault((network, int(per_class)), []).append(json.loads(path.read_text()))
    heads = {name: "fitted" if name in fitted else "own" for name, _ in runs}
    return [
        _cell(name, heads[name], images, found) for (name, images), found in sorted(runs.items())
    ]


def _cell(network: str, head: str, per_class: int, runs: Sequence[dict]) -> Cell:
    unpruned = np.array([harmonic_mean_accuracy(run["unpruned"]) for run in runs])
    kept = {
        option: np.array(
            [[harmonic_mean_accuracy(each) for each in run["options"][option]] for run in runs]
        )
        / unpruned[:, None]
        for option in OPTIONS
        if option in runs[0]["options"]
    }
    return Cell(network, head if runs[0]["has_head"] else "none", per_class, unpruned, kept)


def write_page(folder: Path, fitted: AbstractSet[str], docs: Path) -> None:
    """Writes docs/recovery-choice.md from the cells in a folder; `fitted`: heads fitted there."""
    cells = read_cells(folder, fitted)
    text = TEXT.substitute(
        networks=_table(_network_rows(cells), 2),
        means=_table(_mean_rows(cells), 2),
        findings=FINDINGS,
        python=platform.python_version(),
        tensorflow=version("tensorflow"),
        keras=version("keras"),
    )
    (docs / "recovery-choice.md").write_text(text)


def _network_rows(cells: Sequence[Cell]) -> Iterator[list[str]]:
    named = [f"`{option}`" for option in OPTIONS]
    yield ["network", "head", "images per class", "seeds", "unpruned", *named, "auto"]
    for cell in cells:
        means = {option: kept.mean() for option, kept in cell.kept.items()}
        auto = AUTO[cell.head != "none"]
        ahead = means[auto] - max(means[option] for option in means if option != auto)
        yield [
            *(cell.network, cell.head, str(cell.per_class), str(len(cell.unpruned))),
            _percent(cell.unpruned.mean()),
            *(_percent(means[option]) if option in means else "" for option in OPTIONS),
            f"{100 * ahead:+.1f}",
        ]


def _mean_rows(cells: Sequence[Cell]) -> Iterator[list[str]]:
    yield ["networks", "images per class", *(f"`{option}`" for option in OPTIONS)]
    for title, heads in (("own head", ["own"]), ("fitted head", ["fitted"]), ("no head", ["none"])):
        for images in sorted({cell.per_class for cell in cells}):
            some = [cell for cell in cells if cell.head in heads and cell.per_class == images]
            if some:
                yield [f"{title}, {len(some)}", str(images), *_means(some)]
    with_head = [cell for cell in cells if cell.head != "none"]
    for rate, name in enumerate(("30 %", "50 %", "70 %", "80 %")):
        yield [f"any linear head, at {name}, {len(with_head)}", "all", *_means(with_head, rate)]


def _means(cells: Sequence[Cell], rate: int | None = None) -> Iterator[str]:
    where = slice(None) if rate is None else rate
    for option in OPTIONS:
        there = [cell.kept[option][:, where].mean() for cell in cells if option in cell.kept]
        yield _percent(np.mean(there)) if there else ""


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _table(rows: Iterator[list[str]], words: int) -> str:
    head, *body = rows
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *body))
