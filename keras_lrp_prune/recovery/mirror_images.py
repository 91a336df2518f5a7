"""Images and their mirror images: twice the samples, for tasks that hardly tell them apart."""

from __future__ import annotations

import numpy as np

from keras_lrp_prune.graph.model_graph import ModelGraph


def with_mirror_images(graph: ModelGraph, x: np.ndarray) -> np.ndarray:
    """Images and, behind them, their mirror images; other samples as they are.

    Args:
        graph: The model that reads them.
        x: Samples; images have the shape `(n, height, width, channels)`, or with the channels in
            front where layers of the model take them so.
    """
    if x.ndim != 4:
        return x
    formats = {layer.config.get("data_format") for layer in graph.layers.values()}
    width = 3 if "channels_first" in formats else 2
    return np.concatenate([x, np.flip(x, width)])
