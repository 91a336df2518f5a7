"""What `deployment.py` measured, as tables, a picture and a page of the documentation."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from keras_lrp_prune.evaluation import harmonic_mean_accuracy
from keras_lrp_prune.report.figures import INK, finished, line_styles

BEFORE = "before"
# Rounds whose ratios differ by more than this factor do not settle a share.
SETTLED = 1.25
PICTURE = "deployment.png"
TITLES = {
    "mobilenet-flowers": "MobileNet 0.75, flowers",
    "vgg16-5": "VGG16, five classes of CIFAR-10",
}
COSTS = {"flops": "FLOPs", "parameters": "parameters", "filters": "filters"}

PAGE = Template("""\
# Speed-up in deployment

Written by `python examples/benchmarks/deployment.py --data DATA --out runs/ --page` from its runs.

Half of the FLOPs need not be half of the time. Here is what a model takes where it is used: two
networks pruned by `prune(budget={"flops": 0.5}, recovery="head")` with $per_class training images
per class, before and after, as a Keras model, as a SavedModel by
[`export.saved_model`](deploy.md), and as LiteRT files by `export.litert`: float32, dynamic range
and int8, the reference set being the representative samples.

- *MobileNet 0.75, flowers*: ImageNet weights, 128 x 128 pixels, the head fitted on the reference
  set. *VGG16, five classes of CIFAR-10*: CIFAR-10 weights, 32 x 32 pixels.
