"""The choices that options have.

They are listed and checked here without TensorFlow; a test compares them with the tables of the
modules that do the work, which import it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from keras_lrp_prune.criteria.registry import LRP_METHODS, compared
from keras_lrp_prune.data import DataError
from keras_lrp_prune.examination import recovery_choice
from keras_lrp_prune.examination.recovery_choice import AUTO

BASELINES = tuple(compared("channels"))
NO_RECOVERY = "none"
RECOVERIES = (AUTO, *(name or NO_RECOVERY for name in recovery_choice.RECOVERIES))
METHODS = (*LRP_METHODS, *BASELINES)
DEFAULT_METHODS = ("accuracy-aware", "lrp-iterative", "taylor", "l1", "random")
QUANTIZATIONS = ("float16", "dynamic", "int8")
IO_TYPES = ("int8", "uint8", "float32")
PICTURES = (".png", ".svg", ".pdf")


def check_choice(what: str, name: str | None, choices: Collection[str]) -> None:
    """Raises `DataError` for a name that is not among the choices; `None` is always allowed."""
    if name is not None and name not in choices:
        raise DataError(f"Unknown {what} {name!r}. There are: {', '.join(choices)}.")


def recovery(name: str) -> str | None:
    """A choice of `RECOVERIES` as the library takes it: `"none"` stands for `None`."""
    return None if name == NO_RECOVERY else name


def check_picture(path: Path) -> None:
    """Raises `DataError` for a name that no picture can be written to."""
    if path.suffix.lower() not in PICTURES:
        raise DataError(f"A picture is written as {alternatives(PICTURES)}, not as {path.name!r}.")


def alternatives(choices: Sequence[str]) -> str:
    """The choices in words.

    Example:
    >>> alternatives(["auto", "native"])
    'auto or native'
    """
    return f"{', '.join(choices[:-1])} or {choices[-1]}"
