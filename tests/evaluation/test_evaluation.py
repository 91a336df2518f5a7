import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_lrp_prune.evaluation import (
    AccuracyCurve,
    class_accuracies,
    classification_report,
    harmonic_mean_accuracy,
    probabilities,
    soft_class_accuracies,
)

Y = np.array([0, 0, 0, 1, 1, 2])
P = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.6, 0.3, 0.1],
        [0.2, 0.7, 0.1],
        [0.1, 0.8, 0.1],
        [0.5, 0.4, 0.1],
        [0.0, 0.0, 1.0],
    ]
)

accuracies = hnp.arrays(float, st.integers(1, 12), elements=st.floats(0, 1))
scores = hnp.arrays(
    float, st.tuples(st.integers(1, 8), st.integers(2, 5)), elements=st.floats(-1e3, 1e3)
)


# Probabilities


@given(scores)
def test_logits_become_distributions_of_the_same_order(logits):
    p = probabilities(logits, "logits")
    np.testing.assert_allclose(p.sum(axis=1), 1)
    top = p[np.arange(len(p)), logits.argmax(axis=1)]
    np.testing.assert_array_equal(top, p.max(axis=1))


@given(hnp.arrays(float, st.tuples(st.integers(1, 8), st.just(1)), elements=st.floats(-500, 500)))
def test_one_logit_is_two_logits_with_a_zero(logit):
    two = np.hstack([np.zeros_like(logit), logit])
    np.testing.assert_allclose(
        probabilities(logit, "logits"), probabilities(two, "logits"), rtol=1e-9, atol=0
    )


def test_sigmoids():
    np.testing.assert_allclose(probabilities([[0.25]], "sigmoid"), [[0.75, 0.25]])
    np.testing.assert_allclose(
        probabilities([[0.9, 0.9, 0.0], [0.0, 0.0, 0.0]], "sigmoid"),
        [[0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]],
    )


def test_softmax_stays():
    np.testing.assert_allclose(probabilities(P.astype("float16"), "softmax"), P, atol=1e-3)


@pytest.mark.parametrize(
    ("outputs", "kind", "message"),
    [
        ([[np.nan, 1.0]], "logits", "1 of 1 rows.*row 0"),
        ([[0.0, 1.0], [np.inf, 1.0]], "logits", "row 1"),
        ([1.0, 2.0], "logits", r"not \(2,\)"),
        (np.zeros((0, 3)), "logits", r"not \(0, 3\)"),
        ([[2.0, -1.0]], "softmax", "Are they logits"),
        ([[2.0]], "sigmoid", "Are they logits"),
        ([[0.5, 0.5], [0.9, 0.9]], "softmax", "row 1 sums to 1.8"),
        ([[1.0]], "softmax", "single unit"),
        ([[1.0, 0.0]], "scores", "Unknown kind"),
    ],
)
def test_bad_outputs_are_refused(outputs, kind, message):
    with pytest.raises(ValueError, match=message):
        probabilities(outputs, kind)


# Class accuracies


def test_class_accuracies_are_known():
    np.testing.assert_allclose(class_accuracies(Y, P), [2 / 3, 1 / 2, 1])
    np.testing.assert_allclose(soft_class_accuracies(Y, P), [1.6 / 3, 0.6, 1])


def test_one_hot_labels_give_the_same():
    for metric in (class_accuracies, soft_class_accuracies):
        np.testing.assert_array_equal(metric(Y, P), metric(np.eye(3)[Y], P))


@given(scores, st.randoms(use_true_random=False))
def test_class_accuracies_are_shares_of_each_class(logits, random):
    n_classes = logits.shape[1]
    logits = np.concatenate([logits] * n_classes)
    y = np.array([*range(n_classes)] + [random.randrange(n_classes) for _ in logits[n_classes:]])
    found = class_accuracies(y, logits)
    hits = logits.argmax(axis=1) == y
    np.testing.assert_allclose(found, [hits[y == c].mean() for c in range(n_classes)])
    soft = soft_class_accuracies(y, probabilities(logits, "logits"))
    assert ((soft >= 0) & (soft <= 1 + 1e-9)).all()


@pytest.mark.parametrize("metric", [class_accuracies, soft_class_accuracies, classification_report])
@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        ([0, 1, 0], P[:3], "1 of 3 classes have no sample, the first is class 2"),
        (Y[:5], P, "5 labels but scores for 6"),
        (Y, P[:, :1], "makes two columns"),
        (Y, P[:, :2], "within 0 to 1"),
        (Y, P * np.nan, "6 of 6 rows"),
    ],
)
def test_bad_scores_are_refused(metric, y, p, message):
    with pytest.raises(ValueError, match=message):
        metric(y, p)


def test_soft_accuracies_refuse_logits():
    with pytest.raises(ValueError, match="range from"):
        soft_class_accuracies(Y, 10 * P - 3)


# Harmonic mean


@given(accuracies)
def test_harmonic_mean_lies_between_the_worst_and_the_mean(values):
    harmonic = harmonic_mean_accuracy(values)
    assert values.min() - 1e-12 <= harmonic <= values.mean() + 1e-12


@given(accuracies)
def test_harmonic_mean_is_zero_once_a_class_is_lost(values):
    assert harmonic_mean_accuracy([*values, 0.0]) == 0.0


@given(st.floats(1e-6, 1), st.integers(1, 20))
def test_harmonic_mean_of_equal_accuracies_is_theirs(value, count):
    assert harmonic_mean_accuracy([value] * count) == pytest.approx(value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "one accuracy per class"),
        ([[0.5]], "one accuracy per class"),
        (0.5, "one accuracy per class"),
        ([0.5, 1.5], "class 1 is 1.5"),
        ([-0.1, 0.5], "class 0 is -0.1"),
        ([0.5, np.nan], "class 1 is nan"),
    ],
)
def test_bad_accuracies_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        harmonic_mean_accuracy(values)


