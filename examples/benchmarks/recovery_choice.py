"""Which recovery serves best: networks, numbers of images and seeds side by side.

    python examples/benchmarks/recovery_choice.py --data DATA --out runs/

DATA holds `vgg16_cifar10.h5`, `cifar10.tfrecord`, `mobilenet_0.75_imagenet_notop.h5`, `flowers/`
and `mnist.npz`. All decisions are taken on reference sets of training images; what is reported was
measured on other images of the training sets, never on test images: it chooses the rule of
`recovery="auto"`. Every finished cell is kept in `--out`, and the same command goes on; with
`--page` it writes docs/recovery-choice.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import control
import keras
import numpy as np
from recovery_choice_page import write_page
from trained_networks import TRAINED

import keras_lrp_prune as klp
from keras_lrp_prune.comparison.decisions import decide
from keras_lrp_prune.comparison.rebuilt_models import RebuiltModels
from keras_lrp_prune.comparison.run_folder import write_json
from keras_lrp_prune.examination.criterion_choice import CriterionChoice
from keras_lrp_prune.examination.recovery_choice import Recovery
from keras_lrp_prune.examination.refit import Refitter
from keras_lrp_prune.examination.subject import read_subject
from keras_lrp_prune.graph.heads import linear_head

RATES = (0.3, 0.5, 0.7, 0.8)
# The default; for weights that stay as they are in steps of 10 %, too: half of the work.
METHOD = klp.Method("accuracy-aware", None, partial(klp.schedules.AccuracyAware, initial_step=0.1))
# With which recovery units are chosen, and those that it decides for.
OPTIONS: Mapping[str | None, tuple[str | None, ...]] = {
    None: (None,),
    "head": ("head",),
    "least_squares": ("least_squares", "head+least_squares"),
}


@dataclass(frozen=True)
class Network:
    """A task.

    Args:
        make: Gives the model, a reference set and images to judge on.
        fits_head: Whether the head of the model was fitted on the reference set.
    """

    make: Callable[[control.Draw, Path], control.Triple]
    fits_head: bool


NETWORKS: Mapping[str, Network] = {
    **{name: Network(it.task, it.learnt is not None) for name, it in TRAINED.items()},
    "mobilenet-flowers": Network(lambda draw, cache: control.mobilenet(draw, side=96), True),
    "vgg16-3": Network(lambda draw, cache: control.TASKS["vgg16-3"](draw), False),
}


def measure(name: str, per_class: int, seed: int, data: Path, cache: Path) -> dict[str, Any]:
    """Class accuracies of the unpruned model, and of each option at each rate."""
    start = time.perf_counter()
    draw = control.Draw(data, per_class, control.SELECTION_SEED + seed, selection=True)
    model, reference, held_out = NETWORKS[name].make(draw, cache)
    task = read_subject(model, reference)
    judged = task.samples(held_out, "held-out images")
    problem = task.problem(seed=seed)

    def refitter(recovery: str | None, *, thorough: bool) -> Refitter:
        return Refitter(problem, Recovery(recovery), task.keras_module, thorough=thorough)

    def accuracies(removed: np.ndarray, recovery: str | None) -> list[float]:
        models = RebuiltModels(task, refitter(recovery, thorough=True))
        return models.class_accuracies(removed, judged).tolist()

    found: dict[str, Any] = {
        "has_head": linear_head(task.flat) is not None,
        "unpruned": accuracies(np.zeros(task.structure.n_units, bool), None),
        "options": {},
        "seconds": {"task": time.perf_counter() - start},
    }
    for decides, all_options in OPTIONS.items():
        options = [one for one in all_options if found["has_head"] or "head" not in str(one)]
        if not options:
            continue
        decisions = decide(
            task,
            METHOD,
            RATES,
            refitter=refitter(decides, thorough=False),
            seed=seed,
            engine=CriterionChoice(engine="native"),
        )
        found["seconds"][f"decisions, {decides}"] = decisions.seconds
        for option in options:
            start = time.perf_counter()
            found["options"][str(option)] = [accuracies(mask, option) for mask in decisions.masks]
            found["seconds"][str(option)] = time.perf_counter() - start
    return found


def main() -> None:
    options = parse_arguments()
    for seed in range(options.seeds):
        for per_class in options.per_class:
            for name in options.tasks:
                path = options.out / f"{name}_{per_class}_{seed}.json"
                if path.is_file():
                    continue
                found = measure(name, per_class, seed, options.data, options.out / "networks")
                write_json(path, found)
                print(path.stem, json.dumps(found["seconds"]), flush=True)
                keras.backend.clear_session()
    if options.page:
        fitted = {name for name, network in NETWORKS.items() if network.fits_head}
        write_page(options.out, fitted, Path(__file__).parents[2] / "docs")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="see above")
    parser.add_argument("--out", type=Path, required=True, help="folder for the finished cells")
    parser.add_argument("--tasks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--per-class", nargs="+", type=int, default=[20, 10, 50], help="images")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--page", action="store_true", help="write docs/recovery-choice.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
