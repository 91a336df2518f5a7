"""Generated calls of public functions: drawn by a number, run, and judged.

Half of the calls are valid: these must succeed, with what the function promises. In each of the
others one argument is wrong, and the call must end with an exception that the function documents.
Either way it ends in bounded time and leaves the model as it was.
"""

from __future__ import annotations

import builtins
import contextlib
import inspect
import io
import re
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from fuzz_models import BUILDERS, Case, case, plain, state_of
from fuzz_values import CALLS
from keras import layers
from PIL import Image

import keras_lrp_prune as klp
from keras_lrp_prune import data, extras
from keras_lrp_prune.control.proposal import Limits, largest_rate, rate_tolerance
from keras_lrp_prune.control.tfmot import PruningSchedule
from keras_lrp_prune.data import load_image_folder
from keras_lrp_prune.graph.analysis import channel_structure
from keras_lrp_prune.graph.generations import keras_of
from keras_lrp_prune.graph.reading import read_model
from keras_lrp_prune.surgery.building import build
from keras_lrp_prune.surgery.kept import Kept
from keras_lrp_prune.surgery.masking import ChannelMask

# Seconds that no call takes, however slow the machine.
_LIMIT = 240
# Of arguments that need not be given, the share that is.
_GIVEN = 0.3


@dataclass(frozen=True)
class Drawn:
    """A generated call.

    Args:
        name: The public function's.
        model: That of the pool, by its builder's name.
        arguments: Argument to its value, as code.
        wrong: The argument that is wrong, if there is one.
    """

    name: str
    model: str
    arguments: Mapping[str, str]
    wrong: str | None

    def __str__(self) -> str:
        given = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        return CALLS[self.name].code.format(given) + f"  # the model {self.model!r}"


def public(name: str) -> Any:
    """What a dotted name below the package stands for."""
    if name == "load_image_folder":  # by its own import
        return load_image_folder
    found = klp
    for part in name.split("."):
        found = getattr(found, part)
    return found


def parameters(name: str) -> tuple[str, ...]:
    """The arguments that a public function takes by name."""
    given = inspect.signature(public(name)).parameters.values()
    return tuple(it.name for it in given if it.kind is not it.VAR_KEYWORD)


def draw(number: int, seed: int) -> Drawn:
    """The call of a number: even ones are valid, odd ones have a wrong argument.

    Functions take turns: valid calls as often as the table says, wrong ones alike for each
    argument.
    """
    rng, turn = np.random.default_rng([seed, number]), number // 2
    wrong = None
    if number % 2 == 0:
        name = _turns()[turn % len(_turns())]
    else:
        places = [
            (name, it) for name in CALLS for it in parameters(name) if _values(name, it, True)
        ]
        name, wrong = places[
            np.random.default_rng(seed).permutation(len(places))[turn % len(places)]
        ]
    call = CALLS[name]
    builders = [it for it in BUILDERS if call.legacy or it.__name__ != "legacy"]
    given = [
        it
        for it in parameters(name)
        if it in call.needs or it == wrong or (_values(name, it) and rng.random() < _GIVEN)
    ]
    if "budget" in given and wrong != "budget":  # in place of a rate
        given.remove("target_rate" if "target_rate" in given and not wrong else "budget")
    arguments = {it: str(rng.choice(_values(name, it, it == wrong))) for it in given}
    arguments |= call.along.get(wrong or "", {})
    return Drawn(name, builders[rng.integers(len(builders))].__name__, arguments, wrong)


@cache
def _turns() -> tuple[str, ...]:
    """Each function as often as it is called validly in turns, spread evenly."""
    total = sum(call.valid for call in CALLS.values())
    places = [
        ((turn + 0.5) * total / call.valid, name)
        for name, call in CALLS.items()
        for turn in range(call.valid)
    ]
    return tuple(name for _, name in sorted(places))


def _values(name: str, argument: str, wrong: bool = False) -> list[str]:
    try:
        return list(CALLS[name].values(argument, wrong))
    except KeyError:
        return []


