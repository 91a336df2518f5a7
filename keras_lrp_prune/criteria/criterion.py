"""What scores: a `Criterion`, which users name or make, and the `Scorer` that it becomes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from inspect import signature
from typing import Any, Generic, Self

import numpy as np

from keras_lrp_prune.criteria.problem import P_co, Problem
from keras_lrp_prune.criteria.scores import Scores

NEEDS = ("samples", "gradients", "lrp", "second_moments")
KINDS = ("channels", "weights")


def is_plain(name: str) -> bool:
    """Whether a name has letters, digits, `-`, `_` and `.`, no more, and no `-` in front."""
    if name.startswith("-"):  # the command line would take it for an option
        return False
    for mark in "-_.":
        name = name.replace(mark, "")
    return name.isascii() and name.isalnum()


class Scorer(ABC, Generic[P_co]):
    """A criterion at work on one problem: scores its units for each class; low scores go first.

    Args:
        problem: What is scored.

    Attributes:
        gives_probabilities: Whether it is a `ProbabilityScorer`, or has its method all the same.
        engine_name: What computes LRP, if anything does.
    """

    gives_probabilities: bool = False
    engine_name: str | None = None

    def __init__(self, problem: Problem[P_co]) -> None:
        self.problem = problem

    @abstractmethod
    def scores(self, removed: np.ndarray) -> Scores:
        """Scores of the units of the model without the removed ones.

        Args:
            removed: bool, shape `(units,)`, to read; the working model is masked alike.
        """

    def refresh(self) -> None:
        """Takes over the weights that the live model behind the problem's graph has by now.

        As it stands here, the working copy gets them; what else is known of them is forgotten by
        a method that overrides this one.
        """
        self.problem.refresh()

    def close(self) -> None:
        """Frees what the scorer holds."""


class ProbabilityScorer(Scorer[P_co]):
    """A scorer whose pass gives the class probabilities too.

    No other pass is needed to know the accuracies.

    Args:
        problem: What is scored.

    Example:
    >>> class SizesScorer(klp.criteria.ProbabilityScorer):
    ...     def examine(self, removed):
    ...         self.problem.mask().set(removed)
    ...         probabilities = self.problem.working().model(self.problem.reference.x)
    ...         sizes = self.problem.structure.unit_sizes[None].astype(float)
    ...         return klp.criteria.Scores(sizes), np.asarray(probabilities)
    """

    gives_probabilities = True

    @abstractmethod
    def examine(self, removed: np.ndarray) -> tuple[Scores, np.ndarray]:
        """Scores and, of the same pass, class probabilities.

        Args:
            removed: bool, shape `(units,)`, to read. Nothing is masked yet: LRP engines have masks
                of their own, and for the working model there is `self.problem.mask()`.

        Returns:
            The scores, and the probabilities of the reference samples, float, shape
            `(samples, classes)`.
        """

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Scorer`."""
        return self.examine(removed)[0]


class Criterion(ABC):
    """What scores the units of a prunable, described: no model is in it, and no work is done.

    One of your own is a subclass with `name`, `help`, `passes` and `scorer`, and what else differs
    from the defaults below. With arguments it is a frozen dataclass, so that `get_config` knows
    them. It is given as it is (`prune(criterion=MyCriterion())`), or by its name once
    `klp.register_criterion` has it.

    Attributes:
        needs: Of `"samples"`, `"gradients"`, `"lrp"` and `"second_moments"`, what it reads beside
            the weights.
        works_on: Of `"channels"` and `"weights"`, what it can score.
        one_shot: Whether `compare` has it score once, on the unpruned model, as it was published,
            and not anew after each step.
        compared: Whether `compare` has a method of its name.
        refits_each_step: Whether it scores the network as it is after refitting: where there is a
            recovery, what is left is refitted at each step then, and not in the end alone.

    Example:
    >>> class Sizes(klp.criteria.Criterion):
    ...     name = "sizes"
    ...     help = "number of filters that go together"
    ...     passes = 0
    ...
    ...     def scorer(self, problem):
    ...         return SizesScorer(problem)
    >>> class SizesScorer(klp.criteria.Scorer):
    ...     def scores(self, removed):
    ...         return klp.criteria.Scores(self.problem.structure.unit_sizes[None].astype(float))
    >>> result = klp.prune(model, (x, y), 0.3, criterion=Sizes())
    """

    needs: tuple[str, ...] = ()
    works_on: tuple[str, ...] = ("channels",)
    one_shot: bool = False
    compared: bool = True
    refits_each_step: bool = False

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called: letters, digits, `-`, `_` and `.`."""

    @property
    @abstractmethod
    def help(self) -> str:
        """What a unit is scored by, in one line."""

    @property
    @abstractmethod
    def passes(self) -> int:
        """Forward and backward passes over the reference set that scores cost."""

    @abstractmethod
    def scorer(self, problem: Problem) -> Scorer:
        """Sets it to work; close the scorer when it is no longer needed.

        Args:
            problem: The model and the samples.
        """

    def configured(
        self,
        *,
        analyzer_options: Mapping[str, Any],
        engine: str = "auto",
        worker_python: str | None = None,
    ) -> Criterion:
        """The same with the arguments that `prune` has for LRP; others are left as they are.

        Raises:
            ValueError: If there are analyzer options, and it is no analyzer.
        """
        if analyzer_options:
            raise ValueError(
                f"analyzer_options are for LRP analyzers; criterion {self.name!r} has none."
            )
        return self

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data, in the form of a schedule's.

        Returns:
            `{"class_name": ..., "config": {argument: value}}`.

        Raises:
            TypeError: If it takes other arguments than the fields of a dataclass.
        """
        made: Any = self
        names = [known.name for known in fields(made)] if is_dataclass(made) else []
        if set(names) != set(signature(type(self)).parameters):
            raise TypeError(
                f"{type(self).__name__} has arguments that its config does not know: make it a "
                "frozen dataclass, or write get_config."
            )
        config = {name: getattr(self, name) for name in names}
        return {"class_name": type(self).__name__, "config": config}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A criterion from `get_config()`, or from the inner `"config"` alone."""
        return cls(**(config["config"] if "class_name" in config else config))
