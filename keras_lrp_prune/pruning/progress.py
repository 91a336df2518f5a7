"""The progress bar of a pruning run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from keras_lrp_prune.control.history import StepRecord

_PIPED_WIDTH = 160


class PruningProgress:
    """Shows rate, filters left, harmonic mean and worst class; without a terminal, line by line.

    Args:
        part: How much of the way a step has come, in [0, 1].
        enabled: Whether to show anything.
    """

    def __init__(self, part: Callable[[StepRecord], float], *, enabled: bool = True) -> None:
        self._part = part
        console = Console(stderr=True)
        if not console.is_terminal:
            console = Console(stderr=True, width=_PIPED_WIDTH)
        self._lines = console if enabled and not console.is_terminal else None
        self._bar = Progress(
            TextColumn("pruning"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not enabled or not console.is_terminal,
        )
        self._task = self._bar.add_task("prune", total=1.0, state="")

    def show(self, record: StepRecord) -> None:
        """Shows one step."""
        worst = record.worst_class
        state = (
            f"rate {record.rate:5.1%}, {record.filters} filters left, "
            f"harmonic mean {record.harmonic_mean:.3f} (soft {record.soft_harmonic_mean:.3f}), "
            f"worst class {worst} ({record.class_accuracies[worst]:.2f})"
        )
        if self._lines is not None:
            verdict = "" if record.accepted else f", undone: {record.reason}"
            self._lines.print(f"step {record.step}: {state}{verdict}", highlight=False)
        elif record.accepted:
            self._bar.update(self._task, completed=self._part(record), state=state)
        else:
            self._bar.update(self._task, state=f"{state}, undone")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
