"""The demo: a digits classifier that loses half of its filters, and hardly any accuracy.

No download: scikit-learn's handwritten digits, a small CNN trained in seconds.

Two things keep the accuracy: the choice of filters, and the refit of what is left. The result has
both. But a network as small as this one is refitted so well that the choice hardly matters. So its
effect is shown apart, with all weights left as they are.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from keras_lrp_prune.children import command, environment
from keras_lrp_prune.comparison import MethodCurve, accuracy_curve
from keras_lrp_prune.cost import file_size, latency
from keras_lrp_prune.display_names import printable
from keras_lrp_prune.files import check_writable, formed, new_file, new_folder, read_json
from keras_lrp_prune.graph.model_files import digest
from keras_lrp_prune.pruning import PruningResult, prune
from keras_lrp_prune.report import (
    before_after_table,
    class_table,
    comparison_table,
    plot_curves,
    print_table,
)

if TYPE_CHECKING:
    import keras

    Samples = tuple[np.ndarray, np.ndarray]

_RATE = 0.5
_PER_CLASS = 20
_EPOCHS = 25
_WIDTHS = (48, 96, 192)
_SAVED_MODEL = Path("saved_model", "1")
_CHOICES = "choices.png"
_FILES = ("model.keras", "result.json", "curve.png", _CHOICES)
# How filters are chosen, to the method that does it.
_METHODS = {"by relevance": "accuracy-aware", "in random order": "random"}
_RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_FROZEN = "weights left as they are"
# Lists what an earlier demo made in the folder, with checksums: only that is replaced.
_MADE = "demo.json"

# Runs without this package: a pruned model needs nothing but Keras or TensorFlow.
_CHECK = """
sys.modules["keras_lrp_prune"] = None
import keras, numpy as np, tensorflow as tf
folder = sys.argv[1]
x, expected = np.load(folder + "/x.npy"), np.load(folder + "/expected.npy")
saved_model = tf.saved_model.load(sys.argv[3])
outputs = {
    "model.keras": keras.models.load_model(sys.argv[2]).predict(x, verbose=0),
    "SavedModel": saved_model.serve(x).numpy(),
}
for name, output in outputs.items():
    difference = abs(output - expected).max()
    print(f"{name} reloaded in a fresh process: largest difference {difference:.1e}")
    if not difference < 1e-5:
        sys.exit(1)
"""


def run_demo(out: str | os.PathLike[str] = "demo_output", seed: int = 0) -> PruningResult:
    """Trains, prunes, compares the choice of filters with a random one, and writes to a folder.

    Files of an earlier demo are replaced, but no file that the demo did not make, or that has been
    changed since.

    Args:
        out: Folder for the curves, the pruned `.keras` file and the SavedModel.
        seed: Of the split, the training and the random order.

    Returns:
        What `prune` returned.

    Raises:
        FileExistsError: If `out` has files of these names that the demo did not make.
        OSError: If `out` cannot be written.
        RuntimeError: If a reloaded model predicts something else.
    """
    folder = Path(out)
    check_writable(folder)
    _check_own(folder)
    console = Console()
    train, reference, held_out = digits(seed)
    console.print(f"Training a CNN on {len(train[1])} digits ...")
    model = train_classifier(train, seed)
    console.print(
        f"Pruning {_RATE:.0%} of its filters with {_PER_CLASS} reference images per class ..."
    )
    result = prune(model, reference, _RATE, validation=held_out, seed=seed)
    console.print(f"Choosing them {' and '.join(_METHODS)}, {_FROZEN} ...")
    choices = compared_choices(model, reference, held_out, seed)
    # Saved before anything is printed that could fail.
    result.save(folder)
    title = f"Which filters go: held-out digits, {_FROZEN}"
    plot_curves(choices, folder / _CHOICES, kind="harmonic", title=title)
    _export(result.model, folder / _SAVED_MODEL)
    with new_file(folder / _MADE) as file:
        file.write(json.dumps({name: digest(folder / name) for name in _present(folder)}).encode())
    _print_result(model, result, held_out[0])
    _print_choices(choices)
    console.print(_check_reloaded(result.model, folder, held_out[0]))
    print(printable(f"Written to {folder}: {', '.join(_FILES)}, {_SAVED_MODEL}"))
    return result


def digits(seed: int) -> tuple[Samples, Samples, Samples]:
    """Scikit-learn's handwritten digits, 8x8, in [0, 1].

    Args:
        seed: Of the split.

    Returns:
        Training samples (60 %), the reference set drawn from them, and held-out samples.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    from keras_lrp_prune.data import draw_per_class

    data = load_digits()
    x = (data.images / 16).astype(np.float32)[..., None]
    x_train, x_held, y_train, y_held = train_test_split(
        x, data.target, test_size=0.4, stratify=data.target, random_state=seed
    )
    chosen, _ = draw_per_class(y_train, _PER_CLASS, seed)
    return (x_train, y_train), (x_train[chosen], y_train[chosen]), (x_held, y_held)


