"""Budgets: what may remain of filters, parameters, FLOPs, energy and latency."""

import keras
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from models import BUILDERS, analysed, images, make_live
from pruning_models import digits_model, reference
from random_graphs import PROGRAMS, model_of
from tiers import examples

import keras_lrp_prune as klp
from keras_lrp_prune.control.checkpoint import CheckpointError
from keras_lrp_prune.control.goals import BudgetGoal
from keras_lrp_prune.control.loop import PruningLoop
from keras_lrp_prune.control.pace import make_pace
from keras_lrp_prune.control.schedules import AccuracyAware, EqualSteps
from keras_lrp_prune.cost import (
    COUNTED_SHARES,
    CostModel,
    LatencyShare,
    ModelCostShares,
    check_budget,
    energy,
)
from keras_lrp_prune.criteria.scores import Scores
from keras_lrp_prune.selection.examiner import Evaluation
from keras_lrp_prune.selection.limits import Limits
from keras_lrp_prune.selection.ranking import also_removed, cheapest_first
from keras_lrp_prune.selection.reach import most_removed

KEYS = tuple(COUNTED_SHARES)
LIMITS = st.builds(Limits, st.sampled_from([1, 2, 0.3]), st.sampled_from([1, 1, 2, 4]))
BUDGET = st.dictionaries(st.sampled_from(KEYS), st.floats(0.02, 1.0), min_size=1, max_size=3)


@pytest.fixture(scope="session")
def model():
    return digits_model()


def prune(model, data=None, **options):
    options = {"criterion": "l1", "verbose": 0, **options}
    return klp.prune(model, data or reference(), **options)


class Drawn:
    """An examiner that scores units at random, and lets some proposals look bad."""

    def __init__(self, structure, seed):
        self.scored = np.random.default_rng(seed).random(structure.n_units)
        self.seed = seed

    def evaluate(self, removed):
        rng = np.random.default_rng([self.seed, *removed.astype(int)])
        accuracy = np.full(3, 0.95) - rng.choice([0, 0.1])
        return Evaluation(accuracy, accuracy)

    def scores(self, removed):
        return Scores(self.scored[None])


def last_bundles(structure, removed, limits):
    """For each group, what the removal of its last bundle took."""
    found = []
    for group in structure.groups:
        gone = group.units[removed[group.units]]
        if len(gone):
            odd = group.size % limits.round_to
            size = odd if len(gone) == odd else limits.round_to
            found.append((gone, size))
    return found


def meets(shares, removed, budget):
    return all(shares(name, removed) <= most + 1e-12 for name, most in budget.items())


def run_to(structure, cost, budget, limits, schedule, seed):
    shares = ModelCostShares(cost)
    goal = BudgetGoal(structure, limits, budget, shares)
    examiner = Drawn(structure, seed)
    pace = make_pace(schedule, trials=False)
    loop = PruningLoop(
        structure, examiner, pace, lambda gone: cost(gone).counts(), goal=goal, limits=limits
    )
    return loop.run(), shares, examiner


def check_tight(structure, shares, state, budget, limits, examiner):
    """The budget is met, and was not before the last bundle went."""
    removed = state.removed
    assert meets(shares, removed, budget)
    if not removed.any():
        return
    backed = []
    for gone, size in last_bundles(structure, removed, limits):
        back = removed.copy()
        # The highest-scored of the group went last.
        order = np.argsort((examiner.scored / structure.unit_sizes)[gone], kind="stable")
        back[gone[order[-size:]]] = False
        backed.append(meets(shares, back, budget))
    assert not all(backed), "no bundle could be put back"


@examples(30)
@given(
    st.sampled_from(list(BUILDERS)),
    BUDGET,
    LIMITS,
    st.integers(0, 99),
    st.sampled_from([None, 0.07, 1.0]),
)
def test_a_budget_is_met_and_not_by_more_than_a_bundle(name, budget, limits, seed, step):
    graph, structure = known(name)
    check_random(graph, structure, budget, limits, seed, step)


