"""What `control.py` measured, as pages of the documentation: one for each kind of protocol."""

from __future__ import annotations

import json
import platform
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from string import Template

import numpy as np
from control_text import FROZEN as FROZEN_TEXT
from control_text import RECOVERY as RECOVERY_TEXT

import keras_lrp_prune as klp
from keras_lrp_prune.comparison.method_comparison import figures_over
from keras_lrp_prune.comparison.method_curve import MethodCurve
from keras_lrp_prune.evaluation import AccuracyCurve
from keras_lrp_prune.report import plot_curves

DEFAULT, BASELINE = "accuracy-aware", "lrp-iterative"
LRP_BASELINES = (BASELINE, "lrp-one-shot", "pxp", "pxp-iterative")
FROZEN = "frozen"
COLUMNS = ("AUC", "Harmonic", "Worst", "At 30 %", "At 50 %", "At 70 %", "Passes")
# Of several tasks, the mean; a task alone otherwise.
FAMILIES = {"VGG16": ("vgg16-10", "vgg16-5", "vgg16-3", "vgg16-2")}
SHOWN = (DEFAULT, BASELINE, "lrp-one-shot", "pxp", "taylor", "l1", "random")


@dataclass(frozen=True)
class Page:
    """A page of the documentation.

    Args:
        file: Its name, and with `.png` that of its picture.
        text: What stands around its tables.
        sections: Protocols and their headings.
        pictured: Task, images per class and protocol of the picture.
        title: Of the picture.
    """

    file: str
    text: Template
    sections: Mapping[str, str]
    pictured: tuple[str, int, str]
    title: str


PAGES = {
    "frozen": Page(
        "control",
        FROZEN_TEXT,
        {FROZEN: "All weights frozen"},
        ("vgg16-5", 20, FROZEN),
        "VGG16, 5 classes, held out",
    ),
    "recovery": Page(
        "recovery",
        RECOVERY_TEXT,
        {
            "head": "The head refitted at each rate",
            "least-squares": "Layers refitted by least squares at each rate",
            "head-least-squares": "Head and layers refitted",
        },
        ("vgg16-5", 20, "head"),
        "VGG16, 5 classes, head refitted, held out",
    ),
}


@dataclass(frozen=True)
class Runs:
    """The curves of one task, number of images and protocol: method to seed to curve."""

    task: str
    per_class: int
    protocol: str
    curves: Mapping[str, Mapping[int, MethodCurve]] = field(default_factory=dict)

    def values(self, method: str, figure: str, seeds: Sequence[int]) -> np.ndarray:
        """A figure of the method's runs, shape `(seeds,)`."""
        curves = self.curves[method]
        value = figures_over([0.0, 0.95])[figure]
        return np.array([value(curves[seed]) for seed in seeds], float)

    def shared_seeds(self, *methods: str) -> list[int]:
        """Seeds that all of these methods have."""
        return sorted(set.intersection(*(set(self.curves.get(name, ())) for name in methods)))


def write_page(name: str, folder: Path, docs: Path) -> None:
    """Writes a page, and its picture, from the runs in folders `TASK_IMAGES_PROTOCOL`.

    Args:
        name: One of `PAGES`.
        folder: Where the folders are.
        docs: Where the page goes.
    """
    page = PAGES[name]
    found = read_runs(folder)
    sections = []
    for protocol, title in page.sections.items():
        here = [runs for runs in found if runs.protocol == protocol]
        if here:
            tables = "\n".join(map(_table, here))
            sections.append(f"## {title}\n\n{_overview(here, found)}\n{tables}")
    text = page.text.substitute(
        default=DEFAULT,
        baseline=BASELINE,
        sections="\n".join(sections),
        python=platform.python_version(),
        tensorflow=version("tensorflow"),
        keras=version("keras"),
    )
    (docs / f"{page.file}.md").write_text(text)
    for runs in found:
        if (runs.task, runs.per_class, runs.protocol) == page.pictured:
            curves = {name: list(each.values()) for name, each in runs.curves.items()}
            seeds = len(curves[DEFAULT])  # others would start elsewhere
            shown = {n: each for n, each in curves.items() if n in SHOWN and len(each) == seeds}
            plot_curves(shown, docs / "images" / f"{page.file}.png", title=page.title)


def read_runs(folder: Path) -> list[Runs]:
    """The runs in folders `TASK_IMAGES_PROTOCOL`, by task and number of images."""
    found = [_read(path) for path in folder.glob("*_*_*") if (path / "runs").is_dir()]
    return sorted(found, key=lambda runs: (runs.task, runs.per_class, runs.protocol))


def _read(path: Path) -> Runs:
    task, per_class, protocol = path.name.split("_")
    curves: dict[str, dict[int, MethodCurve]] = defaultdict(dict)
    for file in (path / "runs").glob("*.json"):
        curve = MethodCurve.from_dict(json.loads(file.read_text())["curve"])
        curves[curve.method][curve.seed] = curve
    ordered = {name: dict(sorted(curves[name].items())) for name in sorted(curves, key=_rank)}
    return Runs(task, int(per_class), protocol, ordered)


def _rank(method: str) -> tuple[int, str]:
    order = list(klp.METHODS)
    return (order.index(method) if method in order else len(order), method)


