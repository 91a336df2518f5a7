"""One training: what is read of the models, the copies that are trained, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from keras_lrp_prune.data import ReferenceSet
from keras_lrp_prune.finetuning.frozen_layers import (
    check_trains,
    in_words,
    kept_batch_norm,
    normalising,
    unfreeze,
    what_trains,
)
from keras_lrp_prune.finetuning.logits import check_head, with_logits
from keras_lrp_prune.finetuning.samples import TrainingData
from keras_lrp_prune.finetuning.tuning_result import TuningResult
from keras_lrp_prune.graph.generations import keras_of
from keras_lrp_prune.graph.heads import Head
from keras_lrp_prune.graph.layer_types import Trait, types_with
from keras_lrp_prune.graph.model_graph import ModelGraph, UnsupportedModelError, references
from keras_lrp_prune.surgery.builder import Built, build, rebuild
from keras_lrp_prune.surgery.kept import Kept

if TYPE_CHECKING:
    import keras

# The largest share of the old moving statistics that may be left after a training.
_OLD_STATISTICS = 0.01


@dataclass(frozen=True)
class Classifier:
    """A model that was read, and what its outputs mean."""

    graph: ModelGraph
    head: Head

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of one sample, without the batch axis."""
        (ref,) = references(self.graph.inputs)
        return self.graph.shape(ref)[1:]

    def with_logits(self) -> Built:
        """A copy with logits as outputs, in the order of weights of the model itself."""
        import keras

        return build(with_logits(self.graph), Kept(), keras)


def read_classifier(model: Any, role: str) -> Classifier:
    """Reads a Keras 3 classifier, the model or the teacher; errors call it by its `role`.

    Raises:
        UnsupportedModelError: If it cannot be trained here.
        TypeError: If it is no Keras model.
    """
    from keras_lrp_prune.graph.reader import read_model

    if keras_of(model).__name__ != "keras":
        raise UnsupportedModelError(
            f"The {role} {model.name!r} is a legacy Keras (tf_keras) model; fine-tuning needs "
            "Keras 3 models. Train it with tf_keras' own model.fit, or rebuild it in Keras 3."
        )
    graph = read_model(model)
    inputs = list(references(graph.inputs))
    if len(inputs) != 1:
        raise UnsupportedModelError(
            f"The {role} {model.name!r} has {len(inputs)} inputs; fine-tuning needs one."
        )
    head = check_head(graph)
    head.warn_if_unclear(graph.name)
    return Classifier(graph, head)


def check_teacher(student: Classifier, teacher: Classifier) -> None:
    """Raises `UnsupportedModelError` if the two differ in their classes or inputs."""
    if teacher.head.n_classes != student.head.n_classes:
        raise UnsupportedModelError(
            f"The teacher scores {teacher.head.n_classes} classes, the model "
            f"{student.head.n_classes}. Give a teacher for the same classes."
        )
    shapes = student.input_shape, teacher.input_shape
    fits = len(shapes[0]) == len(shapes[1]) and all(
        None in pair or pair[0] == pair[1] for pair in zip(*shapes, strict=True)
    )
    if not fits:
        raise UnsupportedModelError(
            f"The teacher takes samples of shape {shapes[1]}, the model of shape {shapes[0]}. Give "
            "a teacher with the same input."
        )


