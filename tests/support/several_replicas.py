"""Runs the package on one device and on several replicas, and reports how the results compare.

    python tests/support/several_replicas.py REPORT.json SECTION...

The replicas are logical CPU devices, which have to be set up before TensorFlow starts: hence a
process of its own. `test_distribution.py` runs it and reads the report.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from models import (
    BUILDERS,
    CLASSES,
    IMAGE,
    analysed,
    difference,
    images,
    make_live,
    random_removal,
    same_weights,
)

import keras_lrp_prune as klp
from keras_lrp_prune.control.goals import RateGoal
from keras_lrp_prune.control.loop import PruningLoop
from keras_lrp_prune.control.pace import make_pace
from keras_lrp_prune.control.schedules import AccuracyAware
from keras_lrp_prune.cost import CostModel
from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.criteria.registry import chosen_criterion
from keras_lrp_prune.data import reference_set
from keras_lrp_prune.examination.examiners import make_examiner
from keras_lrp_prune.examination.subject import read_subject
from keras_lrp_prune.graph.heads import read_head
from keras_lrp_prune.relevance.native.engine import NativeEngine
from keras_lrp_prune.runtime import CompiledForward, Execution, OverSamples, is_chief
from keras_lrp_prune.selection.limits import Limits

REPLICAS = (2, 3)
SAMPLES = 23  # prime: no batch or share is even
LRP = "lrp.sequential_preset_a"


@cache
def mirrored(replicas: int) -> tf.distribute.Strategy:
    """A strategy with that many replicas."""
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(replicas)])


@cache
def problem() -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """A residual network, made outside of all strategies, and samples."""
    keras.utils.set_random_seed(0)
    model = make_live(BUILDERS["resnet_v1"]())
    return model, images(model, SAMPLES), np.arange(SAMPLES) % CLASSES


@cache
def two_classes() -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """A sigmoid unit behind a nested model and scaled input, and one sample for each class."""
    keras.utils.set_random_seed(0)
    inputs = layers.Input(IMAGE)
    inner = make_live(BUILDERS["mobilenet"]("sigmoid"))
    model = keras.Model(inputs, inner(layers.Rescaling(1 / 127.5, offset=-1)(inputs)))
    x = np.random.default_rng(0).uniform(0, 255, (2, *IMAGE)).astype(np.float32)
    return model, x, np.arange(2)


def legacy_model() -> tf_keras.Model:
    """A model of legacy Keras."""
    tf_keras.utils.set_random_seed(0)
    inputs = tf_keras.Input(IMAGE)
    x = tf_keras.layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv")(inputs)
    x = tf_keras.layers.ReLU()(tf_keras.layers.BatchNormalization()(x))
    x = tf_keras.layers.Conv2D(8, 3, activation="relu", name="second")(x)
    x = tf_keras.layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(inputs, tf_keras.layers.Dense(CLASSES, name="classes")(x))


def worst(many: dict[str, np.ndarray], one: dict[str, np.ndarray]) -> float:
    """Largest difference over all layers, each relative to the largest value there."""
    assert many.keys() == one.keys()
    return max(difference(many[name], values) for name, values in one.items())


def relevance() -> dict[str, float]:
    """Relevance of filters and input, for uneven batches and fewer samples than replicas."""
    found = {}
    for case, every_class, pairs in (
        (problem, False, ((2, 3), (3, 5), (3, 100))),
        (problem, True, ((2, 3),)),
        (two_classes, False, ((3, 5),)),
        (two_classes, True, ((3, 1),)),
    ):
        model, x, y = case()
        options = {"every_class": every_class, "batch_size": len(x)}
        one = klp.filter_relevance(model, x, y, engine="native", **options)
        for replicas, batch in pairs:
            options["batch_size"] = batch
            many = klp.filter_relevance(model, x, y, strategy=mirrored(replicas), **options)
            name = "every class" if every_class else "own class"
            found[f"{case.__name__}: {name}, {replicas} x {batch}"] = worst(many, one)
    model, x, y = problem()
    for outputs, replicas, batch in ((None, 2, 4), (y, 3, 100)):
        one = klp.input_relevance(model, x, outputs, engine="native")
        many = klp.input_relevance(model, x, outputs, batch_size=batch, strategy=mirrored(replicas))
        asked = "highest" if outputs is None else "given"
        found[f"input, {asked} output, {replicas} x {batch}"] = difference(many, one)
    return found


def made_in_scope() -> dict[str, float]:
    """A model that was made in the scope of the strategy."""
    model, x, y = problem()
    strategy = mirrored(2)
    with strategy.scope():
        inside = keras.models.clone_model(model)
        inside.set_weights(model.get_weights())
    one = klp.filter_relevance(model, x, y, engine="native")
    return {"relevance": worst(klp.filter_relevance(inside, x, y, strategy=strategy), one)}


def one_device_strategy() -> dict[str, float]:
    """A strategy with one replica."""
    model, x, y = problem()
    strategy = tf.distribute.OneDeviceStrategy("CPU:1")
    options = {"engine": "native", "batch_size": 5}
    one = klp.filter_relevance(model, x, y, **options)
    many = klp.filter_relevance(model, x, y, strategy=strategy, **options)
    return {"relevance": worst(many, one), "chief": is_chief(strategy)}


def forward() -> dict[str, float]:
    """Outputs of a model, row by row."""
    model, x, _ = problem()
    found = {}
    for replicas, batch, count in ((2, 3, SAMPLES), (3, 5, SAMPLES), (3, 100, SAMPLES), (3, 4, 2)):
        strategy = mirrored(replicas)
        with strategy.scope():
            copy = keras.models.clone_model(model)
            copy.set_weights(model.get_weights())
            run = CompiledForward(copy, batch, strategy)
        expected = model(x[:count], training=False)
        found[f"{count} samples, {replicas} x {batch}"] = difference(run(x[:count]), expected)
    return found


def shares() -> dict[str, list[int]]:
    """How many samples each of three replicas counts: of two batches, and of fewer samples."""
    strategy = mirrored(3)

    def count(x: Any, y: Any) -> tuple[Any, Any]:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.one_hot(replica, 3, dtype=tf.int32) * tf.reduce_sum(tf.cast(y >= 0, tf.int32)), x

    run = OverSamples(count, tf.TensorSpec([None]), batch_size=5, strategy=strategy)
    return {
        str(n): run(np.zeros(n, np.float32), np.zeros(n, np.int64))[0].tolist()
        for n in (SAMPLES, 2)
    }


@cache
def _summing(replicas: int, batch: int) -> OverSamples:
    def function(x: Any, y: Any) -> tuple[Any, Any]:
        by_class = tf.math.unsorted_segment_sum(x, y, CLASSES)
        return {"sum": by_class, "count": tf.reduce_sum(tf.cast(y >= 0, tf.int64))}, 2 * x

    strategy = mirrored(replicas) if replicas > 1 else None
    spec = tf.TensorSpec([None, 2], tf.float64)
    return OverSamples(function, spec, batch_size=batch, strategy=strategy)


def any_split() -> dict[str, int]:
    """Sums and rows for any number of samples, batch size and replicas; returns the traces."""

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(
        labels=st.lists(st.integers(-1, CLASSES - 1), min_size=1, max_size=30),
        batch=st.integers(1, 6),
        replicas=st.integers(1, max(REPLICAS)),
    )
    def check(labels: list[int], batch: int, replicas: int) -> None:
        y = np.array(labels)
        x = np.random.default_rng(len(y)).normal(size=(len(y), 2))
        run = _summing(replicas, batch)
        sums, rows = run(x, y)
        assert sums["count"] == (y >= 0).sum()
        expected = [x[y == label].sum(0) for label in range(CLASSES)]
        np.testing.assert_allclose(sums["sum"], expected, atol=1e-12)
        np.testing.assert_array_equal(rows, 2 * x)
        assert run.traces == 1

    check()
    return {"functions": _summing.cache_info().currsize}


def pruned(criterion: str, by: tuple[int, ...]) -> dict[str, Any]:
    """A whole run with one criterion, on one device and under strategies."""
    model, x, y = problem()
    weights = model.get_weights()
    held_out = (images(model, 9, seed=1), np.arange(9) % CLASSES)
    options = {
        "target_rate": 0.5,
        "criterion": criterion,
        "validation": held_out,
        "schedule": AccuracyAware(rate="adaptive", tolerance=0.0),  # undoes every drop
        "recovery": None,
        "verbose": 0,
    }
    one = klp.prune(model, (x, y), engine="native", **options)
    found = {}
    for replicas in by:
        many = klp.prune(model, (x, y), batch_size=5, strategy=mirrored(replicas), **options)
        steps = zip(many.history, one.history, strict=True)
        found[str(replicas)] = {
            "steps": len(many.history),
            "undone": sum(not step.accepted for step in many.history),
            "same filters": all((many.kept[name] == kept).all() for name, kept in one.kept.items()),
            "same history": [
                (step.rate, step.filters, step.accepted, step.class_accuracies)
                for step in many.history
            ]
            == [
                (step.rate, step.filters, step.accepted, step.class_accuracies)
                for step in one.history
            ],
            "soft accuracies": max(
                difference(
                    np.array(ours.soft_class_accuracies), np.array(theirs.soft_class_accuracies)
                )
                for ours, theirs in steps
            ),
            "same reports": (many.reference, many.validation) == (one.reference, one.validation),
            "engine": many.settings["engine"],
            "outputs": difference(many.model(x), one.model(x)),
            "plain model": _is_plain(many.model, x),
            "untouched": same_weights(model.get_weights(), weights),
        }
    return found


def _is_plain(model: keras.Model, x: np.ndarray) -> bool:
    """Whether no variable belongs to a strategy, and a copy on disk gives the same."""
    if any(isinstance(w.value, tf.distribute.DistributedValues) for w in model.weights):
        return False
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder, "model.keras"))
        loaded = keras.models.load_model(Path(folder, "model.keras"))
    return bool((loaded.predict(x, verbose=0) == model.predict(x, verbose=0)).all())


def traces() -> dict[str, int]:
    """How often the engine is traced over masks, batch sizes and kinds of results."""
    model, x, y = problem()
    graph, structure = analysed(model)
    found = {}
    with NativeEngine(graph, LRP, batch_size=4, strategy=mirrored(2)) as engine:
        for seed in range(3):
            engine.set_mask(structure, random_removal(structure, 0.3, seed))
            for count in (SAMPLES, 5, 1):
                engine.filter_relevance(x[:count], y[:count])
        found["own class"] = engine.traces
        engine.filter_relevance(x, y, every_class=True)
        engine.input_relevance(x, y)
        found["all kinds"] = engine.traces
    return found


def traces_of_a_run() -> dict[str, int]:
    """How often the engine is traced over a whole run of the loop."""
    model, x, y = problem()
    graph, structure = analysed(model)
    reference = reference_set((x, y), n_classes=CLASSES, input_shape=IMAGE)
    asked = Problem(
        graph,
        structure,
        lambda: None,
        lambda: None,
        read_head(graph),
        reference,
        4,
        strategy=mirrored(2),
    )
    scorer = chosen_criterion(LRP).scorer(asked)
    state = PruningLoop(
        prunable=structure,
        examiner=make_examiner(asked, scorer, "as_is", refit_head=False),
        pace=make_pace(AccuracyAware(), trials=False),
        counts=lambda removed: CostModel(graph, structure)(removed).counts(),
        goal=RateGoal(structure, Limits(1, 1), 0.4),
        limits=Limits(1, 1),
    ).run()
    return {"steps": len(state.history), "traces": scorer.engine.traces}


def scores() -> dict[str, float]:
    """Scores of other criteria, on one device and by two replicas in uneven batches."""
    model, x, y = problem()
    found = {}
    for name in ("taylor.group", "thinet"):
        by = []
        for strategy in (None, mirrored(2)):
            asked = read_subject(model, (x, y), execution=Execution(5, 2**30, strategy)).problem()
            scorer = chosen_criterion(name).scorer(asked)
            by.append(scorer.scores(np.zeros(asked.structure.n_units, bool)).by_class)
        found[name] = difference(*by)
    return found


def legacy() -> dict[str, Any]:
    """A model of legacy Keras."""
    model = legacy_model()
    _, x, y = problem()
    options = {"target_rate": 0.4, "criterion": "taylor", "verbose": 0}
    relevance = klp.filter_relevance(model, x, y, engine="native")
    many = klp.filter_relevance(model, x, y, batch_size=5, strategy=mirrored(2))
    one = klp.prune(model, (x, y), **options)
    two = klp.prune(model, (x, y), batch_size=5, strategy=mirrored(2), **options)
    return {
        "relevance": worst(many, relevance),
        "same filters": all((two.kept[name] == kept).all() for name, kept in one.kept.items()),
        "legacy": isinstance(two.model, tf_keras.Model),
        "distributed": sum(
            isinstance(w, tf.distribute.DistributedValues) for w in two.model.weights
        ),
        "outputs": difference(two.model(x), one.model(x)),
    }


def errors() -> dict[str, list[str]]:
    """What is refused: type of the error, and message."""
    model, x, y = problem()
    central = tf.distribute.experimental.CentralStorageStrategy(["CPU:0"], "CPU:0")
    asked = {
        "a name": {"strategy": "mirrored"},
        "a class": {"strategy": tf.distribute.MirroredStrategy},
        "another kind": {"strategy": central},
        "innvestigate": {"strategy": mirrored(2), "engine": "innvestigate"},
    }
    calls = {
        "filter_relevance": lambda wrong: klp.filter_relevance(model, x, y, **wrong),
        "input_relevance": lambda wrong: klp.input_relevance(model, x, **wrong),
        "prune": lambda wrong: klp.prune(model, (x, y), 0.4, verbose=0, **wrong),
    }
    found = {}
    for name, wrong in asked.items():
        for call, function in calls.items():
            try:
                function(wrong)
                found[f"{name}: {call}"] = ["", "accepted"]
            except Exception as error:
                found[f"{name}: {call}"] = [type(error).__name__, str(error)]
    return found


SECTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    **{
        section.__name__: section
        for section in (
            *(relevance, made_in_scope, one_device_strategy, forward, shares, any_split),
            *(traces, traces_of_a_run, scores, legacy, errors),
        )
    },
    f"prune by {LRP}": partial(pruned, LRP, (2,)),
    "prune by lrp.log_odds": partial(pruned, "lrp.log_odds", (2, 3)),
    "prune by lrp.unique": partial(pruned, "lrp.unique", (2,)),
    "prune by taylor": partial(pruned, "taylor", (2, 3)),
    "prune by activation": partial(pruned, "activation", (3,)),
}


def main() -> None:
    """Writes the report of the sections named; one that fails has its traceback there."""
    path, *names = sys.argv[1:]
    (cpu,) = tf.config.list_physical_devices("CPU")
    devices = [tf.config.LogicalDeviceConfiguration() for _ in range(max(REPLICAS))]
    tf.config.set_logical_device_configuration(cpu, devices)
    report = {}
    for name in names:
        print(f"{time.process_time():5.1f} s  {name}", flush=True)
        try:
            report[name] = SECTIONS[name]()
        except Exception:
            report[name] = {"failure": traceback.format_exc()}
    Path(path).write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
