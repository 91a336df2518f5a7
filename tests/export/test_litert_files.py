"""LiteRT files: as close as they say, and what cannot be converted."""

import os
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf
from exports import SAMPLES, two_outputs, with_list_input
from keras import layers
from models import CLASSES, images, make_live, sequential
from pruning_models import digits, reference

import keras_lrp_prune as klp
from keras_lrp_prune.data import DataError
from keras_lrp_prune.export.litert_model import LiteRTModel
from keras_lrp_prune.graph.model_graph import UnsupportedModelError

# Options, and how far a score may be from the Keras model's.
MODES = {
    "float32": ({}, 1e-5),
    "float32, batch 3": ({"batch_size": 3}, 1e-5),
    "float16": ({"quantize": "float16"}, 1e-2),
    "dynamic": ({"quantize": "dynamic"}, 0.1),
    "int8": ({"quantize": "int8"}, 0.25),
    "int8, batch 1": ({"quantize": "int8", "batch_size": 1}, 0.25),
    "uint8": ({"quantize": "int8", "io": "uint8"}, 0.25),
    "int8, floats": ({"quantize": "int8", "io": "float32"}, 0.25),
}
SIZES = {"float16": 0.5, "dynamic": 0.25, "int8": 0.25}  # of the float32 file


@pytest.fixture(scope="module")
def converted(result, tmp_path_factory):
    """Gives `converted(mode)`: a file of the pruned model."""
    folder = tmp_path_factory.mktemp("litert")

    @cache
    def convert(mode):
        path = folder / f"{list(MODES).index(mode)}.tflite"
        return klp.export.litert(result, path, representative=reference(), **MODES[mode][0])

    return convert


def test_a_file_with_ranges_of_other_samples_is_told(result, tmp_path):
    x, y = digits()[1]
    path = tmp_path / "m.tflite"
    klp.export.litert(result, path, quantize="int8", representative=x[:50] / 100)
    with pytest.warns(klp.AtChanceWarning, match="by the file, .*the representative samples"):
        klp.export.compare_litert(result, path, (x, y))


@pytest.mark.parametrize("mode", MODES)
def test_litert_file_is_close_to_the_keras_model(mode, converted, result):
    x, y = digits()[1]
    expected = np.asarray(result.model(x[:400]))
    scores = LiteRTModel(converted(mode))(x[:400])
    assert scores.dtype == np.float32 and scores.shape == expected.shape
    assert np.abs(scores - expected).max() <= MODES[mode][1]
    found = klp.export.compare_litert(result, converted(mode), (x, y))
    assert found.agreement >= (0.98 if "int8" in MODES[mode][0].values() else 0.995)
    assert np.abs(found.litert - found.keras).max() <= 0.05
    assert found.keras.shape == (10,) and found.support.sum() == len(x)
    assert found.file_size == converted(mode).stat().st_size


def test_litert_files_are_smaller(tmp_path):
    entry = keras.Input((400,))
    model = keras.Model(entry, layers.Dense(2)(layers.Dense(400)(entry)))
    options = {"representative": images(model)}
    whole = klp.export.litert(model, tmp_path / "m.tflite").stat().st_size
    for mode, share in SIZES.items():
        path = klp.export.litert(model, tmp_path / f"{mode}.tflite", quantize=mode, **options)
        assert share * whole < path.stat().st_size < 1.1 * share * whole


@pytest.mark.parametrize(
    ("mode", "dtype"), [("int8", np.int8), ("uint8", np.uint8), ("int8, floats", np.float32)]
)
def test_what_int8_files_take_and_return(mode, dtype, converted):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(converted(mode)))
    signature = interpreter.get_signature_runner("serving_default")
    (taken,) = interpreter.get_input_details()
    assert list(signature.get_input_details()) == ["inputs"]
    assert list(signature.get_output_details()) == ["scores"]
    assert taken["dtype"] is dtype and interpreter.get_output_details()[0]["dtype"] is dtype
    assert list(taken["shape_signature"]) == [-1, 8, 8, 1]
    floats = [t["name"] for t in interpreter.get_tensor_details() if t["dtype"] is np.float32]
    assert len(floats) == (2 if dtype is np.float32 else 0)


