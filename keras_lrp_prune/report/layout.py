"""Where the boxes of a layered drawing go, and how the lines between them run.

Boxes stand in rows, each below those that it reads. A line that passes a row keeps a place free in
it: a *waypoint*. A long drawing is cut into columns side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np

# Inches.
ROW_GAP, BOX_GAP, COLUMN_GAP = 0.15, 0.16, 0.3
_WAYPOINT_WIDTH = 0.1

# Width to height that a drawing in several columns comes close to, and the height in rows up to
# which one column will do.
_ASPECT = 1.3
_ONE_COLUMN, _MOST_COLUMNS = 24, 16

_ORDER_SWEEPS, _PLACE_SWEEPS = 12, 24


@dataclass(frozen=True)
class Layout:
    """A finished layout, in inches; y grows downwards.

    Args:
        centres: Centre of each box, float, shape `(boxes, 2)`.
        lines: Per line the points that it runs through, shape `(k, 2)`.
        width, height: Size of the whole.
    """

    centres: np.ndarray
    lines: tuple[np.ndarray, ...]
    width: float
    height: float


@dataclass
class _Item:
    """A box, or the waypoint of a line in a row."""

    row: int
    width: float
    box: bool
    above: list[int] = field(default_factory=list)
    below: list[int] = field(default_factory=list)


def layered_layout(
    count: int, edges: Sequence[tuple[int, int]], box: tuple[float, float]
) -> Layout:
    """Places boxes in rows and columns.

    Args:
        count: Number of boxes.
        edges: Pairs (from, to) of box numbers, the first smaller than the second.
        box: Width and height of a box.

    Example:
        >>> layered_layout(2, [(0, 1)], (1.0, 0.3)).centres.tolist()
        [[0.5, 0.15], [0.5, 0.6]]
    """
    items = _items(count, edges, box[0])
    rows: list[list[int]] = [[] for _ in range(1 + max((item.row for item in items), default=-1))]
    for number, item in enumerate(items):
        rows[item.row].append(number)
    _order(items, rows)
    most = 1 if len(rows) <= _ONE_COLUMN else min(_MOST_COLUMNS, len(rows) // 8)
    cuts = {tuple(_cuts(items, rows, columns)) for columns in range(1, most + 1)}
    tried = [_columns(items, rows, cut, count, box[1]) for cut in sorted(cuts)]
    return min(tried, key=lambda layout: abs(np.log(layout.width / layout.height / _ASPECT)))


def _columns(
    items: list[_Item], rows: list[list[int]], cuts: tuple[int, ...], count: int, height: float
) -> Layout:
    """The layout with these rows at the tops of columns."""
    pitch = height + ROW_GAP
    x, y = np.zeros(len(items)), np.zeros(len(items))
    left, gutters = 0.0, []
    for first, end in pairwise(cuts):
        part = rows[first:end]
        _place(items, part, x)
        numbers = np.concatenate(part)
        widths = np.array([items[number].width for number in numbers])
        x[numbers] += left - (x[numbers] - widths / 2).min()
        gutters.append(float((x[numbers] + widths / 2).max()))
        left = gutters[-1] + COLUMN_GAP + _WAYPOINT_WIDTH * _crossings(items, rows, end)
        for row, in_row in enumerate(part):
            y[in_row] = row * pitch + height / 2
    lines = tuple(_lines(items, rows, cuts, gutters, x, y, height))
    length = max(np.diff(cuts)) * pitch - ROW_GAP
    return Layout(np.stack([x, y], 1)[:count], lines, gutters[-1], float(length))


def _items(count: int, edges: Sequence[tuple[int, int]], width: float) -> list[_Item]:
    """The boxes in their rows, then the waypoints; lines from one box share theirs."""
    rows = _row_numbers(count, edges)
    items = [_Item(row, width, True) for row in rows]
    waypoints: dict[tuple[int, int], int] = {}
    for start, end in dict.fromkeys(edges):
        previous = start
        for row in range(rows[start] + 1, rows[end]):
            if (start, row) not in waypoints:
                waypoints[start, row] = len(items)
                items.append(_Item(row, _WAYPOINT_WIDTH, False))
                _link(items, previous, len(items) - 1)
            previous = waypoints[start, row]
        _link(items, previous, end)
    return items


def _link(items: list[_Item], upper: int, lower: int) -> None:
    items[upper].below.append(lower)
    items[lower].above.append(upper)


def _row_numbers(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Each box one row below the lowest that it reads; those that read none, above their reader."""
    rows = [0] * count
    readers: list[list[int]] = [[] for _ in range(count)]
    for start, end in sorted(edges):
        rows[end] = max(rows[end], rows[start] + 1)
        readers[start].append(end)
    reading = {end for _, end in edges}
    for number in range(count):
        if number not in reading and readers[number]:
            rows[number] = min(rows[reader] for reader in readers[number]) - 1
    return rows


