"""The folder of a comparison, whatever lies in it: odd JSON, pipes, runs of others."""

import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import keras_lrp_prune as klp
from keras_lrp_prune.comparison.method_curve import MethodCurve
from keras_lrp_prune.comparison.methods import METHODS, Method
from keras_lrp_prune.comparison.run_folder import RunFolder

SETTINGS = {"rates": [0.0, 0.5], "recovery": None}
SAMPLES = {"reference": "s", "test": "s"}
IDENTITY = {
    "reference": "r",
    "test": "t",
    "samples": SAMPLES,
    "layers": [["dense", {}]],
    "norms": [1.0, 2.0],
}
L1 = METHODS["l1"]
CURVE = MethodCurve(
    np.array([0.0, 0.5]),
    np.ones((2, 3)),
    np.array([0.0, 0.5]),
    "l1",
    0,
    "digest",
    1,
    1,
    2.0,
    0.1,
    None,
)


@pytest.fixture
def path(tmp_path):
    RunFolder(tmp_path).save(CURVE, L1, IDENTITY, SETTINGS)
    return tmp_path / "runs" / "l1-seed0.json"


def loaded(path):
    folder = RunFolder(path.parents[1])
    folder.check(SETTINGS)
    return folder.load(L1, 0, IDENTITY)


def test_a_run_comes_back(path):
    assert loaded(path).to_dict() == CURVE.to_dict()


def test_other_data_are_told_from_those_in_another_order(path):
    for differs, words in (
        ({"test": "u"}, r"a run with the same samples in another order: .* shuffle=False"),
        ({"test": "u", "samples": {**SAMPLES, "test": "u"}}, r"a run with other test data\."),
        ({"reference": "u", "samples": {"reference": "", "test": "s"}}, "another reference set"),
    ):
        with pytest.raises(klp.CheckpointError, match=words):
            RunFolder(path.parents[1]).load(L1, 0, {**IDENTITY, **differs})


DEEP = "[" * 100_000 + "]" * 100_000
TEXTS = ["", "null", "[]", "3", "NaN", "{", "{}", '{"curve": null}', DEEP, "1" * 10_000]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:20])
def test_files_that_hold_no_run_are_named(path, text):
    path.write_text(text)
    with pytest.raises(klp.CheckpointError, match=r"l1-seed0\.json' cannot be read"):
        loaded(path)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
RUN = {"settings": SETTINGS, "method": L1.describe(), "task": IDENTITY, "curve": CURVE.to_dict()}
PLACES = [(part, None) for part in RUN] + [
    (part, key) for part in RUN for key in RUN[part] if part != "settings"
]


@given(place=st.sampled_from(PLACES), value=JSON | st.just(10**400))
def test_any_value_anywhere_is_refused_or_harmless(path, place, value):
    part, key = place
    run = json.loads(json.dumps(RUN))
    if key is None:
        run[part] = value
    else:
        run[part][key] = value
    path.write_text(json.dumps(run))
    try:
        curve = loaded(path)
    except klp.CheckpointError as error:
        assert "l1-seed0.json" in str(error)
        return
    assert type(curve.auc()) is float and curve.method == "l1" and curve.seed == 0


def nested(depth):
    value = 0.5
    for _ in range(depth):
        value = [value]
    return value


ODD_ARRAYS = [[[1.0], [1.0, 1.0]], nested(70), nested(400), [True], ["1"], [None], [10**30], 3, {}]


@pytest.mark.parametrize("value", ODD_ARRAYS, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("key", ["rates", "class_accuracy", "reached"])
def test_odd_arrays_are_refused(path, key, value):
    run = json.loads(json.dumps(RUN))
    run["curve"][key] = value
    path.write_text(json.dumps(run))
    with pytest.raises(klp.CheckpointError, match=f"{key} is no array of finite numbers"):
        loaded(path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_at_once(path, make):
    path.unlink()
    make(path)
    with pytest.raises(klp.CheckpointError, match="cannot be read"):
        loaded(path)


def test_runs_of_a_comparison_that_began_meanwhile_are_not_mixed_with(tmp_path):
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    first.save(CURVE, L1, IDENTITY, SETTINGS)
    with pytest.raises(klp.CheckpointError, match="recovery None, not head"):
        second.save(CURVE, METHODS["l2"], IDENTITY, {**SETTINGS, "recovery": "head"})
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["l1-seed0.json"]


@pytest.mark.parametrize("name", ["../l1", "a/b", "a\\b", "..", ".", "", "a\n", "a b", "C:", "\0"])
def test_names_of_methods_stay_in_the_folder(name):
    with pytest.raises(ValueError, match="name"):
        Method(name, "l1")
