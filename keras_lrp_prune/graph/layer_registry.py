"""What users register for layer types of their own, beside the tables of Keras' layers.

Each table of functions by layer type (channel rules here, FLOPs in `cost`, LRP in `relevance`) is
a `Registry`: it finds the function for a layer, a registered one first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

from keras_lrp_prune.graph.channel_rules.calls import ChannelRule, is_of_a_library
from keras_lrp_prune.graph.layer_types import LAYER_TYPES, is_of_keras
from keras_lrp_prune.graph.model_graph import LayerSpec

Known = TypeVar("Known")


class Registry(Generic[Known]):
    """A table by layer type, to which users can add layer types of their own.

    Args:
        table: Name of a Keras layer type to what is known of it, mostly a function.
        register: Name of the public function that registers, for messages.
        what: What the table holds for a layer type, such as "a channel rule", for messages.
        instead: Advice for users who try to change a Keras layer type, for messages.
        incomplete: Keras layer types that the table has for some of their uses alone, so that users
            may register them: a softmax has LRP at the output, and none within a model.

    Attributes:
        own: Layer class of the user's own to what is known of it.
    """

    def __init__(
        self,
        table: Mapping[str, Known],
        register: str,
        what: str,
        *,
        instead: str = "",
        incomplete: Collection[str] = (),
    ) -> None:
        self.table = table
        self.own: dict[type, Known] = {}
        self._register = register
        self._what = what
        self._instead = instead
        self._incomplete = incomplete

    def add(self, layer_class: type, function: Known | type) -> None:
        """Registers a function, or that of a Keras layer class.

        Raises:
            TypeError: If `layer_class` is not a class, or one of Keras' own that the table has; or
                if `function` is neither a function nor a layer class of Keras' own that it has.
        """
        kept = isinstance(layer_class, type) and self._has(layer_class)
        if kept and layer_class.__name__ not in self._incomplete:
            raise TypeError(
                f"{self._register} takes layer classes of your own; {layer_class.__name__} is one "
                f"of Keras', and has {self._what}. Register a sub-class.{self._instead}"
            )
        known: Any = function
        if isinstance(function, type):
            known = self.table[function.__name__] if self._has(function) else None
        if not isinstance(layer_class, type) or not (callable(known) or isinstance(function, type)):
            known = None
        if known is None:
            raise TypeError(
                f"{self._register} takes a layer class, and a function or a Keras layer class that "
                f"has {self._what}."
            )
        self.own[layer_class] = known

    def _has(self, layer_class: type) -> bool:
        """Whether a class is one of Keras' own that the table knows something of."""
        name = layer_class.__name__
        return is_of_a_library(layer_class) and self.table.get(name) is not None

    def of(self, layer: LayerSpec) -> Known | None:
        """What is known of a layer: what was registered for its class, else what the table has.

        `None` if there is neither. A user's class is not looked up in the table by its name.
        """
        if type(layer.source) in self.own:
            return self.own[type(layer.source)]
        return self.table.get(layer.class_name) if is_of_keras(layer) else None


CHANNEL_RULES: Registry[ChannelRule] = Registry(
    {name: known.channel_rule for name, known in LAYER_TYPES.items()},
    "register_layer_rule",
    "a channel rule",
)


def register_layer_rule(layer_class: type, rule: ChannelRule | type) -> None:
    """Says how a layer type of your own passes channels on: gives it a channel rule.

    It replaces one that was registered for the class before.

    Args:
        layer_class: The layer's class; sub-classes need a rule of their own. It can be one of
            Keras' that has none, such as `Masking`.
        rule: `rule(call, flow)` returns the `Channels` of the output (a list of them for several
            outputs), see `keras_lrp_prune.graph.channel_rules`. A layer that works on each element
            by itself and maps zero to zero returns `call.inputs[0]`. Or a Keras layer class, whose
            rule the layer then has.

    Raises:
        TypeError: If `layer_class` is not a class, or one of Keras' own that has a rule; or if
            `rule` is neither a function nor a layer class that has one.

    Example:
    >>> class Halve(keras.layers.Layer):
    ...     def call(self, x):
    ...         return x / 2
    >>> class MyConv2D(keras.layers.Conv2D):
    ...     pass
    >>> klp.register_layer_rule(Halve, lambda call, flow: call.inputs[0])
    >>> klp.register_layer_rule(MyConv2D, keras.layers.Conv2D)
    """
    CHANNEL_RULES.add(layer_class, rule)


def as_registered(layer: LayerSpec) -> LayerSpec:
    """A layer of a user's class that was registered with the rule of its Keras base class.

    It is returned as a layer of that base class; any other layer is returned as it is.
    """
    rule = CHANNEL_RULES.own.get(type(layer.source))
    for base in type(layer.source).__mro__ if rule is not None else ():
        known = LAYER_TYPES.get(base.__name__)
        if is_of_a_library(base) and known is not None and known.channel_rule is rule:
            return replace(layer, class_name=base.__name__, source=None)
    return layer
