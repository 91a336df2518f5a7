"""`explain` and `plot_channel_groups`: what they say of a model is what pruning does with it."""

from itertools import pairwise

import keras
import models
import numpy as np
import pytest
from keras import layers
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

import keras_lrp_prune as klp
from keras_lrp_prune.report import Box, plot_graph
from keras_lrp_prune.report.layout import ROW_GAP, layered_layout


@keras.saving.register_keras_serializable("test_explain")
class Twice(layers.Layer):
    """A layer without a rule."""

    def call(self, x):
        return 2 * x


def with_barriers():
    """A residual block, two barriers, a concatenation of protected and prunable channels."""
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(6, 3, padding="same", name="stem")(inputs)
    y = layers.BatchNormalization(name="norm")(x)
    y = layers.Conv2D(6, 1, name="inner")(y)
    x = layers.Add(name="sum")([x, y])
    left = layers.Conv2D(4, 1, name="left")(x)
    right = Twice(name="twice")(layers.Conv2D(5, 1, name="right")(x))
    x = layers.Concatenate(name="both")([left, Twice(name="again")(right)])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(2, name="scores")(x), name="small")


def by_name(model, **options):
    return {layer.name: layer for layer in klp.explain(model, **options).layers}


@pytest.mark.parametrize("name", models.BUILDERS)
def test_explanation_agrees_with_the_channel_structure(name):
    model = models.BUILDERS[name]()
    graph, structure = models.analysed(model)
    explanation = klp.explain(model)
    assert [layer.name for layer in explanation.layers] == list(graph.flat().layers)
    for layer in explanation.layers:
        units = structure.filter_units.get(layer.name)
        if units is None:
            assert layer.filters == 0
            continue
        assert layer.filters == layer.channels == len(units)
        assert layer.prunable == (units >= 0).sum()
        through = {
            g.name: g.filters[layer.name].size for g in structure.groups if layer.name in g.filters
        }
        assert layer.groups == through
        assert (layer.reason is None) == (layer.name not in structure.protected)
    assert explanation.groups == {group.name: group.size for group in structure.groups}
    assert explanation.prunable_filters == structure.unit_sizes.sum()
    assert explanation.filters == sum(map(len, structure.filter_units.values()))
    assert all(layer.reason for layer in explanation.layers if layer.prunable < layer.channels)


def test_every_layer_is_explained():
    found = by_name(with_barriers())
    assert found["stem"].groups == {"stem": 6} and found["stem"].leads
    for name in ("norm", "inner", "sum"):
        assert found[name].groups == {"stem": 6} and not found[name].leads
    assert found["image"].reason == "input of the model"
    assert found["scores"].reason == "output of the model"
    assert "'twice' (Twice)" in found["right"].reason and found["right"].prunable == 0
    assert found["twice"].barrier and "no channel rule" in found["twice"].reason
    assert (found["both"].groups, found["both"].channels) == ({"left": 4}, 9)
    assert found["both"].reason == found["pool"].reason == found["again"].reason
    assert found["left"].shapes == ((None, 8, 8, 4),)


def test_protect_is_the_reason():
    found = by_name(with_barriers(), protect=["left"])
    assert "protect=" in found["left"].reason and found["left"].prunable == 0
    with pytest.raises(klp.UnsupportedModelError, match="layer 'none'"):
        klp.explain(with_barriers(), protect=["none"])
    with pytest.raises(TypeError, match="list of layer names, not 'left'"):
        klp.explain(with_barriers(), protect="left")


def test_a_shared_layer_has_the_channels_of_all_its_calls():
    shared = layers.ReLU(name="shared")
    inputs = keras.Input((8, 8, 3))
    small, large = (layers.Conv2D(n, 1, name=f"conv{n}")(inputs) for n in (4, 6))
    x = layers.Concatenate()([shared(small), shared(large)])
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    layer = by_name(model)["shared"]
    assert layer.groups == {"conv4": 4, "conv6": 6}
    assert layer.shapes == ((None, 8, 8, 4), (None, 8, 8, 6))


def test_printed_table(capsys):
    print(klp.explain(with_barriers()))
    lines = capsys.readouterr().out.splitlines()
    row = {line.split()[0]: " ".join(line.split()) for line in lines if line.strip()}
    assert row["stem"] == "stem Conv2D (8, 8, 6) 6 6 prunable"
    assert row["inner"] == "inner Conv2D (8, 8, 6) 6 6 follows stem"
    assert row["norm"] == "norm BatchNormalization (8, 8, 6) follows stem"
    assert row["scores"] == "scores Dense (2) 2 0 output of the model"
    assert row["twice"].startswith("twice Twice (8, 8, 5) barrier: no channel rule")
    assert "16 of 23 filters (69.6 %) can be pruned, in 2 channel groups." in lines
    assert "Not shown: 4 layers without weights." in lines
    assert [line for line in lines if line.startswith("Barrier: ")] == [
        "Barrier: twice, again: Twice: no channel rule for Twice"
    ]
    assert repr(klp.explain(with_barriers())).splitlines() == lines


