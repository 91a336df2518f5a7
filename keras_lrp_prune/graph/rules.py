"""The table of layer rules: how each layer type passes channels on.

A rule is a function `rule(call, flow) -> Channels`. It reads the channels of the call's inputs,
tells the `ChannelFlow` which weights, config entries and channels belong together, and returns
the channels of the output. A layer type without a rule is a barrier: what it reads and
what it returns is protected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from keras_lrp_prune.graph.channels import ChannelFlow, Channels, broadcast_last
from keras_lrp_prune.graph.model_graph import LayerSpec, Shape

# Elementwise activations, by Keras' name (or class, where a layer serves as an activation): is
# f(0) = 0, so that a masked channel stays zero?
ELEMENTWISE = {
    "linear": True,
    "relu": True,
    "relu6": True,
    "leaky_relu": True,
    "elu": True,
    "selu": True,
    "celu": True,
    "gelu": True,
    "silu": True,
    "swish": True,
    "mish": True,
    "hard_silu": True,
    "hard_swish": True,
    "hard_tanh": True,
    "tanh": True,
    "tanh_shrink": True,
    "soft_shrink": True,
    "hard_shrink": True,
    "softsign": True,
    "squareplus": False,
    "sigmoid": False,
    "hard_sigmoid": False,
    "log_sigmoid": False,
    "softplus": False,
    "exponential": False,
    "ELU": True,
    "LeakyReLU": True,
}


@dataclass(frozen=True)
class Call:
    """One call of a layer, as a layer rule sees it.

    Args:
        layer: The layer: its `config` and `weights`.
        inputs: Channels of each input's last axis.
        input_shapes, output_shapes: With the batch axis.
        numbers: Positional arguments that are not tensors, as `3.0` in `x + 3.0`.
    """

    layer: LayerSpec
    inputs: tuple[Channels, ...]
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    numbers: tuple[Any, ...] = ()

    @property
    def config(self) -> Mapping[str, Any]:
        """The layer's config."""
        return self.layer.config


LayerRule = Callable[[Call, ChannelFlow], Channels]


class NoRule(Exception):
    """Raised by a rule for a call it does not cover, with the reason: the call is a barrier."""


def activation_vanishes(call: Call, ids: np.ndarray, flow: ChannelFlow) -> bool:
    """Whether the call's activation maps zero to zero; channels that it may mix are protected."""
    name, options = call.config.get("activation") or "linear", {}
    if isinstance(name, Mapping):  # a layer serves as the activation
        name, options = name["class_name"], name["config"]
    if name == "ReLU":
        return relu_vanishes(options)
    if name not in ELEMENTWISE:
        flow.protect(ids, f"layer {call.layer.name!r}: activation {name!r} may mix channels")
    return ELEMENTWISE.get(name, False)


def relu_vanishes(config: Mapping[str, Any]) -> bool:
    """Whether a `ReLU` maps zero to zero: unless a threshold meets a negative slope."""
    return config.get("negative_slope", 0.0) * config.get("threshold", 0.0) == 0


def read(call: Call, channels: Channels, flow: ChannelFlow) -> np.ndarray:
    """The numbers of channels that a weight reads; those that would not be zero are protected."""
    constant = channels.ids[~channels.vanishes]
    if len(constant):
        flow.protect(
            constant,
            f"a masked channel would reach layer {call.layer.name!r} as a constant, not as zero",
        )
    return channels.ids


def constant_zero(ids: np.ndarray, vanishes: bool = True) -> Channels:
    """Channels that all vanish, or all do not, when masked."""
    return Channels(ids, np.full(len(ids), vanishes))


def linear(
    call: Call, flow: ChannelFlow, *, size: str, inward: int = -2, outward: int = -1
) -> Channels:
    """Conv* and Dense: new channels out of all that it reads."""
    if call.config.get("groups", 1) != 1:
        raise NoRule("grouped convolutions couple channels by their position")
    layer = call.layer
    flow.weight(layer, "kernel", inward, read(call, call.inputs[0], flow), "sliced")
    ids = flow.filters(layer, layer.weights["kernel"].shape[outward])
    flow.weight(layer, "kernel", outward, ids, "zeroed")
    if "bias" in layer.weights:
        flow.weight(layer, "bias", 0, ids, "zeroed")
    flow.size(layer, size, ids)
    return constant_zero(ids, activation_vanishes(call, ids, flow))


