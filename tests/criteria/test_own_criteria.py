"""Criteria and schedules of a user's own: what tells a run apart, and what they must say."""

from dataclasses import dataclass

import keras
import numpy as np
import pytest
from own_criterion import Snip
from pruning_models import digits, digits_model, reference

import keras_lrp_prune as klp
from keras_lrp_prune.comparison import methods
from keras_lrp_prune.control.pace import make_pace, own_selection
from keras_lrp_prune.control.schedules import AccuracyAware, EqualSteps, PruningSchedule, Selection
from keras_lrp_prune.criteria import LRP, Contributions, Scores
from keras_lrp_prune.criteria.registry import CRITERIA, LRP_METHODS
from keras_lrp_prune.examination import examiners
from keras_lrp_prune.examination.criterion_choice import CriterionChoice
from keras_lrp_prune.examination.subject import read_subject

QUICK = {"schedule": EqualSteps(0.2), "recovery": None, "verbose": 0}


@dataclass(frozen=True)
class Size(klp.criteria.Criterion):
    """The norm of the kernels to a power."""

    power: float = 1.0

    name = "size"
    help = "norm of its kernels, to a power"
    passes = 0

    def scorer(self, problem):
        return SizeScorer(problem, self.power)


class SizeScorer(klp.criteria.Scorer):
    def __init__(self, problem, power):
        super().__init__(problem)
        self._power = power

    def scores(self, removed):
        found = klp.criteria.over_kernels(
            self.problem.structure,
            kernel=lambda layer, name: np.abs(self.problem.graph.layers[layer].arrays()[name]),
            figure=lambda rows: rows.sum(1) ** self._power,
        )
        return klp.criteria.Scores(found[None])


class ByShare(PruningSchedule):
    """A share more at each step; its config does not tell how filters are chosen."""

    selection = Selection(pool=0, trials=False)

    def __call__(self, step):
        return True, min(0.9, 0.2 * (step + 1))

    def get_config(self):
        return {"class_name": "ByShare", "config": {}}


class Uniform(ByShare):
    selection = Selection(order="uniform", pool=0, trials=False)


@pytest.fixture(scope="module")
def model():
    return digits_model()


@pytest.fixture
def register():
    """Registers a criterion in the place of the one before, for one test."""

    def again(criterion):
        klp.register_criterion(criterion)
        return criterion.name

    yield again
    if "size" in CRITERIA:
        klp.criteria.unregister_criterion("size")


def prune(model, folder, **options):
    return klp.prune(model, reference(), 0.4, checkpoint_dir=folder, **{**QUICK, **options})


def trained(model, folder, criterion=None, schedule=None):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    copy.compile("sgd", "sparse_categorical_crossentropy")
    pruning = klp.callbacks.FilterPruning(
        reference(), schedule or EqualSteps(0.2), criterion, state_dir=folder
    )
    x, y = digits()[0]
    copy.fit(x[:64], y[:64], verbose=0, callbacks=[pruning])


def cycles(model, folder, **options):
    x, y = digits()[0]
    klp.prune_and_finetune(
        model,
        reference(),
        (x[:64], y[:64]),
        0.3,
        prune_options={"schedule": EqualSteps(0.3), **options},
        tune_options={"epochs": 1},
        cycles=1,
        checkpoint_dir=folder,
        verbose=0,
    )


def compared(model, folder, criterion="size", schedule=EqualSteps):
    x, y = digits()[1]
    method = klp.Method("mine", criterion, schedule)
    task = (model, reference(), (x[:100], y[:100]))
    klp.compare(task, (method,), rates=[0.0, 0.3], verbose=0, folder=folder)


def marked(runs):
    """Those that train twice, and more, are slow."""
    slow = {"cycles": [pytest.mark.slow]}
    return [pytest.param(run, id=name, marks=slow.get(name, ())) for name, run in runs.items()]


RESUMED = {
    "prune": lambda model, folder, name: prune(model, folder, criterion=name),
    "compare": compared,
    "cycles": lambda model, folder, name: cycles(model, folder, criterion=name),
    "FilterPruning": trained,
}


@pytest.mark.parametrize("run", marked(RESUMED))
def test_a_name_that_was_given_to_another_criterion_is_not_gone_on_with(
    model, register, tmp_path, run
):
    run(model, tmp_path, register(Size(1.0)))
    run(model, tmp_path, register(Size(1.0)))
    with pytest.raises(klp.CheckpointError, match=r"\(criterion\)|prune_options|another method"):
        run(model, tmp_path, register(Size(-1.0)))


