"""What a command line names: a model and folders of images, made ready for the library."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from keras_lrp_prune.data import DataError, ImageFolder, load_image_folder
from keras_lrp_prune.runtime import DEFAULT_BATCH_SIZE

if TYPE_CHECKING:
    import keras

T = TypeVar("T")
Preprocess = Callable[[np.ndarray], np.ndarray]

_RANGES: Mapping[str, Preprocess] = {
    "none": lambda x: x,
    "unit": lambda x: x / 255,
    "symmetric": lambda x: x / 127.5 - 1,
}
_BACKBONE_SIZE = 224
_CLASSES = 2  # of the head on a backbone whose structure alone is asked for
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class Task:
    """A classifier and the images to prune it for.

    Args:
        model: The classifier.
        images: The images as they were read, 0..255.
        reference: The same, preprocessed, and their classes.
        validation: Held-out ones, if any.
        wants: A sentence on what input the model takes.
    """

    model: keras.Model
    images: ImageFolder
    reference: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray] | None
    wants: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the model's outputs."""
        return self.images.class_names


def load_task(
    model: str,
    data: Path,
    *,
    validation: Path | None = None,
    per_class: int | None = None,
    weights: str | None = None,
    image_size: int | None = None,
    preprocess: str | None = None,
    batch_size: int | None = None,
    seed: int = 0,
) -> Task:
    """Loads the model and the images; fits a linear head if the model is a named backbone.

    Raises:
        DataError: If anything named cannot be used.
    """
    from keras_lrp_prune.recovery import with_linear_head

    is_file = _is_file(model)
    if is_file and weights is not None:
        raise DataError("--weights is for named backbones; a .keras file has its own.")
    if is_file:
        network, wanted = load_file(Path(model)), preprocess or "none"
    else:
        network, module = _backbone(model, weights or "imagenet", image_size or _BACKBONE_SIZE)
        wanted = preprocess or module
    height, width, channels = _input_size(network, image_size)
    prepare = preprocessing(wanted)

    def read(folder: Path, count: int | None) -> tuple[ImageFolder, np.ndarray]:
        images = load_image_folder(folder, image_size=(height, width), per_class=count, seed=seed)
        x = in_channels(images.x, channels)
        return images, np.asarray(prepare(x.copy()), np.float32)

    images, x = read(data, per_class)
    held_out = None
    if validation is not None:
        others, x_others = read(validation, None)
        if others.class_names != images.class_names:
            raise DataError(
                f"{validation} has the classes {', '.join(others.class_names)}, but {data} has "
                f"{', '.join(images.class_names)}."
            )
        held_out = (x_others, others.y)
    if not is_file:
        network = with_linear_head(
            network, (x, images.y), batch_size=batch_size or DEFAULT_BATCH_SIZE
        )
    wants = f"It takes {height}x{width}x{channels} images {_describe(wanted)}."
    return Task(network, images, (x, images.y), held_out, wants)


def load_network(model: str) -> keras.Model:
    """Loads a model file; or makes a named backbone with a head on it, without trained weights.

    Raises:
        DataError: If there is no such model.
    """
    if _is_file(model):
        return load_file(Path(model))
    import keras

    backbone, _ = _backbone(model, None, _BACKBONE_SIZE)
    scores = keras.layers.Dense(_CLASSES, name="predictions")(backbone.output)
    return keras.Model(backbone.input, scores, name=backbone.name)


def parsed_budget(entries: list[str] | None, rate: float | None) -> dict[str, float] | None:
    """The budget that `--budget` describes, if any.

    Raises:
        DataError: If an entry is not of the form name=share, or there is a `--rate` too.
        ValueError: For an unknown cost, or a share outside (0, 1].
    """
    from keras_lrp_prune.cost import check_budget

    if not entries:
        return None
    if rate is not None:
        raise DataError("Give --rate or --budget, not both.")
    budget = {}
    for entry in entries:
        name, _, share = entry.partition("=")
        try:
            budget[name] = float(share)
        except ValueError as error:
            raise DataError(
                f"--budget takes a cost and a share, such as flops=0.5, not {entry!r}."
            ) from error
    return check_budget(budget)


