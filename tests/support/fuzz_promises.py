"""What public functions promise of a valid call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from fuzz_models import Case, state_of

from keras_lrp_prune.graph.analysis import channel_structure
from keras_lrp_prune.graph.generations import keras_of
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.prunables.channel_mask import ChannelMask
from keras_lrp_prune.selection.limits import Limits
from keras_lrp_prune.selection.reach import largest_rate, rate_tolerance
from keras_lrp_prune.surgery.builder import build
from keras_lrp_prune.surgery.kept import Kept

Promise = Callable[[Any, Case, Mapping[str, Any]], None]


def nothing(result: Any, found: Case, values: Mapping[str, Any]) -> None:
    """No more than that the call succeeds."""


def _same_as_masked(model: Any, small: Any, gone: Mapping[str, np.ndarray]) -> None:
    """The small model computes what the large one does with those filters masked."""
    graph = read_model(model).flat()
    structure, library = channel_structure(graph), keras_of(model)
    removed = np.zeros(structure.n_units, bool)
    for layer, indices in gone.items():
        removed[structure.filter_units[layer][indices]] = True
    copy = build(graph, Kept(), library)
    names = {name: layer.weights for name, layer in graph.layers.items()}
    ChannelMask(structure, copy.layers, names).set(removed)
    dtype = tf.as_dtype(model.inputs[0].dtype).as_numpy_dtype
    x = np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype(dtype)
    masked, rebuilt = np.asarray(copy.model(x)), np.asarray(small(x))
    np.testing.assert_allclose(rebuilt, masked, rtol=1e-4, atol=1e-4)


def _deleted(small: Any, found: Case, values: Mapping[str, Any]) -> None:
    left = {layer.name.rpartition("/")[2]: layer for layer in small._flatten_layers()}
    kernel = left[found.filters.rpartition("/")[2]].kernel
    whole = {it.name: it for it in found.model._flatten_layers()}
    before = np.asarray(whole[found.filters.rpartition("/")[2]].kernel)
    gone = {
        layer: [i for i in range(8) if not _has(np.asarray(kernel), before[..., i])]
        for layer in values["channels"]
    }
    assert before.shape[-1] - kernel.shape[-1] == sum(map(len, gone.values()))
    _same_as_masked(found.model, small, {layer: np.array(it, int) for layer, it in gone.items()})


def _has(kernel: np.ndarray, column: np.ndarray) -> bool:
    return any(np.array_equal(kernel[..., i], column) for i in range(kernel.shape[-1]))


def _pruned_well(result: Any, found: Case, values: Mapping[str, Any]) -> None:
    structure = channel_structure(read_model(found.model).flat(), tuple(result.settings["protect"]))
    limits = Limits(result.settings["min_channels"], result.settings["round_to"])
    gone = {
        layer: np.setdiff1d(np.arange(len(units)), result.kept[layer])
        for layer, units in structure.filter_units.items()
    }
    if values["recovery"] is None:
        _same_as_masked(found.model, result.model, gone)
    if result.stopped == "target rate reached":
        rate = min(result.settings["target_rate"], largest_rate(structure, limits))
        assert abs(result.rate - rate) <= rate_tolerance(structure, limits) + 1e-9
    assert result.model(found.samples()[0]).shape == found.model(found.samples()[0]).shape
    result.summary()


def _finite(result: Mapping[str, np.ndarray] | np.ndarray, found: Case, values: Any) -> None:
    arrays = [result] if isinstance(result, np.ndarray) else list(result.values())
    assert arrays and all(np.isfinite(array).all() and array.size for array in arrays)


def _masked_after_training(pruning: Any, found: Case, values: Any) -> None:
    np.testing.assert_allclose(
        *(
            np.asarray(model(found.samples()[0]))
            for model in (pruning.model, pruning.pruned_model())
        ),
        rtol=1e-4,
        atol=1e-4,
    )


def _told(result: Any, found: Case, values: Any) -> None:
    assert repr(result)
    if hasattr(result, "summary"):
        result.summary()


def _is_share(result: float, found: Case, values: Any) -> None:
    assert 0 <= result <= 1


def _bytes(result: Any) -> bytes:
    arrays = result.values() if isinstance(result, Mapping) else [result]
    return b"".join(np.asarray(array).tobytes() for array in arrays)


# What is the same in a second call.
FINGERPRINTS: Mapping[str, Callable[[Any], bytes]] = {
    "prune": lambda result: _bytes(result.kept),
    "accuracy_curve": lambda curve: _bytes(curve.class_accuracy) + _bytes(curve.reached),
    "filter_relevance": _bytes,
    "input_relevance": _bytes,
    "delete_channels": state_of,
    "explain": lambda found: str(found).encode(),
}

PROMISES: Mapping[str, Promise] = {
    "prune": _pruned_well,
    "delete_channels": _deleted,
    "filter_relevance": _finite,
    "input_relevance": _finite,
    "callbacks.FilterPruning": _masked_after_training,
    "harmonic_mean_accuracy": _is_share,
    **dict.fromkeys(("explain", "profile", "compare", "finetune", "load_result"), _told),
    **dict.fromkeys(("prune_and_finetune", "accuracy_curve", "export.compare_litert"), _told),
}
