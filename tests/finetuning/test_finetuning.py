"""Fine-tuning with and without a teacher: the loss, what changes and what does not."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from finetuning_models import CLASSES, network, samples, tune
from keras import layers
from pruning_models import digits, digits_model
from scipy.special import log_softmax

import keras_lrp_prune as klp


def weights_equal(first, second, tolerance=0.0):
    arrays = zip(first.get_weights(), second.get_weights(), strict=True)
    return all(np.allclose(a, b, rtol=0, atol=tolerance) for a, b in arrays)


def two_columns(logits):
    return logits if logits.shape[1] > 1 else np.hstack([np.zeros_like(logits), logits])


def logits_of(model, x):
    """By hand, from the weights of the last layer."""
    features = keras.Model(model.inputs[0], model.get_layer("scores").input)(x).numpy()
    kernel, bias = model.get_layer("scores").get_weights()
    return two_columns(features @ kernel + bias).astype(np.float64)


@pytest.mark.parametrize("head", ["logits", "softmax", "softmax layer", "sigmoid", "logit"])
@pytest.mark.parametrize(("weight", "temperature"), [(0.3, 4.0), (1.0, 1.0), (None, 2.0)])
def test_loss_is_the_formula(head, weight, temperature):
    x, y = samples(n_classes=2 if head in ("sigmoid", "logit") else CLASSES)
    student, teacher = network(head, 1), network(head, 2)
    student.get_layer("conv").kernel_regularizer = keras.regularizers.L2(0.01)
    # One batch: its loss is that of the weights at the start.
    found = tune(
        student,
        (x, y),
        teacher=None if weight is None else teacher,
        epochs=1,
        batch_size=len(x),
        temperature=temperature,
        distillation_weight=weight or 0.5,
    ).history["loss"][0]

    logits = logits_of(student, x)
    cross_entropy = -log_softmax(logits, axis=1)[np.arange(len(y)), y].mean()
    soft, taught = (
        log_softmax(each / temperature, axis=1) for each in (logits, logits_of(teacher, x))
    )
    divergence = (np.exp(taught) * (taught - soft)).sum(axis=1).mean()
    w = weight or 0.0
    penalty = 0.01 * (student.get_layer("conv").get_weights()[0] ** 2).sum()
    expected = (1 - w) * cross_entropy + w * temperature**2 * divergence + penalty
    assert found == pytest.approx(expected, rel=1e-4)
    assert divergence > 1e-4, "the two must differ"


@pytest.mark.parametrize(
    ("head", "nested"),
    [("softmax", False), ("softmax layer", False), ("softmax operation", False), ("softmax", True)],
)
def test_the_form_of_the_outputs_does_not_matter(head, nested):
    model, plain = network(head, nested=nested), network("logits")
    plain.set_weights(model.get_weights())
    teacher = network("logits", 5)
    found, expected = (tune(each, teacher=teacher).model for each in (model, plain))
    assert weights_equal(found, expected, 1e-5)
    assert not weights_equal(found, model, 1e-4)
    x, _ = samples()
    np.testing.assert_allclose(found(x), keras.ops.softmax(expected(x)), atol=1e-5)


def test_labels_and_datasets_of_all_forms_train_alike():
    x, y = samples()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    one_hot = dataset.map(lambda x, y: (x, tf.one_hot(y, CLASSES)))
    column = dataset.map(lambda x, y: (x, y[:, None]))
    first, *others = (tune(network(), data).model for data in (dataset, one_hot, column))
    assert all(weights_equal(first, other) for other in others)
    arrays, hot = (tune(network(), (x, labels)).model for labels in (y, np.eye(CLASSES)[y]))
    assert weights_equal(arrays, hot)
    assert not weights_equal(arrays, first), "arrays are shuffled"


def test_models_given_stay_as_they_are_and_the_tuned_one_is_plain(plain_keras):
    model = digits_model()
    (x, y), held_out = digits()
    result = klp.prune(model, (x[:200], y[:200]), 0.4, criterion="l1", recovery=None, verbose=0)
    before = [array.copy() for each in (model, result.model) for array in each.get_weights()]
    tuned = klp.finetune(
        result, (x, y), teacher=model, validation=held_out, epochs=3, learning_rate=5e-3, verbose=0
    )
    after = [array for each in (model, result.model) for array in each.get_weights()]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert type(tuned.model) is keras.Sequential
    assert tuned.model.count_params() == result.model.count_params()
    assert [layer.name for layer in tuned.model.layers] == [layer.name for layer in model.layers]
    np.testing.assert_allclose(
        plain_keras(tuned.model, held_out[0]), tuned.model(held_out[0]), atol=1e-6
    )
    before, after = tuned.validation["before"], tuned.validation["after"]
    assert after["accuracy"] > before["accuracy"] + 0.2
    found = np.asarray(tuned.model(held_out[0])).argmax(1)
    assert after["accuracy"] == pytest.approx((found == held_out[1]).mean())
    assert tuned.history["val_accuracy"][-1] == after["accuracy"]
    assert tuned.history["val_worst_class_accuracy"][-1] == min(after["recall"])
    tuned.model.fit(x[:64], y[:64], verbose=0)  # compiled as the model given


@pytest.mark.parametrize("head", ["logits", "softmax", "sigmoid", "logit"])
def test_a_model_that_was_not_compiled_can_be_evaluated(head):
    x, y = samples(n_classes=2 if head in ("sigmoid", "logit") else CLASSES)
    tuned = tune(network(head), (x, y), validation=(x, y), epochs=3)
    loss, accuracy = tuned.model.evaluate(x, y, verbose=0)
    assert loss == pytest.approx(tuned.history["val_loss"][-1], rel=1e-4)
    assert accuracy == pytest.approx(tuned.validation["after"]["accuracy"])


def test_weight_one_follows_the_teacher_and_not_the_labels():
    x, y = samples()
    teacher, model = tune(network(), epochs=20, learning_rate=0.03).model, network(seed=3)

    def distance(student):
        p, q = (np.asarray(each(x), np.float64) for each in (teacher, student))
        return (p * np.log(p / q)).sum(axis=1).mean()

    options = {"teacher": teacher, "distillation_weight": 1.0, "epochs": 20, "learning_rate": 0.05}
    true, wrong = (tune(model, (x, labels), **options).model for labels in (y, y[::-1]))
    assert distance(true) < distance(model) / 5
    assert weights_equal(true, wrong)
    labels_alone = {**options, "distillation_weight": 0.0}
    assert weights_equal(
        tune(model, **labels_alone).model, tune(model, epochs=20, learning_rate=0.05).model
    )


def test_cosine_and_plateau():
    history = tune(network(), epochs=4, batch_size=16, learning_rate=0.02).history
    steps = np.arange(1, 5) * 3
    expected = 0.02 * (1 + np.cos(np.pi * steps / 12)) / 2
    np.testing.assert_allclose(history["learning_rate"], expected, atol=1e-8)
    # Too small to move a weight: the loss never falls after the first epoch.
    still = {"optimizer": keras.optimizers.SGD(1e-20), "epochs": 5, "validation": samples()}
    rates = tune(network(), schedule="plateau", **still).history["learning_rate"]
    np.testing.assert_allclose(np.array(rates) / 1e-20, [1, 1, 1, 0.5, 0.5], rtol=1e-5)
    rates = tune(network(), schedule=None, **still).history["learning_rate"]
    np.testing.assert_allclose(rates, 1e-20, rtol=1e-5)
    own = keras.optimizers.schedules.PiecewiseConstantDecay([3], [0.1, 0.01])
    for options in ({"schedule": own}, {"learning_rate": own}):
        history = tune(network(), epochs=2, batch_size=16, **options).history
        np.testing.assert_allclose(history["learning_rate"], [0.1, 0.01], rtol=1e-5)


def test_the_optimizer_given_is_copied():
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    tuned = tune(network(), optimizer=optimizer)
    assert not optimizer.built and int(optimizer.iterations) == 0
    assert tuned.settings["optimizer"]["class"] == "SGD"
    assert tuned.settings["optimizer"]["momentum"] == 0.9
    assert tuned.settings["optimizer"]["learning_rate"]["config"]["initial_learning_rate"] == (
        pytest.approx(0.05)
    )


def test_same_seed_same_weights_with_dropout():
    model = network(extra=[layers.Dropout(0.5), layers.BatchNormalization()])
    first = tune(model, seed=1).model
    keras.utils.set_random_seed(99)
    assert weights_equal(first, tune(model, seed=1).model)
    assert not weights_equal(first, tune(model, seed=2).model, 1e-6)


def test_dropout_factor():
    dropped = network(extra=[layers.SpatialDropout2D(0.5)])
    plain = network()
    assert weights_equal(dropped, plain)
    off, half, full = (tune(dropped, dropout_factor=f).model for f in (0.0, 0.5, 1.0))
    expected = tune(plain).model
    assert weights_equal(off, expected, 1e-6)
    assert not weights_equal(half, full, 1e-6) and not weights_equal(half, off, 1e-6)
    rates = [layer.rate for layer in off.layers if isinstance(layer, layers.SpatialDropout2D)]
    assert rates == [0.5]


def test_best_weights_come_back_those_at_the_start_included():
    model = tune(network(), epochs=30, learning_rate=0.03).model
    ruined = {"learning_rate": 3.0, "schedule": None, "validation": samples(seed=1), "epochs": 3}
    last, best = (tune(model, restore_best=keep, **ruined) for keep in (False, True))
    assert last.validation["after"]["harmonic_mean"] < last.validation["before"]["harmonic_mean"]
    assert best.epoch == 0 and weights_equal(best.model, model)
    assert best.validation["after"] == best.validation["before"]
    rising = tune(
        network(), restore_best=True, validation=samples(seed=1), epochs=6, learning_rate=0.02
    )
    harmonic = rising.history["val_harmonic_mean_accuracy"]
    assert harmonic[rising.epoch - 1] == max(harmonic)
    assert rising.validation["after"]["harmonic_mean"] == max(harmonic)


def test_batch_normalisation():
    model = network(extra=[layers.BatchNormalization(momentum=0.99, name="norm")])
    x, y = samples()
    held = {"batch_size": len(x), "epochs": 20, "learning_rate": 1e-6}
    free, frozen = (tune(model, (x, y), freeze_batch_norm=f, **held).model for f in (False, True))
    # 20 steps at 0.99 would leave four fifths of the old mean, which is 0.
    features = keras.Model(model.input, model.get_layer("norm").input)(x).numpy()
    mean = free.get_layer("norm").moving_mean.numpy()
    np.testing.assert_allclose(mean, features.mean((0, 1, 2)), rtol=0.02)
    assert free.get_layer("norm").momentum == 0.99
    before, after = (m.get_layer("norm").get_weights() for m in (model, frozen))
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert frozen.get_layer("norm").trainable


def test_frozen_layers_stay():
    model = network()
    model.get_layer("conv").trainable = False
    tuned = tune(model).model
    pairs = {
        name: zip(*(m.get_layer(name).get_weights() for m in (model, tuned)), strict=True)
        for name in ("conv", "scores")
    }
    assert all((a == b).all() for a, b in pairs["conv"])
    assert not all((a == b).all() for a, b in pairs["scores"])


def test_callbacks_see_what_is_measured_and_save_the_plain_model(tmp_path):
    path, rows = tmp_path / "best.keras", tmp_path / "log.csv"
    tuned = tune(
        network(),
        teacher=network(seed=4),
        validation=samples(seed=1),
        callbacks=[
            keras.callbacks.ModelCheckpoint(path, monitor="val_harmonic_mean_accuracy", mode="max"),
            keras.callbacks.CSVLogger(rows),
        ],
    )
    saved = keras.models.load_model(path)
    assert type(saved).__module__.startswith("keras.") and weights_equal(saved, tuned.model)
    assert "val_worst_class_accuracy" in rows.read_text().splitlines()[0]
    assert set(tuned.history) == {
        *("loss", "accuracy", "learning_rate", "val_loss", "val_accuracy"),
        *("val_harmonic_mean_accuracy", "val_worst_class_accuracy"),
    }


@pytest.mark.parametrize("form", ["layer", "function"])
def test_augmentation_is_applied_in_training_only(form):
    def negative(x):
        return -x

    augment = layers.Rescaling(-1.0) if form == "layer" else negative
    x, y = samples()
    held = {"validation": (x, y), "epochs": 1}
    augmented = tune(network(), (x, y), augment=augment, **held)
    by_hand = tune(network(), (-x, y), **held)
    assert weights_equal(augmented.model, by_hand.model, 1e-6)
    assert not weights_equal(augmented.model, tune(network(), (x, y), **held).model, 1e-4)
    found = np.asarray(augmented.model(x)).argmax(1)
    assert augmented.validation["after"]["accuracy"] == pytest.approx((found == y).mean())


def test_summary(capsys):
    tuned = tune(network(), validation=samples(seed=1))
    tuned.summary(["ant", "bee", "cat"])
    printed = capsys.readouterr().out
    assert "without distillation" in printed and "bee" in printed
    assert f"{tuned.validation['after']['harmonic_mean']:.1%}" in printed


def test_a_training_that_costs_accuracy_says_what_may_help(capsys):
    tuned = tune(network(), validation=samples(seed=1))
    means = {"before": 0.9, "after": 0.8}
    reports = {
        when: {**tuned.validation[when], "harmonic_mean": mean} for when, mean in means.items()
    }
    same = dict.fromkeys(means, reports["before"])
    replace(tuned, validation=same).summary()
    assert "What may help" not in capsys.readouterr().out
    replace(tuned, validation=reports).summary()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "What may help" in line]
    assert "fell by 10.0 points" in line
    assert "restore_best=True" in line and "freeze_batch_norm" not in line
    normalised = tune(network(extra=[layers.BatchNormalization()]), validation=samples(seed=1))
    replace(normalised, validation=reports).summary()
    assert "freeze_batch_norm=True" in capsys.readouterr().out


def several_sigmoids():
    inputs = keras.Input((6, 6, 1))
    return keras.Model(inputs, layers.Dense(3, "sigmoid")(layers.Flatten()(inputs)))


def of_other_input():
    inputs = keras.Input((8, 8, 1))
    return keras.Model(inputs, layers.Dense(CLASSES)(layers.Flatten()(inputs)))


X, Y = samples()
WRONG = {
    "NaN": ({"data": (np.full_like(X, np.nan), Y)}, klp.DataError, "training data: .*NaN"),
    "label": ({"data": (X, Y + 1)}, klp.DataError, "within 0 to 2"),
    "empty": ({"data": (X[:0], Y[:0])}, klp.DataError, "at least one"),
    "class": ({"data": (X[Y > 0], Y[Y > 0])}, klp.DataError, "no sample of 1 of 3 classes: 0"),
    "shape": ({"data": (X[:, :5], Y)}, klp.DataError, "model takes"),
    "count": ({"data": (X, Y[1:])}, klp.DataError, "one label per sample"),
    "list": ({"data": {"x": X}}, klp.DataError, "not a dict"),
    "validation": ({"validation": (X, Y + 5)}, klp.DataError, "validation data"),
    "temperature": ({"temperature": 0}, ValueError, "temperature must lie in"),
    "weight": ({"distillation_weight": 1.5}, ValueError, "must lie in .0, 1."),
    "dropout": ({"dropout_factor": -1}, ValueError, "dropout_factor must lie in"),
    "epochs": ({"epochs": 0}, ValueError, "epochs must be"),
    "batch": ({"batch_size": 0}, ValueError, "batch_size must be"),
    "best": ({"restore_best": True}, ValueError, "needs validation"),
    "rate": ({"learning_rate": -1.0}, ValueError, "must lie in .0, inf"),
    "schedule": ({"schedule": "linear"}, ValueError, "'cosine', 'plateau', None"),
    "optimizer": ({"optimizer": 3}, TypeError, "Keras 3 optimizer"),
    "scaled loss": (
        {"optimizer": keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())},
        ValueError,
        "LossScaleOptimizer has no learning rate of its own",
    ),
    "augment": ({"augment": 3}, TypeError, "augment must be"),
    "diverged": ({"learning_rate": 1e30, "epochs": 9}, FloatingPointError, "lower learning_rate"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_say_what_is_wrong(case):
    options, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        tune(network(), **options)


def test_models_that_cannot_be_tuned():
    for teacher, message in (
        (network("sigmoid"), "2 classes, the model 3"),
        (of_other_input(), "teacher takes samples of shape"),
        (several_sigmoids(), "3 sigmoid units"),
    ):
        with pytest.raises(klp.UnsupportedModelError, match=message):
            tune(network(), teacher=teacher)
    with pytest.raises(klp.UnsupportedModelError, match="3 sigmoid units"):
        tune(several_sigmoids())
    with pytest.raises(TypeError, match="Keras 3 model"):
        tune("model.keras")


def test_legacy_models_are_refused():
    tf_keras = pytest.importorskip("tf_keras")
    legacy = tf_keras.Sequential(
        [
            tf_keras.layers.Input((6, 6, 1)),
            tf_keras.layers.Flatten(),
            tf_keras.layers.Dense(CLASSES),
        ]
    )
    with pytest.raises(klp.UnsupportedModelError, match="legacy Keras"):
        tune(legacy)
    with pytest.raises(klp.UnsupportedModelError, match=r"teacher .* is a legacy Keras"):
        tune(network(), teacher=legacy)


def test_datasets_that_cannot_be_used():
    dataset = tf.data.Dataset.from_tensor_slices((X, Y))
    bad = np.concatenate([X[:40], np.full_like(X[40:], np.inf)])
    for data, message in (
        (dataset, "single samples"),
        (dataset.batch(8).repeat(), "infinite"),
        (dataset.batch(8).take(0), "dataset is empty"),
        (dataset.batch(8).map(lambda x, y: x), "pairs"),
        (tf.data.Dataset.from_tensor_slices((bad, Y)).batch(8), "in batch 5 of the dataset"),
    ):
        with pytest.raises(klp.DataError, match=message):
            tune(network(), data)
