"""What scores units, and what computes it: as asked for, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_lrp_prune.arguments import Checked
from keras_lrp_prune.relevance.criteria import (
    Criterion,
    Problem,
    check_criterion,
    default_criterion,
    make_criterion,
)
from keras_lrp_prune.relevance.engines import check_engine


@dataclass(frozen=True)
class CriterionChoice(Checked):
    """What scores units, and what computes it.

    Args:
        criterion: As in `prune`; of `None` it makes the one that is best known.
        analyzer_options: Keyword arguments of the analyzer.
        engine: What computes LRP.
        worker_python: Interpreter that has iNNvestigate.

    Raises:
        TypeError, ValueError: For arguments outside their ranges, an unknown criterion or engine.
    """

    criterion: str | None = None
    analyzer_options: Mapping[str, Any] = field(default_factory=dict)
    engine: str = "auto"
    worker_python: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_engine(self.engine)
        if self.criterion is None:
            object.__setattr__(self, "criterion", default_criterion(self.engine))
        check_criterion(self.name)

    @property
    def name(self) -> str:
        """Of the criterion."""
        return str(self.criterion)

    def make(self, problem: Problem) -> Criterion:
        """The criterion; close it when it is no longer needed.

        Raises:
            ValueError: For analyzer options that it does not take.
        """
        return make_criterion(self.name, problem)


DEFAULT_CRITERION = CriterionChoice()