# Report


def test_report_is_known():
    report = classification_report(Y, P)
    np.testing.assert_allclose(report.precision, [2 / 3, 1 / 2, 1])
    np.testing.assert_allclose(report.recall, class_accuracies(Y, P))
    np.testing.assert_allclose(report.f1, [2 / 3, 1 / 2, 1])
    assert report.support.tolist() == [3, 2, 1]
    assert report.accuracy == pytest.approx(4 / 6)
    assert report.harmonic_mean == pytest.approx(3 / (3 / 2 + 2 + 1))
    assert json.loads(json.dumps(report.as_dict()))["support"] == [3, 2, 1]


def test_a_class_that_nothing_is_assigned_to_has_no_precision(recwarn):
    report = classification_report([0, 1], [[1.0, 0.0], [1.0, 0.0]])
    assert report.precision.tolist() == [0.5, 0.0]
    assert report.harmonic_mean == 0.0
    assert not recwarn.list


# Curves


@st.composite
def curves(draw):
    rates = sorted(draw(st.sets(st.integers(0, 99), min_size=2, max_size=8)))
    shape = (len(rates), draw(st.integers(1, 5)))
    return AccuracyCurve(
        np.array(rates) / 100, draw(hnp.arrays(float, shape, elements=st.floats(0, 1)))
    )


@given(curves())
def test_worst_harmonic_mean_are_in_order(curve):
    assert (curve.worst() <= curve.harmonic() + 1e-12).all()
    assert (curve.harmonic() <= curve.mean() + 1e-12).all()
    assert curve.auc("worst") <= curve.auc("harmonic") + 1e-9 <= curve.auc("mean") + 2e-9


@given(curves())
def test_auc_is_the_class_average_of_the_areas(curve):
    areas = [AccuracyCurve(curve.rates, c[:, None]).auc() for c in curve.class_accuracy.T]
    assert curve.auc() == pytest.approx(np.mean(areas), abs=1e-12)


@given(st.floats(0, 1), st.integers(1, 5), curves())
def test_auc_of_a_constant_is_the_constant(value, n_classes, curve):
    constant = AccuracyCurve(curve.rates, np.full((len(curve.rates), n_classes), value))
    for kind in ("mean", "harmonic", "worst"):
        assert constant.auc(kind) == pytest.approx(value, abs=1e-9)


def test_auc_weighs_rates_by_their_distance():
    curve = AccuracyCurve([0.0, 0.1, 0.5], [[1.0], [0.5], [0.5]])
    assert curve.auc() == pytest.approx((0.1 * 0.75 + 0.4 * 0.5) / 0.5)


@given(curves())
def test_curves_survive_json(curve):
    loaded = AccuracyCurve.from_dict(json.loads(json.dumps(curve.to_dict())))
    np.testing.assert_array_equal(loaded.rates, curve.rates)
    np.testing.assert_array_equal(loaded.class_accuracy, curve.class_accuracy)


@given(curves())
def test_at_meets_the_points_and_the_middles(curve):
    for rate, row in zip(curve.rates, curve.class_accuracy, strict=True):
        np.testing.assert_allclose(curve.at(rate), row)
    middle = curve.at(curve.rates[:2].mean())
    np.testing.assert_allclose(middle, curve.class_accuracy[:2].mean(axis=0), atol=1e-9)


def test_a_curve_cannot_be_changed():
    rates = np.array([0.0, 0.5])
    curve = AccuracyCurve(rates, np.ones((2, 2)))
    rates[0] = 0.9
    assert curve.rates[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        curve.class_accuracy[0, 0] = 0


@pytest.mark.parametrize(
    ("rates", "accuracy", "message"),
    [
        ([], np.zeros((0, 2)), "r at least 1"),
        ([[0.0]], [[1.0]], "r at least 1"),
        ([0.0, 1.0], [[1.0], [1.0]], r"\[0, 1\)"),
        ([-0.1], [[1.0]], r"\[0, 1\)"),
        ([np.nan], [[1.0]], r"\[0, 1\)"),
        ([0.5, 0.5], [[1.0], [1.0]], "strictly increasing"),
        ([0.0, 0.5], [[1.0]], "one row per rate"),
        ([0.0], [1.0], "one row per rate"),
        ([0.0], [[]], "one row per rate"),
        ([0.0, 0.25], [[1.0, 1.0], [1.0, 1.5]], "class 1 at the rate 0.25 is 1.5"),
        ([0.0], [[np.nan]], "class 0 at the rate 0 is nan"),
    ],
)
def test_bad_curves_are_refused(rates, accuracy, message):
    with pytest.raises(ValueError, match=message):
        AccuracyCurve(rates, accuracy)


def test_bad_questions_to_a_curve_are_refused():
    curve = AccuracyCurve([0.1, 0.5], [[1.0], [0.5]])
    with pytest.raises(ValueError, match="Unknown kind"):
        curve.auc("median")
    with pytest.raises(ValueError, match="at least two rates"):
        AccuracyCurve([0.1], [[1.0]]).auc()
    for rate in (0.0, 0.6, float("nan")):
        with pytest.raises(ValueError, match=r"spans the rates 0\.1 to 0\.5"):
            curve.at(rate)
    with pytest.raises(ValueError, match="lacks 'class_accuracy'"):
        AccuracyCurve.from_dict({"rates": [0.0]})


def test_support_counts_where_nothing_is_right():
    support = classification_report([0, 0, 1], [[0, 1], [0, 1], [1, 0]]).as_dict()["support"]
    assert support == [2, 1] and all(type(count) is int for count in support)
