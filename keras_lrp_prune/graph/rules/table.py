"""The table: layer type to layer rule; users add rules for layers of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from keras_lrp_prune.graph.channels import Channels
from keras_lrp_prune.graph.flow import ChannelFlow
from keras_lrp_prune.graph.model_graph import LayerSpec, Shape
from keras_lrp_prune.graph.rules import (
    elementwise,
    linear,
    merging,
    normalisation,
    recurrent,
    shape,
)
from keras_lrp_prune.graph.rules.calls import Call, NoRule, is_of_a_library

LayerRule = Callable[[Call, ChannelFlow], Channels | list[Channels]]

_RANKS = ("1D", "2D", "3D")


def _each(rule: LayerRule, *names: str) -> dict[str, LayerRule]:
    return dict.fromkeys(names, rule)


def _time_distributed(call: Call, flow: ChannelFlow) -> Channels | list[Channels]:
    """`TimeDistributed`: as the layer inside, at each time step."""
    inside = call.config["layer"]
    layer = replace(
        call.layer,
        class_name=inside["class_name"],
        config=inside["config"],
        source=getattr(call.layer.source, "layer", None),
    )
    rule = rule_for(layer)
    if rule is None:
        raise NoRule(f"no layer rule for the {inside['class_name']} inside")
    if any(channels.axis == 1 - call.rank for channels in call.inputs):
        raise NoRule("its channels lie along the time axis")
    step = replace(
        call,
        layer=layer,
        input_shapes=tuple(map(_without_time, call.input_shapes)),
        output_shapes=tuple(map(_without_time, call.output_shapes)),
        config_path=(*call.config_path, "layer", "config"),
    )
    return rule(step, flow)


def _without_time(sizes: Shape) -> Shape:
    return (sizes[0], *sizes[2:])


# Layers that do nothing at inference.
TRAINING_ONLY = (
    *("Dropout", "AlphaDropout", "GaussianNoise", "GaussianDropout", "StochasticDepth"),
    *(f"SpatialDropout{rank}" for rank in _RANKS),
    *("RandomBrightness", "RandomColorDegeneration", "RandomColorJitter", "RandomContrast"),
    *("RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur"),
    *("RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective"),
    *(
        "RandomPosterization",
        "RandomRotation",
        "RandomSaturation",
        "RandomSharpness",
        "RandomShear",
    ),
    *("RandomTranslation", "RandomZoom", "AugMix", "CutMix", "MixUp", "RandAugment"),
)

LAYERS: dict[str, LayerRule] = {
    **_each(linear.convolution, *(f"Conv{rank}" for rank in _RANKS)),
    **_each(linear.transposed, *(f"Conv{rank}Transpose" for rank in _RANKS)),
    **_each(linear.depthwise, "DepthwiseConv1D", "DepthwiseConv2D"),
    **_each(linear.separable, "SeparableConv1D", "SeparableConv2D"),
    "Dense": linear.dense,
    **_each(recurrent.recurrent, *recurrent.RECURRENT),
    "Bidirectional": recurrent.bidirectional,
    "TimeDistributed": _time_distributed,
    "BatchNormalization": normalisation.batch_norm,
    "GroupNormalization": normalisation.group_norm,
    **_each(
        normalisation.layer_norm, "LayerNormalization", "RMSNormalization", "UnitNormalization"
    ),
    "Activation": elementwise.activation,
    "ReLU": elementwise.relu,
    "PReLU": elementwise.prelu,
    "Softmax": elementwise.softmax,
    **_each(elementwise.passing, "LeakyReLU", "ELU", "Identity", "ActivityRegularization"),
    **_each(elementwise.passing, *TRAINING_ONLY),
    **_each(elementwise.dropout, "Dropout", "AlphaDropout"),
    "LayerScale": elementwise.layer_scale,
    "Rescaling": elementwise.rescaling,
    "Normalization": elementwise.by_position,
    **_each(
        elementwise.spatial,
        *(f"{kind}Pooling{rank}" for kind in ("Max", "Average") for rank in _RANKS),
        *(f"Adaptive{kind}Pooling{rank}" for kind in ("Max", "Average") for rank in _RANKS),
        *(f"{kind}{rank}" for kind in ("ZeroPadding", "Cropping", "UpSampling") for rank in _RANKS),
        *("Resizing", "CenterCrop", "RandomCrop"),
    ),
    **_each(
        elementwise.global_pooling,
        *(f"Global{kind}Pooling{rank}" for kind in ("Max", "Average") for rank in _RANKS),
    ),
    **_each(merging.merged, "Add", "Subtract", "Average", "Maximum", "Minimum", "CustomScaleLayer"),
    "Multiply": merging.multiplied,
    "Concatenate": merging.concatenate,
    "Flatten": shape.flatten,
    "Reshape": shape.reshape,
    "Permute": shape.permute,
    "RepeatVector": shape.repeat_vector,
}

_KEEPING_ZERO = (
    *("Relu", "Relu6", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Silu", "HardSilu"),
    *("Tanh", "HardTanh", "TanhShrink", "SoftShrink", "HardShrink", "Softsign"),
    *("Abs", "Absolute", "Negative", "Square", "Sqrt", "Sign", "Expm1", "Log1p", "Sin", "Erf"),
)
_NOT_KEEPING_ZERO = (
    *("Sigmoid", "HardSigmoid", "LogSigmoid", "SparseSigmoid", "Softplus", "Squareplus"),
    *("SparsePlus", "Exp", "Cos", "Clip"),
)
ELEMENTWISE_OPERATIONS = ("ReLU", *_KEEPING_ZERO, *_NOT_KEEPING_ZERO, "Softmax", "LogSoftmax")

_MOVING: dict[str, LayerRule] = {
    **_each(elementwise.passing, "Identity", "StopGradient", "Cast", "Copy"),
    "Concatenate": merging.concatenate,
    "Stack": merging.stack,
    "Reshape": partial(shape.reshape, size="newshape"),
    "Transpose": shape.transpose,
    "Swapaxes": shape.swap_axes,
    "Moveaxis": shape.move_axes,
    "ExpandDims": shape.expand_dims,
    "Squeeze": shape.squeeze,
    **_each(shape.flip, "Flip", "Roll", "Repeat"),
    "Pad": shape.pad,
    "Split": shape.split,
    "GetItem": shape.get_item,
}
MOVING_OPERATIONS = tuple(_MOVING)

OPERATIONS: dict[str, LayerRule] = {
    **_each(merging.merged, "Add", "Subtract", "Maximum", "Minimum"),
    "Multiply": merging.multiplied,
    **_each(merging.divided, "Divide", "TrueDivide"),
    "Power": merging.raised,
    "Resize": elementwise.spatial,
    "Sum": shape.total,
    "ReLU": elementwise.relu,
    **_each(elementwise.passing, *_KEEPING_ZERO),
    **_each(elementwise.blurring, *_NOT_KEEPING_ZERO),
    **_each(elementwise.softmax, "Softmax", "LogSoftmax"),
    **_each(shape.reduction, "Mean", "Max", "Min", "Amax", "Amin"),
    **_MOVING,
}

RULES: dict[str, LayerRule] = {
    **LAYERS,
    **{f"ops.{name}": rule for name, rule in OPERATIONS.items()},
}

_REGISTERED: dict[type, LayerRule] = {}


def register_layer_rule(layer_class: type, rule: LayerRule | type) -> None:
    """Says how a layer type of your own passes channels on.

    Args:
        layer_class: The layer's class; sub-classes need a rule of their own.
        rule: `rule(call, flow)` returns the `Channels` of the output (a list of them for several
            outputs), see `keras_lrp_prune.graph.rules`. A layer that works on each element by
            itself and maps zero to zero returns `call.inputs[0]`. Or a Keras layer class: as
            that one.

    Raises:
        TypeError: If `layer_class` is not a class, or `rule` is neither a function nor a layer
            class that has a rule.

    Example:
    >>> klp.register_layer_rule(MyScale, lambda call, flow: call.inputs[0])
    >>> klp.register_layer_rule(MyConv2D, keras.layers.Conv2D)
    """
    if isinstance(rule, type):
        rule = LAYERS.get(rule.__name__, rule)
    if not isinstance(layer_class, type) or isinstance(rule, type) or not callable(rule):
        raise TypeError(
            "register_layer_rule takes a layer class, and a function or a Keras layer class that "
            "has a rule."
        )
    _REGISTERED[layer_class] = rule


def rule_for(layer: LayerSpec) -> LayerRule | None:
    """The rule for a layer: a registered one, else Keras' own layers by name, else `None`."""
    if layer.source is not None:
        cls = type(layer.source)
        if cls in _REGISTERED:
            return _REGISTERED[cls]
        if not is_of_a_library(layer.source):
            return None
    return RULES.get(layer.class_name)
