"""Frozen models: what is trainable changes no analysis, and the pruned model keeps the flags."""

import keras
import numpy as np
import pytest
import tf_keras
from applications import FAMILIES, FUNCTIONS, SMALLEST_IMAGE
from command_line import run, write_images
from keras import layers
from models import (
    all_layers,
    analysed,
    difference,
    make_live,
    masked_copy,
    random_removal,
    same_weights,
)

import keras_lrp_prune as klp
from keras_lrp_prune.graph.generations import keras_of, weights_of
from keras_lrp_prune.surgery.builder import rebuild
from keras_lrp_prune.surgery.kept import kept_without

IMAGE, CLASSES = (12, 12, 3), 3


def images(per_class=4, seed=0, shape=IMAGE):
    y = np.repeat(np.arange(CLASSES), per_class)
    x = np.random.default_rng(seed).uniform(0, 255, (len(y), *shape)).astype("float32")
    return x, y


def tiny_base():
    inputs = keras.Input(IMAGE)
    x = layers.Conv2D(8, 3, use_bias=False, name="conv")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.SeparableConv2D(12, 3, activation="relu", name="separable")(x)
    return keras.Model(inputs, x, name="base")


def transfer_model(base, preprocess=None):
    """As in Keras' guide to transfer learning: a base that is called as it is at inference."""
    inputs = keras.Input(base.input_shape[1:])
    x = (preprocess or layers.Rescaling(1 / 127.5, offset=-1))(inputs)
    x = layers.Conv2D(10, 1, activation="relu", name="hidden")(base(x, training=False))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    model = make_live(keras.Model(inputs, layers.Dense(CLASSES, name="head")(x), name="transfer"))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def freeze_kernel(model):
    model.get_layer("base").get_layer("conv").kernel.trainable = False


FREEZE = {
    "base": lambda model: setattr(model.get_layer("base"), "trainable", False),
    "all": lambda model: setattr(model, "trainable", False),
    "layer": lambda model: setattr(model.get_layer("hidden"), "trainable", False),
    "norm": lambda model: setattr(model.get_layer("base").get_layer("norm"), "trainable", False),
    "kernel": freeze_kernel,
}


def flags(model):
    return [layer.trainable for layer in model._flatten_layers()], [
        weight.trainable for weight in model.weights
    ]


def thaw(model):
    """Layers hear of a change alone: a model that trains already passes nothing on."""
    model.trainable = False
    model.trainable = True


@pytest.fixture(scope="module")
def thawed():
    keras.utils.set_random_seed(0)
    return transfer_model(tiny_base())


@pytest.fixture
def frozen(thawed, request):
    """The model with something frozen in it; thawed again behind the test."""
    FREEZE[request.param](thawed)
    yield thawed
    thaw(thawed)


every_freeze = pytest.mark.parametrize("frozen", FREEZE, indirect=True)


@pytest.fixture(scope="module")
def relevance(thawed):
    return klp.filter_relevance(thawed, *images(), engine="native")


@every_freeze
def test_frozen_layers_have_the_relevance_of_trainable_ones(relevance, frozen):
    found = klp.filter_relevance(frozen, *images(), engine="native")
    assert found.keys() == relevance.keys()
    for name, values in relevance.items():
        np.testing.assert_array_equal(found[name], values, name)
    assert all(values.any() for values in relevance.values())


PREPROCESSING = {
    "rescaling": lambda: layers.Rescaling(1 / 127.5, offset=-1),
    "normalisation": lambda: layers.Normalization(mean=[90.0, 100, 110], variance=[4e3, 5e3, 6e3]),
    "tf": lambda: keras.applications.mobilenet.preprocess_input,
    "torch": lambda: keras.applications.densenet.preprocess_input,
    "caffe": lambda: keras.applications.vgg16.preprocess_input,
}


