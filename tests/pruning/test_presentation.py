"""What a person sees of a run: bars of 80 columns, summaries that advise, short reprs."""

import dataclasses
import os
import pty
import re
import sys

import numpy as np
import pytest
from pruning_models import digits, digits_model, reference
from rich.cells import cell_len
from trained import trained

import keras_lrp_prune as klp
from keras_lrp_prune import demo
from keras_lrp_prune.control.history import Step
from keras_lrp_prune.examination.steering import measured
from keras_lrp_prune.pruning.advice import advice
from keras_lrp_prune.report.progress import PruningProgress
from keras_lrp_prune.report.step_record import StepRecord

LONG = "a name as long as a line is wide " * 3
NAMES = ("zero", "one", "two <b>", "three", LONG, "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def model():
    return digits_model(4, 4)


@pytest.fixture(scope="module")
def frozen(model):
    """Half of the filters, at once, by magnitude: much is lost."""
    return klp.prune(
        model,
        reference(),
        0.5,
        schedule=klp.schedules.EqualSteps(0.25),
        criterion="l1",
        recovery=None,
        validation=digits()[1],
        class_names=NAMES,
        verbose=0,
    )


@pytest.fixture(scope="module")
def headed():
    """A model with a linear head on pooled features, and its reference set, partly mislabelled."""
    train, (x, y), _ = demo.digits(seed=0)
    y = np.where(np.arange(len(y)) % 10 == 0, (y + 1) % 10, y)
    return trained(demo.train_classifier, train, seed=0), (x, y)


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


# Progress.


class Terminal:
    """Standard error, while a test runs, as a terminal of 80 columns."""

    def __init__(self, monkeypatch):
        self._ours, theirs = pty.openpty()
        self._stream = os.fdopen(theirs, "w")
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", self._stream)

    def lines(self):
        """What was written, frame by frame."""
        self._stream.flush()
        os.set_blocking(self._ours, False)
        written = b""
        while True:
            try:
                written += os.read(self._ours, 65536)
            except BlockingIOError:
                break
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())
        return [line for line in re.split(r"[\r\n]+", plain) if line.strip()]

    def close(self):
        self._stream.close()
        os.close(self._ours)


@pytest.fixture
def terminal(monkeypatch):
    """Makes one; not before the test runs, as pytest has a standard error for each phase."""
    made = []

    def make():
        made.append(Terminal(monkeypatch))
        return made[0].lines

    yield make
    for each in made:
        monkeypatch.undo()
        each.close()


def test_bars_fit_80_columns_through_all_stages(model, terminal):
    written = terminal()
    klp.prune(
        model,
        reference(),
        0.4,
        criterion="taylor",
        recovery="least_squares",
        validation=digits()[1],
        class_names=NAMES,
    )
    lines = written()
    assert max(map(cell_len, lines)) <= 80
    assert {line.split()[0] for line in lines} == {"pruning", "refitting", "measuring"}
    steps = [line for line in lines if "worst" in line]
    assert steps and all(
        re.search(r"\d% mean before refitting \d\.\d{3} worst .+ \d\.\d\d", s) for s in steps
    )
    assert all(
        re.search(r"worst (zero|one|two <b>|three|a na.*…|five|six|seven|eight|nine) ", line)
        for line in steps
    )


def test_the_bar_says_how_long_it_will_take(frozen, terminal, monkeypatch):
    written, now = terminal(), [100.0]
    monkeypatch.setattr("keras_lrp_prune.report.progress.time.monotonic", lambda: now[0])
    progress = PruningProgress(lambda record: record.rate / 0.5)
    progress.name_mean("cross-fitted mean")
    first = frozen.history[0]
    with progress.stage("pruning"):
        for part in (0.0, 0.1, 0.2):
            now[0] += 60  # the first of them is tracing, and tells nothing
            progress.show(dataclasses.replace(first, rate=part / 2).as_step())
    lines = written()
    assert any(
        re.search(r"10.0% cross-fitted mean 0\.\d{3} worst \d 0\.\d\d 8:00 left", line)
        for line in lines
    )
    assert max(map(cell_len, lines)) <= 80


@pytest.mark.parametrize("reason", ["", "it fell too far"])
def test_what_is_measured_before_refitting_fits_80_columns(frozen, terminal, reason):
    """The worst class goes where there is no room."""
    written, step = terminal(), frozen.history[0]
    hurt = [0.5, *step.class_accuracies[1:-1], 0.125]
    step = dataclasses.replace(step, class_accuracies=hurt, accepted=not reason, reason=reason)
    progress = PruningProgress(lambda record: record.rate, class_names=[*NAMES[:-1], "sunflowers"])
    progress.name_mean(measured("as_is", refits=True).short)
    with progress.stage("pruning"):
        progress.show(step.as_step())
    line = next(line for line in written() if "before refitting" in line)
    assert cell_len(line) <= 80 and "━" in line
    end = " undone mean before refitting" if reason else r"worst sunflo\w*… 0\.12 "
    assert re.search(end, line) and ("worst" in line) != bool(reason)