def test_all_layers_are_shown_on_request():
    text = klp.explain(with_barriers()).to_text(all_layers=True)
    assert "both" in text and "follows left; 5 stay: " in " ".join(text.split())
    assert "Not shown" not in text


def test_many_groups_are_counted():
    inputs = keras.Input((8, 8, 3))
    x = layers.Concatenate()([layers.Conv2D(2, 1, name=f"conv{i}")(inputs) for i in range(7)])
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization(name="norm")(x))
    text = " ".join(str(klp.explain(keras.Model(inputs, layers.Dense(2)(x)))).split())
    assert "follows conv0, conv1, conv2 and 4 more" in text


def test_the_summary_of_a_run_lists_each_barrier_once(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    result = klp.prune(
        with_barriers(), (x, np.arange(8) % 2), 0.3, criterion="l1", protect=["left"], verbose=0
    )
    result.summary()
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(("Protected", "Barrier"))] == [
        f"Protected: right: {result.protected['right']}",
        f"Protected: left: {result.protected['left']}",
        "Protected: scores: output of the model",
        "Barrier: twice, again: Twice: no channel rule for Twice",
    ]
    result.save(tmp_path / "out")
    assert klp.load_result(tmp_path / "out").barriers == dict(result.barriers)
    assert list(result.barriers) == ["twice", "again"]


# The picture


def colours(figure):
    """Layer name to the colours in its box, from left to right."""
    axes = figure.axes[0]
    patches = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    found = {}
    for text in axes.texts:
        inside = [p for p in patches if p.get_linewidth() == 0 and _within(text, p)]
        if inside:
            row = [p for p in patches if p.get_linewidth() == 0 and p.get_y() == inside[0].get_y()]
            start = inside[0].get_x()
            found.setdefault(text.get_text(), []).append((start, row))
    return {
        name: [to_hex(p.get_facecolor()) for p in _box(*hits[0])] for name, hits in found.items()
    }


def _within(text, patch):
    x, y = text.get_position()
    return (
        0 < x - patch.get_x() < patch.get_width() and 0 < y - patch.get_y() < patch.get_height() / 2
    )


def _box(start, row):
    """The parts of a box that follow each other without a gap."""
    parts = []
    for patch in sorted(row, key=lambda patch: patch.get_x()):
        if abs(patch.get_x() - start) < 1e-6:
            parts.append(patch)
            start += patch.get_width()
    return parts


def test_colours_show_the_groups():
    shown = colours(klp.plot_channel_groups(with_barriers()))
    grey = shown["scores"]
    assert len(shown["stem"]) == 1 and shown["stem"] != grey
    assert shown["norm"] == shown["inner"] == shown["sum"] == shown["stem"]
    assert shown["left"] not in (shown["stem"], grey)
    assert shown["image"] == shown["right"] == shown["twice"] == grey
    assert shown["both"] == [*shown["left"], *grey]


def test_parts_of_a_box_are_in_proportion():
    boxes = [Box("a", "Conv", {"a": 30, None: 10})]
    figure = plot_graph(boxes, [], {"a": 30})
    first, second, *_ = figure.axes[0].patches
    assert first.get_width() == pytest.approx(3 * second.get_width())
    assert second.get_x() == pytest.approx(first.get_x() + first.get_width())


def test_barriers_and_group_names_stand_out():
    axes = klp.plot_channel_groups(with_barriers()).axes[0]
    bold = {text.get_text() for text in axes.texts if text.get_fontweight() == "bold"}
    assert bold == {"stem", "left", "small: 2 channel groups", "Channel groups (channels)"}
    texts = {text.get_text() for text in axes.texts}
    assert {"protected", "barrier", "Conv2D", "BatchNormalization"} <= texts
    outlines = [to_hex(p.get_edgecolor()) for p in axes.patches if p.get_linewidth() > 1]
    assert len(outlines) == 3 and len(set(outlines)) == 1  # two boxes, one entry of the legend


def test_groups_that_meet_differ_in_colour():
    chain = [Box(str(i), "Conv", {str(i): 1}) for i in range(40)]
    edges = [(i, i + 1) for i in range(39)]
    shown = colours(plot_graph(chain, edges, {}))
    assert all(shown[str(a)] != shown[str(b)] for a, b in edges)
    many = {str(i): 1 for i in range(30)}
    parts = colours(plot_graph([Box("concat", "Concatenate", many)], [], {}))["concat"]
    assert all(a != b for a, b in pairwise(parts))


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_picture_is_written(tmp_path, suffix):
    path = tmp_path / "new" / f"groups.{suffix}"
    klp.plot_channel_groups(models.nested(), path)
    assert path.stat().st_size > 3000
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_bad_path_is_refused():
    with pytest.raises(ValueError, match=r"\.svg.*'groups.jpg'"):
        klp.plot_channel_groups(models.vgg(), "groups.jpg")


