"""What models cost: counted, measured in processes of their own, and estimated."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from models import BUILDERS, analysed
from typer.testing import CliRunner

import keras_lrp_prune as klp
from keras_lrp_prune.cli.commands import app
from keras_lrp_prune.cli.profile_command import _titles
from keras_lrp_prune.cost import CostModel, energy, worker
from keras_lrp_prune.cost.litert_file import litert_counts
from keras_lrp_prune.cost.process import measured
from keras_lrp_prune.cost.worker import Unmeasurable, profiled_flops

SHAPE = (12, 12, 3)
QUICK = {"batch_sizes": (1,), "repeats": 1}


class Doubled(layers.Layer):
    """Of no package that another process could import."""

    def call(self, x):
        return 2 * x


@pytest.fixture(scope="module")
def result():
    """Of pruning a model whose class no other process knows."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(8, 3, padding="same", name="conv")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = Doubled(name="doubled")(layers.DepthwiseConv2D(3)(x))
    x = layers.Dense(3000, activation="relu", name="wide")(layers.Flatten()(x))
    whole = with_biases(keras.Model(inputs, layers.Dense(10, name="classes")(x)))
    images = np.random.default_rng(0).random((20, *SHAPE), np.float32)
    return klp.prune(
        whole, (images, np.arange(20) % 10), criterion="l1", budget={"params": 0.5}, verbose=0
    )


@pytest.fixture(scope="module")
def model(result):
    return result.model


