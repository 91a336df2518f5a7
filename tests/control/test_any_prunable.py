"""The control knows nothing of channels: single weights of a Dense kernel are pruned by it, too."""

import io
from dataclasses import dataclass, replace
from functools import cache, cached_property

import keras
import numpy as np
import pytest
from keras import layers

from keras_lrp_prune.control.checkpoint import Checkpoint, CheckpointError
from keras_lrp_prune.control.goals import RateGoal
from keras_lrp_prune.control.loop import PruningLoop
from keras_lrp_prune.control.pace import make_pace
from keras_lrp_prune.control.schedules import AccuracyAware, EqualSteps
from keras_lrp_prune.criteria import Criterion, Random, Scorer
from keras_lrp_prune.criteria import Problem as Scored
from keras_lrp_prune.criteria.checked_scorer import scorer_of
from keras_lrp_prune.criteria.scores import Contributions, Scores, relative_to_group
from keras_lrp_prune.data import reference_set
from keras_lrp_prune.examination.examiners import TwoPasses
from keras_lrp_prune.examination.steering import AsIs
from keras_lrp_prune.graph.heads import read_head
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.report import progress
from keras_lrp_prune.selection.examiner import Evaluation
from keras_lrp_prune.selection.limits import Limits
from keras_lrp_prune.selection.reach import check_rate
from keras_lrp_prune.selection.trials import Trials
from keras_lrp_prune.surgery.builder import build
from keras_lrp_prune.surgery.kept import Kept

CLASSES = 3
THIS_RUN = {"model": "m", "data": "d", "samples": "s", "settings": {}}


@dataclass(frozen=True)
class Row:
    """The weights by which one output reads its inputs."""

    units: np.ndarray

    @property
    def size(self):
        return len(self.units)


@dataclass(frozen=True)
class SingleWeights:
    """The entries of a kernel, one unit each."""

    shape: tuple[int, int]
    unit_noun = size_noun = "weights"

    @cached_property
    def groups(self):
        return [Row(column) for column in np.arange(self.n_units).reshape(self.shape).T]

    @property
    def n_units(self):
        return int(np.prod(self.shape))

    @cached_property
    def unit_sizes(self):
        return np.ones(self.n_units, np.int64)

    def rate(self, removed):
        return float(removed.mean())

    def counts(self, removed):
        return {"weights": int((~removed).sum())}


class KernelMask:
    """Holds entries of a kernel at zero."""

    def __init__(self, kernel):
        self._kernel, self._values = kernel, np.asarray(kernel).copy()

    def set(self, removed):
        kept = ~removed.reshape(self._values.shape)
        self._kernel.assign(np.where(kept, self._values, 0))

    def clear(self):
        self._kernel.assign(self._values)


class KernelExaminer:
    """Evaluates the masked layer; scores entries by what they add to the score of the class."""

    def __init__(self, model, mask, x, y):
        self._model, self._mask, self._x, self._y = model, mask, x, y
        self.evaluated = []

    def evaluate(self, removed):
        self.evaluated.append(removed)
        self._mask.set(removed)
        return Evaluation.of(self._y, np.asarray(self._model(self._x)))

    def scores(self, removed):
        self._mask.set(removed)
        kernel = np.asarray(self._model.layers[-1].kernel)
        own = np.eye(CLASSES)[self._y]
        added = (self._x[:, :, None] * kernel * (own - 1 / CLASSES)[:, None]).reshape(len(own), -1)
        by_class = np.stack([(added[self._y == c] ** 2).mean(0) for c in range(CLASSES)])
        return Scores(by_class, Contributions(added, self._y))


class Problem:
    """A classifier of noisy vectors by one Dense layer, which was fitted in closed form."""

    def __init__(self):
        rng = np.random.default_rng(0)
        means = rng.normal(size=(CLASSES, 12))
        y = np.arange(90) % CLASSES
        x = (means[y] + rng.normal(scale=1.2, size=(90, 12))).astype("float32")
        self.model = keras.Sequential([keras.Input((12,)), layers.Dense(CLASSES, "softmax")])
        kernel, *_ = np.linalg.lstsq(x, 4 * np.eye(CLASSES)[y] - 1, rcond=None)
        self.model.layers[0].set_weights([kernel, np.zeros(CLASSES)])
        self.prunable = SingleWeights((12, CLASSES))
        self.samples = x, y
        self.mask = KernelMask(self.model.layers[0].kernel)
        self.examiner = KernelExaminer(self.model, self.mask, x, y)

    def loop(self, schedule, rate, *, trials=False, limits=None, **options):
        limits = limits or Limits()
        return PruningLoop(
            prunable=self.prunable,
            examiner=self.examiner,
            pace=make_pace(schedule, trials=trials),
            counts=self.prunable.counts,
            goal=RateGoal(self.prunable, limits, rate),
            limits=limits,
            trials=Trials(self.examiner) if trials else None,
            **options,
        )

    def scored(self):
        """The same as criteria and examiners are given it, on a working copy."""
        graph = read_model(self.model).flat()
        working = cache(lambda: build(graph, Kept(), keras))
        name = self.model.layers[0].name
        return Scored(
            graph,
            self.prunable,
            working,
            cache(lambda: KernelMask(working().layers[name].kernel)),
            read_head(graph),
            reference_set(self.samples, n_classes=CLASSES, input_shape=(12,)),
        )


