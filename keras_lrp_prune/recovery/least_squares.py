"""Refitting what is left of a network to what the whole one computed: least squares, no training.

For each layer that lost inputs, in the order of the network, ridge regression towards its old
weights gives new ones with which its outputs, before the activation, come closest to those of the
unpruned network on the reference images and their mirror images. Its inputs are what the pruned
and so far refitted network delivers, so that a layer also makes up for what those before it could
not. Each layer is matched to its own outputs: a layer in front of a sum does not chase the error
of the other branches, and a concatenation passes on what its branches reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod
from types import ModuleType
from typing import Any

import numpy as np

from keras_lrp_prune.graph.channel_rules.calls import axes_of
from keras_lrp_prune.graph.channels import ChannelStructure, selects
from keras_lrp_prune.graph.generations import weights_of
from keras_lrp_prune.graph.model_graph import LayerSpec, ModelGraph, Node, TensorRef, references
from keras_lrp_prune.recovery.mirror_images import with_mirror_images
from keras_lrp_prune.recovery.patches import NoWindows, Windows, front_part, width, windows_of
from keras_lrp_prune.recovery.replay import Replay
from keras_lrp_prune.recovery.ridge import Products, Rows, Samples, best_correction
from keras_lrp_prune.runtime import DEFAULT_BATCH_SIZE, DEFAULT_MEMORY
from keras_lrp_prune.surgery.kept import Kept, kept_without

# The most windows that a layer is fitted to, and the largest window (in numbers) for which it is
# fitted to so many.
_MOST_ROWS = 8_192
_WIDEST = 4_608
_HELD_OUT = 0.2


@dataclass(frozen=True)
class Refit:
    """New weights for what is left of a network.

    Args:
        weights: Layer to weight name to the new values, in the shape of the original layer. What
            was removed has its old values, so that the pruned and the masked network both take
            them.
        skipped: Layers that read removed channels but keep their weights, with the reason.
        ridges: Refitted layer to the strength of its penalty, relative to the mean eigenvalue of
            the Gram matrix of its inputs; `None` where the old weights did best on held-out images.
    """

    weights: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    ridges: dict[str, float | None] = field(default_factory=dict)


def refit_layers(
    graph: ModelGraph,
    structure: ChannelStructure,
    removed: np.ndarray,
    x: np.ndarray,
    *,
    keras: ModuleType,
    batch_size: int = DEFAULT_BATCH_SIZE,
    memory: float = DEFAULT_MEMORY,
    include_head: bool = False,
    seed: int = 0,
    on_part: Callable[[float], None] = lambda part: None,
) -> Refit:
    """Finds weights with which a pruned network comes close to the whole one.

    Convolutions, dense layers and the pointwise part of separable convolutions; a layer without
    bias in front of a batch norm shifts its moving mean. The ridge of each layer is chosen by the
    error on a fifth of the images. Costs two forward passes over `x` of the unpruned and two of
    the pruned network (images and mirror images), and the algebra: seconds for VGG16 at 32x32
    with 100 images.

    Memory: the activations between two layers, of both networks, are kept on the host, if they
    take no more than `memory`; else the part of the network in front of them is computed again for
    each layer. A layer is fitted to at most 8,192 windows drawn at random. With `d` numbers in
    a window and `n` windows it takes a few times `8 * d * min(d, n)` bytes (170 MB for 512
    channels and 3x3); beyond 512 channels and 3x3, so few windows are drawn that it is no more.

    Args:
        graph: The unpruned model, nested or flat, with one input.
        structure: Its channel structure.
        removed: bool, shape `(units,)`.
        x: Reference images, preprocessed, shape `(n, ...)`, at least two. Images
            `(n, height, width, channels)` are mirrored; others are taken as they are.
        keras: The Keras module to run the networks with.
        batch_size: Samples that are run at once.
        memory: Bytes of activations to keep on the host.
        include_head: Whether the layer that makes the class scores is refitted too, to its logits.
        seed: For the images held out and the windows drawn.
        on_part: Called with the share of the layers that are done.

    Returns:
        A `Refit`; the model itself is not changed.

    Raises:
        ValueError: If there are fewer than two images.

    Example:
    >>> refit = refit_layers(graph, structure, removed, x, keras=keras)
    >>> small = rebuild(with_weights(graph, refit.weights), kept, keras)
    """
    if len(x) < 2:
        raise ValueError(f"Refitting by least squares takes at least two images, not {len(x)}.")
    flat = graph.flat()
    refit = Refit()
    todo = list(_to_refit(flat, structure, removed, include_head, refit.skipped))
    if not todo:
        return refit
    images = with_mirror_images(flat, x)
    kept = kept_without(structure, removed)
    whole, pruned = (
        Replay(flat, what, keras, images, batch_size=batch_size, memory=memory / 2)
        for what in (Kept(), kept)
    )
    held_out = _held_out(len(x), len(images), seed)
    for number, (node, windows) in enumerate(todo):
        on_part(number / len(todo))
        fit = _LayerFit(flat, node, windows, kept, whole, pruned, keras)
        fitting, holding = fit.samples(held_out, np.random.default_rng([seed, number]))
        if not np.isfinite(fitting.error()):
            refit.skipped[node.layer.name] = "outputs on the reference images are not finite"
            continue
        correction, ridge = best_correction(fitting, holding, bias=fit.shifts is not None)
        refit.ridges[node.layer.name] = ridge
        if correction is not None:
            refit.weights.update(fit.apply(correction))
    on_part(1.0)
    return refit


class _LayerFit:
    """One layer of the whole and of the pruned network.

    Attributes:
        shifts: The layer and the weight that shift its outputs, if there are any, and the sign.
    """

    def __init__(
        self,
        graph: ModelGraph,
        node: Node,
        windows: Windows,
        kept: Kept,
        whole: Replay,
        pruned: Replay,
        keras: ModuleType,
    ) -> None:
        self.shifts = _shifts(graph, node)
        self._node = node
        self._windows = windows
        self._graph = graph
        self._kept = kept
        self._pruned = pruned
        self._replays = whole, pruned
        self._fronts = [
            front_part(node.layer, replay.layers[node.layer.name], keras)
            for replay in self._replays
        ]
        kernels = [_live(replay, node.layer)[windows.kernel] for replay in self._replays]
        filters = _left(kept, node.layer, windows.kernel)[-1]
        self._old, self._new = (
            np.asarray(kernel, np.float64).reshape(width(kernel), -1) for kernel in kernels
        )
        self._old = self._old[:, filters]

    def samples(self, held_out: np.ndarray, rng: np.random.Generator) -> tuple[Samples, Samples]:
        """What the layer reads in the pruned network, and what its outputs lack.

        Args:
            held_out: bool, shape `(images,)`.
            rng: Draws the windows.

        Returns:
            The samples to fit to, and those of the images held out.
        """
        passes = zip(*(replay.up_to(self._node.name) for replay in self._replays), strict=True)
        for (batch, before), (_, now) in passes:
            before, now = (
                np.asarray(front(x)) for front, x in zip(self._fronts, (before, now), strict=True)
            )
            if batch.start == 0:
                each = prod(self._windows.counts(now.shape))
                chosen = _drawn(each * len(held_out), len(self._new), rng)
                parts = _parts(len(chosen), self._new.shape)
            first, last = np.searchsorted(chosen, (each * batch.start, each * batch.stop))
            mine = chosen[first:last]
            seen = self._windows.rows(now, mine - each * batch.start)
            with np.errstate(invalid="ignore"):  # the caller checks that the error is finite
                target = self._windows.rows(before, mine - each * batch.start) @ self._old
                missing = target - seen @ self._new
            held = held_out[mine // each]
            for part, which in zip(parts, (~held, held), strict=True):
                part.add(seen[which], missing[which])
        return parts

    def apply(self, correction: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """Corrects the pruned network; returns the weights that are new, in their old shapes."""
        name, kernel = self._node.layer.name, self._windows.kernel
        shape = _live(self._pruned, self._node.layer)[kernel].shape
        changes = [(name, kernel, correction[:-1].reshape(shape))]
        if self.shifts is not None:
            layer, weight, sign = self.shifts
            changes.append((layer, weight, sign * correction[-1]))
        news: dict[str, dict[str, np.ndarray]] = {}
        for layer, weight, change in changes:
            spec = self._graph.layers[layer]
            variable = _live(self._pruned, spec)[weight]
            variable.assign(np.asarray(variable) + change)
            whole = spec.arrays()[weight].copy()
            whole[np.ix_(*_left(self._kept, spec, weight))] = np.asarray(variable)
            news.setdefault(layer, {})[weight] = whole
        return news


def _to_refit(
    graph: ModelGraph,
    structure: ChannelStructure,
    removed: np.ndarray,
    include_head: bool,
    skipped: dict[str, str],
) -> Iterator[tuple[Node, Windows]]:
    """Calls of layers that read removed channels; fills `skipped` with those left as they are."""
    head = None if include_head else _head(graph)
    for node in graph.nodes:
        lost = any(selects(removed, structure.tensor_units[ref]).any() for ref in node.inputs)
        if not lost or not _has_kernel(node):
            continue
        try:
            if node.name == head:
                raise NoWindows("output: the class scores")
            yield node, windows_read_by(graph, node)
        except NoWindows as reason:
            skipped[node.layer.name] = str(reason)


def windows_read_by(graph: ModelGraph, node: Node) -> Windows:
    """How the layer of a call reads its input, if it can be refitted.

    Args:
        graph: The model, flat.
        node: A call of a layer with a kernel.

    Raises:
        NoWindows: If it cannot.
    """
    if sum(other.layer.name == node.layer.name for other in graph.nodes) > 1:
        raise NoWindows("called in several places")
    if len(node.inputs) > 1:
        raise NoWindows("several tensors as input")
    return windows_of(node.layer, len(graph.shape(node.inputs[0])))


def _head(graph: ModelGraph) -> str:
    """The call that makes the class scores: the last with a kernel in front of the output."""
    node = graph.by_name[next(references(graph.outputs)).node]
    while not _has_kernel(node) and len(node.inputs) == 1:
        node = graph.by_name[node.inputs[0].node]
    return node.name


def _has_kernel(node: Node) -> bool:
    return any("kernel" in name for name in node.layer.weights)


def _shifts(graph: ModelGraph, node: Node) -> tuple[str, str, int] | None:
    """What shifts a layer's outputs: its bias, or the moving mean of the batch norm behind it."""
    layer = node.layer
    if "bias" in layer.weights:
        return layer.name, "bias", 1
    output = TensorRef(node.name)
    readers = [graph.by_name[name] for name in graph.consumers.get(output, ())]
    if len(readers) != 1 or layer.config.get("activation", "linear") != "linear":
        return None
    (reader,) = readers
    alone = [other.layer.name for other in graph.nodes].count(reader.layer.name) == 1
    if (
        reader.layer.class_name == "BatchNormalization"
        and axes_of(reader.layer.config["axis"], len(graph.shape(output))) == {-1}
        and alone
        and output not in references(graph.outputs)
    ):
        return reader.layer.name, "moving_mean", -1
    return None


