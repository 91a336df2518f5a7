"""Tables for the terminal: what they say, at any width, and what names cannot do to them."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from places import ROOT

from keras_lrp_prune.display_names import printable
from keras_lrp_prune.report import (
    LayerTable,
    before_after_table,
    class_table,
    comparison_table,
    print_table,
    ratio_table,
    reason_lines,
    relevance_table,
    table_text,
)


def printed(*tables):
    file = io.StringIO()
    print_table(*tables, file=file)
    return file.getvalue()


def test_before_and_after():
    text = printed(
        before_after_table(
            [
                ("Filters", 1024, np.int64(512), 512),
                ("Latency (ms)", 1.2345, np.float32(0.5), None),
                ("Size", "1 MB", 12345.6, "[b]"),
            ],
            extra_columns=["Random at the same rate"],
            title="Result",
        )
    )
    rows = [line.split() for line in text.splitlines()]
    assert rows[0] == ["Result"]
    assert rows[1] == ["Before", "After", "Random", "at", "the", "same", "rate"]
    assert rows[3:] == [
        ["Filters", "1,024", "512", "512"],
        ["Latency", "(ms)", "1.23", "0.5", "-"],
        ["Size", "1", "MB", "12,346", "[b]"],
    ]


def test_classes_before_and_after():
    table = class_table(
        ["cat", "[red]dog"],
        [1.0, 0.9],
        [0.95, 0.9],
        support=[10, 1000],
    )
    rows = [line.split() for line in printed(table).splitlines()]
    assert rows[0] == ["Class", "Samples", "Before", "After", "Change"]
    assert rows[2] == ["cat", "10", "100.0", "95.0", "-5.0"]
    assert rows[3] == ["[red]dog", "1,000", "90.0", "90.0", "+0.0"]
    assert [row.style for row in table.rows] == [None, "bold"]


def test_tables_of_uneven_columns_are_refused():
    with pytest.raises(ValueError, match="Row 1 has 2 entries, but the table has 3"):
        before_after_table([("a", 1, 2), ("b", 1)])
    with pytest.raises(ValueError, match="'After' has 1 values for 2 classes"):
        class_table(["a", "b"], [1, 1], [1])


def test_piped_tables_are_100_columns_wide_whatever_the_encoding():
    code = (
        "from keras_lrp_prune.report import before_after_table, print_table\n"
        "print_table(before_after_table([('x' * 60, 'y' * 10, 'z' * 10)]))"
    )
    for encoding in ("utf-8", "ascii"):
        result = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "40"},
            capture_output=True,
            text=True,
            check=True,
        )
        row = result.stdout.splitlines()[-1].split()
        assert [len(cell.strip("|")) for cell in row if cell != "|"] == [60, 10, 10]


def test_layers_without_figures_have_blank_cells():
    rows = [
        ("conv", "Conv2D", "(8, 8, 1024)", 1024, 0, "kept"),
        ("relu", "ReLU", "?", None, None, ""),
    ]
    lines = table_text(LayerTable(rows, title="Layers")).splitlines()
    assert lines[0] == "Layers"
    assert [line.split() for line in lines[-2:]] == [
        ["conv", "Conv2D", "(8,", "8,", "1024)", "1,024", "0", "kept"],
        ["relu", "ReLU", "?"],
    ]


def test_nothing_of_a_layer_table_is_cut_off():
    row = ("#" * 120, "Conv2D", "(8, 8, 4)", 4, 0, "@@@ " * 40)
    text = table_text(LayerTable([row]))
    assert text.count("#") == 120 and text.count("@") == 120
    wide = table_text(LayerTable([row]), piped_width=160).splitlines()
    assert 100 < max(map(len, wide)) <= 160


def test_no_name_of_a_layer_is_broken():
    name, other = "backbone/expanded_conv_depthwise_BN", "backbone/expanded_conv_project"
    row = (name, "BatchNormalization", "(48, 48, 32)", None, None, f"follows {other}")
    lines = table_text(
        LayerTable([row, ("scores", "Dense", "(5)", 5, 0, "output")]), piped_width=80
    )
    assert {name, other} <= set(lines.split()) and max(map(len, lines.splitlines())) <= 80
    assert len(table_text(LayerTable([row]), piped_width=160).splitlines()) == 3


METHODS = ("accuracy-aware", "lrp-iterative", "lrp-one-shot")
WIDE_TABLES = {
    "comparison": (
        comparison_table({name: {key: [40.0, 44.0] for key in "ABCDEFGH"} for name in METHODS}),
        METHODS,
    ),
    "relevance": (relevance_table({"#" * 90: np.ones((2, 8))}), ["#" * 90]),
    "class": (class_table(["#" * 90], [1.0], [1.0]), ["#" * 90]),
    "ratio": (ratio_table({key: {"Filters": 1.0} for key in ("#" * 45, "@" * 45)}), ["@" * 45]),
}


@pytest.mark.parametrize(("table", "names"), WIDE_TABLES.values(), ids=WIDE_TABLES)
def test_no_name_is_cut_off(table, names):
    text = table_text(table, piped_width=80)
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    letters = "".join(text.split())
    assert all(letters.count(name[0]) >= name.count(name[0]) for name in names)


def test_each_reason_is_listed_once():
    reasons = {**{f"layer{i}": "mixed" for i in range(9)}, "last": "output"}
    assert reason_lines("Protected", reasons, most=2) == [
        "Protected: layer0, layer1 and 7 more: mixed",
        "Protected: last: output",
    ]
    assert reason_lines("Barrier", reasons)[0].count("layer") == 9
    assert reason_lines("Barrier", {"a": "x", "b": "x", "c": "x"}, 2) == ["Barrier: a, b, c: x"]
    assert reason_lines("Barrier", {}) == []


NASTY = "\x1b[31mred\x07\nnew\u202eline"


@pytest.mark.parametrize(
    "table",
    [
        before_after_table([(NASTY, NASTY, 1)], extra_columns=(), title=NASTY),
        ratio_table({NASTY: {NASTY: 1.0}}, title=NASTY),
        class_table([NASTY], [1.0], [1.0], title=NASTY),
        relevance_table({NASTY: np.ones((1, 2))}, title=NASTY),
        comparison_table({NASTY: {NASTY: [1.0]}}, title=NASTY),
        LayerTable([(NASTY, NASTY, "", 1, 1, NASTY)], title=NASTY),
    ],
    ids=["before and after", "ratio", "class", "relevance", "comparison", "layer"],
)
def test_names_do_not_steer_the_terminal(table):
    lines = table_text(table, piped_width=300).splitlines()
    assert all(line.isprintable() for line in lines)
    assert all(r"\x1b[31mred\x07\nnew\u202eline" in lines[row] for row in (0, -1))


def test_reasons_do_not_steer_the_terminal():
    (line,) = reason_lines("Protected", {NASTY: f"read by {NASTY}"})
    assert line.isprintable() and line.count(r"\x1b[31mred\x07\n") == 2


def test_characters_that_can_be_printed_stay():
    assert printable("Löwenzahn 花 'a' \\ β") == "Löwenzahn 花 'a' \\ β"
    assert printable("\udcff\x9b\u2028") == r"\udcff\x9b\u2028"
