"""Fine-tuning of frozen models: what trains, what is said of it, and the flags that stay."""

import shutil
from functools import partial

import keras
import numpy as np
import pytest
from finetuning_models import network, samples, tune
from keras import layers

import keras_lrp_prune as klp
from keras_lrp_prune.finetuning.frozen_layers import check_unfreeze
from keras_lrp_prune.graph.reader import read_model

BASE = {"net/conv", "net/norm"}


def transfer(freeze="net"):
    """As in Keras' guide to transfer learning: a base, and a head; something is frozen."""
    keras.utils.set_random_seed(0)
    inside = keras.Input((6, 6, 1))
    flow = layers.Conv2D(4, 3, name="conv")(inside)
    base = keras.Model(inside, layers.BatchNormalization(name="norm")(flow), name="net")
    inputs = keras.Input((6, 6, 1))
    flow = layers.ReLU(name="relu")(base(inputs, training=False))
    flow = layers.GlobalAveragePooling2D()(flow)
    flow = layers.Dense(5, activation="relu", name="hidden")(flow)
    model = keras.Model(inputs, layers.Dense(3, name="scores")(flow))
    frozen = {"net": base, "all": model, "kernel": base.get_layer("conv").kernel}[freeze]
    frozen.trainable = False
    return model


def layers_of(model):
    base = model.get_layer("net")
    inside = {f"net/{layer.name}": layer for layer in base.layers if layer.weights}
    return {**inside, **{name: model.get_layer(name) for name in ("hidden", "scores")}}


def changed(before, after):
    """Names of the layers with weights that are not what they were."""
    pairs = zip(layers_of(before).items(), layers_of(after).values(), strict=True)
    return {
        name
        for (name, old), new in pairs
        if any((a != b).any() for a, b in zip(old.get_weights(), new.get_weights(), strict=True))
    }


def flags(model):
    parts = [*model._flatten_layers(), *model.weights]
    return [part.trainable for part in parts if not isinstance(part, layers.InputLayer)]


HEAD = {"hidden", "scores"}
NO_NORM = HEAD | {"net/conv"}
KEPT = "(83 of 91 parameters); the rest is frozen. Batch normalisation stays frozen: "
CASES = {
    "as it is": ("net", False, HEAD, "2 of 4 layers with weights (43 of 91 parameters); the rest"),
    "no": ("net", None, HEAD, "is frozen: unfreeze=True trains it too."),
    "all": ("net", True, NO_NORM, KEPT),
    "base": ("net", ["net"], NO_NORM, KEPT),
    "layer": (
        "net",
        ["net/conv"],
        NO_NORM,
        "(83 of 91 parameters); the rest is frozen.",
    ),
    "iterator": ("net", iter(["net/norm"]), HEAD | {"net/norm"}, "Training 3 of 4 layers"),
    "no weights": (
        "net",
        ["relu", "net/norm"],
        HEAD | {"net/norm"},
        "Training 3 of 4 layers",
    ),
    "of all": ("all", ["scores"], {"scores"}, "Training 1 of 4 layers"),
    "base and norm": (
        "net",
        ["net", "net/norm"],
        HEAD | BASE,
        "that are frozen in the model included.",
    ),
    "all of all": ("all", True, NO_NORM, "Training 3 of 4 layers"),
    "weight": ("kernel", ["hidden"], HEAD | BASE, "Training 4 of 4 layers with weights (55 of 91"),
    "its layer": ("kernel", ["net/conv"], HEAD | BASE, "(91 of 91 parameters), those that are"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_trains_is_said_and_flags_stay(case, capsys):
    freeze, unfreeze, expected, line = CASES[case]
    model = transfer(freeze)
    before = flags(model)
    tuned = tune(model, unfreeze=unfreeze, epochs=1, learning_rate=0.1, verbose=2)
    printed = capsys.readouterr().out
    assert line in printed and line in tuned.trained
    assert ("takes new statistics" in printed) == ("net/norm" in expected and freeze != "kernel")
    assert changed(model, tuned.model) == expected
    assert flags(model) == before == flags(tuned.model)
    if freeze == "kernel":
        kernels = [layers_of(m)["net/conv"].kernel for m in (model, tuned.model)]
        assert np.array_equal(*kernels) == (unfreeze == ["hidden"])


def test_where_nothing_is_frozen_nothing_is_said(capsys):
    tuned = tune(network(), epochs=1, verbose=2)
    tuned.summary()
    assert not tuned.trained and "Training" not in capsys.readouterr().out


def test_batch_norm_trains_too_if_that_is_asked_for():
    tuned = tune(transfer(), unfreeze=True, freeze_batch_norm=False, epochs=1, learning_rate=0.1)
    assert changed(transfer(), tuned.model) == HEAD | BASE
    assert "Training 4 of 4 layers with weights (91 of 91 parameters)" in tuned.trained
    assert "takes new statistics" in tuned.trained and "stays" not in tuned.trained


def test_batch_norm_stays_frozen_if_both_are_asked_for(capsys):
    tuned = tune(transfer(), unfreeze=True, freeze_batch_norm=True, epochs=1)
    tuned.summary()
    printed = capsys.readouterr().out
    assert "Training 3 of 4 layers" in printed and "statistics" not in printed
    assert "net/norm" not in changed(transfer(), tuned.model)


def test_cycles_unfreeze_too(capsys):
    model, data = transfer(), samples()
    found = klp.prune_and_finetune(
        model,
        data,
        data,
        0.3,
        cycles=2,
        prune_options={"criterion": "l1"},
        tune_options={"epochs": 1, "unfreeze": (name for name in ["net/conv"])},
        verbose=0,
    )
    assert flags(found.model) == flags(model)
    kernel, small = (layers_of(m)["net/conv"].kernel.numpy() for m in (model, found.model))
    assert small.shape != kernel.shape
    assert not np.isin(small, kernel).any()


def test_cycles_that_go_on_know_which_single_weight_is_frozen(tmp_path):
    model, data = transfer("kernel"), samples()
    options = {"prune_options": {"criterion": "l1"}, "tune_options": {"epochs": 1}, "verbose": 0}
    run = partial(klp.prune_and_finetune, model, data, data, 0.3, cycles=2, **options)
    whole = run(checkpoint_dir=tmp_path).model
    shutil.rmtree(tmp_path / "cycle-2")
    again = run(checkpoint_dir=tmp_path).model
    assert flags(again) == flags(whole) == flags(model)
    for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_list_of_all_layers_is_taken():
    model = transfer()
    check_unfreeze(read_model(model), tuple(layer.name for layer in model.layers))


WRONG = {
    "name": (
        {"unfreeze": ["nett"]},
        ValueError,
        "'nett', which the model does not have. Did you mean 'net'",
    ),
    "weights": ({"unfreeze": ["relu"]}, ValueError, "relu: nothing that has weights to train"),
    "string": ({"unfreeze": "net"}, TypeError, "a list of layer names"),
    "number": ({"unfreeze": 3}, TypeError, "a list of layer names"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_say_what_is_wrong(case):
    options, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        tune(transfer(), **options)


def test_a_model_with_nothing_to_train_is_refused_before_any_work():
    model, data = transfer("all"), samples()
    message = "no trainable weights.*unfreeze=True"
    with pytest.raises(klp.UnsupportedModelError, match=message):
        tune(model)
    with pytest.raises(klp.UnsupportedModelError, match=message):
        klp.prune_and_finetune(model, data, data, prune_options={"criterion": "no such one"})
