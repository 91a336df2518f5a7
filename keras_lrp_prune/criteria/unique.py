"""Unique contributions as a criterion: what no other unit can make up for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keras_lrp_prune.criteria.criterion import Criterion, Scorer
from keras_lrp_prune.criteria.lrp import NativeLRP
from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.graph.channels import ChannelStructure


@dataclass(frozen=True)
class UniqueContribution(NativeLRP):
    """What each unit adds to the log odds of each sample's class that no other can make up for.

    Where the next layer is refitted, what the other channels that it reads tell of a channel is not
    lost with it. What is lost is the rest: the residual of its regression on them, `e = a - b`, in
    statistics its semi-partial or unique part. With the gradient `d` of the log odds by the
    activation `a` (in ReLU networks `a d` is relevance by the z-rule), a unit's contribution to a
    sample is the sum of `e d` over positions and over the layers that read it, and its score the
    mean square, in one unit for all layers. The regression is that of one half of the images, the
    residual that of the other. Each unit that goes leaves the others less to make up with: their
    scores follow, one unit at a time, without a pass.

    Layers that cannot be refitted (grouped and shared ones) lose all of the contribution. `prune`
    refits what is left at each step where there is a recovery, in steps of 10 %, and scores and
    judges the network as it is then: units that go one by one against those that an election by
    contributions as they are would take.

    Args:
        engine: `"auto"` or `"native"`.
        worker_python: Has no use here.

    Raises:
        ValueError: For another engine.

    Example:
    >>> result = klp.prune(model, (x, y), 0.7, criterion=klp.criteria.UniqueContribution())
    """

    name = "lrp.unique"
    help = "mean square of what it adds to the log odds that others cannot make up for"
    passes = 4
    needs = ("samples", "gradients", "lrp", "second_moments")
    refits_each_step = True

    def scorer(self, problem: Problem[ChannelStructure]) -> Scorer[ChannelStructure]:
        """See `Criterion`.

        Raises:
            ValueError: If there are fewer than two samples.
        """
        # Not at the top: it brings SciPy and scikit-learn.
        from keras_lrp_prune.criteria.unique_scorer import UniqueScorer

        return UniqueScorer(problem)


CRITERIA: Sequence[Criterion] = (UniqueContribution(),)
