"""A model's train function in which a mask is held."""

from __future__ import annotations

from typing import Any

import keras

from keras_lrp_prune.prunables.prunable import HeldMask


class HeldFunction:
    """Stands in for `model.train_function`: holds a mask during the calls that were announced.

    The constraints that hold the mask are in place only while such a call is traced or runs
    eagerly. At all other times the weights have the user's own constraints, even after a training
    that was interrupted: Keras does not tell callbacks of that.

    The traced function is used again by the next `fit` with the same callback. In a `fit` without
    the callback no call is announced, and this object puts Keras' own train function back. (A call
    that was announced but never came belongs to another `fit`, and does not count.)

    Args:
        model: A compiled Keras 3 model.
        mask: On that model.
    """

    def __init__(self, model: keras.Model, mask: HeldMask) -> None:
        self._model, self._mask = model, mask
        # The history of the `fit` that the next call was announced for: each has its own.
        self._announced: Any = None

    def stand_in(self) -> None:
        """Puts itself in the place of the train function, unless it is there already."""
        self._announced = None
        if self._model.train_function is not self:
            # What was traced before has no constraints in it.
            self._model.make_train_function(force=True)
            self._function = self._model.train_function
            self._model.train_function = self

    def check_alone(self) -> None:
        """Checks that nothing else holds a mask in this `fit`.

        Raises:
            ValueError: If another `FilterPruning` stands there.
        """
        now = self._model.train_function
        if now is not self and isinstance(now, HeldFunction):
            raise ValueError("model.fit got FilterPruning twice; give it one of the two.")

    def announce(self) -> None:
        """Says that the next call is of the `fit` that this stands in for."""
        self.check_alone()
        self.stand_in()  # if another callback made the train function anew
        self._announced = self._model.history

    def __call__(self, iterator: Any) -> Any:
        """One call of the train function."""
        if self._announced is None or self._announced is not self._model.history:
            self._model.make_train_function(force=True)
            return self._model.train_function(iterator)
        self._announced = None
        with self._mask.holding():
            return self._function(iterator)
