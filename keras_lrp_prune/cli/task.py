"""What a command line names: a model and folders of images, made ready for the library."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from keras_lrp_prune.arguments import RULES
from keras_lrp_prune.cli.backbones import (
    DEFAULT_SIZE,
    IMAGENET,
    backbones,
    check_weights,
    make_backbone,
    model_files,
    parsed,
)
from keras_lrp_prune.cli.class_order import class_order, split_names
from keras_lrp_prune.cli.option_names import option_of
from keras_lrp_prune.cli.places import MODEL, check_output
from keras_lrp_prune.data import DataError, ImageFolder, load_image_folder, scan_image_folder
from keras_lrp_prune.display_names import near
from keras_lrp_prune.runtime import DEFAULT_BATCH_SIZE

if TYPE_CHECKING:
    import keras

T = TypeVar("T")
Preprocess = Callable[[np.ndarray], np.ndarray]

# What `--preprocess` can name beside modules of Keras: the function, and the words for its result.
_RANGES: Mapping[str, tuple[Preprocess, str]] = {
    "none": (lambda x: x, "with values in 0..255"),
    "unit": (lambda x: x / 255, "with values in 0..1 (x / 255)"),
    "symmetric": (lambda x: x / 127.5 - 1, "with values in -1..1 (x / 127.5 - 1)"),
}
_CLASSES = 2  # outputs of the untrained head that `explain` and `profile` put on a backbone
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


@dataclass(frozen=True)
class Request:
    """What the options of a command say of the model and the images.

    Args:
        model: A `.keras` file, a folder that `prune` wrote, or a backbone.
        data: Folder of the images.
        validation: Folder of held-out ones.
        per_class: Images drawn of each class of `data`.
        weights: Of a backbone.
        image_size: Side of the images in pixels, where the model leaves it open.
        preprocess: What the model wants.
        batch_size: Images per batch.
        seed: Of the draw.
        class_names: Names of the class folders in the order of the model's outputs, if given.
        antialias: Whether images are resized by Pillow's filter.
    """

    model: str
    data: Path
    validation: Path | None = None
    per_class: int | None = None
    weights: str | None = None
    image_size: int | None = None
    preprocess: str | None = None
    batch_size: int | None = None
    seed: int = 0
    class_names: Sequence[str] | None = None
    antialias: bool = False

    def check(self) -> None:
        """Finds what is wrong with it, as far as that shows without TensorFlow.

        Raises:
            DataError: If anything named cannot be used.
        """
        check_numbers(seed=self.seed)
        check_model(self.model)
        if self.preprocess is not None:
            check_preprocess(self.preprocess)
        if self.weights is not None:
            if model_file(self.model) is not None:
                raise DataError("--weights is for named backbones; a .keras file has its own.")
            check_weights(self.weights)
        scan_image_folder(self.data, per_class=self.per_class)
        names = self.classes
        if self.validation is not None:
            others = scan_image_folder(self.validation).class_names
            if set(others) != set(names):
                raise DataError(
                    f"{self.validation} has the classes {', '.join(others)}, but {self.data} has "
                    f"{', '.join(sorted(names))}."
                )

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, by their folders, in the order of the model's outputs."""
        return class_order(self.data, self.model, self.class_names)

    @property
    def inputs(self) -> list[Path]:
        """The files that it names."""
        weights = None if self.weights is None else Path(self.weights)
        return [path for path in (model_file(self.model), weights) if path is not None]

    @property
    def images(self) -> list[Path]:
        """The folders of images that it names."""
        return [path for path in (self.data, self.validation) if path is not None]

    def load(self) -> Task:
        """Loads the model and the images; fits a linear head if the model is a named backbone.

        Raises:
            DataError: If anything named cannot be used.
        """
        from keras_lrp_prune.recovery import with_linear_head

        file = model_file(self.model)
        if file is not None:
            network, wanted = load_file(file), self.preprocess or "none"
            _check_classes(network, self.data, self.classes)
        else:
            size = self.image_size or DEFAULT_SIZE
            network = make_backbone(self.model, self.weights or IMAGENET, size)
            wanted = self.preprocess or parsed(self.model)[1]
        height, width, channels = _input_size(network, self.image_size)
        prepare = preprocessing(wanted)

        def read(folder: Path, count: int | None) -> tuple[ImageFolder, np.ndarray]:
            images = load_image_folder(
                folder,
                image_size=(height, width),
                per_class=count,
                seed=self.seed,
                class_names=self.classes,
                antialias=self.antialias,
            )
            x = in_channels(images.x, channels)
            return images, np.asarray(prepare(x.copy()), np.float32)

        images, x = read(self.data, self.per_class)
        held_out = None
        if self.validation is not None:
            others, x_others = read(self.validation, None)
            held_out = (x_others, others.y)
        if file is None:
            network = with_linear_head(
                network, (x, images.y), batch_size=self.batch_size or DEFAULT_BATCH_SIZE
            )
        wants = f"It takes {height}x{width}x{channels} images {_describe(wanted)}."
        return Task(network, images, (x, images.y), held_out, wants)


