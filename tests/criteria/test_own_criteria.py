"""Criteria and schedules of a user's own: what tells a run apart, and what they must say."""

import pytest
from pruning_models import digits_model
from sized_criterion import ByShare, Size, compared, cycles, prune, trained

import keras_lrp_prune as klp
from keras_lrp_prune.comparison import methods
from keras_lrp_prune.control.pace import make_pace, own_selection
from keras_lrp_prune.control.schedules import AccuracyAware, EqualSteps, Selection
from keras_lrp_prune.criteria import LRP
from keras_lrp_prune.criteria.registry import CRITERIA, LRP_METHODS
from keras_lrp_prune.examination.criterion_choice import CriterionChoice


class Uniform(ByShare):
    selection = Selection(order="uniform", pool=0, trials=False)


@pytest.fixture(scope="module")
def model():
    return digits_model()


@pytest.fixture
def register():
    """Registers a criterion in the place of the one before, for one test."""

    def again(criterion):
        klp.register_criterion(criterion)
        return criterion.name

    yield again
    if "size" in CRITERIA:
        klp.criteria.unregister_criterion("size")


def marked(runs):
    """Those that train twice, and more, are slow."""
    slow = {"cycles": [pytest.mark.slow]}
    return [pytest.param(run, id=name, marks=slow.get(name, ())) for name, run in runs.items()]


RESUMED = {
    "prune": lambda model, folder, name: prune(model, folder, criterion=name),
    "compare": compared,
    "cycles": lambda model, folder, name: cycles(model, folder, criterion=name),
    "FilterPruning": trained,
}


@pytest.mark.parametrize("run", marked(RESUMED))
def test_a_name_that_was_given_to_another_criterion_is_not_gone_on_with(
    model, register, tmp_path, run
):
    run(model, tmp_path, register(Size(1.0)))
    run(model, tmp_path, register(Size(1.0)))
    with pytest.raises(klp.CheckpointError, match=r"\(criterion\)|prune_options|another method"):
        run(model, tmp_path, register(Size(-1.0)))


def test_our_names_are_told_as_they_were():
    for name, criterion in CRITERIA.items():
        assert CriterionChoice(name).settings == {"criterion": name, "analyzer_options": {}}
        told = klp.Method("m", name).describe()
        assert list(told) == ["criterion", "schedule", "analyzer_options", "scored_once"], criterion


SCHEDULED = {
    "prune": lambda model, folder, kind: prune(model, folder, schedule=kind()),
    "compare": lambda model, folder, kind: compared(model, folder, "l1", kind),
    "cycles": lambda model, folder, kind: cycles(model, folder, schedule=kind()),
    "FilterPruning": lambda model, folder, kind: trained(model, folder, "l1", kind()),
}


@pytest.mark.parametrize("run", marked(SCHEDULED))
def test_a_schedule_that_chooses_otherwise_is_not_gone_on_with(model, tmp_path, run):
    run(model, tmp_path, ByShare)
    run(model, tmp_path, ByShare)
    with pytest.raises(klp.CheckpointError, match=r"selection|prune_options|another method"):
        run(model, tmp_path, Uniform)


def test_schedules_of_ours_are_told_as_they_were():
    from tensorflow_model_optimization.sparsity.keras import ConstantSparsity

    for schedule in (AccuracyAware(), EqualSteps(), ConstantSparsity(0.5, 0), None):
        assert own_selection(schedule) == {}
    assert own_selection(Uniform())["selection"]["order"]["class_name"] == "UniformOrder"


@pytest.mark.parametrize("wrong", [None, "uniform"])
def test_a_selection_that_is_none_is_named(wrong):
    schedule = type("Mine", (ByShare,), {"selection": wrong})()
    with pytest.raises(TypeError, match=r"Mine\.selection is a klp\.schedules\.Selection, not"):
        make_pace(schedule, trials=True)


def test_an_argument_that_a_schedule_would_lose_is_named():
    class Patient(AccuracyAware):
        def __init__(self, patience=1, **arguments):
            super().__init__(**arguments)
            self.patience = patience

    class Told(Patient):
        def get_config(self):
            found = super().get_config()
            return {**found, "config": {**found["config"], "patience": self.patience}}

    with pytest.raises(TypeError, match=r"Patient has arguments .*\(patience\)"):
        make_pace(Patient(patience=7), trials=True)
    assert make_pace(Told(patience=7), trials=True).schedule.patience == 7


@pytest.mark.parametrize("name", LRP_METHODS)
def test_a_criterion_is_not_called_like_a_method_of_another(name):
    with pytest.raises(ValueError, match=f"'{name}' is a method of klp.compare"):
        klp.register_criterion(LRP("lrp.z", name=name))
    assert name not in CRITERIA


def test_these_are_the_methods_of_lrp():
    assert tuple(methods._OF_LRP) == LRP_METHODS


@pytest.mark.parametrize("config", [None, {1: 2, "a": 3}], ids=["none", "mixed keys"])
def test_a_config_that_is_no_plain_data_is_named(config):
    odd = type("Odd", (Size,), {"get_config": lambda self: config})()
    with pytest.raises(TypeError, match=r"Odd\.get_config\(\)"):
        CriterionChoice(odd)


def test_lrp_checks_its_name_and_has_a_hash():
    with pytest.raises(ValueError, match="unlike 'a b'"):
        LRP("lrp.z", name="a b")
    first, same = (LRP("lrp.epsilon", {"epsilon": 0.1}) for _ in range(2))
    assert first == same and hash(first) == hash(same)
    assert first != LRP("lrp.epsilon", {"epsilon": 0.2})
