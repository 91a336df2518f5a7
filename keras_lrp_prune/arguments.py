"""What arguments may be: one rule for each name, the same in every public function.

A function with `@checked` refuses what does not follow them before it does anything: `TypeError`
for another type, `ValueError` for another range. Each message names the argument, what it takes
and what was given. Numbers of NumPy count as numbers, bools do not.
"""

from __future__ import annotations

import operator
import os
import reprlib
from collections.abc import Callable, Iterable, Mapping, Set
from functools import wraps
from inspect import Parameter, signature
from itertools import pairwise
from numbers import Real
from typing import Any, ParamSpec, Self, TypeGuard, TypeVar

import numpy as np

Rule = Callable[[str, Any], Any]
P = ParamSpec("P")
R = TypeVar("R")

_LARGEST_SEED = 2**32 - 1  # the largest that NumPy, scikit-learn and Keras all take


def number(within: str) -> Rule:
    """A rule for numbers in an interval.

    Args:
        within: The interval as it is written: `"[0, 1)"` holds 0, but not 1.

    Example:
    >>> number("[0, 1)")("target_rate", np.float32(0.5))
    0.5
    """
    low, high = map(float, within[1:-1].split(","))
    above = operator.ge if within.startswith("[") else operator.gt
    below = operator.le if within.endswith("]") else operator.lt

    def rule(name: str, value: Any) -> float:
        if not _is_number(value):
            raise _wrong(name, f"a number in {within}", value)
        if not (above(value, low) and below(value, high)):
            advice = " (a share: 0.5 for half)" if value > high == 1 else ""
            raise ValueError(f"{name} must lie in {within}, not {value}{advice}.")
        return float(value)

    return rule


def whole(least: int, most: int | None = None) -> Rule:
    """A rule for whole numbers, from the least to the most (where there is one)."""
    takes = f"at least {least}" if most is None else f"from {least} to {most}"

    def rule(name: str, value: Any) -> int:
        try:
            found = None if isinstance(value, bool | np.bool_) else operator.index(value)
        except TypeError:
            found = None
        if found is None:
            raise _wrong(name, f"a whole number, {takes}", value)
        if found < least or (most is not None and found > most):
            raise ValueError(f"{name} must be {takes}, not {found}.")
        return found

    return rule


def several(rule: Rule, noun: str, *, in_order: bool = False) -> Rule:
    """A rule for collections, whose entries follow another rule; they become tuples.

    An iterator is read once, here. Where the order counts, a set is refused, which has none.

    Args:
        rule: The rule for each entry.
        noun: What the entries are called in messages.
        in_order: Whether the order counts.
    """

    def all_of(name: str, value: Any) -> tuple[Any, ...]:
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise _wrong(name, f"a list of {noun}", value)
        if in_order and isinstance(value, Set):
            raise _wrong(name, f"a list of {noun}, whose order counts", value)
        return tuple(rule(f"{name}[{i}]", entry) for i, entry in enumerate(value))

    return all_of


def increasing(rule: Rule) -> Rule:
    """A rule for at least one number, each larger than the one before; `rule` is that for all."""

    def rising(name: str, value: Any) -> Any:
        found = rule(name, value)
        if not found:
            raise ValueError(f"{name} must have at least 1 entry, not none.")
        if any(later <= earlier for earlier, later in pairwise(found)):
            raise ValueError(f"{name} must be strictly increasing, not {list(found)}.")
        return found

    return rising


def or_none(rule: Rule) -> Rule:
    """A rule that lets `None` through, and checks anything else by another rule."""
    return lambda name, value: None if value is None else rule(name, value)


def one_of(name: str, value: Any, among: Iterable[str | None]) -> None:
    """Raises `ValueError` for a value that is not among the choices; the message lists them."""
    known = list(among)
    if not (value is None or isinstance(value, str)) or value not in known:
        listed = ", ".join(map(str, known) if None not in known else map(repr, known))
        raise ValueError(f"Unknown {name} {value!r}. There are: {listed}.")