def documented(name: str) -> tuple[type[BaseException], ...]:
    """The exceptions that the docstring of a public function lists."""
    text = inspect.getdoc(public(name)) or ""
    section = re.search(r"^Raises:\n((?:    .*\n|\n)*)", text + "\n", re.MULTILINE)
    listed = re.findall(r"^    (\w+(?:, \w+)*):", section[1] if section else "", re.MULTILINE)
    names = {one for entry in listed for one in entry.split(", ")}
    return tuple(
        next(getattr(place, it) for place in (klp, builtins, data, extras) if hasattr(place, it))
        for it in sorted(names)
    )


def check(number: int, seed: int) -> None:
    """Runs the call of a number, and raises `AssertionError` with its code if it is not well."""
    drawn = draw(number, seed)
    found = case(next(it for it in BUILDERS if it.__name__ == drawn.model))
    before = state_of(found.model)
    shown = f"\nNumber {number}, seed {seed}: {drawn}"
    with TemporaryDirectory() as folder, bounded(_LIMIT), contextlib.redirect_stdout(io.StringIO()):
        names = _names(found, Path(folder))
        values = {it: eval(code, names) for it, code in drawn.arguments.items()}
        try:
            result = _called(drawn.name, values, names)
        except documented(drawn.name) as error:
            assert drawn.wrong, f"refused: {type(error).__name__}: {error}{shown}"
            assert _is_worded(error), f"not worded: {type(error).__name__}: {error}{shown}"
        except Exception as error:
            kind = f"{type(error).__name__}: {error}"
            raise AssertionError(f"not documented: {kind}{shown}") from error
        else:
            assert not drawn.wrong, f"{drawn.wrong} was accepted{shown}"
            try:
                _PROMISES.get(drawn.name, _nothing)(result, found, values)
                if drawn.name in _FINGERPRINTS:
                    values = {it: eval(code, names) for it, code in drawn.arguments.items()}
                    again, of = _called(drawn.name, values, names), _FINGERPRINTS[drawn.name]
                    assert of(again) == of(result), "another result the second time"
            except Exception as error:
                raise AssertionError(f"{type(error).__name__}: {error}{shown}") from error
        finally:
            plt.close("all")
    assert state_of(found.model) == before, f"the model is another one{shown}"


def _is_worded(error: BaseException) -> bool:
    """Whether an error about an argument was raised on purpose, and not by what it led to."""
    if type(error) not in (TypeError, ValueError):
        return bool(str(error).strip())
    last = traceback.extract_tb(error.__traceback__)[-1]
    return "keras_lrp_prune" in last.filename and str(last.line).startswith("raise ")


def _called(name: str, values: Mapping[str, Any], names: Mapping[str, Any]) -> Any:
    given = ", ".join(f"{it}=__values[{it!r}]" for it in values)
    return eval(CALLS[name].code.format(given), {**names, "__values": values})


@contextlib.contextmanager
def bounded(seconds: int) -> Iterator[None]:
    """Raises `TimeoutError` in what takes longer."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# What the values speak of.


def _names(found: Case, folder: Path) -> dict[str, Any]:
    x, y = found.samples()
    (folder / "file").write_text("no folder")
    return {
        **{"klp": klp, "np": np, "tf": tf, "keras": keras, "schedules": klp.schedules},
        **{"case": found, "model": found.model, "x": x, "y": y},
        **{"folder": folder, "file": folder / "file"},
        "tfmot": _tfmot(),
        "backbone": lambda: keras_of(found.model).Model(
            found.model.inputs[0], found.model.layers[-2].output
        ),
        **{it.__name__: it for it in (dataset, unranked, answering, unbuilt, subclassed)},
        **{it.__name__: it for it in (two_outputs, two_inputs, image_output, fitted, profiled)},
        **{it.__name__: it for it in (saved, damaged, images, converted, converted_from)},
        "load_image_folder": load_image_folder,
    }


def _tfmot() -> Any:
    import tensorflow_model_optimization as tfmot

    return tfmot.sparsity.keras


def dataset(x: Any, y: Any) -> tf.data.Dataset:
    """Batches of the samples."""
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(5)


def unranked(x: Any, y: Any) -> Any:
    """A sample of which TensorFlow does not know how many axes it has."""
    return tf.py_function(lambda x, y: (x, y), (x, y), (tf.float32, y.dtype))


def answering(answer: Any) -> PruningSchedule:
    """A schedule that gives this answer to every step."""

    class Answering(klp.schedules.EqualSteps):
        def __call__(self, step: Any) -> Any:
            return answer

    return Answering()


def unbuilt() -> keras.Model:
    """A model without an input shape."""
    return keras.Sequential([layers.Conv2D(8, 3), layers.Flatten(), layers.Dense(3)])


class Subclassed(keras.Model):
    """A model that is no graph."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x: Any) -> Any:
        """Calls the layer."""
        return self.dense(layers.Flatten()(x))


