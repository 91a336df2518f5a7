"""What a person sees of a result: summaries that advise, short reprs, tables of notebooks."""

import dataclasses
import re

import numpy as np
import pytest
from pruning_models import NAMES, digits, reference

import keras_lrp_prune as klp
from keras_lrp_prune.control.history import Step
from keras_lrp_prune.pruning.advice import advice
from keras_lrp_prune.report.step_record import StepRecord
from keras_lrp_prune.selection.examiner import Evaluation


@pytest.fixture(scope="module")
def by_heads(headed):
    return klp.prune(
        *headed,
        0.5,
        schedule=klp.schedules.EqualSteps(0.25),
        criterion="l1",
        recovery="head",
        verbose=0,
    )


def with_settings(result, **settings):
    return dataclasses.replace(result, settings={**result.settings, **settings})


# Which accuracy is spoken of.


def test_cross_fitted_heads_are_named_everywhere(headed, by_heads, capsys):
    by_heads.summary()
    printed = capsys.readouterr().out
    first, last = by_heads.history[0], by_heads.history[-1]
    row = next(line for line in printed.splitlines() if "cross-fitted heads" in line)
    assert row.split()[-2:] == [f"{each.harmonic_mean:.1%}" for each in (first, last)]
    assert "reference set (fitted on it)" in printed
    assert by_heads.plot().axes[0].get_ylabel() == "Accuracy of cross-fitted heads (%)"
    with pytest.raises(ValueError) as error:
        klp.prune(*headed, 0.5, recovery="head", min_accuracy=0.999, verbose=0)
    assert "of cross-fitted heads on the reference set is only" in str(error.value)
    assert f"{first.harmonic_mean:.4f}" in str(error.value), "the figure that the curve starts with"
    floored = klp.prune(
        *headed,
        0.9,
        schedule=klp.schedules.EqualSteps(0.9),
        criterion="l1",
        recovery="head",
        min_accuracy=first.harmonic_mean - 0.02,
        verbose=0,
    )
    assert re.match("floor: the harmonic mean accuracy of cross-fitted heads", floored.stopped)


def test_the_models_own_accuracy_is_named_so(small, halved, capsys):
    halved.summary()
    assert "cross-fitted" not in capsys.readouterr().out
    assert halved.plot().axes[0].get_ylabel() == "Accuracy (%)"
    with pytest.raises(ValueError, match="harmonic mean accuracy on the reference set is only"):
        klp.prune(small, reference(), 0.5, recovery=None, min_accuracy=0.9999, verbose=0)


def test_what_refitting_gains_is_in_the_curve_and_the_summary(small, capsys):
    result = klp.prune(
        small,
        reference(),
        0.4,
        criterion="l1",
        recovery="least_squares",
        validation=digits()[1],
        verbose=0,
    )
    result.summary()
    rows = [line for line in capsys.readouterr().out.splitlines() if "Harmonic mean" in line]
    assert [re.match(r" Harmonic mean (.*?)  ", row)[1] for row in rows] == [
        *("accuracy, reference set", "before refitting, reference set"),
        "accuracy, validation data",
    ]
    assert rows[1].split()[-1] == f"{result.history[-1].harmonic_mean:.1%}"
    axes = result.plot().axes[0]
    assert axes.get_title("left").endswith("while pruning, before refitting")
    (star,) = [line for line in axes.lines if line.get_label().startswith("refitted")]
    after = result.reference["after"]["harmonic_mean"]
    np.testing.assert_allclose(star.get_xydata(), [[100 * result.rate, 100 * after]])


# Advice.


def test_a_loss_of_more_than_a_few_points_is_said_in_one_line(halved, capsys):
    before, after = (halved.validation[when]["harmonic_mean"] for when in ("before", "after"))
    assert before - after > 0.05
    halved.summary()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "What may help" in line]
    assert f"fell by {100 * (before - after):.1f} points (held out)" in line
    for remedy in ("recovery=", "min_accuracy=", "target_rate", "more than 8 reference samples"):
        assert remedy in line


@pytest.mark.parametrize(
    ("settings", "stopped", "fits", "does_not"),
    [
        ({"recovery": "least_squares"}, "", "min_accuracy=", "recovery="),
        ({"recovery": "head"}, "", "min_accuracy=", "recovery="),
        ({"min_accuracy": 0.1}, "", "a lower target_rate", "min_accuracy="),
        ({"min_accuracy": 0.1}, "floor: ...", "a higher min_accuracy", "target_rate"),
        ({"budget": {"flops": 0.5}}, "budget met", "a larger budget", "target_rate"),
    ],
)
def test_no_advice_that_does_not_fit(halved, settings, stopped, fits, does_not):
    result = dataclasses.replace(with_settings(halved, **settings), stopped=stopped)
    assert fits in advice(result) and does_not not in advice(result)


def test_no_more_images_than_a_hundred_a_class(halved):
    many = {**halved.reference["before"], "support": [100] * 10}
    result = dataclasses.replace(halved, reference={**halved.reference, "before": many})
    assert "samples" not in advice(result)


