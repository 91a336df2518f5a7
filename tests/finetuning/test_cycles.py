"""Cycles of pruning and fine-tuning: rates, what is kept, and going on after an interruption."""

import keras
import numpy as np
import pytest
from pruning_models import digits, digits_model, reference

import keras_lrp_prune as klp
from keras_lrp_prune.finetuning.cycle_record import CycleRecord
from keras_lrp_prune.finetuning.cycle_store import CycleStore, Finished


@pytest.fixture(scope="module")
def model():
    return digits_model()


@pytest.fixture(scope="module")
def train():
    (x, y), _ = digits()
    return x[:320], y[:320]


TWO_EPOCHS = {"epochs": 2}
MEASURED = {"validation": digits()[1]}


def cycles(model, train, target=0.5, **options):
    tuning = {"epochs": 1, "learning_rate": 2e-3, **options.pop("tune_options", {})}
    pruning = {"criterion": "l1", **options.pop("prune_options", {})}
    options = {"cycles": 2, "verbose": 0, **options}
    return klp.prune_and_finetune(
        model, reference(), train, target, prune_options=pruning, tune_options=tuning, **options
    )


def same_weights(first, second):
    arrays = zip(first.get_weights(), second.get_weights(), strict=True)
    return all((a == b).all() for a, b in arrays)


class Stop(Exception):
    pass


class Interruption(keras.callbacks.Callback):
    """Ends the training of a cycle, counted from 1."""

    def __init__(self, cycle):
        super().__init__()
        self.left = cycle

    def on_train_end(self, logs=None):
        self.left -= 1
        if not self.left:
            raise Stop


def test_rates_are_those_of_the_filters_at_first(model, train):
    before = [array.copy() for array in model.get_weights()]
    result = cycles(model, train, 0.6, cycles=3, validation=digits()[1])
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    filters = 8 + 12 + 16  # of the three layers that can lose some
    reached = [record.rate for record in result.cycles]
    np.testing.assert_allclose(reached, [0.2, 0.4, 0.6], atol=1 / filters)
    assert result.rate == reached[-1]
    assert result.rate == pytest.approx(1 - (result.cost_after.filters - 10) / filters)
    assert result.model.count_params() == result.cost_after.parameters == result.cycles[-1].params
    assert result.cost_before.parameters == model.count_params()
    # What was kept, cycle after cycle, is what is left of the model given.
    widths = {"first": 8, "second": 12, "hidden": 16}
    removed = {
        name: np.setdiff1d(np.arange(width), result.kept[name]) for name, width in widths.items()
    }
    small = klp.delete_channels(model, removed)
    shapes = [[array.shape for array in each.get_weights()] for each in (small, result.model)]
    assert shapes[0] == shapes[1]
    for name, width in widths.items():
        assert len(result.kept[name]) == result.model.get_layer(name).output.shape[-1]
        assert set(result.kept[name]) <= set(range(width))


def test_budgets_are_those_of_the_model_given(model, train):
    result = cycles(model, train, None, prune_options={"budget": {"flops": 0.6}})
    shares = [record.flops / result.cost_before.flops for record in result.cycles]
    assert shares[0] <= 0.8 and shares[1] <= 0.6
    assert shares[0] > 0.6 and shares[1] > 0.4
    assert result.model.count_params() == result.cost_after.parameters


@pytest.fixture(scope="module")
def whole(model, train):
    """Two cycles of two epochs, uninterrupted."""
    return cycles(model, train, **MEASURED, tune_options=TWO_EPOCHS)


def test_records_and_summary(model, whole, capsys):
    result, (x, y) = whole, digits()[1]
    accuracy = (np.asarray(result.model(x)).argmax(1) == y).mean()
    last = result.cycles[-1]
    assert last.validation["tuned"]["accuracy"] == pytest.approx(accuracy)
    assert result.validation["after"] == last.validation["tuned"]
    before = (np.asarray(model(x)).argmax(1) == y).mean()
    assert result.validation["before"]["accuracy"] == pytest.approx(before)
    assert all(len(record.history["loss"]) == 2 for record in result.cycles)
    for record in result.cycles:
        assert record.validation["tuned"]["accuracy"] > record.validation["pruned"]["accuracy"]
    result.summary()
    printed = capsys.readouterr().out
    assert "Cycle 2" in printed and f"{last.validation['tuned']['harmonic_mean']:.1%}" in printed


