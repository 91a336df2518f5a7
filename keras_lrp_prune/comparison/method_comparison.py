"""`compare()`: several methods and seeds, one table, one picture."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from keras_lrp_prune.arguments import checked, several
from keras_lrp_prune.comparison.bench import Bench, Conditions
from keras_lrp_prune.comparison.curve import accuracy_curve
from keras_lrp_prune.comparison.method_curve import MethodCurve
from keras_lrp_prune.comparison.methods import Method, make_method, scored_by
from keras_lrp_prune.comparison.run_folder import RunFolder, write_json
from keras_lrp_prune.files import check_writable, new_members
from keras_lrp_prune.report import (
    comparison_table,
    html_report,
    mean_and_spread,
    plot_curves,
    print_table,
)
from keras_lrp_prune.runtime import is_chief

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT_METHODS = ("accuracy-aware", "lrp-iterative", "taylor", "l1", "random")

_RECORD = "comparison.json"
_PICTURES: Mapping[str, Literal["mean", "harmonic", "worst"]] = {
    "curves.png": "mean",
    "harmonic.png": "harmonic",
}
_TABLE_WIDTH = 120

Triple = tuple[Any, Any, Any]
Reading = Callable[[MethodCurve], float | None]
# Arguments of `accuracy_curve` that are the same for all runs.
_OPTIONS = tuple(
    name
    for name, given in signature(accuracy_curve).parameters.items()
    if given.kind is given.KEYWORD_ONLY and name not in ("seed", "verbose")
)


def _area(kind: Literal["mean", "harmonic", "worst"]) -> Reading:
    return lambda curve: 100 * curve.auc(kind) if len(curve.rates) > 1 else None


def _accuracy(rate: float) -> Reading:
    def at(curve: MethodCurve) -> float | None:
        inside = curve.rates[0] <= rate <= curve.rates[-1]
        return 100 * float(curve.at(rate).mean()) if inside else None

    return at


# Column of the table to its figure of a run, in percent; `figures_over` adds accuracies at rates.
_AREAS: Mapping[str, Reading] = {
    "AUC": _area("mean"),
    "Harmonic": _area("harmonic"),
    "Worst": _area("worst"),
}
_PRICE: Mapping[str, Reading] = {
    "Passes": lambda curve: curve.forward_equivalents,
    "Seconds": lambda curve: curve.seconds,
}
_SHOWN_RATES = (0.3, 0.5, 0.7)


def figures_over(rates: Sequence[float]) -> Mapping[str, Reading]:
    """The columns of the table for runs that were measured at these rates: title to figure.

    Example:
    >>> list(figures_over([0, 0.5]))
    ['AUC', 'Harmonic', 'Worst', 'At 30 %', 'At 50 %', 'Passes', 'Seconds']
    >>> list(figures_over([0, 0.1]))
    ['AUC', 'Harmonic', 'Worst', 'At 10 %', 'Passes', 'Seconds']
    """
    shown = [rate for rate in _SHOWN_RATES if rates[0] <= rate <= rates[-1]]
    if not shown:
        pruned = [rate for rate in rates if rate] or rates
        last = len(pruned) - 1
        shown = [pruned[place] for place in sorted({0, last // 2, last})]
    at = {f"At {round(100 * rate, 6):g} %": _accuracy(rate) for rate in shown}
    return {**_AREAS, **at, **_PRICE}


@dataclass(frozen=True)
class Comparison:
    """What `compare()` returns.

    Args:
        runs: Method to its curves, one for each seed.
        settings: What all of them share.

    Example:
    >>> comparison = klp.compare((model, (x, y), (x_test, y_test)), ["l1", "taylor"])
    >>> comparison.summary()
    >>> first, *_ = comparison.runs["taylor"]
    >>> first.auc()
    """

    runs: Mapping[str, Sequence[MethodCurve]]
    settings: Mapping[str, Any]

    def figures(self) -> dict[str, dict[str, list[float | None]]]:
        """What the table shows: method to figure to its value for each seed; `None`: undefined.

        `"AUC"`, `"Harmonic"` and `"Worst"` are areas under the mean, the harmonic mean and the
        lowest of the class accuracies, `"At 30 %"` and so on mean class accuracies at that rate
        (30, 50 and 70 % as far as the rates go, else up to three of the rates), all in percent;
        `"Passes"` forward-equivalents.
        """
        figures = figures_over(self.settings["rates"])
        return {
            method: {name: [figure(run) for run in runs] for name, figure in figures.items()}
            for method, runs in self.runs.items()
        }

    def summary(self) -> None:
        """Prints the table: mean and standard deviation over the seeds; and what was refitted."""
        table = comparison_table(self.figures(), title=self._title)
        print_table(table, piped_width=_TABLE_WIDTH)
        print(self._protocol)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__}: {self._title}"]
        for method, figures in self.figures().items():
            shown = (f"{name} {mean_and_spread(figures[name])}" for name in _AREAS)
            lines.append(f"  {method}: {', '.join(shown)}")
        return "\n".join([*lines, "  summary(), plot(), save(folder); .runs, .settings"])

    def _repr_html_(self) -> str:
        rows = [
            (method, *map(mean_and_spread, figures.values()))
            for method, figures in self.figures().items()
        ]
        columns = ("Method", *figures_over(self.settings["rates"]))
        return html_report(f"{self._title}. {self._protocol}", columns, rows, self.plot())

    @property
    def _title(self) -> str:
        seeds = max(map(len, self.runs.values()))
        spread = f", mean ± standard deviation over {seeds} seeds" if seeds > 1 else ""
        rates = self.settings["rates"]
        return f"Held-out accuracy (%) over rates {rates[0]:g} to {rates[-1]:g}{spread}"

    @property
    def _protocol(self) -> str:
        """A sentence on whether the weights that are left were refitted."""
        recovery = self.settings["recovery"]
        if recovery is None:
            return (
                "All weights stay as they are (recovery=None), as in published comparisons; "
                "prune() refits what is left by default."
            )
        return f"What is left is refitted at each rate (recovery={recovery!r})."

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        kind: Literal["mean", "harmonic", "worst"] = "mean",
    ) -> Figure:
        """Draws each method's curve: the mean over the seeds, and their range as a band.

        Args:
            path: Where to write it (`.png`, `.svg` or `.pdf`), if anywhere.
            kind: The `"mean"` of the class accuracies, their `"harmonic"` mean, or the `"worst"`.

        Returns:
            The matplotlib figure.
        """
        title = "Accuracy on held-out samples"
        return plot_curves(self.runs, path, kind=kind, title=title)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Writes `comparison.json` (figures and all curves), `curves.png` and `harmonic.png`.

        All three appear together or not at all, and take the place of earlier ones.

        Args:
            folder: Where to; made if it does not exist.

        Returns:
            The folder.

        Raises:
            OSError: If it cannot be written.
        """
        target = Path(folder)
        check_writable(target)
        record = {
            "settings": self.settings,
            "figures": self.figures(),
            "runs": [run.to_dict() for runs in self.runs.values() for run in runs],
        }
        with new_members(target, (_RECORD, *_PICTURES)) as new:
            write_json(new / _RECORD, record)
            for name, kind in _PICTURES.items():
                self.plot(new / name, kind)
        return target


