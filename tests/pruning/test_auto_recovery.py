"""`recovery="auto"`: what it comes to, that it is the default, and what is said of it."""

import dataclasses
import inspect
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from pruning_models import digits, digits_model, reference, train_pooled_model
from trained import trained

import keras_lrp_prune as klp
from keras_lrp_prune.control.checkpoint import CheckpointError
from keras_lrp_prune.examination import refit
from keras_lrp_prune.examination.recovery_choice import RECOVERIES, Recovery
from keras_lrp_prune.examination.refit import _from_chief
from keras_lrp_prune.examination.remainder import stands
from keras_lrp_prune.examination.subject import read_subject
from keras_lrp_prune.pruning.advice import advice, recovery_lines

QUICK = {"criterion": "taylor", "engine": "native", "verbose": 0}


@pytest.fixture(scope="module")
def plain():
    """No linear head: the classes read a hidden dense layer."""
    return digits_model()


@pytest.fixture(scope="module")
def pooled():
    """A linear head on pooled features, and a layer without a closed form."""
    return trained(train_pooled_model)


@pytest.fixture
def network(request):
    return request.getfixturevalue(request.param)


NETWORKS = pytest.mark.parametrize("network", ["plain", "pooled"], indirect=True)


def harmonic(result):
    return result.validation["after"]["harmonic_mean"]


def same_weights(one, other):
    arrays = zip(one.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in arrays)


@NETWORKS
def test_it_is_the_default_and_names_what_it_chose(network, capsys):
    assert inspect.signature(klp.prune).parameters["recovery"].default == "auto"
    result = klp.prune(network, reference(), 0.4, **QUICK)
    best = "head+least_squares" if network.name == "pooled" else "least_squares"
    chosen = klp.prune(network, reference(), 0.4, recovery=best, **QUICK)
    assert same_weights(result.model, chosen.model)
    done = result.settings["recovery"]
    assert done in (best, "least_squares") and result.settings["asked_recovery"] == "auto"
    result.summary()
    lines = capsys.readouterr().out.splitlines()
    kept = "" if done == "head+least_squares" else "; the head as it is"
    assert f"Recovery: {done} (chosen by 'auto'{kept})" in lines
    skipped = [line for line in lines if line.startswith("Not refitted")]
    expected = [
        "Not refitted: depthwise: depthwise or grouped, so that no filter reads all channels"
    ]
    assert skipped == (expected if network.name == "pooled" else [])
    chosen.summary()
    assert "Recovery" not in capsys.readouterr().out


def test_many_layers_that_are_not_refitted_are_counted():
    reason = "depthwise or grouped, so that no filter reads all channels"
    skipped = {**{f"net/dw_{i}": reason for i in range(13)}, "last": "called in several places"}
    assert recovery_lines({"not_recovered": skipped}) == [
        f"Not refitted: net/dw_0, net/dw_1 and 11 more: {reason}",
        "Not refitted: last: called in several places",
    ]


@NETWORKS
def test_it_keeps_what_the_best_of_the_options_keeps(network):
    """The rule of docs/recovery-choice.md, on held-out digits."""
    has_head = network.name == "pooled"
    options = [option for option in RECOVERIES if has_head or "head" not in RECOVERIES[option]]
    few = {**QUICK, "schedule": klp.schedules.EqualSteps(0.15), "validation": digits()[1]}
    found = {
        option: harmonic(klp.prune(network, reference(), 0.3, recovery=option, **few))
        for option in [*options, "auto"]
    }
    assert found["auto"] > found[None] + 0.1
    assert found["auto"] > max(found.values()) - 0.05, found


@NETWORKS
def test_one_sample_of_each_class_will_do(network):
    result = klp.prune(network, reference(1), 0.3, **QUICK)
    assert result.settings["recovery"] == "least_squares"


