"""What layers of the whole network compute: the outputs that those of a pruned one are to match."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf, prod, sqrt
from types import ModuleType

import numpy as np

from keras_lrp_prune.graph.model_graph import ModelGraph
from keras_lrp_prune.recovery.patches import Windows, front_part, width
from keras_lrp_prune.recovery.replay import Replay
from keras_lrp_prune.surgery.kept import Kept

# The most windows that a layer is fitted to, and the largest window (in numbers) for which it is
# fitted to so many.
_MOST_ROWS = 8_192
_WIDEST = 4_608


@dataclass(frozen=True)
class Target:
    """The outputs of a layer in some of its windows, before its activation and without its bias.

    Args:
        chosen: Numbers of the windows, the first image's first, sorted, int64, shape `(rows,)`.
        each: How many windows an image has.
        outputs: Of all filters, shape `(rows, filters)`.
        rounding: By how much they may be off, root mean square as a share of their own.
    """

    chosen: np.ndarray
    each: int
    outputs: np.ndarray
    rounding: float

    @property
    def images(self) -> np.ndarray:
        """Of which image each window is, int64, shape `(rows,)`."""
        return self.chosen // self.each

    def within(self, batch: slice) -> tuple[slice, np.ndarray]:
        """Which rows are of some images, and the numbers of their windows among those of these."""
        return _within(self.chosen, self.each, batch)


class Targets:
    """The targets of the layers of a network, at windows drawn anew for each seed.

    They are kept where they take no more than half of the memory allowed: those of all layers up to
    the last that is asked for, so that the network runs once or twice, however often it is
    refitted. Else it runs each time.

    Args:
        graph: The whole model, flat.
        calls: Of layers that can be refitted, in the order of the graph, and how they read.
        images: Gives what it runs over, shape `(n_images, ...)`.
        keras: The Keras module to run it with.
        n_images: How many there are.
        batch_size: Samples that are run at once.
        memory: Bytes for what is kept, and for activations on the way.
        most: The most multiplications that the products of a layer's windows may take.
        seed: For the windows drawn.

    Attributes:
        runs: How often the network has run.
    """

    def __init__(
        self,
        graph: ModelGraph,
        calls: Mapping[str, Windows],
        images: Callable[[], np.ndarray],
        keras: ModuleType,
        *,
        n_images: int,
        batch_size: int,
        memory: float,
        most: float = inf,
        seed: int,
    ) -> None:
        self.runs = 0
        self._graph, self._calls, self._images, self._keras = graph, calls, images, keras
        self._batch_size, self._memory = batch_size, memory / 2
        self._n_images, self._most, self._seed = n_images, most, seed
        self._whole: Replay | None = None
        self._kept: dict[str, Target] = {}
        self._keeps = sum(map(self._bytes, calls)) <= self._memory

    def prepare(self, names: Iterable[str]) -> None:
        """Gets ready to be asked for the targets of some calls, in this order."""
        self._whole = None
        missing = {name for name in names if name not in self._kept}
        if not missing or not self._keeps:
            return
        for name in self._calls:
            if not missing:
                break
            if name not in self._kept:
                self._kept[name] = self._computed(name)
                missing.discard(name)
        self._whole = None

    def of(self, name: str) -> Target:
        """The target of a call; where none is kept, of one behind those that were asked for."""
        return self._kept[name] if name in self._kept else self._computed(name)

    def _computed(self, name: str) -> Target:
        if self._whole is None:
            self._whole = Replay(
                self._graph,
                Kept(),
                self._keras,
                self._images(),
                batch_size=self._batch_size,
                memory=self._memory,
            )
            self.runs += 1
        layer, windows = self._graph.by_name[name].layer, self._calls[name]
        front = front_part(layer, self._whole.layers[layer.name], self._keras)
        kernel = self._kernel(name)
        precise = _precise(kernel)
        matrix = kernel.astype(precise).reshape(width(kernel), -1)
        for batch, before in self._whole.up_to(name):
            x = np.asarray(front(before))
            if batch.start == 0:
                each = prod(windows.counts(x.shape))
                chosen = self._drawn(name, each)
                outputs = np.empty((len(chosen), kernel.shape[-1]), precise)
            rows, places = _within(chosen, each, batch)
            with np.errstate(invalid="ignore", over="ignore"):  # who fits to it sees that
                outputs[rows] = windows.rows(x, places, precise) @ matrix
        return Target(chosen, each, outputs, float(np.finfo(precise).eps * np.sqrt(len(matrix))))

    def _drawn(self, name: str, each: int) -> np.ndarray:
        """Numbers of the windows to fit to, sorted: all, or as many as the memory is meant for.

        They hang on the layer and the seed alone, so that one target does for all that is pruned.
        """
        total, most = each * self._n_images, self._most_rows(self._kernel(name))
        if total <= most:
            return np.arange(total)
        rng = np.random.default_rng([self._seed, list(self._graph.by_name).index(name)])
        return np.sort(rng.choice(total, most, replace=False, shuffle=False))

    def _bytes(self, name: str) -> int:
        """What a target takes, at the most where the size of an image is open."""
        kernel, sizes = self._kernel(name), self._graph.by_name[name].shapes[0][1:-1]
        rows = self._most_rows(kernel)
        if None not in sizes:
            rows = min(rows, self._n_images * prod(size or 1 for size in sizes))
        return rows * kernel.shape[-1] * _precise(kernel).itemsize

    def _most_rows(self, kernel: np.ndarray) -> int:
        """The most windows that a layer is fitted to."""
        n_inputs = width(kernel)
        most = _MOST_ROWS if n_inputs <= _WIDEST else _WIDEST**2 // n_inputs
        if self._most == inf:
            return most
        # Inputs have as many products as pairs, or windows have, if they are fewer.
        return min(most, int(max(self._most / n_inputs**2, sqrt(self._most / n_inputs))))

    def _kernel(self, name: str) -> np.ndarray:
        return self._graph.by_name[name].layer.arrays()[self._calls[name].kernel]


def _within(chosen: np.ndarray, each: int, batch: slice) -> tuple[slice, np.ndarray]:
    first, last = np.searchsorted(chosen, (each * batch.start, each * batch.stop))
    return slice(first, last), chosen[first:last] - each * batch.start


def _precise(kernel: np.ndarray) -> np.dtype:
    """The type to keep outputs in: that of the kernel, but no half precision."""
    return np.result_type(kernel.dtype, np.float32)
