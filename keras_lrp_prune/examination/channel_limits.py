"""The options that say what stays, whatever the scores are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keras_lrp_prune.arguments import Checked
from keras_lrp_prune.selection.limits import Limits


@dataclass(frozen=True)
class ChannelLimits(Checked):
    """The layers and channels of a model that stay, whatever the scores are.

    Args:
        protect: Layers to leave alone (a nested model's name: all in it).
        min_channels: Channels that every group keeps: a number, or a share between 0 and 1 of the
            group's channels.
        round_to: Groups that lose channels keep a multiple of this many.

    Raises:
        TypeError, ValueError: For arguments outside their ranges.
    """

    protect: Sequence[str] = ()
    min_channels: float = 1
    round_to: int = 1

    @property
    def of_groups(self) -> Limits:
        """What every group keeps."""
        return Limits(self.min_channels, self.round_to)


DEFAULT_LIMITS = ChannelLimits()