- *After* has the widths that pruning left; *multiples of 8* is the same call with `round_to=8`.
- *Latency* is that of [`klp.profile`](profile.md#profiles): milliseconds per image on the CPU, in
  a fresh process each. The models of a form follow each other, in $rounds rounds of $repeats calls;
  stated are the medians over the rounds of the median and of the 95th percentile (p95).
- *Ratio* is the latency over that before pruning, in the same round: the median over the rounds,
  and the lowest and the highest.
- *Share of the ideal*: were time proportional to FLOPs, the ratio would be that of the FLOPs. The
  share is the part of that saving which arrived, (1 - latency ratio) / (1 - FLOPs ratio): 100 % if
  the time fell as the FLOPs did, 0 % if it did not fall. It is left open (-) where the ratios of
  the rounds differ by more than a factor of $settled.
- *Accuracy* was measured on test images that no decision saw. A SavedModel computes what the Keras
  model does.

$load

Share of the ideal:

$shares

![Latency ratio beside the FLOPs ratio, by form and batch size](images/$picture)

$sections
## Where it was measured

Python $python, TensorFlow $tensorflow, Keras $keras, ai-edge-litert $litert; CPU with $cores.
""")

LOAD = Template("""\
The load average of the machine ($machine cores, of which the measurement could use $used) was
between $low and $high meanwhile, where the measurement itself makes about $threads. What is beyond
that is other work beside it: latencies are too high then, and the ratios only as good as their
ranges.""")


@dataclass(frozen=True)
class Found:
    """What was found about one network."""

    task: str
    record: Mapping[str, Any]

    @property
    def models(self) -> list[str]:
        """Before, and what was pruned."""
        return list(self.record["costs"])

    @cached_property
    def forms(self) -> list[str]:
        """In the order in which they were measured."""
        return list(dict.fromkeys(profile["form"] for profile in self.record["profiles"]))

    def flops_ratio(self, model: str) -> float:
        """The FLOPs that are left."""
        costs = self.record["costs"]
        return costs[model]["flops"] / costs[BEFORE]["flops"]

    def profiles(self, form: str, model: str, threads: int) -> Iterator[Mapping[str, Any]]:
        """One for each round."""
        for profile in self.record["profiles"]:
            if (profile["form"], profile["model"], profile["threads"]) == (form, model, threads):
                yield profile

    def latencies(self, form: str, model: str, at: Setting, figure: str = "median") -> np.ndarray:
        """Milliseconds per image, shape `(rounds,)`."""
        return np.array(
            [
                timing[figure]
                for profile in self.profiles(form, model, at.threads)
                for timing in profile["timings"]
                if timing["batch_size"] == at.batch_size
            ]
        )

    def ratios(self, form: str, model: str, at: Setting) -> np.ndarray:
        """To the latency before pruning in the same round, shape `(rounds,)`."""
        return self.latencies(form, model, at) / self.latencies(form, BEFORE, at)

    def share(self, form: str, model: str, at: Setting) -> str:
        """The part of the saving in FLOPs that is one in time, if the rounds agree on it."""
        ratios = self.ratios(form, model, at)
        if ratios.max() > SETTLED * ratios.min():
            return "-"
        return f"{100 * (1 - np.median(ratios)) / (1 - self.flops_ratio(model)):.0f} %"

    def settings(self) -> Iterator[Setting]:
        """Threads and batch sizes that were measured."""
        asked = self.record["settings"]
        for threads in asked["threads"]:
            for batch_size in sorted(asked["batch_sizes"]):
                yield Setting(threads, batch_size)


@dataclass(frozen=True)
class Setting:
    """Where a latency was measured."""

    threads: int
    batch_size: int

    def __str__(self) -> str:
        return f"batch {self.batch_size}, {self.threads} thread{'s' * (self.threads > 1)}"


def write_page(folder: Path, docs: Path) -> None:
    """Writes `deployment.md` and its picture from the records in `TASK.json`.

    Raises:
        SystemExit: If there are none, or they were made with different settings.
    """
    found = [
        Found(task, json.loads((folder / f"{task}.json").read_text()))
        for task in TITLES
        if (folder / f"{task}.json").exists()
    ]
    if not found:
        raise SystemExit(f"There are no records in {folder}.")
    settings = found[0].record["settings"]
    if any(one.record["settings"] != settings for one in found):
        raise SystemExit(f"The records in {folder} were made with different settings.")
    page = PAGE.substitute(
        settings,
        settled=SETTLED,
        load=_load(found),
        shares=_shares(found),
        picture=PICTURE,
        sections="\n".join(map(_section, found)),
        python=platform.python_version(),
        tensorflow=version("tensorflow"),
        keras=version("keras"),
        litert=version("ai-edge-litert"),
        cores=f"{found[0].record['cores']['machine']} cores",
    )
    temporary = docs / ".deployment.md"
    temporary.write_text(page)
    temporary.replace(docs / "deployment.md")
    draw(found, docs / "images" / PICTURE)


def _load(found: Sequence[Found]) -> str:
    loads = [profile["load"] for one in found for profile in one.record["profiles"]]
    return LOAD.substitute(
        found[0].record["cores"],
        low=f"{min(loads):.1f}",
        high=f"{max(loads):.1f}",
        threads=" to ".join(map(str, sorted(set(found[0].record["settings"]["threads"])))),
    )


def _shares(found: Sequence[Found]) -> str:
    lines = [
        [
            f"{TITLES[one.task]}, {at}",
            model,
            *(one.share(form, model, at) for form in one.forms),
        ]
        for one in found
        for at in one.settings()
        for model in one.models[1:]
    ]
    return _table(["", "", *found[0].forms], lines).rstrip()


def _section(found: Found) -> str:
    parts = [f"## {TITLES[found.task]}\n", _costs(found)]
    parts += [f"### Latency, {at}\n\n{_latencies(found, at)}" for at in found.settings()]
    parts.append(f"### Accuracy\n\n{_accuracies(found)}")
    return "\n".join(parts)


def _costs(found: Found) -> str:
    """Counts and file sizes, with their ratio to those before."""
    costs = found.record["costs"]
    rows = {
        title: {model: costs[model][key] for model in found.models} for key, title in COSTS.items()
    }
    threads = found.record["settings"]["threads"][0]
    for form in found.forms:
        sizes = {
            model: next(found.profiles(form, model, threads))["file_size"] / 1024
            for model in found.models
        }
        rows[f"{form}, KiB"] = sizes
    lines = (
        [
            title,
            *(
                f"{value:,.0f}" + (f" ({value / row[BEFORE]:.2f})" if model != BEFORE else "")
                for model, value in row.items()
            ),
        ]
        for title, row in rows.items()
    )
    return _table(["", *found.models], lines)


def _latencies(found: Found, at: Setting) -> str:
    heads = ["", f"{BEFORE}, ms (p95)"]
    for model in found.models[1:]:
        heads += [f"{model}, ms (p95)", "ratio", "share of the ideal"]
    lines = []
    for form in found.forms:
        line = [form, _milliseconds(found, form, BEFORE, at)]
        for model in found.models[1:]:
            ratios = found.ratios(form, model, at)
            line.append(_milliseconds(found, form, model, at))
            line.append(f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})")
            line.append(found.share(form, model, at))
        lines.append(line)
    return _table(heads, lines)


def _milliseconds(found: Found, form: str, model: str, at: Setting) -> str:
    median, p95 = (
        np.median(found.latencies(form, model, at, figure)) for figure in ("median", "p95")
    )
    return f"{median:.3g} ({p95:.3g})"


def _accuracies(found: Found) -> str:
    heads = ["", "", "mean", "harmonic mean", *found.record["classes"]]
    lines = []
    for form, models in found.record["accuracies"].items():
        for model, classes in models.items():
            figures = [np.mean(classes), harmonic_mean_accuracy(np.array(classes)), *classes]
            title = f"{form} float32" if form == "Keras" else form
            lines.append([title, model, *(f"{100 * figure:.1f}" for figure in figures)])
    count = found.record["held_out"]
    return _table(heads, lines) + f"\nIn percent, on {count:,} test images.\n"


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    texts = [index < 1 or not head for index, head in enumerate(heads)]
    marks = ["---" if text else "---:" for text in texts]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, marks, *lines)) + "\n"


def draw(found: Sequence[Found], path: Path) -> None:
    """Draws the latency ratios of all forms, a panel for each network and batch size.

    Args:
        found: What was found.
        path: File to write.
    """
    threads = found[0].record["settings"]["threads"][0]
    places = [at for at in found[0].settings() if at.threads == threads]
    size = (4.2 * len(places) + 1.2, 2.5 * len(found) + 0.5)
    figure = Figure(figsize=size, layout="constrained", dpi=150)
    grid = figure.subplots(len(found), len(places), sharex=True, sharey=True, squeeze=False)
    for one, panels in zip(found, grid, strict=True):
        for at, axes in zip(places, panels, strict=True):
            _panel(axes, one, at)
    for axes in grid[-1]:
        axes.set_xlabel("latency after pruning / before")
    grid[0][0].invert_yaxis()
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    finished(figure, path)


def _panel(axes: Any, found: Found, at: Setting) -> None:
    pruned = found.models[1:]
    axes.axvline(1, color="#888888", linewidth=0.8)
    axes.axvline(
        found.flops_ratio(pruned[0]), color=INK, linestyle="--", linewidth=1, label="FLOPs ratio"
    )
    for index, (model, style) in enumerate(zip(pruned, line_styles(len(pruned)), strict=True)):
        ratios = np.array([found.ratios(form, model, at) for form in found.forms])
        middle = np.median(ratios, axis=1)
        axes.errorbar(
            middle,
            np.arange(len(found.forms)) + 0.24 * (index - (len(pruned) - 1) / 2),
            xerr=(middle - ratios.min(axis=1), ratios.max(axis=1) - middle),
            color=style["color"],
            fmt="os^D"[index],
            markersize=5,
            linewidth=1.2,
            label=model,
        )
    axes.set_yticks(range(len(found.forms)), found.forms)
    axes.set_title(f"{TITLES[found.task]}, {at}", fontsize="small", color=INK, loc="left")
    axes.set_xlim(left=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
