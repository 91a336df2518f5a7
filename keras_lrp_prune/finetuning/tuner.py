"""`finetune()`: from a pruned model and labelled samples to one that was trained on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from keras_lrp_prune.finetuning.plan import TuningOptions, make_plan
from keras_lrp_prune.finetuning.session import Session
from keras_lrp_prune.finetuning.tuning_result import TuningResult
from keras_lrp_prune.pruning import PruningResult

if TYPE_CHECKING:
    import keras


def finetune(
    result: PruningResult | keras.Model,
    train: Any,
    *,
    teacher: keras.Model | None = None,
    epochs: int = 10,
    learning_rate: Any = None,
    schedule: Any = "cosine",
    temperature: float = 4.0,
    distillation_weight: float = 0.5,
    validation: Any = None,
    class_names: Iterable[str] | None = None,
    restore_best: bool = False,
    batch_size: int = 32,
    optimizer: Any = None,
    augment: Any = None,
    unfreeze: bool | Iterable[str] | None = None,
    freeze_batch_norm: bool | None = None,
    dropout_factor: float = 1.0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    seed: int = 0,
    verbose: int = 1,
) -> TuningResult:
    """Trains a pruned model, with or without a teacher, and returns a tuned plain model.

    For users with more labelled samples than a reference set: with few of them training overfits.
    With a teacher, mostly the model before pruning, the loss is

    `(1 - w) * cross_entropy + w * T^2 * KL(softmax(teacher / T) || softmax(student / T))`

    with `w` the distillation weight and `T` the temperature, plus the model's own regularisers
    (Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network",
    arXiv:1503.02531). It is computed from logits, whatever the outputs are. The teacher costs a
    forward pass for each batch. Layers that are frozen (`trainable=False`) stay as they are: of a
    transfer-learning model the head alone trains, and a line says so, unless `unfreeze` has them
    trained too. The model given and the teacher are not changed. In the scope of a
    `tf.distribute.MirroredStrategy` the replicas share each batch (Keras 3.5 adds up their
    gradients, where newer versions take the mean).

    Batch normalisation trains with the statistics of each batch. Its moving statistics, which
    inference uses, are those of the model before pruning at first; in a short training the
    momentum is lowered, for as long as it lasts, so that less than 1 % of them is left at the end.
    Batches of few samples have poor statistics, which can halve the accuracy. So batch
    normalisation that is frozen stays so, unless told otherwise, and `freeze_batch_norm=True` keeps
    all of it.

    Args:
        result: What `prune` returned, or a functional or Sequential Keras 3 classifier with one
            input and one `(batch, n)` output: logits, softmax, or one sigmoid (or logit) unit.
        train: `(x, y)` arrays, `y` sparse or one-hot, or a batched, finite `tf.data.Dataset` of
            such pairs, which is read once to check it, or what `load_image_folder` returns. Every
            class needs a sample.
        teacher: A classifier of the same inputs and classes; `None`: no distillation.
        epochs: Times that all samples are seen.
        learning_rate: At the start, or a `LearningRateSchedule`. Default: that of `optimizer`, or
            0.001.
        schedule: How a learning rate that is a number falls: `"cosine"`, to 0 over all steps
            (Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts); `"plateau"`: halved
            when the loss (with validation data, theirs) did not fall for 2 epochs; `None`: not at
            all. Or a `LearningRateSchedule`.
        temperature: `T`, above 0. The higher, the more the scores of the wrong classes count.
        distillation_weight: `w`, in [0, 1]; has no meaning without a teacher.
        validation: Held-out samples like `train`, with each class: measured before, and after
            each epoch. They steer nothing but `restore_best` and `schedule="plateau"`.
        class_names: Names of the classes in the order of the model's outputs, for the summary;
            default: those of `result` or `train`, if they have them.
        restore_best: Whether to return the weights of the epoch with the highest harmonic mean
            accuracy on the validation data, those at the start included.
        batch_size: Samples per batch; a dataset has its own.
        optimizer: A Keras optimizer (copied, without its state) or its name; default Adam.
        augment: A Keras layer, or a function of a batch `x`, applied to training batches.
        unfreeze: What to train although it is frozen: `True`: all layers; or a list of layer names
            (a nested model's name: all in it; `"base/conv"`: a layer in it; those without weights
            change nothing). For this training only: the tuned model has the flags of the one given.
        freeze_batch_norm: Whether batch normalisation keeps its statistics, scale and offset.
            `None`: that which is frozen in the model does, whatever `unfreeze` has trained beside
            it (a layer of it that `unfreeze` names by itself trains).
        dropout_factor: What the rates of dropout layers are multiplied by while training, in
            [0, 1]. What is left of a layer stands less dropout than the whole did: Han et al. 2015
            (arXiv:1506.02626) take the root of the share of the connections that are left.
        callbacks: For `model.fit`; they find what is in `TuningResult.history` in their logs. One
            that saves the model writes the plain one.
        seed: Of the order of samples given as arrays, and of dropout.
        verbose: 1 shows Keras' progress bar, 2 a line per epoch, 0 nothing.

    Returns:
        A `TuningResult`. Its model is compiled as the one given was; one that was not gets the
        cross-entropy that fits its outputs, and Adam.

    Raises:
        DataError: For unusable samples, labels or class names.
        UnsupportedModelError: For a model or teacher that cannot be used here: legacy Keras,
            several inputs or outputs, several sigmoid units, other classes or inputs than the
            model, nothing to train.
        TypeError, ValueError: For arguments outside their ranges.
        FloatingPointError: If training diverges.

    Example:
    >>> import keras_lrp_prune as klp
    >>> result = klp.prune(model, reference, target_rate=0.5)
    >>> tuned = klp.finetune(result, (x, y), teacher=model, validation=(x_val, y_val))
    >>> tuned.model.save("small.keras")
    """
    options = TuningOptions(
        teacher=teacher,
        epochs=epochs,
        learning_rate=learning_rate,
        schedule=schedule,
        temperature=temperature,
        distillation_weight=distillation_weight,
        validation=validation,
        class_names=class_names,
        restore_best=restore_best,
        batch_size=batch_size,
        optimizer=optimizer,
        augment=augment,
        unfreeze=unfreeze,
        freeze_batch_norm=freeze_batch_norm,
        dropout_factor=dropout_factor,
        callbacks=callbacks,
        seed=seed,
        verbose=verbose,
    )
    plan = make_plan(result, train, options)
    session = Session(plan.source, plan.teacher, plan.settings)
    tuned = session.run(plan.optimizer, plan.data, plan.held_out, plan.callbacks, options.verbose)
    return replace(tuned, class_names=plan.class_names)
