import logging
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image
from places import ROOT

from keras_lrp_prune.evaluation import AccuracyCurve
from keras_lrp_prune.report import Box, plot_curves, plot_graph, plot_heatmaps, plot_history


def history(n_classes=3, steps=6):
    return [
        {
            "step": step,
            "rate": step / 10,
            "harmonic_mean": 0.9 - step / 100,
            "class_accuracies": [0.9 - step / 100] * n_classes,
            "accepted": step != 3,
        }
        for step in range(steps)
    ]


def labels(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def line(figure, label):
    return next(line for line in figure.axes[0].lines if line.get_label() == label)


# Pictures


def test_history_shows_kept_and_undone_steps_in_percent():
    held_out = [{"rate": 0.0, "harmonic_mean": 0.9}, {"rate": 0.5, "harmonic_mean": 0.8}]
    figure = plot_history(history(), held_out=held_out, class_names=["a", "b", "c"], title="T")
    assert labels(figure) == [
        "harmonic mean",
        "held out: original and result",
        "step undone",
        *("a", "b", "c"),
    ]
    np.testing.assert_allclose(line(figure, "harmonic mean").get_xdata(), [0, 10, 20, 40, 50])
    np.testing.assert_allclose(line(figure, "harmonic mean").get_ydata(), [90, 89, 88, 86, 85])
    np.testing.assert_allclose(line(figure, "step undone").get_xydata(), [[30, 87]])
    np.testing.assert_allclose(line(figure, "b").get_ydata(), [90, 89, 88, 86, 85])
    np.testing.assert_allclose(line(figure, labels(figure)[1]).get_xydata(), [[0, 90], [50, 80]])
    axes = figure.axes[0]
    assert "%" in axes.get_xlabel()
    assert "%" in axes.get_ylabel()
    assert axes.get_title("left") == "T"


def test_only_what_can_be_compared_is_joined_by_a_line():
    at = [{"rate": rate, "harmonic_mean": 0.9} for rate in (0.0, 0.5)]
    figure = plot_history(history(), held_out=at, refitted=at[1])
    shown = ["harmonic mean, before refitting", "refitted, reference set", *labels(figure)[2:3]]
    assert labels(figure)[:3] == shown and shown[2].startswith("held out")
    joined = [line(figure, label).get_linestyle() != "None" for label in shown]
    assert joined == [True, False, False]


def test_everything_drawn_lies_within_the_axes():
    records = history()
    records[3]["harmonic_mean"] = 0.0
    records[4]["class_accuracies"] = [0.31, 0.9, 1.0]
    low, high = plot_history(records).axes[0].get_ylim()
    assert low < 0
    assert high > 100


def test_many_classes_share_one_entry():
    assert labels(plot_history(history(n_classes=100)))[-1] == "each of 100 classes"


@pytest.mark.parametrize("accepted", [True, False])
def test_one_record_is_enough(accepted, tmp_path):
    plot_history([history()[0] | {"accepted": accepted}], tmp_path / "one.png")


def test_named_lines_can_be_told_apart():
    figure = plot_history(history(n_classes=12))
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines[2:]}
    assert len(looks) >= 12


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf", "PNG"])
def test_pictures_are_written_whole(tmp_path, suffix):
    path = tmp_path / "new" / "folder" / f"curve.{suffix}"
    plot_history(history(), path)
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix.lower()]
    assert path.read_bytes().startswith(start)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    if suffix == "png":
        with Image.open(path) as image:
            assert min(image.size) > 600
            assert len(image.getcolors(maxcolors=2**24)) > 20


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    path = tmp_path / "curve.png"
    path.mkdir()  # the picture is drawn to its temporary name, but cannot take this one
    with pytest.raises(OSError, match=r"Cannot write the picture .*curve.png: Is a directory"):
        plot_history(history(), path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Cannot write the picture .*Give a path in a folder"):
        plot_history(history(), tmp_path / "file" / "curve.png")


def test_bad_histories_are_refused(tmp_path):
    cases = [
        ([], {}, "no record"),
        ([{"rate": 0.1}], {}, "Record 0 of history lacks harmonic_mean, class_accuracies"),
        (history(), {"held_out": [{"rate": 0.1}]}, "Record 0 of held_out lacks harmonic_mean"),
        (history(), {"class_names": ["a"]}, "1 class names but 3"),
        (history() + history(n_classes=2), {}, "differ in their number"),
        (history(), {"path": tmp_path / "curve.jpg"}, ".png, .svg, .pdf, but not as 'curve.jpg'"),
    ]
    for records, options, message in cases:
        with pytest.raises(ValueError, match=message):
            plot_history(records, **options)


def curve(*accuracy, rates=(0.0, 0.5)):
    return AccuracyCurve(rates, [[a, a] for a in accuracy])


def test_curves_of_several_seeds_are_averaged_with_a_band(tmp_path):
    figure = plot_curves(
        {"lrp": curve(1.0, 0.9), "random": [curve(1.0, 0.4), curve(1.0, 0.6)]},
        tmp_path / "curves.png",
        kind="harmonic",
    )
    assert labels(figure) == ["lrp", "random"]
    np.testing.assert_allclose(line(figure, "random").get_xydata(), [[0, 100], [50, 50]])
    (band,) = figure.axes[0].collections
    np.testing.assert_allclose(band.get_datalim(figure.axes[0].transData).y0, 40)
    assert "Harmonic" in figure.axes[0].get_ylabel()


def test_bad_curves_are_refused():
    cases = [
        ({}, {}, "no curve"),
        ({"a": []}, {}, "'a' need the same rates"),
        ({"a": [curve(1, 1), curve(1, 1, rates=(0.0, 0.4))]}, {}, "'a' need the same rates"),
        ({"a": curve(1, 1)}, {"kind": "best"}, "Unknown kind"),
    ]
    for curves, options, message in cases:
        with pytest.raises(ValueError, match=message):
            plot_curves(curves, **options)


@pytest.mark.parametrize("channels", [1, 3])
def test_heat_maps_are_summed_and_symmetric(tmp_path, channels):
    images = np.linspace(0, 255, 2 * 6 * 8 * channels).reshape(2, 6, 8, channels)
    relevance = np.linspace(-1, 3, images.size).reshape(images.shape)
    figure = plot_heatmaps(
        images,
        {"before": relevance, "after": np.zeros((2, 6, 8))},
        tmp_path / "maps.png",
        titles=["one", "two"],
    )
    before = figure.axes[1].images[0]
    np.testing.assert_allclose(before.get_array(), relevance[0].sum(axis=-1))
    assert before.norm.vmin == -before.norm.vmax
    assert figure.axes[2].images[0].norm.vmax > 0
    assert [axes.get_title() for axes in figure.axes[:3]] == ["image", "before", "after"]
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["one", "two"]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (-1, 1), (-120, 150), (0.5, 0.5)])
def test_images_of_any_range_are_shown_within_0_and_1(low, high):
    shown = plot_heatmaps(np.linspace(low, high, 192).reshape(1, 8, 8, 3), {}).axes[0].images[0]
    assert shown.get_array().min() >= 0
    assert shown.get_array().max() <= 1


