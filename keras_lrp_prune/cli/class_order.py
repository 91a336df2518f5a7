"""The order of the class folders: that of the model's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from keras_lrp_prune.cli.places import RECORD
from keras_lrp_prune.data import DataError, checked_names, scan_image_folder
from keras_lrp_prune.files import formed, read_json


class _Record(TypedDict, total=False):
    """The entries of `result.json` that are read here."""

    class_names: tuple[str, ...] | None


def split_names(text: str | None) -> tuple[str, ...] | None:
    """The names of an option that takes several, with commas between.

    Example:
    >>> split_names("tulip, rose")
    ('tulip', 'rose')
    """
    return None if text is None else tuple(name.strip() for name in text.split(","))


def class_order(data: Path, model: str, given: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the sub-folders, in the order of the model's outputs as far as it is known.

    Args:
        data: Folder with one sub-folder of images per class.
        model: A `MODEL`; a folder that `prune` wrote knows the order, if it has these classes.
        given: The order that the user gave, if any; it counts more than the folder's.

    Returns:
        The names, sorted if nothing else is known.

    Raises:
        DataError: If the images cannot be used, other names are given, or the record of a result
            is damaged.
    """
    if given is not None:
        return scan_image_folder(data, class_names=given).class_names
    found, known = scan_image_folder(data).class_names, _recorded(Path(model) / RECORD)
    return found if known is None or set(known) != set(found) else known


def _recorded(file: Path) -> tuple[str, ...] | None:
    """The class names in the record of a result; `None` without a record, or if it has no names."""
    if not file.is_file():
        return None
    try:
        names = formed(read_json(file), _Record).get("class_names")
        return None if names is None else checked_names(names)
    except ValueError as error:
        raise DataError(
            f"{file} is damaged, so that the order of its classes is not known. Give that of the "
            "model's outputs by --class-names."
        ) from error
