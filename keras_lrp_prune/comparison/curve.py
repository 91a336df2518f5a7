"""`accuracy_curve()`: how accurate a method leaves a model, over the pruning rate."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from keras_lrp_prune.comparison.decisions import Decisions, decide
from keras_lrp_prune.comparison.methods import Method, make_method
from keras_lrp_prune.comparison.task import Measurement, Task, read_task
from keras_lrp_prune.control.proposal import Limits
from keras_lrp_prune.data import ReferenceSet
from keras_lrp_prune.evaluation import AccuracyCurve
from keras_lrp_prune.pruning.progress import PruningProgress
from keras_lrp_prune.relevance.criteria import check_criterion
from keras_lrp_prune.relevance.engines import check_engine
from keras_lrp_prune.runtime import DEFAULT_MEMORY, check_strategy, is_chief

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

DEFAULT_RATES = tuple(number / 20 for number in range(20))
RECOVERIES = (None,)

_TIMINGS = 5


@dataclass(frozen=True, eq=False)
class MethodCurve(AccuracyCurve):
    """The accuracy curve of a method on held-out samples, and what it took.

    Attributes:
        reached: Pruning rate that stands behind each of `rates`, float64, shape `(r,)`: the
            nearest that whole groups allow, or the largest that there is.
        method: The method's name.
        seed: Of its draws.
        decisions: Digest of the units removed at each rate: where it is the same, the same units
            were.
        forward_passes: Number of plain forward passes over the reference set.
        scoring_passes: Number of passes of the criterion over it, such as LRP's, which gives the
            accuracies too.
        forward_equivalents: Both together: a scoring pass counts by its time over that of a
            forward pass of the unpruned model, measured in the same run.
        seconds: What the decisions took, without start-up and without the measurement.
        engine: What computed LRP, if anything did.

    Example:
    >>> curve = klp.accuracy_curve(model, (x, y), (x_test, y_test), "lrp-iterative")
    >>> curve.auc(), curve.auc("harmonic"), curve.auc("worst")
    """

    reached: np.ndarray
    method: str
    seed: int
    decisions: str
    forward_passes: int
    scoring_passes: int
    forward_equivalents: float
    seconds: float
    engine: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        reached = np.array(self.reached, np.float64)
        if reached.shape != self.rates.shape:
            raise ValueError(f"reached must have the shape {self.rates.shape}, as rates has.")
        reached.flags.writeable = False
        object.__setattr__(self, "reached", reached)

    def to_dict(self) -> dict[str, Any]:
        """Gives the curve as plain data, ready for JSON; `from_dict` takes it back."""
        others = {name: getattr(self, name) for name in _PLAIN}
        return {**super().to_dict(), "reached": self.reached.tolist(), **others}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Makes a curve of what `to_dict` gave.

        Raises:
            ValueError: If an entry is missing or out of range.
        """
        names = ("rates", "class_accuracy", "reached", *_PLAIN)
        missing = [name for name in names if name not in data]
        if missing:
            raise ValueError(f"This is no curve of a method; it lacks {', '.join(missing)}.")
        return cls(**{name: data[name] for name in names})


_PLAIN = (
    *("method", "seed", "decisions", "forward_passes", "scoring_passes"),
    *("forward_equivalents", "seconds", "engine"),
)


