"""LRP as a criterion: by an analyzer, of the log odds, and pruning by explanation (PXP)."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

import numpy as np

from keras_lrp_prune.arguments import as_taken
from keras_lrp_prune.arguments import options as options_rule
from keras_lrp_prune.criteria.criterion import Criterion, ProbabilityScorer, Scorer, is_plain
from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.criteria.scores import Contributions, Scores, relative_to_group
from keras_lrp_prune.criteria.smaller import without
from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.relevance.analyzers import (
    NATIVE_ANALYZERS,
    check_analyzer,
    check_engine,
    make_composite,
)
from keras_lrp_prune.relevance.native.composites import Composite

if TYPE_CHECKING:
    from keras_lrp_prune.relevance.lrp_engine import LRPEngine
    from keras_lrp_prune.relevance.native.engine import NativeEngine

LOG_ODDS = "lrp.log_odds"
# Forward passes that scoring, once for each step, takes as long as.
_PASSES = 2


@dataclass(frozen=True)
class ByLRP(Criterion):
    """A criterion that LRP computes.

    Args:
        engine: What computes it, as in `prune`.
        worker_python: Interpreter that has iNNvestigate, as in `prune`.
    """

    engine: str = field(default="auto", kw_only=True)
    worker_python: str | None = field(default=None, kw_only=True)

    passes = 2

    def __post_init__(self) -> None:
        check_engine(self.engine)
        as_taken(type(self), vars(self))
        if self.worker_python is not None:
            object.__setattr__(self, "worker_python", os.fspath(self.worker_python))

    @abstractmethod
    def scorer(self, problem: Problem[ChannelStructure]) -> Scorer:
        """See `Criterion`."""

    def configured(
        self,
        *,
        analyzer_options: Mapping[str, Any],
        engine: str = "auto",
        worker_python: str | None = None,
    ) -> Self:
        """See `Criterion`; arguments that are not given stay as they are."""
        super().configured(analyzer_options=analyzer_options)
        return replace(
            self,
            engine=self.engine if engine == "auto" else engine,
            worker_python=self.worker_python if worker_python is None else worker_python,
        )


@dataclass(frozen=True)
class NativeLRP(ByLRP):
    """What only the native engine computes.

    Args:
        engine: `"auto"` or `"native"`.
        worker_python: Has no use here.

    Raises:
        ValueError: For another engine.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.engine == "innvestigate":
            raise ValueError(
                f"Criterion {self.name!r} is for the engine 'native'; iNNvestigate explains the "
                "scores of single classes. Choose engine='auto', or an analyzer that it has."
            )


