"""What a person sees while a model is pruned: bars of 80 columns, or a line for each step."""

import dataclasses
import os
import pty
import re
import sys

import pytest
from pruning_models import NAMES, digits, reference
from rich.cells import cell_len

import keras_lrp_prune as klp
from keras_lrp_prune.examination.steering import measured
from keras_lrp_prune.report.progress import PruningProgress


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


def test_bars_fit_80_columns_through_all_stages(small, terminal):
    written = terminal()
    klp.prune(
        small,
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
        re.search(r"\d% mean before refitting \d+\.\d% worst .+ \d+\.\d%", s) for s in steps
    )
    assert all(
        re.search(r"worst (zero|one|two <b>|three|a na.*…|five|six|seven|eight|nine) ", line)
        for line in steps
    )


def test_the_bar_says_how_long_it_will_take(halved, terminal, monkeypatch):
    written, now = terminal(), [100.0]
    monkeypatch.setattr("keras_lrp_prune.report.progress.time.monotonic", lambda: now[0])
    progress = PruningProgress(lambda record: record.rate / 0.5)
    progress.name_mean("cross-fitted mean")
    first = halved.history[0]
    with progress.stage("pruning"):
        for part in (0.0, 0.1, 0.2):
            now[0] += 60  # the first of them is tracing, and tells nothing
            progress.show(dataclasses.replace(first, rate=part / 2).as_step())
    lines = written()
    assert any(
        re.search(r"10.0% cross-fitted mean \d\d\.\d% worst \d \d+\.\d% 8:00 left", line)
        for line in lines
    )
    assert max(map(cell_len, lines)) <= 80


@pytest.mark.parametrize("reason", ["", "it fell too far"])
def test_what_is_measured_before_refitting_fits_80_columns(halved, terminal, reason):
    """The worst class goes where there is no room."""
    written, step = terminal(), halved.history[0]
    hurt = [0.5, *step.class_accuracies[1:-1], 0.125]
    step = dataclasses.replace(step, class_accuracies=hurt, accepted=not reason, reason=reason)
    progress = PruningProgress(lambda record: record.rate, class_names=[*NAMES[:-1], "sunflowers"])
    progress.name_mean(measured("as_is", refits=True).short)
    with progress.stage("pruning"):
        progress.show(step.as_step())
    line = next(line for line in written() if "before refitting" in line)
    assert cell_len(line) <= 80 and "━" in line
    end = " undone mean before refitting" if reason else r"worst sunfl\w*… 12\.5% "
    assert re.search(end, line) and ("worst" in line) != bool(reason)


def test_without_a_terminal_the_whole_name_is_shown(headed, capfd):
    options = {"criterion": "l1", "recovery": "least_squares", "class_names": NAMES}
    klp.prune(*headed, 0.1, schedule=klp.schedules.EqualSteps(0.1), **options)
    said = capfd.readouterr().err
    assert re.search(r"filters left, harmonic mean before refitting \d+\.\d%, worst class", said)


def test_steps_of_a_checkpoint_tell_no_speed(halved, terminal, monkeypatch):
    written, now = terminal(), [100.0]
    monkeypatch.setattr("keras_lrp_prune.report.progress.time.monotonic", lambda: now[0])
    progress = PruningProgress(lambda record: record.rate)
    with progress.stage("pruning"):
        for rate in (0.0, 0.3, 0.6):  # at once
            progress.show(dataclasses.replace(halved.history[0], rate=rate).as_step())
        now[0] += 60
        progress.show(dataclasses.replace(halved.history[0], rate=0.7).as_step())
    assert any("3:00 left" in line for line in written())


def test_without_a_terminal_each_step_is_a_line(headed, capfd):
    at_once = klp.schedules.EqualSteps(0.1)
    options = {"criterion": "l1", "recovery": "head", "class_names": NAMES}
    klp.prune(*headed, 0.1, schedule=at_once, **options)
    lines = capfd.readouterr().err.splitlines()
    steps = [line for line in lines if line.startswith("step ")]
    assert re.fullmatch(
        r"step 0: rate 0\.0%, \d+ filters left, cross-fitted mean \d+\.\d%, "
        r"worst class .+ \d+\.\d%",
        steps[0],
    )
    stages = [line.split(":")[0] for line in lines if not line.startswith("step ")]
    assert stages == ["pruning", "refitting", "measuring"]


def test_no_class_is_the_worst_where_all_are_right(halved, capfd):
    first = halved.history[0]
    progress = PruningProgress(lambda record: record.rate)
    for lowest in (1.0, 0.5):
        both = {key: [1.0, lowest] for key in ("class_accuracies", "soft_class_accuracies")}
        progress.show(dataclasses.replace(first, **both).as_step())
    perfect, other = capfd.readouterr().err.splitlines()
    assert "worst" not in perfect and other.endswith("worst class 1 50.0%")


def test_curves_have_stages_and_name_what_steers(headed, capfd):
    options = {"recovery": "head", "class_names": NAMES, "verbose": 1}
    klp.accuracy_curve(*headed, headed[1], "accuracy-aware", [0.0, 0.05], **options)
    said = capfd.readouterr().err
    assert "cross-fitted mean" in said and "\nmeasuring: 0:" in said
    assert re.search(f"worst class ({'|'.join(NAMES)}) ", said)
    klp.accuracy_curve(*headed, headed[1], "l1", [0.0, 0.05], **options)
    assert "cross-fitted" not in capfd.readouterr().err, "nothing steers it"
