"""What is refused of criteria: at registration, and at every door."""

import pytest
from own_criterion import OfWeights, Snip

import keras_lrp_prune as klp
from keras_lrp_prune.comparison.methods import scored_by
from keras_lrp_prune.criteria import CRITERIA, LRP, Taylor
from keras_lrp_prune.criteria.registry import chosen_criterion
from keras_lrp_prune.examination.criterion_choice import CriterionChoice


class WithoutHelp(klp.criteria.Criterion):
    name = "without-help"
    passes = 0

    def scorer(self, problem):
        raise AssertionError


class WithArguments(Taylor):
    name = "with-arguments"

    def __init__(self, value):
        self.value = value


def changed(**facts):
    return type("Changed", (Snip,), {"name": "changed", **facts})()


@pytest.mark.parametrize(
    ("criterion", "error", "message"),
    [
        (Taylor(), ValueError, "'taylor' is a criterion of keras_lrp_prune"),
        (changed(name="Taylor"), ValueError, "'taylor', and 'Taylor' is the same but for capitals"),
        (changed(name="auto"), ValueError, "'auto' has a meaning of its own"),
        (changed(name="None"), ValueError, "'None' has a meaning of its own"),
        (changed(name="-x"), ValueError, "no '-' in front, unlike '-x'"),
        (Snip, TypeError, r"an object, not a class: Snip\(\)"),
        ("snip", TypeError, "a klp.criteria.Criterion, not 'snip'"),
        (Snip(object()), TypeError, "Snip.get_config.* no plain data"),
        (WithArguments(1), TypeError, "WithArguments has arguments .* frozen dataclass"),
        (changed(name="a/b"), ValueError, "name has letters"),
        (changed(name=3), TypeError, "name takes a string, not 3"),
        (changed(help=" "), ValueError, "help is one line"),
        (changed(passes=-1), ValueError, "passes must be at least 0"),
        (changed(passes=True), TypeError, "passes takes a whole number"),
        (changed(needs="samples"), TypeError, "needs takes a tuple"),
        (changed(needs=("luck",)), ValueError, "needs is a tuple of 'samples'.*'luck'"),
        (changed(works_on=()), ValueError, "works_on is a tuple of 'channels', 'weights'"),
    ],
    ids=lambda value: getattr(value, "name", None) if isinstance(value, Snip) else None,
)
def test_what_cannot_be_registered_is_refused(criterion, error, message):
    before = dict(CRITERIA)
    with pytest.raises(error, match=message):
        klp.register_criterion(criterion)
    assert before == dict(CRITERIA)


def test_a_name_that_is_registered_again_stands_for_the_later_criterion():
    for epsilon in (0.1, 0.2):  # as a cell of a notebook that is run twice
        klp.register_criterion(LRP("lrp.epsilon", {"epsilon": epsilon}, name="again"))
    try:
        assert chosen_criterion("again").options == {"epsilon": 0.2}
    finally:
        klp.criteria.unregister_criterion("again")


def test_missing_fields_are_named_when_it_is_made():
    with pytest.raises(TypeError, match=r"WithoutHelp.*help"):
        WithoutHelp()


@pytest.mark.parametrize("name", ["taylor", "snip"])
def test_only_what_was_registered_is_taken_back(name):
    with pytest.raises(ValueError, match="registered criterion"):
        klp.criteria.unregister_criterion(name)
    assert "taylor" in CRITERIA


REFUSED = [
    ({"criterion": 3}, TypeError, r"takes a name or a klp.criteria.Criterion, not 3 \(int\)"),
    ({"criterion": Taylor}, TypeError, r"not a class: Taylor\(\)"),
    ({"criterion": "snip"}, ValueError, "Unknown criterion 'snip'.*taylor"),
    ({"criterion": Snip(object())}, TypeError, "no plain data"),
    ({"criterion": OfWeights()}, ValueError, "scores weights, not channels.*taylor"),
    ({"criterion": LRP("lrp.z"), "engine": "native"}, ValueError, "is an object"),
    (
        {"criterion": Snip(), "analyzer_options": {"epsilon": 1.0}, "worker_python": "python"},
        ValueError,
        r"analyzer_options.*'snip' is an object",
    ),
    ({"criterion": "pxp", "analyzer_options": {"epsilon": 1.0}}, ValueError, "'pxp' has none"),
]


@pytest.mark.parametrize(
    ("options", "error", "message"), REFUSED, ids=[message for _, _, message in REFUSED]
)
def test_every_door_refuses_what_it_cannot_use_before_any_work(options, error, message):
    """The model is none: nothing looks at it before."""
    with pytest.raises(error, match=message):
        klp.prune(None, None, **options)
    with pytest.raises(error, match=message):
        klp.callbacks.FilterPruning(None, klp.schedules.EqualSteps(), **options)
    beside = {key: options[key] for key in ("engine", "worker_python") if key in options}
    made = {key: value for key, value in options.items() if key not in beside}
    with pytest.raises(error, match=message):
        klp.accuracy_curve(None, None, None, klp.Method("own", **made), **beside)
    with pytest.raises(error, match=message):
        klp.compare((None, None, None), [klp.Method("own", **made)], **beside)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "taylor", "engine": "innvestigate"}, "engine='inn.*'taylor' computes none"),
        ({"criterion": "l1", "worker_python": "/nope"}, "worker_python: .*'l1' computes none"),
    ],
)
def test_what_computes_lrp_is_refused_where_none_is_computed(options, message):
    with pytest.raises(ValueError, match=message):
        klp.prune(None, None, **options)
    with pytest.raises(ValueError, match=message):
        klp.callbacks.FilterPruning(None, klp.schedules.EqualSteps(), **options)
    beside = {key: value for key, value in options.items() if key != "criterion"}
    # It is said for all methods of a comparison, of which others may need it.
    assert scored_by(klp.Method("own", options["criterion"]), CriterionChoice(**beside))
