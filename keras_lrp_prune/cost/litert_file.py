"""What a LiteRT (`.tflite`) file costs, read from the file: weights and operations."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from keras_lrp_prune.extras import extra

# What the reader of the format raises where the bytes make no sense.
_UNREADABLE = (struct.error, ValueError, TypeError, AttributeError, LookupError)


@dataclass(frozen=True)
class LiteRTCounts:
    """What is in a file.

    Args:
        parameters: Numbers in its constant tensors; batch normalisation is folded into others.
        weights: Bytes of them by dtype.
        flops: Operations for one sample, a multiply-add as two.
        uncounted: Operators whose operations are missing in the count.
    """

    parameters: int
    weights: Mapping[str, int]
    flops: int
    uncounted: tuple[str, ...]


def litert_counts(path: Path) -> LiteRTCounts:
    """Reads weights and operators of a `.tflite` file.

    Args:
        path: The file.

    Raises:
        MissingExtraError: Without ai-edge-litert.
        ValueError: If it is no LiteRT file, or only the beginning of one.
    """
    schema: Any = extra("ai_edge_litert.schema_py_generated")
    data = path.read_bytes()
    if not schema.Model.ModelBufferHasIdentifier(data, 0):
        raise ValueError(f"{path} is not a LiteRT file: its identifier is missing.")
    try:
        return _counted(schema, data)
    except _UNREADABLE as error:
        raise ValueError(
            f"{path} is damaged, or only the beginning of a LiteRT file ({error}). Write it anew."
        ) from error


def _counted(schema: Any, data: bytes) -> LiteRTCounts:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    dtypes = _names(schema.TensorType)
    operators = _names(schema.BuiltinOperator)
    weights: dict[int, tuple[str, int, int]] = {}
    flops, uncounted = 0, dict[str, None]()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            content = model.buffers[tensor.buffer].data
            if content is not None and len(content) and _is_weight(tensor, dtypes):
                weights[tensor.buffer] = dtypes[tensor.type], prod(_shape(tensor)), len(content)
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            name = operators[max(code.builtinCode, code.deprecatedBuiltinCode)]
            if name in _OPERATIONS:
                flops += _OPERATIONS[name](_Operator.of(operator, graph.tensors))
            elif name not in _FREE:
                uncounted[name] = None
    by_dtype: dict[str, int] = {}
    for dtype, _, size in weights.values():
        by_dtype[dtype] = by_dtype.get(dtype, 0) + size
    parameters = sum(elements for _, elements, _ in weights.values())
    return LiteRTCounts(parameters, by_dtype, flops, tuple(uncounted))


@dataclass(frozen=True)
class _Operator:
    """One operator: the shapes of its inputs (`None`: left out) and output, and its options."""

    inputs: list[tuple[int, ...] | None]
    output: tuple[int, ...]
    options: Any

    @classmethod
    def of(cls, operator: Any, tensors: Any) -> _Operator:
        inputs = [None if i < 0 else _shape(tensors[i]) for i in operator.inputs]
        return cls(inputs, _shape(tensors[operator.outputs[0]]), operator.builtinOptions)

    def weight(self) -> tuple[int, ...]:
        """Shape of the second input."""
        return self.inputs[1] or ()

    @property
    def has_bias(self) -> bool:
        return len(self.inputs) > 2 and self.inputs[2] is not None


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _shape(tensor: Any) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(int(size) for size in tensor.shape)


def _is_weight(tensor: Any, dtypes: Mapping[int, str]) -> bool:
    """Whether a constant is a weight, and not a shape or an axis: a float, or quantised."""
    quantised = tensor.quantization is not None and tensor.quantization.scale is not None
    return dtypes[tensor.type].startswith("FLOAT") or quantised


def _linear(operator: _Operator) -> int:
    """Convolution (filters, height, width, read) and dense layer (units, read)."""
    each = 2 * prod(operator.weight()[1:]) + operator.has_bias
    return prod(operator.output) * each


def _depthwise(operator: _Operator) -> int:
    return prod(operator.output) * (2 * prod(operator.weight()[1:3]) + operator.has_bias)


def _transposed(operator: _Operator) -> int:
    """Inputs are the output's shape, the kernel (filters, height, width, read) and the images."""
    spread = prod(operator.inputs[2] or ())
    return 2 * spread * prod(operator.weight()[:3])


def _pooling(operator: _Operator) -> int:
    window = operator.options.filterHeight * operator.options.filterWidth
    return prod(operator.output) * window


def _per_output(operator: _Operator) -> int:
    return prod(operator.output)


def _per_input(operator: _Operator) -> int:
    return prod(operator.inputs[0] or ())


# Operations of one call, by operator; as `CostModel` counts layers.
_OPERATIONS: Mapping[str, Callable[[_Operator], int]] = {
    **dict.fromkeys(("CONV_2D", "FULLY_CONNECTED"), _linear),
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), _pooling),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), _per_input),
    **dict.fromkeys(
        (
            *("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "RSQRT"),
            *("RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "PRELU", "ELU", "GELU", "NEG", "ABS"),
            *("LOGISTIC", "TANH", "HARD_SWISH", "SOFTMAX", "LOG_SOFTMAX", "EXP", "SQRT", "SQUARE"),
        ),
        _per_output,
    ),
}

_FREE = frozenset(
    (
        *("RESHAPE", "TRANSPOSE", "PAD", "PADV2", "MIRROR_PAD", "CONCATENATION", "SPLIT", "SLICE"),
        *("STRIDED_SLICE", "GATHER", "PACK", "UNPACK", "SHAPE", "SQUEEZE", "EXPAND_DIMS", "TILE"),
        *("QUANTIZE", "DEQUANTIZE", "CAST", "BROADCAST_TO", "FILL", "RANGE", "SPLIT_V"),
    )
)
