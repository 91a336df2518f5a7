"""What the package can do with each layer type and operation that its table knows, tried out.

Each type stands in a small network, and the checks are those that the package makes itself. The
table on `docs/supported-models.md` is written from here:

    python tests/support/layer_matrix.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

from keras_lrp_prune.cost import CostModel
from keras_lrp_prune.graph.analysis import channel_structure
from keras_lrp_prune.graph.layer_types import LAYER_TYPES
from keras_lrp_prune.graph.model_graph import ModelGraph, UnsupportedModelError
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.recovery.patches import NoWindows, windows_of
from keras_lrp_prune.relevance.canonical import canonize
from keras_lrp_prune.relevance.dialect import check_dialect
from keras_lrp_prune.relevance.native.support import check_supported

PAGE = Path(__file__).resolve().parents[2] / "docs" / "supported-models.md"
COLUMNS = ("channels", "FLOPs", "LRP", "refit", "iNNvestigate")
BEGIN, END = "<!-- written by tests/support/layer_matrix.py -->\n", "<!-- end -->\n"

Tensor = Any
_SHAPES = {"1D": (12, 3), "2D": (8, 8, 3), "3D": (6, 6, 6, 3)}
_FACTOR = {"factor": 0.1}

# Arguments of the layers that cannot do without; names without their ranks.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    **{key: {"filters": 4, "kernel_size": 3} for key in ("Conv", "SeparableConv")},
    **{f"Conv{rank}Transpose": {"filters": 4, "kernel_size": 3} for rank in _SHAPES},
    "DepthwiseConv": {"kernel_size": 3},
    **{key: {"units": 4} for key in ("Dense", "SimpleRNN", "GRU", "LSTM")},
    "Activation": {"activation": "relu"},
    **{key: {"rate": 0.5} for key in ("Dropout", "AlphaDropout", "GaussianDropout")},
    "SpatialDropout": {"rate": 0.5},
    "StochasticDepth": {"drop_path_rate": 0.5},
    "GaussianNoise": {"stddev": 0.1},
    "AveragePooling": {"pool_size": 2},
    **{key: {"output_size": 2} for key in ("AdaptiveMaxPooling", "AdaptiveAveragePooling")},
    "Rescaling": {"scale": 0.5},
    "Normalization": {"mean": [0.0] * 3, "variance": [1.0] * 3},
    "GroupNormalization": {"groups": 3},
    "LayerNormalization": {"axis": (1, 2)},
    "LayerScale": {"init_values": 0.5, "projection_dim": 3},
    "CustomScaleLayer": {"scale": 0.5},
    **{key: {"height": 5, "width": 5} for key in ("Resizing", "CenterCrop", "RandomCrop")},
    "Reshape": {"target_shape": (-1, 3)},
    "Permute": {"dims": (2, 1, 3)},
    "RepeatVector": {"n": 2},
    **dict.fromkeys(("RandomBrightness", "RandomContrast"), _FACTOR),
    **dict.fromkeys(("RandomColorDegeneration", "RandomGrayscale"), _FACTOR),
    **dict.fromkeys(("RandomInvert", "RandomPerspective", "RandomRotation"), _FACTOR),
    **dict.fromkeys(("RandomSaturation", "RandomSharpness", "RandomErasing"), _FACTOR),
    "RandomHue": {"factor": 0.1, "value_range": (0, 1)},
    "RandomZoom": {"height_factor": 0.1},
    "RandomPosterization": {"factor": 4},
    "RandomTranslation": {"height_factor": 0.1, "width_factor": 0.1},
    "RandomColorJitter": {"value_range": (0, 1)},
}

# How the operations are called that are not called `operation(x)`.
_OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Add": lambda x: x + layers.Conv2D(3, 1)(x),
    "Subtract": lambda x: x - 1.0,
    "Multiply": lambda x: x * 2.0,
    "Divide": lambda x: ops.divide(x, 2.0),
    "TrueDivide": lambda x: x / 2.0,
    "Maximum": lambda x: ops.maximum(x, 0.5),
    "Minimum": lambda x: ops.minimum(x, 0.5),
    "Power": lambda x: x**2,
    "Clip": lambda x: ops.clip(x, 0.0, 6.0),
    "Cast": lambda x: ops.cast(x, "float32"),
    **{
        name: lambda x, name=name: getattr(ops, name.lower())(x, axis=(1, 2))
        for name in ("Mean", "Sum", "Max", "Min", "Amax", "Amin")
    },
    "Resize": lambda x: ops.image.resize(x, (5, 5)),
    "Concatenate": lambda x: ops.concatenate([x, x]),
    "Stack": lambda x: ops.stack([x, x], axis=1),
    "Reshape": lambda x: ops.reshape(x, (-1, 64, 3)),
    "ExpandDims": lambda x: ops.expand_dims(x, 1),
    "Squeeze": lambda x: ops.squeeze(x[:, :1], 1),
    "Transpose": lambda x: ops.transpose(x, (0, 2, 1, 3)),
    "Swapaxes": lambda x: ops.swapaxes(x, 1, 2),
    "Moveaxis": lambda x: ops.moveaxis(x, 1, 2),
    "Flip": lambda x: ops.flip(x, 1),
    "Roll": lambda x: ops.roll(x, 1, 1),
    "Repeat": lambda x: ops.repeat(x, 2, 1),
    "Pad": lambda x: ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))),
    "GetItem": lambda x: x[:, 1:],
    "Split": lambda x: ops.add(*ops.split(x, 2, 1)),
}
_MERGING = ("Add", "Subtract", "Average", "Maximum", "Minimum", "Multiply", "Concatenate")


NO_OPERATION = ("ops.Identity", "ops.ReLU", "ops.Abs")  # of other versions of Keras


def matrix(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """The rows of the types that this version of Keras has."""
    return {name: row for name in names if (row := _row(name)) is not None}


def _row(name: str) -> dict[str, str] | None:
    """What can be done with a layer type: `"yes"`, `""` where there is nothing to do, or `"no"`.

    Args:
        name: As in `LAYER_TYPES`.
    """
    network = _network(name)
    if network is None:
        return None
    graph = read_model(network).flat()
    scaffold = ("before", "flat", "classes")
    nodes = [node for node in graph.nodes if node.layer.name not in scaffold]
    node = next((node for node in nodes if node.layer.class_name == name), None)
    if node is None:  # a version of Keras that calls the operation otherwise
        return None
    structure = channel_structure(graph)
    yes = {
        "channels": node.layer.name not in structure.barriers,
        "FLOPs": node.layer.name not in CostModel(graph, structure).uncounted,
        "LRP": _passes(lambda canonical: check_supported(canonical), graph, node.layer.name),
        "iNNvestigate": _passes(lambda it: check_dialect(it, "lrp.z"), graph, node.layer.name),
    }
    found = {column: "yes" if value else "no" for column, value in yes.items()}
    found["refit"] = ""
    if any("kernel" in weight for weight in node.layer.weights):
        try:
            windows_of(node.layer, len(graph.shape(node.inputs[0])))
            found["refit"] = "yes"
        except NoWindows:
            found["refit"] = "no"
    return {column: found[column] for column in COLUMNS}


def stated_reason(name: str, column: str) -> str | None:
    """Why a type has "no" in a column; iNNvestigate does nothing that native LRP does not."""
    gaps = LAYER_TYPES[name].gaps
    return gaps.get(column) or (gaps.get("LRP") if column == "iNNvestigate" else None)


def text(rows: dict[str, dict[str, str]]) -> str:
    """The matrix, a line for each type."""
    lines = [(name, *row.values()) for name, row in rows.items()]
    return "\n".join(
        "".join(f"{cell:<14}" for cell in (f"{name:<30}", *cells))
        for name, *cells in [("", *COLUMNS), *lines]
    )


def page_table(rows: dict[str, dict[str, str]]) -> str:
    """The table of the documentation: types that are alike in one row, reasons below."""
    reasons: list[str] = []

    def cell(name: str, column: str, value: str) -> str:
        reason = stated_reason(name, column)
        if reason is None:
            return value
        if reason not in reasons:
            reasons.append(reason)
        return f"[{reasons.index(reason) + 1}]"

    shown = [
        (name, tuple(cell(name, column, value) for column, value in row.items()))
        for name, row in rows.items()
    ]
    lines = [f"| layers | {' | '.join(COLUMNS)} |", f"|{' --- |' * (len(COLUMNS) + 1)}"]
    for cells, alike in groupby(shown, key=lambda row: row[1]):
        names = ", ".join(f"`{name}`" for name, _ in alike)
        lines.append(f"| {names} | {' | '.join(cells)} |")
    notes = [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    return "\n".join([*lines, "", *notes, ""])


def _passes(check: Callable[[ModelGraph], None], graph: ModelGraph, name: str) -> bool:
    try:
        check(canonize(graph))
    except UnsupportedModelError as error:
        return f"'{name}'" not in str(error)
    return True


def _network(name: str) -> keras.Model | None:
    """A network in which a layer type, or an operation, stands once; `None` if Keras has none."""
    if name.startswith("ops."):
        operation = None if name in NO_OPERATION else _operation(name.removeprefix("ops."))
        return None if operation is None else _around(_SHAPES["2D"], operation)
    cls, rank = _layer_class(name), name[-2:]
    if cls is None:
        return None
    if name in _MERGING:
        return _around(_SHAPES["2D"], lambda x: cls()([x, layers.Conv2D(3, 1)(x)]))
    if name == "CustomScaleLayer":
        made = cls(0.5)
        return _around(_SHAPES["2D"], lambda x: made([x, layers.Conv2D(3, 1)(x)]))
    if name == "TimeDistributed":
        return _around(_SHAPES["1D"], cls(layers.Dense(4)))
    if name == "Bidirectional":
        return _around(_SHAPES["1D"], cls(layers.GRU(4)))
    arguments = _ARGUMENTS.get(name, _ARGUMENTS.get(name.removesuffix(rank), {}))
    if name in ("SimpleRNN", "GRU", "LSTM"):
        return _around(_SHAPES["1D"], _made(cls, arguments))
    if name == "RepeatVector":
        return _around((8,), _made(cls, arguments))
    rank = next((rank for rank in _SHAPES if rank in name), "2D")
    return _around(_SHAPES[rank], _made(cls, arguments))


def _made(cls: Any, arguments: dict[str, Any]) -> Any:
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{cls.__name__} cannot be made for the matrix: {error}. Give _ARGUMENTS in "
            "tests/support/layer_matrix.py what it does not do without."
        ) from error


def _around(shape: tuple[int, ...], layer: Callable[[Tensor], Tensor]) -> keras.Model:
    inputs = keras.Input(shape)
    before = {1: layers.Dense, 2: layers.Conv1D, 3: layers.Conv2D, 4: layers.Conv3D}[len(shape)]
    arguments = (5,) if len(shape) == 1 else (3, 3, 1, "same")
    x = layer(before(*arguments, name="before")(inputs))
    x = layers.Flatten(name="flat")(x)
    return keras.Model(inputs, layers.Dense(3, name="classes")(x))


def _operation(name: str) -> Callable[[Tensor], Tensor] | None:
    if name in _OPERATIONS:
        return _OPERATIONS[name]
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]
    return getattr(ops, snake, None)


def _layer_class(name: str) -> Any:
    if hasattr(layers, name):
        return getattr(layers, name)
    from keras.src.applications import convnext, inception_resnet_v2

    for module in (convnext, inception_resnet_v2):
        if hasattr(module, name):
            return getattr(module, name)
    return None


def written(page: str, rows: dict[str, dict[str, str]]) -> str:
    """The page with the table as it is now."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{page_table(rows)}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(), matrix(LAYER_TYPES)))
