"""SavedModel versions and LiteRT files: what they compute, and that they appear whole or not."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from command_line import SIZE, assert_bad_input, classifier, run, write_images
from keras import layers
from models import CLASSES, images, make_live, same_weights, sequential
from places import DOCS, SUPPORT
from pruning_models import digits, digits_model, reference

import keras_lrp_prune as klp
from keras_lrp_prune.data import DataError
from keras_lrp_prune.export import serving
from keras_lrp_prune.export.running import LiteRTModel
from keras_lrp_prune.graph.model_graph import UnsupportedModelError

WARMUP = Path("assets.extra", "tf_serving_warmup_requests")
NAMES = [f"digit {number}" for number in range(10)]
SAMPLES = digits()[1][0][:7]
AS_UINT8 = np.round(SAMPLES * 16).astype(np.uint8)


@pytest.fixture(scope="module")
def model():
    return digits_model()


@pytest.fixture(scope="module")
def result(model):
    return klp.prune(model, reference(), target_rate=0.3, criterion="l1", verbose=0)


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """Gives `serve(folder, x)`: what a process without Keras finds in a SavedModel."""
    file = tmp_path_factory.mktemp("inputs") / "x.npy"
    with subprocess.Popen(
        [sys.executable, SUPPORT / "serving_process.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def ask(folder, x):
            np.save(file, x)
            request = {"folder": str(folder), "inputs": {"inputs": str(file)}}
            print(json.dumps(request), file=process.stdin, flush=True)
            reply = json.loads(process.stdout.readline())
            assert "problem" not in reply, reply["problem"]
            return reply

        yield ask
        process.stdin.close()


def legacy():
    kit = tf_keras.layers
    tf_keras.utils.set_random_seed(0)
    stack = [kit.Input((8, 8, 1)), kit.Conv2D(4, 3), kit.Flatten(), kit.Dense(10)]
    return tf_keras.Sequential(stack)


def with_list_input():
    entry = keras.Input((8, 8, 1))
    scores = layers.Dense(10)(layers.Flatten()(entry))
    return keras.Model([entry], [scores])


MODELS = {"legacy": legacy, "list": with_list_input}


@pytest.mark.parametrize("kind", ["trained", "pruned", *MODELS])
def test_saved_model_is_the_keras_model(kind, model, result, serve, tmp_path):
    exported = {"trained": model, "pruned": result}.get(kind) or MODELS[kind]()
    own = result.model if kind == "pruned" else exported
    folder = klp.export.saved_model(exported, tmp_path / "digits" / "1")
    assert folder == tmp_path / "digits" / "1"
    for count in (1, 7):
        found = serve(folder, SAMPLES[:count])
        expected = keras.tree.flatten(own(SAMPLES[:count]))[0]
        np.testing.assert_allclose(found["values"]["scores"], expected, rtol=1e-4, atol=1e-5)
    assert found["signatures"] == ["serving_default"]
    assert found["inputs"] == {"inputs": [[None, 8, 8, 1], "float32"]}
    assert found["outputs"] == {"scores": [[None, 10], "float32"]}


def small_to_large():
    """Any image size, 0..255, to what the model takes."""
    entry = keras.Input((None, None, 1))
    return keras.Model(entry, layers.Resizing(8, 8)(layers.Rescaling(1 / 16)(entry)))


PREPROCESSING = {
    "function": lambda x: x / 16,
    "layer": layers.Rescaling(1 / 16),
    "legacy layer": tf_keras.layers.Rescaling(1 / 16),
    # Flips unless it is told that this is not training.
    "model": keras.Sequential([layers.RandomFlip(), layers.Rescaling(1 / 16)]),
}


@pytest.mark.parametrize("kind", PREPROCESSING)
def test_uint8_images_in_labels_out(kind, result, serve, tmp_path):
    folder = klp.export.saved_model(
        result, tmp_path / "1", preprocessing=PREPROCESSING[kind], labels=NAMES
    )
    found = serve(folder, AS_UINT8)
    expected = np.asarray(result.model(AS_UINT8 / np.float32(16)))
    np.testing.assert_allclose(found["values"]["scores"], expected, rtol=1e-4, atol=1e-5)
    assert found["values"]["labels"] == [NAMES[best] for best in expected.argmax(axis=1)]
    assert len(set(found["values"]["labels"])) > 1
    assert found["inputs"] == {"inputs": [[None, 8, 8, 1], "uint8"]}
    assert found["outputs"] == {"scores": [[None, 10], "float32"], "labels": [[None], "string"]}


def test_preprocessing_may_take_other_sizes(model, serve, tmp_path):
    folder = klp.export.saved_model(
        model,
        tmp_path / "1",
        preprocessing=small_to_large(),
        input_shape=(None, None, 1),
        input_dtype="float32",
    )
    x = np.random.default_rng(0).uniform(0, 16, (3, 12, 20, 1)).astype(np.float32)
    found = serve(folder, x)
    expected = model(tf.image.resize(x / 16, (8, 8)))
    np.testing.assert_allclose(found["values"]["scores"], expected, rtol=1e-4, atol=1e-5)
    assert found["inputs"] == {"inputs": [[None, None, None, 1], "float32"]}


def test_uint8_without_preprocessing(model, serve, tmp_path):
    folder = klp.export.saved_model(model, tmp_path / "1", input_dtype="uint8")
    found = serve(folder, AS_UINT8)
    expected = model(AS_UINT8.astype(np.float32))
    np.testing.assert_allclose(found["values"]["scores"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", ["logits", "sigmoid"])
def test_label_of_a_single_unit(head, serve, tmp_path):
    entry = keras.Input((4,))
    activation = "sigmoid" if head == "sigmoid" else None
    model = keras.Model(entry, layers.Dense(1, activation=activation)(entry))
    x = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    folder = klp.export.saved_model(model, tmp_path / "1", labels=["no", "yes"])
    scores = np.asarray(model(x))[:, 0]
    expected = np.where(scores > (0.5 if head == "sigmoid" else 0), "yes", "no")
    assert serve(folder, x)["values"]["labels"] == expected.tolist()
    assert set(expected) == {"no", "yes"}


def requests(folder):
    from tensorflow_serving.apis import prediction_log_pb2

    logs = []
    for record in tf.data.TFRecordDataset(str(folder / WARMUP)).as_numpy_iterator():
        logs.append(prediction_log_pb2.PredictionLog.FromString(record))
    return [log.predict_log.request for log in logs]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_warmup_requests_replay(dtype, model, tmp_path):
    x = AS_UINT8[:3] if dtype == "uint8" else SAMPLES[:3]
    options = {"preprocessing": PREPROCESSING["layer"]} if dtype == "uint8" else {}
    folder = klp.export.saved_model(
        model, tmp_path / "digits" / "4", warmup=x, warmup_batch_sizes=(1, 2, 5), **options
    )
    loaded = tf.saved_model.load(str(folder))
    found = requests(folder)
    assert len(found) == 3
    for request, size in zip(found, (1, 2, 5), strict=True):
        assert request.model_spec.name == "digits"
        signature = loaded.signatures[request.model_spec.signature_name]
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        np.testing.assert_array_equal(inputs["inputs"], x[np.arange(size) % 3])
        assert inputs["inputs"].dtype == dtype
        scores = signature(**{key: tf.constant(value) for key, value in inputs.items()})["scores"]
        expected = model(inputs["inputs"] / np.float32(16 if dtype == "uint8" else 1))
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["pair", "samples", "pairs"])
def test_warmup_samples_in_other_forms(kind, tmp_path):
    model = with_list_input()
    labels = np.arange(len(SAMPLES))
    forms = {
        "pair": (SAMPLES, labels),
        "samples": tf.data.Dataset.from_tensor_slices(SAMPLES).batch(2),
        "pairs": tf.data.Dataset.from_tensor_slices((SAMPLES, labels)).batch(2),
    }
    folder = klp.export.saved_model(
        model, tmp_path / "1", warmup=forms[kind], warmup_batch_sizes=[len(SAMPLES)]
    )
    (request,) = requests(folder)
    np.testing.assert_array_equal(tf.make_ndarray(request.inputs["inputs"]), SAMPLES)


def versions(parent):
    """Version folders that a server would load now, as lists of their files."""
    return [
        {str(file.relative_to(folder)) for file in folder.rglob("*")}
        for folder in parent.iterdir()
        if folder.name.isdigit()
    ]


def test_no_half_version_is_ever_seen(model, tmp_path):
    seen, done = [], threading.Event()

    def watch():
        while not done.is_set():
            seen.extend(versions(tmp_path))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for version in range(1, 5):
            klp.export.saved_model(model, tmp_path / str(version), warmup=SAMPLES)
    finally:
        done.set()
        watcher.join()
    complete = versions(tmp_path)
    assert len(complete) == 4 and seen
    assert all(files == complete[0] for files in seen)
    assert {"saved_model.pb", str(WARMUP)} <= complete[0]
    assert len(list(tmp_path.iterdir())) == 4


def test_each_stage_is_written_under_another_name(model, tmp_path, monkeypatch):
    """A watching thread may miss a stage; this looks before and after each."""
    seen = []

    def looking(write):
        def look_and_write(*arguments):
            seen.append(versions(tmp_path))
            write(*arguments)
            seen.append(versions(tmp_path))

        return look_and_write

    monkeypatch.setattr(serving, "write_warmup", looking(serving.write_warmup))
    monkeypatch.setattr(serving.Servable, "save", looking(serving.Servable.save))
    klp.export.saved_model(model, tmp_path / "1", warmup=SAMPLES)
    assert seen == [[]] * 4
    assert len(versions(tmp_path)) == 1


@pytest.mark.parametrize("stage", ["save", "write_warmup"])
def test_a_failure_leaves_nothing(stage, model, tmp_path, monkeypatch):
    def half(*arguments):
        folder = next(part for part in arguments if isinstance(part, Path))
        (folder / "saved_model.pb").write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(serving.Servable if stage == "save" else serving, stage, half)
    with pytest.raises(OSError, match="disk is full"):
        klp.export.saved_model(model, tmp_path / "digits" / "1", warmup=SAMPLES)
    assert list((tmp_path / "digits").iterdir()) == []


KILLED = """
import os, sys
import keras, numpy as np
import keras_lrp_prune as klp
from keras_lrp_prune.export import serving
serving.write_warmup = lambda *arguments: os._exit(9)
entry = keras.Input((4,))
klp.export.saved_model(
    keras.Model(entry, keras.layers.Dense(2)(entry)), sys.argv[1], warmup=np.zeros((1, 4))
)
"""


def test_a_killed_export_leaves_no_version(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "1")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 9, done.stderr
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".") and (left / "saved_model.pb").exists()
    entry = keras.Input((4,))
    klp.export.saved_model(keras.Model(entry, layers.Dense(2)(entry)), tmp_path / "1")
    assert len(versions(tmp_path)) == 1


def test_a_version_is_never_replaced(model, tmp_path, monkeypatch):
    folder = klp.export.saved_model(model, tmp_path / "1")
    before = (folder / "saved_model.pb").read_bytes()
    with pytest.raises(FileExistsError, match=r"next one: .*2"):
        klp.export.saved_model(with_list_input(), folder)

    save = serving.Servable.save

    def meanwhile(self, folder):
        save(self, folder)
        (tmp_path / "2").mkdir()
        (tmp_path / "2" / "saved_model.pb").write_bytes(b"theirs")

    monkeypatch.setattr(serving.Servable, "save", meanwhile)
    with pytest.raises(FileExistsError, match="meantime"):
        klp.export.saved_model(with_list_input(), tmp_path / "2")
    assert (folder / "saved_model.pb").read_bytes() == before
    assert (tmp_path / "2" / "saved_model.pb").read_bytes() == b"theirs"
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]


def test_the_users_model_stays(model, tmp_path):
    weights, config = model.get_weights(), model.to_json()
    optimizer = model.optimizer
    klp.export.saved_model(model, tmp_path / "1", labels=NAMES, warmup=SAMPLES)
    klp.export.litert(model, tmp_path / "m.tflite", quantize="int8", representative=SAMPLES)
    assert same_weights(weights, model.get_weights())
    assert model.to_json() == config and model.optimizer is optimizer


def two_outputs():
    entry = keras.Input((8, 8, 1))
    x = layers.Flatten()(entry)
    return keras.Model(entry, [layers.Dense(2)(x), layers.Dense(3)(x)], name="two")


BAD_VERSIONS = {
    "not a number": ({"path": "digits"}, ValueError, r"not a version number.*digits/1"),
    "leading zero": ({"path": "digits/01"}, ValueError, "not a version number"),
    "parent is a file": ({"path": "file/1"}, NotADirectoryError, "not a folder"),
    "not a model": ({"model": "model.keras"}, TypeError, "Expected a Keras 3 model"),
    "two outputs": ({"model": two_outputs()}, UnsupportedModelError, "'two' has 2 outputs"),
    "few labels": ({"labels": NAMES[:3]}, ValueError, "3 labels for the 10 classes"),
    "one string": ({"labels": "abcdefghij"}, TypeError, "list of class names"),
    "numbers": ({"labels": list(range(10))}, TypeError, r"labels\[0\] takes a string"),
    "dtype": ({"input_dtype": "int64"}, ValueError, "'uint8', 'float32'"),
    "shape": ({"input_shape": (9, 9, 1)}, ValueError, "needs preprocessing="),
    "no function": ({"preprocessing": 3}, TypeError, "function or a Keras layer, not 3"),
    "NumPy": ({"preprocessing": np.sort}, ValueError, "TensorFlow or Keras operations"),
    "other shape": (
        {"preprocessing": layers.Flatten()},
        ValueError,
        r"makes \(None, 64\) of \(None, 8, 8, 1\)",
    ),
    "warm-up shape": ({"warmup": np.zeros((2, 9, 9, 1))}, DataError, r"warm-up.*\(9, 9, 1\)"),
    "warm-up NaN": ({"warmup": np.full((2, 8, 8, 1), np.nan)}, DataError, "NaN"),
    "warm-up values": (
        {"warmup": SAMPLES, "input_dtype": "uint8"},
        DataError,
        "The warm-up samples: The model takes uint8, which does not hold x",
    ),
    "batch sizes": ({"warmup_batch_sizes": [0]}, ValueError, "at least 1"),
}


@pytest.mark.parametrize("case", BAD_VERSIONS)
def test_what_cannot_be_served(case, model, tmp_path):
    (tmp_path / "file").write_text("")
    options, error, message = BAD_VERSIONS[case]
    given = {"model": model, "path": "digits/1", **options}
    with pytest.raises(error, match=message):
        klp.export.saved_model(given.pop("model"), tmp_path / given.pop("path"), **given)
    assert os.listdir(tmp_path) == ["file"]


EXTRAS = {
    "tensorflow_serving": (
        lambda model, path: klp.export.saved_model(model, path / "1", warmup=SAMPLES),
        'pip install "tensorflow-serving-api>=2.18,<',
    ),
    "ai_edge_litert": (
        lambda model, path: LiteRTModel(klp.export.litert(model, path / "m.tflite")),
        'pip install "ai-edge-litert>=',
    ),
}


@pytest.mark.parametrize("package", EXTRAS)
def test_a_missing_package_is_named(package, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    use, command = EXTRAS[package]
    with pytest.raises(klp.export.MissingExtraError) as raised:
        use(with_list_input(), tmp_path)
    assert command in str(raised.value)
    assert not versions(tmp_path)


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
    """A file of the pruned model for each mode."""
    folder = tmp_path_factory.mktemp("litert")
    return {
        mode: klp.export.litert(
            result, folder / f"{index}.tflite", representative=reference(), **options
        )
        for index, (mode, (options, _)) in enumerate(MODES.items())
    }


@pytest.mark.parametrize("mode", MODES)
def test_litert_file_is_close_to_the_keras_model(mode, converted, result):
    x, y = digits()[1]
    expected = np.asarray(result.model(x[:400]))
    scores = LiteRTModel(converted[mode])(x[:400])
    assert scores.dtype == np.float32 and scores.shape == expected.shape
    assert np.abs(scores - expected).max() <= MODES[mode][1]
    found = klp.export.compare_litert(result, converted[mode], (x, y))
    assert found.agreement >= (0.98 if "int8" in MODES[mode][0].values() else 0.995)
    assert np.abs(found.litert - found.keras).max() <= 0.05
    assert found.keras.shape == (10,) and found.support.sum() == len(x)
    assert found.file_size == converted[mode].stat().st_size


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

    interpreter = Interpreter(str(converted[mode]))
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
    by_file = LiteRTModel(converted["int8, floats"])(x)
    for mode in ("int8", "uint8"):
        assert np.abs(LiteRTModel(converted[mode])(x) - by_file).max() <= 2 / 256


def test_batches_do_not_matter(converted):
    x = digits()[1][0][:10]
    expected = LiteRTModel(converted["float32"])(x, batch_size=1)
    for mode, size in (("float32", 4), ("float32", 100), ("float32, batch 3", 32)):
        np.testing.assert_allclose(
            LiteRTModel(converted[mode])(x, batch_size=size), expected, atol=1e-6
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
        LiteRTModel(converted["int8"], threads=0)
    with pytest.raises(ValueError, match=r"\(8, 8, 1\).*\(2, 9, 9, 1\)"):
        LiteRTModel(converted["int8"])(np.zeros((2, 9, 9, 1)))
    with pytest.raises(DataError, match="classes have no sample"):
        klp.export.compare_litert(model, converted["int8"], (SAMPLES[:2], [0, 1]))


@pytest.fixture
def files(tmp_path):
    """A model file, a folder of images, and an empty folder."""
    classifier().save(tmp_path / "model.keras")
    write_images(tmp_path / "data")
    (tmp_path / "out").mkdir()
    return tmp_path / "model.keras", tmp_path / "data", tmp_path / "out"


def test_command_writes_both(files, serve):
    file, data, out = files
    result = run(
        *("export", file, "--saved-model", out / "1", "--litert", out / "m.tflite"),
        *("--quantize", "int8", "--representative", data, "--test", data),
        *("--preprocess", "mobilenet", "--uint8-images", "--labels", "blue,green,red", "--warmup"),
    )
    assert result.exit_code == 0, result.output
    assert "Accuracy of each class" in result.stdout and "LiteRT" in result.stdout
    assert {request.inputs["inputs"].dtype for request in requests(out / "1")} == {
        tf.uint8.as_datatype_enum
    }
    x = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
    model = keras.models.load_model(file)
    expected = np.asarray(model(x / np.float32(127.5) - 1))
    found = serve(out / "1", x)["values"]
    np.testing.assert_allclose(found["scores"], expected, rtol=1e-4, atol=1e-5)
    names = ["blue", "green", "red"]
    assert found["labels"] == [names[best] for best in expected.argmax(axis=1)]
    assert np.abs(LiteRTModel(out / "m.tflite")(x / 127.5 - 1) - expected).max() < 0.1


def test_command_measures_on_all_test_images(files):
    """`--per-class` says how many are drawn to measure ranges on."""
    file, data, out = files
    result = run(
        *("export", file, "--litert", out / "m.tflite", "--preprocess", "unit"),
        *("--representative", data, "--per-class", "2", "--test", data),
    )
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    counts = {row[0]: row[1] for row in rows if row and row[0] in ("blue", "green", "red")}
    assert counts == dict.fromkeys(("blue", "green", "red"), "4")


def test_command_takes_the_folder_of_a_result(result, tmp_path, serve):
    result.save(tmp_path / "pruned")
    done = run("export", tmp_path / "pruned", "--saved-model", tmp_path / "1")
    assert done.exit_code == 0, done.output
    found = serve(tmp_path / "1", SAMPLES)["values"]["scores"]
    np.testing.assert_allclose(found, result.model(SAMPLES), rtol=1e-4, atol=1e-5)


BAD_COMMANDS = {
    "nothing": ([], "--saved-model, --litert or both"),
    "int8 alone": (["--litert", "m.tflite", "--quantize", "int8"], "needs --representative"),
    "unknown mode": (["--litert", "m.tflite", "--quantize", "int4"], "int4"),
    "no version": (["--saved-model", "model"], "version number"),
    "suffix": (["--saved-model", "1", "--litert", "m.bin"], ".tflite"),
    "warm-up alone": (["--saved-model", "1", "--warmup"], "--warmup needs --representative"),
    "test alone": (["--saved-model", "1", "--test", "data"], "--test is for --litert"),
    "labels": (["--saved-model", "1", "--labels", "a,b"], "2 labels for the 3 classes"),
}


@pytest.mark.parametrize("case", BAD_COMMANDS)
def test_bad_commands(case, files, monkeypatch):
    file, _, out = files
    monkeypatch.chdir(out)
    options, message = BAD_COMMANDS[case]
    assert_bad_input(run("export", file, *options), message)
    assert os.listdir(out) == []


def test_command_needs_a_file(tmp_path):
    assert_bad_input(run("export", "MobileNet", "--saved-model", tmp_path / "1"), "model file")
    help_text = run("export", "--help")
    assert help_text.exit_code == 0 and "--saved-model" in help_text.output


def test_signals_have_the_names_of_images(tmp_path, serve):
    entry = keras.Input((6, 2))
    model = keras.Model(entry, layers.Dense(3)(layers.Flatten()(layers.Conv1D(4, 3)(entry))))
    x = images(model, 3)
    found = serve(klp.export.saved_model(model, tmp_path / "1"), x)
    np.testing.assert_allclose(found["values"]["scores"], model(x), rtol=1e-4, atol=1e-5)
    assert found["inputs"] == {"inputs": [[None, 6, 2], "float32"]}


def test_the_grpc_client_of_the_docs(model, tmp_path):
    """Against a server that answers as TensorFlow Serving does, with its messages."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    folder = klp.export.saved_model(
        model, tmp_path / "1", preprocessing=PREPROCESSING["layer"], labels=NAMES
    )
    loaded = tf.saved_model.load(str(folder))

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            assert request.model_spec.name == "digits"
            signature = loaded.signatures[request.model_spec.signature_name]
            inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
            response = predict_pb2.PredictResponse()
            for key, value in signature(**inputs).items():
                response.outputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
            return response

    namespace = {"tf": tf, "images": AS_UINT8}
    for name in ("make_request", "ask_grpc"):
        exec(block_with(f"def {name}("), namespace)
    server = grpc.server(ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        found = namespace["ask_grpc"](AS_UINT8, f"localhost:{port}")
    finally:
        server.stop(0).wait()
    expected = np.asarray(model(AS_UINT8 / np.float32(16)))
    np.testing.assert_allclose(found["scores"], expected, rtol=1e-4, atol=1e-5)
    assert [label.decode() for label in found["labels"]] == [
        NAMES[best] for best in expected.argmax(axis=1)
    ]


def block_with(text):
    """The block of code in the docs that has this in it."""
    blocks = (DOCS / "deploy.md").read_text().split("```")
    (block,) = [part for part in blocks if part.startswith("python\n") and text in part]
    return block.removeprefix("python\n")
