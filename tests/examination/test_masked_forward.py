"""Masked filters are no longer computed once that pays, and nothing is decided otherwise."""

from functools import partial

import numpy as np
import pytest
from interrupted import whole_and_in_parts
from models import BUILDERS, images, make_live
from pruning_models import digits_model, reference, train_pooled_model
from trained import trained

import keras_lrp_prune as klp
from keras_lrp_prune.cost import shrinking
from keras_lrp_prune.cost.shrinking import Shrinking
from keras_lrp_prune.criteria.checked_scorer import scorer_of
from keras_lrp_prune.criteria.lrp import LogOdds
from keras_lrp_prune.examination.masked_forward import FixedForward, ShrinkingForward
from keras_lrp_prune.examination.subject import read_subject
from keras_lrp_prune.graph.heads import linear_head
from keras_lrp_prune.graph.model_graph import references


@pytest.fixture
def made(monkeypatch):
    """How many units were left out, each time that something was made anew."""
    log, leave_out = [], Shrinking._leave_out

    def noted(self, removed):
        anew = leave_out(self, removed)
        if anew:
            log.append(int(removed.sum()))
        return anew

    monkeypatch.setattr(Shrinking, "_leave_out", noted)
    return log


@pytest.fixture(autouse=True)
def _nothing_is_collected(monkeypatch):
    """Looking through hundreds of models of other tests takes seconds each time."""
    monkeypatch.setattr(shrinking.gc, "collect", lambda: 0)


def whether_it_pays(monkeypatch, answer):
    monkeypatch.setattr(Shrinking, "pays", lambda self, removed: answer)


@pytest.mark.parametrize("recovery", [None, pytest.param("head", marks=pytest.mark.slow)])
def test_a_run_that_shrinks_takes_the_same_units(monkeypatch, made, recovery):
    # Cross-fitted heads read pooled features.
    model = digits_model() if recovery is None else trained(train_pooled_model)
    results = []
    for answer in (False, True):
        whether_it_pays(monkeypatch, answer)
        made.clear()
        results.append(klp.prune(model, reference(), 0.3, recovery=recovery, verbose=0))
        # The forward pass of the trials, and LRP; anew for each further state that is scored.
        assert (len(set(made)) > 2) is answer
    whole, small = results
    assert all((small.kept[name] == whole.kept[name]).all() for name in whole.kept)
    for one, other in zip(small.history, whole.history, strict=True):
        assert one.soft_harmonic_mean == pytest.approx(other.soft_harmonic_mean, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "features"),
    [("mobilenet", True), ("mobilenet", False), ("squeeze_excite", False), ("nested", False)],
)
def test_its_rows_are_those_of_the_masked_model(monkeypatch, name, features):
    whether_it_pays(monkeypatch, True)
    model = make_live(BUILDERS[name]())
    subject = read_subject(model, (images(model, 8), np.arange(8) % 4))
    graph, units = subject.flat, subject.structure.n_units
    (tensor,) = references(graph.outputs)
    if features:
        (node,) = [node for node in graph.nodes if node.layer.name == linear_head(graph)]
        (tensor,) = node.inputs
    small = ShrinkingForward(subject.problem(), tensor)
    fixed = FixedForward(subject.problem(), tensor)
    order = np.random.default_rng(0).permutation(units)
    last = {int(group.units[-1]) for group in subject.structure.groups}
    order = np.array([unit for unit in order if unit not in last])
    for share in (0.2, 0.4, 0.6, 0.3):  # some come back in the end
        removed = np.isin(np.arange(units), order[: int(share * len(order))])
        found, expected = small(removed), fixed(removed)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * abs(expected).max())
        small.settle(removed)


def test_scores_are_those_of_the_masked_model(monkeypatch):
    model = digits_model()
    subject = read_subject(model, reference())
    units = subject.structure.n_units
    found = []
    for answer in (False, True):
        whether_it_pays(monkeypatch, answer)
        problem = subject.problem()
        scorer = scorer_of(LogOdds(), problem)
        first, second = (np.arange(units) % 4 == 1, np.arange(units) % 2 == 1)
        found.append([scorer.scores(removed).by_class for removed in (first, second, first)])
        scorer.refresh()
        found[-1].append(scorer.scores(second).by_class)
        scorer.close()
    for expected, seen in zip(*found, strict=True):
        np.testing.assert_allclose(seen, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("recovery", [None, "head"])
def test_a_run_that_shrinks_resumes_to_the_same_result(monkeypatch, made, recovery, tmp_path):
    whether_it_pays(monkeypatch, True)
    model = digits_model() if recovery is None else trained(train_pooled_model)
    prune = partial(klp.prune, model, reference(), 0.4, recovery=recovery, verbose=0)
    whole_and_in_parts(prune, tmp_path)
    assert len(set(made)) > 2, "it was made anew"
