"""Whether JSON data have the form that a type describes."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np

T = TypeVar("T")

_TOO_LARGE = 2**63


def formed(value: Any, form: type[T] | Any, where: str = "") -> Any:
    """The value in the form of a type: dataclasses are made, lists become tuples where it says so.

    Args:
        value: Parsed JSON.
        form: `int`, `float` (finite), `str`, `bool`, `None`, `Any`, a `Literal`, `np.ndarray`
            (float64, of nested lists of finite numbers), a dataclass or `TypedDict` of such types,
            or `list`, `tuple[..., ...]`, `Sequence`, `dict`, `Mapping` or a union of them.
        where: What the value is called in errors.

    Raises:
        ValueError: If it is of another form; the message says where.

    Example:
    >>> formed({"a": [1, 2]}, dict[str, tuple[int, ...]])
    {'a': (1, 2)}
    """
    if form is Any:
        return value
    check = _CHECKS.get(get_origin(form) or form)
    if check is None:
        check = _object if is_dataclass(form) or is_typeddict(form) else _plain
    return check(value, form, where)


def _plain(value: Any, form: Any, where: str) -> Any:
    # To Python, True is an integer.
    is_bool = isinstance(value, bool)
    if form is float and isinstance(value, int | float) and not is_bool:
        return _finite(value, where)
    if form in (None, type(None)) and value is None:
        return None
    if isinstance(form, type) and isinstance(value, form) and is_bool == (form is bool):
        return _usual(value, where)
    raise _other(value, getattr(form, "__name__", str(form)), where)


def _usual(value: Any, where: str) -> Any:
    if isinstance(value, int) and abs(value) >= _TOO_LARGE:
        raise ValueError(f"{where or 'it'} is a number of {len(str(value))} digits")
    return value


def _finite(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError as error:
        raise _other(value, "number of that size", where) from error
    if not math.isfinite(number):
        raise _other(value, "finite number", where)
    return number


def _literal(value: Any, form: Any, where: str) -> Any:
    for known in get_args(form):
        if type(value) is type(known) and value == known:
            return value
    raise _other(value, " or ".join(map(repr, get_args(form))), where)


def _either(value: Any, form: Any, where: str) -> Any:
    found = []
    for one in get_args(form):
        try:
            return formed(value, one, where)
        except ValueError as error:
            found.append(error)
    raise found[0]


def _items(value: Any, form: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _other(value, "list", where)
    (entry, *_) = get_args(form) or (Any,)
    entries = (formed(item, entry, f"{where}[{i}]") for i, item in enumerate(value))
    return list(entries) if get_origin(form) is list else tuple(entries)


def _array(value: Any, form: Any, where: str) -> np.ndarray:
    try:
        found = np.array(value)
    except ValueError:  # lists of different lengths, or nested too deep
        found = np.array(None)
    if not isinstance(value, list) or found.dtype.kind not in "iuf" or not np.isfinite(found).all():
        raise _other(value, "array of finite numbers", where)
    return found.astype(np.float64)


def _entries(value: Any, form: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise _other(value, "mapping", where)
    _, entry = get_args(form) or (Any, Any)
    return {key: formed(item, entry, f"{where}[{key!r}]") for key, item in value.items()}


def _object(value: Any, form: Any, where: str) -> Any:
    """A dataclass, which must have no other fields, or a `TypedDict`, which may have other keys."""
    if not isinstance(value, Mapping):
        raise _other(value, "mapping", where)
    hints = get_type_hints(form)
    if is_typeddict(form):
        required, known = form.__required_keys__, hints
    else:
        names = [one.name for one in fields(form)]
        known = {name: hints[name] for name in names}
        required = {one.name for one in fields(form) if _is_required(one)}
        unknown = sorted(set(value) - set(names))
        if unknown:
            raise ValueError(f"{where or 'it'} has an entry {unknown[0]!r} that there is not")
    missing = sorted(required - set(value))
    if missing:
        raise ValueError(f"{where or 'it'} lacks {missing[0]!r}")
    found = {
        name: formed(value[name], hint, f"{where}.{name}" if where else name)
        for name, hint in known.items()
        if name in value
    }
    return found if is_typeddict(form) else form(**found)


def _is_required(one: Field[Any]) -> bool:
    return one.default is MISSING and one.default_factory is MISSING


def _other(value: Any, wanted: str, where: str) -> ValueError:
    shown = repr(value) if isinstance(value, str | bool | float) else type(value).__name__
    return ValueError(f"{where or 'it'} is no {wanted}, but {shown[:60]}")


_CHECKS: Mapping[Any, Callable[[Any, Any, str], Any]] = {
    Literal: _literal,
    Union: _either,
    types.UnionType: _either,
    **dict.fromkeys((list, tuple, Sequence), _items),
    **dict.fromkeys((dict, Mapping), _entries),
    np.ndarray: _array,
}
