"""What arguments may be: each refusal names the argument, what it takes, and what was given."""

import re
from fractions import Fraction
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_lrp_prune.arguments import RULES, checked, number, whole

TAKEN = [
    ("target_rate", np.float32(0.5), 0.5),
    ("target_rate", 0, 0.0),
    ("min_accuracy", Fraction(1, 4), 0.25),
    ("protect", iter(["a", "b"]), ("a", "b")),
    ("protect", np.array(["a"]), ("a",)),
    ("protect", {"a"}, ("a",)),
    ("labels", (name for name in "ab"), ("a", "b")),
    ("callbacks", iter([print]), (print,)),
    ("warmup_batch_sizes", {8}, (8,)),
    ("min_channels", np.float64(0.25), 0.25),
    ("min_channels", 2.0, 2),
    ("round_to", np.int16(8), 8),
    ("batch_size", np.array(3), 3),
    ("memory_budget", 2**30, 2.0**30),
    ("seed", np.uint32(2**32 - 1), 2**32 - 1),
    ("seeds", range(2), (0, 1)),
    ("rates", np.array([0, 0.5]), (0.0, 0.5)),
    ("verbose", True, 1),
    ("verbose", 2, 2),
    ("restore_best", np.True_, True),
    ("unfreeze", True, True),
    ("unfreeze", iter(["base"]), ("base",)),
    ("image_size", [16, np.int64(24)], (16, 24)),
    ("input_shape", (None, 8, 3), (None, 8, 3)),
    ("path", Path("a"), Path("a")),
    ("task", (1, 2, 3), (1, 2, 3)),
    ("task", len, len),
    ("analyzer_options", {"epsilon": 0.1}, {"epsilon": 0.1}),
]

REFUSED = [
    ("target_rate", "0.5", TypeError, "a number in [0, 1), not '0.5' (str)"),
    ("target_rate", float("nan"), ValueError, "in [0, 1), not nan"),
    ("target_rate", True, TypeError, "a number in [0, 1), not True (bool)"),
    ("target_rate", np.True_, TypeError, "a number in [0, 1)"),
    ("target_rate", 0.5j, TypeError, "0.5j (complex)"),
    ("target_rate", np.array([0.5]), TypeError, "(ndarray)"),
    ("target_rate", 50, ValueError, "in [0, 1), not 50 (a share: 0.5 for half)."),
    ("target_rate", -1, ValueError, "in [0, 1), not -1."),
    ("target_rate", np.array([0, 1]), TypeError, "Samples and labels are one argument: (x, y)."),
    ("target_rate", [0, 1], TypeError, "Samples and labels are one argument: (x, y)."),
    ("task", keras.Sequential(), TypeError, "(model, reference, test) as one tuple, or a function"),
    ("task", (1, 2), TypeError, "(model, reference, test) as one tuple"),
    ("min_accuracy", "0.5", TypeError, "a number in [0, 1], not '0.5' (str)"),
    ("min_accuracy", 50, ValueError, "in [0, 1], not 50"),
    ("protect", None, TypeError, "a list of layer names, not None"),
    ("protect", 3, TypeError, "a list of layer names, not 3 (int)"),
    ("protect", "conv", TypeError, "a list of layer names, not 'conv'"),
    ("protect", [b"conv"], TypeError, "protect[0] takes a string, not b'conv'"),
    ("labels", {"a", "b"}, TypeError, "a list of class names, whose order counts, not {"),
    ("labels", {"a": 0}, TypeError, "a list of class names, not {'a': 0}"),
    ("labels", "ab", TypeError, "a list of class names, not 'ab'"),
    ("labels", ["a", 1], TypeError, "labels[1] takes a string, not 1"),
    ("rates", {0.1, 0.2}, TypeError, "whose order counts"),
    ("input_shape", {8, 3}, TypeError, "whose order counts"),
    ("min_channels", 2.5, ValueError, "at least 1, or a share"),
    ("min_channels", float("inf"), ValueError, "at least 1, or a share"),
    ("min_channels", "2", TypeError, "a number at least 1, or a share"),
    ("round_to", 2.0, TypeError, "a whole number, at least 1, not 2.0 (float)"),
    ("round_to", 0, ValueError, "at least 1, not 0"),
    ("round_to", True, TypeError, "not True (bool)"),
    ("batch_size", 1.5, TypeError, "a whole number, at least 1, not 1.5 (float)"),
    ("batch_size", "8", TypeError, "not '8' (str)"),
    ("memory_budget", float("inf"), ValueError, "in (0, inf), not inf"),
    ("seed", -1, ValueError, "from 0 to 4294967295, not -1"),
    ("seed", 2**32, ValueError, "from 0 to 4294967295"),
    ("seed", 1.5, TypeError, "not 1.5 (float)"),
    ("seed", None, TypeError, "not None"),
    ("seeds", 3, TypeError, "a list of seeds, not 3"),
    ("seeds", [0, 1.5], TypeError, "seeds[1] takes a whole number"),
    ("rates", 0.5, TypeError, "a list of pruning rates"),
    ("rates", [0, "0.5"], TypeError, "rates[1] takes a number"),
    ("rates", [], ValueError, "rates must have at least 1 entry"),
    ("rates", [0.2, 0.2], ValueError, "rates must be strictly increasing, not [0.2, 0.2]"),
    ("verbose", "yes", TypeError, "not 'yes'"),
    ("verbose", 3, ValueError, "from 0 to 2, not 3"),
    ("restore_best", "no", TypeError, "True or False, not 'no'"),
    ("unfreeze", "base", TypeError, "a list of layer names, not 'base'"),
    ("image_size", 16, TypeError, "(height, width), not 16 (int)"),
    ("image_size", (16, 16, 3), ValueError, "(height, width), not (16, 16, 3)"),
    ("image_size", (16, 16.0), TypeError, "image_size[1] takes a whole number"),
    ("analyzer_options", "epsilon", TypeError, "a dict of arguments by name"),
    ("analyzer_options", {1: 2}, TypeError, "a dict of arguments by name"),
    ("checkpoint_dir", 3, TypeError, "a path, not 3 (int)"),
    ("checkpoint_dir", b"run", TypeError, "a path, not b'run'"),
    ("checkpoint_dir", "a\0b", ValueError, "a path, which has no NUL character"),
    ("name", None, TypeError, "a string, not None"),
    ("seed", list(range(10**5)), TypeError, "[0, 1, 2, 3, 4, 5, ...] (list)"),
]


