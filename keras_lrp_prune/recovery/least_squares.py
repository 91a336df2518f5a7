"""Refitting what is left of a network to what the whole one computed: least squares, no training.

For each layer that lost inputs, in the order of the network, ridge regression towards its old
weights gives new ones with which its outputs, before the activation, come closest to those of the
unpruned network on the reference images, and on their mirror images if wanted. Its inputs are what
the pruned and so far refitted network delivers, so that a layer also makes up for what those before
it could not. Each layer is matched to its own outputs: a layer in front of a sum does not chase the
error of the other branches, and a concatenation passes on what its branches reach.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, prod
from types import ModuleType
from typing import Any

import numpy as np

from keras_lrp_prune.graph.channel_rules.calls import axes_of
from keras_lrp_prune.graph.channels import ChannelStructure, selects
from keras_lrp_prune.graph.generations import weights_of
from keras_lrp_prune.graph.model_graph import LayerSpec, ModelGraph, Node, TensorRef, references
from keras_lrp_prune.recovery.mirror_images import with_mirror_images
from keras_lrp_prune.recovery.patches import NoWindows, Windows, front_part, windows_of
from keras_lrp_prune.recovery.replay import Replay
from keras_lrp_prune.recovery.ridge import Products, Rows, Samples, best_correction
from keras_lrp_prune.recovery.targets import Target, Targets
from keras_lrp_prune.recovery.threads import threads_for
from keras_lrp_prune.runtime import DEFAULT_BATCH_SIZE, DEFAULT_MEMORY
from keras_lrp_prune.surgery.kept import Kept, kept_without

_HELD_OUT = 0.2
# Multiplications of the products of windows, while units are chosen. Of the accuracy of VGG16 with
# five classes, choices by 1e9, 3e9 and 1e10 kept 97.2, 96.4 and 96.3 % under the curve (two
# reference sets; the last refit was thorough).
_FEW = 1e9


@dataclass(frozen=True)
class Refit:
    """New weights for what is left of a network.

    Args:
        weights: Layer to weight name to the new values, in the shape of the original layer. What
            was removed has its old values, so that the pruned and the masked network both take
            them.
        skipped: Layers that read removed channels but keep their weights, with the reason.
        ridges: Refitted layer to the strength of its penalty, relative to the mean eigenvalue of
            the Gram matrix of its inputs; `None` where the old weights did best on held-out images,
            or its outputs lack no more than rounding.
    """

    weights: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    ridges: dict[str, float | None] = field(default_factory=dict)


class LeastSquares:
    """Finds weights with which pruned networks come close to the whole one they come from.

    Convolutions, dense layers and the pointwise part of separable convolutions; a layer without
    bias in front of a batch norm shifts its moving mean. The ridge of each layer is chosen by the
    error on a fifth of the images. A refit costs two forward passes over `x` of the pruned network
    (images and mirror images; one without these), the first one as many of the whole network too
    (and so may another one, see `Targets`), and the algebra: seconds for VGG16 at 32x32 with 100
    images.

    What comes out of a refit hangs on what is removed alone, whatever was refitted before.

    Memory: what the layers of the whole network are to compute is kept on the host if it takes no
    more than half of `memory`; activations between two layers likewise, else the part of the
    network in front of them is computed again for each layer. A layer is fitted to at most 8,192
    windows drawn at random (fewer, if not thoroughly). With `d` numbers in a window and `n` windows
    it takes a few times `8 * d * min(d, n)` bytes (170 MB for 512 channels and 3x3); beyond 512
    channels and 3x3, so few windows are drawn that it is no more.

    Args:
        graph: The unpruned model, nested or flat, with one input; its weights must stay.
        structure: Its channel structure.
        x: Reference images, preprocessed, shape `(n, ...)`, at least two. Images
            `(n, height, width, channels)` can be mirrored; others are taken as they are.
        keras: The Keras module to run the networks with.
        batch_size: Samples that are run at once.
        memory: Bytes to keep on the host.
        thorough: Whether layers are fitted to mirror images, too, and to as many windows as memory
            is meant for; else to so few that their products take at most 1e9 multiplications.
        seed: For the images held out and the windows drawn.

    Raises:
        ValueError: If there are fewer than two images.

    Example:
    >>> layers = LeastSquares(graph, structure, x, keras=keras)
    >>> first, second = (layers.refit(removed) for removed in masks)
    """

    def __init__(
        self,
        graph: ModelGraph,
        structure: ChannelStructure,
        x: np.ndarray,
        *,
        keras: ModuleType,
        batch_size: int = DEFAULT_BATCH_SIZE,
        memory: float = DEFAULT_MEMORY,
        thorough: bool = True,
        seed: int = 0,
    ) -> None:
        if len(x) < 2:
            raise ValueError(f"Refitting by least squares takes at least two images, not {len(x)}.")
        self._graph, self._structure, self._keras = graph.flat(), structure, keras
        self._x, self._thorough = x, thorough
        self._n_images = len(self._images())
        self._held_out = _held_out(len(x), self._n_images, seed)
        self._batch_size, self._memory = batch_size, memory / 2
        everything = np.ones(structure.n_units, bool)
        self._targets = Targets(
            self._graph,
            self._to_refit(everything, {}),
            self._images,
            keras,
            n_images=self._n_images,
            batch_size=batch_size,
            memory=memory,
            most=inf if thorough else _FEW,
            seed=seed,
        )
        self._refits = 0

    @property
    def passes(self) -> int:
        """Forward passes over `x` so far; those of mirror images count."""
        return (self._refits + self._targets.runs) * self._n_images // len(self._x)

    def pruned(self, removed: np.ndarray) -> Replay:
        """The network without some units, to run over the images that layers are fitted to."""
        kept = kept_without(self._structure, removed)
        return Replay(
            self._graph,
            kept,
            self._keras,
            self._images(),
            batch_size=self._batch_size,
            memory=self._memory,
        )

    def refit(
        self,
        removed: np.ndarray,
        pruned: Replay | None = None,
        *,
        on_part: Callable[[float], None] = lambda part: None,
    ) -> Refit:
        """Refits what some units leave.

        Args:
            removed: bool, shape `(units,)`.
            pruned: What the method `pruned` gives for them; its layers get the weights, and it can
                be run on.
            on_part: Called with the share of the layers that are done.
        """
        refit = Refit()
        todo = self._to_refit(removed, refit.skipped)
        if not todo:
            return refit
        kept = kept_without(self._structure, removed)
        pruned = pruned or self.pruned(removed)
        self._targets.prepare(todo)
        self._refits += 1
        for number, (name, windows) in enumerate(todo.items()):
            on_part(number / len(todo))
            fit = _LayerFit(self._graph, name, windows, kept, pruned, self._keras)
            target = self._targets.of(name)
            with threads_for(fit.multiplications(target)):
                samples, lacking = fit.samples(target, self._held_out)
                if not np.isfinite(lacking):
                    refit.skipped[fit.layer] = "outputs on the reference images are not finite"
                    continue
                is_near = lacking <= target.rounding
                correction, ridge = (None, None) if is_near else best_correction(samples)
            refit.ridges[fit.layer] = ridge
            if correction is not None:
                refit.weights.update(fit.apply(correction))
        on_part(1.0)
        return refit

    def _images(self) -> np.ndarray:
        """What layers are fitted to; made each time, as mirror images take as much memory again."""
        return with_mirror_images(self._graph, self._x) if self._thorough else self._x

    def _to_refit(self, removed: np.ndarray, skipped: dict[str, str]) -> dict[str, Windows]:
        """Calls of layers that read removed channels; adds to `skipped` those left as they are."""
        found = {}
        for node in self._graph.nodes:
            read = (self._structure.tensor_units[ref] for ref in node.inputs)
            if not _has_kernel(node) or not any(selects(removed, units).any() for units in read):
                continue
            try:
                found[node.name] = windows_read_by(self._graph, node)
            except NoWindows as reason:
                skipped[node.layer.name] = str(reason)
        return found


class _LayerFit:
    """One layer of a pruned network.

    Attributes:
        layer: Its name.
    """

    def __init__(
        self,
        graph: ModelGraph,
        call: str,
        windows: Windows,
        kept: Kept,
        pruned: Replay,
        keras: ModuleType,
    ) -> None:
        node = graph.by_name[call]
        self.layer = node.layer.name
        self._call, self._graph, self._windows = call, graph, windows
        self._kept, self._pruned = kept, pruned
        self._shifts = _shifts(graph, node)
        self._filters = _left(kept, node.layer, windows.kernel)[-1]
        self._front = front_part(node.layer, pruned.layers[self.layer], keras)
        self._shape = tuple(_live(pruned, node.layer)[windows.kernel].shape)
        self._n_inputs = prod(self._shape[:-1])

    def multiplications(self, target: Target) -> float:
        """How many the products of what it reads take."""
        n_rows = len(target.chosen)
        return float(self._n_inputs * n_rows * min(self._n_inputs, n_rows))

    def samples(self, target: Target, held_out: np.ndarray) -> tuple[Samples, float]:
        """What the layer reads in the pruned network, and what its outputs lack.

        Args:
            target: What they are to match.
            held_out: bool, shape `(images,)`.

        Returns:
            The samples to fit to, and what the outputs lack in all, root mean square as a share of
            what they are to be.
        """
        kernel = _live(self._pruned, self._graph.layers[self.layer])[self._windows.kernel]
        matrix = np.asarray(kernel, np.float64).reshape(self._n_inputs, -1)
        samples, asked, lacking = self._empty(len(target.chosen)), 0.0, 0.0
        held_out = held_out[target.images]
        for batch, now in self._pruned.up_to(self._call):
            rows, places = target.within(batch)
            seen = self._windows.rows(np.asarray(self._front(now)), places)
            with np.errstate(invalid="ignore", over="ignore"):  # the caller sees that
                wanted = target.outputs[rows][:, self._filters].astype(np.float64)
                missing = wanted - seen @ matrix
                asked += float((wanted**2).sum())
                lacking += float((missing**2).sum())
                samples.add(seen, missing, held_out[rows])
        return samples, float(np.sqrt(lacking / (asked or 1.0)))

    def apply(self, correction: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """Corrects the pruned network; returns the weights that are new, in their old shapes."""
        name, kernel = self.layer, self._windows.kernel
        changes = [(name, kernel, correction[:-1].reshape(self._shape))]
        if self._shifts is not None:
            layer, weight, sign = self._shifts
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

    def _empty(self, n_rows: int) -> Samples:
        """No samples yet, of the kind that takes less memory."""
        bias = self._shifts is not None
        if n_rows < self._n_inputs:
            return Rows(bias=bias)
        return Products(self._n_inputs, self._shape[-1], bias=bias)


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


def _held_out(n: int, n_with_mirrored: int, seed: int) -> np.ndarray:
    """Which images choose the ridge; a mirror image goes with its original."""
    held_out = np.zeros(n, bool)
    held_out[np.random.default_rng(seed).permutation(n)[: max(1, round(_HELD_OUT * n))]] = True
    return np.resize(held_out, n_with_mirrored)
