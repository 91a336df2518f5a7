"""Progress of a run, on a terminal of any width: one bar for each of its stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from keras_lrp_prune.control.history import Step
from keras_lrp_prune.display_names import printable

_PIPED_WIDTH, _WIDEST, _NARROWEST_BAR, _SHORTEST_NAME = 160, 100, 6, 6
_LEAST_BAR = 4  # Rich makes none shorter
_LONGEST_MEAN = 20  # else the first word, "harmonic", is left out beside a bar
_TIME_WIDTH = len("1:00:00 left")
# Steps that follow each other within so many seconds come from a checkpoint: they tell no speed.
_AT_ONCE = 0.02


class PruningProgress:
    """Shows the stages of a run: how far each is, and how long it will still take.

    Of pruning: rate, harmonic mean and worst class. Without a terminal, line by line.

    Args:
        part: Gives for a step how much of the way is done, in [0, 1].
        class_names: What the classes are called; by default numbers.
        enabled: Whether to show anything.
    """

    def __init__(
        self,
        part: Callable[[Step], float],
        *,
        class_names: Sequence[str] | None = None,
        enabled: bool = True,
    ) -> None:
        self._part, self._names, self._mean = part, class_names, "harmonic mean"
        console = Console(stderr=True, highlight=False)
        self._on_terminal = console.is_terminal
        width = min(console.width, _WIDEST) if self._on_terminal else _PIPED_WIDTH
        self._console = Console(stderr=True, highlight=False, width=width, quiet=not enabled)
        self._bar: Progress | None = None
        self._clock = _Clock()

    def name_mean(self, mean: str) -> None:
        """Sets the name that is shown for the harmonic mean, such as that of cross-fitted heads."""
        self._mean = mean

    @contextmanager
    def stage(self, name: str, *, shown: bool = True) -> Iterator[None]:
        """Shows a stage while it lasts, and how long it took; `name` says what is done."""
        shown = shown and not self._console.quiet
        self._clock = _Clock()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[state]}", markup=False),
            _TimeColumn(self._clock),
            console=self._console,
            disable=not (shown and self._on_terminal),
            expand=True,
        )
        self._bar.add_task(name, total=None, state="")
        with self._bar:
            yield
        if shown and not self._on_terminal:
            self._console.print(f"{name}: {_clock_time(self._clock.passed)}", soft_wrap=True)

    def advance(self, part: float, state: str = "") -> None:
        """Moves the bar of this stage to a part in [0, 1]."""
        self._clock.reached(part)
        if self._bar is not None:
            (task,) = self._bar.task_ids
            self._bar.update(task, total=1.0, completed=part, state=state)

    def show(self, record: Step) -> None:
        """Shows a step of pruning."""
        undone = "" if record.accepted else " undone"
        if self._on_terminal:
            done = self._part(record) if record.accepted else self._clock.part
            mean = self._mean if len(self._mean) <= _LONGEST_MEAN else self._mean.split(" ", 1)[1]
            state = f"{record.rate:.1%}{undone} {mean} {record.harmonic_mean:.1%}"
            self.advance(done, f"{state}{self._worst(' worst ', record, len(state))}")
        else:
            verdict = "" if record.accepted else f", undone: {record.reason}"
            word, size = next(iter(record.left.items()))
            self._console.print(
                f"step {record.step}: rate {record.rate:.1%}, {size} {word} left, "
                f"{self._mean} {record.harmonic_mean:.1%}{self._worst(', worst class ', record)}"
                f"{verdict}",
                soft_wrap=True,
            )

    def _worst(self, title: str, record: Step, taken: int | None = None) -> str:
        """The worst class and its accuracy, the name cut to the room in a line of the terminal.

        Nothing if all classes are at 100 %, so that none is the worst, or if even a short name
        would leave no room for a bar.
        """
        worst = record.worst_class
        if record.class_accuracies[worst] == 1:
            return ""
        name = printable(self._names[worst] if self._names else worst)
        accuracy = f"{record.class_accuracies[worst]:.1%}"
        if taken is not None:
            beside = len("pruning") + _NARROWEST_BAR + taken + len(f"{title} ") + len(accuracy)
            room = self._console.width - beside - _TIME_WIDTH - len("   ")
            if room + _NARROWEST_BAR < _SHORTEST_NAME + _LEAST_BAR:
                return ""
            shortened = Text(name)
            shortened.truncate(max(room, _SHORTEST_NAME), overflow="ellipsis")
            name = shortened.plain
        return f"{title}{name} {accuracy}"


class _Clock:
    """When a stage began, and when it will be done if it goes on as it did."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._last = self._begin
        self._from: tuple[float, float] | None = None
        self.part = 0.0
        self.end: float | None = None

    @property
    def passed(self) -> float:
        """Seconds since the stage began."""
        return time.monotonic() - self._begin

    def reached(self, part: float) -> None:
        """Takes note of how far the stage is by now."""
        now = time.monotonic()
        if self._from is None or now - self._last < _AT_ONCE:
            self._from = (now, part)  # the first step is left out: it is long, as it traces
        start, first = self._from
        self.part, self._last = part, now
        if part > first:
            self.end = now + (now - start) * (1 - part) / (part - first)


class _TimeColumn(ProgressColumn):
    """The time left, or before that is known, and in the end, the time passed."""

    def __init__(self, clock: _Clock) -> None:
        super().__init__(Column(no_wrap=True))
        self._clock = clock

    def render(self, task: Task) -> Text:
        """See `ProgressColumn`."""
        left = None if self._clock.end is None else self._clock.end - time.monotonic()
        if left is None or task.finished:
            text = _clock_time(self._clock.passed)
        else:
            text = f"{_clock_time(max(left, 0.0))} left"
        return Text(text, no_wrap=True)


def _clock_time(seconds: float) -> str:
    """Hours, minutes and seconds.

    Example:
        >>> _clock_time(75.2), _clock_time(3723)
        ('1:15', '1:02:03')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
