"""Which engine computes LRP."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from keras_lrp_prune.graph.model_graph import ModelGraph
from keras_lrp_prune.relevance.innvestigate_engine import InnvestigateEngine

ENGINES = ("auto", "innvestigate")
_log = logging.getLogger(__name__)


def check_engine(engine: str) -> None:
    """Raises `ValueError` for an unknown engine."""
    if engine not in ENGINES:
        raise ValueError(f"Unknown engine {engine!r}. There are: {', '.join(ENGINES)}.")


def make_engine(
    engine: str,
    graph: ModelGraph,
    analyzer: str,
    options: Mapping[str, Any],
    *,
    two_class: bool,
    worker_python: str | None,
) -> InnvestigateEngine:
    """Starts the engine that was asked for; `"auto"` takes iNNvestigate."""
    check_engine(engine)
    made = InnvestigateEngine(graph, analyzer, options, two_class=two_class, python=worker_python)
    _log.info("LRP engine: %s", made.name)
    return made
