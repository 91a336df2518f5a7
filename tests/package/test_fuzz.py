"""Generated calls of every public function; a single one again: `fuzzing.check(number, seed)`."""

import inspect
from functools import wraps
from itertools import count

import pytest
from fuzzing import CALLS, check, documented, draw, model_of, parameters

import keras_lrp_prune as klp

# Parts, so that processes can share the work.
QUICK, FULL, PARTS = 200, 600, 8

# What functions return: their methods are called on what they return, see `fuzzing.py`.
RETURNED = {
    *("PruningResult", "TuningResult", "CyclesResult", "CycleRecord", "Comparison", "MethodCurve"),
    *("Profile", "Explanation", "ChannelGroup", "ImageFolder", "export.LiteRTComparison"),
    *("Sensitivity", "GroupSensitivity"),
}
# What schedules of one's own are sub-classes of.
BASES = {"schedules.PruningSchedule", "schedules.AdaptiveSchedule"}


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
    assert callables() - RETURNED - BASES == set(CALLS)


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


def refusing(error):
    """Makes a function raise that, whatever it is given."""

    def broken(function):
        @wraps(function)
        def call(*args, **kwargs):
            raise error("no")

        return call

    return broken


def followed_by(change):
    """Makes a function change its result or the model, or, with `None`, do nothing at all."""

    def broken(function):
        @wraps(function)
        def call(model, **kwargs):
            return None if change is None else change(model, function(model, **kwargs))

        return call

    return broken


def freeze(model, result):
    model.layers[-1].trainable = False
    return result


def scale(model, result):
    result.set_weights([1.01 * weight for weight in result.get_weights()])
    return result


NOTICED = {
    "not documented": ("explain", True, refusing(KeyError), "not documented: KeyError"),
    "accepted": ("explain", True, followed_by(None), "was accepted"),
    "refused": ("explain", False, refusing(TypeError), "refused: TypeError"),
    "not worded": ("explain", True, refusing(TypeError), "not worded: TypeError"),
    "another model": ("explain", False, followed_by(freeze), "the model is another one"),
    "another output": ("delete_channels", False, followed_by(scale), "AssertionError"),
}


@pytest.mark.parametrize("fault", NOTICED)
def test_faults_are_noticed(fault, monkeypatch):
    name, wrong, broken, words = NOTICED[fault]
    drawn = ((number, draw(number, seed=0)) for number in count())
    number, call = next(
        it for it in drawn if it[1].name == name and (it[1].wrong is not None) == wrong
    )
    check(number, seed=0)
    monkeypatch.setattr(klp, name, broken(getattr(klp, name)))
    with pytest.raises(AssertionError, match=words) as found:
        check(number, seed=0)
    assert f"klp.{name}(model=" in str(found.value)  # to be called again
    model_of(call).layers[-1].trainable = True  # as it was


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
