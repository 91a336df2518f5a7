"""What `control.py` measured, as pages of the documentation: one for each protocol."""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from string import Template

import numpy as np
from control_text import FROZEN, REFITTED

import keras_lrp_prune as klp
from keras_lrp_prune.comparison.method_curve import MethodCurve
from keras_lrp_prune.report import plot_curves

DEFAULT = "accuracy-aware"
PER_CLASS = 20
RATES = (0.3, 0.5, 0.7, 0.8, 0.9)
Row = Sequence[str]


@dataclass(frozen=True)
class Page:
    """A page of the documentation.

    Args:
        file: Its name, and with `.png` that of its picture.
        protocol: Of the runs that it shows.
        text: What stands around its tables.
        parts: Methods that are the default without a part of it, or a part alone.
        pictured: Task of the picture.
        title: Of the picture.
    """

    file: str
    protocol: str
    text: Template
    parts: Sequence[str]
    pictured: str
    title: str


PAGES = {
    "frozen": Page(
        "control",
        "frozen",
        FROZEN,
        ("no-trials", "no-balance", "no-order", "log-odds-alone"),
        "vgg16-5",
        "VGG16, 5 classes, all weights frozen, held out",
    ),
    "refitted": Page(
        "refitted",
        "default",
        REFITTED,
        ("lrp.unique-refitted", "lrp.log_odds-refitted", "log-odds-aware"),
        "mobilenet-flowers",
        "MobileNet, 5 kinds of flowers, layers refitted, held out",
    ),
}


@dataclass(frozen=True)
class Runs:
    """The curves of one task: method to seed to curve."""

    task: str
    curves: Mapping[str, Mapping[int, MethodCurve]] = field(default_factory=dict)

    def shares(self, method: str, seeds: Iterable[int]) -> np.ndarray:
        """What a method keeps, shape `(seeds, figures)`."""
        return np.stack([shares(self.curves[method][seed]) for seed in seeds])

    def shared_seeds(self, *methods: str) -> list[int]:
        """Seeds that all of these methods have."""
        return sorted(set.intersection(*(set(self.curves.get(name, ())) for name in methods)))

    def best_other(self, parts: Sequence[str]) -> str | None:
        """The method with the largest area that is neither the default nor a part of it."""
        others = [
            name
            for name in self.curves
            if name not in (DEFAULT, *parts) and self.shared_seeds(name, DEFAULT)
        ]

        def area(name: str) -> float:
            return float(self.shares(name, self.shared_seeds(name, DEFAULT))[:, 0].mean())

        return max(others, key=area, default=None)


def write_page(name: str, folder: Path, docs: Path) -> None:
    """Writes a page, and its picture, from the runs in folders `TASK_IMAGES_PROTOCOL`.

    Args:
        name: One of `PAGES`.
        folder: Where the folders are.
        docs: Where the page goes.
    """
    page = PAGES[name]
    found = read_runs(folder, page.protocol)
    text = page.text.substitute(
        kept=_table(
            ("task", "seeds", "unpruned", *_columns()),
            *(_kept(runs) for runs in found),
            *_means({runs.task: _own(runs).mean(0) for runs in found}, blank=2),
        ),
        over=_over_best(found, page.parts),
        parts=_parts(found, page.parts),
        each="\n".join(map(_each, found)),
        python=platform.python_version(),
        tensorflow=version("tensorflow"),
        keras=version("keras"),
    )
    (docs / f"{page.file}.md").write_text(text)
    for runs in found:
        if runs.task == page.pictured:
            named = [method for method in runs.curves if method not in page.parts]
            seeds = runs.shared_seeds(*named)
            shown = {method: [runs.curves[method][seed] for seed in seeds] for method in named}
            plot_curves(shown, docs / "images" / f"{page.file}.png", title=page.title)


def read_runs(folder: Path, protocol: str) -> list[Runs]:
    """The runs of a protocol that the default took part in, by task."""
    suffix = f"_{PER_CLASS}_{protocol}"
    found = [
        _read(path, path.name.removesuffix(suffix))
        for path in sorted(folder.glob(f"*{suffix}"))
        if (path / "runs").is_dir()
    ]
    return [runs for runs in found if DEFAULT in runs.curves]


