"""Groups of arguments are objects: checked when they are made, the same for all who take them."""

import copy
import json
from dataclasses import FrozenInstanceError
from inspect import Parameter, signature

import numpy as np
import pytest
from pruning_models import digits_model, reference

import keras_lrp_prune as klp
from keras_lrp_prune.arguments import RULES
from keras_lrp_prune.comparison.bench import Conditions
from keras_lrp_prune.examination.channel_limits import ChannelLimits
from keras_lrp_prune.examination.criterion_choice import CriterionChoice
from keras_lrp_prune.examination.recovery_choice import RECOVERIES, Recovery
from keras_lrp_prune.examination.target import Target
from keras_lrp_prune.finetuning.plan import TuningOptions
from keras_lrp_prune.pruning.stages import PruneOptions, prepare, report, search
from keras_lrp_prune.runtime import Execution, fingerprint

GROUPS = (Target, CriterionChoice, ChannelLimits, Execution)

REFUSED = [
    (Target, {"target_rate": 1.0}, ValueError, "target_rate must lie in"),
    (Target, {"min_accuracy": "0.5"}, TypeError, "min_accuracy takes a number"),
    (Target, {"target_rate": 0.5, "budget": {"flops": 0.5}}, ValueError, "not both"),
    (Target, {"budget": {"flop": 0.5}}, ValueError, "Unknown budget 'flop'"),
    (CriterionChoice, {"engine": "fast"}, ValueError, "Unknown engine 'fast'"),
    (CriterionChoice, {"criterion": "l3"}, ValueError, "l3"),
    (ChannelLimits, {"protect": "conv"}, TypeError, "protect takes a list of layer names"),
    (ChannelLimits, {"min_channels": 0}, ValueError, "min_channels must be at least 1"),
    (ChannelLimits, {"round_to": 1.5}, TypeError, "round_to takes a whole number"),
    (Execution, {"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    (Execution, {"strategy": "mirrored"}, TypeError, "strategy must be a tf.distribute.Strategy"),
    (Execution, {"seed": -1}, ValueError, "seed must be from 0"),
    (Conditions, {"rates": [0.2, 0.1]}, ValueError, "rates must be strictly increasing"),
    (Recovery, {"asked": "all"}, ValueError, "Unknown recovery 'all'"),
]


@pytest.mark.parametrize(("group", "given", "error", "words"), REFUSED)
def test_what_is_wrong_is_refused_when_it_is_made(group, given, error, words):
    with pytest.raises(error, match=words):
        group(**given)


def test_fields_are_what_the_rules_return_and_stay():
    limits = ChannelLimits(iter(["a", "b"]), np.float64(2.0), np.int64(4))
    assert limits == ChannelLimits(("a", "b"), 2, 4) and type(limits.min_channels) is int
    with pytest.raises(FrozenInstanceError):
        limits.round_to = 8
    given = {"round_to": 4, "batch_size": 8, "nothing": 1}
    assert ChannelLimits.taken_from(given) == ChannelLimits(round_to=4)
    assert Execution.taken_from(given) == Execution(batch_size=8)


def defaults(function):
    given = signature(function).parameters.values()
    return {one.name: one.default for one in given if one.default is not Parameter.empty}


@pytest.mark.parametrize("function", [klp.prune, klp.callbacks.FilterPruning, klp.accuracy_curve])
def test_what_takes_a_group_has_its_defaults(function):
    own = defaults(function)
    for group in GROUPS:
        for name, value in defaults(group).items():
            if name in own and name not in ("verbose", "analyzer_options"):
                assert own[name] == value, (group, name)


def test_every_argument_with_a_rule_is_in_a_group_that_checks_it():
    groups = (*GROUPS, PruneOptions, Conditions, TuningOptions)
    known = {name for group in groups for name in signature(group).parameters}
    for function in (klp.prune, klp.accuracy_curve, klp.finetune):
        assert set(signature(function).parameters) & set(RULES) <= known


@pytest.mark.parametrize("asked", ["auto", *RECOVERIES])
def test_a_recovery_knows_what_it_comes_to(asked):
    recovery = Recovery(asked)
    assert recovery.chosen in RECOVERIES and recovery.is_auto == (asked == "auto")
    parts = RECOVERIES[recovery.chosen]
    assert (recovery.refits_head or recovery.corrects_head) == ("head" in parts)
    assert (recovery.refits_layers, recovery.corrects_head) == (
        "least_squares" in parts,
        len(parts) > 1,
    )
    assert recovery.named(corrected=True) == recovery.chosen


def test_what_tells_a_run_from_others_stays_as_it_was_when_it_began(tmp_path):
    options = PruneOptions(
        target=Target(budget={"flops": 0.7}),
        criterion=CriterionChoice("taylor", engine="native"),
        recovery=Recovery("auto"),
        limits=ChannelLimits(),
        execution=Execution(verbose=0),
        schedule=klp.schedules.EqualSteps(0.2),
        checkpoint_dir=tmp_path,
    )
    run = prepare(digits_model(4, 4), reference(), options, validation=None, class_names=None)
    first = copy.deepcopy(run.identity)
    identity = fingerprint(run.subject.graph, run.subject.reference, run.identity)
    result = report(run, search(run))
    assert run.identity == first and "steering" not in first
    assert fingerprint(run.subject.graph, run.subject.reference, run.identity) == identity
    assert list(result.settings)[: len(first)] == list(first), "and the result begins with it"
    assert {name: result.settings[name] for name in first if name != "recovery"} == {
        name: value for name, value in first.items() if name != "recovery"
    }
    json.dumps(first)


@pytest.mark.parametrize(
    ("recovery", "name"),
    [
        ("auto", "lrp.unique"),
        ("least_squares", "lrp.unique"),
        ("head+least_squares", "lrp.unique"),
        ("head", "lrp.log_odds"),
        (None, "lrp.log_odds"),
    ],
)
def test_the_default_criterion_hangs_on_whether_layers_are_refitted(recovery, name):
    refits = Recovery(recovery).refits_layers
    assert CriterionChoice(refits_layers=refits).chosen.name == name
    innvestigate = CriterionChoice(engine="innvestigate", refits_layers=refits)
    assert innvestigate.chosen.name == "lrp.sequential_preset_a"
