"""Generated calls of public functions: drawn by a number, run, and judged.

Half of the calls are valid: these must succeed, with what the function promises. In each of the
others one argument is wrong, and the call must end with an exception that the function documents.
Either way it ends in bounded time and leaves the model as it was.
"""

from __future__ import annotations

import builtins
import contextlib
import dis
import inspect
import io
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from fuzz_calls import CALLS
from fuzz_models import BUILDERS, Case, case, state_of
from fuzz_names import names
from fuzz_promises import FINGERPRINTS, PROMISES, nothing

import keras_lrp_prune as klp
from keras_lrp_prune import data, extras

# Seconds that no call takes, however slow the machine.
_LIMIT = 240
# Of arguments that need not be given, the share that is.
_GIVEN = 0.3


@dataclass(frozen=True)
class Drawn:
    """A generated call.

    Args:
        name: The public function's.
        model: That of the pool, by its builder's name.
        arguments: Argument to its value, as code.
        wrong: The argument that is wrong, if there is one.
    """

    name: str
    model: str
    arguments: Mapping[str, str]
    wrong: str | None

    def __str__(self) -> str:
        given = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        return CALLS[self.name].code.format(given) + f"  # the model {self.model!r}"


def public(name: str) -> Any:
    """What a dotted name below the package stands for."""
    found = klp
    for part in name.split("."):
        found = getattr(found, part)
    return found


def parameters(name: str) -> tuple[str, ...]:
    """The arguments that a public function takes by name."""
    given = inspect.signature(public(name)).parameters.values()
    return tuple(it.name for it in given if it.kind is not it.VAR_KEYWORD)


def draw(number: int, seed: int) -> Drawn:
    """The call of a number: even ones are valid, odd ones have a wrong argument.

    Functions take turns: valid calls as often as the table says, wrong ones alike for each
    argument.
    """
    rng, turn = np.random.default_rng([seed, number]), number // 2
    wrong = None
    if number % 2 == 0:
        name = _turns()[turn % len(_turns())]
    else:
        places = [
            (name, it) for name in CALLS for it in parameters(name) if _values(name, it, True)
        ]
        name, wrong = places[
            np.random.default_rng(seed).permutation(len(places))[turn % len(places)]
        ]
    call = CALLS[name]
    builders = [it for it in BUILDERS if it.__name__ not in call.unfit]
    given = [
        it
        for it in parameters(name)
        if it in call.needs or it == wrong or (_values(name, it) and rng.random() < _GIVEN)
    ]
    if "budget" in given and wrong != "budget":  # in place of a rate
        given.remove("target_rate" if "target_rate" in given and not wrong else "budget")
    arguments = {it: str(rng.choice(_values(name, it, it == wrong))) for it in given}
    arguments |= call.along.get(wrong or "", {})
    return Drawn(name, builders[rng.integers(len(builders))].__name__, arguments, wrong)


@cache
def _turns() -> tuple[str, ...]:
    """Each function as often as it is called validly in turns, spread evenly."""
    total = sum(call.valid for call in CALLS.values())
    places = [
        ((turn + 0.5) * total / call.valid, name)
        for name, call in CALLS.items()
        for turn in range(call.valid)
    ]
    return tuple(name for _, name in sorted(places))


def _values(name: str, argument: str, wrong: bool = False) -> list[str]:
    try:
        return list(CALLS[name].values(argument, wrong))
    except KeyError:
        return []


def documented(name: str) -> tuple[type[BaseException], ...]:
    """The exceptions that the docstring of a public function lists."""
    text = inspect.getdoc(public(name)) or ""
    section = re.search(r"^Raises:\n((?:    .*\n|\n)*)", text + "\n", re.MULTILINE)
    listed = re.findall(r"^    (\w+(?:, \w+)*):", section[1] if section else "", re.MULTILINE)
    found = {one for entry in listed for one in entry.split(", ")}
    return tuple(
        next(getattr(place, it) for place in (klp, builtins, data, extras) if hasattr(place, it))
        for it in sorted(found)
    )


def check(number: int, seed: int) -> None:
    """Runs the call of a number, and raises `AssertionError` with its code if it is not well."""
    drawn = draw(number, seed)
    found = _case(drawn)
    before = state_of(found.model)
    shown = f"\nNumber {number}, seed {seed}: {drawn}"
    with TemporaryDirectory() as folder, bounded(_LIMIT), contextlib.redirect_stdout(io.StringIO()):
        known = names(found, Path(folder))
        values = {it: eval(code, known) for it, code in drawn.arguments.items()}
        try:
            result = _called(drawn.name, values, known)
        except documented(drawn.name) as error:
            assert drawn.wrong, f"refused: {type(error).__name__}: {error}{shown}"
            assert _is_worded(error), f"not worded: {type(error).__name__}: {error}{shown}"
        except Exception as error:
            kind = f"{type(error).__name__}: {error}"
            raise AssertionError(f"not documented: {kind}{shown}") from error
        else:
            assert not drawn.wrong, f"{drawn.wrong} was accepted{shown}"
            try:
                PROMISES.get(drawn.name, nothing)(result, found, values)
                if drawn.name in FINGERPRINTS:
                    values = {it: eval(code, known) for it, code in drawn.arguments.items()}
                    again, of = _called(drawn.name, values, known), FINGERPRINTS[drawn.name]
                    assert of(again) == of(result), "another result the second time"
            except Exception as error:
                raise AssertionError(f"{type(error).__name__}: {error}{shown}") from error
        finally:
            plt.close("all")
    assert state_of(found.model) == before, f"the model is another one{shown}"


def model_of(drawn: Drawn) -> Any:
    """The model of the pool that a call is about."""
    return _case(drawn).model


def _case(drawn: Drawn) -> Case:
    return case(next(it for it in BUILDERS if it.__name__ == drawn.model))


def _is_worded(error: BaseException) -> bool:
    """Whether an error about an argument was raised on purpose, and not by what it led to."""
    if type(error) not in (TypeError, ValueError):
        return bool(str(error).strip())
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    assert last is not None  # it was raised
    code = last.tb_frame.f_code
    raised = code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return raised and "keras_lrp_prune" in code.co_filename


def _called(name: str, values: Mapping[str, Any], known: Mapping[str, Any]) -> Any:
    given = ", ".join(f"{it}=__values[{it!r}]" for it in values)
    return eval(CALLS[name].code.format(given), {**known, "__values": values})


@contextlib.contextmanager
def bounded(seconds: int) -> Iterator[None]:
    """Raises `TimeoutError` in what takes longer."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
