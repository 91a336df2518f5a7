"""Methods side by side: curves on held-out digits, and comparisons that can be interrupted."""

import inspect
import json
from contextlib import closing
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from pruning_models import digits, digits_model, reference
from tiers import examples

import keras_lrp_prune as klp
from keras_lrp_prune.comparison.decisions import decide
from keras_lrp_prune.comparison.method_curve import MethodCurve
from keras_lrp_prune.comparison.methods import METHODS, Method
from keras_lrp_prune.control.goals import RateGoal
from keras_lrp_prune.control.loop import PruningLoop
from keras_lrp_prune.control.pace import make_pace
from keras_lrp_prune.cost import CostModel
from keras_lrp_prune.data import draw_per_class
from keras_lrp_prune.evaluation import class_accuracies
from keras_lrp_prune.examination.channel_limits import ChannelLimits
from keras_lrp_prune.examination.criterion_choice import CriterionChoice
from keras_lrp_prune.examination.subject import read_subject
from keras_lrp_prune.relevance.criteria import make_criterion
from keras_lrp_prune.relevance.scores import Scores
from keras_lrp_prune.runtime import Execution
from keras_lrp_prune.selection.examiner import Evaluation
from keras_lrp_prune.selection.reach import rate_tolerance

EqualSteps = klp.schedules.EqualSteps
RATES = (0.0, 0.2, 0.5)
ONE_SHOT = [name for name, method in METHODS.items() if method.scored_once]


NATIVE = CriterionChoice(engine="native")


@pytest.fixture(scope="module")
def model():
    return digits_model()


@pytest.fixture(scope="module")
def test_data():
    x, y = digits()[1]
    return x[:200], y[:200]


@pytest.fixture(scope="module")
def task(model):
    return make_task(model)


def make_task(model, limits=None, strategy=None):
    return read_subject(
        model, reference(), limits or ChannelLimits(), Execution(None, 2**30, strategy)
    )


def curve(model, test, method, rates=RATES, **options):
    return klp.accuracy_curve(model, reference(), test, method, rates, engine="native", **options)


# The schedule of the baselines, and the loop that goes on.


def test_equal_steps():
    schedule = EqualSteps(0.3)
    assert [float(schedule(step)[1]) for step in range(4)] == pytest.approx([0.3, 0.6, 0.9, 1.0])
    for form in (schedule.get_config(), schedule.get_config()["config"]):
        assert EqualSteps.from_config(form).size == 0.3
    for size in (0, -0.1, 1.1):
        with pytest.raises(ValueError, match="size must lie in"):
            EqualSteps(size)


class AllIsWell:
    """An examiner that scores units in their order, and finds every model perfect."""

    def evaluate(self, removed):
        return Evaluation(np.ones(2), np.ones(2))

    def scores(self, removed):
        return Scores(np.arange(len(removed), dtype=float)[None])


def run_through(task, schedule, targets):
    pace, state = make_pace(schedule, trials=False), None
    for target in targets:
        loop = PruningLoop(
            *(task.structure, AllIsWell(), pace, CostModel(task.flat, task.structure)),
            goal=RateGoal(*limited(task), target),
            limits=task.limits,
        )
        state = loop.run(state)
    return [record.rate for record in state.history]


@pytest.mark.parametrize("targets", [(0.3,), (0.1, 0.2, 0.3), (0.0, 0.2, 0.2, 0.3)], ids=str)
def test_targets_on_the_way_change_nothing(task, targets):
    rates = run_through(task, EqualSteps(0.1), targets)
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3], atol=rate_tolerance(*limited(task)))


def test_step_that_a_target_cuts_short_is_taken_up_again(task):
    rates = run_through(task, EqualSteps(0.2), (0.3, 0.6))
    np.testing.assert_allclose(rates, [0, 0.2, 0.3, 0.4, 0.6], atol=rate_tolerance(*limited(task)))


def limited(task):
    return task.structure, task.limits


# Decisions.


@pytest.mark.parametrize("name", METHODS)
def test_each_rate_is_met_within_half_a_group(model, test_data, task, name):
    found = curve(model, test_data, name, [0.0, 0.17, 0.4, 0.6])
    assert np.abs(found.reached - found.rates).max() <= rate_tolerance(*limited(task)) + 1e-9
    assert found.class_accuracy.shape == (4, 10)
    assert found.mean()[0] > 0.9 > found.mean()[-1]
    by_relevance = name in ("accuracy-aware", "lrp-iterative", "lrp-one-shot", "pxp")
    assert (found.engine == "native") == by_relevance


