"""What holds for either engine: masks, two classes of one unit, and what both refuse."""

import keras
import numpy as np
import pytest
from keras import layers
from lrp_checks import DEFAULT, NEEDED, Y, live
from lrp_models import sigmoids, two_inputs, two_outputs, with_layer, without_shifts
from models import BUILDERS, analysed, difference, images, masked_copy, random_removal

import keras_lrp_prune as klp
from keras_lrp_prune.graph.channels import selects
from keras_lrp_prune.graph.model_graph import UnsupportedModelError
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.relevance.innvestigate_engine import InnvestigateEngine
from keras_lrp_prune.relevance.native.engine import NativeEngine

ENGINES = {"innvestigate": InnvestigateEngine, "native": NativeEngine}
either_engine = pytest.mark.parametrize("engine", ENGINES)


def mixed_sigmoids():
    """Channels that do not vanish, before layers of every kind that reads them."""
    inputs = layers.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="sigmoid")(inputs)
    x = layers.Conv2D(6, 3, groups=2, activation="sigmoid")(x)
    x = layers.Conv2DTranspose(5, 3, activation="sigmoid")(x)
    x = layers.PReLU(shared_axes=[1, 2])(layers.BatchNormalization(scale=False)(x))
    x = layers.Dense(4, activation="softplus")(x)
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))


def over_time_and_volume():
    """Batch norms that no linear layer precedes, in one and three dimensions."""
    inputs = layers.Input((6, 6, 2))
    x = layers.Reshape((36, 2))(inputs)
    x = layers.Conv1D(6, 3, activation="sigmoid", padding="same")(x)
    x = layers.BatchNormalization()(layers.MaxPooling1D(2)(x))
    x = layers.SeparableConv1D(5, 3, activation="sigmoid", padding="same")(x)
    x = layers.Reshape((3, 3, 2, -1))(layers.Conv1D(4, 1)(x))
    x = layers.Conv3D(5, 2, padding="same")(x)
    x = layers.BatchNormalization()(layers.MaxPooling3D(2, padding="same")(x))
    x = layers.Conv3DTranspose(3, 2, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))


OF_BOTH = ("resnet_v2", "mobilenet", "separable", "sigmoids")
OF_NATIVE = (*OF_BOTH, "squeeze_excite", "shared", "mixed", "ranks")
MASKED = {
    **BUILDERS,
    **{"sigmoids": sigmoids, "mixed": mixed_sigmoids, "ranks": over_time_and_volume},
}


@pytest.mark.parametrize(
    ("engine", "name"),
    [*(("innvestigate", name) for name in OF_BOTH), *(("native", name) for name in OF_NATIVE)],
)
def test_mask_on_a_live_engine_equals_a_fresh_engine(engine, name):
    engine = ENGINES[engine]
    model = live(MASKED[name])
    x = images(model, 6)
    graph, structure = analysed(model)
    copy, mask = masked_copy(model)
    with engine(graph, DEFAULT) as lived:
        before = lived.filter_relevance(x, Y)
        for share in (0.6, 0.3):  # more, then fewer: some channels come back
            removed = random_removal(structure, share)
            lived.set_mask(structure, removed)
            masked = lived.filter_relevance(x, Y)
        mask.set(removed)
        with engine(read_model(copy.model), DEFAULT) as fresh:
            expected = fresh.filter_relevance(x, Y)
        assert masked.keys() == expected.keys() == before.keys()
        for layer in masked:
            scale = np.abs(expected[layer]).max() or 1
            np.testing.assert_allclose(masked[layer], expected[layer], atol=1e-5 * scale, rtol=0)
            gone = selects(removed, structure.filter_units[layer])
            assert (masked[layer][:, gone] == 0).all()
        first = next(iter(masked))
        assert difference(masked[first], before[first]) > 1e-2, "the mask must matter"
        lived.set_mask(structure, np.zeros_like(removed))
        cleared = lived.filter_relevance(x, Y)
    for layer in before:
        assert cleared[layer].tobytes() == before[layer].tobytes()


@either_engine
def test_sigmoid_unit_is_two_classes(engine):
    keras.utils.set_random_seed(3)
    model = without_shifts(BUILDERS["sequential"]("sigmoid"))
    x, y = images(model, 6), np.array([0, 1, 0, 1, 1, 0])
    score = np.asarray(model(x), np.float64)[:, 0]
    logit = np.log(score / (1 - score))
    relevance = klp.filter_relevance(model, x, y, analyzer="lrp.z", engine=engine)
    expected = [-logit[y == 0].mean(), logit[y == 1].mean()]
    assert relevance["classes"].shape == (2, 1) and relevance["first"].shape == (2, 6)
    for values in relevance.values():
        np.testing.assert_allclose(values.sum(1), expected, rtol=5e-3)


# --- What is refused ---


REFUSED = {
    "softmax_inside": lambda: with_layer(layers.Activation("softmax", name="softmax_inside")),
    "2 inputs": two_inputs,
    "2 outputs": two_outputs,
}


@either_engine
@pytest.mark.parametrize("named", REFUSED)
def test_what_neither_engine_handles_is_refused(named, engine):
    with pytest.raises(UnsupportedModelError, match=named):
        ENGINES[engine](read_model(REFUSED[named]()), "lrp.z")


@either_engine
@pytest.mark.parametrize("analyzer", ["deep_taylor", "deep_taylor.bounded"])
def test_deep_taylor_is_for_relu_networks(analyzer, engine):
    told = {
        "innvestigate": "ReLU networks, not for 'relu6'",
        "native": r"relu6.*for ReLU networks",
    }
    with pytest.raises(UnsupportedModelError, match=told[engine]):
        ENGINES[engine](read_model(BUILDERS["mobilenet"]()), analyzer, NEEDED.get(analyzer))
