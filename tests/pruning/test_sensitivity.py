"""What each channel group costs."""

import json

import numpy as np
import pytest
from models import BUILDERS, images, make_live
from pruning_models import digits_model, reference

import keras_lrp_prune as klp
from keras_lrp_prune.evaluation import class_accuracies, harmonic_mean_accuracy


def measured(model, share=0.5, **options):
    return klp.sensitivity(model, reference(), share, engine="native", verbose=0, **options)


@pytest.mark.parametrize("criterion", [None, "lrp.unique", "l1"])
def test_figures_are_those_of_the_model_without_the_filters(criterion):
    model, (x, y) = digits_model(), reference()
    before = [array.copy() for array in model.get_weights()]
    found = measured(model, recovery=None, criterion=criterion)
    assert [one.group for one in found.groups] == ["first", "second", "hidden"]
    assert found.whole == harmonic_mean_accuracy(class_accuracies(y, model.predict(x, verbose=0)))
    for one in found.groups:
        assert set(one.indices) == {one.group} and one.removed == len(one.indices[one.group])
        without = klp.delete_channels(model, one.indices)
        expected = class_accuracies(y, without.predict(x, verbose=0))
        np.testing.assert_allclose(one.class_accuracies, expected)
        assert one.harmonic_mean == pytest.approx(harmonic_mean_accuracy(expected))
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("share", "removed"), [(0.01, [1, 1, 1]), (0.3, [2, 4, 5]), (0.99, [7, 11, 15])]
)
def test_each_group_loses_its_share_but_for_one_filter(share, removed):
    found = measured(digits_model(), share, recovery=None, criterion="l1")
    assert [one.filters for one in found.groups] == [8, 12, 16]
    assert [one.removed for one in found.groups] == removed


def test_what_is_left_is_refitted():
    model = digits_model()
    frozen, refitted = (measured(model, recovery=recovery) for recovery in (None, "auto"))
    assert frozen.soft_whole == pytest.approx(refitted.soft_whole, abs=1e-5)
    for one, other in zip(frozen.groups, refitted.groups, strict=True):
        assert refitted.loss(other) < frozen.loss(one)
    assert refitted.settings["criterion"] == "lrp.unique"
    assert refitted.settings["recovery"] == "least_squares"


def test_protected_layers_and_single_filters_are_left_out():
    model = digits_model()
    assert [one.group for one in measured(model, recovery=None, protect=["first"]).groups] == [
        "second",
        "hidden",
    ]
    narrow = klp.delete_channels(model, {"first": range(7)})
    assert [one.group for one in measured(narrow, recovery=None).groups] == ["second", "hidden"]


def test_groups_of_several_layers_go_together():
    model = make_live(BUILDERS["resnet_v1"]())
    samples = images(model, 16), np.arange(16) % model.output_shape[-1]
    found = klp.sensitivity(model, samples, recovery=None, verbose=0)
    assert max(len(one.indices) for one in found.groups) > 1
    for one in found.groups:
        kept = klp.delete_channels(model, one.indices)
        assert one.filters > one.removed
        assert sum(map(len, one.indices.values())) == one.removed
        assert kept.count_params() < model.count_params()


def test_it_is_shown_costliest_first_and_drawn_in_order(tmp_path):
    found = measured(digits_model(), recovery=None)
    lines = str(found).splitlines()
    costs = sorted(found.groups, key=found.loss, reverse=True)
    assert [line.split()[0] for line in lines[3:6]] == [one.group for one in costs]
    figure = found.plot(tmp_path / "groups.png")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        one.group for one in found.groups
    ]
    assert (tmp_path / "groups.png").stat().st_size > 1000
    told = json.loads(json.dumps(found.to_dict()))
    assert told["groups"][0]["indices"]["first"] == list(found.groups[0].indices["first"])