def train_classifier(samples: Samples, seed: int) -> keras.Model:
    """Trains a small CNN with more filters than the task needs; takes seconds.

    Args:
        samples: Images `(n, 8, 8, 1)` and their classes.
        seed: Of the initial weights, the order of the samples and the dropout.

    Returns:
        The trained model.
    """
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(seed)
    blocks: list[Any] = []
    for number, width in enumerate(_WIDTHS, 1):
        blocks += [
            layers.Conv2D(
                width,
                3,
                padding="same",
                activation="relu",
                kernel_regularizer=keras.regularizers.L2(1e-3),
                name=f"conv{number}",
            ),
            layers.SpatialDropout2D(0.3),
        ]
        if number < len(_WIDTHS):
            blocks.append(layers.MaxPooling2D())
    head = [layers.GlobalAveragePooling2D(), layers.Dense(10, activation="softmax", name="digit")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *blocks, *head], name="digits")
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    model.fit(*samples, batch_size=32, epochs=_EPOCHS, verbose=0)
    # Without the optimizer, whose state would count in the file size.
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def compared_choices(
    model: keras.Model, reference: Samples, held_out: Samples, seed: int
) -> Mapping[str, MethodCurve]:
    """Accuracy over the pruning rate by the choice of filters alone: by relevance, and at random.

    Nothing is refitted.

    Args:
        model: A classifier.
        reference: What decides.
        held_out: What measures.
        seed: Of the random order.

    Returns:
        A curve for each way to choose.
    """
    return {
        how: accuracy_curve(model, reference, held_out, method, _RATES, recovery=None, seed=seed)
        for how, method in _METHODS.items()
    }


def _print_result(model: keras.Model, result: PruningResult, x: np.ndarray) -> None:
    """Prints what pruning did, and what the models cost on this machine."""
    models, costs = (model, result.model), (result.cost_before, result.cost_after)
    reports = result.validation or {}
    before, after = reports["before"], reports["after"]
    rows = [
        (
            "Harmonic mean accuracy, held out",
            *(f"{report['harmonic_mean']:.1%}" for report in (before, after)),
        ),
        ("Filters", *(cost.filters for cost in costs)),
        ("Parameters", *(cost.parameters for cost in costs)),
        ("FLOPs per image", *(cost.flops for cost in costs)),
        ("File size", *(f"{file_size(each) / 1024:.0f} KiB" for each in models)),
        ("Latency per image, batch 1", *(f"{latency(each, x[:1]):.2f} ms" for each in models)),
        ("Latency per image, batch 32", *(f"{latency(each, x[:32]):.3f} ms" for each in models)),
    ]
    print_table(
        before_after_table(rows, title=f"Pruning rate {result.rate:.1%}, what is left refitted"),
        class_table(
            [f"digit {number}" for number in range(10)],
            before["recall"],
            after["recall"],
            support=after["support"],
            title="Accuracy of each class, held out (%)",
        ),
    )


def _print_choices(choices: Mapping[str, MethodCurve]) -> None:
    """Prints how far the choice of filters alone goes, by each way to choose."""
    figures = {
        how: {
            f"{rate:.0%}": [100 * value]
            for rate, value in zip(curve.rates, curve.harmonic(), strict=True)
        }
        for how, curve in choices.items()
    }
    title = f"Harmonic mean, held out (%), over the pruning rate, {_FROZEN}"
    print_table(comparison_table(figures, title=title))


def _export(model: keras.Model, folder: Path) -> None:
    """Writes a SavedModel, whole or not at all, in the place of an earlier demo's."""
    with new_folder(folder) as new:
        with contextlib.redirect_stdout(io.StringIO()):  # Keras 3.5 has no verbose= yet
            model.export(str(new))
        shutil.rmtree(folder, ignore_errors=True)


def _present(folder: Path) -> list[str]:
    """The files in a folder that have the names of the demo's."""
    paths = [folder / name for name in _FILES]
    paths += [path for path in (folder / _SAVED_MODEL).rglob("*") if not path.is_dir()]
    return [str(path.relative_to(folder)) for path in paths if os.path.lexists(path)]


def _check_own(folder: Path) -> None:
    """Checks that the demo would replace only files that it made.

    Raises:
        FileExistsError: If not; the message names a file.
    """
    try:
        made = formed(read_json(folder / _MADE), dict[str, str])
    except (OSError, ValueError):
        made = {}
    for name in _present(folder):
        path = folder / name
        if path.is_symlink() or not path.is_file() or made.get(name) != digest(path):
            raise FileExistsError(
                f"{str(path)!r} was not made by the demo, or has been changed since, and is left "
                "as it is; choose another output folder."
            )


def _check_reloaded(model: keras.Model, folder: Path, x: np.ndarray) -> str:
    """Lets a fresh process load both files and compare its predictions with the model's."""
    with tempfile.TemporaryDirectory() as temporary:
        np.save(Path(temporary, "x.npy"), x)
        np.save(Path(temporary, "expected.npy"), model.predict(x, verbose=0))
        arguments = [temporary, folder / "model.keras", folder / _SAVED_MODEL]
        done = subprocess.run(
            command(_CHECK, list(map(str, arguments))),
            capture_output=True,
            text=True,
            env=environment(),
        )
    if done.returncode:
        raise RuntimeError(f"The reloaded models differ:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()
