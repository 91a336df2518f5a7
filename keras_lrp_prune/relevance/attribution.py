"""Relevances as results of their own: of filters for classes, and of inputs for outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.data import reference_set
from keras_lrp_prune.graph.heads import read_head
from keras_lrp_prune.graph.model_graph import references
from keras_lrp_prune.relevance.criteria import mean_filter_relevance
from keras_lrp_prune.relevance.engines import make_engine
from keras_lrp_prune.runtime import DEFAULT_BATCH_SIZE

if TYPE_CHECKING:
    import keras

    from keras_lrp_prune.relevance.native.composites import Composite

DEFAULT_ANALYZER = "lrp.sequential_preset_a"


def filter_relevance(
    model: keras.Model,
    x: Any,
    y: Any,
    *,
    analyzer: str | Composite = DEFAULT_ANALYZER,
    engine: str = "auto",
    analyzer_options: Mapping[str, Any] | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    worker_python: str | None = None,
) -> dict[str, np.ndarray]:
    """LRP relevance of every filter for every class.

    Costs one LRP pass over the samples (Bach et al. 2015, doi:10.1371/journal.pone.0130140), plus
    seconds to build the graph of the analysis.

    Args:
        model: A functional or Sequential classifier, of Keras 3 or legacy Keras (`tf_keras`).
        x: Samples, shape `(n, ...)`.
        y: Their classes, sparse `(n,)` or one-hot `(n, classes)`; at least one of each class.
        analyzer: An analyzer's name, such as `"lrp.z"` or `"lrp.alpha_1_beta_0"`, or, for the
            native engine, a `Composite` of your own.
        engine: `"innvestigate"`, `"native"` or `"auto"`, see `prune`.
        analyzer_options: Its keyword arguments, such as `{"epsilon": 0.1}`.
        batch_size: Samples per batch.
        worker_python: Interpreter that has iNNvestigate; default: the variable
            `KERAS_LRP_PRUNE_INNVESTIGATE_PYTHON`, else this interpreter.

    Returns:
        Layer name (nested ones `"outer/inner"`) to an array `(classes, filters)`: the signed
        relevance, summed over space and averaged over the samples of the class. Rows are in the
        order of the outputs; a sigmoid unit is two classes, class 0 scored by minus the logit.

    Raises:
        DataError: For unusable samples or labels.
        UnsupportedModelError: For a model, or layers, that the engine would get wrong.
        ValueError: For an unknown analyzer, option or engine, or an unsuitable value.
        MissingInnvestigateError: With `engine="innvestigate"`, if it is not installed.

    Example:
    >>> relevance = klp.filter_relevance(model, x, y, analyzer="lrp.z_plus")
    >>> relevance["conv1"].shape
    (10, 32)
    """
    from keras_lrp_prune.graph.reading import read_model

    graph = read_model(model).flat()
    head = read_head(graph)
    reference = reference_set((x, y), n_classes=head.n_classes, input_shape=_input_shape(graph))
    options = analyzer_options or {}
    with make_engine(
        engine, graph, analyzer, options, two_class=head.one_unit, worker_python=worker_python
    ) as started:
        return mean_filter_relevance(started, reference, batch_size)


def input_relevance(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    analyzer: str | Composite = DEFAULT_ANALYZER,
    engine: str = "auto",
    analyzer_options: Mapping[str, Any] | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
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
        worker_python: As in `filter_relevance`.

    Returns:
        float32 array like `x`.

    Raises:
        DataError, UnsupportedModelError, ValueError: As `filter_relevance`.

    Example:
    >>> heat_maps = klp.input_relevance(model, images, analyzer="lrp.sequential_preset_a_flat")
    """
    from keras_lrp_prune.graph.reading import read_model

    graph = read_model(model).flat()
    read_head(graph)
    (output,) = references(graph.outputs)
    n_outputs = int(graph.shape(output)[-1] or 0)
    chosen = np.zeros(len(x), np.int64) if y is None else y
    samples = reference_set(
        (x, chosen),
        n_classes=max(n_outputs, 2),
        input_shape=_input_shape(graph),
        require_all_classes=False,
    )
    if y is not None and samples.y.max(initial=0) >= n_outputs:
        raise ValueError(f"y names output {samples.y.max()}, but the model has {n_outputs}.")
    outputs = np.full(len(samples), -1) if y is None else samples.y
    options = analyzer_options or {}
    with make_engine(
        engine, graph, analyzer, options, two_class=False, worker_python=worker_python
    ) as started:
        parts = [
            started.input_relevance(
                samples.x[start : start + batch_size], outputs[start : start + batch_size]
            )
            for start in range(0, len(samples), batch_size)
        ]
    return np.concatenate(parts)


def _input_shape(graph: Any) -> tuple[int | None, ...]:
    """Shape of one sample; models with several inputs are refused by the engine."""
    return graph.shape(next(references(graph.inputs)))[1:]
