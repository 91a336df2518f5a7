"""SavedModel versions: they compute what the Keras model does, and servers can read them."""

import os
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from exports import AS_UINT8, NAMES, SAMPLES, requests, two_outputs, versions, with_list_input
from keras import layers
from models import images, same_weights
from places import DOCS

import keras_lrp_prune as klp
from keras_lrp_prune.data import DataError
from keras_lrp_prune.export.litert_model import LiteRTModel
from keras_lrp_prune.graph.model_graph import UnsupportedModelError


def legacy():
    kit = tf_keras.layers
    tf_keras.utils.set_random_seed(0)
    stack = [kit.Input((8, 8, 1)), kit.Conv2D(4, 3), kit.Flatten(), kit.Dense(10)]
    return tf_keras.Sequential(stack)


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


def test_the_users_model_stays(model, tmp_path):
    weights, config = model.get_weights(), model.to_json()
    optimizer = model.optimizer
    klp.export.saved_model(model, tmp_path / "1", labels=NAMES, warmup=SAMPLES)
    klp.export.litert(model, tmp_path / "m.tflite", quantize="int8", representative=SAMPLES)
    assert same_weights(weights, model.get_weights())
    assert model.to_json() == config and model.optimizer is optimizer


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