def flag(name: str, value: Any) -> bool:
    """The rule for `True` or `False`."""
    if not isinstance(value, bool | np.bool_):
        raise _wrong(name, "True or False", value)
    return bool(value)


def anything(name: str, value: Any) -> Any:
    """The rule for arguments that are checked elsewhere: it lets everything through."""
    return value


def text(name: str, value: Any) -> str:
    """The rule for strings."""
    if not isinstance(value, str):
        raise _wrong(name, "a string", value)
    return value


layer_names = several(text, "layer names")


def names_or_all(name: str, value: Any) -> Any:
    """The rule for layers: all (`True`), none (`False`), or their names."""
    return value if isinstance(value, bool) else layer_names(name, value)


def layer_name(name: str, value: Any) -> str:
    """The rule for the name of a new layer."""
    if not text(name, value) or "/" in value:
        raise ValueError(f"{name} must be a string without '/', not {value!r}.")
    return str(value)


def options(name: str, value: Any) -> dict[str, Any]:
    """The rule for further arguments by name."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _wrong(name, "a dict of arguments by name", value)
    return dict(value)


def rate(name: str, value: Any) -> float:
    """The rule for a pruning rate.

    `prune(model, x, y)` puts the labels in its place: the message says how to give them.
    """
    try:
        return float(number("[0, 1)")(name, value))
    except TypeError as error:
        if isinstance(value, list | tuple) or len(getattr(value, "shape", ())):
            raise TypeError(f"{error} Samples and labels are one argument: (x, y).") from None
        raise


def task(name: str, value: Any) -> Any:
    """The rule for the task of `compare`: a triple, or a function that makes one.

    A Keras model can be called too, but is no such function.
    """
    makes = callable(value) and not hasattr(value, "layers")
    if not makes and not (isinstance(value, tuple | list) and len(value) == 3):
        takes = "(model, reference, test) as one tuple, or a function of the seed that returns it"
        raise _wrong(name, takes, value)
    return value


def path(name: str, value: Any) -> str | os.PathLike[str]:
    """The rule for files and folders."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise _wrong(name, "a path", value)
    if "\0" in os.fspath(value):
        raise ValueError(f"{name} must be a path, which has no NUL character, not {value!r}.")
    return value


def size(name: str, value: Any) -> tuple[int, int]:
    """The rule for the height and width of images."""
    found = several(whole(1), "two whole numbers, (height, width)", in_order=True)(name, value)
    if len(found) != 2:
        raise ValueError(f"{name} must be (height, width), not {value!r}.")
    return found


def verbosity(name: str, value: Any) -> int:
    """The rule for how much is shown: 0, 1 or 2; bools count as 0 and 1, as in Keras."""
    return whole(0, 2)(name, int(value) if isinstance(value, bool | np.bool_) else value)


def channels(name: str, value: Any) -> float:
    """The rule for how many channels a group keeps: a whole number, or a share of them."""
    takes = "at least 1, or a share of each group's channels between 0 and 1"
    if not _is_number(value):
        raise _wrong(name, f"a number {takes}", value)
    if not (0 < value < 1 or (value >= 1 and value % 1 == 0)):
        raise ValueError(f"{name} must be {takes}, not {value}.")
    return float(value) if value < 1 else int(value)


_SHARE, _PART, _POSITIVE = number("[0, 1]"), number("(0, 1)"), number("(0, inf)")
_SEED = whole(0, _LARGEST_SEED)