@dataclass(frozen=True)
class LRP(ByLRP):
    """Each unit's share of the relevance of its group, for each class.

    Signed mean relevance (Bach et al. 2015), summed over the unit, over the sum of its magnitudes
    in the group: rules that ignore biases lose relevance on the way down, which must not count
    against lower layers.

    Args:
        analyzer: An analyzer's name, or, for the native engine, a `Composite` of your own.
        options: Keyword arguments of the analyzer.
        engine: What computes it, as in `prune`.
        worker_python: Interpreter that has iNNvestigate, as in `prune`.
        name: What it is called; default: as the analyzer is, or `"lrp.composite"`.

    Raises:
        TypeError: For an argument of another type.
        ValueError: For an unknown analyzer, option or engine, or a name of other characters than
            letters, digits, `-`, `_` and `.`.

    Example:
    >>> stable = klp.criteria.LRP("lrp.epsilon", {"epsilon": 0.1}, engine="native")
    >>> result = klp.prune(model, (x, y), 0.3, criterion=stable)
    """

    analyzer: str | Composite
    # A dict has no hash; equal criteria have equal hashes without it, too.
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    name: str = field(default="", kw_only=True)

    help = "share of its group's relevance, by an LRP analyzer"
    needs = ("samples", "lrp")
    compared = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "options", options_rule("options", self.options))
        if isinstance(self.analyzer, str):
            name = self.analyzer
            check_analyzer(name, self.options, native=self.engine != "innvestigate")
        else:
            name = "lrp.composite"
            _check_composite(self.analyzer, self.options)
        object.__setattr__(self, "name", self.name or name)
        if not is_plain(self.name):
            raise ValueError(f"name has letters, digits, '-', '_' and '.', unlike {self.name!r}.")

    def scorer(self, problem: Problem[ChannelStructure]) -> LRPScorer:
        """See `Criterion`."""
        return LRPScorer(problem, self, self.analyzer, self.options)

    def configured(
        self,
        *,
        analyzer_options: Mapping[str, Any],
        engine: str = "auto",
        worker_python: str | None = None,
    ) -> Self:
        """See `Criterion`; arguments that are not given stay as they are."""
        other = super().configured(analyzer_options={}, engine=engine, worker_python=worker_python)
        return replace(other, options={**self.options, **analyzer_options})

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data; a composite is given by the names of its functions."""
        found = super().get_config()
        if not isinstance(self.analyzer, str):
            found["config"]["analyzer"] = self.analyzer.describe()
        return found

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """See `Criterion`.

        Raises:
            ValueError: If the analyzer was a composite.
        """
        given = config["config"] if "class_name" in config else config
        if not isinstance(given["analyzer"], str):
            raise ValueError(
                "A config only names the functions that a composite is made of: give the composite "
                "itself, LRP(composite)."
            )
        return cls(**given)


@dataclass(frozen=True)
class PXP(ByLRP):
    """The mean magnitude of each unit's relevance, every sample counting alike, for each class.

    Hatefi et al. 2024, arXiv:2408.12568, with the settings that come with their code: the epsilon
    rule for all layers (with 1e-6), and relevance near zero goes first, whatever its sign. For
    each sample relevance is 1 at the score of its class; what comes to a filter of it is summed
    over space, and the magnitudes of these sums are averaged over samples. Layers compare as they
    are: no group is scaled.

    Args:
        engine: What computes LRP, as in `prune`.
        worker_python: Interpreter that has iNNvestigate, as in `prune`.

    Example:
    >>> result = klp.prune(model, (x, y), 0.3, criterion=klp.criteria.PXP(engine="native"))
    """

    name = "pxp"
    help = "mean magnitude of its relevance by lrp.epsilon, 1 for each sample"
    needs = ("samples", "lrp")
    one_shot = True

    def scorer(self, problem: Problem[ChannelStructure]) -> LRPScorer:
        """See `Criterion`."""
        return _PXPScorer(problem, self, "lrp.epsilon", {"epsilon": 1e-6})


@dataclass(frozen=True)
class LogOdds(NativeLRP):
    """What each unit adds to the log odds of each sample's class, by the native engine.

    Relevance by the z-rule (for ReLU networks, activation times gradient: Ancona et al. 2018,
    arXiv:1711.06104), not of one class's score but of its log odds against the others. A unit's
    score is its mean square, relative to its group.

    Args:
        engine: `"auto"` or `"native"`.
        worker_python: Is not used: iNNvestigate has no part in it.

    Raises:
        ValueError: For another engine.

    Example:
    >>> result = klp.prune(model, (x, y), 0.3, criterion=klp.criteria.LogOdds())
    """

    name = LOG_ODDS
    help = "mean square of what it adds to the log odds"
    needs = ("samples", "lrp")
    compared = False

    def scorer(self, problem: Problem[ChannelStructure]) -> LRPScorer:
        """See `Criterion`."""
        # A composite, unlike an analyzer with the same rule, always takes the native engine.
        return _LogOddsScorer(problem, self, make_composite("lrp.z", {}), {})


class LRPScorer(ProbabilityScorer[ChannelStructure]):
    """LRP on one problem; a call costs one LRP pass over the reference set.

    Args:
        problem: What is scored.
        criterion: The criterion: its engine and interpreter are used.
        analyzer: The analyzer, or composite, that computes the relevance.
        options: Keyword arguments of the analyzer.
    """

    def __init__(
        self,
        problem: Problem[ChannelStructure],
        criterion: ByLRP,
        analyzer: str | Composite,
        options: Mapping[str, Any],
    ) -> None:
        # Not at the top: they bring SciPy and TensorFlow.
        from keras_lrp_prune.cost import CostModel
        from keras_lrp_prune.cost.shrinking import Shrinking
        from keras_lrp_prune.relevance.engines import make_engine

        super().__init__(problem)

        def make(left_out: np.ndarray) -> _Engine:
            smaller = without(problem, left_out)
            engine = make_engine(
                criterion.engine,
                smaller.graph,
                analyzer,
                options,
                two_class=problem.head.one_unit,
                batch_size=problem.batch_size,
                strategy=problem.strategy,
                worker_python=criterion.worker_python,
            )
            return _Engine(engine, smaller.structure)

        cost = CostModel(problem.graph, problem.structure)
        self._engines = Shrinking(
            make,
            lambda removed: _PASSES * len(problem.reference) * cost(removed).flops,
            (len(problem.graph.nodes), problem.structure.n_units),
            close=_Engine.close,
        )
        self.engine_name = self.engine.name
        # Replicas would have to agree on when, and a worker takes seconds to be told of a network.
        self._shrinks = problem.strategy is None and self.engine_name == "native"

    @property
    def engine(self) -> LRPEngine:
        """What computes LRP by now."""
        return self._engines.made.engine

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Scorer`."""
        if self._shrinks:
            self._engines.settle(removed)
        return self.examine(removed)[0]

    def examine(self, removed: np.ndarray) -> tuple[Scores, np.ndarray]:
        """See `ProbabilityScorer`."""
        reference = self.problem.reference
        engine, structure = self._masked(removed)
        sums, probabilities = engine.unit_relevance(structure, reference.x, reference.y)
        means = sums / reference.class_counts[:, None]
        return Scores(relative_to_group(self.problem.structure, means, order=1)), probabilities

    def refresh(self) -> None:
        """See `Scorer`; costs no pass and no retracing."""
        self.engine.refresh(without(self.problem, self._engines.left_out).graph)

    def _masked(self, removed: np.ndarray) -> tuple[LRPEngine, ChannelStructure]:
        """The engine of the model without these units, and the structure that it goes by."""
        engine, structure = self._engines.without(removed)
        engine.set_mask(structure, removed)
        return engine, structure

    def close(self) -> None:
        """Frees what the engine holds."""
        self._engines.made.close()


