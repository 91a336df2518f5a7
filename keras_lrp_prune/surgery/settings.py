"""Settings that a rebuilt model takes over: trainable flags, dtype policy, how it was compiled."""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

from keras_lrp_prune.callers import outside
from keras_lrp_prune.graph.generations import generation
from keras_lrp_prune.graph.model_graph import ModelGraph
from keras_lrp_prune.surgery.layer_copies import custom_objects

_OPTIONS = ("loss", "loss_weights", "run_eagerly", "steps_per_execution", "jit_compile")
_METRICS = ("metrics", "weighted_metrics")


def same_flags(source: Any, copy: Any, keras: ModuleType) -> None:
    """Gives a layer or model the trainable flags of another, and those of layers in it.

    Args:
        source: A live layer, operation or model.
        copy: One like it. Setting the flag of a model sets those of all its layers, so that theirs
            have to be set after it.
        keras: The module of both.
    """
    if not isinstance(source, keras.layers.Layer):
        return
    pairs = [(source, copy)]
    if not isinstance(source, keras.Model):
        parts = source._flatten_layers(), copy._flatten_layers()
        pairs = list(zip(*parts, strict=False))
        if keras.__name__ == "keras":  # there a weight can be frozen by itself
            pairs += zip(source.weights, copy.weights, strict=False)
    for old, new in pairs:
        if new.trainable != old.trainable:
            new.trainable = old.trainable


def same_weight_flags(source: ModelGraph, copy: ModelGraph) -> None:
    """Freezes the single weights that are frozen in another Keras 3 model; files do not store that.

    Args:
        source: A graph read from a live model.
        copy: One read from a model with layers of the same names.
    """
    copies = copy.flat().layers
    for name, layer in source.flat().layers.items():
        for key, weight in layer.weights.items():
            if copies[name].weights[key].trainable != weight.trainable:
                copies[name].weights[key].trainable = weight.trainable


def same_policy(source: Any, model: Any, keras: ModuleType) -> None:
    """Gives a model the dtype policy of another; its layers have theirs."""
    policy = source.dtype_policy
    if policy.name == model.dtype_policy.name:
        return
    if keras.__name__ == "keras":
        model.dtype_policy = policy
    else:
        model._set_dtype_policy(policy)


def warn_of_own_class(source: Any, model: Any) -> None:
    """Warns if a model of the user's own class comes back as a plain one."""
    cls = type(source)
    if cls.__module__.split(".")[0] != generation(source):
        warnings.warn(
            f"Model {source.name!r} is a {cls.__qualname__}; the new one is a plain "
            f"{type(model).__name__} model, without a train_step or other methods of its own.",
            stacklevel=outside(),
        )


def compile_like(source: Any, model: Any, keras: ModuleType) -> None:
    """Compiles a model as another one is; the optimizer's slot variables start anew.

    Losses are shared, the optimizer and metrics are copies. What cannot be copied leaves the
    model without compilation, with a warning.

    Args:
        source: A live model, compiled or not.
        model: The model to compile.
        keras: The module of both.
    """
    given = getattr(getattr(source, "_compile_config", None), "config", None)
    compiled = getattr(source, "compiled" if keras.__name__ == "keras" else "_is_compiled")
    if given is None or not compiled:
        return
    try:
        options = {key: given[key] for key in _OPTIONS if given.get(key) is not None}
        for key in _METRICS:
            options[key] = _copied_metrics(given.get(key), keras)
        if keras.__name__ == "keras":
            options["auto_scale_loss"] = False  # the copied optimizer scales the loss if it must
        optimizer = source.optimizer and _copied(source.optimizer, keras)
        model.compile(optimizer=optimizer, **options)
    except Exception as error:
        warnings.warn(
            f"Model {source.name!r} is compiled with something that cannot be copied: {error} "
            "Call compile() on the new model yourself.",
            stacklevel=outside(),
        )


def _copied_metrics(structure: Any, keras: ModuleType) -> Any:
    """The same lists and dicts with copies of metrics, which have state."""
    if isinstance(structure, dict):
        return {key: _copied_metrics(value, keras) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        return [_copied_metrics(value, keras) for value in structure]
    return _copied(structure, keras) if isinstance(structure, keras.metrics.Metric) else structure


def _copied(thing: Any, keras: ModuleType) -> Any:
    with keras.utils.custom_object_scope(custom_objects([thing], keras)):
        return type(thing).from_config(thing.get_config())
