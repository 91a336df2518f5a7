"""The options that say what scores units, and what computes LRP."""

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
    """What scores units, and what computes LRP; checked before any work.

    Args:
        criterion: As in `prune`; `None`: of those that the engine can compute, the one that keeps
            accuracy best, where layers are refitted or where they are not.
        analyzer_options: Keyword arguments of an analyzer that is given by its name.
        engine: What computes LRP, for a criterion that is given by its name.
        worker_python: Interpreter that has iNNvestigate, likewise.
        refits_layers: Whether layers are refitted, so that others can make up for what goes.

    Raises:
        TypeError, ValueError: For arguments outside their ranges, an unknown criterion or engine,
            or arguments that the criterion does not take.
    """

    criterion: str | Criterion | None = None
    analyzer_options: Mapping[str, Any] = field(default_factory=dict)
    engine: str = "auto"
    worker_python: str | None = None
    refits_layers: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        assert self.chosen  # an error before any work, if there is one

    @cached_property
    def chosen(self) -> Criterion:
        """The criterion that these options ask for."""
        return chosen_criterion(
            self.criterion,
            analyzer_options=self.analyzer_options,
            engine=self.engine,
            worker_python=self.worker_python,
            refits_layers=self.refits_layers,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that tell it from other criteria, as plain data."""
        named = {"criterion": self.chosen.name, "analyzer_options": dict(self.analyzer_options)}
        # A user can register another criterion by the same name: the name alone does not tell.
        if isinstance(self.criterion, Criterion) or not is_ours(self.chosen.name):
            return {**named, "criterion_config": self.chosen.get_config()}
        return named


DEFAULT_CRITERION = CriterionChoice()
