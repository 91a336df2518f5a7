"""Training that ends before the schedule does what was asked for."""

import re

import keras
import pytest
from keras import layers
from pruning_models import reference
from tensorflow_model_optimization.sparsity.keras import ConstantSparsity, PolynomialDecay

import keras_lrp_prune as klp


class TestShortfall:
    """What `FilterPruning` says when a schedule ended short of what was asked."""

    def fit(self, caplog, schedule, epochs=1, optimizer="sgd", **options):
        keras.utils.set_random_seed(0)
        x, y = reference()
        model = keras.Sequential(
            [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(40), layers.Dense(10)]
        )
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        pruning = klp.callbacks.FilterPruning((x, y), schedule, criterion="l1", **options)
        caplog.clear()
        model.fit(x, y, epochs=epochs, batch_size=20, callbacks=[pruning], verbose=0)
        self.said = [record.getMessage() for record in caplog.records]
        return [line for line in self.said if "ended" in line]

    @pytest.mark.filterwarnings("ignore::keras_lrp_prune.AtChanceWarning")
    def test_is_one_line(self, caplog):
        decay = PolynomialDecay(0.0, 0.5, 0, 100, frequency=1)
        (line,) = self.fit(caplog, decay)
        assert re.fullmatch(
            r"Pruning ended at rate \d+\.\d%, but the schedule was to end at 50.0%: "
            r"training ended at optimizer step 4 of 100\.",
            line,
        )
        adaptive = klp.schedules.AccuracyAware(final_sparsity=0.5, frequency=2)
        (line,) = self.fit(caplog, adaptive)
        assert "was to end at 50.0%" in line and "step 4." in line
        equal = klp.schedules.EqualSteps(0.01)
        (line,) = self.fit(caplog, equal, budget={"params": 0.5})
        assert "the budget is not met" in line
        constant = ConstantSparsity(0.5, 0, frequency=1)
        (line,) = self.fit(caplog, constant, min_accuracy=1.0)
        assert "steps were undone (floor" in line

    @pytest.mark.filterwarnings("ignore::keras_lrp_prune.AtChanceWarning")
    def test_nothing_is_said_where_nothing_is_missing(self, caplog):
        assert not self.fit(caplog, ConstantSparsity(0.5, 0, frequency=1))
        assert not self.fit(caplog, klp.schedules.AccuracyAware(frequency=2)), "a mere bound"
        assert not self.fit(caplog, klp.schedules.EqualSteps(0.2), budget={"params": 0.7})

    @pytest.mark.filterwarnings("ignore::keras_lrp_prune.AtChanceWarning")
    def test_lost_classes_are_named_with_what_helps(self, caplog):
        names = [f"digit {number}" for number in range(10)]
        constant = ConstantSparsity(0.9, 0, frequency=1)
        self.fit(caplog, constant, class_names=names)
        (line,) = [said for said in self.said if "classes at 0" in said]
        assert re.search(r"mean accuracy on the watched samples is 0\.0% \(.*'digit \d'", line)
        assert "use prune(), which refits, and then finetune()" in line
        self.fit(caplog, ConstantSparsity(0.1, 0, frequency=1000), epochs=15, optimizer="adam")
        assert not [said for said in self.said if "refits" in said]


class TestOver:
    """A schedule that ends before the step of an optimizer that was loaded with its count."""

    def fit(self, model, schedule, **options):
        x, y = reference()
        pruning = klp.callbacks.FilterPruning((x, y), schedule, criterion="l1", **options)
        model.fit(x, y, batch_size=20, callbacks=[pruning], verbose=0)
        return pruning

    @pytest.mark.filterwarnings("ignore::keras_lrp_prune.AtChanceWarning")
    def test_it_is_refused_before_the_first_step(self, tmp_path):
        keras.utils.set_random_seed(0)
        made = keras.Sequential(
            [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(40), layers.Dense(10)]
        )
        made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        made.fit(*reference(), batch_size=20, verbose=0)
        made.save(tmp_path / "made.keras")
        model = keras.models.load_model(tmp_path / "made.keras")
        over = PolynomialDecay(0.0, 0.5, 0, 2, frequency=1)
        for schedule in (over, klp.schedules.AccuracyAware(frequency=1, end_step=2)):
            for _ in "12":  # and the folder is free again
                with pytest.raises(
                    ValueError, match=r"ends at optimizer step 2, .* at step 4 .*new"
                ):
                    self.fit(model, schedule, state_dir=tmp_path / type(schedule).__name__)
        assert int(model.optimizer.iterations) == 4
        later = self.fit(model, PolynomialDecay(0.0, 0.5, 4, 6, frequency=1))
        assert later.pruning_rate == 0.5
        again = self.fit(model, over)
        assert again.pruning_rate == 0.5, "what is complete goes on"
