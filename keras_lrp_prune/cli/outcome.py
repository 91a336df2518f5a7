"""What a command prints at its end: what it wrote, or one line that says what went wrong."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, NoReturn, ParamSpec

import typer

from keras_lrp_prune.cli.option_names import in_options
from keras_lrp_prune.display_names import printable

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
_REMEDY = (
    "If the sorted class folders are not in the order of the model's outputs, give --class-names "
    "a,b,c (the order of the model's outputs)."
)
_P = ParamSpec("_P")


def say(text: str) -> None:
    """Prints a line; names in it can hold anything."""
    print(printable(text))


def one_line_errors(command: Callable[_P, None]) -> Callable[_P, None]:
    """Turns the errors that a user can mend into one line and an exit code."""

    @wraps(command)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            fail(
                "interrupted; the same command goes on, if it is compare, or has --checkpoint-dir.",
                INTERRUPTED,
            )
        except (ValueError, TypeError, OSError, ImportError) as error:
            fail(in_options(str(error), kwargs), BAD_INPUT)
        except RuntimeError as error:  # the worker died, or a check of ours failed
            fail(in_options(str(error), kwargs), FAILED)

    return guarded


@contextmanager
def better_than_chance(force: bool) -> Iterator[None]:
    """Makes an error of `AtChanceWarning`; with `force`, a line on standard error."""
    from keras_lrp_prune.evaluation import AtChanceWarning

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        remedy = _REMEDY if issubclass(category, AtChanceWarning) else ""
        _complain("Warning", f"{message} {remedy}")

    with warnings.catch_warnings():
        warnings.simplefilter("always" if force else "error", AtChanceWarning)
        warnings.showwarning = show  # `catch_warnings` puts it back
        try:
            yield
        except AtChanceWarning as error:
            raise ValueError(f"{error} {_REMEDY} To go on all the same, give --force.") from error


def fail(message: str, code: int) -> NoReturn:
    """Ends the program with one line on standard error; names in it can hold anything."""
    _complain("Error", message)
    raise typer.Exit(code)


def _complain(what: str, message: str) -> None:
    """Prints a line to standard error; names in it can hold anything."""
    print(f"{what}: {printable(' '.join(message.split()))}", file=sys.stderr)