def test_our_names_are_told_as_they_were():
    for name, criterion in CRITERIA.items():
        assert CriterionChoice(name).settings == {"criterion": name, "analyzer_options": {}}
        told = klp.Method("m", name).describe()
        assert list(told) == ["criterion", "schedule", "analyzer_options", "scored_once"], criterion


SCHEDULED = {
    "prune": lambda model, folder, kind: prune(model, folder, schedule=kind()),
    "compare": lambda model, folder, kind: compared(model, folder, "l1", kind),
    "cycles": lambda model, folder, kind: cycles(model, folder, schedule=kind()),
    "FilterPruning": lambda model, folder, kind: trained(model, folder, "l1", kind()),
}


@pytest.mark.parametrize("run", marked(SCHEDULED))
def test_a_schedule_that_chooses_otherwise_is_not_gone_on_with(model, tmp_path, run):
    run(model, tmp_path, ByShare)
    run(model, tmp_path, ByShare)
    with pytest.raises(klp.CheckpointError, match=r"selection|prune_options|another method"):
        run(model, tmp_path, Uniform)


def test_schedules_of_ours_are_told_as_they_were():
    from tensorflow_model_optimization.sparsity.keras import ConstantSparsity

    for schedule in (AccuracyAware(), EqualSteps(), ConstantSparsity(0.5, 0), None):
        assert own_selection(schedule) == {}
    assert own_selection(Uniform())["selection"]["order"]["class_name"] == "UniformOrder"


@pytest.mark.parametrize("wrong", [None, "uniform"])
def test_a_selection_that_is_none_is_named(wrong):
    schedule = type("Mine", (ByShare,), {"selection": wrong})()
    with pytest.raises(TypeError, match=r"Mine\.selection is a klp\.schedules\.Selection, not"):
        make_pace(schedule, trials=True)


def test_an_argument_that_a_schedule_would_lose_is_named():
    class Patient(AccuracyAware):
        def __init__(self, patience=1, **arguments):
            super().__init__(**arguments)
            self.patience = patience

    class Told(Patient):
        def get_config(self):
            found = super().get_config()
            return {**found, "config": {**found["config"], "patience": self.patience}}

    with pytest.raises(TypeError, match=r"Patient has arguments .*\(patience\)"):
        make_pace(Patient(patience=7), trials=True)
    assert make_pace(Told(patience=7), trials=True).schedule.patience == 7


@pytest.mark.parametrize("name", LRP_METHODS)
def test_a_criterion_is_not_called_like_a_method_of_another(name):
    with pytest.raises(ValueError, match=f"'{name}' is a method of klp.compare"):
        klp.register_criterion(LRP("lrp.z", name=name))
    assert name not in CRITERIA


def test_these_are_the_methods_of_lrp():
    assert tuple(methods._OF_LRP) == LRP_METHODS


@pytest.mark.parametrize("config", [None, {1: 2, "a": 3}], ids=["none", "mixed keys"])
def test_a_config_that_is_no_plain_data_is_named(config):
    odd = type("Odd", (Size,), {"get_config": lambda self: config})()
    with pytest.raises(TypeError, match=r"Odd\.get_config\(\)"):
        CriterionChoice(odd)


def test_lrp_checks_its_name_and_has_a_hash():
    with pytest.raises(ValueError, match="unlike 'a b'"):
        LRP("lrp.z", name="a b")
    first, same = (LRP("lrp.epsilon", {"epsilon": 0.1}) for _ in range(2))
    assert first == same and hash(first) == hash(same)
    assert first != LRP("lrp.epsilon", {"epsilon": 0.2})


def scored(found):
    """A criterion that says what a function of the structure makes."""

    class Odd(klp.criteria.Scorer):
        def scores(self, removed):
            return found(self.problem.structure.n_units)

    return type("Said", (Size,), {"name": "odd", "scorer": lambda self, problem: Odd(problem)})()


def with_contributions(samples, value=1.0, y=None):
    def found(units):
        values = np.full((samples, units), value)
        classes = np.zeros(samples, int) if y is None else y
        return Scores(np.ones((1, units)), Contributions(values, classes))

    return found