def _overview(here: Sequence[Runs], everything: Sequence[Runs]) -> str:
    """The default against the baseline: families of tasks, one row for each number of images."""
    heads = ["images per class", "seeds", f"`{DEFAULT}`", f"`{BASELINE}`", "gain", "harmonic gain"]
    all_frozen = here[0].protocol == FROZEN
    heads += ["over the best LRP"] if all_frozen else ["over frozen"]
    lines = ["| | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
    grouped: dict[tuple[str, int], list[Runs]] = defaultdict(list)
    for runs in here:
        if runs.shared_seeds(DEFAULT, BASELINE):
            family = next((name for name, tasks in FAMILIES.items() if runs.task in tasks), "")
            grouped[family or runs.task, runs.per_class].append(runs)
    for (name, per_class), members in sorted(grouped.items()):
        seeds = sorted(
            set.intersection(*(set(runs.shared_seeds(DEFAULT, BASELINE)) for runs in members))
        )
        tasks = f"mean of {len(members)} tasks" if len(members) > 1 else members[0].task
        title = name if name == members[0].task else f"{name}, {tasks}"
        mean = _mean_over(members, seeds)
        ours, theirs = mean(DEFAULT, "AUC"), mean(BASELINE, "AUC")
        harmonic = mean(DEFAULT, "Harmonic").mean() / mean(BASELINE, "Harmonic").mean() - 1
        cells = [str(per_class), str(len(seeds)), spread(ours), spread(theirs)]
        cells += [_percent(ours.mean() / theirs.mean() - 1), _percent(harmonic)]
        cells += [_over_best(members) if all_frozen else _over_frozen(members, everything, seeds)]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _mean_over(members: Sequence[Runs], seeds: Sequence[int]) -> Callable[[str, str], np.ndarray]:
    def mean(method: str, figure: str) -> np.ndarray:
        each = [runs.values(method, figure, seeds) for runs in members]
        return np.asarray(np.mean(each, axis=0))

    return mean


def _over_best(members: Sequence[Runs]) -> str:
    """The least gain of the default over an LRP baseline, on the seeds that both have."""
    gains = {}
    for method in LRP_BASELINES:
        shared = set.intersection(*(set(runs.shared_seeds(DEFAULT, method)) for runs in members))
        if shared:
            mean = _mean_over(members, sorted(shared))
            gains[method] = mean(DEFAULT, "AUC").mean() / mean(method, "AUC").mean() - 1
    best = min(gains, key=lambda method: gains[method])
    return f"{_percent(gains[best])} (`{best}`)"


def _over_frozen(members: Sequence[Runs], everything: Sequence[Runs], seeds: Sequence[int]) -> str:
    """The gain of the default over the baseline with all weights frozen, on the same seeds."""
    frozen = {(runs.task, runs.per_class): runs for runs in everything if runs.protocol == FROZEN}
    theirs = [frozen.get((runs.task, runs.per_class)) for runs in members]
    baselines = [runs for runs in theirs if runs and BASELINE in runs.curves]
    if len(baselines) < len(members):
        return ""
    shared = [seed for seed in seeds if all(seed in runs.curves[BASELINE] for runs in baselines)]
    if not shared:
        return ""
    ours = _mean_over(members, shared)(DEFAULT, "AUC").mean()
    rates = next(iter(members[0].curves[DEFAULT].values())).rates
    areas = [_area(runs.curves[BASELINE][seed], rates) for runs in baselines for seed in shared]
    return _percent(ours / np.mean(areas) - 1)


def _area(curve: MethodCurve, rates: np.ndarray) -> float:
    """The area under a curve as measured at these of its rates alone, in percent."""
    there = np.isin(curve.rates, rates)
    return 100 * AccuracyCurve(curve.rates[there], curve.class_accuracy[there]).auc()


def _table(runs: Runs) -> str:
    lines = [
        f"### {runs.task}, {runs.per_class} images per class\n",
        "| method | seeds | " + " | ".join(COLUMNS) + " | Gain |",
        "| --- |" + " ---: |" * (len(COLUMNS) + 2),
    ]
    lines += [
        f"| `{method}` | {len(curves)} | {' | '.join(_cells(runs, method))} "
        f"| {_gain(runs, method)} |"
        for method, curves in runs.curves.items()
    ]
    return "\n".join(lines) + "\n"


def _cells(runs: Runs, method: str) -> Iterator[str]:
    for column in COLUMNS:
        values = runs.values(method, column, list(runs.curves[method]))
        yield f"{values.mean():.0f}" if column == "Passes" else spread(values)


def spread(values: np.ndarray) -> str:
    """Mean and standard error."""
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{values.mean():.1f} ± {values.std(ddof=1) / np.sqrt(len(values)):.1f}"


def _gain(runs: Runs, method: str) -> str:
    """The gain in AUC and harmonic AUC over the baseline, on the seeds that both have."""
    seeds = runs.shared_seeds(method, BASELINE)
    if not seeds or method == BASELINE:
        return ""
    gains = [
        runs.values(method, figure, seeds).mean() / runs.values(BASELINE, figure, seeds).mean() - 1
        for figure in ("AUC", "Harmonic")
    ]
    return " / ".join(map(_percent, gains))


def _percent(gain: float) -> str:
    return f"{100 * gain:+.0f} %"