def test_bad_heat_maps_are_refused():
    images = np.zeros((2, 6, 8, 3))
    cases = [
        ((images[0], {}), {}, "images must have the shape"),
        ((images[..., :2], {}), {}, "images must have the shape"),
        ((images, {"a": images[:1]}), {}, r"'a' must have the shape \(2, 6, 8\)"),
        ((images, {"a": images * np.nan}), {}, "'a' hold NaN"),
        ((images, {}), {"titles": ["one"]}, "1 titles for 2 images"),
    ]
    for arguments, options, message in cases:
        with pytest.raises(ValueError, match=message):
            plot_heatmaps(*arguments, **options)


def test_report_knows_no_model():
    code = (
        "import sys; import keras_lrp_prune.report\n"
        "rooms = {m.split('.')[1] for m in sys.modules if m.startswith('keras_lrp_prune.')}\n"
        "assert rooms <= {'report', 'files', 'display_names'}, rooms\n"
        "assert not {'tensorflow', 'keras', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# Left out of a legend by matplotlib, formulas that it cannot read, and one that it can.
ODD_NAMES = ("_bg", r"$\frac$", "$a_b$", "100 $ or $$", "x" * 200)


def texts_in_math_mode(figure):
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_parse_math()]


def test_names_of_classes_are_drawn_as_they_are(tmp_path):
    figure = plot_history(history(5), tmp_path / "curve.png", class_names=ODD_NAMES, title="$\\a$")
    assert labels(figure)[-5:-1] == list(ODD_NAMES[:4])
    assert len(labels(figure)[-1]) < 40 and "…" in labels(figure)[-1]
    maps = {name: np.zeros((5, 4, 4)) for name in ODD_NAMES}
    heat = plot_heatmaps(np.zeros((5, 4, 4, 1)), maps, tmp_path / "maps.png", ODD_NAMES)
    titled = {axes.get_ylabel() for axes in heat.axes} | {axes.get_title() for axes in heat.axes}
    assert set(ODD_NAMES[:4]) <= titled


# The last is in a font that has no bold weight, where matplotlib has brought no others.
@pytest.mark.parametrize("name", ["花", "\u0e01", "\u3016"])
def test_nothing_is_logged_of_fonts(name, tmp_path, caplog):
    figure = plot_history(history(), tmp_path / "a.png", class_names=[name, "b", "c"], title=name)
    figure.savefig(tmp_path / "b.svg")
    assert not caplog.records
    logging.getLogger("matplotlib.font_manager").warning("not of ours")
    assert caplog.records


def test_names_of_layers_are_drawn_as_they_are(tmp_path):
    boxes = [Box(name, name, {name: 4, None: 1}) for name in ODD_NAMES]
    groups = dict.fromkeys(ODD_NAMES, 4)
    figure = plot_graph(boxes, [(0, 1)], groups, tmp_path / "graph.png", title="$\\b$")
    assert not texts_in_math_mode(figure)
    drawn = [text.get_text() for text in figure.findobj(Text)]
    assert all(drawn.count(name) == 3 for name in ODD_NAMES[:4])  # name, kind, legend
