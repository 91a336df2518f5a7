"""Runs another commit and the working tree side by side, and says whether they do the same.

    python tests/golden_runs.py                 # the working tree against HEAD
    python tests/golden_runs.py --commit HEAD~3 --runs default budgets

For changes of the inside that must change no result. Each run of `RUNS` goes through the public
API alone, on networks that are trained once; kept filters, histories, accuracies and the weights of
the pruned models have to be the same, bit for bit; a setting that only the working tree has is no
difference. Two minutes for each side. Exits with 1 where something differs.
"""

from __future__ import annotations

import _thread
import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from golden_networks import digits, make_networks, reference

TREE = Path(__file__).resolve().parents[1]


# --- Runs ---


@dataclasses.dataclass(frozen=True)
class Side:
    """What a run has: the package of one side, the networks, and a folder of its own."""

    klp: Any
    networks: Path
    folder: Path

    def network(self, name: str) -> Any:
        """One of the trained networks."""
        import keras

        return keras.models.load_model(self.networks / f"{name}.keras")

    def prune(self, name: str, rate: float | None = 0.5, **options: Any) -> dict[str, Any]:
        """What `prune` does to a network."""
        return facts(
            self.klp.prune(
                self.network(name), reference(), rate, validation=digits()[1], verbose=0, **options
            )
        )


def facts(result: Any) -> dict[str, Any]:
    """Everything that a result of pruning says, and its weights."""
    return {
        "kept": {name: list(map(int, kept)) for name, kept in result.kept.items()},
        "history": [dataclasses.asdict(step) for step in result.history],
        "costs": [str(result.cost_before), str(result.cost_after)],
        "reference": result.reference,
        "validation": result.validation,
        "rate": result.rate,
        "stopped": result.stopped,
        "protected": dict(result.protected),
        "settings": dict(result.settings),
        "weights": weights(result.model),
    }


def weights(model: Any) -> list[str]:
    """What tells whether any bit of any weight differs."""
    return [hashlib.sha256(np.asarray(it).tobytes()).hexdigest()[:16] for it in model.weights]


def decay(klp: Any) -> Any:
    """A schedule of TensorFlow Model Optimization."""
    _ = klp.schedules.AccuracyAware  # imports TFMOT such that `tf.keras` stays what it is
    from tensorflow_model_optimization.sparsity.keras import PolynomialDecay

    return PolynomialDecay(0.0, 0.5, begin_step=0, end_step=6, frequency=1)


def default(side: Side) -> dict[str, Any]:
    return side.prune("residual")


def frozen_weights(side: Side) -> dict[str, Any]:
    return side.prune("plain", 0.6, recovery=None)


def frozen_base(side: Side) -> dict[str, Any]:
    return side.prune("mobile")


def head(side: Side) -> dict[str, Any]:
    return side.prune("residual", recovery="head")


def head_and_layers(side: Side) -> dict[str, Any]:
    return side.prune("mobile", recovery="head+least_squares")


def innvestigate(side: Side) -> dict[str, Any]:
    options = {"criterion": "lrp.sequential_preset_a", "engine": "innvestigate"}
    return side.prune("plain", 0.4, **options)


def lrp_with_options(side: Side) -> dict[str, Any]:
    options = {"criterion": "lrp.alpha_beta", "analyzer_options": {"alpha": 3, "beta": 2}}
    return side.prune("residual", 0.4, engine="native", **options)


def other_criteria(side: Side) -> dict[str, Any]:
    names = ("taylor", "activation", "pxp", "l1", "l2", "random")
    return {name: side.prune("plain", 0.4, criterion=name, recovery=None) for name in names}


def published_control(side: Side) -> dict[str, Any]:
    asked = {"order": "uniform", "rate": "adaptive", "pool": 0, "trials": False, "tolerance": 0.0}
    schedule = side.klp.schedules.AccuracyAware(**asked)
    return side.prune("residual", schedule=schedule, recovery=None)


def floor(side: Side) -> dict[str, Any]:
    return side.prune("plain", None, min_accuracy=0.8, recovery=None)


def budgets(side: Side) -> dict[str, Any]:
    asked = ({"flops": 0.5}, {"params": 0.4, "energy": 0.6})
    return {str(budget): side.prune("residual", None, budget=budget) for budget in asked}


def limits(side: Side) -> dict[str, Any]:
    return side.prune("residual", 0.3, protect=["stem"], min_channels=4, round_to=4)


def schedule_of_tfmot(side: Side) -> dict[str, Any]:
    return side.prune("plain", None, schedule=decay(side.klp))


def resumed(side: Side) -> dict[str, Any]:
    """A run that is interrupted when all is traced and some steps are saved, and goes on."""
    folder = side.folder / "checkpoint"

    def interrupt() -> None:
        writes: set[int] = set()
        while len(writes) < 4:
            writes |= {path.stat().st_mtime_ns for path in folder.glob("*.npz")}
            time.sleep(0.001)
        _thread.interrupt_main()

    threading.Thread(target=interrupt, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        side.prune("residual", 0.6, checkpoint_dir=folder)
        raise AssertionError("the run was not interrupted")
    return side.prune("residual", 0.6, checkpoint_dir=folder)


def two_replicas(side: Side) -> dict[str, Any]:
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    return side.prune("residual", 0.4, strategy=strategy, batch_size=30)


def during_fit(side: Side, schedule: Any) -> dict[str, Any]:
    import keras

    keras.utils.set_random_seed(0)
    model = side.network("residual")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.001, momentum=0.9), loss)
    pruning = side.klp.callbacks.FilterPruning(reference(), schedule, validation=digits()[1])
    (x, y), _ = digits()
    fitted = model.fit(x[:320], y[:320], epochs=2, batch_size=32, verbose=0, callbacks=[pruning])
    return {
        "logs": fitted.history,
        "history": [dataclasses.asdict(step) for step in pruning.history],
        "trained": weights(model),
        "pruned": weights(pruning.pruned_model()),
    }