def with_biases(model):
    """The model with random weights where there were zeros: LiteRT leaves out what is zero."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        layer.set_weights([w if w.any() else w + rng.random(w.shape) for w in layer.get_weights()])
    return model


def signature_of(model):
    shape = (None, *model.inputs[0].shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="images")])
    def serve(images):
        return {"scores": model(images, training=False)}

    return serve.get_concrete_function()


@pytest.fixture(scope="module")
def saved_model(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving") / "1"
    module = tf.Module()
    module.model = model
    tf.saved_model.save(module, str(folder), signatures=signature_of(model))
    return folder


def converted(model, path, int8=False):
    converter = tf.lite.TFLiteConverter.from_concrete_functions([signature_of(model)])
    if int8:
        rng, shape = np.random.default_rng(0), (1, *model.inputs[0].shape[1:])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [rng.random(shape, np.float32)] for _ in range(3)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    path.write_bytes(converter.convert())
    return path


@pytest.fixture(scope="module")
def of_keras(result):
    return klp.profile(result, batch_sizes=(8, 1), threads=2, repeats=5)


@pytest.fixture(scope="module")
def of_saved_model(saved_model):
    return klp.profile(saved_model, batch_sizes=(8,), repeats=5)


def check_timings(found, weight_bytes, batch_sizes):
    assert [timing.batch_size for timing in found.timings] == batch_sizes
    for timing in found.timings:
        assert 0 < timing.median <= timing.p95
    peaks = [timing.peak_memory for timing in found.timings]
    assert peaks == sorted(peaks) and weight_bytes < peaks[0] <= peaks[-1] < 100 * weight_bytes


def test_result_of_pruning(model, result, of_keras):
    assert (of_keras.kind, of_keras.threads, of_keras.dtype) == ("keras", 2, "float32")
    cost = CostModel(*analysed(model))
    assert of_keras.parameters == model.count_params() == cost().parameters
    assert cost() == result.cost_after
    assert of_keras.flops == cost().flops and of_keras.uncounted == ("doubled",)
    assert of_keras.energy == pytest.approx(energy(cost().flops, 4 * model.count_params()))
    assert of_keras.file_size > 4 * model.count_params()
    check_timings(of_keras, 4 * model.count_params(), [1, 8])


def test_saved_model(model, saved_model, of_keras, of_saved_model):
    found = of_saved_model
    assert (found.kind, found.threads, found.dtype) == ("saved_model", 1, "float32")
    assert found.parameters == model.count_params()
    assert found.flops == pytest.approx(of_keras.flops, rel=0.01)
    assert found.energy == pytest.approx(of_keras.energy, rel=0.01)
    assert found.file_size == sum(f.stat().st_size for f in saved_model.rglob("*") if f.is_file())
    check_timings(found, 4 * model.count_params(), [8])


@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
def test_litert(model, of_keras, tmp_path, int8):
    path = converted(model, tmp_path / "model.tflite", int8)
    found = klp.profile(path, batch_sizes=(1, 8), repeats=5)
    assert found.kind == "litert" and found.dtype == ("int8" if int8 else "float32")
    assert found.file_size == path.stat().st_size
    # Batch normalisation is folded into the convolution.
    assert found.parameters == pytest.approx(model.count_params() - 3 * 8, abs=16)
    assert found.flops == pytest.approx(of_keras.flops, rel=0.01) and not found.uncounted
    weights = litert_counts(path).weights
    size = sum(weights.values())
    assert size == pytest.approx((1 if int8 else 4) * model.count_params(), rel=0.02)
    assert found.energy == pytest.approx(energy(found.flops, size, found.dtype))
    assert [timing.batch_size for timing in found.timings] == [1, 8]
    assert all(0 < timing.median <= timing.p95 for timing in found.timings)
    assert size / 2 < found.timings[0].peak_memory <= found.timings[1].peak_memory


def test_table(of_keras, capsys):
    before = replace(of_keras, flops=4 * of_keras.flops, energy=None)
    klp.profile_table({"before": before, "after": of_keras}, title="Side by side")
    of_keras.summary()
    text = capsys.readouterr().out
    assert "Side by side" in text and f"{of_keras.flops:,}" in text and "0.25" in text
    assert "Peak memory, batch 8 (MiB)" in text
    (line,) = [line for line in text.splitlines() if "Energy" in line and " - " in line]
    assert line.split()[-1] == "-", "no ratio to what is not known"
    assert json.loads(json.dumps(of_keras.to_dict()))["timings"][0]["batch_size"] == 1


def test_legacy_model_of_an_open_size():
    import tf_keras

    model = tf_keras.Sequential(
        [
            tf_keras.Input((None, None, 3)),
            tf_keras.layers.Conv2D(4, 3, name="conv"),
            tf_keras.layers.GlobalAveragePooling2D(),
            tf_keras.layers.Dense(2),
        ]
    )
    with pytest.raises(ValueError, match="Give the model a fixed input size"):
        klp.profile(model, **QUICK)
    found = klp.profile(model, input_shape=(10, 10, 3), **QUICK)
    assert found.parameters == model.count_params()
    assert found.flops == 8 * 8 * 4 * (2 * 27 + 1) + 8 * 8 * 4 + 2 * (2 * 4 + 1)


# Counts against others.


def profiled(model):
    spec = tf.TensorSpec((1, *model.inputs[0].shape[1:]), tf.float32, name="images")
    return profiled_flops(signature_of(model), {"images": spec})


@pytest.mark.parametrize("name", [*BUILDERS, "MobileNetV2"])
def test_flops_against_the_graph_profiler(name):
    """It counts no activation but softmax, and batch normalisation as it is composed."""
    if name in BUILDERS:
        model, tolerance = BUILDERS[name](), 0.035
    else:
        options = {"weights": None, "input_shape": (32, 32, 3), "classes": 7}
        model, tolerance = getattr(keras.applications, name)(**options), 0.015
    ours = CostModel(*analysed(model))().flops
    assert profiled(model) == pytest.approx(ours, rel=tolerance)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2D(5, 3, strides=2, padding="same"),
        layers.Conv2D(5, 3, dilation_rate=2, use_bias=False),
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        layers.SeparableConv2D(5, 3),
        layers.Dense(5),
        layers.MaxPooling2D(2),
        layers.AveragePooling2D(3),
        layers.Rescaling(2.0, offset=1.0),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_flops_of_a_layer_equal_those_of_the_graph_profiler(layer):
    model = keras.Sequential([keras.Input((8, 8, 3)), layer])
    ours = CostModel(*analysed(model))().flops
    assert profiled(model) == ours


@pytest.mark.parametrize("name", ["vgg", "mobilenet_v2", "squeeze_excite", "densenet"])
@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
def test_operations_of_a_litert_file(name, int8, tmp_path):
    model = with_biases(BUILDERS[name]())
    counts = litert_counts(converted(model, tmp_path / "model.tflite", int8))
    ours = CostModel(*analysed(model))()
    assert counts.uncounted == ()
    # Activations and batch normalisation are part of other operators.
    assert 0.9 * ours.flops < counts.flops <= ours.flops
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    folded = sum(layer.count_params() for layer in norms)
    assert ours.parameters - folded <= counts.parameters <= ours.parameters + 64


# Errors.


def test_missing_litert_runtime(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    (tmp_path / "model.tflite").write_bytes(b"something")
    with pytest.raises(ImportError, match=r'pip install "ai-edge-litert>='):
        klp.profile(tmp_path / "model.tflite")


def test_files_of_other_kinds(tmp_path):
    (tmp_path / "model.keras").touch()
    for name, words in {
        "none": "There is no file or folder",
        ".": "is a folder without saved_model.pb",
        "model.keras": r"is a .keras file.*load_model",
    }.items():
        with pytest.raises(ValueError, match=words):
            klp.profile(tmp_path / name)


def test_file_that_is_no_litert_model(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"no model, though it is long enough")
    with pytest.raises(ValueError, match=r"model.tflite is not a LiteRT file"):
        klp.profile(tmp_path / "model.tflite")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_beginning_of_a_litert_file(model, tmp_path, share):
    path = converted(model, tmp_path / "model.tflite")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"model.tflite is damaged, or only the beginning of a"):
        klp.profile(path)
    with pytest.raises(ValueError, match=r"model.tflite' is no .tflite file"):
        klp.export.LiteRTModel(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_sizes": ()}, "batch_sizes is empty"),
        ({"batch_sizes": (1, 0)}, r"batch_sizes\[1\] must be at least 1, not 0"),
        ({"threads": 0}, "threads must be at least 1, not 0"),
    ],
)
def test_numbers_out_of_range(model, options, message):
    with pytest.raises(ValueError, match=message):
        klp.profile(model, **options)


def test_no_model():
    with pytest.raises(TypeError, match="Expected a Keras 3 model"):
        klp.profile(3)


def test_inputs_that_cannot_be_drawn(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "bare"))
    loaded = tf.saved_model.load(str(tmp_path / "bare"))
    with pytest.raises(Unmeasurable, match=r"no signature 'serving_default'; it has: none"):
        worker._signature(loaded, "bare")
    with pytest.raises(Unmeasurable, match="takes string; only models that take numbers"):
        worker._drawn((1, 2), "string", "x")
    for given in (None, (3,), (4, 4)):
        with pytest.raises(Unmeasurable, match=r"shape \(None, 3\); give input_shape="):
            worker._sample_shape("x", [None, None, 3], given)
    with pytest.raises(Unmeasurable, match=r"takes batches of 2 only; give batch_sizes=\(2,\)"):
        worker._check_batch("x", 2, 1)
    assert worker._sample_shape("x", [None, None, 3], (5, 3)) == (5, 3)
    with pytest.raises(Unmeasurable, match="has no batch dimension"):
        worker._sample_shape("x", [], None)


# Elsewhere.


def test_what_goes_wrong_in_the_process_is_told(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"no model, though it is long enough")
    options = {"batch_sizes": [1], "threads": 1, "repeats": 1, "input_shape": None}
    with pytest.raises(RuntimeError, match=r"model.tflite could not be measured: [^$]*Error"):
        measured("litert", path, **options)


def test_command_line(model, tmp_path):
    (tmp_path / "small").mkdir()
    trained = keras.models.clone_model(model)
    trained.compile("adam", "mse")
    trained.optimizer.build(trained.trainable_variables)
    trained.save(tmp_path / "trained.keras")
    paths = (
        converted(model, tmp_path / "model.tflite"),
        converted(model, tmp_path / "small" / "model.tflite", int8=True),
        tmp_path / "trained.keras",
    )
    arguments = ["profile", *map(str, paths), "--batch-size", "2", "--repeats", "1"]
    with keras.utils.custom_object_scope({"Doubled": Doubled}):
        done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "Latency, batch 2 (ms)" in done.output and "small/model.tflite" in done.output
    assert f"{litert_counts(paths[0]).flops:,}" in done.output
    (sizes,) = [line.split() for line in done.output.splitlines() if "File size" in line]
    found = [float(word.replace(",", "")) for word in sizes[3:4] + sizes[4::2]]
    assert found == [pytest.approx(path.stat().st_size / 1024, rel=0.01) for path in paths]


def test_titles_of_models_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("one.keras").touch()
    Path("small").mkdir()
    Path("small", "two.keras").touch()
    models = [str(tmp_path / "one.keras"), "small/two.keras", "MobileNet", "MobileNet"]
    titles = ["one.keras", "small/two.keras", "MobileNet (3)", "MobileNet (4)"]
    assert _titles(models) == titles
