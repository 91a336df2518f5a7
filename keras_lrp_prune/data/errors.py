"""The errors for unusable data, and what their messages share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

_MOST_NAMED = 5


class DataError(ValueError):
    """The data handed in cannot serve; the message says what, where and what to do."""


class DataNotFoundError(DataError, FileNotFoundError):
    """A file or folder of data does not exist."""

    # FileNotFoundError would format its message from an errno; this one carries plain text.
    __str__ = Exception.__str__


def numeric(values: Any, name: str) -> np.ndarray:
    """Makes an array of numbers of `values`, called `name` in the error if that fails."""
    if isinstance(values, Iterator):
        raise DataError(
            f"{name} must be an array, not an iterator ({type(values).__name__}); give "
            "np.array(list(...))."
        )
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise DataError(f"{name} cannot be read as one array: {error}") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name} must hold numbers, not dtype {array.dtype}.")
    return array


def some(indices: np.ndarray, noun: str = "row") -> str:
    """Names the first few indices: `rows 3, 4 and 17 more`."""
    shown = ", ".join(str(i) for i in indices[:_MOST_NAMED])
    more = f" and {len(indices) - _MOST_NAMED} more" if len(indices) > _MOST_NAMED else ""
    return f"{noun}{'s' if len(indices) > 1 else ''} {shown}{more}"
