"""Files for LiteRT, formerly TensorFlow Lite."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from keras_lrp_prune.arguments import checked, one_of
from keras_lrp_prune.data import DataError
from keras_lrp_prune.export.destinations import check_file, writing_errors
from keras_lrp_prune.export.signature import (
    INPUT,
    Wrapping,
    checked_model,
    samples_for,
    trace,
)
from keras_lrp_prune.files import new_file
from keras_lrp_prune.graph.inference import SIGNATURE, Inference
from keras_lrp_prune.graph.model_graph import UnsupportedModelError
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.report import enumeration

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from keras_lrp_prune.pruning import PruningResult

Quantization = Literal["float16", "dynamic", "int8"]
InputOutput = Literal["int8", "uint8", "float32"]
Converter = Any

_CHECKED_AT_ONCE = 32  # samples, where the batch is open


@dataclass(frozen=True)
class _Request:
    """What a file is to hold.

    Args:
        quantize: How its numbers are stored; `None` for float32.
        io: What an int8 file takes and returns.
        samples: What int8 ranges are measured on, shape `(n, ...)`.
        batch_size: Samples per call; `None` leaves it open.
    """

    quantize: Quantization | None
    io: InputOutput
    samples: np.ndarray | None
    batch_size: int | None


@checked
def litert(
    model: keras.Model | PruningResult,
    path: str | os.PathLike[str],
    *,
    quantize: Quantization | None = None,
    representative: Any = None,
    io: InputOutput = "int8",
    batch_size: int | None = None,
) -> Path:
    """Writes a model as a `.tflite` file, which LiteRT runs on phones, boards and browsers.

    It has the signature `serving_default`, from `inputs` to `scores`. Only LiteRT's built-in
    operators are used. The file appears whole or not at all; an earlier one is replaced.

    Costs seconds for a small model; int8 also runs the model once over `representative`.

    Args:
        model: A Keras model (3 or legacy) with one input and one output, or what `prune` returned.
        path: The file; ends in `.tflite`.
        quantize: `None`: float32, the outputs of the model up to rounding. `"float16"`: weights in
            float16, half the size. `"dynamic"`: weights of large layers in int8, at a quarter of
            their size; activations stay float32. `"int8"`: weights and activations in int8.
        representative: The samples that the ranges of int8 activations are measured on, for which
            the reference set is a good choice: an array `(n, ...)` as the model takes it, a pair
            `(x, y)`, or a batched `tf.data.Dataset` of either. The others do not use it.
        io: What an int8 file takes and returns. `"int8"` or `"uint8"`: integers, whose scale and
            zero point the file tells (`LiteRTModel` applies them); all of it is computed with
            integers. `"float32"`: the file converts them itself, and operations that have no
            integer form stay in float32.
        batch_size: Samples per call. By default open: an interpreter starts with one, and can be
            resized. Some accelerators and microcontrollers run fixed sizes only: give 1.

    Returns:
        The file.

    Raises:
        TypeError: For an argument of another type.
        ValueError: If an option is unknown, the path does not end in `.tflite`, or samples are
            missing for int8.
        DataError: If the representative samples do not fit the model, or what is computed of them
            is not finite.
        UnsupportedModelError: If the model has not one input and one output, cannot be read, does
            not compute in float32, or has an operation that LiteRT has no operator for, or none in
            integers where all should be; the message names it.
        OSError: If the file cannot be written.

    Example:
    >>> klp.export.litert(result, "flowers.tflite", quantize="int8", representative=reference)
    """
    target = Path(path).absolute()
    check_options(quantize, io, representative)
    check_file(target, ".tflite")
    found = checked_model(model)
    _check_precision(found)
    servable = trace(found, Wrapping(batch_size=batch_size))
    samples = None
    if quantize == "int8":
        samples = samples_for(servable.specs[0], representative, "representative samples")
        _check_no_loops(servable)
        _check_finite(servable, samples)
    request = _Request(quantize, io, samples, batch_size)
    content = _converted(servable, request, target)
    with new_file(target) as file:
        file.write(content)
    return Path(path)


def check_options(quantize: Any, io: Any, representative: Any) -> None:
    """Raises `ValueError` for options of `litert` that are unknown or do not go together."""
    one_of("quantize", quantize, (None, *_QUANTIZATIONS))
    one_of("io", io, get_args(InputOutput))
    if quantize == "int8" and representative is None:
        raise ValueError(
            "quantize='int8' needs representative=: samples as the model takes them, such as the "
            "reference set. The ranges of the activations are measured on them."
        )


def _check_precision(model: keras.Model) -> None:
    for layer in read_model(model).flat().layers.values():
        dtype = getattr(layer.source, "compute_dtype", None)
        if layer.weights and dtype in ("float16", "bfloat16", "float64"):
            raise UnsupportedModelError(
                f"Layer {layer.name!r} computes in {dtype}; LiteRT's operators are for float32. "
                "Build the model under the dtype policy float32 and copy the weights: "
                "new.set_weights(model.get_weights())."
            )


def _check_no_loops(servable: Inference) -> None:
    """Refuses loops: the converter's calibration would crash (TensorFlow 2.18 to 2.21)."""
    graph = servable.function.graph.as_graph_def()
    nodes = [*graph.node, *(node for body in graph.library.function for node in body.node_def)]
    loops = [node.name for node in nodes if node.op in ("While", "StatelessWhile")]
    if loops:
        raise UnsupportedModelError(
            f"{enumeration(loops, 5)}: loops cannot be converted to int8. Make recurrent layers "
            "with unroll=True, or give quantize='dynamic'."
        )