def test_bad_edges_are_refused():
    boxes = [Box("a", "Conv", {}), Box("b", "Conv", {})]
    for edge in ((1, 0), (0, 0), (0, 2), (-1, 1)):
        with pytest.raises(ValueError, match=r"does not lead from a box to a later one"):
            plot_graph(boxes, [edge], {})


# The layout

WIDTH, HEIGHT = 2.0, 0.3


def random_graph(seed, count=60):
    """Random edges from earlier to later boxes, most of them short, as in a network."""
    rng = np.random.default_rng(seed)
    edges = {
        (int(max(0, end - 1 - rng.geometric(0.4 if i else 0.9) + 1)), end)
        for end in range(1, count)
        for i in range(rng.integers(1, 4))
    }
    return count, sorted(edges)


@pytest.mark.parametrize("seed", range(8))
def test_boxes_never_overlap(seed):
    count, edges = random_graph(seed)
    centres = layered_layout(count, edges, (WIDTH, HEIGHT)).centres
    apart = np.abs(centres[:, None] - centres[None, :])
    overlap = (apart[..., 0] < WIDTH) & (apart[..., 1] < HEIGHT)
    assert overlap.sum() == count  # each with itself


@pytest.mark.parametrize("seed", range(8))
def test_everything_lies_on_the_page_and_every_line_arrives(seed):
    count, edges = random_graph(seed)
    layout = layered_layout(count, edges, (WIDTH, HEIGHT))
    half = np.array([WIDTH, HEIGHT]) / 2
    assert (layout.centres - half > -1e-6).all()
    assert (layout.centres + half < np.array([layout.width, layout.height]) + 1e-6).all()
    # Lines run piece by piece: follow them from the lower side of a box.
    below = np.array([0, HEIGHT / 2])
    pieces = {}
    for line in layout.lines:
        pieces.setdefault(tuple(line[0].round(6)), []).append(tuple(line[-1].round(6)))
    tops = {tuple((c - below).round(6)): i for i, c in enumerate(layout.centres)}
    for start, centre in enumerate(layout.centres):
        reached, waiting = set(), [tuple((centre + below).round(6))]
        while waiting:
            for end in pieces.get(waiting.pop(), ()):
                if end in tops:
                    reached.add(tops[end])
                else:
                    waiting.append(end)
        assert reached == {end for first, end in edges if first == start}


def test_a_chain_is_straight_and_a_short_cut_runs_beside_it():
    edges = [(0, 1), (1, 2), (2, 3), (0, 3)]
    layout = layered_layout(4, edges, (WIDTH, HEIGHT))
    assert len(set(layout.centres[:, 0])) == 1
    np.testing.assert_allclose(np.diff(layout.centres[:, 1]), HEIGHT + ROW_GAP)
    # The short cut passes rows 1 and 2 in its own place, clear of the boxes.
    passing = [
        line for line in layout.lines if (line[:, 0] > layout.centres[0, 0] + WIDTH / 2).all()
    ]
    assert len(passing) == 3 and all(np.ptp(line[:, 0]) == 0 for line in passing)


def test_a_long_chain_goes_on_in_further_columns():
    count = 120
    layout = layered_layout(count, [(i, i + 1) for i in range(count - 1)], (WIDTH, HEIGHT))
    columns = sorted(set(layout.centres[:, 0].round(6)))
    assert len(columns) > 2
    assert 0.5 < layout.width / layout.height < 3
    assert (np.diff(np.searchsorted(columns, layout.centres[:, 0].round(6))) >= 0).all()


def test_branches_stand_side_by_side():
    edges = [(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)]
    centres = layered_layout(5, edges, (WIDTH, HEIGHT)).centres
    assert len(set(centres[1:4, 1])) == 1
    assert (np.diff(sorted(centres[1:4, 0])) >= WIDTH).all()


def test_mobilenet():
    model = keras.applications.MobileNet(weights=None)
    explanation = klp.explain(model)
    assert len(explanation.groups) == 14
    assert explanation.prunable_filters == explanation.filters - 1000  # all but the classes
    figure = klp.plot_channel_groups(model)
    names = {text.get_text() for text in figure.axes[0].texts}
    assert names >= {layer.name for layer in model.layers}  # nothing is cut off
    assert all(0.5 < size / 10 < 1.5 for size in figure.get_size_inches())
