"""When something is made anew for what is left."""

import gc

import numpy as np
import pytest

from keras_lrp_prune.cost import shrinking
from keras_lrp_prune.cost.shrinking import Shrinking, only_new_garbage

NONE, ONE, TWO, THREE = (np.arange(4) < gone for gone in (0, 1, 2, 3))


@pytest.fixture
def log():
    """What was made and closed, in that order."""
    return []


@pytest.fixture
def parts(log, monkeypatch):
    """Each unit takes one operation of four; tracing takes one and a half."""
    monkeypatch.setattr(shrinking, "_TRACING", 0.5)
    monkeypatch.setattr(shrinking.gc, "collect", lambda: 0)  # slow beside hundreds of models

    def make(removed):
        log.append(f"without {removed.sum()}")
        return f"without {removed.sum()}"

    return Shrinking(
        make,
        lambda removed: 4.0 - removed.sum(),
        (3, 4),
        close=lambda made: log.append(f"closed {made}"),
    )


def test_it_is_made_anew_for_each_step_that_saves_more_than_tracing_takes(parts, log):
    assert log == ["without 0"]
    assert not parts.settle(ONE) and parts.without(ONE) == "without 0", "it saves too little"
    assert parts.settle(TWO) and parts.without(TWO) == "without 2"
    assert parts.without(THREE) == "without 2", "what is only tried is masked"
    assert not parts.settle(TWO), "the same step"
    assert parts.settle(THREE) and parts.without(THREE) == "without 3"


def test_what_it_leaves_out_hangs_on_the_state_alone(parts):
    for before in (NONE, ONE, TWO, THREE):
        for removed, expected in zip((NONE, ONE, TWO, THREE), (0, 0, 2, 3), strict=True):
            parts.settle(before)
            parts.settle(removed)
            assert parts.without(removed) == f"without {expected}"


def test_units_that_come_back_are_there(parts):
    parts.settle(THREE)
    assert parts.without(TWO) == "without 2"
    assert parts.without(NONE) == "without 0"


def test_what_is_replaced_is_closed_before_another_is_made(parts, log):
    parts.settle(TWO)
    assert log == ["without 0", "closed without 0", "without 2"]


@pytest.fixture
def nothing_set_apart():
    """As in a program: the tests themselves have set apart what the libraries made."""
    gc.unfreeze()
    yield
    gc.collect()
    gc.freeze()


@pytest.mark.usefixtures("nothing_set_apart")
def test_old_objects_are_set_apart_inside_alone():
    class Cycle:
        def __init__(self):
            self.itself = self

    @only_new_garbage()
    def inside():
        assert gc.get_freeze_count() > 0
        old.clear()
        assert gc.collect() == 0, "what was there before is not looked at"
        Cycle()
        assert gc.collect() > 0, "what is new is"
        with only_new_garbage():
            pass
        assert gc.get_freeze_count() > 0, "the outer one ends it"
        raise ValueError

    old = [Cycle()]
    gc.collect()
    with pytest.raises(ValueError):
        inside()
    assert gc.get_freeze_count() == 0 and gc.collect() > 0


def test_what_the_caller_set_apart_stays_so():
    assert gc.get_freeze_count() > 0, "see conftest.py"
    with only_new_garbage():
        pass
    assert gc.get_freeze_count() > 0