def _check_finite(servable: Inference, samples: np.ndarray) -> None:
    """Refuses samples that make numbers which are not finite: the calibration would crash."""
    import tensorflow as tf

    size = servable.specs[0].shape[0] or _CHECKED_AT_ONCE
    traced = tf.compat.v1.wrap_function(servable.module.call.python_function, servable.specs)
    computed = _computed(traced.graph, traced.outputs)
    with traced.graph.as_default():
        flags = tf.stack([tf.reduce_all(tf.math.is_finite(tensor)) for tensor in computed])
    finite = traced.prune(traced.inputs[0], flags)
    for start in range(0, len(samples), size):
        rows = np.arange(start, start + size) % len(samples)
        bad = np.flatnonzero(~finite(tf.constant(samples[rows])).numpy())
        if len(bad):
            raise DataError(
                f"The representative samples: {computed[bad[0]].op.name} gives NaN or infinite "
                f"numbers for samples {start} to {min(start + size, len(samples)) - 1}, whose "
                "ranges cannot be measured for int8. Give samples as the model was trained on, or "
                "quantize='dynamic'."
            )


def _computed(graph: tf.Graph, outputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The floating tensors that outputs depend on, in the order of the computation."""
    needed: set[str] = set()
    waiting = [output.op for output in outputs]
    while waiting:
        operation = waiting.pop()
        if operation.name not in needed:
            needed.add(operation.name)
            waiting += [tensor.op for tensor in operation.inputs]
    return [
        tensor
        for operation in graph.get_operations()
        if operation.name in needed and operation.type not in ("Const", "Placeholder")
        for tensor in operation.outputs
        if tensor.dtype.is_floating
    ]


def _converted(servable: Inference, request: _Request, target: Path) -> bytes:
    """The content of the file; `target` is what errors call it."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # TensorFlow's converter calibrates with an interpreter that TensorFlow deprecates.
        warnings.filterwarnings("ignore", "(?s).*tf.lite.Interpreter is deprecated")
        with writing_errors(target):
            servable.save(Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        if request.quantize is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            _QUANTIZATIONS[request.quantize](converter, request)
        try:
            content = converter.convert()
        # The converter raises ConverterError, an Exception of no narrower kind.
        except Exception as error:
            raise UnsupportedModelError(_reason(error)) from error
        if request.quantize == "int8" and request.io != "float32":
            _check_integers(content)
    return content


def _check_integers(content: bytes) -> None:
    """Raises `UnsupportedModelError` if anything in a file is computed in float32."""
    import tensorflow as tf

    tensors = tf.lite.Interpreter(model_content=content).get_tensor_details()
    floats = [tensor["name"] for tensor in tensors if tensor["dtype"] is np.float32]
    # The converter's own tensors are called tfl.something, those of the model by their layers.
    named = [name for name in floats if not name.startswith("tfl.")]
    if floats:
        raise UnsupportedModelError(
            f"LiteRT has no integer operator for {enumeration(named or floats, 5)}. Give "
            "io='float32', with which they stay in float32, or quantize='dynamic', or replace the "
            "layer."
        )


def _float16(converter: Converter, request: _Request) -> None:
    import tensorflow as tf

    converter.target_spec.supported_types = [tf.float16]


def _dynamic(converter: Converter, request: _Request) -> None:
    """Sets nothing: it is what the converter does by default."""


def _int8(converter: Converter, request: _Request) -> None:
    import tensorflow as tf

    samples, size = request.samples, request.batch_size or 1
    assert samples is not None  # check_options sees to it

    def batches() -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(samples), size):
            yield {INPUT: samples[np.arange(start, start + size) % len(samples)]}

    converter.representative_dataset = batches
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = getattr(tf, request.io)


_QUANTIZATIONS: dict[str, Callable[[Converter, _Request], None]] = {
    "float16": _float16,
    "dynamic": _dynamic,
    "int8": _int8,
}


def _reason(error: Exception) -> str:
    """What cannot be converted, where it is, and what to do."""
    found: dict[str, str] = {}
    for entry in getattr(error, "errors", ()):
        if entry.operator.name:
            calls = [call.name for call in entry.location.call]
            # "model/layer/Operation@function": the innermost call tells the layer.
            found.setdefault(entry.operator.name, calls[0].partition("@")[0] if calls else "")
    if not found:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        return f"LiteRT's converter failed: {first}"
    places = [f"{name} (at {place})" if place else name for name, place in found.items()]
    if any(name.startswith("tf.TensorList") for name in found):
        advice = "A recurrent layer needs a fixed batch: give batch_size=1."
    else:
        advice = (
            "Replace the layer by one made of other operations, or leave it out of the model and "
            "compute it on the device; export.saved_model takes it as it is."
        )
    return f"LiteRT has no built-in operator for {', '.join(places)}. {advice}"