def training(side: Side) -> dict[str, Any]:
    asked = {"final_sparsity": 0.4, "begin_step": 2, "frequency": 2}
    return during_fit(side, side.klp.schedules.AccuracyAware(**asked))


def training_by_tfmot(side: Side) -> dict[str, Any]:
    return during_fit(side, decay(side.klp))


def cycles(side: Side) -> dict[str, Any]:
    import keras

    keras.utils.set_random_seed(0)
    (x, y), _ = digits()
    result = side.klp.prune_and_finetune(
        side.network("plain"),
        reference(),
        (x[:320], y[:320]),
        0.5,
        cycles=2,
        tune_options={"epochs": 2},
        verbose=0,
    )
    return {"weights": weights(result.model), "rate": result.rate}


def side_by_side(side: Side) -> dict[str, Any]:
    found = {}
    for method in side.klp.METHODS:
        curve = side.klp.accuracy_curve(
            side.network("plain"), reference(), digits()[1], method=method, rates=[0, 0.3, 0.6]
        )
        found[method] = curve.class_accuracy.tolist()
    return found


def attribution(side: Side) -> dict[str, Any]:
    model, (x, y) = side.network("mobile"), reference()
    found: dict[str, Any] = {}
    for analyzer in ("lrp.z", "lrp.epsilon", "lrp.sequential_preset_b_flat"):
        filters = side.klp.filter_relevance(model, x, y, analyzer=analyzer, engine="native")
        inputs = side.klp.input_relevance(model, x, y, analyzer=analyzer, engine="native")
        found[analyzer] = {name: values.tolist() for name, values in filters.items()}
        found[f"{analyzer}, input"] = inputs.tolist()
    found["groups"] = [str(group) for group in side.klp.find_channel_groups(model)]
    small = side.klp.delete_channels(model, {"base/conv_1": [0, 3, 5]})
    found["without channels"] = weights(small)
    return found


RUNS: dict[str, Callable[[Side], dict[str, Any]]] = {
    run.__name__.replace("_", "-"): run
    for run in (
        *(default, frozen_weights, frozen_base, head, head_and_layers, innvestigate),
        *(lrp_with_options, other_criteria, published_control, floor, budgets, limits),
        *(schedule_of_tfmot, resumed, two_replicas, training, training_by_tfmot, cycles),
        *(side_by_side, attribution),
    )
}


def run_side(networks: Path, folder: Path, names: list[str]) -> None:
    """Does the runs with the package that can be imported, and writes what each found."""
    import tensorflow as tf

    import keras_lrp_prune as klp

    (cpu,) = tf.config.list_physical_devices("CPU")
    devices = [tf.config.LogicalDeviceConfiguration() for _ in range(2)]
    tf.config.set_logical_device_configuration(cpu, devices)
    for name in names:
        start = time.perf_counter()
        own = folder / name
        own.mkdir()
        try:
            found = RUNS[name](Side(klp, networks, own))
        except Exception:  # what it raises is what this run found; both sides are reported
            found = {"error": traceback.format_exc()}
        text = json.dumps(found, default=str)
        (folder / f"{name}.json").write_text(text.replace(str(folder), "FOLDER"))
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)


# --- Both sides ---


def child(tree: Path | None, *arguments: Any) -> None:
    """This script in a process of its own, with the package of a tree."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    environment = {**os.environ, **quiet, **({"PYTHONPATH": str(tree)} if tree else {})}
    command = [sys.executable, "-W", "ignore", __file__, *map(str, arguments)]
    subprocess.run(command, env=environment, check=True)


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """What differs between two JSON values, by its place; keys that are new differ in nothing."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one:
            if key in other:
                yield from differences(one[key], other[key], f"{where}/{key}")
            else:
                yield f"{where}/{key}: gone"
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{where}/{index}")
    elif json.dumps(one) != json.dumps(other):
        yield f"{where}: {str(one)[:60]} | {str(other)[:60]}"


def compare_sides(commit: str, names: list[str], work: Path) -> int:
    """Prints for each run whether both sides found the same; returns how many did not."""
    for name in ("networks", "before", "after"):
        (work / name).mkdir()
    git = ["git", "-C", str(TREE)]
    subprocess.run([*git, "worktree", "add", "--detach", work / "tree", commit], check=True)
    try:
        child(None, "--train", work / "networks")
        for side, tree in (("before", work / "tree"), ("after", TREE)):
            print(f"--- {side}", flush=True)
            child(tree, "--side", work / "networks", work / side, "--runs", *names)
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", work / "tree"], check=True)
    failed = 0
    for name in names:
        texts = [(work / side / f"{name}.json").read_text() for side in ("before", "after")]
        before, after = map(json.loads, texts)
        found = list(differences(before, after))
        found += [it["error"] for it in (before, after) if "error" in it]
        failed += bool(found)
        print(f"{name}: {f'{len(found)} differences' if found else 'the same'}")
        for line in found[:5]:
            print(f"    {line}")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--commit", default="HEAD", help="what to compare the working tree with")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        make_networks(options.train)
    elif options.side:
        run_side(*options.side, options.runs)
    else:
        with tempfile.TemporaryDirectory() as work:
            sys.exit(bool(compare_sides(options.commit, options.runs, Path(work))))


if __name__ == "__main__":
    main()
