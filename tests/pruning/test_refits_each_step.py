"""`lrp.unique` with recovery: refitted, scored and judged at each step."""

from dataclasses import dataclass

import keras
import numpy as np
import pytest
from pruning_models import digits, digits_model, reference, train_pooled_model
from trained import trained

import keras_lrp_prune as klp
from keras_lrp_prune.pruning import stages
from keras_lrp_prune.recovery.least_squares import LeastSquares

QUIET = {"criterion": "lrp.unique", "verbose": 0}


@pytest.fixture(scope="module")
def pooled():
    return trained(train_pooled_model)


@pytest.fixture(scope="module")
def result(pooled):
    return klp.prune(pooled, reference(), 0.6, recovery="least_squares", **QUIET)


def same_weights(one, other):
    arrays = zip(one.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in arrays)


def test_steps_are_a_tenth_the_better_of_two_and_say_what_comes_out(result):
    rates = [record.rate for record in result.history]
    assert rates == pytest.approx(np.arange(0, 0.61, 0.1), abs=0.02)
    assert result.settings["trials"] and result.settings["engine"] == "native"
    last, after = result.history[-1], result.reference["after"]
    assert last.harmonic_mean == pytest.approx(after["harmonic_mean"], abs=1e-6)
    assert last.class_accuracies == pytest.approx(after["recall"], abs=1e-6)


def test_what_is_shown_speaks_of_refitted_networks(result, capsys, tmp_path):
    loaded = klp.load_result(result.save(tmp_path / "out"))
    for one in (result, loaded):
        one.summary()
        assert "before refitting" not in capsys.readouterr().out
        assert one.settings["refits_each_step"] and one.settings["recovery"] == "least_squares"


def test_the_model_stays_as_it_is_and_the_same_call_gives_the_same(pooled, result):
    before = [array.copy() for array in pooled.get_weights()]
    again = klp.prune(pooled, reference(), 0.6, recovery="least_squares", **QUIET)
    assert all(np.array_equal(a, b) for a, b in zip(before, pooled.get_weights(), strict=True))
    assert again.history == result.history and same_weights(again.model, result.model)


@pytest.mark.parametrize(
    "recovery", ["least_squares", pytest.param("head+least_squares", marks=pytest.mark.slow)]
)
def test_a_run_goes_on_from_its_checkpoint_the_same_way(pooled, tmp_path, monkeypatch, recovery):
    """The step that is left asks what of all that went would come back."""
    options = {**QUIET, "recovery": recovery}
    whole = klp.prune(pooled, reference(), 0.6, **options)
    steps = []

    def interrupted(self, record):
        steps.append(record)
        if len(steps) == 6:  # at 50 %
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stages.PruningProgress, "show", interrupted)
        with pytest.raises(KeyboardInterrupt):
            klp.prune(pooled, reference(), 0.6, checkpoint_dir=tmp_path, **options)
    resumed = klp.prune(pooled, reference(), 0.6, checkpoint_dir=tmp_path, **options)
    assert resumed.history == whole.history
    assert same_weights(resumed.model, whole.model)


@pytest.mark.slow
def test_it_keeps_more_than_refitting_in_the_end(pooled, result):
    x, y = digits()[1]
    plain = klp.prune(
        pooled, reference(), 0.6, criterion="lrp.log_odds", recovery="least_squares", verbose=0
    )
    found, other = (
        (np.argmax(one.model.predict(x, verbose=0), 1) == y).mean() for one in (result, plain)
    )
    assert found > other - 0.02 and found > 0.8


