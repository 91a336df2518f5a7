"""What is known of each layer type: one table, a row for types that are alike.

A row says how the type passes channels on (its channel rule), what is true of it (its traits), and
what the rest of the package cannot do with it, with the reason. Whoever asks what a layer is asks
here, by `has`; tables of functions by layer type are filled from here, by `types_with`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Literal

from keras_lrp_prune.graph.channel_rules import (
    elementwise,
    linear,
    merge,
    normalisation,
    recurrent,
    shape,
)
from keras_lrp_prune.graph.channel_rules.calls import ChannelRule, is_of_a_library
from keras_lrp_prune.graph.model_graph import LayerSpec


class Trait(Enum):
    """What can be true of a layer type, in words, with types of which it is.

    It is true at inference, unless something else is said.
    """

    OWNS_FILTERS = "its output channels are filters: `Conv2D`, `Dense`, `GRU`"
    LINEAR = (
        "it applies a kernel, a bias and an activation, and LRP rules are for these: `Dense`, "
        "`DepthwiseConv2D`"
    )
    DEPTHWISE = "the last two axes of its kernel are what it makes: `DepthwiseConv2D`"
    TRANSPOSED = "its kernel has what it makes before what it reads: `Conv2DTranspose`"
    SEPARABLE = "a depthwise convolution and one of size 1, in one layer: `SeparableConv2D`"
    RECURRENT = "it runs over time, with a kernel for its state: `LSTM`"
    AFFINE = "it scales and shifts values by numbers of its own: `BatchNormalization`, `Rescaling`"
    ELEMENTWISE = "a function of each value by itself: `ReLU`, `ops.Sigmoid`"
    SOFTMAX = "it makes probabilities of the values along an axis: `Softmax`"
    IDENTITY = (
        "it returns what it reads, whatever it does while a model trains: `Dropout`, `RandomFlip`"
    )
    DROPS = "it drops values at a rate while a model trains: `SpatialDropout2D`"
    RESHAPES = "it returns all values in their order, in another shape: `Flatten`, `ops.Squeeze`"
    REARRANGES = "it returns all values, in another order or shape: `Permute`, `Flatten`"
    MOVES = (
        "it returns values that it read, some of them or several times, and constants; it computes "
        "nothing: `Concatenate`, `Cropping2D`, `ZeroPadding2D`, `ops.Cast` (which may round them, "
        "and so is no identity)"
    )
    PICKS = (
        "each value that it returns is the largest or smallest of some: `MaxPooling2D`, `Maximum`"
    )
    ADDS = (
        "each value that it returns is a sum, of values times constants: `Add`, "
        "`AveragePooling2D`, `BatchNormalization`"
    )
    MULTIPLIES = "it multiplies tensors: `Multiply`"
    DIVIDES = "it divides by a tensor or a number: `ops.Divide`"
    MERGES = "it brings tensors together, element by element: `Add`, `Maximum`"
    NORMALISES = "it scales by statistics of the sample itself: `LayerNormalization`"
    KEEPS_SIGN = "it makes no negative values of tensors that have none: `MaxPooling2D`, `Multiply`"
    REDUCES = "it makes one value of all positions along some axes: `GlobalAveragePooling2D`"
    IN_WINDOWS = "it makes one value of each window of `pool_size` values: `AveragePooling2D`"
    RESAMPLES = "it resizes by repeating or interpolating: `UpSampling2D`, `Resizing`"
    PREPARES = (
        "where it reads the model's input it counts as preprocessing, which is taken off for LRP "
        "and which relevance passes unchanged: `Rescaling`, `Normalization`, `ZeroPadding2D`"
    )


Ability = Literal["FLOPs", "LRP", "refit", "iNNvestigate"]


@dataclass(frozen=True)
class LayerType:
    """What is known of a layer type.

    Args:
        channel_rule: How it passes channels on.
        traits: What is true of it.
        gaps: What cannot be done with it, and why: counting its FLOPs, LRP through it by the native
            engine, refitting its kernel by least squares, LRP through it by iNNvestigate.
    """

    channel_rule: ChannelRule
    traits: frozenset[Trait] = frozenset()
    gaps: Mapping[Ability, str] = field(default_factory=dict)


def _each(
    names: str,
    channel_rule: ChannelRule,
    *traits: Trait,
    gaps: Mapping[Ability, str] | None = None,
) -> dict[str, LayerType]:
    """One row for several types; `*` in a name stands for `1D`, `2D` and `3D`."""
    known = LayerType(channel_rule, frozenset(traits), gaps or {})
    ranks = ("1D", "2D", "3D")
    return {
        name.replace("*", rank): known
        for name in names.split()
        for rank in (ranks if "*" in name else ("",))
    }


_UNTESTED: Mapping[Ability, str] = {
    "iNNvestigate": "outside the layers on which iNNvestigate was tested to be exact"
}
_INTERPOLATES: Mapping[Ability, str] = {
    "FLOPs": "what resizing costs depends on the runtime",
    **_UNTESTED,
}
_AT_THE_INPUT: Mapping[Ability, str] = {"iNNvestigate": "at the input alone, where it is taken off"}
_MIXES: Mapping[Ability, str] = {
    "LRP": "at the output alone, where it is taken off: it mixes channels"
}
_OVER_TIME: Mapping[Ability, str] = {
    "LRP": "no LRP rule for states that pass through time",
    "refit": "its kernel is applied to states too, which no least squares gives back",
}
_NORMALISES: Mapping[Ability, str] = {"LRP": "no LRP rule for this normalisation"}
_RESIZES: Mapping[Ability, str] = {"LRP": "no LRP rule for interpolation", **_INTERPOLATES}
_TRANSPOSED: Mapping[Ability, str] = {
    "refit": "it spreads each value over several outputs, so that no window makes an output",
    **_UNTESTED,
}
_DEPTHWISE: Mapping[Ability, str] = {"refit": "no filter reads all channels"}
_ADAPTS: Mapping[Ability, str] = {
    "FLOPs": "its windows differ in size",
    "LRP": "no LRP rule for windows that differ in size",
}

_T = Trait
_WINDOWS_OF_LARGEST = (_T.IN_WINDOWS, _T.PICKS, _T.KEEPS_SIGN)
_WINDOWS_OF_MEANS = (_T.IN_WINDOWS, _T.ADDS, _T.KEEPS_SIGN)
_LARGEST_OF_ALL = (_T.REDUCES, _T.PICKS, _T.KEEPS_SIGN)
_MEAN_OF_ALL = (_T.REDUCES, _T.ADDS, _T.KEEPS_SIGN)
_MOVED = (_T.MOVES, _T.KEEPS_SIGN)
_REARRANGED = (*_MOVED, _T.REARRANGES)
_RESHAPED = (*_REARRANGED, _T.RESHAPES)

_LAYERS: dict[str, LayerType] = {
    **_each("Conv2D", linear.convolution, _T.OWNS_FILTERS, _T.LINEAR),
    **_each("Dense", linear.dense, _T.OWNS_FILTERS, _T.LINEAR),
    **_each("Conv1D Conv3D", linear.convolution, _T.OWNS_FILTERS, _T.LINEAR, gaps=_UNTESTED),
    **_each(
        "Conv1DTranspose Conv2DTranspose Conv3DTranspose",
        linear.transposed,
        _T.OWNS_FILTERS,
        _T.LINEAR,
        _T.TRANSPOSED,
        gaps=_TRANSPOSED,
    ),
    **_each("DepthwiseConv2D", linear.depthwise, _T.LINEAR, _T.DEPTHWISE, gaps=_DEPTHWISE),
    **_each(
        "DepthwiseConv1D",
        linear.depthwise,
        _T.LINEAR,
        _T.DEPTHWISE,
        gaps={**_DEPTHWISE, **_UNTESTED},
    ),
    **_each("SeparableConv2D", linear.separable, _T.OWNS_FILTERS, _T.SEPARABLE),
    **_each("SeparableConv1D", linear.separable, _T.OWNS_FILTERS, _T.SEPARABLE, gaps=_UNTESTED),
    **_each(
        "SimpleRNN GRU LSTM",
        recurrent.recurrent,
        _T.OWNS_FILTERS,
        _T.RECURRENT,
        gaps=_OVER_TIME,
    ),
    **_each("Bidirectional", recurrent.bidirectional, _T.OWNS_FILTERS, gaps=_OVER_TIME),
    **_each(
        "TimeDistributed",
        recurrent.time_distributed,
        gaps={
            "LRP": "no LRP rule for the layer inside; call it without TimeDistributed",
            "refit": "the kernel is that of the layer inside; call it without TimeDistributed",
        },
    ),
    **_each("BatchNormalization", normalisation.batch_norm, _T.AFFINE, _T.ADDS),
    **_each("GroupNormalization", normalisation.group_norm, _T.NORMALISES, gaps=_NORMALISES),
    **_each("LayerNormalization", normalisation.layer_norm, _T.NORMALISES, gaps=_UNTESTED),
    **_each(
        "RMSNormalization UnitNormalization",
        normalisation.layer_norm,
        _T.NORMALISES,
        gaps=_NORMALISES,
    ),
    **_each("Activation", elementwise.activation, _T.ELEMENTWISE),
    **_each("ReLU", elementwise.relu, _T.ELEMENTWISE),
    **_each("ELU", elementwise.passing, _T.ELEMENTWISE),
    **_each("LeakyReLU", elementwise.passing, _T.ELEMENTWISE, gaps=_UNTESTED),
    **_each("PReLU", elementwise.prelu, _T.ELEMENTWISE, gaps=_UNTESTED),
    **_each("LayerScale", elementwise.layer_scale, _T.ELEMENTWISE, gaps=_UNTESTED),
    **_each("Softmax", elementwise.softmax, _T.SOFTMAX, gaps=_MIXES),
    **_each("Identity ActivityRegularization", elementwise.passing, _T.IDENTITY),
    **_each("Dropout AlphaDropout", elementwise.dropout, _T.IDENTITY, _T.DROPS),
    **_each("GaussianDropout SpatialDropout*", elementwise.passing, _T.IDENTITY, _T.DROPS),
    **_each(
        "GaussianNoise StochasticDepth "
        "RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast "
        "RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale "
        "RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation "
        "RandomSaturation RandomSharpness RandomShear RandomTranslation RandomZoom "
        "AugMix CutMix MixUp RandAugment",
        elementwise.passing,
        _T.IDENTITY,
    ),
    **_each(
        "Rescaling", elementwise.rescaling, _T.PREPARES, _T.AFFINE, _T.ADDS, gaps=_AT_THE_INPUT
    ),
    **_each(
        "Normalization",
        elementwise.by_position,
        _T.PREPARES,
        _T.AFFINE,
        _T.ADDS,
        gaps=_AT_THE_INPUT,
    ),
    **_each("MaxPooling2D", elementwise.spatial, *_WINDOWS_OF_LARGEST),
    **_each("MaxPooling1D MaxPooling3D", elementwise.spatial, *_WINDOWS_OF_LARGEST, gaps=_UNTESTED),
    **_each("AveragePooling2D", elementwise.spatial, *_WINDOWS_OF_MEANS),
    **_each(
        "AveragePooling1D AveragePooling3D",
        elementwise.spatial,
        *_WINDOWS_OF_MEANS,
        gaps=_UNTESTED,
    ),
    **_each("AdaptiveMaxPooling* AdaptiveAveragePooling*", elementwise.spatial, gaps=_ADAPTS),
    **_each("GlobalMaxPooling2D", elementwise.global_pooling, *_LARGEST_OF_ALL),
    **_each(
        "GlobalMaxPooling1D GlobalMaxPooling3D",
        elementwise.global_pooling,
        *_LARGEST_OF_ALL,
        gaps=_UNTESTED,
    ),
    **_each("GlobalAveragePooling2D", elementwise.global_pooling, *_MEAN_OF_ALL),
    **_each(
        "GlobalAveragePooling1D GlobalAveragePooling3D",
        elementwise.global_pooling,
        *_MEAN_OF_ALL,
        gaps=_UNTESTED,
    ),
    **_each("ZeroPadding2D", elementwise.spatial, *_MOVED, _T.PREPARES),
    **_each(
        "ZeroPadding1D ZeroPadding3D", elementwise.spatial, *_MOVED, _T.PREPARES, gaps=_UNTESTED
    ),
    **_each("Cropping2D", elementwise.spatial, *_MOVED),
    **_each("Cropping1D Cropping3D", elementwise.spatial, *_MOVED, gaps=_UNTESTED),
    **_each("UpSampling*", elementwise.spatial, _T.RESAMPLES, gaps=_INTERPOLATES),
    **_each("Resizing CenterCrop RandomCrop", elementwise.spatial, _T.RESAMPLES, gaps=_RESIZES),
    **_each("Add", merge.merged, _T.MERGES, _T.ADDS, _T.KEEPS_SIGN),
    **_each("Average", merge.merged, _T.MERGES, _T.ADDS, _T.KEEPS_SIGN, gaps=_UNTESTED),
    **_each("Subtract CustomScaleLayer", merge.merged, _T.MERGES, _T.ADDS, gaps=_UNTESTED),
    **_each("Maximum Minimum", merge.merged, _T.MERGES, _T.PICKS, _T.KEEPS_SIGN, gaps=_UNTESTED),
    **_each("Multiply", merge.multiplied, _T.MERGES, _T.MULTIPLIES, _T.KEEPS_SIGN, gaps=_UNTESTED),
    **_each("Concatenate", merge.concatenate, *_MOVED),
    **_each("Flatten", shape.flatten, *_RESHAPED),
    **_each("Reshape", shape.reshape, *_RESHAPED),
    **_each("Permute", shape.permute, *_REARRANGED, gaps=_UNTESTED),
    **_each("RepeatVector", shape.repeat_vector, *_MOVED, gaps=_UNTESTED),
}

# Of `keras.ops`, and of `x + y`, `x[...]` and the like.
_OPERATIONS: dict[str, LayerType] = {
    **_each("Identity StopGradient Copy", elementwise.passing, _T.IDENTITY),
    **_each("Cast", elementwise.passing, _T.MOVES),
    **_each("Add", merge.merged, _T.MERGES, _T.ADDS, _T.KEEPS_SIGN),
    **_each("Subtract", merge.merged, _T.MERGES, _T.ADDS, gaps=_UNTESTED),
    **_each("Maximum Minimum", merge.merged, _T.MERGES, _T.PICKS, _T.KEEPS_SIGN, gaps=_UNTESTED),
    **_each("Multiply", merge.multiplied, _T.MERGES, _T.MULTIPLIES, _T.KEEPS_SIGN, gaps=_UNTESTED),
    **_each("Divide TrueDivide", merge.divided, _T.MERGES, _T.DIVIDES, gaps=_UNTESTED),
    **_each("Power", merge.raised, _T.ELEMENTWISE, gaps=_UNTESTED),
    **_each("ReLU", elementwise.relu, _T.ELEMENTWISE, gaps=_UNTESTED),
    **_each(
        "Relu Relu6 LeakyRelu Elu Selu Celu Gelu Silu HardSilu Tanh HardTanh TanhShrink "
        "SoftShrink HardShrink Softsign Abs Absolute Negative Square Sqrt Sign Expm1 Log1p Sin Erf",
        elementwise.passing,
        _T.ELEMENTWISE,
        gaps=_UNTESTED,
    ),
    **_each(
        "HardSigmoid LogSigmoid SparseSigmoid Softplus Squareplus SparsePlus Exp Cos Clip",
        elementwise.losing_zeros,
        _T.ELEMENTWISE,
        gaps=_UNTESTED,
    ),
    **_each("Sigmoid", elementwise.losing_zeros, _T.ELEMENTWISE),
    **_each("Softmax", elementwise.softmax, _T.SOFTMAX, gaps=_MIXES),
    **_each("LogSoftmax", elementwise.softmax, gaps={"LRP": "it mixes channels"}),
    **_each("Mean", shape.reduction, _T.REDUCES, _T.ADDS, gaps=_UNTESTED),
    **_each("Sum", shape.total, _T.REDUCES, _T.ADDS, gaps=_UNTESTED),
    **_each("Max Min Amax Amin", shape.reduction, _T.REDUCES, _T.PICKS, gaps=_UNTESTED),
    **_each("Resize", elementwise.spatial, _T.RESAMPLES, gaps=_RESIZES),
    **_each("Concatenate", merge.concatenate, *_MOVED, gaps=_UNTESTED),
    **_each("Stack", merge.stack, *_MOVED, gaps=_UNTESTED),
    **_each("Reshape", partial(shape.reshape, size="newshape"), *_RESHAPED, gaps=_UNTESTED),
    **_each("ExpandDims", shape.expand_dims, *_RESHAPED, gaps=_UNTESTED),
    **_each("Squeeze", shape.squeeze, *_RESHAPED, gaps=_UNTESTED),
    **_each("Transpose", shape.transpose, *_REARRANGED, gaps=_UNTESTED),
    **_each("Swapaxes", shape.swap_axes, *_REARRANGED, gaps=_UNTESTED),
    **_each("Moveaxis", shape.move_axes, *_REARRANGED, gaps=_UNTESTED),
    **_each("Flip Roll", shape.flip, *_REARRANGED, gaps=_UNTESTED),
    **_each("Repeat", shape.flip, *_MOVED, gaps=_UNTESTED),
    **_each("Pad", shape.pad, _T.MOVES, gaps=_UNTESTED),
    **_each("GetItem", shape.get_item, *_MOVED, gaps=_UNTESTED),
    **_each(
        "Split",
        shape.split,
        _T.MOVES,
        gaps={"LRP": "no LRP rule for several outputs; take slices", **_UNTESTED},
    ),
}

LAYER_TYPES: Mapping[str, LayerType] = {
    **_LAYERS,
    **{f"ops.{name}": known for name, known in _OPERATIONS.items()},
}


def types_with(*traits: Trait) -> tuple[str, ...]:
    """The layer types that have any of the traits, in the order of the table."""
    return tuple(name for name, known in LAYER_TYPES.items() if not known.traits.isdisjoint(traits))


def is_of_keras(layer: LayerSpec) -> bool:
    """Whether the class of a layer is Keras' own: a user's class can have the same name."""
    return layer.source is None or is_of_a_library(layer.source)


def is_kin_of_keras(layer: LayerSpec) -> bool:
    """Whether a layer is of a Keras class or of a sub-class of one, `Layer` itself not included.

    Then its config entry `activation` is taken for the function that it ends with.
    """
    bases = [base.__name__ for base in type(layer.source).__mro__ if is_of_a_library(base)]
    return is_of_keras(layer) or bases[:1] not in ([], ["Layer"])


def has(layer: LayerSpec, *traits: Trait) -> bool:
    """Whether a layer has any of the traits; a layer of a user's own class has none here."""
    known = LAYER_TYPES.get(layer.class_name)
    return known is not None and is_of_keras(layer) and not known.traits.isdisjoint(traits)


def is_identity(layer: LayerSpec) -> bool:
    """Whether a layer returns what it reads at inference, but for the precision of floats."""
    if layer.class_name == "Activation":
        return layer.config.get("activation") == "linear"
    if layer.class_name == "ops.Cast":
        return "float" in str(layer.config.get("dtype"))
    return has(layer, Trait.IDENTITY)
