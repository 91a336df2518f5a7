"""How much of each group may go, and in which numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np


@dataclass(frozen=True)
class Limits:
    """How much of each group may go.

    Args:
        min_units: Units that every group keeps: a number, or a share between 0 and 1 of the
            group's units, rounded up.
        round_to: Groups that lose units keep a multiple of this many (hardware widths).
    """

    min_units: float = 1
    round_to: int = 1

    @property
    def is_share(self) -> bool:
        """Whether `min_units` is a share of each group."""
        return 0 < self.min_units < 1

    def kept(self, size: int) -> int:
        """Units that a group of this size keeps."""
        if not self.is_share:
            return int(self.min_units)
        # 0.1 of 30 is 3, whatever floats say.
        return max(1, ceil(round(self.min_units * size, 9)))

    def in_words(self, unit_noun: str) -> tuple[str, str]:
        """The limits as they were asked for, such as `"min_channels=1"`."""
        return f"min_{unit_noun}={self.min_units}", f"round_to={self.round_to}"


def bundle_sizes(left: int, size: int, limits: Limits) -> np.ndarray:
    """How many units of a group go at once, in the order in which they go.

    Args:
        left: Units that are left of the group.
        size: Units that it had at first.
        limits: What it keeps.
    """
    first = left % limits.round_to or limits.round_to
    count = (left - limits.kept(size) - first) // limits.round_to + 1
    sizes = np.full(max(count, 0), limits.round_to)
    sizes[:1] = first
    return sizes
