"""iNNvestigate in its worker: exact on the dialect, refusing what lies outside."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import keras
import lrp_by_hand
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from lrp_checks import EXACT, Y
from lrp_models import chain, with_layer
from models import (
    BUILDERS,
    CLASSES,
    difference,
    images,
    make_live,
)

import keras_lrp_prune as klp
from keras_lrp_prune.graph.model_graph import UnsupportedModelError
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.relevance.analyzers import ANALYZERS
from keras_lrp_prune.relevance.innvestigate_engine import (
    INSTALL_LINE,
    InnvestigateEngine,
    MissingInnvestigateError,
)
from keras_lrp_prune.relevance.worker_process import PYTHON_VARIABLE, WorkerError, borrow

OPTIONS = {
    "lrp.alpha_beta": {"alpha": 3, "beta": 2},
    "lrp.z": {"input_layer_rule": (-3.0, 3.0)},
    "lrp.epsilon": {"epsilon": 0.5, "bias": False},
    "lrp.sequential_preset_b_flat_until_idx": {"until_layer_idx": np.int64(3)},
    "deep_taylor.bounded": {"low": -5, "high": np.float32(5)},
}


@pytest.fixture(scope="module")
def tiny():
    keras.utils.set_random_seed(0)
    model = make_live(BUILDERS["resnet_v2"]())
    return model, images(model, 6)


@pytest.mark.parametrize("analyzer", [name for name in ANALYZERS if name not in lrp_by_hand.RULES])
def test_every_other_analyzer_works(analyzer, tiny):
    model, x = tiny
    relevance = klp.filter_relevance(
        model,
        x,
        Y,
        analyzer=analyzer,
        analyzer_options=OPTIONS.get(analyzer),
        engine="innvestigate",
    )
    for layer, values in relevance.items():
        assert np.isfinite(values).all()
        assert values.shape == (CLASSES, model.get_layer(layer).get_weights()[0].shape[-1])
        assert layer == model.layers[-1].name or np.abs(values).max() > 0


def test_until_layer_idx_counts():
    keras.utils.set_random_seed(0)
    model = make_live(BUILDERS["vgg"]())
    x = images(model, 6)
    first, second = (
        klp.input_relevance(
            model,
            x,
            Y,
            analyzer="lrp.sequential_preset_b_flat_until_idx",
            analyzer_options={"until_layer_idx": index},
        )
        for index in (1, 4)
    )
    assert difference(first, second) > 1e-2


REFUSED = {
    "odd": lambda: with_layer(layers.LeakyReLU(name="odd")),
    "sloped": lambda: with_layer(layers.ReLU(negative_slope=0.1, name="sloped")),
    "leaky": lambda: with_layer(layers.Activation("leaky_relu", name="leaky")),
    "hidden_layer": lambda: with_layer(
        layers.Conv2D(4, 3, activation=layers.PReLU(), name="hidden_layer")
    ),
    "multiply": BUILDERS["squeeze_excite"],
    "grouped": lambda: with_layer(layers.Conv2D(4, 3, groups=2, name="grouped")),
    "norm": lambda: with_layer(layers.LayerNormalization(name="norm")),
    "rows": lambda: with_layer(layers.BatchNormalization(axis=1, name="rows")),
    "stacked": lambda: with_layer(lambda x: layers.Concatenate(axis=1, name="stacked")([x, x])),
    "twice": lambda: with_layer(
        (lambda layer: lambda x: layer(layer(x)))(layers.Conv2D(4, 3, name="twice"))
    ),
    "conv2d.*more than once": BUILDERS["shared"],
    "upwards": lambda: with_layer(layers.UpSampling2D(name="upwards")),
    "scaling": lambda: with_layer(layers.Rescaling(2.0, name="scaling")),
    "ops.Add": lambda: with_layer(lambda x: x + 3.0),
}


@pytest.mark.parametrize("named", REFUSED)
def test_what_is_outside_the_dialect_is_refused(named):
    with pytest.raises(UnsupportedModelError, match=named):
        InnvestigateEngine(read_model(REFUSED[named]()), "lrp.z")


def test_batches_equal_one_batch(tiny):
    model, x = tiny
    x = np.concatenate([x, x[::-1] * 0.5, x * 2])
    y = np.concatenate([Y, Y[::-1], Y])

    def in_batches(size):
        with InnvestigateEngine(read_model(model), "lrp.epsilon", batch_size=size) as engine:
            return engine.filter_relevance(x, y)

    whole, streamed = in_batches(100), in_batches(5)
    for layer in whole:
        assert difference(streamed[layer], whole[layer]) <= 1e-5


def test_users_process_is_unharmed(tiny):
    import tf_keras

    environment, tf_keras_model = dict(os.environ), tf.keras.Model
    legacy = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(3,))])
    legacy.compile("sgd", "mse", run_eagerly=True)
    model, x = tiny
    before = np.asarray(model(x))
    klp.input_relevance(model, x)
    assert tf.executing_eagerly() and dict(os.environ) == environment
    assert tf.keras.Model is tf_keras_model
    data = np.ones((4, 3), "float32"), np.zeros((4, 2), "float32")
    losses = legacy.fit(*data, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0] and legacy(data[0]).numpy().shape == (4, 2)
    assert (np.asarray(model(x)) == before).all()
    other = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    other.compile("sgd", "mse")
    losses = other.fit(*data, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_preprocessing_and_padding_in_front():
    keras.utils.set_random_seed(0)
    core = make_live(BUILDERS["sequential"]())
    core.name = "core"
    model = keras.Sequential(
        [
            keras.Input((13, 14, 3)),
            layers.GaussianNoise(0.1),
            layers.Rescaling(0.5, offset=0.25),
            layers.ZeroPadding2D(((1, 2), (2, 0))),
            core,
        ]
    )
    x = images(model, 6)
    relevance = klp.input_relevance(model, x, Y, analyzer="lrp.sequential_preset_a")
    assert relevance.shape == x.shape
    padded = np.pad(0.5 * x + 0.25, [(0, 0), (1, 2), (2, 0), (0, 0)])
    expected = klp.input_relevance(core, padded, Y, analyzer="lrp.sequential_preset_a")
    assert difference(relevance, expected[:, 1:-2, 2:]) <= 1e-5
    filters = klp.filter_relevance(model, x, Y)
    assert list(filters) == [f"core/{n}" for n in ("first", "second", "hidden", "classes")]


def test_open_input_size():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 1))
    x = layers.Conv2D(5, 3, activation="relu", name="a")(inputs)
    model = keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    x = np.random.default_rng(0).normal(size=(6, 9, 11, 1))
    relevance = klp.input_relevance(model, x, Y, analyzer="lrp.z")
    expected = lrp_by_hand.mean_relevances(
        model, x.astype("float32"), Y, lrp_by_hand.RULES["lrp.z"]
    )[1]
    assert relevance.shape == x.shape and difference(relevance, expected) <= EXACT


def test_batch_norm_is_no_filter_layer():
    model = make_live(
        keras.Sequential(
            [
                keras.Input((12,)),
                layers.Dense(9, activation="relu", name="hidden"),
                layers.BatchNormalization(name="norm"),
                layers.Dense(CLASSES, name="classes"),
            ]
        )
    )
    assert list(klp.filter_relevance(model, images(model, 6), Y)) == ["hidden", "classes"]


def test_unknown_analyzer_option_and_engine(tiny):
    model, x = tiny
    with pytest.raises(ValueError, match=r"'lrp.y'.*lrp.z, lrp.epsilon"):
        klp.filter_relevance(model, x, Y, analyzer="lrp.y")
    with pytest.raises(ValueError, match=r"no option epsilom.*bias, epsilon"):
        klp.input_relevance(
            model, x, analyzer="lrp.epsilon", analyzer_options={"epsilom": 1, "bias": True}
        )
    with pytest.raises(ValueError, match=r"'torch'.*auto, innvestigate"):
        klp.filter_relevance(model, x, Y, engine="torch")
    with pytest.raises(ValueError, match=r"'lrp.gamma' is for the engine 'native'"):
        klp.filter_relevance(model, x, Y, analyzer="lrp.gamma", engine="innvestigate")
    with pytest.raises(ValueError, match="0 to 3"):
        klp.input_relevance(model, x, np.full(6, 7))


@pytest.mark.parametrize(
    ("analyzer", "options", "message"),
    [
        ("lrp.alpha_beta", {"alpha": 2, "beta": 7}, "alpha=2, beta=7"),
        ("lrp.epsilon", {"epsilon": 0}, "positive, not 0"),
        ("lrp.z", {"input_layer_rule": "Zplus"}, "'Zplus'.*ZPlus"),
        ("deep_taylor.bounded", {"low": 0}, "low and high"),
    ],
)
def test_unsuitable_options_are_told_before_any_work(tiny, analyzer, options, message):
    model, x = tiny
    given = {"analyzer": analyzer, "analyzer_options": options, "engine": "innvestigate"}
    # No such interpreter is looked for.
    with pytest.raises(ValueError, match=message):
        klp.input_relevance(model, x, **given, worker_python="no/python")


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """An interpreter that has NumPy, but not iNNvestigate."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    installed = Path(np.__file__).parents[1]
    for package in ("numpy", "numpy.libs"):
        if (installed / package).exists():
            (packages / package).symlink_to(installed / package)
    return folder / "bin" / "python", packages


