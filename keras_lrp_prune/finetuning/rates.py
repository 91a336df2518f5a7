"""The optimizer, and how its learning rate falls."""

from __future__ import annotations

from typing import Any

from keras_lrp_prune.arguments import number

DEFAULT_LEARNING_RATE = 1e-3
SCHEDULES = ("cosine", "plateau", None)

_PLATEAU_FACTOR = 0.5
_PLATEAU_PATIENCE = 2


def make_optimizer(optimizer: Any, learning_rate: Any, schedule: Any, steps: int) -> Any:
    """A new optimizer for one training, with its learning rate.

    Args:
        optimizer: A Keras optimizer, which is copied without its state, a name, or `None`: Adam.
        learning_rate: The rate at the start, a `LearningRateSchedule` that is taken as it is, or
            `None`: the optimizer's own; 0.001 if the optimizer is a name or `None`.
        schedule: `"cosine"`: falls to 0 over all steps; `"plateau"` or `None`: stays as it starts;
            or a `LearningRateSchedule`.
        steps: Number of steps in all.

    Raises:
        TypeError: If it is no Keras 3 optimizer, or the learning rate no number or schedule.
        ValueError: For an unknown name or schedule, two schedules, a learning rate that is not
            positive, or an optimizer that has no learning rate of its own.
    """
    import keras

    planned = keras.optimizers.schedules.LearningRateSchedule
    made = _copied(optimizer)
    if isinstance(schedule, planned):
        if learning_rate is not None:
            raise ValueError(
                "Give learning_rate or a LearningRateSchedule as schedule=, not both: the schedule "
                "holds the learning rates."
            )
        rate: Any = schedule
    elif schedule in SCHEDULES:
        rate = _start(optimizer, learning_rate)
    else:
        raise ValueError(
            f"Unknown schedule {schedule!r}. There are 'cosine', 'plateau', None, and "
            "keras.optimizers.schedules.LearningRateSchedule objects."
        )
    if isinstance(rate, planned) and schedule == "plateau":
        raise ValueError(
            "schedule='plateau' lowers a learning rate that is a number; the one given is a "
            "LearningRateSchedule. Choose schedule=None."
        )
    if not isinstance(rate, planned) and schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    return type(made).from_config({**made.get_config(), "learning_rate": rate})


def plateau_callbacks(schedule: Any, *, validated: bool) -> list[Any]:
    """The callback that halves the learning rate after 2 epochs in which the loss did not fall.

    Args:
        schedule: As in `make_optimizer`; there is none but for `"plateau"`.
        validated: Whether there are validation data: then their loss counts.
    """
    import keras

    if schedule != "plateau":
        return []
    monitor = "val_loss" if validated else "loss"
    return [
        keras.callbacks.ReduceLROnPlateau(
            monitor, factor=_PLATEAU_FACTOR, patience=_PLATEAU_PATIENCE, mode="min", min_delta=0.0
        )
    ]


def _copied(optimizer: Any) -> Any:
    import keras

    if optimizer is None or isinstance(optimizer, str):
        try:
            return keras.optimizers.get(optimizer or "adam")
        except ValueError as error:
            raise ValueError(f"Keras knows no optimizer {optimizer!r}.") from error
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            f"optimizer must be a Keras 3 optimizer or the name of one, not {optimizer!r}."
        )
    config = optimizer.get_config()
    if "learning_rate" not in config:
        raise ValueError(
            f"{type(optimizer).__name__} has no learning rate of its own to set. Give one for "
            "all weights, with none around it: Keras scales the loss by itself where a model "
            "computes in float16."
        )
    return type(optimizer).from_config(config)


def _start(optimizer: Any, learning_rate: Any) -> Any:
    """The learning rate at the start: a number, or a schedule that was given."""
    import keras

    planned = keras.optimizers.schedules.LearningRateSchedule
    if isinstance(learning_rate, planned):
        return learning_rate
    if learning_rate is None and not isinstance(optimizer, str | None):
        own = optimizer._learning_rate
        return own if isinstance(own, planned) else float(optimizer.learning_rate)
    rate = DEFAULT_LEARNING_RATE if learning_rate is None else learning_rate
    return number("(0, inf)")("learning_rate, if it is no LearningRateSchedule,", rate)
