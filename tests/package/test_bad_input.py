"""Bad input is answered with one clear error, before any work."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from models import BUILDERS
from places import ROOT

import keras_lrp_prune as klp


@pytest.fixture(scope="module")
def model():
    return BUILDERS["vgg"]()


@pytest.fixture
def data():
    x = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype(np.float32)
    return x, np.arange(8) % 4


def prune(model, data, target=0.3, **options):
    return klp.prune(model, data, target, **{"criterion": "l1", "verbose": 0, **options})


def test_good_input(model, data):
    assert prune(model, data).rate > 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("call", [prune, klp.filter_relevance, klp.input_relevance])
def test_not_finite(model, data, value, call):
    x, y = data
    x[5, 3, 2, 1] = value
    with pytest.raises(klp.DataError, match="NaN or infinite values in sample 5"):
        call(model, (x, y)) if call is prune else call(model, x, y)


@pytest.mark.parametrize(
    "shape", [(8, 16, 16), (8, 16, 12, 3), (8, 16, 16, 1), (8,), (0, 16, 16, 3)]
)
def test_wrong_shape(model, data, shape):
    with pytest.raises(klp.DataError, match="shape"):
        prune(model, (np.zeros(shape), data[1]))


def test_other_number_of_labels(model, data):
    with pytest.raises(klp.DataError, match=r"8 samples.*7 labels"):
        prune(model, (data[0], data[1][:7]))


@pytest.mark.parametrize("label", [4, -1, 1.5])
def test_label_out_of_range(model, data, label):
    x, y = data
    y = y.astype(float)
    y[6] = label
    with pytest.raises(klp.DataError, match="row 6"):
        prune(model, (x, y))


def test_one_hot_of_another_width(model, data):
    with pytest.raises(klp.DataError, match="3 columns, but there are 4 classes"):
        prune(model, (data[0], np.eye(3)[data[1] % 3]))


def test_class_without_a_sample(model, data):
    x, y = data
    for call in (
        lambda: prune(model, (x, np.where(y == 2, 1, y))),
        lambda: prune(model, data, validation=(x, np.where(y == 2, 1, y))),
        lambda: klp.filter_relevance(model, x, np.where(y == 2, 1, y)),
    ):
        with pytest.raises(klp.DataError, match="1 of 4 classes have no sample: 2"):
            call()


def test_no_prunable_layer(data):
    only_classes = keras.Sequential(
        [keras.Input((16, 16, 3)), layers.Flatten(), layers.Dense(4, name="classes")]
    )
    with pytest.raises(klp.UnsupportedModelError, match=r"no filters .* classes: output of"):
        prune(only_classes, data)
    without_any = keras.Sequential(
        [keras.Input((16, 16, 4)), layers.ReLU(), layers.GlobalMaxPooling2D()]
    )
    with pytest.raises(klp.UnsupportedModelError, match="no layer with filters"):
        prune(without_any, (np.zeros((8, 16, 16, 4)), data[1]))
    model = BUILDERS["squeezenet"]()
    with pytest.raises(klp.UnsupportedModelError, match="named in protect="):
        prune(model, data, protect=[layer.name for layer in model.layers])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.convolution = layers.Conv2D(4, 3)

    def call(self, x):
        return keras.ops.mean(self.convolution(x), (1, 2))


def test_subclassed_model(data):
    model = Subclassed()
    model(data[0])
    for call in (prune, lambda model, data: klp.filter_relevance(model, *data)):
        with pytest.raises(klp.UnsupportedModelError, match=r"Subclassed.*subclassed model"):
            call(model, data)


def test_not_a_keras_model(data):
    for wrong in ("model.keras", None):
        with pytest.raises(TypeError, match=r"Keras 3 model .* or a legacy Keras model"):
            prune(wrong, data)


def test_sequential_without_input_shape(data):
    with pytest.raises(klp.UnsupportedModelError, match=r"no input shape yet.*keras\.Input"):
        prune(keras.Sequential([layers.Conv2D(4, 3), layers.Flatten()]), data)


def test_several_outputs_or_inputs(data):
    inputs = keras.Input((16, 16, 3))
    x = layers.GlobalMaxPooling2D()(layers.Conv2D(6, 3)(inputs))
    two = keras.Model(inputs, [layers.Dense(4)(x), layers.Dense(4)(x)])
    for call in (prune, lambda model, data: klp.filter_relevance(model, *data)):
        with pytest.raises(klp.UnsupportedModelError, match="2 outputs"):
            call(two, data)
    other = keras.Input((16, 16, 3))
    both = keras.Model([inputs, other], layers.Dense(4)(layers.Flatten()(inputs + other)))
    for call in (prune, lambda model, data: klp.filter_relevance(model, *data)):
        with pytest.raises(klp.UnsupportedModelError, match="2 inputs"):
            call(both, data)


def test_output_is_an_image(data):
    inputs = keras.Input((16, 16, 3))
    with pytest.raises(klp.UnsupportedModelError, match=r"shape \(None, 14, 14, 4\)"):
        prune(keras.Model(inputs, layers.Conv2D(4, 3)(inputs)), data)


@pytest.mark.parametrize("target", [-0.1, 1.0, 1.5, np.nan])
def test_target_outside_its_range(model, data, target):
    with pytest.raises(ValueError, match=r"target_rate must lie in \[0, 1\)"):
        prune(model, data, target)


def test_target_out_of_reach(model, data):
    with pytest.raises(ValueError, match=r"min_channels=6.*the largest pruning rate is 0\.3333"):
        prune(model, data, 0.5, min_channels=6)
    assert prune(model, data, 0.3333, min_channels=6).rate == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "accuracy"}, "PruningSchedule, not"),
        ({"schedule": 0.5}, "PruningSchedule, not"),
        ({"criterion": "lrp.sequential_preset_c"}, "'lrp.sequential_preset_c'.*taylor"),
        ({"criterion": "magnitude"}, "'magnitude'.*l1"),
        ({"engine": "torch"}, "'torch'.*innvestigate"),
        ({"criterion": "taylor", "analyzer_options": {"epsilon": 1}}, "'taylor' has none"),
        ({"criterion": "lrp.z", "analyzer_options": {"epsilon": 1}}, "no option epsilon"),
        ({"min_channels": 0}, "min_channels must be at least 1, or a share"),
        ({"min_channels": -0.5}, "min_channels must be at least 1, or a share"),
        ({"min_channels": 1.5}, "min_channels must be at least 1, or a share"),
        ({"round_to": 0}, "round_to must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"min_accuracy": 1.5}, r"min_accuracy must lie in \[0, 1\]"),
        ({"protect": ["conv9"]}, "'conv9'"),
        ({"seed": -1}, "seed must be from 0 to 4294967295, not -1"),
        ({"memory_budget": np.inf}, r"memory_budget must lie in \(0, inf\)"),
        ({"verbose": -1}, "verbose must be from 0 to 2"),
    ],
    ids=str,
)
def test_bad_options(model, data, options, message):
    with pytest.raises(ValueError, match=message):
        prune(model, data, **options)


def test_unwritable_output_folder(model, data, tmp_path):
    result = prune(model, data, 0.1)
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere/out")):
        with pytest.raises(OSError, match="choose another output folder"):
            result.save(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_unwritable_checkpoint_dir(model, data, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        with pytest.raises(klp.CheckpointError, match="Cannot write to checkpoint_dir"):
            prune(model, data, checkpoint_dir=folder)


def test_other_backend():
    done = subprocess.run(
        [sys.executable, "-c", "import keras_lrp_prune as klp; klp.prune"],
        env={
            **os.environ,
            "KERAS_BACKEND": "numpy",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "UnsupportedModelError" in last
    assert "needs the TensorFlow backend" in last and "'numpy'" in last


@pytest.mark.parametrize(
    "options",
    [
        *({"protect": "conv"}, {"protect": [3]}, {"protect": None}, {"round_to": 2.0}),
        *({"batch_size": 1.5}, {"min_accuracy": "0.5"}, {"target": "0.5"}, {"seed": 1.5}),
        *({"verbose": "yes"}, {"analyzer_options": 3}, {"checkpoint_dir": 3}),
    ],
    ids=str,
)
def test_other_types(model, data, options):
    name = next(iter(options)).replace("target", "target_rate")
    with pytest.raises(TypeError, match=rf"^{name}(\[0\])? takes a .*, not "):
        prune(model, data, **options)


def test_validation_is_named(model, data):
    with pytest.raises(klp.DataError, match="validation data"):
        prune(model, data, validation=(data[0][:, :8], data[1]))


def answering(answer):
    """A schedule that gives this answer to every step."""

    class Answering(klp.schedules.EqualSteps):
        def __call__(self, step):
            return answer

    return Answering()


ANSWERS = {
    "nothing": (None, TypeError, "answered step 0 with None"),
    "a number": (0.5, TypeError, "answered step 0 with 0.5"),
    "strings": (("yes", "0.5"), TypeError, "a bool and a number"),
    "three": ((True, 0.5, 1), TypeError, "a bool and a number"),
    "no number": ((True, None), TypeError, "a bool and a number"),
    "NaN": ((True, np.nan), ValueError, r"must lie in \[0, 1\]; Answering asked for nan at step 0"),
    "percent": ((True, 50.0), ValueError, r"must lie in \[0, 1\]"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_answers_of_schedules(model, data, case):
    answer, error, message = ANSWERS[case]
    with pytest.raises(error, match=message):
        prune(model, data, schedule=answering(answer))


def test_schedule_that_never_prunes(model, data):
    assert prune(model, data, schedule=answering((False, np.nan))).rate == 0


def test_iterators_are_no_arrays(model, data):
    x, y = data
    for call in (
        lambda: prune(model, (row for row in x)),
        lambda: prune(model, ((row for row in x), y)),
        lambda: prune(model, (x, iter(y))),
        lambda: klp.input_relevance(model, iter(x)),
    ):
        with pytest.raises(klp.DataError, match=r"not an? \w*(generator|iterator)"):
            call()
