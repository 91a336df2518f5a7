"""An engine that takes over new weights gives what a fresh one gives."""

import numpy as np
import pytest
from models import BUILDERS, analysed, difference, images, make_live, random_removal

from keras_lrp_prune.relevance.innvestigate_engine import InnvestigateEngine
from keras_lrp_prune.relevance.native.engine import NativeEngine

ENGINES = [
    *((NativeEngine, name, "logits") for name in BUILDERS),
    (InnvestigateEngine, "resnet_v2", "logits"),
    (NativeEngine, "resnet_v1", "sigmoid"),
    (InnvestigateEngine, "resnet_v1", "sigmoid"),
]


@pytest.mark.parametrize(
    ("engine", "name", "head"), ENGINES, ids=lambda value: getattr(value, "name", value)
)
def test_new_weights_and_the_mask_that_stays(engine, name, head):
    model = make_live(BUILDERS[name](head))
    graph, structure = analysed(model)
    x = np.asarray(images(model, 6))
    two_class = head == "sigmoid"
    y = np.arange(6) % (2 if two_class else model.output_shape[-1])
    removed = random_removal(structure, 0.3)

    def relevance(used):
        used.set_mask(structure, removed)
        return used.unit_relevance(structure, x, y)

    with engine(graph, "lrp.epsilon", two_class=two_class) as kept:
        before, _ = relevance(kept)
        draw = np.random.default_rng(1)
        model.set_weights([w * draw.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
        kept.refresh(graph)
        after, outputs = relevance(kept)
        assert getattr(kept, "traces", 1) == 1
        with engine(graph, "lrp.epsilon", two_class=two_class) as fresh:
            expected, wanted = relevance(fresh)
    assert difference(after, before) > 1e-2
    assert difference(after, expected) <= 1e-6
    assert difference(outputs, wanted) <= 1e-6
