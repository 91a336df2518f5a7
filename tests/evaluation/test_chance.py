"""Models that know nothing of the reference set are found out before any work."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from pruning_models import digits_model, reference

import keras_lrp_prune as klp
from keras_lrp_prune.evaluation import Guessing


def one_hot(classes, n_classes):
    return np.eye(n_classes)[np.asarray(classes)]


@pytest.fixture(scope="module")
def model():
    return digits_model(4, 4)


class TestGuessing:
    def test_balanced_classes_make_chance_one_over_c(self):
        y = np.repeat(range(5), 20)
        always = Guessing.of(y, one_hot(np.zeros(100, int), 5))
        assert (always.right, always.expected) == (20, pytest.approx(0.2))
        assert always.likely > 0.5 and always.at_chance
        # Of 100 fair guesses among five, 27 or more are right in 5.6 %, 28 or more in 3.4 %.
        for right, at_chance in ((27, True), (28, False)):
            named = np.where(np.arange(100) % 20 < right // 5, y, (y + 1) % 5)
            named[[19, 39, 59][: right % 5]] = y[[19, 39, 59][: right % 5]]
            found = Guessing.of(y, one_hot(named, 5))
            assert found.right == right and found.at_chance is at_chance

    def test_naming_the_frequent_class_is_no_skill(self):
        y = np.array([0] * 90 + [1] * 10)
        always = Guessing.of(y, one_hot(np.zeros(100, int), 2))
        assert always.right == 90 and always.expected == pytest.approx(0.9) and always.at_chance
        knows_some = np.where(np.arange(100) < 97, y, 0)
        assert not Guessing.of(y, one_hot(knows_some, 2)).at_chance

    def test_few_samples_are_no_evidence(self):
        assert not Guessing.of([0, 1], one_hot([0, 1], 2)).at_chance
        assert not Guessing.of([0, 1], one_hot([1, 0], 2)).at_chance

    def test_level_holds_for_models_that_guess(self):
        rng = np.random.default_rng(0)
        y = np.repeat(range(10), 10)
        found = [Guessing.of(y, rng.random((100, 10))).at_chance for _ in range(400)]
        assert 0.93 < np.mean(found) < 0.99


def test_classes_that_are_taken_for_each_other_are_named(model):
    x, y = reference()
    swapped = np.choose(y, [0, 2, 1, *range(3, 10)])
    names = [f"digit {number}" for number in range(10)]
    options = {"criterion": "l1", "verbose": 0, "class_names": names}
    with pytest.warns(klp.AtChanceWarning) as caught:
        klp.prune(model, (x, swapped), 0.1, **options)
    (said,) = (str(it.message) for it in caught if it.category is klp.AtChanceWarning)
    assert "digit 2 is taken for digit 1" in said and "digit 3" not in said
    assert "numbered in another order" in said
    with warnings.catch_warnings():
        warnings.simplefilter("error", klp.AtChanceWarning)
        klp.prune(model, (x, y), 0.1, **options)


def test_prune_warns_before_any_work(model, tmp_path):
    x, y = reference()
    shuffled = (x, (y + 1) % 10)
    with pytest.warns(klp.AtChanceWarning) as caught:
        klp.prune(model, shuffled, 0.1, criterion="l1", verbose=0)
    (warning,) = caught
    assert warning.filename == __file__, "it names the line that called prune"
    text = str(warning.message)
    for part in ("of 80 samples", "guesses would get 10.0%", "preprocess", "order", "logits"):
        assert part in text
    with warnings.catch_warnings():
        warnings.simplefilter("error", klp.AtChanceWarning)
        with pytest.raises(klp.AtChanceWarning):
            klp.prune(model, shuffled, 0.1, checkpoint_dir=tmp_path, verbose=0)
        assert not list(tmp_path.glob("*.npz"))
        klp.prune(model, (x, y), 0.1, criterion="l1", verbose=0)  # this one knows


def places(caught):
    """Where it was warned of chance."""
    return [each.filename for each in caught if each.category is klp.AtChanceWarning]


def test_validation_data_in_another_order_is_one_too(model):
    x, y = reference()
    with pytest.warns(klp.AtChanceWarning, match="on the validation data is at chance"):
        klp.prune(model, (x, y), 0.1, validation=(x, (y + 1) % 10), criterion="l1", verbose=0)


def test_comparisons_warn(model):
    x, y = reference()
    with pytest.warns(klp.AtChanceWarning) as caught:
        klp.accuracy_curve(model, (x * 255, (y + 3) % 10), (x, y), "l1", [0.0, 0.2])
    assert places(caught) == [__file__]
    task = (model, (x, (y + 3) % 10), (x, y))
    with warnings.catch_warnings():
        warnings.simplefilter("error", klp.AtChanceWarning)
        with pytest.raises(klp.AtChanceWarning):
            klp.compare(task, "l1", rates=[0.0, 0.2], verbose=0)


def test_a_comparison_warns_once_for_all_methods(model):
    x, y = reference()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", klp.AtChanceWarning)
        task = (model, (x, (y + 3) % 10), (x, y))
        klp.compare(task, ["l1", "l2", "random"], (0, 1), [0.0, 0.2], verbose=0)
    assert places(caught) == [__file__]


def test_a_single_unit():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(8, activation="relu"), layers.Dense(1)]
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2)).astype("float32")
    model.layers[-1].bias.assign([-np.median(model(x))])
    knows = (np.asarray(model(x)).reshape(-1) > 0).astype(int)
    assert knows.sum() == 20
    with warnings.catch_warnings():
        warnings.simplefilter("error", klp.AtChanceWarning)
        klp.prune(model, (x, knows), 0.2, criterion="l1", verbose=0)
    # Trained to give probabilities, and read as logits: every score is above 0.
    model.layers[-1].bias.assign([100.0])
    with pytest.warns(klp.AtChanceWarning, match="logits"):
        klp.prune(model, (x, np.arange(40) % 2), 0.2, criterion="l1", verbose=0)


class TestTraining:
    """`FilterPruning` speaks at the end: an untrained model is none of its business."""

    def fit(self, samples, epochs):
        keras.utils.set_random_seed(0)
        x, y = reference()
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(6, 3, activation="relu"),
                layers.Flatten(),
                layers.Dense(10),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss)
        schedule = klp.schedules.EqualSteps(0.2)
        pruning = klp.callbacks.FilterPruning(samples, schedule, criterion="l1", min_channels=4)
        model.fit(x, y, epochs=epochs, batch_size=20, callbacks=[pruning], verbose=0)
        return pruning

    def test_from_scratch_is_no_warning(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error", klp.AtChanceWarning)
            pruning = self.fit(reference(), 8)
        assert pruning.history[0].harmonic_mean < 0.2, "untrained when it was pruned first"

    def test_a_reference_set_of_another_order_is_one(self):
        x, y = reference()
        with pytest.warns(klp.AtChanceWarning, match="as the training data"):
            self.fit((x, (y + 1) % 10), 8)
