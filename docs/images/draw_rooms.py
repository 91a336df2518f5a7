"""Draws docs/images/rooms.svg: the rooms of the package, each above those that it may import.

The order is that of the import contract in pyproject.toml, and what is said of a room is the first
sentence of its docstring. Run from anywhere: python docs/images/draw_rooms.py
"""

from __future__ import annotations

import ast
import textwrap
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "keras_lrp_prune"
PICTURE = Path(__file__).with_name("rooms.svg")
WIDTH, GAP, PADDING, LINE = 860, 8, 10, 16
# Boxes bring their own paper, so that the picture reads on light and on dark pages.
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .name { font-weight: 600; font-size: 13px }
  rect { fill: #eaf1fb; stroke: #7b9cc9 }
""".strip("\n")


def layers() -> list[list[str]]:
    """The rooms, from the top to the bottom; those side by side do not import each other."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract, *_) = settings["tool"]["importlinter"]["contracts"]
    rows = [[name.strip("() ") for name in row.split("|")] for row in contract["layers"]]
    return [row for row in rows if row != ["__main__"]]


def sentence(room: str) -> str:
    """What the docstring of a room says first."""
    path = PACKAGE / room / "__init__.py"
    source = (path if path.exists() else PACKAGE / f"{room}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0].replace("`", "")


def box(room: str, left: float, top: float, width: float, height: float) -> str:
    """A room, with its name and what is said of it."""
    lines = wrapped(room, width)
    spans = "".join(
        f'<tspan x="{left + PADDING:g}" dy="{LINE}">{escape(line)}</tspan>' for line in lines
    )
    return (
        f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="5"/>'
        f'<text x="{left + PADDING:g}" y="{top + PADDING + 9:g}">'
        f'<tspan class="name">{escape(room)}</tspan>{spans}</text>'
    )


def wrapped(room: str, width: float) -> list[str]:
    """What is said of a room, in lines that fit into a box of that width."""
    return textwrap.wrap(sentence(room), int((width - 2 * PADDING) / 6.1))


def drawn() -> str:
    """The picture, as SVG."""
    top, parts = GAP / 2, []
    for row in layers():
        width = (WIDTH - GAP * len(row)) / len(row)
        height = 2 * PADDING + 9 + LINE * max(len(wrapped(room, width)) for room in row)
        for number, room in enumerate(row):
            parts.append(box(room, GAP / 2 + number * (width + GAP), top, width, height))
        top += height + GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:g}">'
    title = "<title>The rooms of the package: each imports only from rooms below it</title>"
    return "\n".join([head, title, f"<style>{STYLE}</style>", *parts, "</svg>\n"])


if __name__ == "__main__":
    PICTURE.write_text(drawn(), encoding="utf-8")
