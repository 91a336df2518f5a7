"""Where methods are tried: a model, its reference set, and the samples to measure on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.arguments import checked
from keras_lrp_prune.comparison.decisions import Decisions, decide
from keras_lrp_prune.comparison.methods import Method
from keras_lrp_prune.comparison.rebuilding import RebuiltModels
from keras_lrp_prune.comparison.record import MethodCurve
from keras_lrp_prune.pruning.advice import measured
from keras_lrp_prune.pruning.progress import PruningProgress
from keras_lrp_prune.pruning.recovering import (
    RECOVERIES,
    check_recovery,
    chosen_recovery,
)
from keras_lrp_prune.pruning.steering import LinearHead
from keras_lrp_prune.pruning.task import read_task
from keras_lrp_prune.relevance.criteria import Problem
from keras_lrp_prune.relevance.engines import check_engine
from keras_lrp_prune.runtime import DEFAULT_MEMORY, check_same, check_strategy, is_chief
from keras_lrp_prune.selection.limits import Limits

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

DEFAULT_RATES = tuple(number / 20 for number in range(20))
_TIMINGS = 5


class Bench:
    """Gives the curve of any method on one task; arguments as those of `accuracy_curve`."""

    @checked
    def __init__(
        self,
        model: keras.Model,
        reference: Any,
        test: Any,
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
        worker_python: str | None = None,
        class_names: Iterable[str] | None = None,
    ) -> None:
        check_engine(engine)
        check_recovery(recovery)
        check_strategy(strategy)
        self._rates = list(DEFAULT_RATES if rates is None else rates)
        self._task = read_task(
            model,
            reference,
            limits=Limits(min_channels, round_to),
            protect=protect,
            batch_size=batch_size,
            memory_budget=memory_budget,
            strategy=strategy,
            class_names=class_names,
        )
        self._test = self._task.samples(test, "test data")
        check_same(self._task.graph, self._test, strategy)
        self._asked, self._recovery = recovery, chosen_recovery(recovery)
        if "head" in RECOVERIES[self._recovery]:
            LinearHead(self._problem(), refit=True)  # an error before any work, if there is none
        self._engine = engine
        self._worker_python = worker_python
        self._strategy = strategy
        self.settings = {
            "rates": self._rates,
            "recovery": self._recovery,
            "engine": engine,
            "protect": list(protect),
            "min_channels": min_channels,
            "round_to": round_to,
        }
        self._task.check_accuracy()

    def curve(self, method: Method, seed: int = 0, verbose: int = 0) -> MethodCurve:
        """Prunes by the method, then measures; see `accuracy_curve`."""
        enabled = verbose > 0 and is_chief(self._strategy)
        last = max(self._rates[-1], 1e-9)
        progress = PruningProgress(
            lambda record: record.rate / last, class_names=self._task.class_names, enabled=enabled
        )
        with progress.stage("pruning"):
            decisions = decide(
                self._task,
                method,
                self._rates,
                refit_head="head" in RECOVERIES[self._recovery],
                seed=seed,
                engine=self._engine,
                worker_python=self._worker_python,
                on_steering=lambda steering: progress.name_mean(
                    measured({"steering": steering}).short
                ),
                on_step=progress.show,
            )
        rate = self._task.structure.rate
        models = RebuiltModels(self._task, self._problem(seed), self._asked)
        with progress.stage("measuring"):
            accuracies = self._measured(decisions.masks, models, progress.advance)
        return MethodCurve(
            rates=np.array(self._rates),
            class_accuracy=accuracies,
            reached=np.array([rate(mask) for mask in decisions.masks]),
            method=method.name,
            seed=seed,
            decisions=_digest(decisions),
            forward_passes=decisions.forward_passes,
            scoring_passes=len(decisions.scorings),
            forward_equivalents=decisions.forward_equivalents(self._forward_seconds),
            seconds=decisions.seconds,
            engine=decisions.engine,
        )

    def identity(self) -> dict[str, Any]:
        """Tells this task from others, as plain data.

        Weights are told apart by their norms: a head that is fitted anew may differ in the last
        bits.
        """
        layers = self._task.flat.layers.values()
        return {
            "reference": self._task.reference.fingerprint(),
            "test": self._test.fingerprint(),
            "samples": {
                "reference": self._task.reference.fingerprint(in_order=False),
                "test": self._test.fingerprint(in_order=False),
            },
            "layers": [layer.settings() for layer in layers],
            "norms": [
                float(np.linalg.norm(np.asarray(array, np.float64)))
                for layer in layers
                for array in layer.arrays().values()
            ],
        }

    def _problem(self, seed: int = 0) -> Problem:
        """What is recovered; nothing is scored."""
        return self._task.problem(seed=seed, analyzer_options={})

    @cached_property
    def _forward_seconds(self) -> float:
        """Seconds of a forward pass of the unpruned model over the reference set."""
        forward = self._task.unpruned_forward
        forward(self._task.reference.x)  # is traced
        seconds = []
        for _ in range(_TIMINGS):
            start = time.perf_counter()
            forward(self._task.reference.x)
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    def _measured(
        self, masks: np.ndarray, models: RebuiltModels, on_part: Callable[[float], None]
    ) -> np.ndarray:
        """Class accuracies at each rate; held points are measured once."""
        found: list[np.ndarray] = []
        for number, mask in enumerate(masks):
            held = number > 0 and np.array_equal(mask, masks[number - 1])
            found.append(found[-1] if held else models.class_accuracies(mask, self._test))
            on_part(len(found) / len(masks))
        return np.stack(found)


def _digest(decisions: Decisions) -> str:
    return hashlib.sha256(np.packbits(decisions.masks).tobytes()).hexdigest()[:16]