def _live(replay: Replay, layer: LayerSpec) -> dict[str, Any]:
    """The variables of a layer by name."""
    return dict(zip(layer.weights, weights_of(replay.layers[layer.name]), strict=True))


def _left(kept: Kept, layer: LayerSpec, weight: str) -> list[np.ndarray]:
    """What is left along each axis of a weight."""
    cuts = kept.positions.get(layer.name, {}).get(weight, {})
    shape = layer.weights[weight].shape
    return [cuts.get(axis, np.arange(size)) for axis, size in enumerate(shape)]


def _parts(n_rows: int, shape: tuple[int, ...]) -> tuple[Samples, Samples]:
    """Two empty sets of samples, of the kind that takes less memory."""
    if n_rows < shape[0]:
        return Rows(), Rows()
    return Products(*shape), Products(*shape)


def _drawn(total: int, n_inputs: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers of the windows to fit to, sorted: all, or as many as the memory is meant for."""
    most = _MOST_ROWS if n_inputs <= _WIDEST else _WIDEST**2 // n_inputs
    if total <= most:
        return np.arange(total)
    return np.sort(rng.choice(total, most, replace=False, shuffle=False))


def _held_out(n: int, n_with_mirrored: int, seed: int) -> np.ndarray:
    """Which images choose the ridge; a mirror image goes with its original."""
    held_out = np.zeros(n, bool)
    held_out[np.random.default_rng(seed).permutation(n)[: max(1, round(_HELD_OUT * n))]] = True
    return np.resize(held_out, n_with_mirrored)
