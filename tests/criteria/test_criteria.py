"""The room for criteria: the registry, objects in place of names, and one that a user writes."""

import doctest
import json
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from models import difference
from own_criterion import OfWeights, Snip
from places import DOCS, ROOT
from pruning_models import digits, digits_model, reference

import keras_lrp_prune as klp
from keras_lrp_prune.criteria import CRITERIA, LRP, PXP, LogOdds, Random, WeightNorm
from keras_lrp_prune.criteria.registry import chosen_criterion
from keras_lrp_prune.examination.subject import read_subject
from keras_lrp_prune.relevance.native import rules
from keras_lrp_prune.relevance.native.composites import Composite, anything, is_dense
from keras_lrp_prune.runtime import Execution

QUICK = {"schedule": klp.schedules.EqualSteps(0.2), "recovery": None, "verbose": 0}
EPSILON = LRP("lrp.epsilon", {"epsilon": 0.1}, engine="native")


@pytest.fixture(scope="module")
def model():
    return digits_model()


@pytest.fixture
def snip():
    """The user's criterion by its name, for one test."""
    klp.register_criterion(Snip())
    yield "snip"
    klp.criteria.unregister_criterion("snip")


def prune(model, criterion, **options):
    return klp.prune(model, reference(), 0.4, criterion=criterion, **{**QUICK, **options})


def same(first, second):
    if first.history != second.history:
        return False
    return all((first.kept[layer] == second.kept[layer]).all() for layer in first.kept)


def composite(epsilon=0.1):
    return Composite(((is_dense, rules.epsilon(epsilon)), (anything, rules.gamma(0.25))))


def test_snip_is_that_of_the_definition(model):
    """Against finite differences of the loss, for two filters."""
    subject = read_subject(model, reference(), execution=Execution(batch_size=32))
    scorer = Snip().scorer(subject.problem())
    scores = scorer.scores(np.zeros(subject.structure.n_units, bool)).by_class[0]
    x, y = reference()
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    kernel = copy.get_layer("second").kernel
    units = subject.structure.filter_units["second"]

    @tf.function
    def losses():
        return keras.losses.sparse_categorical_crossentropy(y, copy(x, training=False))

    def loss(values):
        kernel.assign(values)
        return float(losses().numpy().astype(np.float64).sum())

    before = kernel.numpy()
    sums = np.zeros(2)
    for filter_ in range(2):
        for index in np.ndindex(before.shape[:-1]):
            at, step = (*index, filter_), 1e-2
            up, down = before.copy(), before.copy()
            up[at] += step
            down[at] -= step
            sums[filter_] += abs((loss(up) - loss(down)) / (2 * step) * before[at])
    assert sums[0] / sums[1] == pytest.approx(scores[units[0]] / scores[units[1]], rel=1e-2)


def test_a_criterion_of_ones_own_prunes_by_name_and_as_an_object(model, snip, tmp_path):
    by_name, as_object = prune(model, snip), prune(model, Snip())
    assert same(by_name, as_object) and not same(by_name, prune(model, "random"))
    assert by_name.settings["criterion"] == as_object.settings["criterion"] == "snip"
    assert by_name.settings["engine"] is None
    config = as_object.settings["criterion_config"]
    assert by_name.settings["criterion_config"] == config
    assert config == {"class_name": "Snip", "config": {"power": 1.0}}
    assert Snip.from_config(config) == Snip()
    loaded = klp.load_result(as_object.save(tmp_path / "out"))
    assert loaded.settings["criterion_config"] == config and "snip" in repr(loaded)


def test_it_is_a_method_like_others(model, snip):
    x, y = digits()[1]
    rates, held_out = [0.2, 0.4], (x[:100], y[:100])
    by_name = klp.accuracy_curve(model, reference(), held_out, snip, rates)
    method = klp.Method("own", Snip())
    as_object = klp.accuracy_curve(model, reference(), held_out, method, rates)
    assert by_name.method == "snip" and as_object.method == "own"
    assert by_name.decisions == as_object.decisions and snip in klp.METHODS
    assert method.describe()["criterion"] == Snip().get_config()
    assert "snip" not in list(klp.METHODS)[:3]


