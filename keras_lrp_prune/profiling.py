"""`profile()`: what a model costs to keep and to run, counted, measured and estimated."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_lrp_prune.arguments import checked
from keras_lrp_prune.cost import CostModel, file_size
from keras_lrp_prune.cost.energy import ARITHMETIC, energy
from keras_lrp_prune.cost.litert_file import litert_counts
from keras_lrp_prune.cost.process import measured
from keras_lrp_prune.extras import extra
from keras_lrp_prune.graph.analysis import channel_structure
from keras_lrp_prune.graph.generations import keras_of
from keras_lrp_prune.graph.inference import traced
from keras_lrp_prune.graph.model_graph import references
from keras_lrp_prune.pruning import PruningResult
from keras_lrp_prune.report import print_table, ratio_table
from keras_lrp_prune.surgery.input_sizes import sized

if TYPE_CHECKING:
    import keras

_MIB = 2**20


@dataclass(frozen=True)
class Timing:
    """How a model runs at one batch size, on the CPU.

    Args:
        batch_size: Samples per call.
        median: Milliseconds per sample: those of the median call over the samples in it.
        p95: Milliseconds per sample, 95th percentile: 95 % of the calls take no longer.
        peak_memory: Bytes that the process took at most, beyond what it took before the model was
            loaded; smaller batches ran before. `None` where the system does not tell.
    """

    batch_size: int
    median: float
    p95: float
    peak_memory: int | None


@dataclass(frozen=True)
class Profile:
    """What `profile()` found; a figure that cannot be found is `None`.

    Args:
        kind: `"keras"`, `"saved_model"` or `"litert"`.
        parameters: Weights, trainable or not. In a LiteRT file batch normalisation is folded into
            other layers, so that there are fewer.
        flops: Operations for one sample, a multiply-add as two: of a Keras model and of a LiteRT
            file by this package's tables, of a SavedModel by TensorFlow's graph profiler, where
            the graph can be frozen.
        file_size: Bytes of the `.keras` file (without an optimizer, so that models compare), of
            all files of the SavedModel, or of the `.tflite` file.
        energy: Estimate for one sample, in joules, to compare by: see `cost.energy.energy`.
        dtype: What the energy's operations compute in.
        threads: Threads that could compute.
        timings: For each batch size.
        uncounted: Layers or operators whose FLOPs are missing in the count.

    Example:
        >>> found = klp.profile(model)
        >>> found.summary()
        >>> found.timings[0].median
    """

    kind: str
    parameters: int | None
    flops: int | None
    file_size: int
    energy: float | None
    dtype: str
    threads: int
    timings: tuple[Timing, ...]
    uncounted: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)

    def summary(self) -> None:
        """Prints it as a table."""
        profile_table({self.kind: self})


@checked
def profile(
    model: keras.Model | PruningResult | str | os.PathLike[str],
    *,
    batch_sizes: Sequence[int] = (1, 32),
    threads: int = 1,
    repeats: int = 50,
    input_shape: Sequence[int] | None = None,
) -> Profile:
    """Counts, measures and estimates what a model costs.

    Parameters and FLOPs are counted, latency and memory measured, energy is estimated from the
    counts. The measurement runs in a fresh process on the CPU: TensorFlow's threads cannot be
    changed in one that has used them, and only there the peak of memory is the model's. A Keras
    model runs there as a SavedModel, compiled as a graph, so that it needs no code of its classes.
    Inputs are random. What else the machine does shows in the times: compare figures of one quiet
    machine. Costs a process (some seconds to load TensorFlow) and, for each batch size, `repeats`
    calls and three more.

    Args:
        model: A Keras model (3 or legacy), the result of `prune` (its smaller model), the folder
            of a SavedModel with a signature `serving_default`, or a `.tflite` file (needs the
            extra `litert`).
        batch_sizes: Batch sizes to measure.
        threads: Threads that may compute.
        repeats: Timed calls of each batch size.
        input_shape: Shape of a sample, without the batch dimension, where the model leaves it
            open.

    Returns:
        A `Profile`.

    Raises:
        ImportError: For a `.tflite` file, if the LiteRT runtime is missing.
        TypeError: If `model` is none of the above; for another argument of another type.
        UnsupportedModelError: A `ValueError`, for a Keras model that is no graph of layers;
            profile its SavedModel instead.
        ValueError: For arguments outside their ranges, a folder or file of another kind, or a
            model that cannot be run with random numbers of a known shape.
        RuntimeError: If the process fails.

    Source:
        Energy: M. Horowitz, ISSCC 2014, doi:10.1109/ISSCC.2014.6757323.

    Example:
        >>> before, after = klp.profile(model), klp.profile(result)
        >>> klp.profile_table({"before": before, "after": after})
        >>> klp.profile("serving/my_model/1", threads=4, batch_sizes=(1,)).summary()
    """
    if not batch_sizes:
        raise ValueError("batch_sizes is empty; give at least one.")
    options = {
        "batch_sizes": sorted(set(batch_sizes)),
        "threads": threads,
        "repeats": repeats,
        "input_shape": input_shape,
    }
    if isinstance(model, PruningResult):
        model = model.model
    if isinstance(model, str | os.PathLike):
        path = Path(model)
        return _FILES[_kind(path)](path, options)
    return _of_keras(model, options)


@checked
def profile_table(profiles: Mapping[str, Profile], *, title: str | None = None) -> None:
    """Prints profiles side by side, those behind the first with their ratio to it.

    Args:
        profiles: Title of the column to profile.
        title: Title above the table.

    Raises:
        TypeError: For an argument of another type.
        ValueError: If there is no profile.

    Example:
        >>> klp.profile_table({"before": klp.profile(model), "after": klp.profile(result)})
    """
    if not isinstance(profiles, Mapping) or not all(
        isinstance(name, str) and isinstance(one, Profile) for name, one in profiles.items()
    ):
        raise TypeError(
            "profiles takes a dict of profiles by title, such as {'before': klp.profile(model)}, "
            f"not {profiles!r}."
        )
    if not profiles:
        raise ValueError("profiles is empty; give at least one.")
    rows = {name: _figures(one) for name, one in profiles.items()}
    print_table(ratio_table(rows, title=title))


def _figures(one: Profile) -> dict[str, float | None]:
    """What a profile's column shows, per sample, in units that read well."""
    figures: dict[str, float | None] = {
        "Parameters": one.parameters,
        "FLOPs": one.flops,
        "File size (KiB)": one.file_size / 1024,
        "Energy estimate (uJ)": None if one.energy is None else 1e6 * one.energy,
        "Threads": one.threads,
    }
    for timing in one.timings:
        at = f"batch {timing.batch_size}"
        memory = timing.peak_memory
        figures |= {
            f"Latency, {at} (ms)": timing.median,
            f"Latency, {at}, p95 (ms)": timing.p95,
            f"Peak memory, {at} (MiB)": None if memory is None else memory / _MIB,
        }
    return figures


