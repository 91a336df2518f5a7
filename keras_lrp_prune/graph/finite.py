"""Whether the weights of a model are finite numbers."""

from __future__ import annotations

import numpy as np

from keras_lrp_prune.graph.model_graph import ModelGraph, UnsupportedModelError


def not_finite(graph: ModelGraph) -> str:
    """Names the first weight that holds NaN or infinity, `layer/weight`; empty if none does.

    The outputs need not show it: ReLU turns NaN into zero. The scores of filters would be NaN.
    """
    for layer in graph.flat().layers.values():
        for name, array in layer.arrays().items():
            if array.dtype.kind not in "iub" and not np.isfinite(array).all():
                return f"{layer.name}/{name}"
    return ""


def check_finite(graph: ModelGraph) -> None:
    """Refuses a model whose weights are not finite.

    Raises:
        UnsupportedModelError: It names the weight.
    """
    if bad := not_finite(graph):
        raise UnsupportedModelError(
            f"Model {graph.name!r} has NaN or infinite numbers in {bad}; what it scores means "
            "nothing. Load weights from before training diverged."
        )
