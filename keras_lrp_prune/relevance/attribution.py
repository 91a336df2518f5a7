"""Relevance without pruning: of filters for classes, and of input values for outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.arguments import checked
from keras_lrp_prune.data import ReferenceSet, check_fits, reference_set
from keras_lrp_prune.data.errors import numeric
from keras_lrp_prune.graph.finite import check_finite
from keras_lrp_prune.graph.generations import keras_of
from keras_lrp_prune.graph.heads import read_head
from keras_lrp_prune.graph.model_graph import ModelGraph, references
from keras_lrp_prune.relevance.analyzers import DEFAULT_ANALYZER
from keras_lrp_prune.relevance.engines import make_engine
from keras_lrp_prune.relevance.lrp_engine import LRPEngine
from keras_lrp_prune.relevance.native.composites import Composite
from keras_lrp_prune.runtime import (
    DEFAULT_MEMORY,
    check_same,
    check_strategy,
    chosen_batch_size,
)
from keras_lrp_prune.surgery.input_sizes import sized

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@checked
def filter_relevance(
    model: keras.Model,
    x: Any,
    y: Any,
    *,
    analyzer: str | Composite = DEFAULT_ANALYZER,
    engine: str = "auto",
    every_class: bool = False,
    analyzer_options: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    memory_budget: float = DEFAULT_MEMORY,
    strategy: tf.distribute.Strategy | None = None,
    worker_python: str | None = None,
) -> dict[str, np.ndarray]:
    """LRP relevance of every filter for every class.

    Costs one LRP pass over the samples (Bach et al. 2015, doi:10.1371/journal.pone.0130140), plus
    seconds to build the graph of the analysis. With `every_class`, the native engine goes forward
    once and back once for each class.

    Args:
        model: A functional or Sequential classifier, of Keras 3 or legacy Keras (`tf_keras`).
        x: Samples, shape `(n, ...)`.
        y: Their classes, sparse `(n,)` or one-hot `(n, classes)`; at least one of each class.
        analyzer: An analyzer's name, such as `"lrp.z"` or `"lrp.alpha_1_beta_0"`, or, for the
            native engine, a `Composite` of your own.
        engine: `"innvestigate"`, `"native"` or `"auto"`, see `prune`.
        every_class: Whether the relevance for a class is that of all samples, whatever class they
            are of, and not that of the samples of the class.
        analyzer_options: Its keyword arguments, such as `{"epsilon": 0.1}`.
        batch_size: Samples per batch and replica; default: as many as the memory budget allows.
        memory_budget: Bytes that the activations of one batch may take on each replica.
        strategy: As in `prune`.
        worker_python: Interpreter that has iNNvestigate; default: the variable
            `KERAS_LRP_PRUNE_INNVESTIGATE_PYTHON`, else this interpreter.

    Returns:
        Layer name (nested ones `"outer/inner"`) to an array `(classes, filters)`: the signed
        relevance, summed over space and averaged over the samples (of the class). Rows are in the
        order of the outputs; a sigmoid unit is two classes, class 0 scored by minus the logit.

    Raises:
        DataError: For unusable samples or labels.
        UnsupportedModelError: For a model, or layers, that the engine would get wrong.
        TypeError: For an argument of another type.
        ValueError: For an unknown analyzer, option or engine, or an unsuitable value.
        MissingInnvestigateError: With `engine="innvestigate"`, if it is not installed.

    Example:
    Samples and classes are two arguments, and not a pair as for `prune`.

    >>> relevance = klp.filter_relevance(model, x, y, analyzer="lrp.z_plus")
    >>> relevance["conv1"].shape
    (10, 32)
    """
    graph, samples_shape = _read(model)
    head = read_head(graph)
    reference = reference_set((x, y), n_classes=head.n_classes, input_shape=samples_shape)
    check_fits(graph, reference.x)
    with _engine(
        model,
        graph,
        reference,
        engine=engine,
        analyzer=analyzer,
        options=analyzer_options or {},
        two_class=head.one_unit,
        batch_size=batch_size,
        memory_budget=memory_budget,
        strategy=strategy,
        worker_python=worker_python,
    ) as started:
        sums = started.filter_relevance(reference.x, reference.y, every_class=every_class)
    counts = len(reference) if every_class else reference.class_counts[:, None]
    return {name: values / counts for name, values in sums.items()}


@checked
def input_relevance(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    analyzer: str | Composite = DEFAULT_ANALYZER,
    engine: str = "auto",
    analyzer_options: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    memory_budget: float = DEFAULT_MEMORY,
    strategy: tf.distribute.Strategy | None = None,
    worker_python: str | None = None,
) -> np.ndarray:
    """LRP relevance of each input value: a heat map for each sample.

    Args:
        model: A functional or Sequential model, of Keras 3 or legacy Keras (`tf_keras`), with one
            `(batch, n)` output; a final softmax is stripped, nothing else.
        x: Samples, shape `(n, ...)`.
        y: Output to explain for each sample, int, shape `(n,)`; default: its highest.
        analyzer: As in `filter_relevance`.
        engine: As in `filter_relevance`.
        analyzer_options: As in `filter_relevance`.
        batch_size: As in `filter_relevance`.
        memory_budget: As in `filter_relevance`.
        strategy: As in `prune`.
        worker_python: As in `filter_relevance`.

    Returns:
        float32 array like `x`.

    Raises:
        DataError, UnsupportedModelError, TypeError, ValueError: As `filter_relevance`.
        MissingInnvestigateError: As `filter_relevance`.

    Example:
    The classes to explain come after the samples; by default it is the one with the highest score.

    >>> relevance = klp.input_relevance(model, x[:4], y[:4])
    >>> relevance.shape == x[:4].shape
    True
    >>> heat_maps = klp.input_relevance(model, images, analyzer="lrp.sequential_preset_a_flat")
    """
    graph, samples_shape = _read(model)
    read_head(graph)
    (output,) = references(graph.outputs)
    n_outputs = int(graph.shape(output)[-1] or 0)
    rows = numeric(x, "x")
    chosen = np.zeros(rows.shape[:1], np.int64) if y is None else y
    samples = reference_set(
        (rows, chosen),
        n_classes=max(n_outputs, 2),
        input_shape=samples_shape,
        require_all_classes=False,
    )
    check_fits(graph, samples.x)
    if y is not None and samples.y.max(initial=0) >= n_outputs:
        raise ValueError(f"y names output {samples.y.max()}, but the model has {n_outputs}.")
    outputs = np.full(len(samples), -1) if y is None else samples.y
    with _engine(
        model,
        graph,
        samples,
        engine=engine,
        analyzer=analyzer,
        options=analyzer_options or {},
        two_class=False,
        batch_size=batch_size,
        memory_budget=memory_budget,
        strategy=strategy,
        worker_python=worker_python,
    ) as started:
        return started.input_relevance(samples.x, outputs)


def _read(model: keras.Model) -> tuple[ModelGraph, tuple[int | None, ...]]:
    """The flat graph and the shape of a sample; the engine refuses models with several inputs."""
    from keras_lrp_prune.graph.reader import read_model

    graph = read_model(model).flat()
    check_finite(graph)
    return graph, graph.shape(next(references(graph.inputs)))[1:]


def _engine(
    model: keras.Model,
    graph: ModelGraph,
    samples: ReferenceSet,
    *,
    batch_size: int | None,
    memory_budget: float,
    strategy: tf.distribute.Strategy | None,
    **settings: Any,
) -> LRPEngine:
    """The engine for these samples."""
    check_strategy(strategy)
    check_same(graph, samples, strategy)
    if len(list(references(graph.inputs))) == 1:
        graph = sized(graph, samples.x.shape[1:], keras_of(model))
    batch_size = chosen_batch_size(graph, batch_size, memory_budget)
    return make_engine(graph=graph, batch_size=batch_size, strategy=strategy, **settings)