@checked
def compare(
    task: Triple | Callable[[int], Triple],
    methods: str | Method | Iterable[str | Method] = DEFAULT_METHODS,
    seeds: Iterable[int] = (0,),
    rates: Sequence[float] | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    verbose: int = 1,
    **options: Any,
) -> Comparison:
    """Prunes by several methods, with several seeds, and measures each on held-out samples.

    Args:
        task: `(model, reference, test)`, as `accuracy_curve` takes them; or a function of the seed
            that returns them, so that each seed has a reference set (and a head) of its own.
            Where they are the same for all seeds, only what is drawn at random differs.
        methods: Names from `METHODS`, or `Method`s; or a single one.
        seeds: One run of each method for each.
        rates: Pruning rates, increasing, in [0, 1); by default 0 to 0.95 in steps of 0.05.
        folder: Where finished runs are kept, a file for each; the same call goes on from there,
            and one with more methods or seeds adds to them.
        verbose: 1 says when a run is finished, 0 nothing.
        **options: Further arguments of `accuracy_curve`, the same for all runs: `recovery`
            (by default none: all weights stay frozen), `engine`, `protect`, `min_channels`,
            `round_to`, `batch_size`, `strategy`, ...

    Returns:
        A `Comparison`: `runs`, `summary()`, `plot()`, `save()`.

    Raises:
        ValueError, TypeError, DataError, UnsupportedModelError: As `accuracy_curve` does; and
            for methods or seeds that are missing or given twice.
        OSError: If the folder cannot be written to.
        CheckpointError: If the folder holds runs with other settings, or another model or data.

    Example:
    >>> def task(seed):
    ...     chosen, _ = draw_per_class(y, 20, seed)
    ...     return model, (x[chosen], y[chosen]), (x_test, y_test)
    >>> comparison = klp.compare(task, ["accuracy-aware", "l1"], seeds=range(5), folder="runs/")
    >>> comparison.summary()
    """
    given = [methods] if isinstance(methods, str | Method) else methods
    chosen = several(lambda _, method: make_method(method), "methods")("methods", given)
    _check_once("method", [method.name for method in chosen])
    _check_once("seed", seeds := tuple(seeds))
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise TypeError(
            f"compare() has no argument {', '.join(unknown)}. There are: {', '.join(_OPTIONS)}."
        )
    began = time.monotonic()
    conditions = Conditions.of(rates, options)
    for method in chosen:
        # An error before any work, if there is one.
        scored_by(method, conditions.engine, conditions.recovery)
    strategy = conditions.execution.strategy
    if folder is not None and is_chief(strategy):
        check_writable(Path(folder))
    store = None if folder is None else RunFolder(folder, strategy)
    say = Console(stderr=True, quiet=not (verbose > 0 and is_chief(strategy)), highlight=False)
    make_task = task if callable(task) else None
    runs: dict[str, list[MethodCurve]] = {method.name: [] for method in chosen}
    bench: Bench | None = None
    for seed in seeds:
        if bench is None or make_task is not None:
            model, reference, test = _triple(task if make_task is None else make_task(seed))
            bench = Bench(model, reference, test, conditions)
            if store is not None:
                identity = bench.identity()
                store.check(bench.settings)
        for method in chosen:
            curve = store.load(method, seed, identity) if store is not None else None
            found = "" if curve is None else f", found in {folder}"
            if curve is None:
                curve = bench.curve(method, seed)
                if store is not None:
                    store.save(curve, method, identity, bench.settings)
            runs[method.name].append(curve)
            say.print(_line(curve) + found, soft_wrap=True)
    assert bench is not None  # there is a seed
    passed = time.monotonic() - began
    say.print(f"All of it took {passed:.0f} s, start-up and measurement included.", soft_wrap=True)
    return Comparison(runs, bench.settings)


def _check_once(what: str, given: Sequence[object]) -> None:
    if not given:
        raise ValueError(f"There is no {what} to compare; give at least one.")
    twice = next((entry for entry in given if given.count(entry) > 1), None)
    if twice is not None:
        raise ValueError(f"The {what} {twice!r} is given twice.")


def _triple(task: Any) -> Triple:
    if not isinstance(task, tuple | list) or len(task) != 3:
        raise TypeError(
            f"task must return (model, reference, test) for a seed, not {type(task).__name__}."
        )
    return (task[0], task[1], task[2])


def _line(curve: MethodCurve) -> str:
    mean = f"mean accuracy {curve.mean()[-1]:.1%} at rate {curve.rates[-1]:g}"
    area = f"AUC {curve.auc():.1%}, " if len(curve.rates) > 1 else ""
    return f"{curve.method}, seed {curve.seed}: {area}{mean}, {curve.seconds:.1f} s"