@pytest.fixture
def problem():
    return Problem()


@pytest.mark.parametrize("trials", [True, False], ids=["trials", "adaptive"])
def test_single_weights_are_pruned(problem, trials):
    before = np.asarray(problem.model.layers[0].kernel).copy()
    state = problem.loop(AccuracyAware(), 0.5, trials=trials).run()
    assert state.stopped == "target rate reached"
    assert problem.prunable.rate(state.removed) == 0.5
    accepted = [step for step in state.history if step.accepted]
    assert [step.left["weights"] for step in accepted] == [
        round(36 * (1 - step.rate)) for step in accepted
    ]
    assert min(accepted[-1].class_accuracies) > 0.6, "the right ones went"
    for group in problem.prunable.groups:
        assert not state.removed[group.units].all()
    problem.mask.set(state.removed)
    kernel = np.asarray(problem.model.layers[0].kernel)
    assert ((kernel == 0) == state.removed.reshape(kernel.shape)).all()
    problem.mask.clear()
    assert (np.asarray(problem.model.layers[0].kernel) == before).all()


def test_whole_blocks_go_where_widths_are_rounded(problem):
    state = problem.loop(EqualSteps(0.2), 0.5, limits=Limits(2, 4)).run()
    for group in problem.prunable.groups:
        assert (~state.removed[group.units]).sum() % 4 == 0
    with pytest.raises(ValueError, match=r"min_weights=2 and round_to=4 .* rate is 0\.6667"):
        check_rate("The rate", 0.9, problem.prunable, Limits(2, 4))


def test_a_run_goes_on_from_its_checkpoint_in_the_word_of_what_is_pruned(problem, tmp_path):
    def checkpoint(word="weights"):
        return Checkpoint(tmp_path, THIS_RUN, problem.prunable.n_units, [word])

    class Interrupted(Exception):
        pass

    def interrupt(step):
        if step.step == 3:
            raise Interrupted

    whole = problem.loop(AccuracyAware(), 0.5).run()
    with pytest.raises(Interrupted):
        problem.loop(AccuracyAware(), 0.5, checkpoint=checkpoint(), on_step=interrupt).run()
    saved = checkpoint().load()
    assert 0 < len(saved.history) < len(whole.history)
    assert saved.history[-1].to_dict()["weights"] == saved.history[-1].left["weights"] < 36
    with pytest.raises(CheckpointError, match="lacks 'filters'"):
        checkpoint("filters").load()
    state = problem.loop(AccuracyAware(), 0.5, checkpoint=checkpoint()).run()
    assert state.history == whole.history and (state.removed == whole.removed).all()


def test_progress_is_shown_in_the_word_of_what_is_pruned(problem, monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    shown = progress.PruningProgress(lambda step: step.rate)
    problem.loop(EqualSteps(0.25), 0.25, on_step=shown.show).run()
    lines = written.getvalue().splitlines()
    assert [line.split(", ")[1] for line in lines] == ["36 weights left", "27 weights left"]


@pytest.mark.parametrize(
    "make", [AccuracyAware, lambda: EqualSteps(0.1)], ids=["adaptive", "equal"]
)
def test_a_schedule_takes_nothing_from_one_run_to_the_next(problem, make):
    one = make()
    first, again, fresh = (problem.loop(schedule, 0.6).run() for schedule in (one, one, make()))
    assert first.history == again.history == fresh.history
    assert one.get_config() == make().get_config()


class Magnitude(Criterion):
    """Of each weight, relative to those of its row."""

    name = "magnitude"
    help = "magnitude of it"
    passes = 0

    def scorer(self, problem):
        return MagnitudeScorer(problem)


class MagnitudeScorer(Scorer):
    def scores(self, removed):
        (layer,) = (layer for layer in self.problem.graph.layers.values() if layer.weights)
        magnitudes = abs(layer.arrays()["kernel"]).reshape(1, -1)
        return Scores(relative_to_group(self.problem.structure, magnitudes, order=2))


@pytest.mark.parametrize("criterion", [Magnitude(), Random()], ids=lambda it: it.name)
def test_criteria_and_examiners_take_them(problem, criterion):
    """A criterion's scorer, what checks it, and the examiner of a masked working copy."""
    scored, before = problem.scored(), np.asarray(problem.model.layers[0].kernel).copy()
    examiner = TwoPasses(scored, scorer_of(criterion, scored), AsIs(scored))
    loop = replace(problem.loop(EqualSteps(0.25), 0.5), examiner=examiner)
    state = loop.run()
    assert problem.prunable.rate(state.removed) == 0.5
    assert (np.asarray(problem.model.layers[0].kernel) == before).all()
    problem.mask.set(state.removed)
    expected = Evaluation.of(scored.reference.y, np.asarray(problem.model(problem.samples[0])))
    assert state.history[-1].class_accuracies == pytest.approx(expected.hard)
