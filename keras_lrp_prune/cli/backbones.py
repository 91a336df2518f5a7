"""The backbones of keras.applications: found by name, and made."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_lrp_prune.data import DataError
from keras_lrp_prune.display_names import near

if TYPE_CHECKING:
    import keras

IMAGENET = "imagenet"
DEFAULT_SIZE = 224

# What commands take by a path: files with these endings, and folders that hold one of these files.
_SUFFIXES, _IN_FOLDERS = (".keras", ".h5", ".tflite"), ("model.keras", "saved_model.pb")

# Arguments of backbones that cannot be given as options of their names, and why.
_SETTLED = {
    "include_top": "its head is fitted to the classes of the images",
    "weights": "give --weights",
    "pooling": "its features are averaged",
    "input_shape": "give --image-size",
    "input_tensor": "give --image-size",
}


@cache
def backbones() -> Mapping[str, str]:
    """Functions of `keras.applications`, each with the module that it is in.

    They are read from the source of Keras, as importing Keras takes seconds. Where the source is
    not found, Keras is imported.
    """
    spec = importlib.util.find_spec("keras")
    root = Path(spec.origin).parent if spec is not None and spec.origin else Path()
    for path in (root / "applications" / "__init__.py", root / "api/applications/__init__.py"):
        if path.is_file():
            return {
                entry.name: (node.module or "").rpartition(".")[2]
                for node in ast.parse(path.read_text("utf-8")).body
                if isinstance(node, ast.ImportFrom)
                for entry in node.names
                if entry.name[0].isupper()
            }
    import keras

    return {
        name: found.__module__.rpartition(".")[2]
        for name, found in vars(keras.applications).items()
        if name[0].isupper()
    }


def parsed(text: str) -> tuple[str, str, dict[str, Any]]:
    """What the name of a backbone says, such as `"MobileNet:alpha=0.75"`.

    Returns:
        Its function, the module that this is in, and its arguments.

    Raises:
        DataError: If it names none.
    """
    name, *options = text.split(":")
    found = {known.lower(): known for known in backbones()}.get(name.lower())
    if found is None:
        advice = near(text, [*model_files(text), *backbones()]) or (
            "Give a .keras file, a folder that prune wrote, or a backbone by name, such as "
            "MobileNet, ResNet50 or VGG16."
        )
        raise DataError(
            f"There is no file or folder {text!r}, and no keras.applications backbone of that "
            f"name. {advice}"
        )
    return found, backbones()[found], dict(map(_option, options))


def model_files(text: str) -> list[str]:
    """Files and folders that a mistyped `MODEL` may have meant, as paths of the same form."""
    folder = Path(text).parent
    if not folder.is_dir():
        return []
    return [
        str(entry)
        for entry in sorted(folder.iterdir())
        if entry.suffix in _SUFFIXES or any((entry / name).is_file() for name in _IN_FOLDERS)
    ]


def _option(text: str) -> tuple[str, Any]:
    key, found, value = text.partition("=")
    if not found:
        raise DataError(f"Backbone option {text!r} is not of the form name=value.")
    if key in _SETTLED:
        raise DataError(f"Leave the backbone option {text!r} out: {_SETTLED[key]}.")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def check_weights(source: str) -> None:
    """Raises `DataError` for weights that are neither a name nor a file."""
    if source != IMAGENET and not Path(source).is_file():
        raise DataError(f"There is no weights file {source}.")


def make_backbone(text: str, source: str | None, size: int) -> keras.Model:
    """Makes a backbone with pooled features.

    Args:
        text: Its name and arguments.
        source: Its weights: a file, `"imagenet"`, or `None` for untrained ones.
        size: Side of the images in pixels.

    Raises:
        DataError: If it cannot be made.
    """
    import keras

    name, _, options = parsed(text)
    try:
        return getattr(keras.applications, name)(
            include_top=False,
            weights=source,
            pooling="avg",
            input_shape=(size, size, 3),
            **options,
        )
    except Exception as error:  # download, file and argument errors of many kinds
        raise DataError(f"Cannot make {text} with weights {source!r}: {error}") from error