def depthwise(call: Call, flow: ChannelFlow) -> Channels:
    """Depthwise convolution: `depth_multiplier` channels for each channel read."""
    layer = call.layer
    ids = call.inputs[0].ids
    flow.weight(layer, "kernel", -2, ids, "zeroed")
    out = np.repeat(ids, layer.weights["kernel"].shape[-1])
    if "bias" in layer.weights:
        flow.weight(layer, "bias", 0, out, "zeroed")
    return constant_zero(out, activation_vanishes(call, out, flow))


def separable(call: Call, flow: ChannelFlow) -> Channels:
    """Separable convolution: a depthwise one, then new channels by a pointwise one."""
    layer = call.layer
    read_ids = read(call, call.inputs[0], flow)
    multiplier = layer.weights["depthwise_kernel"].shape[-1]
    ids = flow.filters(layer, layer.weights["pointwise_kernel"].shape[-1])
    flow.weight(layer, "depthwise_kernel", -2, read_ids, "sliced")
    flow.weight(layer, "pointwise_kernel", -2, np.repeat(read_ids, multiplier), "sliced")
    flow.weight(layer, "pointwise_kernel", -1, ids, "zeroed")
    if "bias" in layer.weights:
        flow.weight(layer, "bias", 0, ids, "zeroed")
    flow.size(layer, "filters", ids)
    return constant_zero(ids, activation_vanishes(call, ids, flow))


def batch_norm(call: Call, flow: ChannelFlow) -> Channels:
    """Batch normalisation of the last axis.

    Zero gamma and beta make a masked channel zero. Without gamma the moving mean is zeroed too:
    then a zero input stays zero.
    """
    layer, config = call.layer, call.config
    rank = len(call.input_shapes[0])
    if config["axis"] not in (-1, rank - 1, [rank - 1]):
        raise NoRule(f"it normalises axis {config['axis']}, not the last")
    if config.get("renorm"):
        raise NoRule("batch renormalisation is not supported")
    channels = call.inputs[0]
    has_gamma = "gamma" in layer.weights
    for name in layer.weights:
        zeroed = name in ("gamma", "beta") or (name == "moving_mean" and not has_gamma)
        flow.weight(layer, name, 0, channels.ids, "zeroed" if zeroed else "sliced")
    return constant_zero(channels.ids) if has_gamma else channels


def passing(call: Call, flow: ChannelFlow) -> Channels:
    """Works on each channel by itself, and keeps a zero channel zero."""
    return call.inputs[0]


def activation(call: Call, flow: ChannelFlow) -> Channels:
    """`Activation`: on each channel by itself, or its channels are protected."""
    channels = call.inputs[0]
    vanishes = activation_vanishes(call, channels.ids, flow)
    return Channels(channels.ids, channels.vanishes & vanishes)


def softmax(call: Call, flow: ChannelFlow) -> Channels:
    """`Softmax` mixes channels."""
    flow.protect(call.inputs[0].ids, f"layer {call.layer.name!r} (Softmax) mixes channels")
    return call.inputs[0]


def relu(call: Call, flow: ChannelFlow) -> Channels:
    """`ReLU` with its options."""
    channels = call.inputs[0]
    return Channels(channels.ids, channels.vanishes & relu_vanishes(call.config))


def elementwise_merge(call: Call, flow: ChannelFlow) -> Channels:
    """Add and its like: equal positions share one fate; zero if all inputs are."""
    first, *others = _broadcast(call, flow)
    vanishes = first.vanishes & (not any(np.any(number) for number in call.numbers))
    for other in others:
        flow.unite(first.ids, other.ids)
        vanishes &= other.vanishes
    return Channels(first.ids, vanishes)


def multiply(call: Call, flow: ChannelFlow) -> Channels:
    """Multiply, squeeze-excite included: zero if any input is."""
    first, *others = _broadcast(call, flow)
    vanishes = first.vanishes.copy()
    for other in others:
        flow.unite(first.ids, other.ids)
        vanishes |= other.vanishes
    return Channels(first.ids, vanishes)


def concatenate(call: Call, flow: ChannelFlow) -> Channels:
    """Concatenate: side by side along the last axis, or one behind the other."""
    rank = len(call.output_shapes[0])
    if call.config["axis"] in (-1, rank - 1):
        return Channels(
            np.concatenate([channels.ids for channels in call.inputs]),
            np.concatenate([channels.vanishes for channels in call.inputs]),
        )
    return elementwise_merge(call, flow)


