"""Characters that matplotlib's font lacks: drawn by another one, or escaped; never a warning."""

import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.text import Text

from keras_lrp_prune.report import Box, plot_graph, plot_heatmaps, plot_history

FLOWER, TREE = "\u82b1", "\u6728"


def square():
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()


@pytest.fixture
def flower_font(tmp_path, monkeypatch):
    """An installed font that has one Chinese character; none has the other."""
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "flower"])
    builder.setupCharacterMap({ord(FLOWER): "flower"})
    builder.setupGlyf(dict.fromkeys([".notdef", "flower"], square()))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", "flower"], (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Flowers Only", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800)
    builder.setupPost()
    builder.save(tmp_path / "flower.ttf")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    font_manager.fontManager.addfont(tmp_path / "flower.ttf")


NAMES = ["daisy", f"{FLOWER} of", TREE]
DRAWN = {
    "history": lambda path: plot_history(
        [{"rate": 0.0, "harmonic_mean": 0.9, "class_accuracies": [0.9] * 3, "accepted": True}],
        path,
        title=f"{FLOWER}{TREE}",
        class_names=NAMES,
    ),
    "heat maps": lambda path: plot_heatmaps(
        np.zeros((3, 4, 4, 1)), {name: np.zeros((3, 4, 4)) for name in NAMES}, path, NAMES
    ),
    "graph": lambda path: plot_graph([Box(name, name, {name: 3}) for name in NAMES], [], {}, path),
}


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
@pytest.mark.parametrize("drawn", DRAWN)
def test_no_character_is_missing(drawn, ending, tmp_path, flower_font):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        figure = DRAWN[drawn](tmp_path / f"picture.{ending}")
        figure.savefig(tmp_path / "again.png")
    shown = {text.get_text(): text.get_fontfamily() for text in figure.findobj(Text)}
    assert "Flowers Only" in shown[f"{FLOWER} of"] and "\\u6728" in shown
    assert "Flowers Only" not in shown["daisy"]