def subclassed() -> keras.Model:
    """A model that is no graph, built."""
    model = Subclassed()
    model(np.zeros((1, 8, 8, 3)))
    return model


def two_outputs() -> keras.Model:
    """A model with two outputs."""
    model = case(plain).model
    return keras.Model(model.inputs, [model.layers[-2].output, model.layers[-1].output])


def two_inputs() -> keras.Model:
    """A model with two inputs."""
    one, other = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3)(layers.Add()([one, other]))
    return keras.Model([one, other], layers.Dense(3)(layers.Flatten()(x)))


def image_output() -> keras.Model:
    """A model that returns an image."""
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, layers.Conv2D(3, 3)(layers.Conv2D(8, 3)(inputs)))


def fitted(model: Any, pruning: Any) -> Any:
    """What an epoch of training a copy of the model makes of the callback."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    single, logits = copy.output_shape[-1] == 1, "softmax" not in str(copy.layers[-1].get_config())
    kind = "binary" if single else "sparse_categorical"
    losses = {"binary": "BinaryCrossentropy", "sparse_categorical": "SparseCategoricalCrossentropy"}
    loss = getattr(keras.losses, losses[kind])(from_logits=logits and not single)
    copy.compile("sgd", loss)
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    copy.fit(x, np.arange(8) % 2, batch_size=4, verbose=0, callbacks=[pruning])
    return pruning


def profiled() -> klp.Profile:
    """A profile, not measured."""
    return klp.Profile("keras", 10, 20, 30, None, "float32", 1, ())


@cache
def _kept() -> Path:
    """A folder for what is made once."""
    return Path(mkdtemp(prefix="fuzz-"))


@cache
def _pruned() -> klp.PruningResult:
    found = case(plain)
    return klp.prune(
        *(found.model, found.samples(), 0.3),
        **{"criterion": "l1", "schedule": klp.schedules.EqualSteps(1), "recovery": None},
        verbose=0,
    )


@cache
def saved() -> Path:
    """A saved result."""
    return _pruned().save(_kept() / "result")


@cache
def damaged() -> Path:
    """A saved result of which the record is damaged."""
    folder = _pruned().save(_kept() / "damaged")
    (folder / "result.json").write_text('{"keras": [')
    return folder


@cache
def images() -> Path:
    """A folder of images."""
    for name in ("a", "猫"):
        (_kept() / "images" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (9, 7)).save(_kept() / "images" / name / f"{number}.png")
    return _kept() / "images"


def converted_from() -> Any:
    """The model that `converted` is made of."""
    return case(plain).model


@cache
def converted() -> Path:
    """A file for LiteRT."""
    return klp.export.litert(converted_from(), _kept() / "plain.tflite")


# What functions promise.

Promise = Callable[[Any, Case, Mapping[str, Any]], None]


def _nothing(result: Any, found: Case, values: Mapping[str, Any]) -> None:
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
    if result.settings["recovery"] is None:
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
_FINGERPRINTS: Mapping[str, Callable[[Any], bytes]] = {
    "prune": lambda result: _bytes(result.kept),
    "accuracy_curve": lambda curve: _bytes(curve.class_accuracy) + _bytes(curve.reached),
    "filter_relevance": _bytes,
    "input_relevance": _bytes,
    "delete_channels": state_of,
    "explain": lambda found: str(found).encode(),
}

_PROMISES: Mapping[str, Promise] = {
    "prune": _pruned_well,
    "delete_channels": _deleted,
    "filter_relevance": _finite,
    "input_relevance": _finite,
    "callbacks.FilterPruning": _masked_after_training,
    "harmonic_mean_accuracy": _is_share,
    **dict.fromkeys(("explain", "profile", "compare", "finetune", "load_result"), _told),
    **dict.fromkeys(("prune_and_finetune", "accuracy_curve", "export.compare_litert"), _told),
}
