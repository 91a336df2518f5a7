"""A model's train function in which a mask is held."""

from __future__ import annotations

from typing import Any

import keras

from keras_lrp_prune.surgery.holding import HeldMask


class HeldFunction:
    """Stands in for `model.train_function`: holds a mask during the calls that were announced.

    The constraints that hold the mask are in place during such a call alone, as it is traced or
    runs eagerly. So the weights have their own constraints whenever anybody else looks, even if
    the training is interrupted, of which Keras tells callbacks nothing. What an interrupted `fit`
    leaves behind is never announced again, and takes itself away.

    Args:
        model: A compiled Keras 3 model.
        mask: On that model.
    """

    def __init__(self, model: keras.Model, mask: HeldMask) -> None:
        self._model, self._mask, self._announced = model, mask, False
        self._wrap()

    def attach(self) -> None:
        """Stands in again, if another callback made the train function anew.

        Raises:
            ValueError: If another `FilterPruning` stands there.
        """
        now = self._model.train_function
        if now is self:
            return
        if isinstance(now, HeldFunction):
            raise ValueError("model.fit got FilterPruning twice; give it one of the two.")
        self._wrap()

    def announce(self) -> None:
        """Says that the next call is of the `fit` that this stands in for."""
        self.attach()
        self._announced = True

    def detach(self) -> None:
        """Leaves the model with a train function that was not traced yet."""
        self._model.make_train_function(force=True)

    def __call__(self, iterator: Any) -> Any:
        """One call of the train function."""
        if not self._announced:
            self.detach()
            return self._model.train_function(iterator)
        self._announced = False
        with self._mask.holding():
            return self._function(iterator)

    def _wrap(self) -> None:
        # Steps that were traced before know nothing of the constraints.
        self._model.make_train_function(force=True)
        self._function = self._model.train_function
        self._model.train_function = self