def shares(curve: MethodCurve) -> np.ndarray:
    """What a curve keeps of the unpruned accuracies, in percent: `_columns`, one after another."""
    mean, harmonic = curve.mean(), curve.harmonic()
    at = [np.interp(rate, curve.rates, mean) for rate in RATES]
    kept = [curve.auc() / mean[0], curve.auc("harmonic") / harmonic[0], *(at / mean[0])]
    return 100 * np.array(kept)


def spread(values: np.ndarray) -> str:
    """Mean and standard error."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{values.mean():.1f} ± {values.std(ddof=1) / np.sqrt(len(values)):.1f}"


def _read(path: Path, task: str) -> Runs:
    curves: dict[str, dict[int, MethodCurve]] = defaultdict(dict)
    for file in (path / "runs").glob("*.json"):
        curve = MethodCurve.from_dict(json.loads(file.read_text())["curve"])
        curves[curve.method][curve.seed] = curve
    return Runs(task, {name: dict(sorted(curves[name].items())) for name in _ranked(curves)})


def _ranked(methods: Iterable[str]) -> list[str]:
    """This library's in their order, then others by name."""
    order = {name: number for number, name in enumerate(klp.METHODS)}
    return sorted(methods, key=lambda name: (order.get(name, len(order)), name))


def _columns() -> list[str]:
    return ["AUC", "harmonic", *(f"at {100 * rate:.0f} %" for rate in RATES)]


def _table(heads: Row, *rows: Row) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def _own(runs: Runs) -> np.ndarray:
    """What the default keeps on a task, of each of its seeds."""
    return runs.shares(DEFAULT, runs.curves[DEFAULT])


def _kept(runs: Runs) -> Row:
    curves = runs.curves[DEFAULT].values()
    unpruned = spread(np.array([100 * curve.mean()[0] for curve in curves]))
    return [runs.task, str(len(curves)), unpruned, *map(spread, _own(runs).T)]


def _means(of_tasks: Mapping[str, np.ndarray], blank: int, unit: str = "") -> list[Row]:
    """Rows of the mean over the tasks of VGG16, and over all."""
    families = {
        "mean of VGG16's tasks": [one for name, one in of_tasks.items() if "vgg16" in name],
        "mean of all tasks": list(of_tasks.values()),
    }
    return [
        [f"**{name}**", *[""] * blank, *(f"{value:.1f}{unit}" for value in np.mean(each, 0))]
        for name, each in families.items()
        if len(each) > 1
    ]


def _over_best(found: Sequence[Runs], parts: Sequence[str]) -> str:
    """The default against the best other method of each task, on the seeds that both have."""
    rows, means = [], {}
    columns = _columns()[:5]
    for runs in found:
        if (best := runs.best_other(parts)) is None:
            continue
        seeds = runs.shared_seeds(best, DEFAULT)
        ratio = runs.shares(DEFAULT, seeds) / runs.shares(best, seeds)
        gains = 100 * (ratio - 1)[:, : len(columns)]
        means[runs.task] = gains.mean(0)
        rows.append(
            [runs.task, f"`{best}`", str(len(seeds)), *(f"{spread(one)} %" for one in gains.T)]
        )
    return _table(("task", "best other", "seeds", *columns), *rows, *_means(means, 2, " %"))


def _parts(found: Sequence[Runs], parts: Sequence[str]) -> str:
    """What is lost without a part of the default, in points, in the mean of tasks and seeds."""
    rows = []
    for part in parts:
        lost, names = [], []
        for runs in found:
            if seeds := runs.shared_seeds(part, DEFAULT):
                lost.append(runs.shares(part, seeds) - runs.shares(DEFAULT, seeds))
                names.append(f"{runs.task} ({len(seeds)})")
        if lost:
            rows.append([f"`{part}`", ", ".join(names), *map(spread, np.concatenate(lost).T)])
    return _table(("method", "tasks (seeds)", *_columns()), *rows)


def _each(runs: Runs) -> str:
    """All methods on a task."""
    rows = []
    for name, curves in runs.curves.items():
        passes = np.mean([curve.forward_equivalents for curve in curves.values()])
        kept = runs.shares(name, curves)
        rows.append([f"`{name}`", str(len(kept)), *map(spread, kept.T), f"{passes:.0f}"])
    return f"### {runs.task}\n\n{_table(('method', 'seeds', *_columns(), 'passes'), *rows)}\n"
