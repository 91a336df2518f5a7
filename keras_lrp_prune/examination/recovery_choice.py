"""What of the weights that are left is refitted: as asked for, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keras_lrp_prune.arguments import one_of

RECOVERIES: Mapping[str | None, tuple[str, ...]] = {
    None: (),
    "head": ("head",),
    "least_squares": ("least_squares",),
    "head+least_squares": ("head", "least_squares"),
}
AUTO = "auto"
# Without labels, so that no head and no small class stands in its way; docs/recovery-choice.md has
# what it was chosen by.
_BEST = "least_squares"


@dataclass(frozen=True)
class Recovery:
    """What of the weights that are left is refitted, as it is asked for.

    Args:
        asked: One of `RECOVERIES`, or `"auto"`.

    Raises:
        ValueError: If it is neither.
    """

    asked: str | None = AUTO

    def __post_init__(self) -> None:
        one_of("recovery", self.asked, [AUTO, *RECOVERIES])

    @property
    def is_auto(self) -> bool:
        """Whether it is left open, so that nothing is refitted where that would lose much."""
        return self.asked == AUTO

    @property
    def chosen(self) -> str | None:
        """One of `RECOVERIES`: what is asked for, or what `"auto"` comes to."""
        return _BEST if self.is_auto else self.asked

    @property
    def refits_head(self) -> bool:
        """Whether the linear head is fitted anew."""
        return "head" in RECOVERIES[self.chosen]


FROZEN = Recovery(None)
