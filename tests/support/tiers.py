"""What `make test` leaves to `make test-slow`.

It covers every feature in minutes. Of cases that go through the same code, it takes one of each
kind, and a quarter of the examples of each property (the profiles in conftest.py).
"""

import re

from hypothesis import settings

FULL = 100

# Tests of the slow tier, as patterns of their names, by what the quick tier has in their place.
# Tests that are slow in themselves are marked where they stand.
SLOW = {
    "VGG16 and MobileNetV3Small": (
        r"test_applications\.py::test_masked_equals_rebuilt\[(?!VGG16|MobileNetV3Small)",
    ),
    "several replicas in one process, which share batches and add up as workers do": (
        r"test_distribution\.py::test_the_(code_of_the_page|script_for)",
        r"test_distribution\.py::test_(there_are_two_workers|workers_|the_chief_|a_finished_run)",
        r"test_distribution\.py::test_an_unsuitable_checkpoint",
    ),
    "the tests of what the pages show, and the pages for those who extend it": (
        r"test_docs\.py::test_code_of_a_page_runs\[(?!explain|how-to)",
    ),
    "the package imported last": (r"test_imports\.py::test_a_change_is_seen",),
    "one network, analyzer or option of each kind": (
        r"test_unique\.py::test_every_unit_is_scored_where_it_is_read\[(?!squeeze_excite|shared)",
        r"test_unique\.py::test_in_relu_networks_without_sums.*\[(?!squeezenet|separable)",
        r"test_unique\.py::test_revised_scores_follow_in_every_layer\[(?!resnet_v1)",
        r"test_refitted_mask\.py::test_masked_it_is_what_is_rebuilt\[(?!mobilenet)",
        r"test_innvestigate_formulas\.py::test_relevance_is_conserved\[(?!chain-lrp\.z\])",
        r"test_innvestigate_formulas\.py::test_families_equal_the_formulas\[(?!vgg|mobilenet\b)",
        r"test_innvestigate_formulas\.py::test_rules_equal_the_formulas\[(?!lrp\.(epsilon|z_plus)\])",
        r"test_both_engines\.py::test_mask_on_a_live_engine.*\[innvestigate-(?!resnet_v2)",
        r"test_innvestigate\.py::test_every_other_analyzer_works\[(?!lrp\.alpha_beta)",
        r"test_innvestigate_formulas\.py::test_z_is_gradient_times_input_in_relu_networks\[(?!squeezenet)",
        r"test_native_formulas\.py::test_relevance_is_conserved\[(?!depthwise)",
        r"test_native_parity\.py::test_the_same_pass_gives_the_probabilities\[Innv",
        r"test_native_parity\.py::test_every_analyzer_equals_innvestigate\["
        r"(?!lrp\.(z|alpha_2_beta_1|sequential_preset_a)\])",
        r"test_native_parity\.py::test_every_family_equals_innvestigate\[(?!mobilenet_v2)",
        r"test_native_parity\.py::test_options_equal_innvestigate\[(?!lrp\.(epsilon|alpha_beta))",
        r"test_refresh\.py::test_new_weights_and_the_mask_that_stays\[innvestigate-resnet_v2",
        r"test_distribution\.py::test_(a_run|the_result).*\[(?!lrp\.sequential_preset_a)",
        r"test_distribution\.py::test_scores_are_those_of_one_device",
        r"test_refitted_mask\.py::test_other_criteria_score_it_too\[(?!lrp\.log_odds)",
        r"test_callback_states\.py::test_training_goes_on_after_a_crash\[(?!7-True)",
        r"test_callbacks\.py::test_masked_equals_rebuilt_after_training\[(?!vgg)",
        r"test_callbacks\.py::test_criteria_see_the_weights_of_now\["
        r"(?!lrp\.log_odds|taylor|l1)",
        r"test_surgery\.py::test_masked_equals_rebuilt\[float32-(?!vgg|nested)",
        r"test_surgery\.py::test_rebuilt_model_needs_nothing_of_this_package\[(?!nested)",
        r"test_legacy\.py::test_lrp_is_that_of_the_same_keras_3_model\[(?!lrp\.z\])",
        r"test_channel_rules\.py::test_criteria_score_what_they_make\["
        r"(?!recurrent-taylor|grouped_narrow-l2|slicing-activation|states-l2)",
        r"test_budget\.py::test_prune_meets_it\[(?!filters-l1|flops-l1|energy-lrp|params-lrp)",
        r"test_finetuning\.py::test_augmentation_is_applied_in_training_only\[function",
        r"test_frozen\.py::test_legacy_models\[(all|layer|base-densenet)",
        r"test_frozen\.py::test_preprocessing_inside_the_model\[(?!rescaling|caffe)",
        r"test_loop\.py::test_a_plain_schedule_ends_where_it_says\[constant",
        r"test_both_engines\.py::test_mask_on_a_live_engine.*\[native-"
        r"(?!mobilenet|squeeze_excite|shared|mixed)",
        r"test_native_formulas\.py::test_convolutions_of_every_kind_equal_the_formulas\[(?!2D)",
        r"test_surgery\.py::test_legacy_twin_computes_the_same\[(squeeze|mobile)",
        r"test_tfmot\.py::test_it_is_saved_and_loaded_with_tfmots_wrapper\[h5",
        r"test_unusual_models\.py::test_a_fixed_batch_size\[8",
        r"test_finetuning\.py::test_loss_is_the_formula\["
        r"(?!0\.3-4\.0-(softmax|sigmoid)|None-2\.0-logits)",
        r"test_finetuning\.py::test_the_form_of_the_outputs_does_not_matter\[(?!softmax-True)",
        r"test_frozen\.py::test_recovery_keeps_the_flags\["
        r"(?!head-kernel|least_squares-(base|kernel))",
        r"test_unfreezing\.py::test_what_trains.*\[(?!all\]|layer\]|weight\])",
        r"test_finetuning\.py::test_a_model_that_was_not_compiled_can_be_evaluated\[(?!softmax|logit\])",
        r"test_frozen\.py::test_saved_results_keep_the_flags\[(?!base|kernel)",
        r"test_native_formulas\.py::test_gamma_equals_the_formula\[(?!mobilenet)",
        r"test_native\.py::test_architectures_that_only_native_handles",
        r"test_native\.py::test_other_precisions_are_analysed_in_float32\[float64",
        r"test_native_options\.py::test_options_matter.*change[1357]",
        r"test_recovery\.py::.*test_batches_and_memory_do_not_matter\[(?!densenet)",
        r"test_recovery\.py::.*test_layers_that_augment_images.*\[0-",
        r"test_steering\.py::test_the_models_own_head_explains.*\[lrp",
        r"test_callbacks\.py::test_masked_filters_stay_zero.*\[(?!momentum)",
        r"test_callbacks\.py::test_every_way_to_run_a_step_holds_the_masks\[jit",
        r"test_callback_schedules\.py::test_steps_smaller_than_a_unit_take_one\[0\.0",
        r"test_holding\.py::test_averages_of_inner_optimizers_are_masked\[several",
        r"test_several_fits\.py::test_what_changed_since_the_last_fit_is_checked\[frozen",
        r"test_several_fits\.py::test_training_that_diverges.*\[ended",
        r"test_accuracy_curve\.py::test_each_rate_is_met_within_half_a_group\["
        r"(?!accuracy-aware|lrp-one-shot|taylor|random)",
        r"test_accuracy_curve\.py::test_test_labels_steer_nothing\[taylor",
        r"test_canonical\.py::test_survives_json_and_gives_a_legacy_twin\["
        r"(?!vgg|mobilenet_v2|densenet|nested|batch_norms)",
        r"test_compilation\.py::test_compilation\[(names|options)",
        r"test_litert_files\.py::test_accuracy_of_each_class_by_both\[(?!softmax)",
        r"test_profile\.py::test_flops_against_the_graph_profiler\[MobileNetV2",
        r"test_callbacks\.py::test_other_samples_to_train_on\[generator",
        r"test_holding\.py::test_an_interrupted_fit_leaves_no_constraint\[Failing",
        r"test_holding\.py::test_swapped_averages_are_masked_at_each_epoch_end\[False",
        r"test_auto_recovery\.py::test_it_is_the_default_and_names_what_it_chose\[pooled",
        r"test_legacy\.py::test_prune_from_end_to_end\[(?!lrp)",
        r"test_recovery\.py::.*test_closer.*\[(?!resnet_v1|nested)",
        r"test_cost\.py::test_count_without_building.*\[softmax",
        r"test_refresh\.py::test_new_weights_and_the_mask.*\[native-(?!resnet_v1|nested|shared)",
        r"test_cost\.py::test_applications\[DenseNet121",
        r"test_docstrings\.py::test_example_runs\["
        r"(CyclesResult|prune_and_finetune|TuningResult|compare_litert|LiteRTModel)",
        r"test_prune\.py::test_resumes_where_it_was_interrupted\[lrp\.sequential_preset_a",
        r"test_steering\.py::test_a_recovered_point_of_a_curve.*\["
        r"(?!accuracy-aware.*02-least_s)",
        r"test_steering\.py::test_recovery_brings_held_out.*\[(?!taylor-head\+)",
        r"test_trials\.py::test_criteria_without_contributions_have_trials_too\[(?!taylor)",
    ),
    "tests of its parts, which fail first where it would": (
        r"test_demo\.py::test_the_choice_of_filters_is_shown_by_itself",
        r"test_innvestigate\.py::test_an_engine_is_as_one_in_a_process_of_its_own",
        r"test_balance\.py::test_more_accurate_than_single_relevances",
        r"test_versions\.py::test_a_killed_export_leaves_no_version",
        r"test_terminal\.py::test_full_disk_behind_standard_output_of_an_ascii_terminal",
        r"test_imports\.py::test_every_public_name_loads",
        r"test_budget\.py::test_latency_budget_ends_between_met_and_not_met",
        r"test_cli\.py::test_compare_a_named_backbone",
        r"test_cycles\.py::test_(one_cycle_is_prune_and_finetune|budgets_are_those_of_the_model)",
        r"test_litert_files\.py::test_litert_files_are_smaller",
        r"test_profile\.py::test_(legacy_model_of_an_open_size|result_of_pruning|command_line)",
        r"test_measuring_processes\.py::test_layers_with_state_of_their_own\[(?!augmented)",
        r"test_measuring_processes\.py::test_command_line_takes_augmented_models",
        r"test_measuring_processes\.py::test_a_failure_in_python",
        r"test_progress\.py::test_(without_a_terminal|curves_have_stages)",
        r"test_auto_recovery\.py::test_it_keeps_what_the_best_of_the_options_keeps\[plain",
        r"test_steering\.py::test_(a_head_without_bias|one_unit_head)_is_fitted",
        r"test_unfreezing\.py::test_cycles_that_go_on_know_which_single_weight_is_frozen",
        r"test_docstrings\.py::test_example_runs\[[pP]rofile",
        r"test_trials\.py::test_a_run_with_trials_resumes_to_the_same_result",
        r"test_trials\.py::test_without_trials_one_way_alone_decides",
        r"test_trials\.py::test_trials_keep_more_of_the_accuracy\[head",
    ),
}
_PATTERNS = [re.compile(pattern) for patterns in SLOW.values() for pattern in patterns]


def is_left_out(name):
    """Whether a test is one of those that only `make test-slow` runs."""
    return any(pattern.search(name) for pattern in _PATTERNS)


def stale(names):
    """Patterns that no test has the name for."""
    return [it.pattern for it in _PATTERNS if not any(map(it.search, names))]


def examples(count, quick=None, **options):
    """Settings of a property that takes `count` examples in the full tier.

    In the quick one it takes `quick` of them, by default the share that all take there.
    """
    share = settings.default.max_examples / FULL
    taken = quick if quick and share < 1 else max(2, round(count * share))
    return settings(max_examples=taken, **options)
