"""Functions over many samples: one trace, batch by batch, on one device or on all of a strategy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from keras_lrp_prune.arguments import Checked
from keras_lrp_prune.data import ReferenceSet, cast
from keras_lrp_prune.graph.generations import keras_of
from keras_lrp_prune.graph.model_graph import LayerSpec, ModelGraph

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

DEFAULT_BATCH_SIZE = 32
DEFAULT_MEMORY = 2 * 2**30
_LARGEST_BATCH = 256
# Bytes of a tensor beyond which the C library's allocator takes memory from the system, and hands
# it back, each time: CPUs then spend a third of a pass on pages touched for the first time.
_BLOCK = 32 * 2**20
_SMALL_BATCH = 8
_STRATEGIES = ("MirroredStrategy", "MultiWorkerMirroredStrategy", "OneDeviceStrategy")
REORDERED = (
    "the same samples in another order: a dataset that is shuffled anew each time, even if it has "
    "a seed (give shuffle=False, or load it once into arrays)"
)
Tensor = Any
Function = Callable[[Tensor, Tensor], tuple[Any, Tensor]]


class OverSamples:
    """Applies a function of a batch to any number of samples, and puts the results together.

    It is compiled once for all batch sizes. Under a strategy the replicas share each batch in
    equal parts, filled up where they are uneven, and what they give is added up: each worker gets
    the same result, for two all-reduces per batch.

    Args:
        function: `function(x, y) -> (sums, rows)`: a nest of tensors that add up over samples,
            and a tensor with a row for each sample. A sample of class -1 must not count in `sums`.
        x: Shape and dtype of the argument `x`; its first dimension is open.
        batch_size: Samples per batch and replica.
        strategy: `tf.distribute` strategy to run under.

    Example:
    >>> total = OverSamples(lambda x, y: (tf.reduce_sum(x), x), tf.TensorSpec([None], tf.float32))
    >>> total(np.ones(100, "float32"))[0]
    100.0
    """

    def __init__(
        self,
        function: Function,
        x: tf.TensorSpec,
        *,
        batch_size: int = DEFAULT_BATCH_SIZE,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        import tensorflow as tf

        self.traces = 0
        self._dtype = x.dtype.as_numpy_dtype
        self._size = batch_size * replicas(strategy)
        run = function if strategy is None else _shared(function, strategy)
        signature = [x, tf.TensorSpec([None], tf.int64)]
        # A `partial`, because TensorFlow counts the traces of each one apart. It counts those of
        # functions of the same code together, and would warn of many when many models are run.
        self._step = tf.function(
            partial(self._traced, run), input_signature=signature, autograph=False
        )

    def _traced(self, run: Function, x: Tensor, y: Tensor) -> tuple[Any, Tensor]:
        self.traces += 1
        return run(x, y)

    def __call__(self, x: np.ndarray, y: np.ndarray | None = None) -> tuple[Any, np.ndarray]:
        """The sums and the rows over all samples; the sums stay on the device until the end.

        Args:
            x: Samples, shape `(n, ...)`.
            y: A class for each, shape `(n,)`; by default -1.

        Returns:
            The nest of sums, and the rows, as arrays.
        """
        import tensorflow as tf

        y = np.full(len(x), -1, np.int64) if y is None else y.astype(np.int64)
        totals: Any = None
        rows = []
        for start in range(0, len(x), self._size):
            batch = slice(start, start + self._size)
            # Made into tensors here: where functions run eagerly, `tf.function` does not do that.
            sums, part = self._step(tf.constant(cast(x[batch], self._dtype)), tf.constant(y[batch]))
            totals = sums if totals is None else tf.nest.map_structure(tf.add, totals, sums)
            rows.append(np.asarray(part))
        return tf.nest.map_structure(np.asarray, totals), np.concatenate(rows)


def _shared(function: Function, strategy: tf.distribute.Strategy) -> Function:
    """The function of a batch, computed in equal parts by the replicas."""
    import tensorflow as tf

    def part(x: Tensor, y: Tensor) -> tuple[Any, Tensor]:
        n = tf.shape(y)[0]
        size = -(-n // strategy.num_replicas_in_sync)
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        mine = replica * size + tf.range(size)
        # Beyond the end: the last sample again, as one that does not count.
        there = tf.minimum(mine, n - 1)
        inside = mine < n
        sums, rows = function(tf.gather(x, there), tf.where(inside, tf.gather(y, there), -1))
        return sums, tf.math.unsorted_segment_sum(rows, tf.where(inside, mine, -1), n)

    def added(value: Any) -> Tensor:
        return strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)

    def run(x: Tensor, y: Tensor) -> tuple[Any, Tensor]:
        return tf.nest.map_structure(added, strategy.run(part, (x, y)))

    return run


class CompiledForward:
    """A model's forward pass at inference, traced once for all batch sizes and masks.

    Args:
        model: A Keras model (3 or legacy) with one input and one output; made in the scope of the
            strategy.
        batch_size: Samples per batch and replica.
        strategy: `tf.distribute` strategy to run under.

    Example:
    >>> outputs = CompiledForward(model)(x)
    """

    def __init__(
        self,
        model: keras.Model,
        batch_size: int = DEFAULT_BATCH_SIZE,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        import tensorflow as tf

        keras = keras_of(model)
        # Takes a tensor, even where the model wants a list or a dict with one.
        single = keras.Model(model.inputs[0], model.outputs[0])
        self._run = OverSamples(
            lambda x, y: ((), single(x, training=False)),
            tf.TensorSpec((None, *model.inputs[0].shape[1:]), model.inputs[0].dtype),
            batch_size=batch_size,
            strategy=strategy,
        )

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The outputs for all samples; one forward pass over them."""
        return self._run(x)[1]


