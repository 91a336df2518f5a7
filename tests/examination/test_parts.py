"""Parts of a network, and passes that share what they have in common."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from models import BUILDERS, analysed, images, make_live, random_removal
from random_graphs import PROGRAMS, model_of
from tiers import examples

from keras_lrp_prune.examination.masked_forward import FixedForward, PartByPart
from keras_lrp_prune.examination.parts import parts_of
from keras_lrp_prune.examination.subject import read_subject
from keras_lrp_prune.graph.model_graph import references


@examples(50, quick=20)
@given(program=PROGRAMS)
def test_each_part_reads_the_one_before(program):
    graph = analysed(model_of(program))[0].flat()
    (start,), (end,) = references(graph.inputs), references(graph.outputs)
    parts = parts_of(graph, end)
    assert [part.start for part in parts] == [start, *(part.end for part in parts[:-1])]
    assert parts[-1].end == end
    assert frozenset.union(*(part.layers for part in parts)) >= {
        layer.name for layer in graph.layers.values() if layer.weights
    }


@pytest.mark.parametrize("name", ["vgg", "resnet_v1", "densenet", "shared", "squeeze_excite"])
def test_masks_that_agree_share_a_part(name):
    model = make_live(BUILDERS[name]())
    subject = read_subject(model, (images(model, 8), np.arange(8) % 4))
    (tensor,) = references(subject.flat.outputs)
    by_parts = PartByPart(subject.problem(), tensor, tracing=0)
    whole = FixedForward(subject.problem(), tensor)
    removed = random_removal(subject.structure, 0.3)
    last = removed.copy()
    last[subject.structure.groups[-1].units[:1]] ^= True
    assert len(by_parts._runs) > 1
    for mask in (removed, last, removed, np.zeros_like(removed)):
        np.testing.assert_allclose(by_parts(mask), whole(mask), rtol=1e-4, atol=1e-5)
    runs = [run._run for run in by_parts._runs]
    assert [run.traces for run in runs] == [1] * len(runs)


def test_what_is_shared_is_not_computed_again():
    model = make_live(BUILDERS["vgg"]())
    subject = read_subject(model, (images(model, 8), np.arange(8) % 4))
    (tensor,) = references(subject.flat.outputs)
    forward = PartByPart(subject.problem(), tensor, tracing=0)
    calls = []
    forward._runs = [
        lambda x, run=run, number=number: calls.append(number) or run(x)
        for number, run in enumerate(forward._runs)
    ]
    every = list(range(len(forward._runs)))
    none = np.zeros(subject.structure.n_units, bool)
    some = none.copy()
    some[subject.structure.groups[-1].units[0]] = True
    forward(none)
    assert calls == every
    calls.clear()
    forward(some)
    assert 0 < len(calls) < len(every) and calls[-1] == every[-1]
    calls.clear()
    forward(none)
    assert calls == []


def test_memory_bounds_what_is_kept():
    model = make_live(BUILDERS["vgg"]())
    x = images(model, 8)
    subject = read_subject(model, (x, np.arange(8) % 4))
    (tensor,) = references(subject.flat.outputs)
    small = PartByPart(replace(subject.problem(), memory=4096), tensor, tracing=0)
    large = PartByPart(subject.problem(), tensor, tracing=0)
    for seed in range(4):
        mask = random_removal(subject.structure, 0.3, seed=seed)
        np.testing.assert_array_equal(small(mask), large(mask))
    assert sum(rows.nbytes for rows in small._kept.values()) <= 512


def test_parts_are_worth_their_tracing():
    """A network that computes in no time is run as a whole."""
    graph = analysed(BUILDERS["vgg"]())[0].flat()
    (end,) = references(graph.outputs)
    counts = [len(parts_of(graph, end, least)) for least in (0, 1e4, 1e5, 1e9)]
    assert counts[0] > 2 and counts == sorted(counts, reverse=True) and counts[-1] == 1