def test_an_engine_is_as_one_in_a_process_of_its_own(tiny):
    def relevance(model, x):
        with InnvestigateEngine(read_model(model), "lrp.sequential_preset_a") as engine:
            return engine.filter_relevance(x, Y), engine._worker.pid

    model, x = tiny
    keras.utils.set_random_seed(1)
    other = chain()[0]
    _, pid = relevance(other, images(other, len(Y)))
    after, following = relevance(model, x)
    assert following == pid
    borrow().close()
    alone, new = relevance(model, x)
    assert new != pid
    assert after.keys() == alone.keys()
    for layer, values in alone.items():
        assert (after[layer] == values).all(), layer


def test_missing_innvestigate(bare_python, tiny, monkeypatch):
    python, packages = bare_python
    model, x = tiny
    reference = {"engine": "innvestigate"}
    with pytest.raises(MissingInnvestigateError) as caught:
        klp.filter_relevance(model, x, Y, worker_python=str(python), **reference)
    assert INSTALL_LINE in str(caught.value) and str(python) in str(caught.value)
    monkeypatch.setenv(PYTHON_VARIABLE, str(python))
    with pytest.raises(MissingInnvestigateError, match=str(python)):
        klp.input_relevance(model, x, **reference)
    # The parameter goes before the variable.
    found = klp.input_relevance(model, x, worker_python=sys.executable, **reference)
    assert found.shape == x.shape
    for name, version in (("innvestigate", "1.0.9"), ("tf_keras", "2.21.0")):
        folder = packages / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
    with pytest.raises(MissingInnvestigateError, match=r"1\.0\.9 is installed.*2\.1\.2 is needed"):
        klp.input_relevance(model, x, **reference)


def test_without_innvestigate_auto_takes_native(bare_python, tiny, caplog):
    python, _ = bare_python
    model, x = tiny
    with caplog.at_level(logging.INFO, "keras_lrp_prune"):
        result = klp.prune(
            model, (x, Y), 0.3, criterion="lrp.z", worker_python=str(python), verbose=0
        )
    assert result.settings["engine"] == "native"
    assert f"installed for {python}" in caplog.text
    assert "LRP engine: native (iNNvestigate " in caplog.text and "pip" not in caplog.text
    native = klp.input_relevance(model, x, engine="native")
    found = klp.input_relevance(model, x, worker_python=str(python))
    assert (found == native).all()


def test_interpreter_that_does_not_exist(tiny, monkeypatch):
    model, x = tiny
    monkeypatch.setenv(PYTHON_VARIABLE, "/no/such/python")
    with pytest.raises(WorkerError, match=rf"/no/such/python.*{PYTHON_VARIABLE}"):
        klp.input_relevance(model, x)
