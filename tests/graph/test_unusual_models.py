"""Models that are built in unusual ways: they prune like others, or an error says what is wrong."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_lrp_prune as klp

IMAGE = (8, 8, 3)


def samples(n=12):
    return np.random.default_rng(0).normal(size=(n, *IMAGE)).astype("float32"), np.arange(n) % 3


def classifier(make, batch_size=None):
    """A convolution, what `make` puts behind it, and a head."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(IMAGE, batch_size=batch_size)
    x = make(layers.Conv2D(8, 3, activation="relu", name="conv")(inputs))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, activation="relu", name="last")(x))
    return keras.Model(inputs, layers.Dense(3, name="head")(x))


def pruned(model, **options):
    return klp.prune(model, samples(), 0.4, verbose=0, **options).model


@pytest.mark.parametrize("shape", [(None, 1, 1, 8), (None, None, None, 8), (None, 1, 1, 1)])
def test_the_noise_shape_of_dropout(shape):
    small = pruned(classifier(layers.Dropout(0.5, noise_shape=shape, name="drop")))
    left = small.get_layer("conv").filters
    assert left < 8 and small.get_layer("drop").noise_shape[-1] == min(left, shape[-1])
    small(samples()[0], training=True)


def test_layers_may_be_called_as_if_they_were_nested():
    inside = keras.Input((6, 6, 8))
    inner = keras.Model(inside, layers.SeparableConv2D(5, 1, name="conv")(inside), name="inner")
    outer = [
        layers.Conv2D(5, 1, activation="relu", name="inner__conv"),
        layers.ReLU(name="inner__conv__depthwise"),
        layers.ReLU(name="inner__conv__activation"),
    ]
    model = classifier(lambda x: outer[2](outer[1](outer[0](inner(x)))))
    small = pruned(model, criterion="lrp.z", engine="native")
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]
    relevance = klp.filter_relevance(model, *samples(), engine="native")
    assert {"inner/conv", "inner__conv"} <= relevance.keys()


@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_fixed_batch_size(batch_size):
    def make(x):
        return layers.BatchNormalization()(x)

    fixed, free = classifier(make, batch_size), classifier(make)
    free.set_weights(fixed.get_weights())
    for options in ({}, {"criterion": "taylor", "recovery": "least_squares"}):
        found = [klp.prune(model, samples(), 0.4, verbose=0, **options) for model in (fixed, free)]
        small, other = (result.model for result in found)
        assert (
            small.input_shape == (batch_size, *IMAGE) and found[0].reference == found[1].reference
        )
        for one, two in zip(small.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
    tuned = klp.finetune(small, samples(), epochs=1, batch_size=5, validation=samples(), verbose=0)
    assert tuned.model.input_shape == small.input_shape


@keras.saving.register_keras_serializable("tests")
class Offset(layers.Layer):
    """Adds a number that it keeps in an attribute."""

    value = 0.0

    def call(self, x):
        return x + self.value


@pytest.fixture(scope="module", autouse=True)
def rule():
    for kind in (Offset, Unset):
        klp.register_layer_rule(kind, lambda call, flow: call.inputs[0])


class Unset(Offset):
    """Has no number at first."""

    value = np.nan


def with_offset(value, kind=Offset):
    offset = kind(name="offset")
    offset.value = value
    return classifier(offset)


def test_state_outside_keras_is_refused_before_any_work():
    message = "cannot be rebuilt.*Layers that differ: 'offset' .Offset..*add_weight"
    with pytest.raises(klp.UnsupportedModelError, match=message):
        pruned(with_offset(1.5), criterion="l1")
    pruned(with_offset(0.0), criterion="l1")
    model = with_offset(1.5)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = model.get_weights()
    schedule = klp.schedules.AccuracyAware(final_sparsity=0.3, frequency=1)
    with pytest.raises(klp.UnsupportedModelError, match=message):
        model.fit(*samples(), callbacks=[klp.callbacks.FilterPruning(samples(), schedule)])
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_a_copy_that_gives_no_numbers_is_refused():
    with pytest.raises(klp.UnsupportedModelError, match="Layers that differ: 'offset'"):
        pruned(with_offset(0.0, Unset), criterion="l1")


def test_models_that_draw_at_random_are_not_refused():
    model = classifier(lambda x: layers.Dropout(0.5, seed=1)(x, training=True))
    assert pruned(model, criterion="l1").count_params() < model.count_params()


@pytest.mark.parametrize("trainable", [True, False])
def test_whole_numbers_as_inputs_have_no_gradient(trainable):
    """Taylor's scores for token ids are those for what the embedding makes of them."""
    tokens, y = (
        np.random.default_rng(0).integers(0, 50, (30, 12)).astype("int32"),
        np.arange(30) % 3,
    )
    keras.utils.set_random_seed(0)
    embedding = layers.Embedding(50, 8)
    inputs = keras.Input((12,), dtype="int32")
    embedded = embedding(inputs)
    behind = keras.Input(embedded.shape[1:])
    x = layers.Conv1D(8, 3, activation="relu", name="conv")(behind)
    rest = keras.Model(behind, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)), name="rest")
    model = keras.Model(inputs, rest(embedded))
    model.trainable = trainable
    options = {"target_rate": 0.5, "criterion": "taylor", "verbose": 0}
    whole = klp.prune(model, (tokens, y), **options)
    of_rest = klp.prune(rest, (np.asarray(embedding(tokens)), y), **options)
    assert whole.kept["rest/conv"].tolist() == of_rest.kept["conv"].tolist()
    assert whole.model.count_params() < model.count_params()
