"""Generated calls of every public function; a single one again: `fuzzing.check(number, seed)`."""

import inspect

import pytest
from fuzzing import CALLS, check, documented, draw, parameters

import keras_lrp_prune as klp

# Parts, so that processes can share the work.
QUICK, FULL, PARTS = 200, 2000, 8

# What functions return: their methods are called on what they return, see `fuzzing.py`.
RETURNED = {
    *("PruningResult", "TuningResult", "CyclesResult", "CycleRecord", "Comparison", "MethodCurve"),
    *("Profile", "Explanation", "ChannelGroup", "export.LiteRTComparison"),
}


def callables():
    """The public names that can be called, but exceptions and warnings."""
    rooms = {name: getattr(klp, name) for name in ("callbacks", "export", "schedules")}
    names = {name: getattr(klp, name) for name in klp.__all__ if name not in rooms}
    for room, module in rooms.items():
        there = getattr(module, "__all__", None) or [
            name
            for name, it in vars(module).items()
            if inspect.isclass(it) and it.__module__ == module.__name__
        ]
        names |= {f"{room}.{name}": getattr(module, name) for name in there}
    return {
        name
        for name, it in names.items()
        if callable(it) and not (inspect.isclass(it) and issubclass(it, Exception))
    }


def test_every_public_function_is_called():
    assert callables() - RETURNED == set(CALLS) - {"load_image_folder"}


@pytest.mark.parametrize("name", CALLS)
def test_every_argument_has_wrong_and_right_values(name):
    for argument in parameters(name):
        assert CALLS[name].values(argument, wrong=False), argument
        assert CALLS[name].values(argument, wrong=True), argument
    assert documented(name)


def test_half_of_the_calls_are_valid_and_all_functions_take_turns():
    drawn = [draw(number, seed=0) for number in range(QUICK)]
    assert sum(call.wrong is None for call in drawn) == QUICK / 2
    assert {call.name for call in drawn if call.wrong is None} == set(CALLS)
    assert [draw(number, seed=0) for number in range(QUICK)] == drawn


@pytest.mark.filterwarnings("ignore::keras_lrp_prune.AtChanceWarning")
@pytest.mark.parametrize("part", range(PARTS))
def test_calls(part):
    for number in range(part, QUICK, PARTS):
        check(number, seed=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::keras_lrp_prune.AtChanceWarning")
@pytest.mark.parametrize("part", range(PARTS))
def test_many_calls(part):
    for number in range(part, FULL, PARTS):
        check(number, seed=1)