def test_it_prunes_during_training(model, snip, tmp_path):
    x, y = digits()[0]
    found = []
    for criterion, folder in ((snip, "a"), (Snip(), "b")):
        keras.utils.set_random_seed(0)
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        copy.compile("sgd", "sparse_categorical_crossentropy")
        schedule = klp.schedules.AccuracyAware(final_sparsity=0.3, frequency=5)
        options = {"criterion": criterion, "state_dir": tmp_path / folder}
        pruning = klp.callbacks.FilterPruning(reference(), schedule, **options)
        copy.fit(x[:320], y[:320], epochs=2, verbose=0, callbacks=[pruning])
        assert pruning.criterion == "snip" and "snip" in repr(pruning)
        found.append(pruning.history)
    assert found[0] == found[1] and found[0][-1].rate > 0.1
    other = klp.callbacks.FilterPruning(
        reference(), schedule, criterion=Snip(2.0), state_dir=tmp_path / "b"
    )
    with pytest.raises(klp.CheckpointError, match=r"other settings \(criterion\)"):
        copy.fit(x[:64], y[:64], verbose=0, callbacks=[other])


def test_a_checkpoint_is_of_the_object_with_its_arguments(model, tmp_path):
    done = prune(model, Snip(), checkpoint_dir=tmp_path)
    assert same(done, prune(model, Snip(), checkpoint_dir=tmp_path))
    with pytest.raises(klp.CheckpointError, match=r"other settings \(criterion\)"):
        prune(model, Snip(2.0), checkpoint_dir=tmp_path)


def test_an_object_is_what_the_arguments_make(model):
    named = {"analyzer_options": {"epsilon": 0.1}, "engine": "native"}
    by_name, as_object = prune(model, "lrp.epsilon", **named), prune(model, EPSILON)
    assert same(by_name, as_object)
    assert by_name.settings["engine"] == as_object.settings["engine"] == "native"
    other = LRP("lrp.epsilon", {"epsilon": 100.0}, engine="native")
    assert not same(as_object, prune(model, other))


def test_a_composite_prunes(model, tmp_path):
    result = prune(model, LRP(composite()), checkpoint_dir=tmp_path)
    loaded = klp.load_result(result.save(tmp_path / "out"))
    told = json.dumps(loaded.settings["criterion_config"])
    assert loaded.settings["criterion"] == "lrp.composite"
    assert "composites.is_dense" in told and '"value": 0.1' in told
    with pytest.raises(klp.CheckpointError, match=r"settings \(criterion\)"):
        prune(model, LRP(composite(0.2)), checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match=r"LRP\(composite\)"):
        LRP.from_config(loaded.settings["criterion_config"])


def test_ours_with_other_arguments_can_have_a_name_of_its_own(model):
    klp.register_criterion(LRP("lrp.epsilon", {"epsilon": 0.1}, name="stable"))
    try:
        result = prune(model, "stable", engine="native")
        assert same(result, prune(model, EPSILON)) and result.settings["criterion"] == "stable"
        assert "stable" not in klp.METHODS
    finally:
        klp.criteria.unregister_criterion("stable")
    assert "stable" not in CRITERIA


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_is_described_and_comes_back_from_its_config(name):
    criterion = CRITERIA[name]
    klp.criteria.registry.check_described(criterion)
    assert criterion.name == name
    config = json.loads(json.dumps(criterion.get_config()))
    assert type(criterion).from_config(config) == criterion
    assert type(criterion).from_config(config["config"]) == criterion


@pytest.mark.parametrize("name", [name for name, one in CRITERIA.items() if one.compared])
def test_what_a_criterion_says_of_its_passes_is_so(model, name):
    """Those without passes do not look at the samples; the others do."""
    x, y = reference()
    found = []
    for samples in (x, x[::-1]):
        subject = read_subject(model, (samples, y))
        scorer = chosen_criterion(name, engine="native").scorer(subject.problem())
        found.append(scorer.scores(np.zeros(subject.structure.n_units, bool)).by_class)
        scorer.close()
    criterion = CRITERIA[name]
    changes = difference(*found) > 1e-6
    assert changes == (criterion.passes > 0) == ("samples" in criterion.needs)