def reshape(call: Call, flow: ChannelFlow) -> Channels:
    """Flatten and Reshape: each number goes where its values go.

    Exact if every position of the new last axis holds values of one channel only.
    """
    channels, source = call.inputs[0], call.input_shapes[0][1:]
    target = call.output_shapes[0][1:]
    fixed = [size for size in (*source, *target) if size is not None]
    if len(fixed) < len(source) + len(target):
        raise NoRule(f"the shape {source} is not fixed; give the model a fixed input size")
    positions = np.broadcast_to(np.arange(len(channels)), fixed[: len(source)])
    last = positions.reshape(-1, fixed[-1])
    if (last != last[0]).any():
        raise NoRule(f"reshaping {source} to {target} mixes channels with other axes")
    out = Channels(channels.ids[last[0]], channels.vanishes[last[0]])
    if call.config.get("target_shape") and call.config["target_shape"][-1] != -1:
        flow.size(call.layer, "target_shape", out.ids, axis=-1)
    return out


def _broadcast(call: Call, flow: ChannelFlow) -> list[Channels]:
    """The inputs with their last axes made equally long; a stretched axis is protected."""
    width = broadcast_last(call.input_shapes)
    if width is None:
        raise NoRule("its inputs do not have matching channels")
    if any(np.size(number) != 1 for number in call.numbers):
        raise NoRule("it combines channels with an array")
    stretched = []
    for channels in call.inputs:
        if len(channels) != width:
            flow.protect(channels.ids, f"layer {call.layer.name!r} spreads it over all channels")
            flow.protect(
                np.concatenate([other.ids for other in call.inputs]),
                f"layer {call.layer.name!r} combines it with a single channel",
            )
            channels = Channels(np.repeat(channels.ids, width), np.repeat(channels.vanishes, width))
        stretched.append(channels)
    return stretched


RULES: dict[str, LayerRule] = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), partial(linear, size="filters")),
    "Dense": partial(linear, size="units"),
    "DepthwiseConv2D": depthwise,
    "SeparableConv2D": separable,
    "BatchNormalization": batch_norm,
    "Activation": activation,
    "ReLU": relu,
    "Softmax": softmax,
    **dict.fromkeys(
        (
            *("LeakyReLU", "ELU", "Identity", "Dropout", "SpatialDropout2D", "GaussianNoise"),
            *("GaussianDropout", "ActivityRegularization", "UpSampling2D"),
            *("MaxPooling1D", "MaxPooling2D", "MaxPooling3D"),
            *("AveragePooling1D", "AveragePooling2D", "AveragePooling3D"),
            *("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D"),
            *("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D"),
            *("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"),
            *("Cropping1D", "Cropping2D", "Cropping3D"),
        ),
        passing,
    ),
    **dict.fromkeys(
        ("Add", "Subtract", "Average", "Maximum", "Minimum", "ops.Add"), elementwise_merge
    ),
    **dict.fromkeys(("Multiply", "ops.Multiply"), multiply),
    "Concatenate": concatenate,
    **dict.fromkeys(("Flatten", "Reshape"), reshape),
}

_REGISTERED: dict[type, LayerRule] = {}


def register_layer_rule(layer_class: type, rule: LayerRule) -> None:
    """Says how a layer type of your own passes channels on.

    Args:
        layer_class: The layer's class; sub-classes need a rule of their own.
        rule: `rule(call, flow) -> Channels`, see `keras_lrp_prune.graph.rules`. A layer that
            works on each channel by itself and maps zero to zero returns `call.inputs[0]`.

    Raises:
        TypeError: If `layer_class` is not a class or `rule` cannot be called.

    Example:
    >>> klp.register_layer_rule(MyScale, lambda call, flow: call.inputs[0])
    """
    if not isinstance(layer_class, type) or not callable(rule):
        raise TypeError("register_layer_rule takes a layer class and a function.")
    _REGISTERED[layer_class] = rule


def rule_for(layer: LayerSpec) -> LayerRule | None:
    """The rule for a layer: a registered one, else Keras' own layers by name, else `None`."""
    if layer.source is not None:
        cls = type(layer.source)
        if cls in _REGISTERED:
            return _REGISTERED[cls]
        if cls.__module__.split(".")[0] not in ("keras", "tf_keras"):
            return None
    return RULES.get(layer.class_name)
