"""Reconstruction of what layers return as criteria: channel OBS, and ThiNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keras_lrp_prune.arguments import number, whole
from keras_lrp_prune.criteria.criterion import Criterion, Scorer
from keras_lrp_prune.criteria.problem import Problem
from keras_lrp_prune.graph.channels import ChannelStructure


@dataclass(frozen=True)
class ChannelOBS(Criterion):
    """What the layers that read a unit lose with it once their weights make up for it.

    The optimal brain surgeon (Hassibi and Stork 1993) over structures, as ZipLM (Kurtic et al.
    2023, arXiv:2302.04089) and SlimGPT (Ling et al. 2024, arXiv:2412.18110) have it: in closed
    form, one unit at a time, the inverse of the second moments downdated and the weights corrected
    each time. Errors of outputs count by the squared gradient of the log odds of each sample's
    class, so that layers compare. Where a kernel reads windows, a channel is made up for by others
    at the same place of the window.

    A layer that cannot be refitted (grouped, or called in several places) makes up for nothing:
    there a unit counts with the mean square of what it adds to the log odds. `prune` refits what is
    left at each step where there is a recovery.

    Args:
        damping: What is added to the second moments' diagonal, as a share of the mean square.

    Raises:
        TypeError, ValueError: For a damping that is no positive number.

    Example:
    >>> result = klp.prune(model, (x, y), 0.7, criterion=klp.criteria.ChannelOBS(damping=0.1))
    """

    damping: float = 0.01

    name = "obs"
    help = "what the layers that read it lose once their weights make up for it"
    passes = 4
    needs = ("samples", "gradients", "second_moments")
    refits_each_step = True

    def __post_init__(self) -> None:
        number("(0, inf)")("damping", self.damping)

    def scorer(self, problem: Problem[ChannelStructure]) -> Scorer[ChannelStructure]:
        """See `Criterion`."""
        # Not at the top: it brings SciPy and scikit-learn.
        from keras_lrp_prune.criteria.reconstruction_scorers import ChannelOBSScorer

        return ChannelOBSScorer(problem, self.damping)


@dataclass(frozen=True)
class ThiNet(Criterion):
    """How much the outputs of the layers that read a unit change without it, and those that went.

    Greedy, as in ThiNet (Luo et al. 2017, arXiv:1707.06342): of each image and mirror image and
    each layer some outputs are drawn, each at one place of one channel. What goes next is what
    changes them least, in squares, together with all that is gone. ThiNet takes the same share of
    each layer; here errors are relative to the squared outputs of the layer, so that layers
    compare. `prune` refits what is left at each step where there is a recovery.

    Args:
        instances: How many outputs are drawn of an image and layer.

    Raises:
        TypeError, ValueError: For a number of instances that is no positive whole number.

    Example:
    >>> result = klp.prune(model, (x, y), 0.7, criterion=klp.criteria.ThiNet(instances=20))
    """

    instances: int = 10

    name = "thinet"
    help = "how much the outputs of the layers that read it change without it"
    needs = ("samples", "second_moments")
    refits_each_step = True

    def __post_init__(self) -> None:
        whole(1)("instances", self.instances)

    @property
    def passes(self) -> int:
        """See `Criterion`: images and mirror images, forward, and back for each instance."""
        return 2 * (1 + self.instances)

    def scorer(self, problem: Problem[ChannelStructure]) -> Scorer[ChannelStructure]:
        """See `Criterion`."""
        # Not at the top: it brings TensorFlow.
        from keras_lrp_prune.criteria.reconstruction_scorers import ThiNetScorer

        return ThiNetScorer(problem, self.instances)


CRITERIA: Sequence[Criterion] = (ChannelOBS(), ThiNet())
