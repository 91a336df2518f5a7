"""`sensitivity`: what the accuracy loses where each channel group loses some of its filters."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_lrp_prune.arguments import checked
from keras_lrp_prune.criteria.criterion import Criterion
from keras_lrp_prune.evaluation import harmonic_mean_accuracy
from keras_lrp_prune.examination.channel_limits import ChannelLimits
from keras_lrp_prune.examination.criterion_choice import CriterionChoice
from keras_lrp_prune.examination.recovery_choice import AUTO, Recovery
from keras_lrp_prune.examination.steering import measured
from keras_lrp_prune.examination.target import Target
from keras_lrp_prune.pruning.stages import Prepared, PruneOptions, examined, prepare
from keras_lrp_prune.report import plot_losses, table_text
from keras_lrp_prune.report.tables import cell_text, figure_text, new_table
from keras_lrp_prune.runtime import DEFAULT_MEMORY, Execution
from keras_lrp_prune.selection.examiner import Evaluation, Examiner
from keras_lrp_prune.selection.ranking import lowest_of_group

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class GroupSensitivity:
    """What it costs that one channel group loses some of its filters.

    Args:
        group: Name of the group: the layer that leads it.
        filters: Filters that it has.
        removed: Filters that went.
        indices: Layer to the indices of its filters that went, as `delete_channels` takes them.
        flops: Share of the model's FLOPs that went with them.
        harmonic_mean: Harmonic mean of the class accuracies on the reference set without them.
        soft_harmonic_mean: The same of the probabilities of the right classes, which fall before
            a sample is classified wrongly.
        class_accuracies: Accuracy of each class.
    """

    group: str
    filters: int
    removed: int
    indices: Mapping[str, tuple[int, ...]]
    flops: float
    harmonic_mean: float
    soft_harmonic_mean: float
    class_accuracies: tuple[float, ...]


@dataclass(frozen=True, repr=False)
class Sensitivity:
    """What `sensitivity()` returns; printed, it is a table, the costliest group first.

    Args:
        model: The model's name.
        whole: Harmonic mean of the class accuracies of the model as it is.
        soft_whole: The same of the probabilities of the right classes.
        groups: What it costs that each group loses filters, in the order of the model.
        settings: What was asked for, and what was measured.

    Example:
    >>> found = klp.sensitivity(model, (x, y), share=0.5)
    >>> print(found)
    >>> costliest = max(found.groups, key=found.loss)
    >>> result = klp.prune(model, (x, y), 0.5, protect=[costliest.group])
    """

    model: str
    whole: float
    soft_whole: float
    groups: tuple[GroupSensitivity, ...]
    settings: Mapping[str, Any]

    def loss(self, group: GroupSensitivity) -> float:
        """By how much the soft harmonic mean is lower where that group loses its filters."""
        return self.soft_whole - group.soft_harmonic_mean

    def to_text(self) -> str:
        """Returns the table as plain text."""
        headers = ("Group", "Filters", "Removed", "FLOPs saved", "Mean", "Soft mean", "Points lost")
        share, accuracy = self.settings["share"], self.settings["accuracy"]
        table = new_table(headers, f"{self.model}: each group without {share:.0%} of its filters")
        for one in sorted(self.groups, key=self.loss, reverse=True):
            figures = (one.flops, one.harmonic_mean, one.soft_harmonic_mean, self.loss(one))
            counts = map(figure_text, (one.filters, one.removed))
            # No minus before 0.
            *shares, lost = (f"{round(figure, 3) + 0.0:.1%}" for figure in figures)
            table.add_row(*map(cell_text, (one.group, *counts, *shares, lost.replace("%", ""))))
        return (
            f"{table_text(table)}\n\nMean: {accuracy} without the filters removed; "
            f"{self.whole:.1%} with all. Soft: of the probabilities of the right classes; "
            f"{self.soft_whole:.1%} with all."
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain Python values, for JSON."""
        return asdict(self)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draws what each group costs, from the input to the output of the model.

        Args:
            path: File to write, `.png`, `.svg` or `.pdf`; by default none.

        Returns:
            The matplotlib figure.

        Raises:
            ValueError: If the path has another ending.
            OSError: If the file cannot be written.
        """
        share = self.settings["share"]
        return plot_losses(
            {one.group: self.loss(one) for one in self.groups},
            path,
            title=f"{self.model}: each group without {share:.0%} of its filters",
            xlabel="Soft harmonic mean accuracy lost (points)",
        )

    def __str__(self) -> str:
        return self.to_text()

    __repr__ = __str__


@checked
def sensitivity(
    model: keras.Model,
    reference: Any,
    share: float = 0.5,
    *,
    class_names: Iterable[str] | None = None,
    criterion: str | Criterion | None = None,
    analyzer_options: Mapping[str, Any] | None = None,
    engine: str = "auto",
    recovery: str | None = AUTO,
    protect: Sequence[str] = (),
    batch_size: int | None = None,
    memory_budget: float = DEFAULT_MEMORY,
    strategy: tf.distribute.Strategy | None = None,
    seed: int = 0,
    verbose: int = 1,
    worker_python: str | None = None,
) -> Sensitivity:
    """Measures what each channel group costs: one at a time loses the same share of its filters.

    Those that the criterion ranks lowest in it go, what is left is refitted, and the accuracies are
    measured on the reference set, as `prune` does at a step. That says where accuracy goes, and
    which layers to `protect`, where a budget is tight; `prune` weighs groups by itself. Costs a
    scoring pass, and for each group a forward pass, which a refit does too, and its algebra.

    Args:
        model: As in `prune`; it is not changed.
        reference: As in `prune`.
        share: Share of each group's filters to remove, in (0, 1), to the nearest filter; at least
            one goes, and one stays.
        class_names: As in `prune`.
        criterion: What ranks the filters of a group, as in `prune`.
        analyzer_options: As in `prune`.
        engine: As in `prune`.
        recovery: As in `prune`; layers, or the head alone, are refitted for each group.
        protect: Layers to leave alone, as in `prune`.
        batch_size: As in `prune`.
        memory_budget: As in `prune`.
        strategy: As in `prune`.
        seed: As in `prune`.
        verbose: As in `prune`.
        worker_python: As in `prune`.

    Returns:
        A `Sensitivity`; `print` it to see the table, `plot` it to see where in the model.

    Raises:
        DataError, UnsupportedModelError, TypeError, ValueError, WorkerError: As `prune` does.

    Warns:
        AtChanceWarning: As `prune` does.

    Example:
    >>> print(klp.sensitivity(model, (x, y), share=0.3))
    """
    refit = Recovery(recovery)
    options = PruneOptions(
        target=Target(0.0),
        criterion=CriterionChoice(
            criterion, analyzer_options or {}, engine, worker_python, refit.refits_layers
        ),
        recovery=refit,
        limits=ChannelLimits(protect),
        execution=Execution(batch_size, memory_budget, strategy, seed, verbose),
    )
    run = prepare(model, reference, options, validation=None, class_names=class_names)
    run.subject.check_accuracy()
    with (
        run.progress.stage("measuring groups"),
        examined(run, refits=refit.refits_layers) as found,
    ):
        whole, groups = _measured_groups(run, found.examiner, share)
    accuracy = measured(found.steering)
    settings = {
        "share": share,
        "accuracy": accuracy.full,
        "recovery": refit.named(corrected=False),
        **options.criterion.settings,
        "protect": list(protect),
        "seed": seed,
    }
    return Sensitivity(
        model=run.subject.graph.name,
        whole=harmonic_mean_accuracy(whole.hard),
        soft_whole=harmonic_mean_accuracy(whole.soft),
        groups=tuple(groups),
        settings=settings,
    )


def _measured_groups(
    run: Prepared, examiner: Examiner, share: float
) -> tuple[Evaluation, list[GroupSensitivity]]:
    """The accuracies of the whole model, and of it without some filters of each group."""
    subject, structure = run.subject, run.subject.structure
    nothing = np.zeros(structure.n_units, bool)
    whole, total = examiner.evaluate(nothing), subject.cost(nothing).flops
    scores = examiner.scores(nothing)
    weights = run.pace.selection.order.class_weights(whole.soft)
    found = []
    for number, group in enumerate(structure.groups):
        run.progress.advance(number / len(structure.groups), group.name)
        removed = lowest_of_group(structure, group, scores, weights, share)
        if not removed.any():
            continue  # a single filter, which stays
        without, gone = examiner.evaluate(removed), structure.removed_filters(removed)
        found.append(
            GroupSensitivity(
                group=group.name,
                filters=int(structure.unit_sizes[group.units].sum()),
                removed=sum(map(len, gone.values())),
                indices={layer: tuple(map(int, indices)) for layer, indices in gone.items()},
                flops=1 - subject.cost(removed).flops / total,
                harmonic_mean=harmonic_mean_accuracy(without.hard),
                soft_harmonic_mean=harmonic_mean_accuracy(without.soft),
                class_accuracies=tuple(map(float, without.hard)),
            )
        )
    run.progress.advance(1.0)
    return whole, found
