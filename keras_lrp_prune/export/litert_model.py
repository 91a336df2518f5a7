"""Running a `.tflite` file on arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_lrp_prune.arguments import checked
from keras_lrp_prune.data import DataNotFoundError, cast
from keras_lrp_prune.extras import extra
from keras_lrp_prune.runtime import DEFAULT_BATCH_SIZE


class LiteRTModel:
    """A `.tflite` file with one input and one output, run by LiteRT's interpreter on the CPU.

    Integer inputs and outputs are converted by the scale and zero point in the file:
    `integer = round(value / scale) + zero_point`, kept within the dtype's range, and
    `value = (integer - zero_point) * scale`.

    Args:
        path: The file, which `export.litert` or any converter wrote.
        threads: Threads that the interpreter may use.

    Raises:
        DataNotFoundError: If there is no such file.
        TypeError: For an argument of another type.
        ValueError: If it is no `.tflite` file, has several inputs or outputs, or `threads` is less
            than 1.
        MissingExtraError: Without ai-edge-litert (the extra `litert`).

    Example:
    >>> scores = klp.export.LiteRTModel("flowers.tflite")(x)
    >>> scores.argmax(axis=1)
    """

    @checked
    def __init__(self, path: str | os.PathLike[str], *, threads: int = 1) -> None:
        if not Path(path).is_file():
            raise DataNotFoundError(f"There is no file {str(path)!r}.")
        interpreter = extra("ai_edge_litert.interpreter").Interpreter
        try:
            self._interpreter = interpreter(model_path=str(path), num_threads=threads)
        except ValueError as error:
            raise ValueError(f"{str(path)!r} is no .tflite file: {error}") from error
        inputs, outputs = (
            self._interpreter.get_input_details(),
            self._interpreter.get_output_details(),
        )
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(
                f"{str(path)!r} has {len(inputs)} inputs and {len(outputs)} outputs; files with "
                "one of each are run."
            )
        self._input, self._output = inputs[0], outputs[0]
        self._allocated: tuple[int, ...] = ()

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of one sample, without the batch axis; `None` for any size."""
        sizes = self._input["shape_signature"][1:]
        return tuple(None if size < 0 else int(size) for size in sizes)

    @checked
    def __call__(self, x: np.ndarray, *, batch_size: int = DEFAULT_BATCH_SIZE) -> np.ndarray:
        """Runs the file; costs one pass over the samples.

        Args:
            x: Samples as the Keras model takes them, shape `(n, ...)`, n at least 1.
            batch_size: Samples per call, where the file leaves it open.

        Returns:
            Outputs, float32, shape `(n, ...)`.

        Raises:
            DataError: If the file takes whole numbers, and samples would lose something.
            ValueError: If the samples do not fit otherwise, or `batch_size` is less than 1.
        """
        x = np.asarray(x)
        self._check(x)
        fixed = int(self._input["shape_signature"][0])
        size = fixed if fixed > 0 else min(batch_size, len(x))
        self._allocate((size, *x.shape[1:]))
        rows = []
        for start in range(0, len(x), size):
            # The last batch is filled up with its last sample.
            chosen = np.minimum(np.arange(start, start + size), len(x) - 1)
            rows.append(self._run(x[chosen]))
        return np.concatenate(rows)[: len(x)]

    def _check(self, x: np.ndarray) -> None:
        wanted = self.input_shape
        fits = x.ndim == len(wanted) + 1 and all(
            size in (None, found) for size, found in zip(wanted, x.shape[1:], strict=True)
        )
        if not fits or not len(x):
            raise ValueError(f"The file takes samples (n, {wanted}), not an array {x.shape}.")

    def _allocate(self, shape: tuple[int, ...]) -> None:
        if self._allocated != shape:
            self._interpreter.resize_tensor_input(self._input["index"], shape)
            self._interpreter.allocate_tensors()
            self._allocated = shape

    def _run(self, batch: np.ndarray) -> np.ndarray:
        self._interpreter.set_tensor(self._input["index"], _quantized(batch, self._input))
        self._interpreter.invoke()
        return _dequantized(self._interpreter.get_tensor(self._output["index"]), self._output)


def _quantized(values: np.ndarray, tensor: Mapping[str, Any]) -> np.ndarray:
    """Values as a tensor of the file takes them."""
    scale, zero_point = tensor["quantization"]
    if not scale:
        return cast(values, tensor["dtype"])
    limits = np.iinfo(tensor["dtype"])
    integers = np.clip(np.round(values / scale) + zero_point, limits.min, limits.max)
    return integers.astype(tensor["dtype"])


def _dequantized(values: np.ndarray, tensor: Mapping[str, Any]) -> np.ndarray:
    scale, zero_point = tensor["quantization"]
    floats = values.astype(np.float32)
    return (floats - zero_point) * np.float32(scale) if scale else floats
