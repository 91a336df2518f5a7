"""A criterion and a schedule of a user's own, and short runs with them."""

from dataclasses import dataclass

import keras
import numpy as np
from pruning_models import digits, reference

import keras_lrp_prune as klp
from keras_lrp_prune.control.schedules import EqualSteps, PruningSchedule, Selection

QUICK = {"schedule": EqualSteps(0.2), "recovery": None, "verbose": 0}


@dataclass(frozen=True)
class Size(klp.criteria.Criterion):
    """The norm of the kernels to a power."""

    power: float = 1.0

    name = "size"
    help = "norm of its kernels, to a power"
    passes = 0

    def scorer(self, problem):
        return SizeScorer(problem, self.power)


class SizeScorer(klp.criteria.Scorer):
    def __init__(self, problem, power):
        super().__init__(problem)
        self._power = power

    def scores(self, removed):
        found = klp.criteria.over_kernels(
            self.problem.structure,
            kernel=lambda layer, name: np.abs(self.problem.graph.layers[layer].arrays()[name]),
            figure=lambda rows: rows.sum(1) ** self._power,
        )
        return klp.criteria.Scores(found[None])


class ByShare(PruningSchedule):
    """A share more at each step; its config does not tell how filters are chosen."""

    selection = Selection(pool=0, trials=False)

    def __call__(self, step):
        return True, min(0.9, 0.2 * (step + 1))

    def get_config(self):
        return {"class_name": "ByShare", "config": {}}


def prune(model, folder, **options):
    return klp.prune(model, reference(), 0.4, checkpoint_dir=folder, **{**QUICK, **options})


def trained(model, folder, criterion=None, schedule=None):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    copy.compile("sgd", "sparse_categorical_crossentropy")
    pruning = klp.callbacks.FilterPruning(
        reference(), schedule or EqualSteps(0.2), criterion, state_dir=folder
    )
    x, y = digits()[0]
    copy.fit(x[:64], y[:64], verbose=0, callbacks=[pruning])


def cycles(model, folder, **options):
    x, y = digits()[0]
    klp.prune_and_finetune(
        model,
        reference(),
        (x[:64], y[:64]),
        0.3,
        prune_options={"schedule": EqualSteps(0.3), **options},
        tune_options={"epochs": 1},
        cycles=1,
        checkpoint_dir=folder,
        verbose=0,
    )


def compared(model, folder, criterion="size", schedule=EqualSteps):
    x, y = digits()[1]
    method = klp.Method("mine", criterion, schedule)
    task = (model, reference(), (x[:100], y[:100]))
    klp.compare(task, (method,), rates=[0.0, 0.3], verbose=0, folder=folder)
