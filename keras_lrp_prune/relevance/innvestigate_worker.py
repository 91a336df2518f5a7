"""The worker process: iNNvestigate on the legacy-Keras twin of a canonical graph.

iNNvestigate needs TensorFlow's graph mode, which would break every eager legacy-Keras model of
the user's process. So it runs here, with `TF_USE_LEGACY_KERAS=1`, answering messages on its
standard input until that closes.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np

from keras_lrp_prune.graph.model_graph import ModelGraph
from keras_lrp_prune.graph.plain import from_plain
from keras_lrp_prune.relevance.wire import ConnectionLost, receive, send

_APART = "model/"
Reply = tuple[dict[str, Any], dict[str, np.ndarray]]


class Twin:
    """The legacy twin of a graph and iNNvestigate's analyzer on it.

    Args:
        graph: A canonical graph with one input and one `(batch, n)` output.
        analyzer: Name of an iNNvestigate analyzer.
        options: Its keyword arguments.
        layers: Layers whose output relevance is asked for.
    """

    def __init__(
        self, graph: ModelGraph, analyzer: str, options: Mapping[str, Any], layers: list[str]
    ) -> None:
        import tensorflow as tf
        import tf_keras

        # The same sums in the same order each time: an interrupted run resumes identically.
        tf.config.experimental.enable_op_determinism()
        tf.compat.v1.disable_eager_execution()
        from innvestigate.analyzer import create_analyzer

        from keras_lrp_prune.surgery.builder import build
        from keras_lrp_prune.surgery.kept import Kept

        twin = build(_apart(graph), Kept(), tf_keras)
        self._layers = {name.removeprefix(_APART): it for name, it in twin.layers.items()}
        self._weights = {name: layer.get_weights() for name, layer in self._layers.items()}
        self._kept: dict[str, np.ndarray] = {}
        self._axis = {
            name: -2 if type(layer).__name__ == "DepthwiseConv2D" else -1
            for name, layer in self._layers.items()
        }
        self._names = layers
        keywords = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in options.items()
        }
        tool = create_analyzer(
            analyzer,
            twin.model,
            neuron_selection_mode="index",
            disable_model_checks=True,
            **keywords,
        )
        relevances = _keep_relevances(tool)
        with _constants_unevaluated():
            tool.create_analyzer_model()

        def over_space(tensor: Any) -> Any:
            axes = list(range(1, len(tensor.shape) - 1))
            return tf.reduce_sum(tensor, axes) if axes else tensor

        tensors = [relevances[id(self._layers[name].output)]["final_tensor"] for name in layers]
        sums = [tf_keras.layers.Lambda(over_space)(tensor) for tensor in tensors]
        feeds = tool._analyzer_model.inputs
        self._per_filter = tf_keras.Model(feeds, [*twin.model.outputs, *sums])
        self._per_input = tool._analyzer_model
        self._scores = twin.model

    def mask(self, news: Mapping[str, np.ndarray]) -> Reply:
        """Zeroes the channels that layers make or read and that are not kept.

        Args:
            news: `"made:LAYER"` or `"read:LAYER"` to what is kept, bool, shape `(channels,)`;
                what is not mentioned stays as it is.
        """
        self._kept |= news
        for name in {key.partition(":")[2] for key in news}:
            self._assign(name)
        return {}, {}

    def set_weights(self, layer: str, weights: Mapping[str, np.ndarray]) -> Reply:
        """Gives a layer other weights, in the order of its own; masks on it stay."""
        self._weights[layer] = list(weights.values())
        self._assign(layer)
        return {}, {}

    def _assign(self, name: str) -> None:
        """Gives a layer its weights, what is masked of them as zeros."""
        weights = [array.copy() for array in self._weights[name]]
        kernel = weights[0]
        made, read = (self._kept.get(f"{kind}:{name}") for kind in ("made", "read"))
        if made is not None:
            kernel *= made.reshape(kernel.shape[-2:]) if self._axis[name] == -2 else made
            if len(weights) > 1:
                weights[1] *= made
        if read is not None:
            kernel *= read[:, None]
        self._layers[name].set_weights(weights)

    def filter_relevance(self, x: np.ndarray, y: np.ndarray) -> Reply:
        """Relevance of each layer's output for class `y`, summed over space, sample by sample.

        The reply also has `"the outputs"` of the graph, from the same forward pass.
        """
        found = self._per_filter.predict_on_batch([x, _selection(y)])
        return {}, dict(zip(("the outputs", *self._names), found, strict=True))

    def input_relevance(self, x: np.ndarray, y: np.ndarray) -> Reply:
        """Relevance of the input for output `y` of each sample (-1: its highest), like `x`."""
        highest = self._scores.predict_on_batch(x).argmax(-1)
        chosen = np.where(y < 0, highest, y)
        relevance = self._per_input.predict_on_batch([x, _selection(chosen)])
        return {}, {"relevance": np.asarray(relevance)}


@dataclass
class State:
    """The state of the worker.

    Args:
        twin: The twin of the model that was given last.
        unused_since: Since when it has had no model and no request; `None` while it is in use.
    """

    twin: Twin | None = None
    unused_since: float | None = None

    @property
    def now(self) -> Twin:
        """The twin of the model that requests are for."""
        if self.twin is None:
            raise ValueError("no model was given")
        return self.twin


def _apart(graph: ModelGraph) -> ModelGraph:
    """The graph, layer names prefixed: iNNvestigate has layers called `"add"` and the like."""
    return replace(
        graph,
        nodes=tuple(
            replace(node, layer=replace(node.layer, name=_APART + node.layer.name))
            for node in graph.nodes
        ),
    )


def _selection(y: np.ndarray) -> np.ndarray:
    """INNvestigate selects output neurons by (position in the batch, neuron) pairs."""
    return np.stack([np.arange(len(y)), y], -1).astype(np.int32)


def _keep_relevances(tool: Any) -> dict[int, dict[str, Any]]:
    """Makes the analyzer hand over the relevance of every tensor, by the tensor's id."""
    kept: dict[int, dict[str, Any]] = {}
    reverse_model = tool._reverse_model

    def keeping(
        model: Any, stop_analysis_at_tensors: Any = None, return_all_reversed_tensors: bool = False
    ) -> Any:
        relevance, tensors = reverse_model(
            model, stop_analysis_at_tensors, return_all_reversed_tensors=True
        )
        kept.update(tensors)
        return relevance, None

    tool._reverse_model = keeping
    return kept