def test_checkpoints_tell_runs_apart_by_what_was_chosen(plain, tmp_path):
    options = {**QUICK, "checkpoint_dir": tmp_path}
    first = klp.prune(plain, reference(), 0.2, **options)
    again = klp.prune(plain, reference(), 0.2, **options)
    assert again.history == first.history
    with pytest.raises(CheckpointError, match="other settings"):
        klp.prune(plain, reference(), 0.2, recovery=None, **options)


def test_curves_take_it_and_are_frozen_without(plain):
    (x, y), rates = digits()[1], [0.4]
    auto, chosen, default, frozen = (
        klp.accuracy_curve(plain, reference(), (x, y), "taylor", rates, engine="native", **how)
        for how in ({"recovery": "auto"}, {"recovery": "least_squares"}, {}, {"recovery": None})
    )
    np.testing.assert_array_equal(auto.class_accuracy, chosen.class_accuracy)
    np.testing.assert_array_equal(default.class_accuracy, frozen.class_accuracy)
    assert auto.class_accuracy.mean() > default.class_accuracy.mean()


def test_a_comparison_states_what_was_chosen(plain, tmp_path):
    task = (plain, reference(), digits()[1])
    options = {"rates": [0, 0.2], "engine": "native", "verbose": 0}
    for how, stated in (({"recovery": "auto"}, "head+least_squares"), ({}, None)):
        comparison = klp.compare(task, "l1", **how, **options)
        record = json.loads((comparison.save(tmp_path) / "comparison.json").read_text())
        assert record["settings"]["recovery"] == stated


def test_all_workers_take_the_chiefs_weights_as_they_are():
    rng = np.random.default_rng(0)
    weights = {
        "block/conv": {"kernel": rng.normal(size=(3, 2)).astype("float32"), "bias": rng.random(2)},
        "head": {"kernel": rng.random((2, 4))},
    }
    found = _from_chief(weights, tf.distribute.OneDeviceStrategy("CPU:0"))
    assert {name: list(arrays) for name, arrays in found.items()} == {
        "block/conv": ["kernel", "bias"],
        "head": ["kernel"],
    }
    for name, arrays in weights.items():
        for key, array in arrays.items():
            assert found[name][key].dtype == array.dtype
            np.testing.assert_array_equal(found[name][key], array)
    assert _from_chief({}, tf.distribute.OneDeviceStrategy("CPU:0")) == {}


@pytest.fixture(scope="module")
def disturbed():
    """A trained network with filters in its hidden layer that drown what the others say.

    They are the smallest, so that `"l1"` removes them; a refit would bring back what they did.
    """
    trained = digits_model()
    kernel, bias = trained.get_layer("hidden").get_weights()
    out, out_bias = trained.get_layer("classes").get_weights()
    rng = np.random.default_rng(0)
    small = rng.uniform(0, 1e-3, (len(kernel), len(bias)))
    large = rng.normal(0, 2e3, (len(bias), 10))
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), *trained.layers[:-2], layers.Dense(2 * len(bias), "relu")]
    )
    model.add(layers.Dense(10, "softmax"))
    model.layers[-2].set_weights([np.hstack([kernel, small]), np.tile(bias, 2)])
    model.layers[-1].set_weights([np.vstack([out, large]), out_bias])
    return model


@pytest.mark.filterwarnings("ignore::keras_lrp_prune.AtChanceWarning")
def test_a_refit_that_loses_much_is_refused(disturbed, capsys):
    asked = {"criterion": "l1", "schedule": klp.schedules.EqualSteps(1.0), "verbose": 0}
    asked["protect"] = [layer.name for layer in disturbed.layers[:-2]]
    frozen, auto, refitted = (
        klp.prune(disturbed, reference(), 0.5, recovery=recovery, **asked)
        for recovery in (None, "auto", "least_squares")
    )
    reached = frozen.reference["after"]["harmonic_mean"]
    lost = refitted.reference["after"]["harmonic_mean"]
    assert lost < 0.75 * reached, "else this shows nothing"
    assert same_weights(auto.model, frozen.model)
    assert (auto.settings["recovery"], auto.settings["not_recovered"]) == (None, {})
    auto.summary()
    said = f"(refitting would take the harmonic mean accuracy from {reached:.1%} to {lost:.1%})"
    assert f"Recovery: none {said}" in capsys.readouterr().out.replace("\n", " ")
    # As if the unpruned network had been that good: only then there is something to advise.
    fallen = dataclasses.replace(
        refitted, reference={**refitted.reference, "before": frozen.reference["after"]}
    )
    assert "leaving weights as they are (recovery=None)" in advice(fallen)