@examples(20)
@given(PROGRAMS, BUDGET, LIMITS, st.integers(0, 99), st.sampled_from([1.0, None]))
def test_budgets_on_random_graphs(program, budget, limits, seed, step):
    try:
        graph, structure = analysed(model_of(program))
    finally:
        keras.utils.clear_session()
    assume(structure.n_units > 3)
    check_random(graph, structure, budget, limits, seed, step)


def check_random(graph, structure, budget, limits, seed, step):
    cost = CostModel(graph, structure)
    goal = BudgetGoal(structure, limits, budget, ModelCostShares(cost))
    try:
        goal.check()
    except ValueError as error:
        smallest = ModelCostShares(cost)
        floor = most_removed(structure, limits)
        assert "smallest share" in str(error) and not meets(smallest, floor, budget)
        return
    schedule = AccuracyAware() if step is None else EqualSteps(step)
    state, shares, examiner = run_to(structure, cost, budget, limits, schedule, seed)
    if not meets(shares, state.removed, budget):
        # Which units of a group stay can matter, where some are read more often than others.
        assert not cheapest_first(structure, state.removed, examiner.scored, limits)
        return
    assert state.stopped == "budget met"
    check_tight(structure, shares, state, budget, limits, examiner)


_KNOWN = {}


def known(name):
    if name not in _KNOWN:
        _KNOWN[name] = analysed(BUILDERS[name]())
    return _KNOWN[name]


@examples(25)
@given(st.floats(0.3, 0.99), st.integers(0, 99))
def test_trimming_takes_the_smallest_prefix(most, seed):
    graph, structure = known("mobilenet_v2")
    cost, limits = CostModel(graph, structure), Limits()
    goal = BudgetGoal(structure, limits, {"flops": most}, ModelCostShares(cost))
    nothing = np.zeros(structure.n_units, bool)
    scores = np.random.default_rng(seed).random(structure.n_units)
    bundles = cheapest_first(structure, nothing, scores, limits)
    kept = list(goal.trimmed(nothing, bundles))
    full = cost().flops
    left = [cost(also_removed(nothing, bundles[:n])).flops / full for n in range(len(bundles) + 1)]
    assert len(kept) == next(n for n, share in enumerate(left) if share <= most)
    few = bundles[: len(kept) - 1]
    assert list(goal.trimmed(nothing, few)) == few, "one that does not meet it stays whole"


# In prune().


@pytest.mark.parametrize("criterion", ["l1", "lrp.log_odds"])
@pytest.mark.parametrize("name", KEYS)
def test_prune_meets_it(model, name, criterion, capsys):
    result = prune(model, budget={name: 0.5}, criterion=criterion)

    def value(cost):
        return COUNTED_SHARES[name](cost.counts())

    share = value(result.cost_after) / value(result.cost_before)
    assert share <= 0.5 and result.stopped == "budget met"
    assert result.settings["remaining"] == {name: pytest.approx(share)}
    assert result.settings["budget"] == {name: 0.5} and result.settings["target_rate"] is None
    assert result.model.count_params() == result.cost_after.parameters
    before_last = [record for record in result.history if record.accepted][-2]
    assert getattr(before_last, "params" if name == "energy" else name) > 0
    _, structure = analysed(model)
    graph, _ = analysed(model)
    largest = max(
        value(CostModel(graph, structure)()) - value(CostModel(graph, structure)(unit))
        for unit in np.eye(structure.n_units, dtype=bool)
    )
    assert share > 0.5 - largest / value(result.cost_before), "no more than one unit too much"
    result.summary()
    assert f"Budget {name}: {share:.2%} of the original left, 50.00% allowed" in "".join(
        capsys.readouterr().out
    )


