"""Scorers in front of others: one that scores once, and one that times the passes."""

from __future__ import annotations

import time

import numpy as np

from keras_lrp_prune.criteria.checked_scorer import ScorerInFront
from keras_lrp_prune.criteria.criterion import Scorer
from keras_lrp_prune.criteria.scores import Scores


class ScoredOnce(ScorerInFront):
    """Keeps the scores of its first call, which is on the unpruned model, for good."""

    _scores: Scores | None = None

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Scorer`."""
        if self._scores is None:
            self._scores = super().scores(removed)
        return self._scores


class TimedScorer(ScorerInFront):
    """Notes how long each call takes.

    Attributes:
        seconds: The times of the calls so far.
    """

    def __init__(self, scorer: Scorer) -> None:
        super().__init__(scorer)
        self.seconds: list[float] = []

    def scores(self, removed: np.ndarray) -> Scores:
        """See `Scorer`."""
        start = time.perf_counter()
        found = super().scores(removed)
        self.seconds.append(time.perf_counter() - start)
        return found