def accuracy_curve(
    model: keras.Model,
    reference: Any,
    test: Any,
    method: str | Method = "accuracy-aware",
    rates: Sequence[float] | None = None,
    *,
    recovery: str | None = None,
    engine: str = "auto",
    protect: Sequence[str] = (),
    min_channels: float = 1,
    round_to: int = 1,
    batch_size: int | None = None,
    memory_budget: float = DEFAULT_MEMORY,
    strategy: tf.distribute.Strategy | None = None,
    seed: int = 0,
    verbose: int = 0,
    worker_python: str | None = None,
) -> MethodCurve:
    """Prunes from rate to rate by a method, and measures each class at each of them.

    The method decides on `reference` alone. Only then the model without the filters that it chose
    is measured on `test`.

    Args:
        model: As in `prune`; it is not changed.
        reference: The few labelled samples that all decisions use, as in `prune`.
        test: Held-out samples of the same form.
        method: A name from `METHODS` (`"accuracy-aware"`, `"lrp-iterative"`, `"lrp-one-shot"`,
            `"taylor"`, `"activation"`, `"apoz"`, `"l1"`, `"l2"`, `"random"`), or a `Method`.
        rates: Pruning rates, increasing, in [0, 1); by default 0 to 0.95 in steps of 0.05. Each is
            met to within half the largest group; beyond the largest that can be reached, the last
            point is held.
        recovery: What is refitted of the weights that are left; `None`: nothing.
        engine: What computes LRP, as in `prune`.
        protect: Layers to leave alone.
        min_channels: Channels that every group keeps, as in `prune`.
        round_to: Groups that lose channels keep a multiple of this many.
        batch_size: Samples per batch and replica; default: as many as the memory budget allows.
        memory_budget: Bytes that the activations of one batch may take on each replica.
        strategy: A `tf.distribute` strategy, as in `prune`.
        seed: For the method `"random"`.
        verbose: 1 shows a progress bar, 0 nothing.
        worker_python: Interpreter that has iNNvestigate, as in `prune`.

    Returns:
        The curve; an `AccuracyCurve` that also says which rates were reached, and at what cost.

    Raises:
        DataError: For unusable samples or labels.
        UnsupportedModelError: For a model that cannot be pruned.
        ValueError: For an unknown method, recovery or engine, or rates or other arguments outside
            their ranges.
        WorkerError: If iNNvestigate's process dies.

    Example:
    >>> curve = klp.accuracy_curve(model, (x, y), (x_test, y_test), "taylor", [0, 0.2, 0.4])
    >>> curve.class_accuracy.shape
    (3, 10)
    """
    chosen = make_method(method)
    check_criterion(chosen.criterion)
    check_engine(engine)
    check_recovery(recovery)
    check_strategy(strategy)
    asked = checked_rates(rates)
    task = read_task(
        model,
        reference,
        limits=Limits(min_channels, round_to),
        protect=protect,
        batch_size=batch_size,
        memory_budget=memory_budget,
        strategy=strategy,
    )
    held_out = task.samples(test, "test data")
    measurement = Measurement(task)
    forward_seconds = _forward_seconds(measurement, task)
    with PruningProgress(asked[-1], enabled=verbose > 0 and is_chief(strategy)) as progress:
        decisions = decide(
            task,
            chosen,
            asked,
            seed=seed,
            engine=engine,
            worker_python=worker_python,
            on_step=progress.show,
        )
    return MethodCurve(
        rates=np.array(asked),
        class_accuracy=_measured(decisions, measurement, held_out),
        reached=np.array([task.structure.pruning_rate(mask) for mask in decisions.masks]),
        method=chosen.name,
        seed=seed,
        decisions=hashlib.sha256(np.packbits(decisions.masks).tobytes()).hexdigest()[:16],
        forward_passes=decisions.forward_passes,
        scoring_passes=len(decisions.scorings),
        forward_equivalents=decisions.forward_equivalents(forward_seconds),
        seconds=decisions.seconds,
        engine=decisions.engine,
    )


def checked_rates(rates: Sequence[float] | None) -> list[float]:
    """Pruning rates as plain numbers; the default ones for `None`.

    Raises:
        ValueError: If they are not increasing, or not in [0, 1).
    """
    asked = [float(rate) for rate in (DEFAULT_RATES if rates is None else rates)]
    AccuracyCurve(np.array(asked), np.zeros((len(asked), 1)))  # has the checks
    return asked


def check_recovery(recovery: str | None) -> None:
    """Raises `ValueError` for a recovery that there is not, listing those that there are."""
    if recovery not in RECOVERIES:
        raise ValueError(
            f"Unknown recovery {recovery!r}. There is: {', '.join(map(repr, RECOVERIES))} "
            "(all weights stay as they are)."
        )


def _measured(decisions: Decisions, measurement: Measurement, held_out: ReferenceSet) -> np.ndarray:
    """Class accuracies at each rate; held points are measured once."""
    found: list[np.ndarray] = []
    for number, mask in enumerate(decisions.masks):
        held = number > 0 and np.array_equal(mask, decisions.masks[number - 1])
        found.append(found[-1] if held else measurement.class_accuracies(mask, held_out))
    return np.stack(found)


def _forward_seconds(measurement: Measurement, task: Task) -> float:
    """Seconds of a forward pass of the unpruned model over the reference set."""
    seconds = []
    for _ in range(_TIMINGS):
        start = time.perf_counter()
        measurement.class_accuracies(task.unpruned, task.reference)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
