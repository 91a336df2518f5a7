"""Which line of the user's code a warning is about."""

from __future__ import annotations

import contextlib
import functools
import sys


def outside() -> int:
    """The `stacklevel` with which `warnings.warn` names the first caller outside this package.

    Of the standard library, what calls a decorated function belongs inside.
    """
    package = __name__.partition(".")[0]
    inside = (package, functools.__name__, contextlib.__name__)
    level, frame = 1, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in inside:
        level, frame = level + 1, frame.f_back
    return level