def test_integers_are_converted_as_the_file_does_it(converted):
    x = digits()[1][0][:50]
    by_file = LiteRTModel(converted("int8, floats"))(x)
    for mode in ("int8", "uint8"):
        assert np.abs(LiteRTModel(converted(mode))(x) - by_file).max() <= 2 / 256


def test_batches_do_not_matter(converted):
    x = digits()[1][0][:10]
    expected = LiteRTModel(converted("float32"))(x, batch_size=1)
    for mode, size in (("float32", 4), ("float32", 100), ("float32, batch 3", 32)):
        np.testing.assert_allclose(
            LiteRTModel(converted(mode))(x, batch_size=size), expected, atol=1e-6
        )


@pytest.mark.parametrize("head", ["logits", "softmax", "sigmoid"])
def test_accuracy_of_each_class_by_both(head, tmp_path, capsys):
    model = make_live(sequential(head))
    x = images(model, 60)
    outputs = np.asarray(model(x))
    best = outputs.argmax(axis=1) if head != "sigmoid" else (outputs[:, 0] > 0.5).astype(int)
    n_classes = 2 if head == "sigmoid" else CLASSES
    # A quarter of the labels is wrong, of each class another share.
    y = np.where(np.arange(60) % 4 == 0, np.arange(60) // 4 % n_classes, best)
    path = klp.export.litert(model, tmp_path / "m.tflite")
    found = klp.export.compare_litert(model, path, (x, y))
    expected = [np.mean(best[y == label] == label) for label in range(n_classes)]
    np.testing.assert_allclose(found.keras, expected)
    np.testing.assert_allclose(found.litert, expected)
    assert found.agreement == 1 and min(expected) < 1
    assert found.litert_harmonic_mean == klp.harmonic_mean_accuracy(expected)
    found.summary([f"kind {label}" for label in range(n_classes)])
    assert "kind 1" in capsys.readouterr().out


def test_representative_samples_in_other_forms(tmp_path):
    model = with_list_input()
    labels = np.arange(len(SAMPLES))
    dataset = tf.data.Dataset.from_tensor_slices((SAMPLES, labels)).batch(2)
    outputs = []
    for form in (SAMPLES, (SAMPLES, labels), dataset, 3 * SAMPLES):
        path = tmp_path / "m.tflite"
        klp.export.litert(model, path, quantize="int8", representative=form)
        outputs.append(LiteRTModel(path)(SAMPLES))
    assert np.array_equal(outputs[0], outputs[1]) and np.array_equal(outputs[0], outputs[2])
    assert not np.array_equal(outputs[0], outputs[3])


@keras.saving.register_keras_serializable("export tests")
class Odd(layers.Layer):
    """An operation of TensorFlow, by name."""

    def __init__(self, operation, **options):
        super().__init__(**options)
        self.operation = operation

    def call(self, x):
        return {"det": tf.linalg.det, "cos": tf.cos}[self.operation](x)


def odd(operation, size=(8, 8, 3)):
    entry = keras.Input(size)
    x = layers.Conv2D(8, 1)(entry)
    x = layers.Flatten()(Odd(operation, name=f"my_{operation}")(x))
    return keras.Model(entry, layers.Dense(2)(x))


def recurrent():
    entry = keras.Input((5, 3))
    return keras.Model(entry, layers.Dense(2)(layers.LSTM(4)(entry)))


def half():
    entry = keras.Input((5,))
    return keras.Model(entry, layers.Dense(2, dtype="mixed_float16", name="half")(entry))


def logarithms():
    """Finite outputs, but minus infinity behind a ReLU on the way."""
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, activation="relu")(inputs)
    x = keras.ops.maximum(keras.ops.log(x), -1.0)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


