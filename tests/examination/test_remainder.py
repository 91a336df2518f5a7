"""What a run leaves, and which weights it gets."""

import numpy as np
import pytest
from pruning_models import digits_model, reference

from keras_lrp_prune.examination.recovery_choice import Recovery
from keras_lrp_prune.examination.refit import Refitted, Refitter
from keras_lrp_prune.examination.remainder import Remainder
from keras_lrp_prune.examination.subject import read_subject


@pytest.mark.parametrize(("floor", "stays"), [(None, False), (0.0, False), (1.01, True)])
def test_a_last_refit_that_crosses_the_floor_gives_way_to_the_one_before(floor, stays):
    subject = read_subject(digits_model(), reference())
    removed = np.arange(subject.structure.n_units) % 2 == 1
    refitter = Refitter(subject.problem(), Recovery("least_squares"), subject.keras_module)
    name = next(iter(refitter.refitted(removed).weights))
    kernel = subject.flat.layers[name].arrays()["kernel"]
    judged = Refitted({name: {"kernel": np.full_like(kernel, 0.5)}})
    found = Remainder(subject, removed).recovered(refitter, otherwise=judged, floor=floor)
    new = found.graph.flat().layers[name].arrays()["kernel"]
    assert (new == 0.5).all() == stays
    assert not np.array_equal(new, kernel), "refitted either way"
