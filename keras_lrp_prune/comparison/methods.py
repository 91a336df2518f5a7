"""Methods of pruning, by name: what scores the filters, and how they go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from keras_lrp_prune.arguments import as_taken, or_none, text
from keras_lrp_prune.control.schedules import AccuracyAware, EqualSteps
from keras_lrp_prune.relevance.criteria import Criterion, check_criterion
from keras_lrp_prune.relevance.scores import Scores

_LRP = "lrp.sequential_preset_a"
_ALL_AT_ONCE = partial(EqualSteps, 1.0)


@dataclass(frozen=True)
class Method:
    """A way to prune: a criterion, and a schedule that it is used by.

    Args:
        name: What tables and files call it: letters, digits, `-`, `_` and `.`.
        criterion: As in `prune`; `None`: its default.
        schedule: Makes a fresh schedule, as in `prune`; a class will do.
        analyzer_options: As in `prune`.
        scored_once: Whether the filters are scored on the unpruned model only, and not again
            after each step.

    Raises:
        ValueError: For a name that cannot be that of a file.
        TypeError: For another type; if `schedule` makes none, but is one itself.

    Example:
    >>> gentle = Method("gentle", "lrp.z", partial(klp.schedules.AccuracyAware, tolerance=0.01))
    >>> curve = klp.accuracy_curve(model, (x, y), (x_test, y_test), gentle)
    """

    name: str
    criterion: str | None
    schedule: Callable[[], Any] = EqualSteps
    analyzer_options: Mapping[str, Any] = field(default_factory=dict)
    scored_once: bool = False

    def __post_init__(self) -> None:
        as_taken(type(self), vars(self))
        or_none(text)("criterion", self.criterion)
        plain = self.name.replace("-", "").replace("_", "").replace(".", "")
        if not (plain.isascii() and plain.isalnum()):
            raise ValueError(
                f"A method's name has letters, digits, '-', '_' and '.', unlike {self.name!r}."
            )
        is_one = hasattr(self.schedule, "get_config") and not isinstance(self.schedule, type)
        if is_one or not callable(self.schedule):
            raise TypeError(
                f"schedule makes a fresh schedule for each run, such as AccuracyAware or "
                f"partial(AccuracyAware, pool=0); {self.schedule!r} is one itself."
            )

    def describe(self) -> dict[str, Any]:
        """What makes it the same method, whatever its name, as plain data."""
        return {
            "criterion": self.criterion,
            "schedule": self.schedule().get_config(),
            "analyzer_options": dict(self.analyzer_options),
            "scored_once": self.scored_once,
        }


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("accuracy-aware", None, AccuracyAware),
        # Yeom et al. 2021, arXiv:1912.08881: relevance with all classes alike, computed anew after
        # each step. They have one rule for all layers; the preset, another for dense layers, keeps
        # more of the accuracy.
        Method("lrp-iterative", _LRP),
        Method("lrp-one-shot", _LRP, _ALL_AT_ONCE, scored_once=True),
        # Hatefi et al. 2024. They also search a rule for each third of the layers: on validation
        # data epsilon for all of them did as well as any other choice.
        Method("pxp", "pxp", _ALL_AT_ONCE, scored_once=True),
        Method("taylor", "taylor"),
        Method("activation", "activation"),
        Method("apoz", "apoz"),
        Method("l1", "l1", _ALL_AT_ONCE, scored_once=True),
        Method("l2", "l2", _ALL_AT_ONCE, scored_once=True),
        Method("random", "random", _ALL_AT_ONCE, scored_once=True),
    )
}


def make_method(method: str | Method) -> Method:
    """A method of its name, or itself.

    Raises:
        ValueError: For an unknown name, or a criterion that there is not; the message lists those
            that there are.
        TypeError: If it is neither.
    """
    if isinstance(method, Method):
        if method.criterion is not None:
            check_criterion(method.criterion)
        return method
    if not isinstance(method, str):
        raise TypeError(f"A method is given by its name or as a Method, not as {method!r}.")
    if method not in METHODS:
        raise ValueError(f"Unknown method {method!r}. There are: {', '.join(METHODS)}.")
    return METHODS[method]


class ScoredOnce:
    """A criterion that keeps the scores of its first call, that on the unpruned model."""

    def __init__(self, criterion: Criterion) -> None:
        self._criterion = criterion
        self._scores: Scores | None = None

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Criterion`."""
        if self._scores is None:
            self._scores = self._criterion.scores(removed)
        return self._scores

    def refresh(self) -> None:
        """See `Criterion`; the scores stay."""
        self._criterion.refresh()

    def close(self) -> None:
        """See `Criterion`."""
        self._criterion.close()
