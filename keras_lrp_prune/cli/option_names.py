"""Arguments of the library, and the options of the command line that stand for them."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Library's name to the command's, where they differ.
_ELSEWHERE = {"target_rate": "rate", "batch_sizes": "batch_size", "input_shape": "image_size"}
_POSITIONAL = frozenset(("model", "models", "data"))

_NOT_IN_A_PATH = r"(?<![\w./'\"-])"
_VALUE = r"\([^)]*\)|\[[^\]]*\]|'[^']*'|\"[^\"]*\"|[\w.-]*\w|"


def option_of(argument: str) -> str:
    """The option that an argument of the library is given by.

    Example:
    >>> option_of("target_rate"), option_of("min_accuracy")
    ('--rate', '--min-accuracy')
    """
    return f"--{_ELSEWHERE.get(argument, argument).replace('_', '-')}"


def in_options(message: str, parameters: Iterable[str]) -> str:
    """A message of the library as one of the command line: options instead of arguments.

    An argument that is a plain word, such as `seed`, is one only where it is given a value.

    Args:
        message: It names arguments as in Python: `per_class=6`, `checkpoint_dir`.
        parameters: Those of the command.

    Example:
    >>> in_options("Give another checkpoint_dir, or per_class=6.", ["per_class", "checkpoint_dir"])
    'Give another --checkpoint-dir, or --per-class 6.'
    """
    known = set(parameters) - _POSITIONAL
    known |= {name for name, here in _ELSEWHERE.items() if here in known}
    if not known:
        return message

    def translated(found: re.Match[str]) -> str:
        name, value = found["name"], found["value"]
        if value is None:
            return option_of(name) if "_" in name else found[0]
        plain = value.strip("()[]'\"").rstrip(",")
        return f"{option_of(name)} {'none' if plain == 'None' else plain}".rstrip()

    names = "|".join(sorted(known, key=len, reverse=True))
    return re.sub(
        rf"{_NOT_IN_A_PATH}(?P<name>{names})(?:=(?P<value>{_VALUE})|(?![\w/'\"-]|\.\w|=))",
        translated,
        message,
    )