WRONG = {
    "none": (lambda units: None, TypeError, "must return klp.criteria.Scores.* NoneType"),
    "bare": (lambda units: np.ones((1, units)), TypeError, "Scores.* returned ndarray of shape"),
    "list": (lambda units: Scores([[1.0] * units]), TypeError, "NumPy array .* not as list"),
    "text": (lambda units: Scores(np.full((1, units), "a")), TypeError, "array of numbers"),
    "flat": (lambda units: Scores(np.ones(units)), ValueError, r"expected is \(1, .* or \(10, "),
    "rows": (lambda units: Scores(np.ones((3, units))), ValueError, r"scores of shape \(3, "),
    "columns": (lambda units: Scores(np.ones((1, units - 1))), ValueError, "for each of the"),
    "nan": (lambda units: Scores(np.full((1, units), np.nan)), ValueError, "not finite.* NaN"),
    "one": (
        lambda units: Scores(np.where(np.arange(units) == 1, np.nan, 1.0)[None]),
        ValueError,
        "1 NaN, 0 infinite",
    ),
    "samples": (with_contributions(5), ValueError, "values of contributions of shape"),
    "classes": (with_contributions(80, y=np.zeros(3, int)), ValueError, r"\(y\) of contributions"),
    "values": (with_contributions(80, np.nan), ValueError, "contributions that are not finite"),
}


@pytest.mark.parametrize(("found", "error", "message"), WRONG.values(), ids=WRONG)
def test_scores_that_are_none_are_named(model, found, error, message):
    with pytest.raises(error, match=f"Criterion 'odd'.*{message}"):
        prune(model, None, criterion=scored(found))


def test_scores_are_checked_wherever_they_enter(model, tmp_path):
    nan = scored(lambda units: Scores(np.full((1, units), np.nan)))
    with pytest.raises(ValueError, match="Criterion 'odd' gave scores that are not finite"):
        compared(model, tmp_path / "compared", nan)
    with pytest.raises(ValueError, match="Criterion 'odd' gave scores that are not finite"):
        trained(model, tmp_path / "trained", nan)


def test_a_criterion_without_a_scorer_is_named(model):
    none = type("None_", (Size,), {"scorer": lambda self, problem: None})()
    with pytest.raises(TypeError, match=r"Criterion 'size': scorer\(problem\) must return"):
        prune(model, None, criterion=none)


def test_a_working_copy_that_is_refreshed_has_the_weights_of_now(model):
    """Not those of before, which a mask on it would bring back."""
    live = keras.models.clone_model(model)
    live.set_weights(model.get_weights())
    subject = read_subject(live, reference())
    problem = subject.problem()
    everything = np.ones(subject.structure.n_units, bool)
    problem.mask().set(everything)
    live.set_weights([2 * weight for weight in live.get_weights()])
    problem.refresh()
    problem.mask().set(everything)
    problem.mask().set(~everything)
    for found, weight in zip(
        problem.working().model.get_weights(), live.get_weights(), strict=True
    ):
        assert (found == weight).all()


class OnePass(klp.criteria.ProbabilityScorer):
    """Sizes, and the outputs of the working model, which are probabilities."""

    def examine(self, removed):
        self.problem.mask().set(removed)
        outputs = self.problem.working().model(self.problem.reference.x)
        return Scores(self.problem.structure.unit_sizes[None].astype(float)), np.asarray(outputs)


class SaysSo(klp.criteria.Scorer):
    """The same by an attribute, without the class."""

    gives_probabilities = True
    examine = OnePass.examine

    def scores(self, removed):
        return self.examine(removed)[0]


class Unkept(klp.criteria.Scorer):
    gives_probabilities = True

    def scores(self, removed):
        raise AssertionError


def by(scorer):
    """A criterion of that scorer."""
    return type(
        "Made", (Size,), {"name": "made", "scorer": lambda self, problem: scorer(problem)}
    )()


def test_the_pass_that_scores_gives_the_accuracies_too(model, monkeypatch):
    """As two passes do, but that no other forward pass is made."""
    in_two = type("InTwo", (OnePass,), {"gives_probabilities": False})
    expected = prune(model, None, criterion=by(in_two), schedule=ByShare())
    monkeypatch.setattr(examiners, "TwoPasses", None)
    for scorer in (OnePass, SaysSo):
        found = prune(model, None, criterion=by(scorer), schedule=ByShare())
        assert len(found.history) > 2
        for step, same in zip(found.history, expected.history, strict=True):
            assert step.rate == same.rate and step.class_accuracies == same.class_accuracies
            assert step.soft_class_accuracies == pytest.approx(same.soft_class_accuracies, abs=1e-5)
        assert all(map(np.array_equal, found.kept.values(), expected.kept.values()))