def assert_prunes(model, x, y, rate, tolerance=1e-4):
    """Masked equals rebuilt, and `prune` gives a smaller model with the same flags."""
    graph, structure = analysed(model)
    removed = random_removal(structure, 0.3)
    copy, mask = masked_copy(model)
    whole = copy.model(x).numpy()
    assert difference(whole, model(x)) <= 1e-6
    mask.set(removed)
    masked = copy.model(x).numpy()
    assert difference(whole, masked) > 1e-2, "the test could not fail"
    small = rebuild(graph, kept_without(structure, removed), keras)
    assert difference(small(x), masked) <= tolerance
    result = klp.prune(model, (x, y), rate, engine="native", verbose=0)
    assert result.rate == pytest.approx(rate, abs=0.05)
    for pruned in (small, result.model):
        assert pruned.count_params() < model.count_params()
        assert flags(pruned) == flags(model)
        assert pruned.compiled and type(pruned.optimizer) is type(model.optimizer)


@pytest.mark.parametrize("kind", PREPROCESSING)
def test_preprocessing_inside_the_model(kind):
    keras.utils.set_random_seed(0)
    base = tiny_base()
    base.trainable = False
    assert_prunes(transfer_model(base, PREPROCESSING[kind]()), *images(), rate=0.2)


# Its module, and a layer that has all kinds of the family's layers before it: more are the same.
BASES = {
    "VGG16": ("vgg16", "block3_pool"),
    "ResNet50": ("resnet", "conv3_block2_out"),
    "ResNet50V2": ("resnet_v2", "conv3_block2_out"),
    "InceptionV3": ("inception_v3", "mixed4"),
    "InceptionResNetV2": ("inception_resnet_v2", "block35_2_ac"),
    "Xception": ("xception", "block5_sepconv1_act"),
    "MobileNet": ("mobilenet", "conv_pw_6_relu"),
    "MobileNetV2": ("mobilenet_v2", "block_5_add"),
    "MobileNetV3Small": ("mobilenet_v3", "expanded_conv_4_add"),
    "DenseNet121": ("densenet", "conv3_block4_concat"),
    "NASNetMobile": ("nasnet", "normal_concat_1"),
    "EfficientNetB0": ("efficientnet", "block3b_add"),
    "EfficientNetV2B0": ("efficientnet_v2", "block4b_add"),
    "ConvNeXtTiny": ("convnext", "convnext_tiny_downsampling_block_1"),
}
SMALLER = {"MobileNet": {"alpha": 0.25}, "MobileNetV2": {"alpha": 0.35}}


def kinds(model):
    return {type(layer).__name__ for layer in all_layers(model)}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_as_a_frozen_base(name, float64):
    keras.utils.set_random_seed(0)
    module, last = BASES[name]
    size = SMALLEST_IMAGE.get(name, 32)
    whole = FUNCTIONS[name](
        include_top=False, weights=None, input_shape=(size, size, 3), **SMALLER.get(name, {})
    )
    base = keras.Model(whole.input, whole.get_layer(last).output, name="base")
    assert kinds(base) == kinds(whole)
    for layer in all_layers(base):
        if type(layer).__name__ == "LayerScale":  # starts at 1e-6: its branch would be dead
            layer.gamma.assign(np.random.default_rng(0).uniform(0.5, 1.5, layer.gamma.shape))
    model = transfer_model(base, getattr(keras.applications, module).preprocess_input)
    base.trainable = False
    assert_prunes(model, *images(2, shape=base.input_shape[1:]), rate=0.05, tolerance=float64)


@every_freeze
@pytest.mark.parametrize("recovery", ["head", "least_squares"])
def test_recovery_keeps_the_flags(frozen, recovery):
    before, kept = frozen.get_weights(), flags(frozen)
    result = klp.prune(frozen, images(), 0.3, recovery=recovery, verbose=0)
    assert flags(result.model) == kept == flags(frozen)
    assert same_weights(frozen.get_weights(), before)


@every_freeze
def test_saved_results_keep_the_flags(frozen, tmp_path):
    result = klp.prune(frozen, images(), 0.2, criterion="l1", verbose=0)
    loaded = klp.load_result(result.save(tmp_path / "out"))
    found = [[weight.trainable for weight in each.model.weights] for each in (result, loaded)]
    assert found[0] == found[1] == flags(frozen)[1]


