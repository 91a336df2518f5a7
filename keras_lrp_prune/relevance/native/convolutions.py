"""The way back through a convolution, as a convolution.

TensorFlow's gradient of a convolution by its input takes, on CPUs, up to fifty times as long as the
convolution itself, where images are small and channels are many. With strides of 1 that gradient is
a convolution too: of what comes back, with the kernel turned around.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_lrp_prune.graph.model_graph import LayerSpec

Tensor = Any
_CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D")


def is_turned(layer: LayerSpec) -> bool:
    """Whether the way back through a layer is a convolution with its kernel turned around."""
    config = layer.config
    if layer.class_name not in _CONVOLUTIONS or (config.get("groups") or 1) != 1:
        return False
    # Layers of the canonical graph that stand for a part of another one may leave these out.
    steps = (config.get(name, 1) for name in ("strides", "dilation_rate"))
    return all(np.all(np.equal(step, 1)) for step in steps)


def turned(passed: Tensor, kernel: Tensor, padding: str) -> Tensor:
    """The gradient by the input of a convolution with strides of 1.

    Args:
        passed: The gradient by its output, channels last.
        kernel: Its kernel, shape `(*size, channels, filters)`.
        padding: `"valid"`, `"same"` or `"causal"`.
    """
    size = kernel.shape[:-2]
    around = tf.linalg.matrix_transpose(tf.reverse(kernel, list(range(len(size)))))
    if padding == "same" and all(width % 2 for width in size):
        return tf.nn.convolution(passed, around, padding="SAME")
    before = {
        "valid": [0 for _ in size],
        "same": [(width - 1) // 2 for width in size],
        "causal": [width - 1 for width in size],
    }[padding]
    # What the layer put in front of its input is what is missing behind it on the way back.
    sides = [
        (width - 1 - front, front if padding != "valid" else width - 1)
        for width, front in zip(size, before, strict=True)
    ]
    return tf.nn.convolution(tf.pad(passed, [(0, 0), *sides, (0, 0)]), around, padding="VALID")