@pytest.mark.parametrize(
    ("before", "after", "floor", "kept"),
    [
        (0.8, 0.9, None, True),
        (0.8, 0.61, None, True),  # steering has raised it on these samples
        (0.8, 0.59, None, False),
        (0.8, 0.7, 0.75, False),
        (0.8, 0.7, 0.65, True),
        (0.7, 0.65, 0.75, True),  # it was crossed before
        (0.0, 0.0, None, True),
    ],
)
def test_when_a_refit_stands(before, after, floor, kept):
    assert stands(before, after, floor) is kept


@pytest.fixture(scope="module")
def biased(pooled):
    """A linear head that names some classes too often."""
    model = keras.models.clone_model(pooled)
    model.set_weights(pooled.get_weights())
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel, bias + np.linspace(-2, 2, 10, dtype="float32")])
    return model


def test_the_head_is_corrected_where_samples_that_it_did_not_see_say_so(biased):
    options = {**QUICK, "schedule": klp.schedules.EqualSteps(0.3), "validation": digits()[1]}
    corrected, layers_alone = (
        klp.prune(biased, reference(), 0.6, recovery=recovery, **options)
        for recovery in ("auto", "least_squares")
    )
    assert corrected.settings["recovery"] == "head+least_squares"
    assert harmonic(corrected) > harmonic(layers_alone) + 0.05
    *same, head = corrected.model.layers
    assert all(map(same_weights, same, layers_alone.model.layers))
    assert not same_weights(head, layers_alone.model.layers[-1])
    assert any("did not see the sample" in line for line in recovery_lines(corrected.settings))
    # By heart, it would know more of the samples than is reported.
    x, y = reference()
    known = (np.asarray(corrected.model(x)).argmax(1) == y).mean()
    assert corrected.reference["after"]["accuracy"] < known


def test_a_head_that_knows_the_reference_set_by_heart_is_left_alone(pooled):
    backbone = keras.Model(pooled.inputs, pooled.layers[-1].input)
    samples = reference(4)
    model = klp.with_linear_head(backbone, samples)
    auto, layers_alone = (
        klp.prune(model, samples, 0.3, recovery=recovery, **QUICK)
        for recovery in ("auto", "least_squares")
    )
    assert auto.settings["recovery"] == "least_squares"
    assert same_weights(auto.model, layers_alone.model)


@pytest.mark.parametrize("other", [False, True])
def test_the_chief_says_whether_a_head_is_corrected(biased, monkeypatch, other):
    """A worker that rounds to another answer neither waits alone nor goes its own way."""
    subject = read_subject(biased, reference())
    problem = subject.problem()
    removed = np.zeros(subject.structure.n_units, bool)
    removed[:20] = True
    refitter = refit.Refitter(problem, Recovery("auto"), keras)
    chief = refitter.refitted(removed)
    assert chief.on_reference is not None
    sent = []
    monkeypatch.setattr(refit, "_from_chief", lambda weights, _: sent.append(weights) or weights)
    if other:
        monkeypatch.setattr(refit.LinearHead, "corrected", lambda *args: None)
    worker = refit.Refitter(problem, Recovery("auto"), keras).refitted(removed)
    assert len(sent) == 3 and bool(sent[-1]) is not other
    assert (worker.on_reference is None) is other