def test_no_mask_is_refitted_twice(pooled, monkeypatch):
    masks = {False: [], True: []}
    refit = LeastSquares.refit

    def noted(self, removed, *arguments, **options):
        masks[self._thorough].append(removed.tobytes())
        return refit(self, removed, *arguments, **options)

    monkeypatch.setattr(LeastSquares, "refit", noted)
    found = klp.prune(pooled, reference(), 0.2, recovery="least_squares", **QUIET)
    # Two steps, and at most two proposals for each; what stands in the end to mirror images, too.
    tried, last = masks[False], masks[True]
    assert 2 == len(found.history) - 1 <= len(tried) <= 4 and len(set(tried)) == len(tried)
    assert len(last) == 1 and last[0] in tried
    assert found.settings["recovery"] == "least_squares"


def test_a_floor_is_that_of_the_refitted_network(pooled):
    found = klp.prune(
        pooled, reference(), 0.9, recovery="least_squares", min_accuracy=0.95, **QUIET
    )
    assert found.reference["after"]["harmonic_mean"] >= 0.95
    refused = [record for record in found.history if not record.accepted]
    assert refused and "the harmonic mean accuracy on the reference set would" in refused[-1].reason
    assert found.rate > 0.3


def test_without_recovery_nothing_is_refitted(pooled):
    found = klp.prune(pooled, reference(), 0.3, recovery=None, **QUIET)
    assert found.history[1].rate == pytest.approx(0.05, abs=0.02)
    assert found.settings["recovery"] is None and found.settings["trials"]


@pytest.mark.slow
def test_a_schedule_of_ones_own_says_how_much(pooled):
    found = klp.prune(
        pooled, reference(), 0.4, schedule=klp.schedules.EqualSteps(0.2), recovery="auto", **QUIET
    )
    assert [record.rate for record in found.history] == pytest.approx([0, 0.2, 0.4], abs=0.02)
    # The last refit counts mirror images, too.
    assert found.history[-1].harmonic_mean == pytest.approx(
        found.reference["after"]["harmonic_mean"], abs=0.03
    )


def test_a_curve_is_measured_and_its_passes_are_counted(pooled):
    x, y = digits()[1]
    curve = klp.accuracy_curve(
        pooled, reference(), (x, y), "lrp.unique", [0, 0.3, 0.6], recovery="least_squares"
    )
    # Six steps, up to two proposals for each: a pass of what is left, which is judged by it; of the
    # whole network, once; and how accurate that is. In the last one some of what went comes back,
    # is scored, and another proposal is made.
    proposals = curve.forward_passes - 1 - 1
    assert 6 < proposals <= 12 + 2 and curve.scoring_passes == 6 + 1
    assert curve.class_accuracy[1].mean() > 0.85
    frozen = klp.accuracy_curve(pooled, reference(), (x, y), "lrp.unique", [0, 0.3])
    # With frozen weights, it goes by the schedule for those: six steps with trials.
    assert frozen.scoring_passes == 6 and frozen.forward_passes > 7


@dataclass(frozen=True)
class Refitted(klp.criteria.LogOdds):
    """Contributions as they are, of the network as it is refitted."""

    name = "refitted"
    refits_each_step = True


@pytest.mark.slow
def test_a_criterion_of_ones_own_can_ask_for_it(pooled):
    found = klp.prune(
        pooled, reference(), 0.4, criterion=Refitted(), recovery="least_squares", verbose=0
    )
    # The last refit counts mirror images, too.
    assert found.history[-1].harmonic_mean == pytest.approx(
        found.reference["after"]["harmonic_mean"], abs=0.03
    )
    assert [record.rate for record in found.history[:2]] == pytest.approx([0, 0.1], abs=0.02)


@pytest.mark.slow
def test_in_training_it_scores_and_training_makes_up_for_it():
    model = digits_model()
    model = keras.models.clone_model(model)
    model.compile("adam", "sparse_categorical_crossentropy")
    pruning = klp.callbacks.FilterPruning(
        reference(),
        klp.schedules.AccuracyAware(frequency=10, rate="equal", final_sparsity=0.3),
        criterion="lrp.unique",
    )
    model.fit(*digits()[0], epochs=2, verbose=0, callbacks=[pruning])
    assert pruning.pruned_model().count_params() < model.count_params()