def test_single_weights_stay_frozen_where_a_loaded_result_trains(thawed, tmp_path):
    freeze_kernel(thawed)
    result = klp.prune(thawed, images(), 0.2, criterion="l1", verbose=0)
    thaw(thawed)
    loaded = klp.load_result(result.save(tmp_path / "out"))
    tuned = [
        klp.finetune(each, images(), epochs=1, seed=0, verbose=0).model.get_weights()
        for each in (result, loaded)
    ]
    assert same_weights(*tuned)
    loaded.model.fit(*images(), verbose=0)
    frozen, base = (model.get_layer("base") for model in (result.model, loaded.model))
    kernels = (each.get_layer("conv").kernel.numpy() for each in (frozen, base))
    np.testing.assert_array_equal(*kernels)
    record = tmp_path / "out" / "result.json"
    record.write_text(record.read_text().replace('"frozen_weights": [', '"frozen_weights": [99,'))
    with pytest.raises(ValueError, match="damaged: weight 99 of the model"):
        klp.load_result(tmp_path / "out")


@pytest.fixture
def transfer():
    """A model with a frozen base."""
    keras.utils.set_random_seed(0)
    base = tiny_base()
    model = transfer_model(base)
    base.trainable = False
    return model


def test_both_engines_explain_it(transfer):
    x, y = images()
    found = [
        klp.filter_relevance(transfer, x, y, engine=name) for name in ("native", "innvestigate")
    ]
    for name, values in found[0].items():
        np.testing.assert_allclose(values, found[1][name], rtol=1e-3, atol=1e-4 * abs(values).max())
    heat = [klp.input_relevance(transfer, x, engine=name) for name in ("native", "innvestigate")]
    np.testing.assert_allclose(*heat, rtol=1e-3, atol=1e-4 * abs(heat[0]).max())


def test_methods_are_compared(transfer):
    x, y = images()
    task = (transfer, (x, y), (x, y))
    found = klp.compare(task, ["lrp-iterative", "taylor"], rates=[0.0, 0.3], verbose=0)
    assert set(found.runs) == {"lrp-iterative", "taylor"}


def test_training_prunes_what_is_frozen_too(transfer):
    x, y = images()
    schedule = klp.schedules.AccuracyAware(final_sparsity=0.4, frequency=2)
    pruning = klp.callbacks.FilterPruning((x, y), schedule)
    before = transfer.get_layer("base").get_layer("separable").get_weights()[1]
    transfer.fit(x, y, batch_size=4, epochs=6, callbacks=[pruning], verbose=0)
    after = transfer.get_layer("base").get_layer("separable").get_weights()[1]
    gone = (after == 0).all((0, 1, 2))
    assert gone.any() and (after[..., ~gone] == before[..., ~gone]).all()
    small = pruning.pruned_model()
    assert pruning.pruning_rate == pytest.approx(0.4, abs=0.05)
    assert difference(small(x), transfer(x)) <= 1e-4 and flags(small) == flags(transfer)


def test_training_of_nothing_is_refused(transfer):
    x, y = images()
    transfer.trainable = False
    schedule = klp.schedules.AccuracyAware(final_sparsity=0.4, frequency=2)
    pruning = klp.callbacks.FilterPruning((x, y), schedule)
    with pytest.raises(klp.UnsupportedModelError, match="Nothing of model 'transfer' is trainable"):
        transfer.fit(x, y, callbacks=[pruning], verbose=0)


def test_it_is_exported(transfer, tmp_path):
    x, y = images()
    small = klp.prune(transfer, (x, y), 0.3, verbose=0).model
    klp.export.saved_model(small, tmp_path / "1")
    klp.export.litert(small, tmp_path / "small.tflite")
    found = klp.export.LiteRTModel(tmp_path / "small.tflite")(x)
    assert difference(found, small(x)) <= 1e-4


