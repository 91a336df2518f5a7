"""The native engine: options of analyzers, composites and rules of one's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from lrp_checks import NEEDED, Y, live
from models import BUILDERS, difference, images

import keras_lrp_prune as klp
from keras_lrp_prune.relevance.native import rules
from keras_lrp_prune.relevance.native.composites import Composite, anything, is_dense, reads_input

# --- Options ---

UNSUITABLE = [
    ("lrp.y", {}, r"'lrp.y'.*lrp.z, lrp.epsilon.*lrp.gamma"),
    ("lrp.z", {"epsilon": 1}, "no option epsilon"),
    ("lrp.epsilon", {"epsilon": 0}, "positive, not 0"),
    ("lrp.gamma", {"gamma": -1}, "positive, not -1"),
    ("lrp.sequential_preset_a", {"epsilon": -0.1}, "positive"),
    ("lrp.alpha_beta", {}, "needs alpha or beta"),
    ("lrp.alpha_beta", {"alpha": 2, "beta": 2}, "alpha=2, beta=2"),
    ("lrp.alpha_beta", {"alpha": 0.5}, "alpha=0.5, beta=-0.5"),
    ("lrp.z", {"input_layer_rule": "Zplus"}, "'Zplus'.*ZPlus"),
    ("lrp.z", {"input_layer_rule": (1, 2, 3)}, "a name or a pair"),
    ("lrp.z", {"input_layer_rule": 1.0}, "a name or a pair"),
    ("lrp.z", {"input_layer_rule": (1, -1)}, "low=1, high=-1"),
    ("deep_taylor.bounded", {"low": 0}, "low and high"),
    ("deep_taylor.bounded", {"low": 1, "high": 1}, "less than"),
    (Composite(((anything, rules.z),)), {"epsilon": 1}, "no analyzer_options"),
    (Composite(((is_dense, rules.z),)), {}, "no rule for layer 'first'.*anything"),
]


@pytest.mark.parametrize(("analyzer", "options", "message"), UNSUITABLE)
def test_unsuitable_options_are_told(analyzer, options, message):
    model = BUILDERS["sequential"]()
    with pytest.raises(ValueError, match=message):
        klp.input_relevance(
            model, images(model), analyzer=analyzer, analyzer_options=options, engine="native"
        )


def test_alpha_and_beta_may_be_rounded():
    model = BUILDERS["sequential"]()
    x = images(model)
    assert 2.3 - 1.3 != 1
    options = {"alpha": 2.3, "beta": 1.3}
    klp.input_relevance(
        model, x, analyzer="lrp.alpha_beta", analyzer_options=options, engine="native"
    )


@pytest.mark.parametrize(
    ("analyzer", "change"),
    [
        ("lrp.epsilon", {"epsilon": 1.0}),
        ("lrp.epsilon", {"bias": False}),
        ("lrp.alpha_beta", {"bias": False}),
        ("lrp.alpha_beta", {"alpha": 1.5}),
        ("lrp.gamma", {"gamma": 2.0}),
        ("lrp.z", {"input_layer_rule": "Flat"}),
        ("lrp.z", {"input_layer_rule": (-4.0, 4.0)}),
        ("lrp.sequential_preset_b", {"epsilon": 10.0}),
        ("lrp.sequential_preset_b_flat_until_idx", {"until_layer_idx": 7}),
        ("deep_taylor.bounded", {"high": 9}),
    ],
)
def test_options_matter(analyzer, change):
    model = live(BUILDERS["vgg"])
    x, options = images(model), NEEDED.get(analyzer, {})
    if "alpha" in change:
        options = {}
        change, options = change, {"alpha": 2}
    plain, changed = (
        klp.input_relevance(model, x, analyzer=analyzer, analyzer_options=used, engine="native")
        for used in (options, {**options, **change})
    )
    assert difference(changed, plain) > 1e-2


# --- Composites of one's own ---


def test_composite_of_ones_own():
    model = live(BUILDERS["vgg"])
    x = images(model, 6)
    preset = Composite(
        (
            (reads_input, rules.flat),
            (is_dense, rules.epsilon(0.1)),
            (anything, rules.alpha_beta(2, 1)),
        )
    )
    mine, named = (
        klp.filter_relevance(model, x, Y, analyzer=analyzer, engine="native")
        for analyzer in (preset, "lrp.sequential_preset_b_flat")
    )
    for layer in named:
        assert (mine[layer] == named[layer]).all()
    heat = klp.input_relevance(model, x, analyzer=preset)  # auto: native
    expected = klp.input_relevance(
        model, x, analyzer="lrp.sequential_preset_b_flat", engine="native"
    )
    assert (heat == expected).all()
    with pytest.raises(ValueError, match="'innvestigate' takes an analyzer's name"):
        klp.filter_relevance(model, x, Y, analyzer=preset, engine="innvestigate")


def test_rule_of_ones_own():
    """A rule is a function of what it sees: here relevance in equal shares, written by hand."""

    def equal(step):
        ones, weights = tf.ones_like(step.x), tf.ones_like(step.kernel)
        total = step.linear(ones, weights)
        return lambda passed: step.transposed(weights, passed / total)

    model = live(BUILDERS["vgg"])
    x = images(model)
    mine, flat = (
        klp.input_relevance(model, x, analyzer=analyzer, engine="native")
        for analyzer in (Composite(((anything, equal),)), "lrp.flat")
    )
    assert difference(mine, flat) <= 1e-5


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ((anything, rules.z), "row 0 is <function anything"),
        (((anything, rules.z), (rules.z,)), "row 1 is"),
        (((anything, 0.1),), "pairs of a condition and a rule.*row 0 is"),
        (
            ((is_dense, rules.z), (anything, rules.epsilon)),
            r"Row 1 .* epsilon for a rule.*epsilon\(",
        ),
        (rules.z, "a tuple of pairs, not"),
    ],
)
def test_a_table_that_is_none_is_named_as_it_is_made(table, message):
    with pytest.raises(TypeError, match=message):
        Composite(table)


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        (lambda call: call.x, TypeError, r"a function share\(passed\)"),
        (
            lambda call: lambda passed: None,
            TypeError,
            "the relevance of .* 'scores'; it returned None",
        ),
        (
            lambda call: lambda passed: passed,
            ValueError,
            "a tensor of the shape of each input of layer 'scores'",
        ),
    ],
    ids=["no function", "none", "shape"],
)
def test_a_rule_that_shares_no_relevance_is_named(rule, error, message):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, name="scores")])
    composite = Composite(((anything, rule),))
    x = np.ones((3, 5), "float32")
    with pytest.raises(error, match=f"LRP rule for Dense must return {message}"):
        klp.filter_relevance(model, x, [0, 1, 2], analyzer=composite, engine="native")