class Session:
    """Trains a copy of a model.

    Args:
        source: The model.
        teacher: What it learns from beside the labels, if anything.
        settings: Those of `TuningResult`.
    """

    def __init__(
        self, source: Classifier, teacher: Classifier | None, settings: Mapping[str, Any]
    ) -> None:
        from keras_lrp_prune.finetuning.student import Student

        self._source, self._settings = source, settings
        copy = source.with_logits()
        self._trained = copy.model
        by_flags, normalised = what_trains(self._trained), normalising(self._trained)
        keep = settings["freeze_batch_norm"] is None
        unfreeze(copy, settings["unfreeze"], keep_batch_norm=keep)
        _prepare(self._trained, settings)
        check_trains(self._trained)
        self._trains = in_words(
            by_flags,
            what_trains(self._trained),
            new_statistics=normalising(self._trained) > normalised,
            kept_batch_norm=keep and kept_batch_norm(copy, settings["unfreeze"]),
        )
        self._student = Student(
            self._trained,
            lambda: self.plain,
            teacher=None if teacher is None else teacher.with_logits().model,
            weight=settings["distillation_weight"] or 0.0,
            temperature=settings["temperature"] or 1.0,
        )

    def run(
        self,
        optimizer: Any,
        data: TrainingData,
        held_out: ReferenceSet | None,
        callbacks: Sequence[Any],
        verbose: int,
    ) -> TuningResult:
        """Trains; the arguments are those of a `Plan`."""
        from keras_lrp_prune.finetuning.validation_monitor import ValidationMonitor

        if self._trains and verbose:
            print(self._trains)
        loss, metric = loss_and_metric(self._source.head)
        share = 1.0 - (self._settings["distillation_weight"] or 0.0)
        self._student.compile(optimizer, loss, loss_weights=[share], metrics=[metric])
        monitor = ValidationMonitor(
            self._trained,
            held_out,
            keep_best=self._settings["restore_best"],
            batch_size=self._settings["batch_size"],
        )
        before = monitor.report or {}
        fitted = self._student.fit(
            data.batches.map(lambda x, y: (_cast(x, self._student), y)),
            epochs=self._settings["epochs"],
            steps_per_epoch=data.steps,
            callbacks=[monitor, *callbacks],
            shuffle=False,  # the batches are already
            verbose=verbose,
        ).history
        epoch = len(fitted["loss"])
        if self._settings["restore_best"]:
            epoch = monitor.best_epoch
            self._trained.set_weights(monitor.best_weights)
        # Measured anew after the training: callbacks of the user can have set other weights.
        monitor.look(epoch)
        history = {name: tuple(map(float, values)) for name, values in fitted.items()}
        reports = {"before": before, "after": monitor.report} if monitor.report else None
        return TuningResult(
            self.plain, history, reports, epoch, self._settings, trained=self._trains
        )

    @property
    def plain(self) -> keras.Model:
        """The model with its own outputs and the present weights, as a plain one."""
        self._plain.set_weights(self._trained.get_weights())
        return self._plain

    @cached_property
    def _plain(self) -> keras.Model:
        import keras

        model = rebuild(self._source.graph, Kept(), keras)
        if not model.compiled:
            compile_for(model, self._source.head)
        return model


def compile_for(model: Any, head: Head) -> None:
    """Compiles a model with the cross-entropy that fits its outputs, and Adam."""
    loss, metric = loss_and_metric(head, logits=head.kind == "logits")
    model.compile("adam", loss, metrics=[metric])


def _cast(x: Any, model: Any) -> Any:
    import tensorflow as tf

    return tf.cast(x, model.inputs[0].dtype)


def loss_and_metric(head: Head, *, logits: bool = True) -> tuple[Any, Any]:
    """The cross-entropy of class indices, and their accuracy."""
    import keras

    if head.one_unit:
        threshold = 0.0 if logits else 0.5
        accuracy = keras.metrics.BinaryAccuracy("accuracy", threshold=threshold)
        return keras.losses.BinaryCrossentropy(from_logits=logits), accuracy
    accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy")
    return keras.losses.SparseCategoricalCrossentropy(from_logits=logits), accuracy


def _prepare(model: Any, settings: Mapping[str, Any]) -> None:
    """Sets what holds in training only: batch normalisation, dropout, states of random generators.

    A model takes over the states of the one that it is a copy of.
    """
    import keras

    most = _OLD_STATISTICS ** (1 / settings["steps"])
    dropout: Any = tuple(getattr(keras.layers, name) for name in types_with(Trait.DROPS))
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, most)
            if settings["freeze_batch_norm"]:
                layer.trainable = False
        elif isinstance(layer, dropout):
            layer.rate *= settings["dropout_factor"]
    states = [v for v in model.variables if v.name == "seed_generator_state"]
    for number, state in enumerate(states):
        state.assign([settings["seed"], number])