# Argument to its rule. The default of an argument is taken without a check, such as `None`.
RULES: Mapping[str, Rule] = {
    # How much goes, and what stays.
    "target_rate": rate,
    "share": number("(0, 1)"),
    "min_accuracy": _SHARE,
    "protect": layer_names,
    "min_channels": channels,
    "round_to": whole(1),
    "rates": increasing(several(number("[0, 1)"), "pruning rates", in_order=True)),
    # Schedules and orders.
    "initial_step": _PART,
    "min_step": _PART,
    "max_step": _PART,
    "tolerance": number("[0, 1)"),
    "grow": number("[1, inf)"),
    "shrink": _PART,
    "final_sparsity": number("[0, 1)"),
    "pool": _SHARE,
    "trials": flag,
    "begin_step": whole(0),
    "end_step": whole(-1),
    "frequency": whole(1),
    "size": number("(0, 1]"),
    "floor": number("(0, 1]"),
    # How it is computed.
    "analyzer_options": options,
    "every_class": flag,
    "scored_once": flag,
    "task": task,
    "batch_size": whole(1),
    "memory_budget": _POSITIVE,
    "worker_python": path,
    "seed": _SEED,
    "seeds": several(_SEED, "seeds"),
    "verbose": verbosity,
    # Training.
    "epochs": whole(1),
    "temperature": _POSITIVE,
    "distillation_weight": _SHARE,
    "dropout_factor": _SHARE,
    "restore_best": flag,
    "unfreeze": or_none(names_or_all),
    "freeze_batch_norm": or_none(flag),
    "distil": flag,
    "callbacks": several(anything, "callbacks", in_order=True),
    "prune_options": options,
    "tune_options": options,
    # Samples, files and folders.
    "image_size": size,
    "antialias": flag,
    "per_class": whole(1),
    "path": path,
    "folder": path,
    "checkpoint_dir": path,
    "state_dir": path,
    # Models elsewhere.
    "input_shape": several(or_none(whole(1)), "sizes", in_order=True),
    "batch_sizes": several(whole(1), "batch sizes"),
    "warmup_batch_sizes": several(whole(1), "batch sizes"),
    "threads": whole(1),
    "repeats": whole(1),
    # What things are called.
    "labels": several(text, "class names", in_order=True),
    "name": layer_name,
    "title": text,
}


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Makes a function check its arguments that have a rule; it gets what the rules return.

    Example:
    >>> @checked
    ... def prune(model, *, batch_size=None): ...
    >>> prune(model, batch_size=1.5)
    Traceback (most recent call last):
    TypeError: batch_size takes a whole number, at least 1, not 1.5 (float).
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = takes.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # raises the error with Python's own message
        given.arguments |= as_taken(function, given.arguments)
        return function(*given.args, **given.kwargs)

    takes = signature(function)
    return call


def as_taken(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a function by name, checked where there is a rule, as the rules return them.

    Raises:
        TypeError: For one of another type.
        ValueError: For one outside its range.
    """
    takes = signature(function).parameters
    free = {name for name, value in given.items() if _is_default(takes.get(name), value)}
    return {
        name: value if name in free or name not in RULES else RULES[name](name, value)
        for name, value in given.items()
    }


class Checked:
    """A frozen dataclass whose fields are checked by the rules for arguments of the same names.

    They are checked once, when it is made; the fields are what the rules return.

    Example:
    >>> @dataclass(frozen=True)
    ... class Batches(Checked):
    ...     batch_size: int | None = None
    >>> Batches(np.int64(8))
    Batches(batch_size=8)
    """

    def __post_init__(self) -> None:
        for name, value in as_taken(type(self), vars(self)).items():
            object.__setattr__(self, name, value)

    @classmethod
    def taken_from(cls, given: Mapping[str, Any]) -> Self:
        """Made of the arguments that have the names of its fields; others are passed over."""
        return cls(**{name: given[name] for name in signature(cls).parameters if name in given})


def _is_default(parameter: Parameter | None, value: Any) -> bool:
    return parameter is not None and value is parameter.default


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)


def _wrong(name: str, takes: str, value: Any) -> TypeError:
    return TypeError(f"{name} takes {takes}, not {reprlib.repr(value)} ({type(value).__name__}).")
