"""Which layers of a model train: by their flags, or unfrozen for as long as the training lasts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from keras_lrp_prune.graph.model_graph import ModelGraph, UnsupportedModelError

if TYPE_CHECKING:
    import keras

    from keras_lrp_prune.surgery.builder import Built


_NEW_STATISTICS = (
    "Batch normalisation that was frozen takes new statistics; of few samples they can cost much "
    "of the accuracy: freeze_batch_norm=True keeps those of the model."
)
_KEPT = "Batch normalisation stays frozen: freeze_batch_norm=False trains it too."

# All (`True`), none, or names: a nested model's name means all in it.
Layers = bool | tuple[str, ...] | None


def check_unfreeze(graph: ModelGraph, names: Layers) -> None:
    """Checks that a model has these layers, and something to train.

    Args:
        graph: Of the model.
        names: What is to be trained although it is frozen.

    Raises:
        ValueError: For a layer that the model does not have, or if none of them has weights.
        UnsupportedModelError: If nothing would be trained.
    """
    if not names:
        check_trains(graph.source)
    if not names or isinstance(names, bool):
        return
    flat = graph.flat()
    meant = {name: flat.layers_called(name) for name in names}
    for name, found in meant.items():
        if not found:
            raise ValueError(flat.no_layer("unfreeze", name))
    if not any(layer.weights for found in meant.values() for layer in found):
        raise ValueError(f"unfreeze names {', '.join(meant)}: nothing that has weights to train.")


def unfreeze(built: Built, names: Layers, *, keep_batch_norm: bool) -> None:
    """Makes layers of a copy trainable, and leaves the flags of the others.

    Args:
        built: The copy.
        names: What is to be trained although it is frozen.
        keep_batch_norm: Whether batch normalisation is left out, unless it is named by itself.
    """
    if not names:
        return
    model = built.model
    chosen = {id(part) for part in _parts(built, names)}
    if keep_batch_norm:
        chosen -= {id(part) for part in _batch_norms(built, names)}
    # Setting the flag of a layer sets those of the layers in it: outer layers come first.
    parts = sorted(model._flatten_layers(include_self=False), key=lambda part: not part._layers)
    flags = [(part, part.trainable or id(part) in chosen) for part in parts]
    frozen = [
        weight
        for part in parts
        if id(part) not in chosen
        for weight in part._trainable_variables
        if not weight.trainable
    ]
    # All flags are set to True. Keras sets those of inner layers only if the outer flag changes.
    model.trainable = False
    model.trainable = True
    for part, flag in flags:
        if part.trainable != flag:
            part.trainable = flag
    for weight in frozen:
        weight.trainable = False


def kept_batch_norm(built: Built, names: Layers) -> bool:
    """Whether batch normalisation is frozen among the layers that are to be trained.

    Args:
        built: The copy that trains.
        names: What is to be trained although it is frozen.
    """
    return any(not part.trainable for part in _batch_norms(built, names))


def _batch_norms(built: Built, names: Layers) -> Iterable[Any]:
    """Layers of batch normalisation with these names or in them, but those named by themselves."""
    import keras

    named = () if not names or isinstance(names, bool) else names
    by_itself = {id(built.layers[name]) for name in named if name in built.layers}
    for part in _parts(built, names):
        if isinstance(part, keras.layers.BatchNormalization) and id(part) not in by_itself:
            yield part


def _parts(built: Built, names: Layers) -> Iterable[Any]:
    """The layers with these names, and those in them."""
    if names is True:
        yield from built.model._flatten_layers()
    if not names or isinstance(names, bool):
        return
    for path, layer in built.layers.items():
        if any(path == name or path.startswith(f"{name}/") for name in names):
            yield from getattr(layer, "_flatten_layers", tuple)()


def check_trains(model: keras.Model) -> None:
    """Raises `UnsupportedModelError` if nothing of a model would be trained."""
    if not model.trainable_variables:
        raise UnsupportedModelError(
            f"Model {model.name!r} has no trainable weights: all of it is frozen. Give "
            "unfreeze=True to train all layers, or a list of the layers to train."
        )


@dataclass(frozen=True)
class Trained:
    """How many layers and parameters are trained, and how many there are that could be."""

    layers: int
    parameters: int
    all_layers: int
    all_parameters: int


def what_trains(model: keras.Model) -> Trained:
    """Counts what trains by the flags of a model."""
    owned = [part._trainable_variables for part in model._flatten_layers()]
    every = {id(weight): weight for weights in owned for weight in weights}.values()
    return Trained(
        layers=sum(any(weight.trainable for weight in weights) for weights in owned),
        parameters=sum(prod(weight.shape) for weight in every if weight.trainable),
        all_layers=sum(bool(weights) for weights in owned),
        all_parameters=sum(prod(weight.shape) for weight in every),
    )


def normalising(model: keras.Model) -> int:
    """How many layers of batch normalisation take the statistics of batches in training."""
    import keras

    layers = (part for part in model._flatten_layers() if part.trainable)
    return sum(isinstance(part, keras.layers.BatchNormalization) for part in layers)


def in_words(
    by_flags: Trained, trained: Trained, *, new_statistics: bool, kept_batch_norm: bool
) -> str:
    """What trains, in a line or two; empty for a model in which nothing is frozen.

    Args:
        by_flags: What would be trained by the flags of the model.
        trained: What is trained.
        new_statistics: Whether batch normalisation that was frozen takes new statistics.
        kept_batch_norm: Whether batch normalisation stays frozen among what is trained.
    """
    if by_flags.parameters == by_flags.all_parameters:
        return ""
    line = (
        f"Training {trained.layers:,} of {trained.all_layers:,} layers with weights "
        f"({trained.parameters:,} of {trained.all_parameters:,} parameters)"
    )
    if trained.parameters == trained.all_parameters:
        rest = ", those that are frozen in the model included."
    else:
        advice = ": unfreeze=True trains it too" if trained == by_flags else ""
        rest = f"; the rest is frozen{advice}."
    notes = {_NEW_STATISTICS: new_statistics, _KEPT: kept_batch_norm}
    return " ".join([f"{line}{rest}", *(note for note, holds in notes.items() if holds)])
