"""When something is made anew for what is left, by a clock of the test's own."""

import numpy as np
import pytest

from keras_lrp_prune.cost import shrinking
from keras_lrp_prune.cost.shrinking import Shrinking

NONE, ONE, TWO = (np.arange(4) < gone for gone in (0, 1, 2))


class Clock:
    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(shrinking.time, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def made(clock):
    """What was made, in the order in which it was: each takes two seconds."""
    return []


@pytest.fixture
def parts(clock, made):
    def make(removed):
        clock.now += 2
        made.append(int(removed.sum()))
        return f"without {removed.sum()}"

    return Shrinking(make, lambda removed: 4.0 - removed.sum(), 4)


def call(parts, clock, removed, seconds=1.0):
    with parts.without(removed) as part:
        clock.now += seconds
    parts.settle(removed)
    return part


def test_it_is_made_anew_once_as_much_was_wasted_as_that_takes(parts, clock, made):
    call(parts, clock, TWO, seconds=4.0)  # three of them for tracing
    calls = 0
    while made == [0]:
        assert call(parts, clock, TWO) == "without 0"
        calls += 1
    # Two seconds for making, three for tracing; half of each call was for nothing.
    assert calls == 10 and made == [0, 2]
    assert call(parts, clock, TWO) == "without 2"


def test_it_stays_while_nothing_is_wasted(parts, clock, made):
    for _ in range(100):
        call(parts, clock, NONE)
    assert made == [0]


def test_units_that_come_back_are_there(parts, clock, made):
    while made == [0]:
        call(parts, clock, TWO)
    assert call(parts, clock, ONE) == "without 1"
    assert call(parts, clock, NONE) == "without 0"
    assert made == [0, 2, 1, 0]


def test_what_is_replaced_is_closed(clock):
    closed = []
    parts = Shrinking(lambda removed: removed.sum(), lambda removed: 1.0, 4, close=closed.append)
    parts.left_out = TWO
    call(parts, clock, ONE)
    assert closed == [0] and parts.made == 1
