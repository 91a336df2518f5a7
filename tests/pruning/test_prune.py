"""`prune()` from end to end, on a small digits classifier."""

import hashlib
import json
import subprocess
import sys
from itertools import pairwise

import keras
import numpy as np
import pytest
import tensorflow as tf
from interrupted import Interrupted
from keras import layers
from places import SUPPORT
from pruned import check_result, prune, same
from pruning_models import digits, reference
from tensorflow_model_optimization.sparsity.keras import ConstantSparsity, PolynomialDecay

import keras_lrp_prune as klp
from keras_lrp_prune.selection.order import UniformOrder

AccuracyAware = klp.schedules.AccuracyAware
CRITERIA = [
    "lrp.sequential_preset_a",
    *(name for name, one in klp.criteria.CRITERIA.items() if one.compared),
]


def fingerprint(model):
    return hashlib.sha256(b"".join(array.tobytes() for array in model.get_weights())).hexdigest()


@pytest.mark.parametrize("criterion", CRITERIA)
def test_reaches_the_target(model, criterion):
    before = fingerprint(model)
    result = prune(model, criterion=criterion)
    assert fingerprint(model) == before
    check_result(model, result, digits()[1][0][:50], 0.4)
    assert result.stopped == "target rate reached"
    assert type(result.model) is keras.Sequential and result.model.name == "digits"
    assert [layer.name for layer in result.model.layers] == [layer.name for layer in model.layers]
    accepted = [record for record in result.history if record.accepted]
    rates = [record.rate for record in accepted]
    assert rates[0] == 0 and rates == sorted(set(rates)) and rates[-1] == result.rate
    assert [record.step for record in result.history] == list(range(len(result.history)))
    assert accepted[0].params == model.count_params()
    assert accepted[-1].params == result.model.count_params()
    final = result.reference["after"]["harmonic_mean"]
    assert accepted[-1].harmonic_mean == pytest.approx(final, abs=1e-6)


def test_keeps_what_a_random_choice_loses(model):
    def accuracy(criterion, seed=0):
        result = prune(
            model,
            0.2,
            data=reference(20),
            criterion=criterion,
            seed=seed,
            schedule=ConstantSparsity(0.2, 0, frequency=1),  # at once: the choice alone counts
            validation=digits()[1],
        )
        assert np.mean(result.validation["before"]["recall"]) > 0.9
        return np.mean(result.validation["after"]["recall"])

    at_random = np.mean([accuracy("random", seed) for seed in range(3)])
    for criterion in CRITERIA:
        assert criterion == "random" or accuracy(criterion) > at_random + 0.1, criterion


def test_same_seed_same_result(model):
    for criterion in ("lrp.sequential_preset_a", "taylor", "random"):
        assert same(*(prune(model, criterion=criterion, seed=1) for _ in range(2)))
    first, second = (prune(model, criterion="random", seed=seed) for seed in (1, 2))
    assert any(first.kept[layer].tolist() != second.kept[layer].tolist() for layer in first.kept)


def test_validation_is_reported_and_steers_nothing(model):
    with_it, without = prune(model, validation=digits()[1]), prune(model)
    assert same(with_it, without) and without.validation is None
    scores = np.asarray(with_it.model(digits()[1][0]))
    y = digits()[1][1]
    recall = [(scores[y == digit].argmax(1) == digit).mean() for digit in range(10)]
    np.testing.assert_allclose(with_it.validation["after"]["recall"], recall, atol=1e-6)


def test_floor_is_never_crossed(model):
    x, y = reference(20)
    start = prune(model, 0.0, data=(x, y)).history[0].harmonic_mean
    floor = start - 0.05
    result = prune(model, 0.8, data=(x, y), min_accuracy=floor)
    assert result.stopped.startswith("floor") and 0 < result.rate < 0.8
    for record in result.history:
        assert record.accepted == (record.harmonic_mean >= floor) or "soft" in record.reason
    assert any("floor" in record.reason for record in result.history)
    assert result.reference["after"]["harmonic_mean"] >= floor
    constant = prune(model, 0.8, data=(x, y), min_accuracy=floor, schedule=ConstantSparsity(0.8, 0))
    assert constant.stopped.startswith("floor") and constant.rate == 0
    with pytest.raises(ValueError, match="only 0"):
        prune(model, data=digits()[1], min_accuracy=0.999)