def numbered(cases):
    """Names that are the same in every process, as those of sets and generators are not."""
    return [f"{case[0]}-{number}" for number, case in enumerate(cases)]


@pytest.mark.parametrize(("name", "value", "found"), TAKEN, ids=numbered(TAKEN))
def test_taken(name, value, found):
    taken = RULES[name](name, value)
    assert taken == found and type(taken) is type(found)


@pytest.mark.parametrize(("name", "value", "error", "words"), REFUSED, ids=numbered(REFUSED))
def test_refused(name, value, error, words):
    with pytest.raises(error, match=re.escape(words)) as refusal:
        RULES[name](name, value)
    assert re.match(rf"{name}(\[\d\])? (takes|must)", str(refusal.value))


@given(low=st.integers(-5, 5), width=st.integers(1, 5), value=st.floats(-11, 11))
def test_intervals_are_what_they_are_called(low, width, value):
    high = low + width
    for within, inside in {
        f"[{low}, {high}]": low <= value <= high,
        f"({low}, {high})": low < value < high,
        f"[{low}, {high})": low <= value < high,
        f"({low}, {high}]": low < value <= high,
    }.items():
        if inside:
            assert number(within)("it", value) == value
        else:
            with pytest.raises(ValueError, match=re.escape(within)):
                number(within)("it", value)


@given(value=st.integers(-20, 20), dtype=st.sampled_from(["int8", "int64", "float32", "bool"]))
def test_whole_numbers_of_numpy(value, dtype):
    given = np.array(value).astype(dtype)[()]
    if dtype in ("float32", "bool"):
        with pytest.raises(TypeError):
            whole(0)("it", given)
    elif value < 0:
        with pytest.raises(ValueError, match=f"not {value}"):
            whole(0)("it", given)
    else:
        assert whole(0)("it", given) == value


def test_defaults_follow_no_rule_and_python_words_its_own_errors():
    @checked
    def pruned(model, batch_size=None, *, seed=0, other=None):
        return model, batch_size, seed, other

    assert pruned("any", other=b"any") == ("any", None, 0, b"any")
    assert pruned("any", np.int8(2), seed=np.int8(3)) == ("any", 2, 3, None)
    with pytest.raises(TypeError, match=r"pruned\(\) missing 1 required positional argument"):
        pruned()
    with pytest.raises(TypeError, match="unexpected keyword argument 'batches'"):
        pruned("any", batches=3)