@contextlib.contextmanager
def _constants_unevaluated() -> Iterator[None]:
    """Spares a session call for each plain TensorFlow operation that the analyzer makes.

    Legacy Keras evaluates the constant inputs of such operations, to be able to repeat the
    operation in a copy of the model; nobody copies this one. For MobileNetV2 the calls are 80 % of
    the time that building the analyzer takes.
    """
    from tf_keras.src import backend

    function = backend.function

    def without_constants(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return function(inputs, *args, **kwargs) if inputs else lambda _: None

    backend.function = without_constants
    try:
        yield
    finally:
        backend.function = function


def _handle(message: dict[str, Any], arrays: dict[str, np.ndarray], state: State) -> Reply:
    """Does what one message asks for."""
    match message["do"]:
        case "versions":
            names = ("innvestigate", "tensorflow", "tf-keras")
            return {name: _version(name) for name in names}, {}
        case "forget":
            _forget(state)
            return {}, {}
        case "analyze":
            graph = from_plain(message["graph"], arrays)
            state.twin = Twin(graph, message["analyzer"], message["options"], message["layers"])
            return {}, {}
        case "mask":
            return state.now.mask(arrays)
        case "set_weights":
            return state.now.set_weights(message["layer"], arrays)
        case "filter_relevance":
            return state.now.filter_relevance(arrays["x"], arrays["y"])
        case "input_relevance":
            return state.now.input_relevance(arrays["x"], arrays["y"])
    raise ValueError(f"unknown request {message['do']!r}")


def _forget(state: State) -> None:
    """Frees the memory of the last model, also of one that could not be analysed."""
    state.twin = None
    if tf_keras := sys.modules.get("tf_keras"):
        tf_keras.backend.clear_session()
        gc.collect()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _exit_when_useless(parent: int, unused_seconds: float, state: State) -> None:
    """Ends this process soon after its parent is gone, even in the middle of a computation.

    It also ends it when it has been unused for `unused_seconds`.
    """
    while os.getppid() == parent:
        since = state.unused_since
        if since is not None and time.monotonic() > since + unused_seconds:
            os._exit(0)
        time.sleep(0.5)
    os._exit(1)


def serve(requests: BinaryIO, replies: BinaryIO, state: State) -> None:
    """Answers messages until the parent closes the stream or is gone."""
    while True:
        try:
            message, arrays = receive(requests)
        except ConnectionLost:
            return
        state.unused_since = None
        try:
            reply, results = _handle(message, arrays, state)
        except Exception as error:  # everything goes to the parent, which raises it
            traceback.print_exc()
            reply, results = {"error": f"{type(error).__name__}: {error}"}, {}
        if state.twin is None:
            state.unused_since = time.monotonic()
        try:
            send(replies, reply, results)
        except ConnectionLost:
            return


def main() -> None:
    """Runs the worker on standard input and output."""
    parent, unused_seconds = map(int, sys.argv[-2:])
    state = State()
    watch = (parent, unused_seconds, state)
    threading.Thread(target=_exit_when_useless, args=watch, daemon=True).start()
    # Libraries print; the reply stream must carry replies only.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, replies, state)