def test_without_a_terminal_the_whole_name_is_shown(headed, capfd):
    options = {"criterion": "l1", "recovery": "least_squares", "class_names": NAMES}
    klp.prune(*headed, 0.1, schedule=klp.schedules.EqualSteps(0.1), **options)
    said = capfd.readouterr().err
    assert re.search(r"filters left, harmonic mean before refitting 0\.\d+, worst class", said)


def test_steps_of_a_checkpoint_tell_no_speed(frozen, terminal, monkeypatch):
    written, now = terminal(), [100.0]
    monkeypatch.setattr("keras_lrp_prune.report.progress.time.monotonic", lambda: now[0])
    progress = PruningProgress(lambda record: record.rate)
    with progress.stage("pruning"):
        for rate in (0.0, 0.3, 0.6):  # at once
            progress.show(dataclasses.replace(frozen.history[0], rate=rate).as_step())
        now[0] += 60
        progress.show(dataclasses.replace(frozen.history[0], rate=0.7).as_step())
    assert any("3:00 left" in line for line in written())


def test_without_a_terminal_each_step_is_a_line(headed, capfd):
    at_once = klp.schedules.EqualSteps(0.1)
    options = {"criterion": "l1", "recovery": "head", "class_names": NAMES}
    klp.prune(*headed, 0.1, schedule=at_once, **options)
    lines = capfd.readouterr().err.splitlines()
    steps = [line for line in lines if line.startswith("step ")]
    assert re.fullmatch(
        r"step 0: rate 0\.0%, \d+ filters left, cross-fitted mean \d\.\d+, worst class .+ \d\.\d+",
        steps[0],
    )
    stages = [line.split(":")[0] for line in lines if not line.startswith("step ")]
    assert stages == ["pruning", "refitting", "measuring"]


def test_no_class_is_the_worst_where_all_are_right(frozen, capfd):
    first = frozen.history[0]
    progress = PruningProgress(lambda record: record.rate)
    for lowest in (1.0, 0.5):
        both = {key: [1.0, lowest] for key in ("class_accuracies", "soft_class_accuracies")}
        progress.show(dataclasses.replace(first, **both).as_step())
    perfect, other = capfd.readouterr().err.splitlines()
    assert "worst" not in perfect and other.endswith("worst class 1 0.50")


def test_curves_have_stages_and_name_what_steers(headed, capfd):
    options = {"recovery": "head", "class_names": NAMES, "verbose": 1}
    klp.accuracy_curve(*headed, headed[1], "accuracy-aware", [0.0, 0.05], **options)
    said = capfd.readouterr().err
    assert "cross-fitted mean" in said and "\nmeasuring: 0:" in said
    assert re.search(f"worst class ({'|'.join(NAMES)}) ", said)
    klp.accuracy_curve(*headed, headed[1], "l1", [0.0, 0.05], **options)
    assert "cross-fitted" not in capfd.readouterr().err, "nothing steers it"


# Which accuracy is spoken of.


def test_cross_fitted_heads_are_named_everywhere(headed, by_heads, capsys):
    by_heads.summary()
    printed = capsys.readouterr().out
    first, last = by_heads.history[0], by_heads.history[-1]
    row = next(line for line in printed.splitlines() if "cross-fitted heads" in line)
    assert row.split()[-2:] == [f"{each.harmonic_mean:.4f}" for each in (first, last)]
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


def test_the_models_own_accuracy_is_named_so(model, frozen, capsys):
    frozen.summary()
    assert "cross-fitted" not in capsys.readouterr().out
    assert frozen.plot().axes[0].get_ylabel() == "Accuracy (%)"
    with pytest.raises(ValueError, match="harmonic mean accuracy on the reference set is only"):
        klp.prune(model, reference(), 0.5, recovery=None, min_accuracy=0.9999, verbose=0)


def test_what_refitting_gains_is_in_the_curve_and_the_summary(model, capsys):
    result = klp.prune(
        model,
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
    assert rows[1].split()[-1] == f"{result.history[-1].harmonic_mean:.4f}"
    axes = result.plot().axes[0]
    assert axes.get_title("left").endswith("while pruning, before refitting")
    (star,) = [line for line in axes.lines if line.get_label().startswith("refitted")]
    after = result.reference["after"]["harmonic_mean"]
    np.testing.assert_allclose(star.get_xydata(), [[100 * result.rate, 100 * after]])


# Advice.


def test_a_loss_of_more_than_a_few_points_is_said_in_one_line(frozen, capsys):
    before, after = (frozen.validation[when]["harmonic_mean"] for when in ("before", "after"))
    assert before - after > 0.05
    frozen.summary()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "points" in line]
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
def test_no_advice_that_does_not_fit(frozen, settings, stopped, fits, does_not):
    result = dataclasses.replace(with_settings(frozen, **settings), stopped=stopped)
    assert fits in advice(result) and does_not not in advice(result)


