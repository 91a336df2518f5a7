"""Scorers of a user's own: what they give is checked, and they change nothing."""

import keras
import numpy as np
import pytest
from own_criterion import Snip
from pruning_models import digits_model, reference
from sized_criterion import QUICK, ByShare, Size, compared, prune, trained

import keras_lrp_prune as klp
from keras_lrp_prune.control.schedules import AccuracyAware
from keras_lrp_prune.criteria import Contributions, Scores
from keras_lrp_prune.examination import examiners
from keras_lrp_prune.examination.subject import read_subject


@pytest.fixture(scope="module")
def model():
    return digits_model()


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
