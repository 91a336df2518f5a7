"""Building a model from a `ModelGraph`: the pruned model, and the legacy twin for LRP.

Nothing here imports Keras; the module to build with is an argument.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np

from keras_lrp_prune.graph.generations import generation, weights_of
from keras_lrp_prune.graph.layer_registry import CHANNEL_RULES
from keras_lrp_prune.graph.model_graph import (
    LayerNames,
    LayerSpec,
    ModelGraph,
    Node,
    TensorRef,
    UnsupportedModelError,
    flatten,
    map_references,
)
from keras_lrp_prune.surgery.kept import Kept
from keras_lrp_prune.surgery.layer_copies import cut_initializer, make_layer
from keras_lrp_prune.surgery.settings import (
    compile_like,
    same_flags,
    same_policy,
    warn_of_own_class,
)


@dataclass(frozen=True)
class Built:
    """A model just built; its layers, and its tensors outside nested models, by graph name."""

    model: Any
    layers: dict[str, Any]
    tensors: dict[TensorRef, Any]


def rebuild(graph: ModelGraph, kept: Kept, keras_module: ModuleType) -> Any:
    """Builds a plain model from a graph, without what `kept` leaves out.

    Args:
        graph: The model as data. Nested models stay nested.
        kept: What is left of each layer; `Kept()` builds the whole model.
        keras_module: `keras` (3), or `tf_keras` for a legacy model.

    Returns:
        A functional or Sequential model of that Keras generation, with the weights set, and
        compiled as the model that was read; the optimizer's slot variables start anew.

    Raises:
        UnsupportedModelError: For a layer that cannot be remade from its config.
    """
    model = build(graph, kept, keras_module).model
    if generation(graph.source) == keras_module.__name__:
        warn_of_own_class(graph.source, model)
        compile_like(graph.source, model, keras_module)
    return model


def build(graph: ModelGraph, kept: Kept, keras_module: ModuleType) -> Built:
    """Like `rebuild`, not compiled; also returns layers and tensors by their names in the graph."""
    builder = _Builder(kept, keras_module)
    tensors: dict[TensorRef, Any] = {}
    with builder.quick_start():
        model = builder.model(graph, "", tensors)
    for path, layer in builder.layers.items():
        if isinstance(layer, keras_module.layers.Layer) and not isinstance(
            layer, keras_module.Model
        ):
            _set_state(layer, builder.specs[path], kept)
    # Nested models come behind their layers: from the outside in, inner flags win.
    pairs = [(spec.source, builder.layers[path]) for path, spec in builder.specs.items()]
    for source, copy in [(graph.source, model), *reversed(pairs)]:
        if generation(source) == keras_module.__name__:
            same_flags(source, copy, keras_module)
    return Built(model, builder.layers, tensors)


@dataclass
class _Builder:
    """Makes the layers of a model and those nested in it, each once, and calls them.

    Args:
        kept: What is left of each layer.
        keras: The module to build with.
        layers, specs: Each layer made (a nested model behind its layers) and what it was made
            of, by its name in the flat graph.
    """

    kept: Kept
    keras: ModuleType
    layers: dict[str, Any] = field(default_factory=dict)
    specs: dict[str, LayerSpec] = field(default_factory=dict)
    _names: LayerNames = field(default_factory=LayerNames)
    _initializers: list[tuple[str, Any, str, Any]] = field(default_factory=list)

    def model(self, graph: ModelGraph, prefix: str, tensors: dict[TensorRef, Any]) -> Any:
        """One model; fills `tensors`."""
        sequence = []
        taken: set[str] = set()
        for node in graph.nodes:
            path = self._names.name(node.layer, prefix)
            layer = self._layer(node, path, taken)
            if graph.class_name == "Sequential":
                # Operations are left out: casts, which older versions of Keras add again.
                sequence += [layer] if isinstance(layer, self.keras.layers.Layer) else []
            else:
                outputs = self._call(node, path, layer, tensors)
                for index, tensor in enumerate(flatten(outputs)):
                    tensors[TensorRef(node.name, index)] = tensor
        if graph.class_name == "Sequential":
            model = self.keras.Sequential(sequence, name=graph.name)
        else:
            inputs, outputs = (
                map_references(tensors.__getitem__, structure)
                for structure in (graph.inputs, graph.outputs)
            )
            model = self.keras.Model(inputs, outputs, name=graph.name)
        if generation(graph.source) == self.keras.__name__:
            same_policy(graph.source, model, self.keras)
        return model

    @contextmanager
    def quick_start(self) -> Iterator[None]:
        """Inside, weights start as zeros: random values cost time, and are replaced at once."""
        try:
            yield
        finally:
            for path, layer, name, initializer in self._initializers:
                cuts = self.kept.positions.get(path, {}).get(name.removesuffix("_initializer"), {})
                vars(layer)[name] = cut_initializer(initializer, cuts, self.keras)

    def _layer(self, node: Node, path: str, taken: set[str]) -> Any:
        if path not in self.layers:
            spec = replace(node.layer, name=path)
            if node.inner is not None:
                self.layers[path] = self.model(node.inner, f"{path}/", {})
            else:
                name = _keras_name(node.layer.name, taken)
                taken.add(name)
                self.layers[path] = make_layer(spec, name, self.kept.config(spec), self.keras)
                self._start_as_zeros(path, self.layers[path])
            self.specs[path] = spec
        return self.layers[path]

    def _call(self, node: Node, path: str, layer: Any, tensors: dict[TensorRef, Any]) -> Any:
        if node.is_input:
            return layer.output
        args, kwargs = self.kept.call(path, node.args, dict(node.kwargs))
        return layer(
            *map_references(tensors.__getitem__, args),
            **map_references(tensors.__getitem__, kwargs),
        )

    def _start_as_zeros(self, path: str, layer: Any) -> None:
        if not isinstance(layer, self.keras.layers.Layer):
            return
        for part in layer._flatten_layers():
            if type(part).__module__.split(".")[0] != self.keras.__name__:
                continue
            for name, value in list(vars(part).items()):
                if name.endswith("_initializer") and not name.startswith("_") and value is not None:
                    self._initializers.append((path, part, name, value))
                    vars(part)[name] = self.keras.initializers.Zeros()


def _keras_name(name: str, taken: Collection[str]) -> str:
    """A unique name without slashes, which Keras does not allow but layers of flat graphs have."""
    name = name.replace("/", "__")
    while name in taken:
        name += "_"
    return name


def _set_state(layer: Any, spec: LayerSpec, kept: Kept) -> None:
    """Gives a layer the weights and the other variables of the one that it is a copy of."""
    alike = generation(spec.source) == generation(layer)
    values = kept.values(spec, _taken) if alike else kept.arrays(spec)
    _check_shapes(spec, weights_of(layer), values, whole=not (kept.positions or kept.sizes))
    if alike:
        # A variable that is assigned as it is shares its memory until one of the two changes.
        for variable, value in zip(weights_of(layer), values, strict=True):
            variable.assign(value)
        for variable, value in zip(_not_weights(layer), _not_weights(spec.source), strict=False):
            variable.assign(value)
    else:
        layer.set_weights(values)  # also works in a session, as the worker has one
    if alike and hasattr(layer, "load_assets"):  # vocabularies
        with tempfile.TemporaryDirectory() as folder:
            spec.source.save_assets(folder)
            layer.load_assets(folder)
    if hasattr(layer, "finalize_state"):  # preprocessing layers compute from their weights
        layer.finalize_state()


def _taken(variable: Any, indices: np.ndarray, axis: int) -> Any:
    """Like `np.take`, but as a tensor: assigning an array would copy it twice."""
    # Not at the top: the worker sets up TensorFlow before it is imported.
    import tensorflow as tf

    return tf.gather(tf.convert_to_tensor(variable), indices, axis=axis)


def _check_shapes(spec: LayerSpec, variables: list[Any], values: list[Any], *, whole: bool) -> None:
    """Refuses a layer that is made with other weights than those it is to be given."""
    made, wanted = ([tuple(array.shape) for array in arrays] for arrays in (variables, values))
    if made == wanted:
        return
    if whole or type(spec.source) not in CHANNEL_RULES.own:
        raise UnsupportedModelError(
            f"Layer {spec.name!r} ({spec.class_name}) has other weights when it is remade from "
            f"its config: shapes {made}, not {wanted}. {spec.class_name}.get_config() must return "
            "every argument of the constructor, and build() must make the same weights from them; "
            "an activation with weights (PReLU) must be a layer of its own."
        )
    differ = [
        f"{name} is made as {shape}, but cut to {cut}"
        for name, shape, cut in zip(spec.weights, made, wanted, strict=False)
        if shape != cut
    ]
    raise UnsupportedModelError(
        f"The channel rule for layer {spec.name!r} ({spec.class_name}) does not say all that goes "
        f"with its channels. Rebuilt without some: {'; '.join(differ)}. The rule must name each "
        "axis of a weight that holds channels (flow.weight), and each number of the config that "
        "counts them (call.size)."
    )


def _not_weights(layer: Any) -> list[Any]:
    """Variables of a layer beside its weights, such as the states of random generators."""
    weights = {id(variable) for variable in layer.weights}
    return [v for v in getattr(layer, "variables", ()) if id(v) not in weights]