def test_command_line(transfer, tmp_path):
    data = write_images(tmp_path / "data")
    transfer.save(tmp_path / "model.keras")
    options = ("--out", tmp_path / "out", "--preprocess", "none", "--rate", "0.3", "--force")
    result = run("prune", tmp_path / "model.keras", data, *options)
    assert result.exit_code == 0, result.output
    small = klp.load_result(tmp_path / "out").model
    assert not small.get_layer("base").trainable and small.get_layer("head").trainable
    assert small.count_params() < transfer.count_params()
    assert len(small.trainable_variables) == len(transfer.trainable_variables)


LEGACY_FREEZE = {
    "base": lambda model: setattr(model.get_layer("base"), "trainable", False),
    "all": lambda model: setattr(model, "trainable", False),
    "layer": lambda model: setattr(model.get_layer("hidden"), "trainable", False),
    "norm": lambda model: setattr(model.get_layer("base").get_layer("norm"), "trainable", False),
}


@pytest.mark.parametrize(
    ("freeze", "preprocess"),
    [
        *((freeze, "mobilenet") for freeze in LEGACY_FREEZE),
        *(("base", name) for name in ("vgg16", "densenet")),
    ],
)
def test_legacy_models(freeze, preprocess):
    kit = tf_keras.layers
    tf_keras.utils.set_random_seed(0)
    inside = kit.Input(IMAGE)
    x = kit.Conv2D(8, 3, use_bias=False, name="conv")(inside)
    x = kit.ReLU()(kit.BatchNormalization(name="norm")(x))
    x = kit.SeparableConv2D(12, 3, activation="relu", name="separable")(x)
    base = tf_keras.Model(inside, x, name="base")
    inputs = kit.Input(IMAGE)
    x = getattr(tf_keras.applications, preprocess).preprocess_input(inputs)
    x = base(x, training=False)
    x = kit.Dense(10, activation="relu", name="hidden")(kit.GlobalAveragePooling2D()(x))
    model = tf_keras.Model(inputs, kit.Dense(CLASSES, name="head")(x))
    LEGACY_FREEZE[freeze](model)
    x, y = images()
    free = [weight.name for weight in model.trainable_weights]
    for options in ({}, {"recovery": "least_squares"}):
        small = klp.prune(model, (x, y), 0.3, verbose=0, **options).model
        assert keras_of(small) is tf_keras and small.count_params() < model.count_params()
        assert [weight.name for weight in small.trainable_weights] == free
        assert [part.trainable for part in small.submodules if hasattr(part, "trainable")] == [
            part.trainable for part in model.submodules if hasattr(part, "trainable")
        ]


def test_legacy_layers_that_are_frozen_in_part():
    """Legacy Keras puts the weights of a frozen part last."""
    kit = tf_keras.layers
    tf_keras.utils.set_random_seed(0)
    inputs = kit.Input((5, 4))
    x = kit.Bidirectional(kit.LSTM(6), name="both")(kit.Dense(8, name="before")(inputs))
    model = tf_keras.Model(inputs, kit.Dense(CLASSES, name="head")(x))
    both = model.get_layer("both")
    before = [id(weight) for weight in both.weights]
    both.forward_layer.trainable = False
    assert [id(weight) for weight in both.weights] != before
    assert [id(weight) for weight in weights_of(both)] == before
    x = np.random.default_rng(0).normal(size=(12, 5, 4)).astype("float32")
    result = klp.prune(model, (x, np.arange(12) % 3), 0.3, criterion="l1", verbose=0)
    assert flags_of_directions(result.model) == flags_of_directions(model)
    small = klp.delete_channels(model, {"both": [1]})
    assert flags_of_directions(small) == flags_of_directions(model)
    kept = [0, *range(2, 6)]
    columns = np.concatenate([np.array(kept) + 6 * gate for gate in range(4)])
    for old, new in zip(directions(model), directions(small), strict=True):
        (kernel, recurrent, bias), found = old.get_weights(), new.get_weights()
        expected = kernel[:, columns], recurrent[kept][:, columns], bias[columns]
        assert all((one == other).all() for one, other in zip(expected, found, strict=True))


def directions(model):
    both = model.get_layer("both")
    return both.forward_layer, both.backward_layer


def flags_of_directions(model):
    return [layer.trainable for layer in directions(model)]
