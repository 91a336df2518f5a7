"""When something is made anew for what is left."""

import numpy as np
import pytest

from keras_lrp_prune.cost import shrinking
from keras_lrp_prune.cost.shrinking import Shrinking

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
