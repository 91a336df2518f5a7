"""Times LRP side by side: this package's native engine, iNNvestigate, and zennit in PyTorch.

VGG16, ResNet50 and MobileNet at 224x224 with ten classes, random but live weights, one batch of
images; beside them a forward pass and the gradient of the class score with respect to all
activations. All contestants take turns in each round. Their relevances are compared too.

zennit and PyTorch are no dependencies of this package; install them, and iNNvestigate, with

    pip install zennit torch
    pip install --no-deps --ignore-requires-python innvestigate==2.1.2 future

Run it from the root of the repository: python examples/benchmarks/relevance.py --write-docs. It
needs about 13 GiB of memory and a quarter of an hour on 2 idle cores (PyTorch's threads wait for
each other: beside other work, zennit loses most), and writes docs/speed.md. Where TensorFlow sees a
GPU, everything but iNNvestigate is measured there as well.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import relevance_page as page
import tensorflow as tf
from relevance_page import Row, Timing

from keras_lrp_prune.graph.model_graph import ModelGraph, TensorRef, references
from keras_lrp_prune.graph.plain import to_plain
from keras_lrp_prune.graph.reader import read_model
from keras_lrp_prune.relevance.canonical import canonize, strip_softmax
from keras_lrp_prune.relevance.innvestigate_engine import InnvestigateEngine
from keras_lrp_prune.relevance.native import rules
from keras_lrp_prune.relevance.native.composites import Composite, anything, is_dense, reads_input
from keras_lrp_prune.relevance.native.engine import NativeEngine
from keras_lrp_prune.relevance.wire import receive, send
from keras_lrp_prune.surgery.builder import Built, build
from keras_lrp_prune.surgery.kept import Kept

ZENNIT = Path(__file__).with_name("relevance_zennit.py")
MODELS = ("VGG16", "ResNet50", "MobileNet")
CLASSES = 10
Sums = dict[str, np.ndarray]
Work = Callable[[], Sums]


@dataclass(frozen=True)
class Analysis:
    """An analyzer in each library's terms.

    Args:
        name: What both engines of this package call it.
        goal: How many gradient passes it may cost.
        biasless: The same with alpha-beta rules that ignore the bias: there all agree.
        zennit: Its rules, and their arguments, for convolutions, dense layers and, where it
            differs, the first layer.
    """

    name: str
    goal: float
    biasless: str | Composite
    zennit: Mapping[str, tuple[str, dict[str, Any]]]

    def zennit_biasless(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Zennit's rules, those of the alpha-beta kind without biases and (nearly) stabiliser."""
        other = {"zero_params": "bias", "stabilizer": TINY}
        return {
            place: (rule, {**given, **other} if rule in ("AlphaBeta", "ZPlus") else given)
            for place, (rule, given) in self.zennit.items()
        }


STABILIZER = 1e-6  # zennit's default
TINY = 1e-12
_TENTH, _A, _B = (
    ("Epsilon", {"epsilon": 0.1}),
    ("ZPlus", {}),
    ("AlphaBeta", {"alpha": 2, "beta": 1}),
)
_A_IB, _B_IB = (rules.alpha_beta(beta + 1, beta, bias=False) for beta in (0, 1))
_DENSE = (is_dense, rules.epsilon(0.1))


def _everywhere(rule: tuple[str, dict[str, Any]]) -> dict[str, tuple[str, dict[str, Any]]]:
    return {"convolution": rule, "dense": rule}


ANALYSES = (
    Analysis("lrp.z", 2, "lrp.z", _everywhere(("Epsilon", {"epsilon": TINY}))),
    Analysis("lrp.epsilon", 2, "lrp.epsilon", _everywhere(("Epsilon", {"epsilon": 1e-7}))),
    Analysis("lrp.alpha_1_beta_0", 3.5, "lrp.alpha_1_beta_0_IB", _everywhere(_A)),
    Analysis("lrp.alpha_2_beta_1", 3.5, "lrp.alpha_2_beta_1_IB", _everywhere(_B)),
    Analysis(
        "lrp.sequential_preset_a",
        3.5,
        Composite((_DENSE, (anything, _A_IB))),
        {"convolution": _A, "dense": _TENTH},
    ),
    Analysis(
        "lrp.sequential_preset_b_flat",
        3.5,
        Composite(((reads_input, rules.flat), _DENSE, (anything, _B_IB))),
        {"convolution": _B, "dense": _TENTH, "first": ("Flat", {})},
    ),
)


