"""How relevance passes through layer types of the user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from keras_lrp_prune.graph.layer_registry import Registry
from keras_lrp_prune.graph.layer_types import LAYER_TYPES, Trait, is_of_keras, types_with
from keras_lrp_prune.graph.model_graph import LayerSpec, ModelGraph

if TYPE_CHECKING:
    from keras_lrp_prune.relevance.native.layers import Visit

Backward = Callable[["Visit"], Sequence[Any]]

# A user's layer type has a function here, or the name of the Keras layer type through which
# relevance passes in the same way; a Keras layer type has its own name. Softmax is included: it is
# taken off at the output.
LAYER_LRP: Registry[Backward | str] = Registry(
    {
        name: name
        for name, known in LAYER_TYPES.items()
        if "LRP" not in known.gaps or Trait.SOFTMAX in known.traits
    },
    "register_layer_lrp",
    "an LRP rule",
    instead=" For other rules of layers with a kernel, take a Composite.",
    incomplete=types_with(Trait.SOFTMAX),
)


def register_layer_lrp(layer_class: type, backward: Backward | type) -> None:
    """Says how relevance passes through a layer type of your own: gives it an LRP rule.

    With a function, LRP through such layers is for the native engine, which `engine="auto"` takes
    then. The layer needs a channel rule too (`register_layer_rule`), or what it reads is protected.

    Args:
        layer_class: The layer's class; sub-classes need a rule of their own.
        backward: `backward(visit)` returns the relevance of each input, given that of the output,
            see `keras_lrp_prune.relevance.native.layers`, which has functions for most cases:
            `as_it_is` for a layer that works on each element by itself, `by_contribution` for one
            that is linear and has no bias. Or a Keras layer class, for a layer that computes the
            same as that one from the same weights and arguments.

    Raises:
        TypeError: If `layer_class` is not a class, or one of Keras' own that LRP has a rule for;
            or if `backward` is neither a function nor a layer class that LRP has a rule for.

    Example:
    >>> from keras_lrp_prune.relevance.native.layers import as_it_is
    >>> class Halve(keras.layers.Layer):
    ...     def call(self, x):
    ...         return x / 2
    >>> class MyConv2D(keras.layers.Conv2D):
    ...     pass
    >>> klp.register_layer_lrp(Halve, as_it_is)
    >>> klp.register_layer_lrp(MyConv2D, keras.layers.Conv2D)
    """
    LAYER_LRP.add(layer_class, backward)


def has_own_function(layer: LayerSpec) -> bool:
    """Whether a function was registered for the type of a layer."""
    return callable(LAYER_LRP.of(layer))


def as_keras_layers(graph: ModelGraph) -> ModelGraph:
    """Puts Keras layers in the place of users' layers that were registered with their classes.

    Args:
        graph: A flat graph.
    """
    alike = {
        layer.name: _keras_layer(layer, known)
        for layer in graph.layers.values()
        if isinstance(known := LAYER_LRP.of(layer), str) and not is_of_keras(layer)
    }
    if not alike:
        return graph
    nodes = (replace(node, layer=alike.get(node.layer.name, node.layer)) for node in graph.nodes)
    return replace(graph, nodes=tuple(nodes))


def _keras_layer(layer: LayerSpec, class_name: str) -> LayerSpec:
    """A layer of that type, with what its constructor takes of the config.

    Raises:
        TypeError: If the config lacks an argument that the constructor needs.
    """
    import keras

    taken = inspect.signature(getattr(keras.layers, class_name).__init__).parameters
    missing = [
        key
        for key, argument in taken.items()
        if argument.default is argument.empty
        and argument.kind is argument.POSITIONAL_OR_KEYWORD
        and key not in ("self", *layer.config)
    ]
    if missing:
        raise TypeError(
            f"Layer {layer.name!r} ({layer.class_name}) was registered to be as {class_name} for "
            f"LRP, but its get_config() lacks what that one's constructor takes "
            f"({', '.join(missing)}). Add it, or give register_layer_lrp a function."
        )
    config: Mapping[str, Any] = {
        key: value
        for key, value in layer.config.items()
        if key in taken or key in ("name", "trainable", "dtype")
    }
    return replace(layer, class_name=class_name, config=config, source=None)