def test_target_zero_changes_nothing(model):
    result = prune(model, 0.0)
    assert result.rate == 0 and len(result.history) == 1
    assert [a.tobytes() for a in result.model.get_weights()] == [
        a.tobytes() for a in model.get_weights()
    ]


def test_protected_layers_stay(model):
    result = prune(model, protect=["second"])
    assert len(result.kept["second"]) == 12 and "protect" in result.protected["second"]
    assert len(result.kept["first"]) < 8
    assert result.rate == pytest.approx(
        1 - (len(result.kept["first"]) + len(result.kept["hidden"])) / 24
    )
    with pytest.raises(klp.UnsupportedModelError, match="'third'"):
        prune(model, protect=["third"])


def test_widths_stay_round(model):
    result = prune(model, 0.5, round_to=4, min_channels=np.int64(4))
    widths = [len(result.kept[layer]) for layer in ("first", "second", "hidden")]
    assert all(width % 4 == 0 and width >= 4 for width in widths)
    assert abs(result.rate - 0.5) <= 4 / 36 / 2 + 1e-9


def test_tfmot_schedules(model):
    once = prune(model, schedule=ConstantSparsity(0.4, 0, frequency=1))
    assert len(once.history) == 2
    check_result(model, once, digits()[1][0][:50], 0.4)
    gradual = PolynomialDecay(0.1, 0.4, begin_step=0, end_step=4, power=1, frequency=1)
    result = prune(model, schedule=gradual)
    check_result(model, result, digits()[1][0][:50], 0.4)
    np.testing.assert_allclose(
        [record.rate for record in result.history], [0, 0.1, 0.175, 0.25, 0.325, 0.4], atol=0.02
    )
    short = prune(model, 0.6, schedule=ConstantSparsity(0.3, 0, frequency=1))
    assert short.stopped.startswith("the schedule ends") and short.rate == pytest.approx(
        0.3, abs=0.02
    )


def test_the_default_schedule_goes_as_far_as_the_target():
    inputs = keras.Input((2, 2, 1))
    wide = layers.Conv2D(400, 1, activation="relu")(inputs)
    scores = layers.Dense(2)(layers.GlobalAveragePooling2D()(wide))
    rng = np.random.default_rng(0)
    few = rng.normal(size=(8, 2, 2, 1)).astype(np.float32), np.arange(8) % 2
    wide = keras.Model(inputs, scores)
    assert klp.prune(wide, few, 0.995, verbose=0).rate == pytest.approx(0.995, abs=0.002)
    near = klp.prune(wide, few, 0.6, schedule=AccuracyAware(final_sparsity=0.3), verbose=0)
    assert near.rate == pytest.approx(0.3, abs=0.002)
    assert near.stopped.startswith("the schedule ends")


class SecondClassOnly:
    """An order of one's own."""

    def class_weights(self, class_accuracies):
        weights = np.zeros(len(class_accuracies))
        weights[1] = len(weights)
        return weights

    def get_config(self):
        return {}


def test_order_of_ones_own(model):
    own, uniform = (
        prune(model, schedule=AccuracyAware(order=order))
        for order in (SecondClassOnly(), UniformOrder())
    )
    assert any(own.kept[layer].tolist() != uniform.kept[layer].tolist() for layer in own.kept)


def test_schedule_starts_anew_each_time(model):
    schedule = AccuracyAware()
    assert same(prune(model, schedule=schedule), prune(model, schedule=schedule))


def test_every_form_of_data(model):
    x, y = reference()
    plain = prune(model)
    one_hot = prune(model, data=(x, np.eye(10)[y]))
    dataset = prune(model, data=tf.data.Dataset.from_tensor_slices((x, y)).batch(7))
    assert same(plain, one_hot) and same(plain, dataset)


# The result.


def test_summary_and_plot(model, tmp_path, capsys):
    result = prune(model, validation=digits()[1], protect=["second"])
    result.summary(class_names=[f"digit {n}" for n in range(10)])
    printed = capsys.readouterr().out
    for text in ("Filters", "FLOPs", "digit 7", f"{result.model.count_params():,}", "Protected"):
        assert text in printed
    figure = result.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG") and figure.axes