def test_probabilities_without_a_way_to_give_them_are_named(model):
    with pytest.raises(TypeError, match=r"'made': Unkept says .* examine.*ProbabilityScorer"):
        prune(model, None, criterion=by(Unkept))
    with pytest.raises(TypeError, match="abstract"):
        klp.criteria.ProbabilityScorer(None)


@pytest.mark.parametrize("train", [False, True], ids=["prune", "FilterPruning"])
def test_scores_of_a_pass_that_gives_probabilities_are_checked(model, train):
    class Odd(OnePass):
        def examine(self, removed):
            scores, probabilities = super().examine(removed)
            return Scores(np.full_like(scores.by_class, np.nan)), probabilities

    with pytest.raises(ValueError, match="Criterion 'made' gave scores that are not finite"):
        if train:
            trained(model, None, by(Odd))
        else:
            prune(model, None, criterion=by(Odd), schedule=ByShare())


def test_a_scorer_cannot_change_what_is_gone(model):
    class Tries(OnePass):
        def examine(self, removed):
            removed[3] = True

    with pytest.raises(ValueError, match="read-only"):
        prune(model, None, criterion=by(Tries))


def test_a_scorer_may_use_its_array_again(model):
    class Anew(klp.criteria.Scorer):
        def scores(self, removed):
            rows = np.random.default_rng(removed.sum()).random((1, len(removed)))
            return Scores(rows)

    class Again(Anew):
        buffer = None

        def scores(self, removed):
            found = super().scores(removed).by_class
            if self.buffer is None:
                self.buffer = np.zeros_like(found)
            self.buffer[:] = found
            return Scores(self.buffer)

    anew, again = (
        prune(model, None, criterion=by(one), schedule=AccuracyAware()) for one in (Anew, Again)
    )
    assert len(anew.history) > 2  # so that scores of before have a part in the trials
    assert all(map(np.array_equal, anew.kept.values(), again.kept.values()))


def examines(answer):
    """A scorer whose `examine` returns something made of what is right."""

    class Odd(OnePass):
        def examine(self, removed):
            return answer(*super().examine(removed))

    return Odd


class Forgetful(klp.criteria.Scorer):
    def __init__(self, problem):
        pass

    def scores(self, removed):
        raise AssertionError


@pytest.mark.parametrize(
    ("scorer", "error", "message"),
    [
        (examines(lambda scores, outputs: scores), TypeError, "two things.*returned Scores"),
        (examines(lambda *both: (*both, 1)), TypeError, "two things.*returned tuple"),
        (examines(lambda scores, outputs: (scores, outputs[:3])), ValueError, "probabilities of"),
        (examines(lambda scores, outputs: (scores, None)), TypeError, "class probabilities as a"),
        (
            examines(lambda scores, outputs: (scores, outputs * np.nan)),
            ValueError,
            "class probabilities that are not finite",
        ),
        (Forgetful, TypeError, r"Forgetful does not know its problem.*super\(\).__init__"),
    ],
)
def test_what_a_scorer_gives_beside_scores_is_checked(model, scorer, error, message):
    with pytest.raises(error, match=f"Criterion 'made'.*{message}"):
        prune(model, None, criterion=by(scorer))


@pytest.mark.parametrize("classes", [lambda y: y + 1, lambda y: y - 0.5])
def test_classes_of_contributions_are_those_of_the_samples(model, classes):
    class Odd(klp.criteria.Scorer):
        def scores(self, removed):
            y, units = self.problem.reference.y, self.problem.structure.n_units
            added = klp.criteria.Contributions(np.ones((len(y), units)), classes(y))
            return Scores(np.ones((1, units)), added)

    with pytest.raises(ValueError, match=r"'made' gave classes .* other than the whole numbers"):
        prune(model, None, criterion=by(Odd))


def test_the_example_of_the_docs_prunes_a_model_of_legacy_keras():
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    x, y = reference()
    legacy = tf_keras.Sequential(
        [
            layers.InputLayer(x.shape[1:]),
            layers.Conv2D(6, 3, activation="relu", name="first"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )
    result = klp.prune(legacy, (x, y), 0.4, criterion=Snip(), **QUICK)
    assert len(result.kept["first"]) < 6
