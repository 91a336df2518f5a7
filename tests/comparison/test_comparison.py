"""Methods side by side: comparisons, which can be interrupted."""

import json
import re
from functools import partial

import keras
import numpy as np
import pytest
from pruning_models import digits, reference

import keras_lrp_prune as klp
from keras_lrp_prune.comparison.method_comparison import figures_over
from keras_lrp_prune.comparison.method_curve import MethodCurve
from keras_lrp_prune.comparison.methods import METHODS, Method
from keras_lrp_prune.data import draw_per_class


def draw(model, test, seed):
    x, y = digits()[0]
    chosen, _ = draw_per_class(y, 6, seed)
    return model, (x[chosen], y[chosen]), test


def same(first, second):
    """Whether two comparisons found the same; times aside."""
    assert first.runs.keys() == second.runs.keys()
    pairs = [
        pair
        for name in first.runs
        for pair in zip(first.runs[name], second.runs[name], strict=True)
    ]
    return all(
        one.decisions == other.decisions
        and (one.class_accuracy == other.class_accuracy).all()
        and (one.method, one.seed) == (other.method, other.seed)
        for one, other in pairs
    )


RATES = (0.0, 0.2, 0.5)
COMPARED = {"methods": ["taylor", "random"], "rates": RATES, "verbose": 0}


@pytest.fixture(scope="module")
def comparison(model, test_data):
    return klp.compare(partial(draw, model, test_data), seeds=(0, 1), **COMPARED)


def test_seeds_draw_reference_sets_of_their_own(comparison):
    for runs in comparison.runs.values():
        assert [run.seed for run in runs] == [0, 1] and runs[0].decisions != runs[1].decisions
    assert comparison.settings["rates"] == list(RATES)


def test_interrupted_comparison_goes_on(model, test_data, comparison, tmp_path):
    class Interrupted(klp.schedules.EqualSteps):
        """Stops the run, as Ctrl-C would."""

        def __call__(self, step):
            raise KeyboardInterrupt

    seen = []

    def task(seed):
        seen.append(seed)
        return draw(model, test_data, seed)

    run = partial(klp.compare, task, folder=tmp_path, rates=RATES, verbose=0)
    with pytest.raises(KeyboardInterrupt):
        run(methods=["taylor", Method("stop", "l1", Interrupted)], seeds=[0])
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["taylor-seed0.json"]
    first = json.loads((tmp_path / "runs" / "taylor-seed0.json").read_text())["curve"]
    whole = run(methods=COMPARED["methods"], seeds=[0, 1])
    assert same(whole, comparison)
    assert whole.runs["taylor"][0].seconds == first["seconds"], "a finished run is only read"
    again = run(methods=["random", "taylor"], seeds=[1, 0])
    seconds = {(r.method, r.seed): r.seconds for runs in whole.runs.values() for r in runs}
    assert seconds == {(r.method, r.seed): r.seconds for runs in again.runs.values() for r in runs}
    assert seen == [0, 0, 1, 1, 0]


def test_names_that_keras_counts_do_not_matter(test_data, tmp_path):
    """A notebook that runs a cell again makes `conv2d_1` of what was `conv2d`."""

    def run():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Conv2D(4, 3, activation="relu"),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(10),
            ]
        )
        task = (model, reference(), test_data)
        found = klp.compare(task, ["l1"], rates=[0.0, 0.5], folder=tmp_path, verbose=0)
        return model.layers[0].name, found.runs["l1"][0].seconds

    (first, seconds), (second, again) = run(), run()
    assert first != second and seconds == again


def test_folder_of_another_comparison_is_refused(model, test_data, tmp_path):
    def run(task=None, methods=("l1",), rates=RATES, **options):
        task = task or (model, reference(), test_data)
        return klp.compare(task, methods, rates=rates, folder=tmp_path, verbose=0, **options)

    run()
    with pytest.raises(klp.CheckpointError, match=r"other settings \(rates .*0.5\], not \[0.0\]"):
        run(rates=[0.0])
    with pytest.raises(klp.CheckpointError, match="round_to 1, not 2"):
        run(methods=["l2"], round_to=2)
    x, y = test_data
    with pytest.raises(klp.CheckpointError, match="other test data"):
        run((model, reference(), (x, y[::-1])))
    with pytest.raises(klp.CheckpointError, match="another reference set"):
        run((model, reference(5), test_data))
    with pytest.raises(klp.CheckpointError, match="another method 'l1'"):
        run(methods=[Method("l1", "l2")])
    changed = keras.models.clone_model(model)
    changed.set_weights([array * 0.9 for array in model.get_weights()])
    with pytest.raises(klp.CheckpointError, match="another model"):
        run((changed, reference(), test_data))
    config = model.get_config()
    config["layers"][1]["config"]["activation"] = "elu"
    other = keras.Sequential.from_config(config)
    other.set_weights(model.get_weights())
    with pytest.raises(klp.CheckpointError, match="another model"):
        run((other, reference(), test_data))
    # Fitted again, a head may differ in the last bits.
    changed.set_weights([array * (1 + 1e-6) for array in model.get_weights()])
    run((changed, reference(), test_data))