def checked_request(
    options: Mapping[str, Any], outputs: Mapping[str, tuple[Path, Sequence[str]]]
) -> Request:
    """A request that was checked, and so was where results go.

    Args:
        options: What the options of a command say, by their names; those of `Request` count.
        outputs: Option to the folder that it names, and the names of the files written there.

    Raises:
        DataError: If anything named cannot be used, or an input would be overwritten.
        OSError: If a folder cannot be written to.
    """
    names = [field.name for field in fields(Request) if field.name in options]
    said = {name: options[name] for name in names}
    request = Request(**{**said, "class_names": split_names(options["class_names"])})
    request.check()
    for option, (folder, files) in outputs.items():
        check_output(folder, option, names=files, inputs=request.inputs, images=request.images)
    return request


def load_network(model: str) -> keras.Model:
    """Loads a model file; or makes a named backbone with a head on it, without trained weights.

    Raises:
        DataError: If there is no such model.
    """
    file = model_file(model)
    if file is not None:
        return load_file(file)
    import keras

    backbone = make_backbone(model, None, DEFAULT_SIZE)
    scores = keras.layers.Dense(_CLASSES, name="predictions")(backbone.output)
    return keras.Model(backbone.input, scores, name=backbone.name)


def check_numbers(**given: Any) -> None:
    """Checks options by the library's rules for its arguments.

    Args:
        **given: Argument to the value of its option; `None` if the option was not given.

    Raises:
        ValueError: If one is outside its range.
    """
    for name, value in given.items():
        if value is not None:
            RULES[name](option_of(name), value)


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
        DataError: If a part is not such a number.
    """
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise DataError(f"{option} takes numbers with commas between, not {text!r}.") from error


def model_file(model: str) -> Path | None:
    """The file that a `MODEL` leads to, whether or not it is there; `None` for a backbone."""
    path = Path(model)
    if not (model.endswith((".keras", ".h5")) or path.exists()):
        return None
    return path / MODEL if path.is_dir() else path


def check_model(model: str) -> None:
    """Raises `DataError` if there is neither such a file nor such a backbone."""
    file = model_file(model)
    if file is None:
        parsed(model)
    elif not file.is_file():
        advice = near(model, model_files(model))
        raise DataError(f"There is no model file {file}. {advice}".rstrip())


def load_file(path: Path) -> keras.Model:
    """Loads a `.keras` file.

    Raises:
        DataError: If it cannot be loaded.
    """
    import keras

    from keras_lrp_prune.graph.model_files import load_model

    try:
        if path.suffix == ".keras":
            return load_model(path, "keras")
        return keras.models.load_model(path)
    except Exception as error:  # Keras raises whatever its parts raise
        raise DataError(f"Cannot load the model {path}: {error}") from error


def _check_classes(model: keras.Model, data: Path, names: Sequence[str]) -> None:
    """Raises `DataError` if there are not as many class folders as classes are scored."""
    shapes = [tuple(output.shape) for output in model.outputs or ()]
    if len(shapes) != 1 or len(shapes[0]) != 2:
        return  # no classifier, which the library says
    count = max(shapes[0][1], 2)  # a sigmoid unit is two
    if len(names) != count:
        raise DataError(
            f"Model {model.name!r} scores {count} classes, but {data} has {len(names)} class "
            f"folders: {', '.join(names)}."
        )


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


def check_preprocess(name: str) -> None:
    """Raises `DataError` if `--preprocess` names nothing."""
    if name not in _RANGES and name not in backbones().values():
        raise DataError(
            f"Unknown --preprocess {name!r}: give {', '.join(_RANGES)}, or the module of a "
            "keras.applications model, such as mobilenet or vgg16."
        )


def preprocessing(name: str) -> Preprocess:
    """What `--preprocess` names; works on arrays and on tensors.

    Raises:
        DataError: If it names nothing.
    """
    check_preprocess(name)
    if name in _RANGES:
        return _RANGES[name][0]
    import keras  # noqa: F401 - registers the modules below

    module = sys.modules[f"keras.src.applications.{name}"]
    return lambda x: module.preprocess_input(x, data_format="channels_last")


def _describe(name: str) -> str:
    if name in _RANGES:
        return _RANGES[name][1]
    return f"preprocessed by keras.applications.{name}.preprocess_input"
