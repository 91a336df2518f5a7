"""Cycles of pruning and fine-tuning, as one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.arguments import as_taken, checked
from keras_lrp_prune.control.pace import own_selection
from keras_lrp_prune.cost import Cost, CostModel
from keras_lrp_prune.criteria.registry import registered_config
from keras_lrp_prune.data import reference_set
from keras_lrp_prune.evaluation import classification_report, probabilities
from keras_lrp_prune.examination.channel_limits import ChannelLimits
from keras_lrp_prune.finetuning.cycle_goals import CycleGoals, make_cycle_goals
from keras_lrp_prune.finetuning.cycle_record import CycleRecord, CyclesResult
from keras_lrp_prune.finetuning.cycle_store import CycleStore, Finished, described
from keras_lrp_prune.finetuning.plan import Plan, TuningOptions, make_plan
from keras_lrp_prune.finetuning.session import compile_for
from keras_lrp_prune.finetuning.tuner import finetune
from keras_lrp_prune.graph.analysis import channel_structure
from keras_lrp_prune.pruning import prune
from keras_lrp_prune.runtime import CompiledForward, Fingerprint, fingerprint
from keras_lrp_prune.selection.reach import check_rate
from keras_lrp_prune.surgery.input_sizes import sized
from keras_lrp_prune.surgery.layer_copies import custom_objects
from keras_lrp_prune.surgery.settings import compile_like, same_weight_flags

if TYPE_CHECKING:
    import keras

# Arguments of `prune` and `finetune` that their options cannot hold, with the names of those of
# `prune_and_finetune` that take their place.
_OWN = ("validation", "seed", "verbose")
_OWN_PRUNING = {name: name for name in (*_OWN, "target_rate", "checkpoint_dir")}
_OWN_TUNING = {**{name: name for name in _OWN}, "teacher": "distil"}
# Arguments of `finetune` that are left out of the settings that tell one run from another. Model
# and training data have fingerprints, and the optimizer its config; validation data, callbacks,
# names and `verbose` are not told; names and seeds of layers in `augment` differ in each process.
_NOT_TOLD = (
    *("validation", "teacher", "verbose", "callbacks", "augment", "optimizer"),
    "class_names",
)


@checked
def prune_and_finetune(
    model: keras.Model,
    reference: Any,
    train: Any,
    target_rate: float | None = None,
    *,
    cycles: int | Sequence[float] = 3,
    distil: bool = True,
    validation: Any = None,
    prune_options: Mapping[str, Any] | None = None,
    tune_options: Mapping[str, Any] | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    verbose: int = 1,
) -> CyclesResult:
    """Prunes and fine-tunes in turns, so that what is left adapts before more goes.

    Each cycle calls `prune` on the model as it is by then and `finetune` on what is left. Rates are
    those of the filters that the model had at first. The model given is not changed.

    Args:
        model: A Keras 3 classifier, as in `finetune`; it is the teacher, too.
        reference: The few labelled samples that pruning decides on, as in `prune`.
        train: What to train on, as in `finetune`.
        target_rate: Pruning rate after the last cycle, in [0, 1); default 0.5.
        cycles: How many, in equal steps; or the pruning rate after each of them, rising (then
            without `target_rate`).
        distil: Whether the model given teaches in each cycle.
        validation: Held-out samples: measured after each pruning and each training.
        prune_options: Further arguments of `prune`, such as `criterion` or `recovery`, which is
            `None` here unless given: it is training that adapts what is left. A
            `min_channels` that is a share counts anew in each cycle. `budget` takes the place of
            `target_rate`: of the costs of the model given, what may remain after the last cycle.
        tune_options: Further arguments of `finetune`, such as `epochs` (of each cycle).
        checkpoint_dir: Folder where each finished cycle is saved, and each step of pruning in the
            one at work; the same call goes on from there.
        seed: Of pruning, and of the first training; each further one counts up from it.
        verbose: As in `prune` and `finetune`.

    Returns:
        A `CyclesResult`: the model, one record per cycle, and costs and accuracies before.

    Raises:
        DataError, UnsupportedModelError, FloatingPointError: As `prune` and `finetune` do, for the
            model, samples and options before any work.
        TypeError, ValueError: For rates that do not rise or cannot be reached, or options that do
            not belong where they are.
        CheckpointError: For a checkpoint that is damaged or of another run, or a folder that
            another run is using.
        OSError: If `checkpoint_dir` cannot be written to.

    Example:
    >>> import keras_lrp_prune as klp
    >>> result = klp.prune_and_finetune(
    ...     model, reference, (x, y), target_rate=0.6, cycles=3, tune_options={"epochs": 5}
    ... )
    >>> result.summary()
    >>> result.model.save("small.keras")
    """
    asked = {"recovery": None, **(prune_options or {})}
    pruning = _options("prune_options", prune, asked, _OWN_PRUNING)
    tuning = _options("tune_options", finetune, tune_options or {}, _OWN_TUNING)
    goals = make_cycle_goals(target_rate, cycles, pruning.pop("budget", None))
    tuning |= {"validation": validation, "teacher": model if distil else None, "verbose": verbose}
    call = signature(finetune).bind(model, train, **tuning, seed=seed)
    call.apply_defaults()
    plan = make_plan(model, train, TuningOptions.taken_from(call.arguments))
    run = _Run(model, plan, reference, goals, pruning, tuning)
    if checkpoint_dir is None:
        return run.through(train, None, seed)
    with closing(CycleStore(checkpoint_dir, run.identity())) as store:
        return run.through(train, store, seed)


def _options(
    name: str, function: Callable[..., Any], options: Mapping[str, Any], own: Mapping[str, str]
) -> dict[str, Any]:
    """Further arguments of a function, checked."""
    unknown = sorted(set(options) - set(signature(function).parameters))
    if unknown:
        raise TypeError(f"{name}: {function.__name__}() has no argument {', '.join(unknown)}.")
    taken = [key for key in options if key in own]
    if taken:
        instead = "=, ".join(own[key] for key in taken)
        raise ValueError(f"{name} cannot hold {', '.join(taken)}; give the call itself {instead}=.")
    return as_taken(function, options)


class _Run:
    """All cycles of one call; arguments are those of `prune_and_finetune`."""

    def __init__(
        self,
        model: keras.Model,
        plan: Plan,
        reference: Any,
        goals: CycleGoals,
        prune_options: Mapping[str, Any],
        tune_options: Mapping[str, Any],
    ) -> None:
        import keras

        self._model, self._plan, self._goals = model, plan, goals
        self._prune_options, self._tune_options = prune_options, tune_options
        source = plan.source
        self._reference = reference_set(
            reference, n_classes=source.head.n_classes, input_shape=source.input_shape
        )
        flat = sized(source.graph, self._reference.x.shape[1:], keras)
        limits = ChannelLimits.taken_from(prune_options)
        self._structure = channel_structure(flat, tuple(limits.protect))
        self._first = CostModel(flat, self._structure)()
        self._prunable = int(self._structure.unit_sizes.sum())
        if (last := goals.last_rate) is not None:
            check_rate("The pruning rate", last, self._structure, limits.of_groups)

    def settings(self) -> dict[str, Any]:
        """What the run was asked for, as JSON-able data."""
        options = {key: it for key, it in self._tune_options.items() if key not in _NOT_TOLD}
        return {
            "goals": described({"steps": self._goals.__dict__}),
            "prune_options": described(
                {
                    **self._prune_options,
                    **registered_config(self._prune_options.get("criterion")),
                    **own_selection(self._prune_options.get("schedule")),
                }
            ),
            "tune_options": described(options),
            "training": described({**self._plan.settings, "data": self._plan.data.fingerprint}),
        }

    def identity(self) -> Fingerprint:
        """Tells the run from others: settings, samples, layers and weights."""
        return fingerprint(self._plan.source.graph, self._reference, self.settings())

    def through(self, train: Any, store: CycleStore | None, seed: int) -> CyclesResult:
        """Runs all cycles, except those that are finished already."""
        before = self._reports(self._model)
        model, now, cycles = self._model, self._first, []
        kept: dict[str, np.ndarray] = {}
        for cycle in range(1, len(self._goals) + 1):
            finished = None if store is None else self._stored(store, cycle)
            if finished is None:
                finished = self._cycle(cycle, model, now, train, store, seed)
                if store is not None:
                    store.save(finished)
            model, record = finished.model, finished.record
            now = Cost(record.filters, record.params, record.flops)
            kept = {
                layer: kept[layer][indices] if kept else indices
                for layer, indices in finished.kept.items()
            }
            cycles.append(record)
        return self._result(model, kept, cycles, before, now)

    def _cycle(
        self,
        cycle: int,
        model: keras.Model,
        now: Cost,
        train: Any,
        store: CycleStore | None,
        seed: int,
    ) -> Finished:
        verbose = self._tune_options["verbose"]
        pruned = prune(
            model,
            self._reference,
            validation=self._plan.held_out,
            checkpoint_dir=None if store is None else store.pruning_folder(cycle),
            seed=seed,
            verbose=verbose,
            **self._prune_options,
            **self._goals.options(cycle, self._first, now, self._prunable),
        )
        tuned = finetune(pruned, train, **{**self._tune_options, "seed": seed + cycle - 1})
        reports = self._reports(tuned.model)
        cost = pruned.cost_after
        record = CycleRecord(
            cycle=cycle,
            rate=(self._first.filters - cost.filters) / self._prunable,
            filters=cost.filters,
            params=cost.parameters,
            flops=cost.flops,
            stopped=pruned.stopped,
            reference={"pruned": pruned.reference["after"], "tuned": reports["reference"]},
            validation=pruned.validation
            and {"pruned": pruned.validation["after"], "tuned": reports["validation"]},
            history=tuned.history,
        )
        return Finished(record, pruned.kept, tuned.model)

    def _stored(self, store: CycleStore, cycle: int) -> Finished | None:
        import keras

        from keras_lrp_prune.graph.reader import read_model

        custom = custom_objects(self._model._flatten_layers(), keras)
        finished = store.load(cycle, custom)
        if finished is not None:
            same_weight_flags(self._plan.source.graph, read_model(finished.model))
            if self._model.compiled:
                compile_like(self._model, finished.model, keras)
            else:
                compile_for(finished.model, self._plan.source.head)
        return finished

    def _reports(self, model: keras.Model) -> dict[str, dict[str, Any]]:
        """Metrics on the reference set, and on the validation data if there are any."""
        forward = CompiledForward(model, self._plan.settings["batch_size"])
        kind = self._plan.source.head.kind
        return {
            name: classification_report(
                samples.y, probabilities(forward(samples.x), kind)
            ).as_dict()
            for name, samples in (
                ("reference", self._reference),
                ("validation", self._plan.held_out),
            )
            if samples is not None
        }

    def _result(
        self,
        model: keras.Model,
        kept: Mapping[str, np.ndarray],
        cycles: Sequence[CycleRecord],
        before: Mapping[str, Any],
        now: Cost,
    ) -> CyclesResult:
        last = cycles[-1]
        after = {"reference": last.reference["tuned"]}
        if last.validation is not None:
            after["validation"] = last.validation["tuned"]
        both = {name: {"before": before[name], "after": after[name]} for name in before}
        return CyclesResult(
            model=model,
            kept=kept,
            cycles=tuple(cycles),
            cost_before=self._first,
            cost_after=now,
            reference=both["reference"],
            validation=both.get("validation"),
            rate=last.rate,
            settings=self.settings(),
        )