def test_the_docs_table_says_what_the_registry_says():
    page = (DOCS / "how-it-works.md").read_text()
    rows = re.findall(r"^\| ((?:`[\w.]+`(?:, )?)+|an LRP analyzer) \| .* \| (.*) \|$", page, re.M)
    costs = {False: "a forward pass", True: "a forward and a backward pass"}
    told = {
        name: cost
        for names, cost in rows
        for name in (["lrp.z"] if "analyzer" in names else re.findall(r"`(.*?)`", names))
        if name in CRITERIA
    }
    assert told.keys() == {"lrp.log_odds", "lrp.z", *klp.criteria.registry.compared("channels")}
    for name, cost in told.items():
        needs = CRITERIA[name].needs
        wanted = costs["gradients" in needs] if "samples" in needs else "none"
        assert cost.startswith("one LRP pass" if "lrp" in needs else wanted), name


def test_the_docs_table_of_methods_is_that_of_compare():
    page = (DOCS / "comparison.md").read_text()
    table = page[page.index("| name | scores |") :].split("\n\n")[0]
    told = [name for row in table.splitlines()[2:] for name in re.findall(r"`(.*?)`", row[:20])]
    assert set(told) == set(klp.METHODS) and len(told) == len(klp.METHODS)


EXAMPLES = ["Criterion", "ProbabilityScorer", "LRP", "register_criterion", "unregister_criterion"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_in_the_docstring_runs(name, model):
    x, y = reference()
    namespace = {"klp": klp, "np": np, "model": model, "x": x, "y": y}
    examples = doctest.DocTestParser().get_examples(getattr(klp.criteria, name).__doc__)
    assert examples
    for example in examples:
        exec(compile(example.source, name, "exec"), namespace)
    assert not {"gentle", "positive"} & CRITERIA.keys()


def test_a_criterion_of_weights_can_be_registered():
    klp.register_criterion(OfWeights())
    try:
        assert "weights-alone" in CRITERIA and "weights-alone" not in klp.METHODS
        assert chosen_criterion("weights-alone", works_on="weights") == OfWeights()
        with pytest.raises(ValueError, match="scores weights, not channels"):
            chosen_criterion("weights-alone")
    finally:
        klp.criteria.unregister_criterion("weights-alone")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LRP("lrp.zz"), ValueError, "Unknown analyzer 'lrp.zz'"),
        (lambda: LRP(3), TypeError, "analyzer takes an analyzer's name or a Composite, not 3"),
        (lambda: LRP("lrp.z", {"epsilon": 1}), ValueError, "no option epsilon"),
        (lambda: LRP("lrp.z", engine="torch"), ValueError, "Unknown engine"),
        (lambda: LRP("lrp.gamma", engine="innvestigate"), ValueError, "for the engine 'native'"),
        (lambda: LRP(composite(), {"epsilon": 1}), ValueError, "takes no analyzer_options"),
        (lambda: PXP(worker_python=3), TypeError, "worker_python takes a path"),
        (lambda: LogOdds(engine="innvestigate"), ValueError, "is for the engine 'native'"),
        (lambda: WeightNorm(3), ValueError, "order must be from 1 to 2"),
    ],
)
def test_objects_are_checked_when_they_are_made(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_criteria_are_made_and_told_without_tensorflow():
    code = (
        "import sys, keras_lrp_prune as klp\n"
        "klp.register_criterion(klp.criteria.LRP('lrp.epsilon', {'epsilon': 0.1}, name='own'))\n"
        "print(klp.criteria.CRITERIA['own'].get_config(), *sys.modules, sep='\\n')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    config, *modules = done.stdout.splitlines()
    assert "0.1" in config and not {"tensorflow", "keras", "scipy", "matplotlib"} & {*modules}


def test_a_registered_name_takes_the_arguments_of_prune():
    chosen = chosen_criterion("lrp.epsilon", analyzer_options={"epsilon": 0.1}, engine="native")
    assert chosen == EPSILON
    assert chosen_criterion("random", engine="native") == Random()
    assert chosen_criterion(None).name == "lrp.log_odds"
    assert chosen_criterion(None, engine="innvestigate").name == "lrp.sequential_preset_a"
