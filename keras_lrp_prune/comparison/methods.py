"""Methods of pruning, by name: what scores the filters, and by which schedule they go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from keras_lrp_prune.arguments import as_taken
from keras_lrp_prune.control.pace import own_selection
from keras_lrp_prune.control.schedules import EqualSteps
from keras_lrp_prune.criteria.criterion import Criterion, is_plain
from keras_lrp_prune.criteria.registry import CRITERIA, compared, registered_config
from keras_lrp_prune.examination.criterion_choice import DEFAULT_CRITERION, CriterionChoice
from keras_lrp_prune.examination.recovery_choice import FROZEN, Recovery

_LRP = "lrp.sequential_preset_a"
_ALL_AT_ONCE = partial(EqualSteps, 1.0)


@dataclass(frozen=True)
class Method:
    """A way to prune: a criterion, and a schedule that it is used by.

    Args:
        name: What tables and files call it: letters, digits, `-`, `_` and `.`.
        criterion: A name or an object, as in `prune`; `None`: its default.
        schedule: Makes a fresh schedule, as in `prune`; a class will do. `None`: that of `prune`.
        analyzer_options: As in `prune`.
        scored_once: Whether the filters are scored on the unpruned model only, and not again
            after each step.

    Raises:
        ValueError: For a name that cannot be that of a file.
        TypeError: For another type, or if `schedule` is a schedule and not a function that makes
            one.

    Example:
    >>> gentle = Method("gentle", "lrp.z", partial(klp.schedules.AccuracyAware, tolerance=0.01))
    >>> curve = klp.accuracy_curve(model, (x, y), (x_test, y_test), gentle)
    """

    name: str
    criterion: str | Criterion | None
    schedule: Callable[[], Any] | None = EqualSteps
    analyzer_options: Mapping[str, Any] = field(default_factory=dict)
    scored_once: bool = False

    def __post_init__(self) -> None:
        as_taken(type(self), vars(self))
        if self.criterion is not None and not isinstance(self.criterion, str):
            CriterionChoice(self.criterion, self.analyzer_options)  # an error, if there is one
        if not is_plain(self.name):
            raise ValueError(
                "A method's name has letters, digits, '-', '_' and '.', and no '-' in front, "
                f"unlike {self.name!r}."
            )
        is_one = hasattr(self.schedule, "get_config") and not isinstance(self.schedule, type)
        if is_one or not (self.schedule is None or callable(self.schedule)):
            raise TypeError(
                f"schedule makes a fresh schedule for each run, such as AccuracyAware or "
                f"partial(AccuracyAware, pool=0); {self.schedule!r} is one itself."
            )

    def describe(self) -> dict[str, Any]:
        """What makes it the same method, whatever its name, as plain data."""
        made, schedule = self.criterion, self.schedule and self.schedule()
        return {
            "criterion": made.get_config() if isinstance(made, Criterion) else made,
            **registered_config(made),
            "schedule": schedule and schedule.get_config(),
            **own_selection(schedule),
            "analyzer_options": dict(self.analyzer_options),
            "scored_once": self.scored_once,
        }


_OF_LRP: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("accuracy-aware", None, None),
        # Yeom et al. 2021, arXiv:1912.08881: relevance with all classes alike, computed anew after
        # each step. They have one rule for all layers; the preset, another for dense layers, keeps
        # more of the accuracy.
        Method("lrp-iterative", _LRP),
        Method("lrp-one-shot", _LRP, _ALL_AT_ONCE, scored_once=True),
        # The criterion of the method `pxp`, which scores once, computed anew after each step.
        Method("pxp-iterative", "pxp"),
    )
}


class Methods(Mapping[str, Method]):
    """The methods of this package, and one for each criterion that is compared, users' included."""

    def __getitem__(self, name: str) -> Method:
        if name in _OF_LRP:
            return _OF_LRP[name]
        if name not in compared("channels"):
            raise KeyError(name)
        if CRITERIA[name].refits_each_step:
            return Method(name, name, None)
        if CRITERIA[name].one_shot:
            return Method(name, name, _ALL_AT_ONCE, scored_once=True)
        return Method(name, name)

    def __iter__(self) -> Iterator[str]:
        yield from _OF_LRP
        yield from compared("channels")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr(dict(self))


METHODS: Mapping[str, Method] = Methods()


def make_method(method: str | Method) -> Method:
    """A method of its name, or itself.

    Raises:
        ValueError: For an unknown name; the message lists those that there are.
        TypeError: If it is neither.
    """
    if isinstance(method, Method):
        return method
    if not isinstance(method, str):
        raise TypeError(f"A method is given by its name or as a Method, not as {method!r}.")
    if method not in METHODS:
        raise ValueError(f"Unknown method {method!r}. There are: {', '.join(METHODS)}.")
    return METHODS[method]


def scored_by(
    method: Method, engine: CriterionChoice = DEFAULT_CRITERION, recovery: Recovery = FROZEN
) -> Criterion:
    """What scores filters for a method.

    Args:
        method: The method.
        engine: What computes LRP, and where. It is said for all methods of a comparison: those
            that compute none do without, and a criterion that is an object may have the same.
        recovery: What will be refitted.

    Raises:
        ValueError: As `prune` does.
    """
    made = method.criterion
    known = CRITERIA.get(made) if isinstance(made, str) else made
    if "lrp" not in getattr(known, "needs", ("lrp",)) or (
        not isinstance(made, str) and getattr(made, "engine", None) == engine.engine
    ):
        engine = DEFAULT_CRITERION
    choice = replace(
        engine,
        criterion=method.criterion,
        analyzer_options=method.analyzer_options,
        refits_layers=recovery.refits_layers,
    )
    return choice.chosen