def test_nothing_is_advised_where_little_is_lost(halved):
    same = dict.fromkeys(("before", "after"), halved.validation["before"])
    assert advice(dataclasses.replace(halved, validation=same)) is None


def test_without_held_out_data_the_reference_set_or_cross_fitted_heads_tell(halved, by_heads):
    line = advice(dataclasses.replace(halved, validation=None))
    assert "(reference set)" in line
    first, last = by_heads.history[0], by_heads.history[-1]
    fallen = dataclasses.replace(last, harmonic_mean=first.harmonic_mean - 0.2)
    line = advice(dataclasses.replace(by_heads, history=(first, fallen)))
    assert "fell by 20.0 points (reference set, cross-fitted heads)" in line


def test_classes_that_were_lost_before_are_not_blamed_on_pruning(halved, capsys):
    report = halved.validation["before"]
    lost = {**report, "recall": [0.0, *report["recall"][1:]]}
    result = dataclasses.replace(halved, validation={"before": lost, "after": lost})
    result.summary()
    assert "not one sample" not in capsys.readouterr().out


@pytest.mark.parametrize(("after", "said"), [(0.6, True), (0.8, False), (0.95, False)])
def test_a_class_that_fell_further_than_chance_would_have_it_is_named(halved, capsys, after, said):
    report = {**halved.validation["before"], "recall": [0.9] * 10, "support": [40] * 10}
    fallen = {**report, "recall": [0.9, after, *[0.9] * 8]}
    result = dataclasses.replace(halved, validation={"before": report, "after": fallen})
    result.summary(["zero", "one", *"23456789"])
    line = "Class one lost most: 30.0 points (held out, 40 samples)."
    assert (line in capsys.readouterr().out) == said


# Results at a prompt, and in a notebook.


def test_results_show_themselves_in_a_few_lines(small, halved, capsys):
    text = repr(halved)
    assert text.startswith("PruningResult: Pruning rate 5") and len(text.splitlines()) == 4
    assert f"{halved.cost_after.parameters:,}" in text and "held out" in text
    comparison = klp.compare(
        (small, reference(), digits()[1]), ["l1", "random"], (0, 1), [0.0, 0.3], verbose=0
    )
    text = repr(comparison)
    assert len(text.splitlines()) == 4 and "l1: AUC" in text and "±" in text
    assert len(repr(comparison.runs["l1"][0])) < 160
    html = comparison._repr_html_()
    assert html.count("<tr>") == 3 and "data:image/png;base64," in html
    tuned = klp.finetune(halved, reference(), epochs=1, validation=digits()[1], verbose=0)
    assert len(repr(tuned).splitlines()) == 3 and re.search(
        "1 epoch without distillation: loss [\\d.]+; the", repr(tuned)
    )
    assert "Before" in tuned._repr_html_() and tuned._repr_html_().count("<tr>") == 3
    alone = dataclasses.replace(tuned, validation=None)._repr_html_()
    assert "Last epoch" in alone and "loss" in alone
    cycles = klp.CyclesResult(
        tuned.model,
        halved.kept,
        [],
        halved.cost_before,
        halved.cost_after,
        halved.reference,
        halved.validation,
        halved.rate,
        {},
    )
    assert "<td>Parameters</td>" in cycles._repr_html_()
    assert cycles._repr_html_().count("<tr>") == 6 and "0 cycles, pruning rate 5" in repr(cycles)


def test_what_prunes_and_compares_shows_itself_in_a_few_lines(halved):
    pruning = klp.callbacks.FilterPruning(reference(), klp.schedules.EqualSteps(0.3), "l1")
    assert repr(pruning).splitlines()[0] == "FilterPruning: EqualSteps, l1"
    assert "nothing pruned yet" in repr(pruning)
    left = {**halved.cost_after.counts(), "filters": 6}
    step = Step.of(7, 0.25, Evaluation(np.array([0.5]), np.array([0.5])), left)
    pruning.history = [StepRecord.of(step)]
    assert "pruning rate 25.0% at step 7, 6 filters left, harmonic" in repr(pruning)
    accuracies = np.array([1.0, 0.5])
    found = klp.export.LiteRTComparison(
        accuracies, accuracies, 0.67, 0.66, 0.9, support=np.array([3, 4]), file_size=4096
    )
    text = repr(found)
    assert text.startswith("LiteRTComparison: 2 classes") and len(text.splitlines()) == 5
    assert "Keras 67.0%, LiteRT 66.0%" in text and "4,096 bytes" in text


def test_html_escapes_names(halved):
    result = dataclasses.replace(
        with_settings(halved, criterion="<script>"), stopped="a & b", class_names=NAMES
    )
    html = result._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html and "a &amp; b" in html
    assert html.count("<tr>") == 6 and "data:image/png;base64," in html
    assert "Harmonic mean accuracy, validation data" in html


def test_a_result_is_no_model_but_has_one(halved):
    with pytest.raises(TypeError, match=r"got .*PruningResult\. Give its model: result\.model\.$"):
        klp.prune(halved, reference(), 0.5)
