"""What `control.py` measured where layers are refitted, as a page of the documentation."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from control_page import DEFAULT, Runs, read_runs, spread
from refitted_text import TEXT

from keras_lrp_prune.comparison.method_curve import MethodCurve
from keras_lrp_prune.report import plot_curves

PROTOCOL, PER_CLASS = "least-squares", 20
RATES = (0.3, 0.5, 0.7, 0.8, 0.9)
PICTURED = "mobilenet-flowers"
Row = Sequence[str]


def write_refitted_page(folder: Path, docs: Path) -> None:
    """Writes `refitted.md`, and its picture, from the runs in folders `TASK_IMAGES_PROTOCOL`.

    Args:
        folder: Where the folders are.
        docs: Where the page goes.
    """
    found = [
        runs
        for runs in read_runs(folder)
        if (runs.protocol, runs.per_class) == (PROTOCOL, PER_CLASS) and DEFAULT in runs.curves
    ]
    text = TEXT.substitute(
        kept=_table(("task", "seeds", "unpruned", *_columns()), map(_kept, found), _mean(found)),
        over=_table(
            ("task", "best other", "seeds", "AUC", "harmonic", *map(_at, RATES[:3])),
            (row for runs in found if (row := _over_best(runs))),
        ),
        each="\n".join(map(_each, found)),
        python=platform.python_version(),
        tensorflow=version("tensorflow"),
        keras=version("keras"),
    )
    (docs / "refitted.md").write_text(text)
    for runs in found:
        if runs.task == PICTURED:
            seeds = runs.shared_seeds(*runs.curves)
            shown = {name: [each[seed] for seed in seeds] for name, each in runs.curves.items()}
            title = "MobileNet, 5 kinds of flowers, layers refitted, held out"
            plot_curves(shown, docs / "images" / "refitted.png", title=title)


def shares(curve: MethodCurve) -> np.ndarray:
    """What a curve keeps of the unpruned accuracies, in percent: `_columns`, one after another."""
    mean, harmonic = curve.mean(), curve.harmonic()
    at = [np.interp(rate, curve.rates, mean) for rate in RATES]
    kept = [curve.auc() / mean[0], curve.auc("harmonic") / harmonic[0], *(at / mean[0])]
    return 100 * np.array(kept)


def _columns() -> list[str]:
    return ["AUC", "harmonic", *map(_at, RATES)]


def _at(rate: float) -> str:
    return f"at {100 * rate:.0f} %"


def _table(heads: Row, *groups: Iterator[Row] | Sequence[Row]) -> str:
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)], *(row for rows in groups for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _kept(runs: Runs) -> Row:
    """What the default keeps on a task."""
    curves = runs.curves[DEFAULT].values()
    unpruned = spread(np.array([100 * curve.mean()[0] for curve in curves]))
    kept = np.stack([shares(curve) for curve in curves])
    return [runs.task, str(len(kept)), unpruned, *map(spread, kept.T)]


def _mean(found: Sequence[Runs]) -> list[Row]:
    """What it keeps in the mean of the tasks of VGG16, and of all."""
    of_tasks = {
        runs.task: np.mean([shares(curve) for curve in runs.curves[DEFAULT].values()], 0)
        for runs in found
    }
    families = {
        "mean of VGG16's tasks": [one for name, one in of_tasks.items() if "vgg16" in name],
        "mean of all tasks": list(of_tasks.values()),
    }
    return [
        [f"**{name}**", "", "", *(f"{value:.1f}" for value in np.mean(each, 0))]
        for name, each in families.items()
        if len(each) > 1
    ]


def _over_best(runs: Runs) -> Row | None:
    """The default against the other method with the largest area, on the seeds that both have."""
    others = [name for name in runs.curves if name != DEFAULT and runs.shared_seeds(name, DEFAULT)]
    if not others:
        return None

    def kept(name: str, seeds: Sequence[int]) -> np.ndarray:
        return np.stack([shares(runs.curves[name][seed]) for seed in seeds])

    def area(name: str) -> float:
        return float(kept(name, runs.shared_seeds(name, DEFAULT))[:, 0].mean())

    best = max(others, key=area)
    seeds = runs.shared_seeds(best, DEFAULT)
    gains = (kept(DEFAULT, seeds) / kept(best, seeds) - 1)[:, : 2 + 3] * 100
    return [runs.task, f"`{best}`", str(len(seeds)), *(f"{spread(one)} %" for one in gains.T)]


def _each(runs: Runs) -> str:
    """All methods on a task."""
    rows = []
    for name, curves in runs.curves.items():
        kept = np.stack([shares(curve) for curve in curves.values()])
        passes = np.mean([curve.forward_equivalents for curve in curves.values()])
        rows.append([f"`{name}`", str(len(kept)), *map(spread, kept.T), f"{passes:.0f}"])
    table = _table(("method", "seeds", *_columns(), "passes"), rows)
    return f"### {runs.task}\n\n{table}\n"