def test_a_unit_is_worth_what_goes_with_it(model):
    graph, structure = analysed(model)
    shares = ModelCostShares(CostModel(graph, structure))
    removed = np.zeros(structure.n_units, bool)
    removed[::5] = True

    left = np.flatnonzero(~removed)

    def worth(**budget):
        return BudgetGoal(structure, Limits(), budget, shares).gains(removed)[left]

    def drops(name):
        without_each = [removed | (np.arange(structure.n_units) == unit) for unit in left]
        return shares(name, removed) - np.array([shares(name, less) for less in without_each])

    flops, params = drops("flops"), drops("params")
    assert worth(flops=0.1) == pytest.approx(flops / 0.9)
    assert worth(flops=0.1, params=0.2) == pytest.approx(flops / 0.9 + params / 0.8)
    assert worth(flops=0.1, params=0.99) == pytest.approx(flops / 0.9), "params are met"
    assert worth(latency=0.6) == pytest.approx(flops / 0.4), "nothing is measured"


def test_what_the_budget_asks_for_goes_rather_than_the_rest(model):
    few_flops = prune(model, budget={"flops": 0.6}, criterion=None).cost_after
    few_params = prune(model, budget={"params": 0.6}, criterion=None).cost_after
    assert few_flops.flops / few_flops.parameters < few_params.flops / few_params.parameters


def test_several_keys_are_all_met(model):
    budget = {"filters": 0.8, "flops": 0.6, "params": 0.5}
    result = prune(model, budget=budget)
    remaining = result.settings["remaining"]
    assert all(remaining[name] <= most for name, most in budget.items())
    alone = {name: prune(model, budget={name: most}) for name, most in budget.items()}
    assert result.rate == pytest.approx(max(one.rate for one in alone.values()))


def test_nothing_goes_where_all_may_remain(model):
    result = prune(model, budget={"flops": 1.0, "latency": 1})
    assert result.rate == 0 and result.stopped == "budget met" and len(result.history) == 1


def test_all_of_the_latency_may_remain_whatever_was_measured(model):
    graph, structure = analysed(model)
    latency = LatencyShare(lambda removed: model, images(model, 1), lambda share: 1.3)
    shares = ModelCostShares(CostModel(graph, structure), latency)
    BudgetGoal(structure, Limits(), {"latency": 1.0}, shares).check()
    with pytest.raises(ValueError, match=r"the smallest share that can remain is 1\.0000"):
        BudgetGoal(structure, Limits(), {"latency": 0.9}, shares).check()


def test_floor_stops_before_a_budget(model):
    result = prune(model, budget={"params": 0.03}, min_accuracy=0.9)
    assert result.stopped.startswith("floor") and result.settings["remaining"]["params"] > 0.03
    assert result.reference["after"]["harmonic_mean"] >= 0.9


def test_saved_and_loaded(model, tmp_path):
    result = prune(model, budget={"flops": 0.7})
    loaded = klp.load_result(result.save(tmp_path / "out"))
    assert loaded.settings == result.settings and loaded.stopped == "budget met"


def test_goes_on_to_the_same_result(model, tmp_path):
    class Interrupted(Exception):
        pass

    full = prune(model, budget={"flops": 0.4, "energy": 0.5})
    assert len(full.history) > 4
    from keras_lrp_prune.control import checkpoint

    save, saved = checkpoint.Checkpoint.save, []

    def save_and_fail(self, state):
        save(self, state)
        saved.append(1)
        if len(saved) == 4:
            raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint.Checkpoint, "save", save_and_fail)
        with pytest.raises(Interrupted):
            prune(model, budget={"flops": 0.4, "energy": 0.5}, checkpoint_dir=tmp_path)
    resumed = prune(model, budget={"energy": 0.5, "flops": 0.4}, checkpoint_dir=tmp_path)
    assert resumed.history == full.history and resumed.stopped == full.stopped
    assert all((resumed.kept[name] == full.kept[name]).all() for name in full.kept)
    with pytest.raises(CheckpointError, match="other settings"):
        prune(model, budget={"flops": 0.4}, checkpoint_dir=tmp_path)
    with pytest.raises(CheckpointError, match="other settings"):
        prune(model, target_rate=0.4, checkpoint_dir=tmp_path)