@examples(10)
@given(
    st.sampled_from(ONE_SHOT),
    st.lists(st.integers(0, 19), min_size=1, max_size=5, unique=True).map(sorted),
)
def test_one_shot_methods_take_prefixes_of_one_order(task, name, twentieths):
    rates = [number / 20 for number in twentieths]
    masks = decide(task, METHODS[name], rates, engine=NATIVE).masks
    assert (masks[1:] >= masks[:-1]).all(), "what is gone stays gone"
    alone = [decide(task, METHODS[name], [rate], engine=NATIVE).masks[0] for rate in rates]
    assert (masks == np.stack(alone)).all(), "no rate depends on those before it"


def test_one_shot_lrp_does_not_score_again(task):
    once = decide(task, METHODS["lrp-one-shot"], [0.3, 0.6], engine=NATIVE)
    again = decide(task, METHODS["lrp-iterative"], [0.3, 0.6], engine=NATIVE)
    assert len(once.scorings) == 1 and once.forward_passes == 3
    # Twelve steps of 5 %, and the unpruned model; its passes give the accuracies too.
    assert len(again.scorings) == 13 and again.forward_passes == 0
    assert (once.masks[1] != again.masks[1]).any()
    assert once.forward_equivalents(1.0) == pytest.approx(3 + min(once.scorings))


def test_pxp_ranks_by_the_magnitude_of_relevance(task):
    def scores(criterion, **options):
        method = Method("one", criterion, analyzer_options=options)
        problem = task.problem(CriterionChoice(criterion, method.analyzer_options, "native"))
        with closing(make_criterion(criterion, problem)) as scored:
            return scored.scores(np.zeros(task.structure.n_units, bool)).by_class

    signed = scores("lrp.epsilon", epsilon=1e-6)
    assert (signed < 0).any()
    np.testing.assert_array_equal(scores("pxp"), np.abs(signed))


@pytest.mark.parametrize("name", ["lrp-iterative", "taylor", "l1", "accuracy-aware"])
def test_a_point_of_the_curve_is_the_model_that_prune_gives(model, test_data, name):
    method = METHODS[name]
    found = curve(model, test_data, name, [0.3])
    result = klp.prune(
        *(model, reference(), 0.3),
        criterion=method.criterion,
        schedule=method.schedule(),
        engine="native",
        recovery=None,
        verbose=0,
    )
    x, y = test_data
    assert found.reached[0] == pytest.approx(result.rate)
    np.testing.assert_allclose(found.class_accuracy[0], class_accuracies(y, result.model(x)))


def test_the_default_is_what_prune_does():
    method, defaults = METHODS["accuracy-aware"], inspect.signature(klp.prune).parameters
    assert method.criterion == defaults["criterion"].default
    assert method.schedule().get_config() == klp.schedules.AccuracyAware().get_config()
    curve_defaults = inspect.signature(klp.accuracy_curve).parameters
    assert curve_defaults["method"].default == method.name
    # But for the recovery: what methods choose is compared with all weights frozen.
    assert (defaults["recovery"].default, curve_defaults["recovery"].default) == ("auto", None)


def test_random_draws_hang_on_the_seed(model, test_data):
    first, again, other = (curve(model, test_data, "random", seed=seed) for seed in (3, 3, 4))
    assert first.decisions == again.decisions != other.decisions
    np.testing.assert_array_equal(first.class_accuracy, again.class_accuracy)


@pytest.mark.parametrize("name", ["accuracy-aware", "taylor"])
def test_test_labels_steer_nothing(model, test_data, name):
    x, y = test_data
    found, shifted = (curve(model, (x, labels), name) for labels in (y, (y + 1) % 10))
    assert found.decisions == shifted.decisions
    assert found.mean()[0] > 0.9 and shifted.mean()[0] < 0.1


def test_beyond_the_largest_rate_the_last_point_is_held(model, test_data):
    found = curve(model, test_data, "l1", [0.0, 0.4, 0.6, 0.9], min_channels=0.5)
    assert found.reached.tolist() == pytest.approx([0, 0.4, 0.5, 0.5], abs=0.02)
    np.testing.assert_array_equal(found.class_accuracy[2], found.class_accuracy[3])
    assert found.rates.tolist() == [0.0, 0.4, 0.6, 0.9]


