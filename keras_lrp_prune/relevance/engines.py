"""Which engine computes LRP."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_lrp_prune.graph.model_graph import ModelGraph, UnsupportedModelError
from keras_lrp_prune.relevance.analyzers import ANALYZERS, check_engine
from keras_lrp_prune.relevance.innvestigate_engine import (
    InnvestigateEngine,
    MissingInnvestigateError,
)
from keras_lrp_prune.relevance.lrp_engine import LRPEngine
from keras_lrp_prune.relevance.native.composites import Composite
from keras_lrp_prune.runtime import replicas

if TYPE_CHECKING:
    import tensorflow as tf

_log = logging.getLogger(__name__)


def make_engine(
    engine: str,
    graph: ModelGraph,
    analyzer: str | Composite,
    options: Mapping[str, Any],
    *,
    two_class: bool,
    batch_size: int,
    strategy: tf.distribute.Strategy | None,
    worker_python: str | None,
) -> LRPEngine:
    """Starts the engine that was asked for.

    `"auto"` takes iNNvestigate, the reference, where it is installed and exact and one device
    computes; otherwise the native engine. Which one, and why, goes to the log.

    Raises:
        ValueError, UnsupportedModelError, MissingInnvestigateError: As the engine does.
    """
    check_engine(engine)
    shared: dict[str, Any] = {"two_class": two_class, "batch_size": batch_size}
    several = replicas(strategy) > 1

    def innvestigate() -> LRPEngine:
        if not isinstance(analyzer, str):
            raise ValueError(
                f"The engine 'innvestigate' takes an analyzer's name, not {analyzer!r}; a "
                "composite of your own is for the engine 'native'."
            )
        if several:
            raise ValueError(
                f"The engine 'innvestigate' runs on one device, but the strategy has "
                f"{replicas(strategy)} replicas; choose engine='native'."
            )
        return InnvestigateEngine(graph, analyzer, options, **shared, python=worker_python)

    def native() -> LRPEngine:
        # Not at the top: it brings TensorFlow.
        from keras_lrp_prune.relevance.native.engine import NativeEngine

        return NativeEngine(graph, analyzer, options, **shared, strategy=strategy)

    why = "as asked for"
    if engine == "auto":
        if not isinstance(analyzer, str) or analyzer not in ANALYZERS:
            made, why = native(), "iNNvestigate does not have this analyzer"
        elif several:
            made, why = native(), f"the strategy has {replicas(strategy)} replicas"
        else:
            try:
                made, why = innvestigate(), "it is installed, and exact on this model"
            except (MissingInnvestigateError, UnsupportedModelError) as error:
                made, why = native(), str(error).splitlines()[0].partition(". ")[0]
    else:
        made = innvestigate() if engine == "innvestigate" else native()
    _log.info("LRP engine: %s (%s)", made.name, why)
    return made
