"""Where the time of this package goes: passes, tracing, building, algebra, and what is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras_lrp_prune.criteria.unique_scorer as unique_scorer
import keras_lrp_prune.examination.steering as steering
import keras_lrp_prune.recovery.least_squares as least_squares
import keras_lrp_prune.surgery.builder as builder
from keras_lrp_prune.recovery.replay import Replay
from keras_lrp_prune.runtime import OverSamples

# Each second counts once, for the innermost of these.
TIMED: tuple[tuple[str, Any, str], ...] = (
    ("passes", OverSamples, "__call__"),
    ("passes", Replay, "_run"),
    ("tracing", OverSamples, "_traced"),
    ("building", builder._Builder, "model"),
    ("building", builder, "_set_state"),
    ("algebra", least_squares._LayerFit, "samples"),
    ("algebra", least_squares, "best_correction"),
    ("algebra", unique_scorer.UniqueScorer, "_readings"),
    ("algebra", unique_scorer.UniqueScores, "revised"),
    ("algebra", steering.LinearHead, "strength"),
    ("algebra", steering, "fold_heads"),
    ("algebra", steering, "fit_head"),
)
PARTS = ("passes", "tracing", "building", "algebra", "other")


@contextmanager
def by_parts() -> Iterator[dict[str, float]]:
    """Inside, seconds are told apart; the dict has those of each part behind it."""
    seconds = dict.fromkeys(PARTS, 0.0)
    running = ["other"]
    since = time.perf_counter()

    def switch() -> None:
        nonlocal since
        now = time.perf_counter()
        seconds[running[-1]] += now - since
        since = now

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            switch()
            running.append(part)
            try:
                return function(*args, **kwargs)
            finally:
                switch()
                running.pop()

        return call

    with ExitStack() as stack:
        for part, owner, name in TIMED:
            original = getattr(owner, name)
            setattr(owner, name, timed(part, original))
            stack.callback(setattr, owner, name, original)
        yield seconds
        switch()
