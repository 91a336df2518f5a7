"""Names of classes: found where the data has them, checked where a user gives them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import Any

from keras_lrp_prune.data.errors import DataError
from keras_lrp_prune.display_names import printable


def checked_names(names: Iterable[str], n_classes: int | None = None) -> tuple[str, ...]:
    """Class names in the order of the model's outputs.

    Args:
        names: One for each class, such as a list; no name twice.
        n_classes: Number of classes, if it is known.

    Raises:
        TypeError: If they are not strings, or given as a single string or as a set.
        DataError: If they are too few or too many, or one is given twice.

    Example:
        >>> checked_names(["daisy", "tulip"], 2)
        ('daisy', 'tulip')
    """
    unfit = isinstance(names, str | Set) or not isinstance(names, Iterable)  # a set has no order
    given = None if unfit else list(names)
    if given is None or not all(isinstance(name, str) for name in given):
        raise TypeError(f"class_names takes a list of names, one for each class, not {names!r}.")
    if n_classes is not None and len(given) != n_classes:
        raise DataError(
            f"There are {len(given)} class names ({printable(', '.join(given[:5]))}"
            f"{', ...' if len(given) > 5 else ''}) for {n_classes} classes; give one for each, in "
            "the order of the model's outputs."
        )
    twice = next((name for name in given if given.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"The class name {twice!r} is given twice.")
    return tuple(map(str, given))


def names_of(data: Any, n_classes: int) -> tuple[str, ...] | None:
    """The class names that data brings along, if it does.

    An `ImageFolder`, a `ReferenceSet` and what `keras.utils.image_dataset_from_directory` returns
    have an attribute `class_names`; a dataset loses it when it is mapped.

    Raises:
        DataError: If they do not fit the number of classes.
    """
    names = getattr(data, "class_names", None)
    return None if names is None else checked_names(names, n_classes)


def shown_names(names: Sequence[str] | None, n_classes: int) -> list[str]:
    """The names of the classes, or if there are none their numbers.

    Example:
        >>> shown_names(None, 3)
        ['0', '1', '2']
    """
    return list(checked_names(names, n_classes)) if names else list(map(str, range(n_classes)))