def test_one_cycle_is_prune_and_finetune(model, train):
    found = cycles(model, train, cycles=[0.4], target=None)
    pruned = klp.prune(model, reference(), 0.4, criterion="l1", recovery=None, verbose=0)
    tuned = klp.finetune(pruned, train, teacher=model, epochs=1, learning_rate=2e-3, verbose=0)
    assert same_weights(found.model, tuned.model)
    untaught = cycles(model, train, cycles=[0.4], target=None, distil=False)
    assert not same_weights(found.model, untaught.model)


def test_goes_on_after_an_interruption(model, train, whole, tmp_path):
    options = {**MEASURED, "checkpoint_dir": tmp_path}

    def run(callback):
        return cycles(model, train, tune_options={**TWO_EPOCHS, "callbacks": [callback]}, **options)

    with pytest.raises(Stop):
        run(Interruption(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cycle-1", "cycle-2-pruning"]
    trained_again = Interruption(2)
    resumed = run(trained_again)
    assert trained_again.left == 1, "one cycle was left to train"
    assert same_weights(resumed.model, whole.model) and resumed.cycles == whole.cycles
    assert all((resumed.kept[layer] == whole.kept[layer]).all() for layer in whole.kept)
    finished = run(Interruption(2))
    assert same_weights(finished.model, whole.model) and finished.reference == whole.reference
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cycle-1", "cycle-2"]
    assert finished.model.loss == model.loss


def test_single_weights_stay_frozen_in_what_is_saved(tmp_path):
    model = digits_model(4, 4)
    conv = next(layer for layer in model.layers if layer.weights)
    conv.kernel.trainable = False
    record = CycleRecord(1, 0.0, 8, 8, 8, "", {}, None, {})
    store = CycleStore(
        tmp_path / "run", {**dict.fromkeys(("model", "data", "samples"), ""), "settings": {}}
    )
    store.save(Finished(record, {}, model))
    loaded = store.load(1, {}).model
    store.close()
    flags = [[weight.trainable for weight in each.weights] for each in (model, loaded)]
    assert flags[0] == flags[1] and not loaded.get_layer(conv.name).kernel.trainable


def test_checkpoints_of_other_runs_and_damaged_ones_are_refused(model, train, tmp_path):
    cycles(model, train, cycles=1, checkpoint_dir=tmp_path)
    for differs, options in {
        r"settings \(goals\)": {"target": 0.3},
        r"settings \(tune_options, training\)": {"tune_options": {"epochs": 2}},
        r"settings \(prune_options\)": {"prune_options": {"criterion": "l2"}},
        r"settings \(.*training\)": {"seed": 1},
        r"settings \(training\)": {"train": (train[0] + 1, train[1])},
    }.items():
        arguments = {"train": train, "target": 0.5, **options}
        with pytest.raises(klp.CheckpointError, match=f"with other {differs}"):
            cycles(model, cycles=1, checkpoint_dir=tmp_path, **arguments)
    (tmp_path / "cycle-1" / "cycle.json").write_text("{")
    with pytest.raises(klp.CheckpointError, match="cannot be read"):
        cycles(model, train, cycles=1, checkpoint_dir=tmp_path)


WRONG = {
    "falling": ({"cycles": [0.4, 0.2], "target": None}, ValueError, "must rise"),
    "range": ({"target": 1.2}, ValueError, "must lie in"),
    "none": ({"cycles": 0}, ValueError, "at least 1"),
    "empty": ({"cycles": [], "target": None}, ValueError, "empty list"),
    "both": ({"cycles": [0.4]}, ValueError, "without another goal"),
    "unreachable": ({"target": 0.99}, ValueError, "cannot be reached: .* largest pruning rate is"),
    "rate": ({"prune_options": {"target_rate": 0.1}}, ValueError, "cannot hold target_rate"),
    "teacher": ({"tune_options": {"teacher": None}}, ValueError, "give the call itself distil="),
    "epochs": ({"tune_options": {"epochs": -1}}, ValueError, "epochs must be"),
    "unknown": ({"tune_options": {"epoch": 1}}, TypeError, "epoch"),
    "latency": (
        {"target": None, "prune_options": {"budget": {"latency": 0.5}}},
        ValueError,
        "not for 'latency'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_come_before_any_work(model, train, case, tmp_path):
    options, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        cycles(model, train, checkpoint_dir=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