def _order(items: list[_Item], rows: list[list[int]]) -> None:
    """Sorts each row by the places of its neighbours, down and up; keeps the best order found."""
    best, fewest = [list(row) for row in rows], _all_crossings(items, rows)
    for sweep in range(_ORDER_SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        place = _places(rows)
        for row in rows if down else rows[::-1]:
            wanted = {}
            for number in row:
                near = items[number].above if down else items[number].below
                wanted[number] = float(np.mean([place[n] for n in near] or [place[number]]))
            row.sort(key=wanted.__getitem__)
            place.update(_places([row]))
        crossings = _all_crossings(items, rows)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    rows[:] = best


def _places(rows: Sequence[Sequence[int]]) -> dict[int, float]:
    """Place of each item in its row, from 0 to 1, so that rows of all lengths compare."""
    return {number: (place + 0.5) / len(row) for row in rows for place, number in enumerate(row)}


def _all_crossings(items: list[_Item], rows: list[list[int]]) -> int:
    """How many pairs of lines cross."""
    total = 0
    place = _places(rows)
    for row in rows:
        ends = [sorted(place[n] for n in items[number].below) for number in row]
        flat = np.array([end for found in ends for end in found])
        total += int(np.triu(flat[:, None] > flat[None, :], 1).sum())
    return total


def _crossings(items: list[_Item], rows: list[list[int]], row: int) -> int:
    """How many items of the row above lead into this one."""
    if row == len(rows):
        return 0
    return len({above for number in rows[row] for above in items[number].above})


def _cuts(items: list[_Item], rows: list[list[int]], columns: int) -> list[int]:
    """The first row of each column, and the number of rows; cut where few lines run."""
    length = len(rows) / columns
    inner = []
    for column in range(1, columns):
        middle = round(column * length)
        near = range(middle - int(length / 4), middle + int(length / 4) + 1)
        inner.append(min(near, key=lambda row: (_crossings(items, rows, row), abs(row - middle))))
    return [0, *inner, len(rows)]


def _place(items: list[_Item], rows: list[list[int]], x: np.ndarray) -> None:
    """Gives the items of a column their x: straight chains, side by side without overlap."""
    chain_of = _chains(items, rows)
    sides = _sides(items, rows, chain_of)
    place = dict.fromkeys(sides, 0.0)
    for chain in _left_to_right(sides):
        place[chain] = max((place[c] + apart for c, apart in sides[chain].left), default=0.0)
    # Each chain then moves towards those that it is linked with, as far as its neighbours let it.
    linked: dict[int, list[int]] = {chain: [] for chain in sides}
    for number, chain in chain_of.items():
        for near in (*items[number].above, *items[number].below):
            if chain_of.get(near, chain) != chain:
                linked[chain].append(chain_of[near])
    for sweep in range(_PLACE_SWEEPS):
        order = list(place)
        for chain in order if sweep % 2 else order[::-1]:
            if not linked[chain]:
                continue
            wanted = float(np.median([place[c] for c in linked[chain]]))
            low = max((place[c] + apart for c, apart in sides[chain].left), default=-np.inf)
            high = min((place[c] - apart for c, apart in sides[chain].right), default=np.inf)
            place[chain] = min(max(wanted, low), high)
    for number, chain in chain_of.items():
        x[number] = place[chain]


def _chains(items: list[_Item], rows: list[list[int]]) -> dict[int, int]:
    """Item to the topmost item of the straight vertical chain that it is part of.

    Chains never cross, so that each is wholly to one side of every other.
    """
    chain_of = {number: number for row in rows for number in row}
    up = _most_boxes(items, rows, "above")
    down = _most_boxes(items, rows[::-1], "below")
    for upper, lower in pairwise(rows):
        above = {number: place for place, number in enumerate(upper)}
        links = []
        for place, number in enumerate(lower):
            for start in items[number].above:
                if items[start].box == items[number].box:
                    # The longest way through the model is its trunk; else the middle one goes on.
                    aside = _aside(start, items[number].above) + _aside(number, items[start].below)
                    links.append((-up[start] - down[number], aside, above[start], place))
        taken: list[tuple[int, int]] = []
        for *_, start, end in sorted(links):
            if all((start - a) * (end - b) > 0 for a, b in taken):
                taken.append((start, end))
                chain_of[lower[end]] = chain_of[upper[start]]
    return chain_of


def _most_boxes(
    items: list[_Item], rows: list[list[int]], side: Literal["above", "below"]
) -> dict[int, int]:
    """Item to the number of boxes on the longest way to it through the rows."""
    most: dict[int, int] = {}
    for row in rows:
        for number in row:
            near = [most[n] for n in getattr(items[number], side) if n in most]
            most[number] = items[number].box + max(near, default=0)
    return most


def _aside(number: int, of: list[int]) -> float:
    """How far from the middle of these an item is."""
    return abs(of.index(number) - (len(of) - 1) / 2)


@dataclass
class _Sides:
    """The chains directly left and right of one, and how far away their centres must be."""

    left: list[tuple[int, float]] = field(default_factory=list)
    right: list[tuple[int, float]] = field(default_factory=list)


def _sides(
    items: list[_Item], rows: list[list[int]], chain_of: dict[int, int]
) -> dict[int, _Sides]:
    sides = {chain: _Sides() for chain in chain_of.values()}
    for row in rows:
        for left, right in pairwise(row):
            gap = BOX_GAP if items[left].box or items[right].box else BOX_GAP / 2
            apart = (items[left].width + items[right].width) / 2 + gap
            sides[chain_of[right]].left.append((chain_of[left], apart))
            sides[chain_of[left]].right.append((chain_of[right], apart))
    return sides


def _left_to_right(sides: dict[int, _Sides]) -> Iterator[int]:
    """The chains, each after those left of it."""
    waiting = {chain: len(side.left) for chain, side in sides.items()}
    ready = [chain for chain, count in waiting.items() if not count]
    while ready:
        chain = ready.pop()
        yield chain
        for other, _ in sides[chain].right:
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)


