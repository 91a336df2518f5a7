"""The demo: what it shows of relevance, what it writes, and what it leaves alone."""

import numpy as np
import pytest
from trained import trained

from keras_lrp_prune.demo import compared_choices, digits, run_demo, train_classifier


def test_the_choice_of_filters_is_shown_by_itself():
    train, reference, held_out = digits(seed=0)
    model = trained(train_classifier, train, seed=0)
    weights = [array.copy() for array in model.get_weights()]
    by_relevance, at_random = compared_choices(model, reference, held_out, seed=0).values()
    assert by_relevance.harmonic()[0] == at_random.harmonic()[0] > 0.95
    assert by_relevance.auc("harmonic") > at_random.auc("harmonic") + 0.2
    assert all(map(np.array_equal, model.get_weights(), weights))


def test_the_demo_replaces_nothing_that_it_did_not_make(tmp_path):
    def content(folder):
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    for name in ("model.keras", "result.json", "choices.png", "saved_model/1/notes"):
        folder = tmp_path / name.replace("/", "-")
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("precious")
        # What says that the demo made it has to be right.
        (folder / "demo.json").write_text(f'{{"{name}": "0"}}')
        there = content(folder)
        with pytest.raises(FileExistsError, match=rf"{name}.* was not made by the demo"):
            run_demo(folder)
        assert content(folder) == there


@pytest.mark.slow
def test_demo_holds_its_accuracy(tmp_path):
    result = run_demo(tmp_path / "demo", seed=3)
    before, after = (result.validation[when]["harmonic_mean"] for when in ("before", "after"))
    assert result.rate == pytest.approx(0.5, abs=0.01)
    assert after > before - 0.02
    for name in ("choices.png", "model.keras", "saved_model/1/saved_model.pb"):
        assert (tmp_path / "demo" / name).is_file()