def test_limits_and_protected_layers(model, test_data):
    found = curve(model, test_data, "l1", [0.0, 0.8], protect=["second", "hidden"])
    one = curve(model, test_data, "l1", [0.0, 0.8], round_to=4)
    assert found.reached[1] == pytest.approx(6 / 8) and one.reached[1] % (4 / 36) < 1e-9


def test_method_of_ones_own(model, test_data):
    gentle = Method(
        *("gentle", "lrp.epsilon", partial(klp.schedules.AccuracyAware, order="uniform")),
        analyzer_options={"epsilon": 0.5},
    )
    found = curve(model, test_data, gentle)
    assert found.method == "gentle" and found.reached[-1] == pytest.approx(0.5, abs=0.02)


def test_runs_share_no_schedule(model, test_data):
    """A schedule that a run has used would hold what that run has seen."""
    shared = klp.schedules.AccuracyAware()
    method = Method("shared", "l1", lambda: shared)
    found = klp.compare((model, reference(), test_data), method, (0, 1), RATES, verbose=0)
    first, second = found.runs["shared"]
    assert first.decisions == second.decisions and first.reached[-1] > 0.4


def test_under_a_strategy(model, test_data):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    found, plain = (curve(model, test_data, "taylor", strategy=s) for s in (strategy, None))
    assert found.decisions == plain.decisions
    np.testing.assert_allclose(found.class_accuracy, plain.class_accuracy)


def test_model_is_not_changed(model, test_data):
    before = [array.tobytes() for array in model.get_weights()]
    curve(model, test_data, "taylor")
    assert [array.tobytes() for array in model.get_weights()] == before


def test_curve_as_data(model, test_data):
    found = curve(model, test_data, "l2")
    again = MethodCurve.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.to_dict() == found.to_dict()
    assert again.auc() == found.auc() and isinstance(again, klp.AccuracyCurve)
    with pytest.raises(ValueError, match="it lacks 'decisions'"):
        MethodCurve.from_dict({"rates": [0.0], "class_accuracy": [[1.0]]})
    with pytest.raises(ValueError, match="reached must have the shape"):
        MethodCurve.from_dict({**found.to_dict(), "reached": [0.0]})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "magic"}, "Unknown method 'magic'. There are: accuracy-aware, lrp-iterative"),
        ({"method": Method("own", "magic")}, "Unknown criterion 'magic'"),
        ({"recovery": "tail"}, "Unknown recovery 'tail'. There are: 'auto', None, 'head'"),
        ({"engine": "magic"}, "Unknown engine"),
        ({"rates": [0.5, 0.2]}, "strictly increasing"),
        ({"rates": [0.5, 1.0]}, r"lie in \[0, 1\)"),
        ({"rates": []}, "at least 1"),
        ({"min_channels": 0}, "min_channels"),
        ({"round_to": 0}, "round_to must be at least 1"),
        ({"method": Method("own", None, partial(EqualSteps, 0.0))}, "size"),
        ({"test": (np.zeros((3, 8, 8, 1)), [0, 1, 2])}, "The test data: .*classes have no sample"),
        ({"test": (np.zeros((10, 9, 8, 1)), range(10))}, "The test data: Each sample"),
    ],
    ids=str,
)
def test_bad_input(model, test_data, options, words):
    arguments = {"reference": reference(), "test": test_data, "method": "l1", **options}
    with pytest.raises(ValueError, match=words):
        klp.accuracy_curve(model, **arguments)


def test_bad_types(model, test_data):
    with pytest.raises(TypeError, match="by its name"):
        curve(model, test_data, 7)
    with pytest.raises(TypeError, match="list of layer names"):
        curve(model, test_data, "l1", protect="second")
    with pytest.raises(ValueError, match="a string without '/'"):
        Method("../l1", "l1")


def test_model_without_filters_to_prune(test_data):
    flat = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    with pytest.raises(klp.UnsupportedModelError, match="no filters that can be pruned"):
        curve(flat, test_data, "l1")


# Comparisons.


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
    assert figures["At 50 %"] == pytest.approx(at_half) and figures["At 70 %"] == [None, None]
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
    printed = capsys.readouterr()
    assert "l1, seed 0: mean accuracy" in printed.err and "±" not in printed.out


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
