"""Whether the channel rules that a user registered are right: a trial, before any work.

The rules of Keras' own layers are tested with the package; those of a user's layers are tried on
the model at hand: half of the channels of each group are masked in one copy, and left out of
another.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from keras_lrp_prune.graph.channels import ChannelStructure
from keras_lrp_prune.graph.layer_registry import CHANNEL_RULES
from keras_lrp_prune.graph.model_graph import ModelGraph, UnsupportedModelError
from keras_lrp_prune.prunables.channel_mask import ChannelMask
from keras_lrp_prune.surgery.builder import build
from keras_lrp_prune.surgery.fidelity import largest_difference
from keras_lrp_prune.surgery.kept import Kept, kept_without


def check_own_rules(
    graph: ModelGraph, structure: ChannelStructure, x: np.ndarray, keras: ModuleType
) -> None:
    """Refuses a model in which masked and removed channels do not come to the same.

    Only models with layers of registered classes pay: two copies, and a forward pass of each.

    Args:
        graph: The model, flat.
        structure: Its channel structure.
        x: A few samples.
        keras: The module of the model.

    Raises:
        UnsupportedModelError: Naming the layers whose rules were registered.
    """
    own = [
        f"{name!r} ({layer.class_name})"
        for name, layer in graph.layers.items()
        if type(layer.source) in CHANNEL_RULES.own
    ]
    if not own:
        return
    removed = np.zeros(structure.n_units, bool)
    for group in structure.groups:
        removed[group.units[1::2]] = True
    masked = build(graph, Kept(), keras)
    names = {name: layer.weights for name, layer in graph.layers.items()}
    ChannelMask(structure, masked.layers, names).set(removed)
    rebuilt = build(graph, kept_without(structure, removed), keras)
    difference = largest_difference(masked.model, rebuilt.model, x, keras)
    if difference is not None:
        raise UnsupportedModelError(
            f"Model {graph.name!r} cannot be pruned by the channel rules that were registered: "
            "with half of the channels masked it gives other outputs than rebuilt without them, by "
            f"up to {difference:.3g} on {len(x)} samples. See to the rules of {', '.join(own)}: "
            "vanishes must be False for channels that are not zero when what they are made of is "
            'zero (as behind x + 1), and what reads those has the role "unread"; channels that a '
            "layer mixes must be protected (flow.protect), or read by a weight."
        )
