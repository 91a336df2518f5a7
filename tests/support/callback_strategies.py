"""FilterPruning under strategies; logical devices have to be set up before TensorFlow starts.

python tests/support/callback_strategies.py REPORT.json
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from pruning_models import digits, digits_model, reference
from training_callbacks import ADAM, SCHEDULE, Watch, fit

from keras_lrp_prune.callbacks import FilterPruning


def trained(strategy, *callbacks):
    with strategy.scope():
        model = digits_model(epochs=1)
        # At step 0 again; averages are masked on each replica.
        model.compile(ADAM(3e-3, use_ema=True), "sparse_categorical_crossentropy")
    fit(model, *callbacks)
    return model


def records(pruning):
    return [(record.step, record.rate) for record in pruning.history]


def main(path):
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    several_workers = tf.distribute.MultiWorkerMirroredStrategy()  # collectives come first
    report = {}
    pruning = FilterPruning(reference(), SCHEDULE)
    watch = Watch(pruning)
    model = trained(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), pruning, watch)
    (x, _), _ = digits()
    outputs = [np.asarray(one(x[:50])) for one in (model, pruning.pruned_model())]
    report["difference"] = float(np.abs(outputs[0] - outputs[1]).max())
    report["wrong"], report["rate"] = watch.wrong, pruning.pruning_rate
    report["history"] = records(pruning)
    alone = FilterPruning(reference(), SCHEDULE)
    trained(tf.distribute.get_strategy(), alone)
    report["history on one device"] = records(alone)
    try:
        with several_workers.scope():
            model = digits_model(epochs=0)
            model.compile("adam", "sparse_categorical_crossentropy")
        fit(model, FilterPruning(reference(), SCHEDULE))
    except ValueError as error:
        report["several workers"] = str(error)
    Path(path).write_text(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])