class _Engine(NamedTuple):
    """An engine, and the structure of the model that it was made for."""

    engine: LRPEngine
    structure: ChannelStructure

    def close(self) -> None:
        """Frees what the engine holds."""
        self.engine.close()


class _PXPScorer(LRPScorer):
    """Ranks by magnitude: units with relevance near zero go first."""

    def examine(self, removed: np.ndarray) -> tuple[Scores, np.ndarray]:
        """See `ProbabilityScorer`."""
        reference = self.problem.reference
        engine, structure = self._masked(removed)
        sums, probabilities = engine.unit_magnitudes(structure, reference.x, reference.y)
        return Scores(sums / reference.class_counts[:, None]), probabilities


class _LogOddsScorer(LRPScorer):
    """Knows what each unit adds to each sample."""

    def examine(self, removed: np.ndarray) -> tuple[Scores, np.ndarray]:
        """See `ProbabilityScorer`."""
        reference = self.problem.reference
        engine, structure = self._masked(removed)
        values, probabilities = cast("NativeEngine", engine).log_odds_relevance(
            structure, reference.x, reference.y
        )
        contributions = Contributions(values, reference.y)
        squares = contributions.mean_squares(len(reference.class_counts))
        scores = relative_to_group(self.problem.structure, squares, order=2)
        return Scores(scores, contributions), probabilities


def _check_composite(analyzer: Any, options: Mapping[str, Any]) -> None:
    """Raises `TypeError` for anything but a composite, and `ValueError` for one with options."""
    if not isinstance(analyzer, Composite):
        raise TypeError(f"analyzer takes an analyzer's name or a Composite, not {analyzer!r}.")
    make_composite(analyzer, options)


CRITERIA: Sequence[Criterion] = (LogOdds(), *map(LRP, NATIVE_ANALYZERS), PXP())