def chosen_batch_size(graph: ModelGraph, batch_size: int | None, memory_budget: float) -> int:
    """The batch size that is given, or one whose activations fit into memory.

    On the way back, every value of the forward pass is still held, and for the present layer some
    more tensors of its size, for two kernels and two signs. Weights do not count. (Measured for
    VGG16, ResNet50, MobileNet and DenseNet121 with `lrp.alpha_2_beta_1`: 54 to 187 MB per sample;
    107 to 307 MB are allowed for.) Where there is no GPU, no tensor takes more than 32 MiB, unless
    fewer than eight samples do.

    Args:
        graph: A flat model of which all sizes are known.
        batch_size: What was asked for, if anything was.
        memory_budget: Bytes that the activations of one batch may take.
    """
    if batch_size is not None:
        return batch_size
    tensors = [
        (prod(size or 1 for size in shape[1:]), 2 if _has_activation(node.layer) else 1)
        for node in graph.nodes
        for shape in node.shapes
    ]
    forward = sum(size * count for size, count in tensors)
    at_hand = max(size for size, _ in tensors)
    itemsize = np.dtype(np.float32).itemsize
    per_sample = itemsize * (1.25 * forward + 6 * at_hand)
    largest = _LARGEST_BATCH if _has_gpu() else max(_BLOCK // (itemsize * at_hand), _SMALL_BATCH)
    return int(min(max(memory_budget // per_sample, 1), largest, _LARGEST_BATCH))


def _has_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def _has_activation(layer: LayerSpec) -> bool:
    """Whether a layer with weights has an activation too, which LRP takes apart."""
    return bool(layer.weights) and layer.config.get("activation", "linear") != "linear"


def check_strategy(strategy: Any) -> None:
    """Checks that a strategy is one that computes the same on every replica at the same time.

    Raises:
        TypeError: If it is no strategy.
        ValueError: If it is of another kind.
    """
    if strategy is None:
        return
    import tensorflow as tf

    if not isinstance(strategy, tf.distribute.Strategy):
        raise TypeError(f"strategy must be a tf.distribute.Strategy, not {strategy!r}.")
    if not isinstance(strategy, tuple(getattr(tf.distribute, name) for name in _STRATEGIES)):
        raise ValueError(
            f"{type(strategy).__name__} is not supported; give one of {', '.join(_STRATEGIES)}."
        )


def replicas(strategy: tf.distribute.Strategy | None) -> int:
    """How many replicas compute at the same time."""
    return 1 if strategy is None else strategy.num_replicas_in_sync


def scope(strategy: tf.distribute.Strategy | None) -> AbstractContextManager:
    """The scope of a strategy, in which its variables have to be made."""
    return nullcontext() if strategy is None else strategy.scope()


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether this worker writes files and draws progress: exactly one does."""
    return strategy is None or strategy.extended.should_checkpoint


@dataclass(frozen=True)
class Execution(Checked):
    """How a run is computed; no decision depends on it, except on the seed.

    Args:
        batch_size: Samples per batch and replica; `None`: as many as the memory budget allows.
        memory_budget: Bytes that the activations of one batch may take on each replica.
        strategy: `tf.distribute` strategy to run under.
        seed: For what is drawn at random.
        verbose: How much is shown; 0 is nothing.

    Raises:
        TypeError, ValueError: For arguments outside their ranges, or a strategy that does not
            compute the same on every replica at the same time.
    """

    batch_size: int | None = None
    memory_budget: float = DEFAULT_MEMORY
    strategy: tf.distribute.Strategy | None = None
    seed: int = 0
    verbose: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_strategy(self.strategy)

    @property
    def shows_progress(self) -> bool:
        """Whether this worker shows how far the run is: the chief does."""
        return self.verbose > 0 and is_chief(self.strategy)


DEFAULT_EXECUTION = Execution()


def from_chief(data: bytes, strategy: tf.distribute.Strategy | None) -> bytes:
    """The chief's bytes, on every worker; costs two all-reduces."""
    if strategy is None:
        return data
    import tensorflow as tf

    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return data
    # TensorFlow cannot all-reduce 32-bit integers over GPUs.
    signature = [tf.TensorSpec([None], tf.int64)]
    summed = tf.function(partial(_first_replicas, strategy), signature, autograph=False)
    mine = data if is_chief(strategy) else b""
    (length,) = np.asarray(summed(np.array([len(mine)], np.int64)))
    if not length:
        return b""
    padded = np.frombuffer(mine.ljust(length, b"\0"), np.uint8).astype(np.int64)
    return np.asarray(summed(padded)).astype(np.uint8).tobytes()


def check_same(
    graph: ModelGraph, samples: ReferenceSet, strategy: tf.distribute.Strategy | None
) -> None:
    """Checks that all workers were given the same model and samples; costs three all-reduces.

    Raises:
        ValueError: On every worker, if one of them was given something else.
    """
    import tensorflow as tf

    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return
    mine = json.dumps(fingerprint(graph, samples, {})).encode()
    differs = from_chief(mine, strategy) != mine

    def count(value: Tensor) -> Tensor:
        added = strategy.run(tf.identity, (value,))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, added, axis=None)

    counted = tf.function(partial(count), [tf.TensorSpec([], tf.int64)], autograph=False)
    if int(counted(np.int64(differs))):
        raise ValueError(
            "The workers of the strategy were given different models or samples. Give each of them "
            "the same file of the model and all samples, in the same order."
        )


class Fingerprint(TypedDict):
    """Digests of what tells a run from others, part by part."""

    model: str
    data: str
    samples: str  # of the same samples as `data`, whatever their order
    settings: dict[str, str]


def fingerprint(
    graph: ModelGraph,
    samples: ReferenceSet,
    settings: Mapping[str, Any],
    *,
    weights: bool = True,
) -> Fingerprint:
    """Tells a run from others: settings, samples, layers and, unless they are trained, weights."""
    digest = hashlib.sha256()
    for layer in graph.flat().layers.values():
        digest.update(f"{layer.name}:{layer.settings()}".encode())
        for array in layer.arrays().values() if weights else ():
            digest.update(np.ascontiguousarray(array).tobytes())
    return {
        "model": digest.hexdigest(),
        "data": samples.fingerprint(),
        "samples": samples.fingerprint(in_order=False),
        "settings": {
            name: hashlib.sha256(json.dumps(it, sort_keys=True, default=str).encode()).hexdigest()
            for name, it in settings.items()
        },
    }


# Settings that are called otherwise than the argument that decides them.
_AS_ARGUMENTS = {"criterion_config": "criterion"}


def difference(found: Fingerprint, wanted: Fingerprint) -> str:
    """In words, how a run that was found differs from the one that is wanted; empty if it does not.

    Example:
    >>> difference({**mine, "model": "another"}, mine)
    'another model'
    """
    there, here = found["settings"], wanted["settings"]
    names = [name for name in there | here if there.get(name) != here.get(name)]
    settings = dict.fromkeys(_AS_ARGUMENTS.get(name, name) for name in names)
    reordered = found["samples"] == wanted["samples"]
    others = {
        "another model": found["model"] != wanted["model"],
        f"other settings ({', '.join(settings)})": bool(settings),
        "other data": not reordered,
        REORDERED: reordered and found["data"] != wanted["data"],
    }
    return " and ".join(what for what, differs in others.items() if differs)


def _first_replicas(strategy: tf.distribute.Strategy, values: Tensor) -> Tensor:
    """The values of the first replica, on all; others count as zeros."""
    import tensorflow as tf

    def if_first(values: Tensor) -> Tensor:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return values * tf.cast(replica == 0, values.dtype)

    added = strategy.run(if_first, (values,))
    return strategy.reduce(tf.distribute.ReduceOp.SUM, added, axis=None)
