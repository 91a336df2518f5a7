"""Characters that matplotlib's own font lacks, such as Chinese ones."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

# This font has the same empty box for every character.
_LAST_RESORT = "Last Resort"
_WEIGHTS = ("normal", "bold")


def show_all_characters(figure: Figure) -> None:
    """Makes all characters of the texts in a figure be drawn, without a line in the log.

    Characters that the font of a text lacks come from other installed fonts. What none of them has
    is shown as an escape sequence, as `printable` shows what cannot be printed.

    Args:
        figure: The figure, complete.
    """
    with _silent_lookups():
        if _completed(figure):
            # Matplotlib remembers what it looked up: drawing it again logs nothing either.
            figure.draw_without_rendering()


def _completed(figure: Figure) -> bool:
    """Gives texts the fonts that they need; returns whether any text needed one."""
    texts = [text for text in figure.findobj(Text) if not text.get_text().isascii()]
    lacking = {sign for text in texts for sign in _lacking(text.get_text(), text.get_fontfamily())}
    if not lacking:
        return False
    families = _families_with(lacking)
    escapes = {
        ord(sign): sign.encode("unicode_escape").decode() for sign in _lacking(lacking, families)
    }
    for text in texts:
        text.set_fontfamily([*text.get_fontfamily(), *families])
        text.set_text(text.get_text().translate(escapes))
    return True


@contextmanager
def _silent_lookups() -> Iterator[None]:
    """Keeps matplotlib from logging that a font family lacks a weight: it takes the nearest one."""
    logger = logging.getLogger(font_manager.__name__)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _lacking(signs: Iterable[str], families: Iterable[str]) -> set[str]:
    """The characters that none of the font families has."""
    left = set(signs)
    for family in families:
        left -= _held(left, family)
    return left


def _held(signs: Iterable[str], family: str) -> set[str]:
    """The characters that a font family has, in each weight that is drawn."""
    fonts = [
        get_font(findfont(FontProperties(family=[family], weight=weight))) for weight in _WEIGHTS
    ]
    return {sign for sign in signs if all(font.get_char_index(ord(sign)) for font in fonts)}


def _families_with(signs: Iterable[str]) -> list[str]:
    """Installed font families that together have all the characters that any of them has."""
    left, chosen = set(signs), []
    names = {entry.name for entry in fontManager.ttflist if _LAST_RESORT not in entry.name}
    for family in sorted(names, key=lambda name: ("Sans" not in name, name)):
        if left and (held := _held(left, family)):
            chosen.append(family)
            left -= held
    return chosen