def _of_keras(model: Any, options: Mapping[str, Any]) -> Profile:
    from keras_lrp_prune.graph.reader import read_model

    keras = keras_of(model)  # a TypeError if it is no model
    graph = read_model(model)
    inputs = list(references(graph.inputs))
    if options["input_shape"] is not None and len(inputs) == 1:
        _check_fits(graph.shape(inputs[0])[1:], options["input_shape"])
        graph = sized(graph, options["input_shape"], keras)
    model_cost = CostModel(graph, channel_structure(graph))
    cost = model_cost()
    weights = _keras_weights(model)
    with tempfile.TemporaryDirectory() as folder:
        _write_saved_model(model, Path(folder, "model"))
        found = measured("saved_model", Path(folder, "model"), **options)
    dtype = _most(weights)
    return Profile(
        kind="keras",
        parameters=cost.parameters,
        flops=cost.flops,
        file_size=file_size(model),
        energy=_energy(cost.flops, weights, dtype),
        dtype=dtype,
        threads=options["threads"],
        timings=_timings(found),
        uncounted=model_cost.uncounted,
    )


def _check_fits(takes: tuple[int | None, ...], given: tuple[int | None, ...]) -> None:
    fits = len(takes) == len(given) and all(
        size in (None, found) for size, found in zip(takes, given, strict=True)
    )
    if not fits:
        raise ValueError(f"input_shape is {given}, but the model takes samples of shape {takes}.")


