"""What users see of the package, as lines of text: names, arguments, attributes.

`python tests/support/public_api.py` writes them to public_api.txt beside it, and a test compares.
A line that goes, or changes, breaks somebody's code; what is new belongs in the changelog.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

SNAPSHOT = Path(__file__).with_name("public_api.txt")


def described() -> list[str]:
    """A line for each name, argument list and attribute."""
    import keras_lrp_prune as klp
    from keras_lrp_prune.report.step_record import StepRecord

    history = _of_class("klp.PruningResult.history[step]", StepRecord)
    return sorted([*_of_room("klp", klp), *history])


def _of_room(prefix: str, room: ModuleType) -> Iterator[str]:
    for name in room.__all__:
        thing = getattr(room, name)
        path = f"{prefix}.{name}"
        if inspect.ismodule(thing):
            yield from _of_room(path, thing)
        elif inspect.isclass(thing):
            yield from _of_class(path, thing)
        elif callable(thing):
            yield f"{path}{_arguments(thing)}"
        else:
            yield f"{path}: {type(thing).__name__}"


def _of_class(path: str, cls: type) -> Iterator[str]:
    # An exception takes what any exception takes.
    yield path if issubclass(cls, BaseException) else f"{path}{_arguments(cls)}"
    fields = [field.name for field in dataclasses.fields(cls)] if _is_data(cls) else []
    yield from (f"{path}.{name}" for name in fields if not name.startswith("_"))
    for name, member in vars(cls).items():
        if name.startswith("_") or name in fields:
            continue
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        yield f"{path}.{name}{_arguments(function) if inspect.isfunction(function) else ''}"


def _is_data(cls: type) -> bool:
    return dataclasses.is_dataclass(cls)


def _arguments(function: Any) -> str:
    """The arguments without their types, which may become wider."""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty, default=_plain(parameter.default))
        for parameter in inspect.signature(function).parameters.values()
    ]
    return str(inspect.Signature(parameters))


def _plain(default: Any) -> Any:
    """A default that does not say in which module its class is."""
    if default is inspect.Parameter.empty or not inspect.isclass(default):
        return default
    return type("Name", (), {"__repr__": lambda self: default.__name__})()


if __name__ == "__main__":
    SNAPSHOT.write_text("\n".join(described()) + "\n", encoding="utf-8")