def test_no_more_images_than_a_hundred_a_class(frozen):
    many = {**frozen.reference["before"], "support": [100] * 10}
    result = dataclasses.replace(frozen, reference={**frozen.reference, "before": many})
    assert "samples" not in advice(result)


def test_nothing_is_advised_where_little_is_lost(frozen):
    same = dict.fromkeys(("before", "after"), frozen.validation["before"])
    assert advice(dataclasses.replace(frozen, validation=same)) is None


def test_without_held_out_data_the_reference_set_or_cross_fitted_heads_tell(frozen, by_heads):
    line = advice(dataclasses.replace(frozen, validation=None))
    assert "(reference set)" in line
    first, last = by_heads.history[0], by_heads.history[-1]
    fallen = dataclasses.replace(last, harmonic_mean=first.harmonic_mean - 0.2)
    line = advice(dataclasses.replace(by_heads, history=(first, fallen)))
    assert "fell by 20.0 points (reference set, cross-fitted heads)" in line


def test_classes_that_were_lost_before_are_not_blamed_on_pruning(frozen, capsys):
    report = frozen.validation["before"]
    lost = {**report, "recall": [0.0, *report["recall"][1:]]}
    result = dataclasses.replace(frozen, validation={"before": lost, "after": lost})
    result.summary()
    assert "not one sample" not in capsys.readouterr().out


# Results at a prompt, and in a notebook.


def test_results_show_themselves_in_a_few_lines(model, frozen, capsys):
    text = repr(frozen)
    assert text.startswith("PruningResult: Pruning rate 5") and len(text.splitlines()) == 4
    assert f"{frozen.cost_after.parameters:,}" in text and "held out" in text
    comparison = klp.compare(
        (model, reference(), digits()[1]), ["l1", "random"], (0, 1), [0.0, 0.3], verbose=0
    )
    text = repr(comparison)
    assert len(text.splitlines()) == 4 and "l1: AUC" in text and "±" in text
    assert len(repr(comparison.runs["l1"][0])) < 160
    html = comparison._repr_html_()
    assert html.count("<tr>") == 3 and "data:image/png;base64," in html
    tuned = klp.finetune(frozen, reference(), epochs=1, validation=digits()[1], verbose=0)
    assert len(repr(tuned).splitlines()) == 3 and re.search(
        "1 epoch without distillation: loss [\\d.]+; the", repr(tuned)
    )
    assert "Before" in tuned._repr_html_() and tuned._repr_html_().count("<tr>") == 3
    alone = dataclasses.replace(tuned, validation=None)._repr_html_()
    assert "Last epoch" in alone and "loss" in alone
    cycles = klp.CyclesResult(
        tuned.model,
        frozen.kept,
        [],
        frozen.cost_before,
        frozen.cost_after,
        frozen.reference,
        frozen.validation,
        frozen.rate,
        {},
    )
    assert "<td>Parameters</td>" in cycles._repr_html_()
    assert cycles._repr_html_().count("<tr>") == 6 and "0 cycles, pruning rate 5" in repr(cycles)


def test_what_prunes_and_compares_shows_itself_in_a_few_lines(frozen):
    pruning = klp.callbacks.FilterPruning(reference(), klp.schedules.EqualSteps(0.3), "l1")
    assert repr(pruning).splitlines()[0] == "FilterPruning: EqualSteps, l1"
    assert "nothing pruned yet" in repr(pruning)
    left = {**frozen.cost_after.counts(), "filters": 6}
    step = Step.of(7, 0.25, np.array([0.5]), np.array([0.5]), left)
    pruning.history = [StepRecord.of(step)]
    assert "pruning rate 25.0% at step 7, 6 filters left, harmonic" in repr(pruning)
    accuracies = np.array([1.0, 0.5])
    found = klp.export.LiteRTComparison(
        accuracies, accuracies, 0.67, 0.66, 0.9, support=np.array([3, 4]), file_size=4096
    )
    text = repr(found)
    assert text.startswith("LiteRTComparison: 2 classes") and len(text.splitlines()) == 5
    assert "Keras 0.6700, LiteRT 0.6600" in text and "4,096 bytes" in text


def test_html_escapes_names(frozen):
    result = dataclasses.replace(
        with_settings(frozen, criterion="<script>"), stopped="a & b", class_names=NAMES
    )
    html = result._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html and "a &amp; b" in html
    assert html.count("<tr>") == 6 and "data:image/png;base64," in html
    assert "Harmonic mean accuracy, validation data" in html


def test_a_result_is_no_model_but_has_one(frozen):
    with pytest.raises(TypeError, match=r"got .*PruningResult\. Give its model: result\.model\.$"):
        klp.prune(frozen, reference(), 0.5)