def _of_saved_model(folder: Path, options: Mapping[str, Any]) -> Profile:
    found = measured("saved_model", folder, **options)
    dtype = _most(found["weights"])
    return Profile(
        kind="saved_model",
        parameters=found["parameters"] or None,  # a frozen graph has its weights as constants
        flops=found["flops"],
        file_size=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        energy=_energy(found["flops"], found["weights"], dtype),
        dtype=dtype,
        threads=options["threads"],
        timings=_timings(found),
    )


def _of_litert(path: Path, options: Mapping[str, Any]) -> Profile:
    extra("ai_edge_litert.interpreter")  # the measuring process needs it
    counts = litert_counts(path)
    found = measured("litert", path, **options)
    # Weights kept in float16 are turned into float32 before they are used.
    dtype = "int8" if _most(counts.weights) == "INT8" else "float32"
    return Profile(
        kind="litert",
        parameters=counts.parameters,
        flops=counts.flops,
        file_size=path.stat().st_size,
        energy=energy(counts.flops, sum(counts.weights.values()), dtype),
        dtype=dtype,
        threads=options["threads"],
        timings=_timings(found),
        uncounted=counts.uncounted,
    )


_FILES: Mapping[str, Callable[[Path, Mapping[str, Any]], Profile]] = {
    "saved_model": _of_saved_model,
    "litert": _of_litert,
}


def _kind(path: Path) -> str:
    """What a path leads to: a key of `_FILES`."""
    if (path / "saved_model.pb").is_file():
        return "saved_model"
    if path.is_file() and path.suffix == ".tflite":
        return "litert"
    if not path.exists():
        raise ValueError(f"There is no file or folder {path}.")
    what = "folder without saved_model.pb" if path.is_dir() else f"{path.suffix or 'unknown'} file"
    raise ValueError(
        f"{path} is a {what}. Give the folder of a SavedModel (where saved_model.pb lies), a "
        ".tflite file, or a Keras model: keras.models.load_model(path)."
    )


def _write_saved_model(model: keras.Model, folder: Path) -> None:
    """Writes the model's inference as a SavedModel; the batch size stays open."""
    import tensorflow as tf

    inputs, keras = list(model.inputs), keras_of(model)
    # Takes a tensor or a list, whatever structure the model wants.
    single = len(inputs) == 1
    plain = keras.Model(inputs[0] if single else inputs, list(model.outputs))
    specs = [
        tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype, name=f"input_{number}")
        for number, tensor in enumerate(inputs)
    ]

    def serve(*tensors: Any) -> dict[str, Any]:
        outputs = plain(tensors[0] if single else list(tensors), training=False)
        return {f"output_{number}": value for number, value in enumerate(tf.nest.flatten(outputs))}

    with contextlib.redirect_stdout(io.StringIO()):
        traced(model, serve, specs).save(folder)


def _keras_weights(model: keras.Model) -> dict[str, int]:
    """Bytes of the weights by dtype."""
    import tensorflow as tf

    found: dict[str, int] = {}
    for weight in model.weights:
        dtype = tf.as_dtype(weight.dtype)
        elements = tf.TensorShape(weight.shape).num_elements()
        found[dtype.name] = found.get(dtype.name, 0) + dtype.size * elements
    return found


def _most(weights: Mapping[str, int]) -> str:
    """The dtype of most bytes."""
    return max(weights, key=weights.__getitem__, default="float32")


def _energy(flops: int | None, weights: Mapping[str, int], dtype: str) -> float | None:
    """The estimate; `None` if the FLOPs or weights are unknown, or the dtype has no figure."""
    if not flops or not weights or dtype not in ARITHMETIC:
        return None
    return energy(flops, sum(weights.values()), dtype)


def _timings(found: Mapping[str, Any]) -> tuple[Timing, ...]:
    return tuple(Timing(**entry) for entry in found["timings"])
