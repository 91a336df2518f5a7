"""What scores units, and what computes it: as asked for, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from keras_lrp_prune.arguments import Checked
from keras_lrp_prune.criteria.criterion import Criterion
from keras_lrp_prune.criteria.registry import chosen_criterion, is_ours


@dataclass(frozen=True)
class CriterionChoice(Checked):
    """What scores units, and what computes it.

    Args:
        criterion: As in `prune`; `None`: the one that is best known, of those of the engine.
        analyzer_options: Keyword arguments of an analyzer that is given by its name.
        engine: What computes LRP, for a criterion that is given by its name.
        worker_python: Interpreter that has iNNvestigate, likewise.

    Raises:
        TypeError, ValueError: For arguments outside their ranges, an unknown criterion or engine,
            or arguments that the criterion does not take.
    """

    criterion: str | Criterion | None = None
    analyzer_options: Mapping[str, Any] = field(default_factory=dict)
    engine: str = "auto"
    worker_python: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        assert self.chosen  # an error before any work, if there is one

    @cached_property
    def chosen(self) -> Criterion:
        """The criterion that all of them come to."""
        return chosen_criterion(
            self.criterion,
            analyzer_options=self.analyzer_options,
            engine=self.engine,
            worker_python=self.worker_python,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What tells it from others, in the settings of a run, as plain data."""
        named = {"criterion": self.chosen.name, "analyzer_options": dict(self.analyzer_options)}
        # The name of one that a user registered says no more than that there was one.
        if isinstance(self.criterion, Criterion) or not is_ours(self.chosen.name):
            return {**named, "criterion_config": self.chosen.get_config()}
        return named


DEFAULT_CRITERION = CriterionChoice()