class ZennitProcess:
    """Zennit on a canonical graph, in a process of its own.

    Args:
        graph: The canonical graph.
        device: `"cpu"` or `"cuda"`.
    """

    def __init__(self, graph: ModelGraph, device: str) -> None:
        root = str(Path(__file__).parents[2])
        self._process = subprocess.Popen(
            [sys.executable, ZENNIT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path[1:]])},
        )
        plain, arrays = to_plain(graph)
        self._ask({"graph": plain, "threads": page.cores(), "device": device}, arrays)

    def compose(self, rules: Mapping[str, Any], stabilizer: float) -> None:
        """Puts these rules on the layers; sums and pooling get the stabiliser."""
        self._ask({"do": "compose", "rules": rules, "stabilizer": stabilizer})

    def scores(self, x: np.ndarray) -> np.ndarray:
        """The class scores."""
        return self._ask({"do": "scores"}, {"x": x})["scores"]

    def relevance(self, x: np.ndarray, y: np.ndarray) -> Sums:
        """Relevance summed over space and class, by layer, and of the input as `"input"`."""
        return self._ask({"do": "relevance"}, {"x": x, "y": y})

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _ask(self, message: Mapping[str, Any], arrays: Mapping[str, Any] | None = None) -> Sums:
        send(self._process.stdin, message, arrays)
        return receive(self._process.stdout)[1]


@dataclass(frozen=True)
class Setting:
    """What is explained, and where: the model as it is, canonical, in Keras and in PyTorch."""

    name: str
    model: ModelGraph
    graph: ModelGraph
    built: Built
    x: np.ndarray
    y: np.ndarray
    device: str
    zennit: ZennitProcess | None

    @property
    def scores(self) -> TensorRef:
        """The class scores in the canonical graph."""
        return next(references(self.graph.outputs))


def live_model(name: str) -> keras.Model:
    """A model with random weights whose activations have sane sizes in every layer."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    values = {
        "kernel": lambda shape, fan_in: rng.normal(0, np.sqrt(2 / fan_in), shape),
        "bias": lambda shape, _: rng.normal(0, 0.1, shape),
        "gamma": lambda shape, _: rng.uniform(0.5, 1.5, shape),
        "beta": lambda shape, _: rng.normal(0, 0.3, shape),
    }
    model = getattr(keras.applications, name)(weights=None, classes=CLASSES)
    norms = [it for it in model.layers if isinstance(it, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for layer in model.layers:
        reads = slice(-2 if isinstance(layer, keras.layers.DepthwiseConv2D) else -1)
        for weight in layer.weights:
            if weight.name in values:
                fan_in = np.prod(weight.shape[reads])
                weight.assign(values[weight.name](weight.shape, fan_in))
    for norm in norms:
        norm.momentum = 0.0  # its statistics are those of the next batch
    tf.function(partial(model, training=True))(images(8, model))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model


def images(count: int, model: keras.Model, seed: int = 0) -> np.ndarray:
    """Smooth random images with values around those of preprocessed photographs."""
    size = model.input_shape[1:3]
    coarse = np.random.default_rng(seed).uniform(-1, 1, (count, 14, 14, 3))
    return tf.image.resize(coarse, size, "bicubic").numpy().astype(np.float32)


def by_class(values: Any, y: Any, n_classes: int) -> Any:
    """Sums over space and over the samples of each class, as engines return them."""
    axes = list(range(1, len(values.shape) - 1))
    per_sample = tf.reduce_sum(values, axes) if axes else values
    return tf.math.unsorted_segment_sum(per_sample, y, n_classes)


@contextmanager
def forward(setting: Setting, analysis: Analysis) -> Iterator[Work]:
    """A compiled forward pass of the canonical graph, to the class scores."""
    call = tf.function(partial(setting.built.model, training=False))
    yield lambda: {"scores": call(setting.x).numpy()}


@contextmanager
def gradient(setting: Setting, analysis: Analysis) -> Iterator[Work]:
    """The compiled gradient of the class scores by all activations, reduced as relevance is."""
    tensors = setting.built.tensors
    weighted = {node.name: node.layer.name for node in setting.graph.nodes if node.layer.weights}
    taps = keras.Model(
        setting.built.model.inputs,
        [tensors[setting.scores], *(tensors[TensorRef(name)] for name in weighted)],
    )

    @tf.function(autograph=False)
    def call(x: Any, y: Any) -> list[Any]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            scores, *values = taps(x, training=False)
            score = tf.reduce_sum(tf.gather(scores, y, batch_dims=1))
        n_classes = scores.shape[-1]
        return [by_class(part, y, n_classes) for part in tape.gradient(score, values)]

    def work() -> Sums:
        sums = call(tf.constant(setting.x), tf.constant(setting.y))
        return {name: part.numpy() for name, part in zip(weighted.values(), sums, strict=True)}

    yield work


@contextmanager
def native(setting: Setting, analysis: Analysis) -> Iterator[Work]:
    """This package's native engine."""
    with NativeEngine(setting.model, analysis.name) as engine:
        yield lambda: engine.filter_relevance(setting.x, setting.y)


@contextmanager
def innvestigate(setting: Setting, analysis: Analysis) -> Iterator[Work]:
    """INNvestigate, in this package's worker process."""
    with InnvestigateEngine(setting.model, analysis.name) as engine:
        yield lambda: engine.filter_relevance(setting.x, setting.y)