def numbers(text: str, kind: Callable[[str], T], option: str) -> list[T]:
    """The numbers of an option that takes several, with commas between.

    Raises:
        DataError: If one of them is none.
    """
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise DataError(f"{option} takes numbers with commas between, not {text!r}.") from error


def _is_file(model: str) -> bool:
    return model.endswith((".keras", ".h5")) or Path(model).exists()


def load_file(path: Path) -> keras.Model:
    """Loads a `.keras` file, or the one in a folder that `prune` wrote.

    Raises:
        DataError: If it cannot be loaded.
    """
    import keras

    if path.is_dir():
        path = path / "model.keras"
    if not path.is_file():
        raise DataError(f"There is no model file {path}.")
    try:
        return keras.models.load_model(path)
    except Exception as error:  # Keras raises whatever its parts raise
        raise DataError(f"Cannot load the model {path}: {error}") from error


def _backbone(text: str, source: str | None, size: int) -> tuple[keras.Model, str]:
    """A backbone of keras.applications with pooled features, and the name of its module."""
    import keras

    name, *options = text.split(":")
    functions = {
        key.lower(): value
        for key, value in vars(keras.applications).items()
        if callable(value) and key[0].isupper()
    }
    if name.lower() not in functions:
        raise DataError(
            f"{text!r} is neither a .keras file nor a keras.applications backbone. Backbones: "
            f"{', '.join(sorted(value.__name__ for value in functions.values()))}."
        )
    function = functions[name.lower()]
    if source not in (None, "imagenet") and not Path(source).is_file():
        raise DataError(f"There is no weights file {source}.")
    try:
        network = function(
            include_top=False,
            weights=source,
            pooling="avg",
            input_shape=(size, size, 3),
            **dict(map(_option, options)),
        )
    except Exception as error:  # download, file and argument errors of many kinds
        raise DataError(f"Cannot make {text} with weights {source!r}: {error}") from error
    return network, function.__module__.split(".")[-1]


def _option(text: str) -> tuple[str, Any]:
    key, found, value = text.partition("=")
    if not found:
        raise DataError(f"Backbone option {text!r} is not of the form name=value.")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def _input_size(model: keras.Model, image_size: int | None) -> tuple[int, int, int]:
    """Height, width and channels of the images that the model takes."""
    shape: tuple[Any, ...] = tuple(model.inputs[0].shape) if len(model.inputs or ()) == 1 else ()
    if len(shape) != 4 or shape[-1] not in (1, 3):
        raise DataError(
            f"The command line works on models with one image input (height, width, 1 or 3); "
            f"{model.name!r} takes {[tuple(entry.shape) for entry in model.inputs or ()]}."
        )
    height, width = (image_size if size is None else size for size in shape[1:3])
    if height is None or width is None:
        raise DataError(
            f"Model {model.name!r} takes images of any size {tuple(shape[1:])}; give --image-size."
        )
    if image_size not in (None, height) or image_size not in (None, width):
        raise DataError(
            f"Model {model.name!r} takes {height}x{width} images; leave out --image-size."
        )
    return height, width, shape[-1]


def in_channels(x: np.ndarray, channels: int) -> np.ndarray:
    """RGB images, or with `channels=1` their brightness, `(n, height, width, channels)`."""
    return x if channels == 3 else x @ _LUMA[:, None]


def preprocessing(name: str) -> Preprocess:
    """What `--preprocess` names; works on arrays and on tensors.

    Raises:
        DataError: If it names nothing.
    """
    if name in _RANGES:
        return _RANGES[name]
    import keras  # noqa: F401 - registers the modules below

    module = sys.modules.get(f"keras.src.applications.{name}")
    if module is None or not hasattr(module, "preprocess_input"):
        raise DataError(
            f"Unknown --preprocess {name!r}: give {', '.join(_RANGES)}, or the module of a "
            "keras.applications model, such as mobilenet or vgg16."
        )
    return lambda x: module.preprocess_input(x, data_format="channels_last")


def _describe(name: str) -> str:
    ranges = {
        "none": "with values in 0..255",
        "unit": "with values in 0..1 (x / 255)",
        "symmetric": "with values in -1..1 (x / 127.5 - 1)",
    }
    return ranges.get(name, f"preprocessed by keras.applications.{name}.preprocess_input")