BAD_FILES = {
    "no operator": (
        lambda: odd("det"),
        {},
        UnsupportedModelError,
        r"tf.MatrixDeterminant \(at .*my_det.*Replace the layer",
    ),
    "no integer operator": (
        lambda: odd("cos"),
        {"quantize": "int8"},
        UnsupportedModelError,
        r"no integer operator for .*my_cos.*/Cos\. Give io='float32'",
    ),
    "open batch": (recurrent, {}, UnsupportedModelError, "give batch_size=1"),
    "loops": (recurrent, {"quantize": "int8"}, UnsupportedModelError, "while.*unroll=True"),
    "not finite": (
        logarithms,
        {"quantize": "int8"},
        DataError,
        r"representative samples: .*/Log gives NaN or infinite numbers for samples 0 to 3",
    ),
    "half": (half, {}, UnsupportedModelError, "Layer 'half' computes in float16"),
    "several outputs": (two_outputs, {}, UnsupportedModelError, "2 outputs"),
    "suffix": (with_list_input, {"path": "m.lite"}, ValueError, r"must end in \.tflite"),
    "folder": (with_list_input, {"path": "d.tflite"}, IsADirectoryError, "is a folder"),
    "no folder": (with_list_input, {"path": "file/m.tflite"}, NotADirectoryError, "not a folder"),
    "mode": (
        with_list_input,
        {"quantize": "int4"},
        ValueError,
        "Unknown quantize 'int4'.*'float16'",
    ),
    "io": (with_list_input, {"io": "int16"}, ValueError, "Unknown io 'int16'.*uint8"),
    "no samples": (
        with_list_input,
        {"quantize": "int8", "representative": None},
        ValueError,
        "needs representative=",
    ),
    "samples": (
        with_list_input,
        {"quantize": "int8", "representative": np.zeros((2, 9, 9, 1))},
        DataError,
        r"representative samples.*\(9, 9, 1\)",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_what_cannot_be_converted(case, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "d.tflite").mkdir()
    make, options, error, message = BAD_FILES[case]
    model = make()
    given = {"path": "m.tflite", "representative": images(model), **options}
    with pytest.raises(error, match=message):
        klp.export.litert(model, tmp_path / given.pop("path"), **given)
    assert sorted(os.listdir(tmp_path)) == ["d.tflite", "file"]


def test_floats_stay_where_there_is_no_integer_operator(tmp_path):
    model = odd("cos")
    x = images(model, 20)
    path = klp.export.litert(
        model, tmp_path / "m.tflite", quantize="int8", io="float32", representative=x
    )
    expected = np.asarray(model(x))
    assert np.abs(LiteRTModel(path)(x) - expected).max() < 0.1 * np.abs(expected).max()


def test_recurrent_layers_with_a_fixed_batch(tmp_path):
    model = recurrent()
    path = klp.export.litert(model, tmp_path / "m.tflite", batch_size=1)
    x = images(model)
    np.testing.assert_allclose(LiteRTModel(path)(x), model(x), atol=1e-5)


def test_a_file_is_replaced_whole(tmp_path):
    path = klp.export.litert(with_list_input(), tmp_path / "m.tflite")
    before = path.read_bytes()
    with pytest.raises(UnsupportedModelError):
        klp.export.litert(odd("det"), path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["m.tflite"]
    klp.export.litert(with_list_input(), path, quantize="float16")
    assert path.read_bytes() != before


def test_what_cannot_be_run(converted, model, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        LiteRTModel(tmp_path / "m.tflite")
    (tmp_path / "m.tflite").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"is no \.tflite file:"):
        LiteRTModel(tmp_path / "m.tflite")
    with pytest.raises(ValueError, match="threads"):
        LiteRTModel(converted("int8"), threads=0)
    with pytest.raises(ValueError, match=r"\(8, 8, 1\).*\(2, 9, 9, 1\)"):
        LiteRTModel(converted("int8"))(np.zeros((2, 9, 9, 1)))
    with pytest.raises(DataError, match="classes have no sample"):
        klp.export.compare_litert(model, converted("int8"), (SAMPLES[:2], [0, 1]))
