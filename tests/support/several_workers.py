"""One of several worker processes that analyse and prune a model together, and reports on it.

    TF_CONFIG='{"cluster": ..., "task": ...}' python tests/support/several_workers.py FOLDER

`test_distribution.py` runs all workers at once, each with the same folder, and reads the reports
`worker-0.json` and so on.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from models import BUILDERS, CLASSES, difference, images, make_live

import keras_lrp_prune as klp
from keras_lrp_prune.runtime import is_chief

SAMPLES = 23


class Interrupted(Exception):
    """What ends a run before its time."""


class Interruptible(klp.schedules.AccuracyAware):
    """A schedule that gives up at a step."""

    stop_at = -1

    def __call__(self, step: Any) -> tuple[Any, Any]:
        if step == self.stop_at:
            raise Interrupted
        return super().__call__(step)


class Worker:
    """The runs of one worker.

    Args:
        folder: Where checkpoints go, each worker's apart.
    """

    def __init__(self, folder: Path) -> None:
        self.index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
        self.strategy = tf.distribute.MultiWorkerMirroredStrategy()
        keras.utils.set_random_seed(0)
        self.model = make_live(BUILDERS["resnet_v1"]())
        # Dropout has a variable of another kind: the state of its random numbers.
        self.dropping = make_live(BUILDERS["vgg"]())
        self.x, self.y = images(self.model, SAMPLES), np.arange(SAMPLES) % CLASSES
        self.folder = folder

    def checkpoint(self, name: str) -> Path:
        """This worker's own folder of that name."""
        return self.folder / f"{name}-{self.index}"

    def prune(self, model: keras.Model | None = None, **options: Any) -> klp.PruningResult:
        """A run on all workers, unless told otherwise."""
        given = {
            "target_rate": 0.4,
            "schedule": klp.schedules.AccuracyAware(),
            "batch_size": 5,
            "strategy": self.strategy,
            "verbose": 0,
        }
        return klp.prune(model or self.model, (self.x, self.y), **{**given, **options})

    def environment(self) -> dict[str, Any]:
        """Who this is."""
        return {"replicas": self.strategy.num_replicas_in_sync, "chief": is_chief(self.strategy)}

    def relevance(self) -> dict[str, float]:
        """Differences from one device."""
        found = {}
        for every_class in (False, True):
            options = {"every_class": every_class}
            one = klp.filter_relevance(self.model, self.x, self.y, engine="native", **options)
            many = klp.filter_relevance(
                self.model, self.x, self.y, strategy=self.strategy, batch_size=4, **options
            )
            found[f"every class: {every_class}"] = max(
                difference(many[name], values) for name, values in one.items()
            )
        one = klp.input_relevance(self.model, self.x, engine="native")
        many = klp.input_relevance(self.model, self.x, strategy=self.strategy, batch_size=4)
        return found | {"input": difference(many, one)}

    def pruned(self) -> dict[str, Any]:
        """A run without interruption, beside that of one device; the chief shows progress."""
        one = self.prune(strategy=None, engine="native")
        many = self.prune(checkpoint_dir=self.checkpoint("whole"), verbose=1)
        return {
            **outcome(many),
            "same filters": same_filters(many, one),
            "outputs": difference(many.model(self.x), one.model(self.x)),
        }

    def taylor(self) -> dict[str, Any]:
        """A run that needs gradients, of a model with dropout."""
        options = {"model": self.dropping, "criterion": "taylor"}
        one = self.prune(strategy=None, **options)
        many = self.prune(**options)
        return {**outcome(many), "same filters": same_filters(many, one)}

    def resumed(self) -> dict[str, Any]:
        """A run in two parts."""
        options = {
            "schedule": Interruptible(),
            "checkpoint_dir": self.checkpoint("parts"),
        }
        Interruptible.stop_at = 6
        try:
            self.prune(**options)
            raise AssertionError("was not interrupted")
        except Interrupted:
            Interruptible.stop_at = -1
        file = self.checkpoint("parts") / "pruning.npz"
        steps = 0
        if file.exists():
            with np.load(file) as saved:
                steps = json.loads(str(saved["described"]))["step"]
        there = {"folder": file.parent.exists(), "steps before": steps}
        return {**outcome(self.prune(**options)), **there}

    def finished(self) -> dict[str, Any]:
        """A run that had ended before."""
        return outcome(self.prune(checkpoint_dir=self.checkpoint("whole")))

    def refused(self, **options: Any) -> dict[str, str]:
        """What a run raises."""
        try:
            self.prune(**options)
        except Exception as error:
            return {"error": type(error).__name__, "message": str(error)}
        return {"error": "", "message": "accepted"}

    def another_run(self) -> dict[str, str]:
        """A run with other settings and the same folder."""
        return self.refused(target_rate=0.3, checkpoint_dir=self.checkpoint("whole"))

    def damaged(self) -> dict[str, str]:
        """A run whose checkpoint cannot be read."""
        folder = self.checkpoint("damaged")
        if is_chief(self.strategy):
            folder.mkdir()
            (folder / "pruning.npz").write_bytes(b"nonsense")
        return self.refused(checkpoint_dir=folder)

    def other_samples(self) -> dict[str, str]:
        """A run with the same samples in another order on one of the workers."""
        order = slice(None, None, -1 if self.index else 1)
        try:
            klp.filter_relevance(self.model, self.x[order], self.y[order], strategy=self.strategy)
        except Exception as error:
            return {"error": type(error).__name__, "message": str(error)}
        return {"error": "", "message": "accepted"}

    def other_model(self) -> dict[str, str]:
        """A run with another model on one of the workers."""
        model = keras.models.clone_model(self.model)
        model.set_weights([weight * (1 + self.index) for weight in self.model.get_weights()])
        return self.refused(model=model)

    def sections(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """What is reported, in the order of the runs."""
        run = (
            *(self.environment, self.relevance, self.pruned, self.taylor),
            *(self.resumed, self.finished, self.another_run, self.damaged),
            *(self.other_samples, self.other_model),
        )
        return {section.__name__: section for section in run}


def outcome(result: klp.PruningResult) -> dict[str, Any]:
    """What all workers must agree on."""
    return {
        "kept": {name: kept.tolist() for name, kept in result.kept.items()},
        "history": [record.to_dict() for record in result.history],
        "reference": result.reference,
        "engine": result.settings["engine"],
    }


def same_filters(one: klp.PruningResult, other: klp.PruningResult) -> bool:
    """Whether both runs kept the same filters."""
    return outcome(one)["kept"] == outcome(other)["kept"]


def main() -> None:
    """Writes the report; a section that fails has its traceback there."""
    folder = Path(sys.argv[1])
    worker = Worker(folder)
    report = {}
    for name, section in worker.sections().items():
        print(f"section {name}", file=sys.stderr, flush=True)
        try:
            report[name] = section()
        except Exception:
            report[name] = {"failure": traceback.format_exc()}
    (folder / f"worker-{worker.index}.json").write_text(
        json.dumps(report, default=np.ndarray.tolist)
    )


if __name__ == "__main__":
    main()
