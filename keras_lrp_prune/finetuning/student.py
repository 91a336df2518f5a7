"""The model that is trained: a student with logits, and beside it, perhaps, a teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

Tensor = Any


class Distillation(keras.losses.Loss):
    """How far softened class probabilities of the student are from those of the teacher.

    `T^2 * KL(softmax(teacher / T) || softmax(student / T))`, for each sample. The factor keeps its
    gradients at the size of those of the cross-entropy, whatever the temperature (Hinton, Vinyals
    and Dean 2015, arXiv:1503.02531).

    Args:
        temperature: What logits are divided by, above 0.

    Example:
    >>> loss = Distillation(temperature=4.0)
    >>> loss(teacher_logits, student_logits)
    """

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__(name="distillation")
        self.temperature = temperature

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """The loss of each sample.

        Args:
            y_true: Logits of the teacher, shape `(n, classes)`, or `(n, 1)` for one unit.
            y_pred: Logits of the student alike.

        Returns:
            Shape `(n,)`.
        """
        teacher, student = (
            ops.log_softmax(_of_each_class(logits) / self.temperature, axis=-1)
            for logits in (y_true, y_pred)
        )
        divergence = ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)
        return self.temperature**2 * divergence

    def get_config(self) -> dict[str, Any]:
        """The arguments, for Keras."""
        return {"temperature": self.temperature}


def _of_each_class(logits: Tensor) -> Tensor:
    """One unit scores class 1 against class 0, whose logit is 0."""
    if logits.shape[-1] > 1:
        return logits
    return ops.concatenate([ops.zeros_like(logits), logits], axis=-1)


class Student(keras.Model):
    """Trains the layers of a model, whose outputs are logits.

    The loss is that of `compile()`, plus `weight` times the distance to a teacher. Callbacks that
    save the model write the plain one.

    Args:
        model: The model whose layers are trained.
        plain: Gives the model to save, with the present weights.
        teacher: A model with logits; it is run in inference mode, and not trained.
        weight: Factor of the distance to the teacher.
        temperature: Temperature of the distance.
    """

    def __init__(
        self,
        model: keras.Model,
        plain: Callable[[], keras.Model],
        *,
        teacher: keras.Model | None = None,
        weight: float = 0.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(model.inputs[0], model.outputs[0], name=model.name)
        self._plain = plain
        self._soft = None
        if teacher is not None:
            # Inside a function: as an attribute, its weights would count as the student's.
            single, distance = _single(teacher), Distillation(temperature)
            self._soft = lambda x, logits: weight * distance(single(x, training=False), logits)

    def compute_loss(
        self,
        x: Tensor = None,
        y: Tensor = None,
        y_pred: Tensor = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """Keras' own loss, regularisers included, and the distance to the teacher."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training=training)
        return loss if self._soft is None else loss + self._soft(x, y_pred)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Saves the plain model, as `keras.Model.save` does."""
        self._plain().save(*args, **kwargs)


def _single(model: keras.Model) -> keras.Model:
    """A model that takes a tensor, even where it wants a list or a dict with one."""
    return keras.Model(model.inputs[0], model.outputs[0])
