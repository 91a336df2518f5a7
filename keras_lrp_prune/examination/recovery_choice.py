"""The option that says which of the weights that are left are refitted."""

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
# docs/recovery-choice.md has the measurements. Where there is no linear head, layers alone.
_BEST = "head+least_squares"


@dataclass(frozen=True)
class Recovery:
    """Which of the weights that are left are refitted; checked before any work.

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
        """Whether it is `"auto"`: then nothing is refitted where that would lose much accuracy."""
        return self.asked == AUTO

    @property
    def chosen(self) -> str | None:
        """One of `RECOVERIES`: what is asked for, or what `"auto"` comes to."""
        return _BEST if self.is_auto else self.asked

    @property
    def refits_head(self) -> bool:
        """Whether the linear head is fitted anew, and nothing else."""
        return RECOVERIES[self.chosen] == ("head",)

    @property
    def corrects_head(self) -> bool:
        """Whether it is corrected towards the labels, once layers are refitted."""
        return "head" in RECOVERIES[self.chosen] and self.refits_layers

    @property
    def needs_head(self) -> bool:
        """Whether a model without a linear head is an error: `"auto"` does what it can."""
        return not self.is_auto and "head" in RECOVERIES[self.chosen]

    @property
    def refits_layers(self) -> bool:
        """Whether layers are fitted to what they computed in the whole model."""
        return "least_squares" in RECOVERIES[self.chosen]

    def named(self, *, corrected: bool) -> str | None:
        """One of `RECOVERIES`: what was done, as the head is corrected only where that pays."""
        return "least_squares" if self.corrects_head and not corrected else self.chosen


FROZEN = Recovery(None)