def _lines(
    items: list[_Item],
    rows: list[list[int]],
    cuts: tuple[int, ...],
    gutters: list[float],
    x: np.ndarray,
    y: np.ndarray,
    height: float,
) -> Iterator[np.ndarray]:
    """The way of each line from row to row, and around to the top of the next column."""
    column = np.searchsorted(cuts, np.arange(len(rows)), side="right") - 1
    lanes = [0] * len(gutters)
    for number, item in enumerate(items):
        start = np.array([x[number], y[number] + height / 2])
        if not item.box:  # straight through its row
            yield np.array([start - [0, height], start])
        ends = [np.array([x[lower], y[lower] - height / 2]) for lower in item.below]
        here = column[item.row]
        if not item.below or column[item.row + 1] == here:
            yield from (np.array([start, end]) for end in ends)
            continue
        # Around to the top of the next column; all lines from one item share the way there.
        side = gutters[here] + COLUMN_GAP / 2 + lanes[here] * _WAYPOINT_WIDTH
        apart = ROW_GAP * (0.4 + 0.2 * (lanes[here] % 3))
        lanes[here] += 1
        for end in ends:
            low, high = start[1] + apart, end[1] - apart
            turns = [(start[0], low), (side, low), (side, high), (end[0], high)]
            yield np.array([start, *turns, end])
