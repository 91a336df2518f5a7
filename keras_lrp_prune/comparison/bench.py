"""Where methods are tried: a model, its reference set, and the samples to measure on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from keras_lrp_prune.arguments import Checked
from keras_lrp_prune.comparison.decisions import Decisions, decide
from keras_lrp_prune.comparison.method_curve import MethodCurve
from keras_lrp_prune.comparison.methods import Method, scored_by
from keras_lrp_prune.comparison.rebuilt_models import RebuiltModels
from keras_lrp_prune.examination.channel_limits import DEFAULT_LIMITS, ChannelLimits
from keras_lrp_prune.examination.criterion_choice import DEFAULT_CRITERION, CriterionChoice
from keras_lrp_prune.examination.recovery_choice import FROZEN, Recovery
from keras_lrp_prune.examination.refit import Refitter
from keras_lrp_prune.examination.refitted_mask import refits_each_step
from keras_lrp_prune.examination.steering import LinearHead, measured
from keras_lrp_prune.examination.subject import read_subject
from keras_lrp_prune.report.progress import PruningProgress
from keras_lrp_prune.runtime import DEFAULT_EXECUTION, Execution, check_same, is_chief

if TYPE_CHECKING:
    import keras

DEFAULT_RATES = tuple(number / 20 for number in range(20))
_TIMINGS = 5


@dataclass(frozen=True)
class Conditions(Checked):
    """What is the same for all methods that are compared.

    Args:
        rates: Pruning rates to measure at.
        recovery: What is refitted at each of them.
        engine: What computes LRP, and where; criteria are those of the methods.
        limits: What stays.
        execution: How it is computed; seeds are those of the runs.
        class_names: What the classes are called, if it is known.
    """

    rates: Sequence[float] = DEFAULT_RATES
    recovery: Recovery = FROZEN
    engine: CriterionChoice = DEFAULT_CRITERION
    limits: ChannelLimits = DEFAULT_LIMITS
    execution: Execution = DEFAULT_EXECUTION
    class_names: Iterable[str] | None = None

    @classmethod
    def of(cls, rates: Sequence[float] | None, given: Mapping[str, Any]) -> Self:
        """Those that arguments of `accuracy_curve` ask for; others have its defaults.

        Raises:
            TypeError, ValueError: As `accuracy_curve` does.
        """
        return cls(
            rates=DEFAULT_RATES if rates is None else rates,
            recovery=Recovery(given.get("recovery")),
            engine=CriterionChoice.taken_from(given),
            limits=ChannelLimits.taken_from(given),
            execution=Execution.taken_from(given),
            class_names=given.get("class_names"),
        )


class Bench:
    """Gives the curve of any method on one task.

    Args:
        model: As in `accuracy_curve`.
        reference: As in `accuracy_curve`.
        test: As in `accuracy_curve`.
        conditions: The same for all methods.
    """

    def __init__(
        self, model: keras.Model, reference: Any, test: Any, conditions: Conditions
    ) -> None:
        limits, execution = conditions.limits, conditions.execution
        self._rates = list(conditions.rates)
        self._recovery, self._engine = conditions.recovery, conditions.engine
        self._subject = read_subject(
            model, reference, limits, execution, class_names=conditions.class_names
        )
        self._test = self._subject.samples(test, "test data")
        check_same(self._subject.graph, self._test, execution.strategy)
        if self._recovery.needs_head:
            LinearHead(self._subject.problem(), refit=True)  # an error before any work
        self.settings = {
            "rates": self._rates,
            "recovery": self._recovery.chosen,
            "engine": self._engine.engine,
            "protect": list(limits.protect),
            "min_channels": limits.min_channels,
            "round_to": limits.round_to,
        }
        self._subject.check_accuracy()

    def curve(self, method: Method, seed: int = 0, verbose: int = 0) -> MethodCurve:
        """Prunes by the method, then measures; see `accuracy_curve`."""
        last = max(self._rates[-1], 1e-9)
        progress = PruningProgress(
            lambda record: record.rate / last,
            class_names=self._subject.class_names,
            enabled=verbose > 0 and is_chief(self._subject.strategy),
        )
        each_step = refits_each_step(
            scored_by(method, self._engine, self._recovery), self._recovery
        )
        refits_in_the_end = self._recovery.chosen is not None and not each_step
        subject, recovery = self._subject, self._recovery
        refitter = partial(Refitter, subject.problem(seed), recovery, subject.keras_module)
        with progress.stage("pruning"):
            decisions = decide(
                self._subject,
                method,
                self._rates,
                engine=self._engine,
                refitter=refitter(thorough=False),
                seed=seed,
                on_steering=lambda steering: progress.name_mean(
                    measured(steering, refits=refits_in_the_end).short
                ),
                on_step=progress.show,
            )
        rate = self._subject.structure.rate
        models = RebuiltModels(self._subject, refitter())
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
        layers = self._subject.flat.layers.values()
        return {
            "reference": self._subject.reference.fingerprint(),
            "test": self._test.fingerprint(),
            "samples": {
                "reference": self._subject.reference.fingerprint(in_order=False),
                "test": self._test.fingerprint(in_order=False),
            },
            "layers": [layer.settings() for layer in layers],
            "norms": [
                float(np.linalg.norm(np.asarray(array, np.float64)))
                for layer in layers
                for array in layer.arrays().values()
            ],
        }

    @cached_property
    def _forward_seconds(self) -> float:
        """Seconds of a forward pass of the unpruned model over the reference set."""
        forward = self._subject.unpruned_forward
        forward(self._subject.reference.x)  # is traced
        seconds = []
        for _ in range(_TIMINGS):
            start = time.perf_counter()
            forward(self._subject.reference.x)
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    def _measured(
        self, masks: np.ndarray, models: RebuiltModels, on_part: Callable[[float], None]
    ) -> np.ndarray:
        """Class accuracies at each rate; a rate with the same mask as another is not measured.

        The last is the first: what was refitted last is known.
        """
        found: list[np.ndarray] = []
        for number in reversed(range(len(masks))):
            held = found and np.array_equal(masks[number], masks[number + 1])
            found.append(found[-1] if held else models.class_accuracies(masks[number], self._test))
            on_part(len(found) / len(masks))
        return np.stack(found[::-1])


def _digest(decisions: Decisions) -> str:
    return hashlib.sha256(np.packbits(decisions.masks).tobytes()).hexdigest()[:16]