def test_damaged_run_is_reported(model, test_data, tmp_path):
    run = partial(
        klp.compare, (model, reference(), test_data), ["l1"], rates=RATES, folder=tmp_path
    )
    run(verbose=0)
    (path,) = (tmp_path / "runs").iterdir()
    whole = path.read_text()
    for damaged in ("", "[]", whole[: len(whole) // 2], "{}", '{"curve": {}}'):
        path.write_text(damaged)
        with pytest.raises(klp.CheckpointError, match=r"cannot be read.*Delete it"):
            run()
    path.unlink()
    path.mkdir()
    with pytest.raises(klp.CheckpointError, match="cannot be read"):
        run()


def test_table_and_files(comparison, tmp_path, capsys):
    comparison.summary()
    lines = capsys.readouterr().out.splitlines()
    assert "2 seeds" in lines[0] and "Passes" in lines[1]
    taylor = next(line for line in lines if line.startswith(" taylor"))
    areas = [100 * run.auc() for run in comparison.runs["taylor"]]
    assert f"{np.mean(areas):.1f} ±{np.std(areas, ddof=1):.1f}" in taylor
    figures = comparison.figures()["random"]
    at_half = [100 * run.mean()[2] for run in comparison.runs["random"]]
    assert figures["At 50 %"] == pytest.approx(at_half) and "At 70 %" not in figures
    comparison.save(tmp_path / "deep" / "out")
    written = {path.name for path in (tmp_path / "deep" / "out").iterdir()}
    assert written == {"comparison.json", "curves.png", "harmonic.png"}
    record = json.loads((tmp_path / "deep" / "out" / "comparison.json").read_text())
    assert record["figures"]["random"] == figures and len(record["runs"]) == 4
    assert MethodCurve.from_dict(record["runs"][0]).auc() == comparison.runs["taylor"][0].auc()
    assert len(comparison.plot(kind="worst").axes[0].lines) == 2


def test_single_rate_has_no_area(model, test_data, capsys):
    found = klp.compare((model, reference(), test_data), ["l1"], rates=[0.5])
    found.summary()
    assert found.figures()["l1"]["AUC"] == [None]
    assert list(found.figures()["l1"])[3:-2] == ["At 50 %"]
    printed = capsys.readouterr()
    assert "l1, seed 0: mean accuracy" in printed.err and "±" not in printed.out
    assert re.search(r"\nAll of it took \d+ s, start-up and measurement included\.\n", printed.err)
    assert printed.out.splitlines()[-1].startswith("All weights stay as they are (recovery=None)")


@pytest.mark.parametrize(
    ("rates", "columns"),
    [
        ((0, 0.95), "30 50 70"),
        ((0, 0.1), "10"),
        ((0, 0.05, 0.1, 0.125), "5 10 12.5"),
        ((0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06), "1 3 6"),
        ((0.3, 0.4), "30"),
        ((0.8, 0.9), "80 90"),
        ((0,), "0"),
    ],
)
def test_columns_are_rates_that_were_measured(rates, columns):
    shown = [name for name in figures_over(rates) if name.startswith("At ")]
    assert shown == [f"At {rate} %" for rate in columns.split()]


def test_bad_comparisons(model, test_data, tmp_path):
    task = (model, reference(), test_data)
    for options, words in (
        ({"methods": []}, "no method"),
        ({"methods": ["l1", METHODS["l1"]]}, "'l1' is given twice"),
        ({"methods": ["l1"], "seeds": []}, "no seed"),
        ({"methods": ["l1"], "seeds": [0, 0]}, "0 is given twice"),
        ({"methods": ["magic"]}, "Unknown method"),
        ({"recovery": "tail"}, "Unknown recovery"),
    ):
        with pytest.raises(ValueError, match=words):
            klp.compare(task, **options)
    with pytest.raises(TypeError, match=r"\(model, reference, test\)"):
        klp.compare((model, reference()))
    with pytest.raises(TypeError, match=r"no argument seed\. There are: recovery, engine"):
        klp.compare(task, "l1", seed=1)
    with pytest.raises(TypeError, match="makes a fresh schedule for each run"):
        Method("own", "l1", klp.schedules.AccuracyAware())
    with pytest.raises(ValueError, match="must be a tfmot"):
        klp.compare(task, Method("own", "l1", dict), rates=[0.0, 0.5])
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="not a folder"):
        klp.compare(task, ["l1"], folder=tmp_path / "file")
