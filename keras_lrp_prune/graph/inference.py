"""A model's inference as one TensorFlow function, which can be written as a SavedModel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_lrp_prune.graph.model_graph import UnsupportedModelError
from keras_lrp_prune.graph.reader import read_model

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

SIGNATURE = "serving_default"


@dataclass(frozen=True)
class Inference:
    """A traced function.

    Args:
        module: Owns the function, as `call`, and what it reads.
        function: The concrete function.
        specs: Shapes and dtypes of its inputs.
    """

    module: tf.Module
    function: Any
    specs: Sequence[tf.TensorSpec]

    def save(self, folder: Path) -> None:
        """Writes it as a SavedModel with one signature, `SIGNATURE`.

        Raises:
            UnsupportedModelError: If it uses a resource that is not a variable.
        """
        import tensorflow as tf

        try:
            tf.saved_model.save(self.module, str(folder), signatures={SIGNATURE: self.function})
        except AssertionError as error:
            if "untracked" not in str(error):
                raise
            raise UnsupportedModelError(
                "The model or its preprocessing uses a resource that is not a variable, such as a "
                "lookup table, which cannot be exported. Leave that step to the clients."
            ) from error


def traced(
    model: keras.Model, call: Callable[..., Any], specs: Sequence[tf.TensorSpec]
) -> Inference:
    """Traces a function that calls a model; costs no computation.

    Args:
        model: A Keras model (3 or legacy).
        call: The function.
        specs: What it takes.
    """
    import tensorflow as tf

    module = tf.Module()
    module.call = tf.function(call, input_signature=list(specs), autograph=False)
    function = module.call.get_concrete_function()
    # The module holds only what the function reads, not the layers: those have functions of their
    # own, which read more, such as the state of random number generators.
    module.variables_read = list(function.graph.variables)
    module.tables_read = _tables(model)
    return Inference(module, function, specs)


def _tables(model: keras.Model) -> list[Any]:
    """The tables of its layers that look values up."""
    layers = (layer.source for layer in read_model(model).flat().layers.values())
    tables = (getattr(layer, "lookup_table", None) for layer in layers)
    return [table for table in tables if table is not None]
