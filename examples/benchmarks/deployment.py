"""What half of the FLOPs brings outside Python: latency, file sizes and accuracy, side by side.

    python examples/benchmarks/deployment.py --data DATA --out runs/

DATA holds `mobilenet_0.75_imagenet_notop.h5` and `flowers/` (train/ and val/, a folder for each
class), `vgg16_cifar10.h5` and `cifar10.tfrecord`. Each network is pruned to half of its FLOPs with
a few training images, as it is and in widths of multiples of 8, and written as a SavedModel and as
LiteRT files in float32, with dynamic range and in int8. Latencies are measured in rounds, in each
of which all models of a form follow each other; accuracies on test images. What was found for a
network is kept in `--out`, and replaced by a new run. `--page` writes docs/deployment.md from all
that is there; `--tasks` with nothing behind it measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from control import TASKS, Draw, Samples
from deployment_page import BEFORE, write_page

import keras_lrp_prune as klp
from keras_lrp_prune.evaluation import class_accuracies
from keras_lrp_prune.runtime import CompiledForward

FLOPS = 0.5
# What `prune` is asked for beside the budget.
PRUNED: Mapping[str, Mapping[str, Any]] = {"after": {}, "multiples of 8": {"round_to": 8}}
CLASSES = {
    "mobilenet-flowers": ("daisy", "dandelion", "roses", "sunflowers", "tulips"),
    "vgg16-5": ("airplane", "bird", "deer", "frog", "ship"),
}

# A model as `klp.profile` takes it, and the scores that it gives for images.
Exported = tuple[Any, Callable[[np.ndarray], np.ndarray] | None]


def as_keras(model: keras.Model, folder: Path, x: np.ndarray) -> Exported:
    return model, CompiledForward(model)


def as_saved_model(model: keras.Model, folder: Path, x: np.ndarray) -> Exported:
    """Its scores are the Keras model's."""
    return klp.export.saved_model(model, folder / "saved_model" / "1"), None


def as_litert(quantize: Any) -> Callable[[keras.Model, Path, np.ndarray], Exported]:
    def export(model: keras.Model, folder: Path, x: np.ndarray) -> Exported:
        given = {"representative": x} if quantize == "int8" else {}
        path = folder / f"{quantize or 'float32'}.tflite"
        klp.export.litert(model, path, quantize=quantize, **given)
        return path, klp.export.LiteRTModel(path)

    return export


FORMS: Mapping[str, Callable[[keras.Model, Path, np.ndarray], Exported]] = {
    "Keras": as_keras,
    "SavedModel": as_saved_model,
    "LiteRT float32": as_litert(None),
    "LiteRT dynamic": as_litert("dynamic"),
    "LiteRT int8": as_litert("int8"),
}


@dataclass(frozen=True)
class Options:
    """What a run depends on beside the network."""

    per_class: int
    seed: int
    rounds: int
    repeats: int
    threads: Sequence[int]
    batch_sizes: Sequence[int]


def pruned(model: keras.Model, reference: Samples, seed: int) -> dict[str, klp.PruningResult]:
    """The network at half of its FLOPs, in each kind of width."""
    return {
        name: klp.prune(
            model,
            reference,
            budget={"flops": FLOPS},
            recovery="head",
            engine="native",
            seed=seed,
            verbose=0,
            **asked,
        )
        for name, asked in PRUNED.items()
    }


def costs(results: Mapping[str, klp.PruningResult]) -> dict[str, dict[str, Any]]:
    """Of the whole network and of the pruned ones."""
    found = {name: {**asdict(one.cost_after), "rate": one.rate} for name, one in results.items()}
    whole = next(iter(results.values())).cost_before
    return {BEFORE: {**asdict(whole), "rate": 0.0}, **found}


def accuracies(exported: Mapping[str, Mapping[str, Exported]], held_out: Samples) -> dict[str, Any]:
    """Form to model to the accuracy of each class."""
    x, y = held_out
    return {
        form: {
            name: class_accuracies(y, scores(x)).tolist()
            for name, (_, scores) in models.items()
            if scores is not None
        }
        for form, models in exported.items()
        if any(scores for _, scores in models.values())
    }


def profiles(exported: Mapping[str, Mapping[str, Exported]], options: Options) -> list[Any]:
    """One record for each round, number of threads, form and model."""
    found = []
    for turn in range(options.rounds):
        for threads in options.threads:
            for form, models in exported.items():
                for name, (model, _) in models.items():
                    profile = klp.profile(
                        model,
                        threads=threads,
                        batch_sizes=options.batch_sizes,
                        repeats=options.repeats,
                    )
                    found.append(
                        {
                            "round": turn,
                            "form": form,
                            "model": name,
                            "load": os.getloadavg()[0],
                            **profile.to_dict(),
                        }
                    )
                    shown = ", ".join(f"{timing.median:.2f} ms" for timing in profile.timings)
                    print(f"round {turn}, {threads} threads, {form}, {name}: {shown}", flush=True)
    return found


def measured(task: str, data: Path, options: Options) -> dict[str, Any]:
    """All that is found out about one network."""
    model, reference, held_out = TASKS[task](Draw(data, options.per_class, options.seed, False))
    results = pruned(model, reference, options.seed)
    models = {BEFORE: model, **{name: result.model for name, result in results.items()}}
    with tempfile.TemporaryDirectory() as folder:
        exported: dict[str, dict[str, Exported]] = {form: {} for form in FORMS}
        for number, (name, one) in enumerate(models.items()):
            for form, export in FORMS.items():
                exported[form][name] = export(one, Path(folder, str(number)), reference[0])
        return {
            "settings": asdict(options),
            "classes": CLASSES[task],
            "held_out": len(held_out[1]),
            "cores": {"machine": os.cpu_count(), "used": len(os.sched_getaffinity(0))},
            "costs": costs(results),
            "accuracies": accuracies(exported, held_out),
            "profiles": profiles(exported, options),
        }


def main() -> None:
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    options = Options(
        per_class=arguments.per_class,
        seed=arguments.seed,
        rounds=arguments.rounds,
        repeats=arguments.repeats,
        threads=arguments.threads,
        batch_sizes=arguments.batch_sizes,
    )
    for task in arguments.tasks:
        record = measured(task, arguments.data, options)
        path = arguments.out / f"{task}.json"
        temporary = path.with_name(f".{path.name}")
        temporary.write_text(json.dumps(record, indent=1))
        os.replace(temporary, path)
        keras.utils.clear_session()
    if arguments.page:
        write_page(arguments.out, Path(__file__).parents[2] / "docs")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="see above")
    parser.add_argument("--out", type=Path, required=True, help="folder for what was found")
    parser.add_argument("--tasks", nargs="*", choices=CLASSES, default=list(CLASSES))
    parser.add_argument("--per-class", type=int, default=20, help="reference images per class")
    parser.add_argument("--seed", type=int, default=0, help="of the reference set")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=30, help="timed calls in each round")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--page", action="store_true", help="write docs/deployment.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