def test_save_and_load(model, tmp_path):
    result = prune(
        model, validation=digits()[1], min_channels=np.int32(2), min_accuracy=np.float32(0.0)
    )
    folder = result.save(tmp_path / "deep" / "out")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("curve.png", "model.keras", "result.json")
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["out"]
    loaded = klp.load_result(folder)
    assert same(result, loaded)
    assert loaded.cost_before == result.cost_before and loaded.cost_after == result.cost_after
    assert loaded.reference == result.reference and loaded.validation == result.validation
    assert loaded.rate == result.rate and loaded.protected == result.protected
    assert loaded.settings["schedule"] == result.settings["schedule"]
    x = digits()[1][0][:20]
    assert (np.asarray(loaded.model(x)) == np.asarray(result.model(x))).all()
    loaded.summary()
    prune(model, 0.2).save(folder)  # replaces what is there
    assert klp.load_result(folder).rate < result.rate


def test_damaged_result_is_reported(model, tmp_path):
    folder = prune(model, 0.1).save(tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no pruning result"):
        klp.load_result(tmp_path)
    record = json.loads((folder / "result.json").read_text())
    for damaged in ("{", "[]", "{}", json.dumps({**record, "history": [{"step": 1}]})):
        (folder / "result.json").write_text(damaged)
        with pytest.raises(ValueError, match="damaged"):
            klp.load_result(folder)
    (folder / "result.json").write_text(json.dumps(record))
    (folder / "model.keras").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError):
        klp.load_result(folder)


# Progress and interruption.


def test_progress_says_how_it_goes(model, capfd):
    prune(model, verbose=1)
    lines = capfd.readouterr().err.splitlines()
    steps = [line for line in lines if line.startswith("step ")]
    assert "rate" in steps[-1] and "filters" in steps[-1] and "worst class" in steps[-1]
    prune(model, verbose=0)
    assert "step" not in capfd.readouterr().err


@pytest.mark.parametrize("criterion", ["taylor", "lrp.sequential_preset_a"])
def test_resumes_where_it_was_interrupted(model, tmp_path, criterion):
    def run(folder, calls=None):
        Interrupted.calls_left = calls
        return prune(
            model,
            0.5,
            schedule=Interrupted(tolerance=0.01, rate="adaptive"),
            criterion=criterion,
            checkpoint_dir=tmp_path / folder,
        )

    expected = run("whole")
    assert len(expected.history) > 5
    assert any(not record.accepted for record in expected.history), "undone steps resume too"
    for undone, following in pairwise(expected.history):
        if not undone.accepted:
            smaller = following.rate < undone.rate
            assert smaller or following.accepted, "the same proposal is not undone twice"
    for calls in (0, 1, 3, 2) if criterion == "taylor" else (4,):
        with pytest.raises(KeyboardInterrupt):
            run("parts", calls)
    assert same(run("parts"), expected)
    if criterion == "taylor":
        assert same(run("parts", 0), expected), "a finished run is only read"


def test_checkpoint_of_another_run_is_refused(model, tmp_path):
    prune(model, 0.1, checkpoint_dir=tmp_path)
    with pytest.raises(klp.CheckpointError, match="other settings"):
        prune(model, 0.2, checkpoint_dir=tmp_path)
    x, y = reference()
    with pytest.raises(klp.CheckpointError, match="other data"):
        prune(model, 0.1, data=(x * 0.5, y), checkpoint_dir=tmp_path)
    with pytest.raises(klp.CheckpointError, match=r"same samples in another order: .* shuffle"):
        prune(model, 0.1, data=(x[::-1], y[::-1]), checkpoint_dir=tmp_path)
    changed = keras.models.clone_model(model)
    changed.set_weights([array * 0.9 for array in model.get_weights()])
    with pytest.raises(klp.CheckpointError, match="another model"):
        prune(changed, 0.1, checkpoint_dir=tmp_path)


@pytest.mark.slow
def test_killed_runs_resume_to_the_same_result():
    script = SUPPORT / "kill_and_resume.py"
    done = subprocess.run(
        [sys.executable, script, "--kills", "2", "--seed", "1"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kills" in done.stdout