def test_unreachable_budgets_are_refused_before_any_work(model, monkeypatch):
    from keras_lrp_prune.criteria import WeightNorm

    monkeypatch.setattr(WeightNorm, "scorer", lambda *args: pytest.fail("work was done"))
    for name in KEYS:
        with pytest.raises(ValueError, match=rf"{name}=0.001 .*smallest share.* is 0\.") as error:
            prune(model, budget={"flops": 0.5, name: 0.001})
        smallest = float(str(error.value).rstrip(".").split()[-1])
        with pytest.raises(pytest.fail.Exception, match="work was done"):
            prune(model, budget={name: smallest})
        with pytest.raises(ValueError, match="smallest share"):
            prune(model, budget={name: smallest - 2e-4})


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({}, "budget is empty"),
        ({"speed": 0.5}, "Unknown budget 'speed'. There are: filters, params, flops, energy, lat"),
        ({"flops": 0}, r"must lie in \(0, 1\]"),
        ({"flops": 1.1}, r"must lie in \(0, 1\]"),
        ({"flops": float("nan")}, r"must lie in \(0, 1\]"),
        ({"flops": None}, "takes a number in .*, not None"),
        (0.5, "must be a dict such as"),
    ],
)
def test_unusable_budgets(model, budget, words):
    with pytest.raises((TypeError, ValueError), match=words):
        check_budget(budget)
    with pytest.raises((TypeError, ValueError), match=words):
        prune(model, budget=budget)


def test_rate_and_budget_exclude_each_other(model):
    with pytest.raises(ValueError, match="target_rate or budget, not both"):
        prune(model, target_rate=0.5, budget={"flops": 0.5})


# Latency.


def test_latency_is_measured_once_and_the_whole_model_is_one(model):
    built = []

    def build(removed):
        built.append(removed.copy())
        return model

    latency = LatencyShare(build, np.zeros((1, 8, 8, 1), "float32"))
    assert latency(np.zeros(5, bool)) == 1.0 and not built
    removed = np.arange(5) == 2
    share = latency(removed)
    assert share > 0 and [one.sum() for one in built] == [0, 1]
    assert latency(removed) == share and len(built) == 2
    told = LatencyShare(build, np.zeros((1, 8, 8, 1), "float32"), lambda share: 0.25)
    assert told(removed) == 0.25


def test_latency_budget_ends_between_met_and_not_met():
    inputs = keras.Input((48, 48, 3))
    x = inputs
    for number in range(3):
        x = keras.layers.Conv2D(96, 3, padding="same", activation="relu", name=f"c{number}")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    wide = make_live(keras.Model(inputs, keras.layers.Dense(4, name="classes")(x)))
    data = (images(wide, 8), np.arange(8) % 4)
    result = prune(wide, data, budget={"latency": 0.6, "filters": 0.9})
    assert result.stopped == "budget met"
    assert result.settings["remaining"]["latency"] <= 0.6
    assert result.settings["remaining"]["filters"] <= 0.9
    assert result.cost_after.flops < 0.8 * result.cost_before.flops
    with pytest.raises(ValueError, match=r"budget latency=1e-05 .*smallest share"):
        prune(wide, data, budget={"latency": 1e-5})


# Energy.


def test_energy_by_hand():
    assert energy(0, 4) == pytest.approx(640e-12)
    assert energy(2, 0) == pytest.approx(4.6e-12)
    assert energy(2, 0, "int8") == pytest.approx(0.23e-12)
    assert energy(2, 0, "float16") == pytest.approx(1.5e-12)
    with pytest.raises(ValueError, match="no energy figure for operations in float64"):
        energy(2, 0, "float64")
