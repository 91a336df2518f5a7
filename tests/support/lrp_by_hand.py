"""LRP by its formulas, layer by layer in eager Keras 3: what the engine is compared with."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_lrp_prune.graph.model_graph import ModelGraph, TensorRef, references
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.relevance.canonical import canonize, strip_softmax
from keras_lrp_prune.surgery.builder import build
from keras_lrp_prune.surgery.kept import Kept

LINEAR = (
    *("Conv2D", "DepthwiseConv2D", "Dense", "Conv1D", "Conv3D", "DepthwiseConv1D"),
    *("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
)
SUMS = ("Add", "AveragePooling2D", "GlobalAveragePooling2D")


def relevances(
    graph: ModelGraph, x: np.ndarray, y: np.ndarray, rules: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Relevance of every node's output for output `y` of each sample.

    Args:
        graph: A canonical graph.
        x, y: Samples and the outputs to explain.
        rules: Layer type to rule, or `"first"` for a layer that reads the input: `("z",)`,
            `("epsilon", 0.1)`, `("alpha_beta", 2, 1)`, `("gamma", 0.25)`, `("flat",)` or
            `("w_square",)`.
    """
    built = build(graph, Kept(), keras)
    outputs = keras.Model(built.model.inputs[0], list(built.tensors.values()))
    values = dict(zip(built.tensors, outputs(x), strict=True))
    relevance = {ref: tf.zeros_like(value) for ref, value in values.items()}
    (output,) = references(graph.outputs)
    relevance[output] = values[output] * tf.one_hot(y, values[output].shape[-1])
    for node in reversed(graph.nodes):
        if node.is_input:
            continue
        layer, kind = built.layers[node.layer.name], node.layer.class_name
        inputs = [values[ref] for ref in node.inputs]
        passed = relevance[TensorRef(node.name)]
        if kind in LINEAR:
            first = any(graph.by_name[ref.node].is_input for ref in node.inputs)
            rule = rules.get("first") if first and "first" in rules else rules[kind]
            parts = [_linear(layer, inputs[0], passed, *rule)]
        elif kind == "Activation":
            parts = [passed]
        else:
            merged = inputs if len(inputs) > 1 else inputs[0]
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                output_values = layer(merged)
            share = passed / _nonzero(output_values) if kind in SUMS else passed
            parts = tape.gradient(output_values, inputs, share)
            if kind in SUMS:
                parts = [value * part for value, part in zip(inputs, parts, strict=True)]
        for ref, part in zip(node.inputs, parts, strict=True):
            relevance[ref] += part
    return {ref.node: value.numpy() for ref, value in relevance.items()}


def _linear(layer: Any, x: Any, passed: Any, rule: str, *parameters: float) -> Any:
    kernel, *bias = layer.weights
    bias = bias[0] if bias else None
    if rule == "z":
        return _shared(layer, [(x, kernel, bias)], passed)
    if rule == "epsilon":
        (epsilon,) = parameters
        stabilised = lambda z: z + tf.where(z >= 0, epsilon, -epsilon)  # noqa: E731
        return _shared(layer, [(x, kernel, bias)], passed, stabilised)
    if rule == "alpha_beta":
        alpha, beta = parameters
        up, down = (tf.nn.relu(x), -tf.nn.relu(-x)), (tf.nn.relu(kernel), -tf.nn.relu(-kernel))
        both = (None, None) if bias is None else (tf.nn.relu(bias), -tf.nn.relu(-bias))
        excites = [(up[0], down[0], both[0]), (up[1], down[1], both[1])]
        inhibits = [(up[0], down[1], both[1]), (up[1], down[0], both[0])]
        return alpha * _shared(layer, excites, passed) - beta * _shared(layer, inhibits, passed)
    if rule == "gamma":
        (gamma,) = parameters
        favoured = [None if w is None else w + gamma * tf.nn.relu(w) for w in (kernel, bias)]
        return _shared(layer, [(x, *favoured)], passed)
    weights = {"flat": tf.ones_like(kernel), "w_square": tf.square(kernel)}[rule]
    return _shared(layer, [(tf.ones_like(x), weights, None)], passed)


def _shared(layer: Any, terms: list[tuple[Any, Any, Any]], passed: Any, divisor: Any = None) -> Any:
    """Shares relevance among the inputs in proportion to the products of `terms`."""
    with tf.GradientTape() as tape:
        inputs = [x for x, _, _ in terms]
        tape.watch(inputs)
        z = tf.add_n([_apply(layer, *term) for term in terms])
    gradients = tape.gradient(z, inputs, passed / (divisor or _nonzero)(z))
    return tf.add_n([x * gradient for x, gradient in zip(inputs, gradients, strict=True)])


def _apply(layer: Any, x: Any, kernel: Any, bias: Any) -> Any:
    weights = [kernel]
    if layer.use_bias:
        weights.append(tf.zeros_like(layer.weights[1]) if bias is None else bias)
    return layer.stateless_call(weights, [], x)[0]


def _nonzero(z: Any) -> Any:
    return tf.where(z == 0, tf.ones_like(z), z)


Z = dict.fromkeys(LINEAR, ("z",))


def preset(alpha, beta, **first):
    convolutions = dict.fromkeys(("Conv2D", "DepthwiseConv2D"), ("alpha_beta", alpha, beta))
    return {**convolutions, "Dense": ("epsilon", 0.1), **first}


RULES = {
    "lrp.z": Z,
    "lrp.epsilon": dict.fromkeys(LINEAR, ("epsilon", 1e-7)),
    "lrp.flat": dict.fromkeys(LINEAR, ("flat",)),
    "lrp.w_square": dict.fromkeys(LINEAR, ("w_square",)),
    "lrp.alpha_1_beta_0": dict.fromkeys(LINEAR, ("alpha_beta", 1, 0)),
    "lrp.alpha_2_beta_1": dict.fromkeys(LINEAR, ("alpha_beta", 2, 1)),
    "lrp.z_plus": dict.fromkeys(LINEAR, ("alpha_beta", 1, 0)),
    "lrp.sequential_preset_a": preset(1, 0),
    "lrp.sequential_preset_b": preset(2, 1),
    "lrp.sequential_preset_a_flat": preset(1, 0, first=("flat",)),
    "lrp.sequential_preset_b_flat": preset(2, 1, first=("flat",)),
}


def mean_relevances(model, x, y, rules):
    """The mean relevance of each filter, and of the input."""
    values = relevances(strip_softmax(canonize(read_model(model))), x, y, rules)
    graph = read_model(model).flat()
    means = {}
    for node in graph.nodes:
        if node.layer.class_name in ("Conv2D", "Dense", "SeparableConv2D"):
            value = values[node.name]
            value = value.sum(tuple(range(1, value.ndim - 1))) if value.ndim > 2 else value
            means[node.layer.name] = np.stack([value[y == c].mean(0) for c in np.unique(y)])
    return means, values[graph.nodes[0].name]
