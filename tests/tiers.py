"""What `make test` leaves to `make test-slow`.

It covers every feature in minutes. Of cases that go through the same code, it takes one of each
kind, and an eighth of the examples of each property (the profiles in conftest.py).
"""

import re

from hypothesis import settings

FULL = 200

# Tests of the slow tier, as patterns of their names, by what the quick tier has in their place.
# Tests that are slow in themselves are marked where they stand.
SLOW = {
    "VGG16, ResNet50V2, MobileNetV2 and MobileNetV3Small": (
        r"test_applications\.py::test_masked_equals_rebuilt\["
        r"(?!VGG16|ResNet50V2|MobileNetV2|MobileNetV3Small)",
    ),
    "several replicas in one process, which share batches and add up as workers do": (
        r"test_distribution\.py::test_the_(code_of_the_page|script_for)",
        r"test_distribution\.py::test_(there_are_two_workers|workers_|the_chief_|a_finished_run)",
        r"test_distribution\.py::test_an_unsuitable_checkpoint",
    ),
    "the tests of what the pages show, and two of the pages": (
        r"test_docs\.py::test_code_of_a_page_runs\[(?!explain|profile)",
    ),
    "the package imported first, and last": (
        r"test_imports\.py::test_tf_keras_and_environment_stay\["
        r"(?!.*-import (tensorflow; import keras; import keras_lrp_prune\]"
        r"|keras_lrp_prune; import tensorflow; import keras\]))",
    ),
    "one network of each kind, and two analyzers": (
        r"test_innvestigate\.py::test_relevance_is_conserved\[(?!chain)",
        r"test_innvestigate\.py::test_families_equal_the_formulas\[(?!vgg|mobilenet\b)",
        r"test_innvestigate\.py::test_mask_on_a_live_engine_equals_a_fresh_engine\[(?!resnet_v2)",
        r"test_innvestigate\.py::test_every_other_analyzer_works\[(?!lrp\.alpha_beta)",
        r"test_callbacks\.py::test_masked_equals_rebuilt_after_training\[(?!vgg|mobilenet_v2)",
    ),
    "tests of its parts, which fail first where it would": (
        r"test_balance\.py::test_more_accurate_than_single_relevances",
        r"test_budget\.py::test_latency_budget_ends_between_met_and_not_met",
    ),
}
_PATTERNS = [re.compile(pattern) for patterns in SLOW.values() for pattern in patterns]


def is_left_out(name):
    """Whether a test is one of those that only `make test-slow` runs."""
    return any(pattern.search(name) for pattern in _PATTERNS)


def stale(names):
    """Patterns that no test has the name for."""
    return [it.pattern for it in _PATTERNS if not any(map(it.search, names))]


def examples(count, **options):
    """Settings of a property that takes `count` examples in the full tier, and its share else."""
    share = settings.default.max_examples / FULL
    return settings(max_examples=max(2, round(count * share)), **options)
