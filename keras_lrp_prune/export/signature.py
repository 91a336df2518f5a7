"""A classifier as one TensorFlow function with named inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.data import DataError, cast, unlabelled
from keras_lrp_prune.graph.generations import generation, keras_of
from keras_lrp_prune.graph.heads import Head, read_head
from keras_lrp_prune.graph.inference import Inference, traced
from keras_lrp_prune.graph.model_graph import ModelGraph, UnsupportedModelError, references
from keras_lrp_prune.graph.reader import read_model

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from keras_lrp_prune.pruning import PruningResult

INPUT, SCORES, LABELS = "inputs", "scores", "labels"
_DECISION = {"sigmoid": 0.5, "logits": 0.0}  # above it, a single unit names class 1
_INPUT_DTYPES = ("uint8", "float32")
Tensor = Any


@dataclass(frozen=True)
class Wrapping:
    """What the exported function does before and after the model.

    Args:
        preprocessing: Applied to the inputs as float32, if anything is.
        labels: Names of the classes; adds the name of the best one to the outputs.
        input_dtype: What clients send; by default uint8 before preprocessing, else the model's.
        input_shape: Shape of one sample as clients send it; by default the model's.
        batch_size: Samples per call; by default open.
    """

    preprocessing: Callable[[Tensor], Tensor] | None = None
    labels: Sequence[str] | None = None
    input_dtype: str | None = None
    input_shape: Sequence[int | None] | None = None
    batch_size: int | None = None


def checked_model(model: keras.Model | PruningResult) -> keras.Model:
    """The model of a pruning result, or the model itself.

    Raises:
        TypeError: If it is neither.
        UnsupportedModelError: If it has not one input and one output.
    """
    # Not at the top: it brings TensorFlow.
    from keras_lrp_prune.pruning import PruningResult

    found = model.model if isinstance(model, PruningResult) else model
    graph = read_model(found)
    _check_single(graph)
    return found


def trace(model: keras.Model, wrapping: Wrapping) -> Inference:
    """Traces a model at inference; costs no computation and changes nothing.

    Args:
        model: A Keras model (3 or legacy) with one input and one output.
        wrapping: What is done before and after the model.

    Returns:
        A function from `INPUT` to `SCORES` (and `LABELS`).

    Raises:
        TypeError: If the preprocessing cannot be called, or a label is not a string.
        ValueError: If the preprocessing does not fit the model, or the labels do not.
    """
    import tensorflow as tf

    # Takes a tensor, even where the model wants a list or a dict with one.
    single = keras_of(model).Model(model.inputs[0], model.outputs[0])
    own = tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype)
    spec = _input_spec(own, wrapping)
    name_classes = None if wrapping.labels is None else _naming(model, wrapping.labels)

    def classify(inputs: Tensor) -> dict[str, Tensor]:
        x = inputs
        if wrapping.preprocessing is not None:
            x = _prepared(wrapping.preprocessing, tf.cast(inputs, tf.float32), own)
        scores = single(tf.cast(x, own.dtype), training=False)
        outputs = {SCORES: scores}
        if name_classes is not None:
            outputs[LABELS] = name_classes(scores)
        return outputs

    return traced(model, classify, [spec])


def samples_for(spec: tf.TensorSpec, data: Any, name: str) -> np.ndarray:
    """Samples as an exported function takes them; errors call them `name`.

    Args:
        spec: What the function takes.
        data: Samples, shape `(n, ...)`, as `unlabelled` takes them.
        name: What the samples are called in errors.

    Raises:
        DataError: If they do not fit, or values would be lost.
    """
    try:
        x = unlabelled(data, input_shape=tuple(spec.shape[1:]))
        return cast(x, spec.dtype.as_numpy_dtype)
    except DataError as error:
        raise DataError(f"The {name}: {error}") from error


def _check_single(graph: ModelGraph) -> None:
    for kind, structure in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        count = len(list(references(structure)))
        if count != 1:
            raise UnsupportedModelError(
                f"Model {graph.name!r} has {count} {kind}; one input and one output are exported. "
                "Take the part that is needed: keras.Model(model.inputs[i], model.outputs[j])."
            )


def _input_spec(own: tf.TensorSpec, wrapping: Wrapping) -> tf.TensorSpec:
    import tensorflow as tf

    dtype = wrapping.input_dtype
    if dtype not in (None, *_INPUT_DTYPES):
        raise ValueError(f"input_dtype must be one of {_INPUT_DTYPES}, not {dtype!r}.")
    if dtype is None:
        dtype = own.dtype if wrapping.preprocessing is None else "uint8"
    shape = own.shape[1:] if wrapping.input_shape is None else wrapping.input_shape
    if wrapping.preprocessing is None and not own.shape[1:].is_compatible_with(shape):
        raise ValueError(
            f"The model takes samples of shape {tuple(own.shape[1:])}, so that input_shape="
            f"{tuple(shape)} needs preprocessing= that makes them of it."
        )
    size = wrapping.batch_size
    if size is not None and size < 1:
        raise ValueError(f"batch_size must be at least 1, not {size}.")
    return tf.TensorSpec([size, *shape], dtype, INPUT)


def _prepared(preprocessing: Any, x: Tensor, own: tf.TensorSpec) -> Tensor:
    import tensorflow as tf

    if not callable(preprocessing):
        raise TypeError(
            f"preprocessing must be a function or a Keras layer, not {preprocessing!r}."
        )
    # Some layers (random crops, flips) are in training mode unless they are told otherwise.
    options = {"training": False} if generation(preprocessing) else {}
    try:
        prepared = tf.convert_to_tensor(preprocessing(x, **options))
    # What NumPy's functions and methods raise when they are given a symbolic tensor.
    except (NotImplementedError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"The preprocessing failed on a float32 tensor of shape {tuple(x.shape)}: {error} It "
            "is built into the exported function, and has to be made of TensorFlow or Keras "
            "operations, not of NumPy's."
        ) from error
    if not own.shape.is_compatible_with(prepared.shape):
        raise ValueError(
            f"The preprocessing makes {tuple(prepared.shape)} of {tuple(x.shape)}, but the model "
            f"takes {tuple(own.shape)}. input_shape= is the shape of a sample before it."
        )
    return prepared


def _naming(model: keras.Model, labels: Sequence[str]) -> Callable[[Tensor], Tensor]:
    """From scores to the name of the best class."""
    head = read_head(read_model(model))
    _check_labels(head, labels)
    if head.one_unit:  # with several outputs the largest names the class, logits or not
        head.warn_if_unclear(model.name)
    import tensorflow as tf

    def name_classes(scores: Tensor) -> Tensor:
        if head.one_unit:
            best = tf.cast(scores[:, 0] > _DECISION[head.kind], tf.int32)
        else:
            best = tf.argmax(scores, axis=1, output_type=tf.int32)
        return tf.gather(tf.constant(list(labels)), best)

    return name_classes


def _check_labels(head: Head, labels: Sequence[str]) -> None:
    if len(labels) != head.n_classes:
        raise ValueError(
            f"There are {len(labels)} labels for the {head.n_classes} classes of the model; give "
            "one for each, in the order of its outputs."
        )
