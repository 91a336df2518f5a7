"""The options of a training and everything that it needs, read and checked before any work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_lrp_prune.arguments import Checked, several
from keras_lrp_prune.data import ReferenceSet, checked_names
from keras_lrp_prune.finetuning.frozen_layers import check_unfreeze
from keras_lrp_prune.finetuning.rates import make_optimizer, plateau_callbacks
from keras_lrp_prune.finetuning.samples import TrainingData, held_out_data, training_data
from keras_lrp_prune.finetuning.session import Classifier, check_teacher, read_classifier
from keras_lrp_prune.graph.heads import Head
from keras_lrp_prune.pruning import PruningResult

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class TuningOptions(Checked):
    """The options of a training; the fields are the arguments of `finetune`.

    Raises:
        TypeError, ValueError: For arguments outside their ranges.
    """

    teacher: keras.Model | None
    epochs: int
    learning_rate: Any
    schedule: Any
    temperature: float
    distillation_weight: float
    validation: Any
    class_names: Iterable[str] | None
    restore_best: bool
    batch_size: int
    optimizer: Any
    augment: Any
    unfreeze: Any
    freeze_batch_norm: bool | None
    dropout_factor: float
    callbacks: Sequence[Any]
    seed: int
    verbose: int

    def __post_init__(self) -> None:
        super().__post_init__()
        several(_callback, "Keras callbacks")("callbacks", self.callbacks)
        if self.restore_best and self.validation is None:
            raise ValueError("restore_best=True needs validation=(x, y), which tells what is best.")


@dataclass(frozen=True)
class Plan:
    """Everything that a training needs.

    Args:
        source: The model.
        teacher: What it learns from beside the labels, if anything.
        data: What it is trained on.
        held_out: Validation data, if there are any.
        optimizer: With its learning rate.
        callbacks: Those that the learning rate needs, then the user's.
        settings: What was asked for, as the result states it.
        class_names: What the classes are called, if it is known.
    """

    source: Classifier
    teacher: Classifier | None
    data: TrainingData
    held_out: ReferenceSet | None
    optimizer: Any
    callbacks: Sequence[Any]
    settings: Mapping[str, Any]
    class_names: tuple[str, ...] | None


def make_plan(result: PruningResult | keras.Model, train: Any, options: TuningOptions) -> Plan:
    """Reads and checks what `finetune` is given; arguments and errors are its own."""
    model = result.model if isinstance(result, PruningResult) else result
    source = read_classifier(model, "model")
    check_unfreeze(source.graph, options.unfreeze)
    taught = None if options.teacher is None else read_classifier(options.teacher, "teacher")
    if taught is not None:
        check_teacher(source, taught)
    validation = options.validation
    held_out = None if validation is None else held_out_data(validation, source)
    data = training_data(
        train,
        source,
        batch_size=options.batch_size,
        augment=options.augment,
        seed=options.seed,
    )
    schedule, steps = options.schedule, options.epochs * data.steps
    made = make_optimizer(options.optimizer, options.learning_rate, schedule, steps)
    lowering = plateau_callbacks(schedule, validated=held_out is not None)
    return Plan(
        source=source,
        teacher=taught,
        data=data,
        held_out=held_out,
        optimizer=made,
        callbacks=[*lowering, *options.callbacks],
        settings=_settings(options, data, made),
        class_names=_names(options.class_names, result, data, source.head),
    )


def _settings(options: TuningOptions, data: TrainingData, optimizer: Any) -> dict[str, Any]:
    """What was asked for, as plain data."""
    schedule, distils = options.schedule, options.teacher is not None
    return {
        "epochs": options.epochs,
        "steps": options.epochs * data.steps,
        "samples": data.samples,
        "batch_size": options.batch_size,
        "optimizer": _optimizer_settings(optimizer),
        "schedule": schedule if isinstance(schedule, str | None) else type(schedule).__name__,
        "distillation": distils,
        "temperature": options.temperature if distils else None,
        "distillation_weight": options.distillation_weight if distils else None,
        "restore_best": options.restore_best,
        "unfreeze": options.unfreeze,
        "freeze_batch_norm": options.freeze_batch_norm,
        "dropout_factor": options.dropout_factor,
        "seed": options.seed,
    }


def _names(given: Any, result: Any, data: TrainingData, head: Head) -> tuple[str, ...] | None:
    """The names of the classes: those given, else those that the result or the data has."""
    if given is not None:
        return checked_names(given, head.n_classes)
    known = result.class_names if isinstance(result, PruningResult) else None
    return data.class_names if known is None else tuple(known)


def _callback(name: str, value: Any) -> None:
    import keras

    if not isinstance(value, keras.callbacks.Callback):
        raise TypeError(f"{name} must be a Keras callback, not {value!r}.")


def _optimizer_settings(optimizer: Any) -> dict[str, Any]:
    """Class and config, without the name: Keras numbers optimizers within a process."""
    config = {key: value for key, value in optimizer.get_config().items() if key != "name"}
    return {"class": type(optimizer).__name__, **config}