@contextmanager
def zennit(setting: Setting, analysis: Analysis) -> Iterator[Work]:
    """Zennit's rules on the canonical graph in PyTorch."""
    setting.zennit.compose(analysis.zennit, STABILIZER)
    yield lambda: setting.zennit.relevance(setting.x, setting.y)


CONTESTANTS = {
    "forward": forward,
    "gradient": gradient,
    "native": native,
    "innvestigate": innvestigate,
    "zennit": zennit,
}


def measure(setting: Setting, analysis: Analysis, options: argparse.Namespace) -> Row:
    """Times all contestants for one analyzer, in turn."""
    # iNNvestigate's worker computes on the CPU.
    without = [*options.without, *["innvestigate"] * ("GPU" in setting.device)]
    names = [name for name in CONTESTANTS if name not in without]
    first, results, works = {}, {}, {}
    with ExitStack() as stack:
        stack.enter_context(tf.device(setting.device))
        for name in names:
            start = time.perf_counter()
            works[name] = stack.enter_context(CONTESTANTS[name](setting, analysis))
            results[name] = works[name]()
            first[name] = time.perf_counter() - start
        later = {name: [] for name in names}
        for _ in range(options.rounds):
            for name, work in works.items():
                gc.collect()
                start = time.perf_counter()
                work()
                later[name].append(time.perf_counter() - start)
        differences = {
            name: compare(results["native"], results[name])
            for name in ("innvestigate", "zennit")
            if name in names
        }
        if "zennit" in names:
            differences["zennit, same rules"] = biasless_difference(setting, analysis)
    timings = {name: Timing(first[name], tuple(later[name])) for name in names}
    return Row(setting.name, setting.device, analysis.name, analysis.goal, timings, differences)


def compare(ours: Sums, theirs: Sums) -> dict[str, float]:
    """Layer to the largest absolute difference over the largest absolute value."""
    return {
        name: float(abs(theirs[name] - values).max() / abs(values).max())
        for name, values in ours.items()
    }


def biasless_difference(setting: Setting, analysis: Analysis) -> dict[str, float]:
    """Compares native and zennit where their rules are the same, input relevance included."""
    with NativeEngine(setting.model, analysis.biasless) as engine:
        ours = engine.filter_relevance(setting.x, setting.y)
        ours["input"] = engine.input_relevance(setting.x, setting.y)
    setting.zennit.compose(analysis.zennit_biasless(), TINY)
    return compare(ours, setting.zennit.relevance(setting.x, setting.y))


@contextmanager
def prepared(name: str, device: str, options: argparse.Namespace) -> Iterator[Setting]:
    """A live model and a batch, each image explained for its highest score."""
    model = live_model(name)
    x = images(options.batch, model, seed=1)
    scores = model(x, training=False).numpy()
    graph = strip_softmax(canonize(read_model(model)))
    with tf.device(device):
        built = build(graph, Kept(), keras)
    with ExitStack() as stack:
        process = None
        if "zennit" not in options.without:
            process = ZennitProcess(graph, "cuda" if "GPU" in device else "cpu")
            stack.enter_context(closing(process))
            theirs = keras.ops.softmax(process.scores(x))
            np.testing.assert_allclose(theirs, scores, atol=1e-4, err_msg=f"{name} in PyTorch")
        yield Setting(name, read_model(model), graph, built, x, scores.argmax(-1), device, process)


def parse() -> argparse.Namespace:
    """The options; ends with a message where something is missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    names = [analysis.name for analysis in ANALYSES]
    parser.add_argument("--analyzers", nargs="+", default=names, choices=names)
    parser.add_argument("--batch", type=int, default=2, help="images a call")
    parser.add_argument("--rounds", type=int, default=7)
    optional = ("innvestigate", "zennit")
    parser.add_argument("--without", nargs="+", default=[], choices=optional)
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--write-docs", action="store_true", help=f"write {page.PATH.name}")
    options = parser.parse_args()
    if "zennit" not in options.without and not (find_spec("zennit") and find_spec("torch")):
        sys.exit("zennit is missing: pip install zennit torch (or go on with --without zennit)")
    if options.write_docs and options.without:
        parser.error("--write-docs needs all contestants")
    return options


def main() -> None:
    """Measures, and prints or writes the tables."""
    options = parse()
    tf.config.threading.set_intra_op_parallelism_threads(page.cores())
    devices = ["CPU:0"] + ["GPU:0"] * bool(tf.config.list_physical_devices("GPU"))
    analyses = [analysis for analysis in ANALYSES if analysis.name in options.analyzers]
    groups = []
    for device in devices:
        for name in options.models:
            with prepared(name, device, options) as setting:
                groups.append([measure(setting, analysis, options) for analysis in analyses])
            print(page.section(groups[-1]), flush=True)
            keras.utils.clear_session()
    found = page.environment(options.batch, options.rounds)
    if options.json:
        results = {**found, "rows": [asdict(row) for group in groups for row in group]}
        options.json.write_text(json.dumps(results, indent=1))
    if options.write_docs:
        page.write(found, groups)


if __name__ == "__main__":
    main()
