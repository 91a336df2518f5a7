"""How the fuzz test calls each public function, and how often."""

from __future__ import annotations

from collections.abc import Mapping

from fuzz_call import Call
from fuzz_values import (
    FLAGS,
    LISTS,
    MODELS,
    NO_STEPS,
    OPTIONS,
    PATHS,
    READABLE,
    SAMPLES,
    SHARES,
    STEPS,
    UNREADABLE,
    WHOLES,
    WRONG,
)

CALLS: Mapping[str, Call] = {
    "prune": Call(
        "klp.prune({})",
        12,
        right={"recovery": ["None", "None", "'least_squares'", "'auto'"]},
        needs=("model", "reference", "schedule", "criterion", "engine", "recovery", "verbose"),
    ),
    "sensitivity": Call(
        "klp.sensitivity({})",
        2,
        right={"recovery": ["None", "'least_squares'"], "share": ["0.5", "np.float32(0.3)"]},
        wrong={"share": ("None", "'half'", "0", "1", "-0.1", "float('nan')", "True", "[0.5]")},
        needs=("model", "reference", "criterion", "engine", "recovery", "verbose"),
    ),
    "accuracy_curve": Call(
        "klp.accuracy_curve({})", 2, needs=("model", "reference", "test", "method", "rates")
    ),
    "compare": Call(
        "klp.compare({})",
        1,
        right={
            "task": ["(model, (x, y), (x, y))", "lambda seed: (model, (x, y), (x, y))"],
            "methods": ["'l1'", "('random', 'l1')", "iter(['l1'])"],
            "seeds": ["(0,)", "range(1)", "[np.int64(3)]"],
            "folder": ["None", "folder / 'runs'"],
        },
        wrong={
            "task": ("None", "3", "model", "(model, (x, y))", "lambda seed: None"),
            "methods": ("None", "3", "[]", "'magic'", "['l1', 'l1']", "[3]"),
            "seeds": ("None", "3", "[]", "[0, 0]", "[1.5]", "['0']", "[-1]", "'0'"),
            "folder": (*PATHS, "file"),
        },
        needs=("task", "methods", "rates", "verbose"),
    ),
    "filter_relevance": Call(
        "klp.filter_relevance({})",
        3,
        wrong={"y": ("None", *WRONG["y"])},
        needs=("model", "x", "y", "analyzer", "engine"),
    ),
    "input_relevance": Call(
        "klp.input_relevance({})",
        2,
        right={"y": ["None", "y * 0"]},
        needs=("model", "x", "analyzer", "engine"),
    ),
    "explain": Call("klp.explain({})", 10, {}, {"model": UNREADABLE}, ("model",)),
    "plot_channel_groups": Call(
        "klp.plot_channel_groups({})", 3, {}, {"model": UNREADABLE}, ("model",)
    ),
    "find_channel_groups": Call(
        "klp.find_channel_groups({})", 8, {"model": READABLE}, {"model": UNREADABLE}, ("model",)
    ),
    "delete_channels": Call(
        "klp.delete_channels({})",
        18,
        right={
            "channels": [
                *("{case.filters: [0, 3]}", "{case.filters: np.arange(7)}", "{}"),
                *("{case.filters: np.arange(8) < 4}", "{case.filters: iter({1, 2})}"),
            ]
        },
        wrong={
            "channels": (
                *(*LISTS, "[0]", "{'no such layer': [0]}", "{case.filters: [8]}", "{3: [0]}"),
                *("{case.filters: [-1]}", "{case.filters: [0.5]}", "{case.filters: range(8)}"),
                *("{case.filters: None}", "{case.filters: 'a'}", "{'classes': [0]}"),
                "{case.filters: [[0], [1, 2]]}",
            ),
            "model": UNREADABLE,
        },
        needs=("model", "channels"),
    ),
    "with_linear_head": Call(
        "klp.with_linear_head({})",
        1,
        right={"backbone": ["backbone()"], "name": ["'top'"]},
        wrong={"backbone": (*MODELS[:-1],), "name": ("3", "None", "['a']", "'a/b'")},
        needs=("backbone", "reference"),
    ),
    "finetune": Call(
        "klp.finetune({})",
        1,
        right={
            "result": ["model"],
            "train": ["(x, y)"],
            "teacher": ["None", "model"],
            "epochs": ["1"],
            "learning_rate": ["None", "1e-3", "np.float32(0.01)"],
            "schedule": ["'cosine'", "'plateau'", "None"],
            "temperature": ["4", "0.5"],
            "distillation_weight": ["0", "0.5", "1"],
            "restore_best": ["False"],
            "optimizer": ["None", "'sgd'", "keras.optimizers.Adam(0.01)"],
            "augment": ["None", "keras.layers.GaussianNoise(0.1)", "lambda x: x"],
            "freeze_batch_norm": ["False", "True", "None"],
            "dropout_factor": ["1", "0.5"],
            "callbacks": ["()", "[keras.callbacks.TerminateOnNaN()]"],
            "unfreeze": ["True"],
        },
        wrong={
            "result": MODELS,
            "train": SAMPLES,
            "teacher": MODELS[1:],
            "epochs": ("None", *WHOLES),
            "learning_rate": ("'0.1'", "0", "-1", "np.nan", "np.inf", "True", "[0.1]"),
            "schedule": ("3", "'linear'", "['cosine']"),
            "temperature": ("None", "0", "-1", "np.nan", "np.inf", "'4'", "True"),
            "distillation_weight": SHARES,
            "restore_best": (*FLAGS, "True"),
            "optimizer": ("3", "'magic'", "len", "['adam']"),
            "augment": ("3", "'flip'", "[len]"),
            "freeze_batch_norm": FLAGS[1:],
            "dropout_factor": SHARES,
            "callbacks": ("3", "[3]", "'callback'", "None"),
            "batch_size": ("None", *WHOLES),
            "unfreeze": ("3", "'all of them'"),
        },
        needs=("result", "train", "epochs", "verbose"),
        unfit=("legacy",),
    ),
    "prune_and_finetune": Call(
        "klp.prune_and_finetune({})",
        1,
        right={
            "train": ["(x, y)"],
            "cycles": ["1"],
            "distil": ["False"],
            "prune_options": ["{'criterion': 'l1', 'schedule': schedules.EqualSteps(0.5)}"],
            "tune_options": ["{'epochs': 1, 'batch_size': np.int64(8)}"],
        },
        wrong={
            "train": SAMPLES,
            "cycles": ("None", "0", "-1", "1.5", "'3'", "True", "[]", "[0.4, 0.2]", "[2]", "[[1]]"),
            "distil": FLAGS,
            "prune_options": (*OPTIONS, "{'seed': 1}", "{'rate': 1}", "{'round_to': 2.0}"),
            "tune_options": (*OPTIONS, "{'teacher': 1}", "{'epoch': 1}", "{'epochs': 0}"),
        },
        needs=("model", "reference", "train", "cycles", "prune_options", "tune_options", "verbose"),
        unfit=("legacy",),
    ),
    "callbacks.FilterPruning": Call(
        "fitted(model, klp.callbacks.FilterPruning({}))",
        1,
        needs=("reference", "schedule", "criterion"),
        unfit=("legacy",),
    ),
    "schedules.AccuracyAware": Call("schedules.AccuracyAware({})", 6, STEPS, NO_STEPS),
    "schedules.EqualSteps": Call(
        "schedules.EqualSteps({})", 3, {"size": ["0.5", "1"]}, {"size": (*SHARES, "0")}
    ),
    "schedules.Selection": Call(
        "schedules.Selection({})",
        2,
        {name: STEPS[name] for name in ("order", "pool", "steering")} | {"trials": ["True"]},
        {name: NO_STEPS[name] for name in ("order", "pool", "steering", "trials")},
    ),
    "harmonic_mean_accuracy": Call(
        "klp.harmonic_mean_accuracy({})",
        6,
        {"class_accuracies": ["[1, 0.5]", "np.zeros(3)", "(0.1,)", "[True, False]"]},
        {
            "class_accuracies": (
                *("None", "3", "[]", "'a'", "['a']", "[1.5]", "[-0.1]", "[np.nan]", "[[0.5]]"),
                *("{}", "[0.5, None]", "[[1], [1, 2]]", "iter([0.5])", "[0.5j]"),
            )
        },
        needs=("class_accuracies",),
    ),
    "AccuracyCurve": Call(
        "klp.AccuracyCurve({})",
        5,
        {"rates": ["[0, 0.5]"], "class_accuracy": ["[[1, 1], [0.5, 1]]", "np.ones((2, 3))"]},
        {
            "rates": (*WRONG["rates"], "None"),
            "class_accuracy": (
                *("None", "3", "[]", "'a'", "[[1]]", "[[1, 2], [1, 1]]", "[[1, np.nan], [1, 1]]"),
                *("[1, 1]", "[['a'], ['b']]", "[[1], [1, 1]]", "iter([1])"),
            ),
        },
        needs=("rates", "class_accuracy"),
    ),
    "Method": Call(
        "klp.Method({})",
        5,
        {
            "name": ["'own-1.a_b'"],
            "criterion": ["'l1'", "None"],
            "schedule": ["schedules.EqualSteps", "None", "lambda: schedules.EqualSteps(1)"],
            "analyzer_options": ["{}", "{'epsilon': 0.1}"],
            "scored_once": ["True"],
        },
        {
            "name": ("None", "3", "''", "'a/b'", "'a b'", "b'a'"),
            "criterion": ("3", "['l1']", "klp.criteria.Taylor"),
            "schedule": ("3", "'equal'", "schedules.EqualSteps()"),
            "analyzer_options": ("None", *OPTIONS),
            "scored_once": FLAGS,
        },
        needs=("name", "criterion"),
    ),
    **{
        name: Call(
            f"klp.{name}({{}})",
            2,
            {"layer_class": ["type('Own', (keras.layers.Layer,), {})"], argument: good},
            {
                "layer_class": ("None", "3", "'Own'", "keras.layers.ReLU()"),
                argument: ("None", "3", "'ReLU'", "type('Other', (keras.layers.Layer,), {})"),
            },
            needs=("layer_class", argument),
        )
        for name, argument, good in (
            (
                "register_layer_rule",
                "rule",
                ["keras.layers.ReLU", "lambda call, flow: call.inputs[0]"],
            ),
            ("register_layer_flops", "flops", ["keras.layers.ReLU", "lambda call: []"]),
            (
                "register_layer_lrp",
                "backward",
                ["keras.layers.ReLU", "lambda visit: [visit.passed]"],
            ),
        )
    },
    "register_criterion": Call(
        "registered({})",
        1,
        {"criterion": ["klp.criteria.LRP('lrp.epsilon', {'epsilon': 0.5}, name='own')"]},
        {"criterion": ("None", "3", "'l1'", "klp.criteria.Taylor", "klp.criteria.Taylor()")},
        needs=("criterion",),
    ),
    "profile": Call(
        "klp.profile({})",
        1,
        {
            **{"batch_sizes": ["(1,)", "[np.int64(2)]"], "repeats": ["1"]},
            "input_shape": ["None", "(8, 8, 3)"],
        },
        {
            "model": (*MODELS[:6], "unbuilt()", "folder", "file", "folder / 'none'"),
            "batch_sizes": ("None", "3", "()", "(0,)", "(1.5,)", "('1',)", "(True,)"),
            "repeats": ("None", *WHOLES),
            "input_shape": ("3", "'8'", "(8, 8)", "(8, 8, 1)", "(0, 8, 3)", "(8.0, 8, 3)"),
        },
        needs=("model", "batch_sizes", "repeats"),
    ),
    "profile_table": Call(
        "klp.profile_table({})",
        2,
        {"profiles": ["{'one': profiled()}", "{'[red]': profiled(), '猫': profiled()}"]},
        {"profiles": ("None", "3", "{}", "{'one': 3}", "[profiled()]", "profiled()", "{3: None}")},
        needs=("profiles",),
    ),
    "load_result": Call(
        "klp.load_result({})",
        2,
        {"folder": ["saved()", "str(saved())"]},
        {"folder": ("None", *PATHS, "folder", "file", "folder / 'none'", "damaged()")},
        needs=("folder",),
    ),
    "load_image_folder": Call(
        "klp.load_image_folder({})",
        3,
        {
            "folder": ["images()", "str(images())"],
            "image_size": ["(8, 8)", "[np.int64(4), 6]"],
            "per_class": ["None", "1"],
            "class_names": ["None", "['猫', 'a']"],
            "antialias": ["False", "True"],
        },
        {
            "folder": ("None", *PATHS, "folder", "file", "folder / 'none'"),
            "image_size": (
                "None",
                "16",
                "'16'",
                "(8,)",
                "(8, 8, 3)",
                "(0, 8)",
                "(8.0, 8)",
                "model",
            ),
            "per_class": (*WHOLES, "99"),
            "antialias": FLAGS,
        },
        needs=("folder", "image_size"),
    ),
    "export.litert": Call(
        "klp.export.litert({})",
        1,
        {
            "path": ["folder / 'm.tflite'", "str(folder / '猫.tflite')"],
            "quantize": ["None", "'float16'"],
            "representative": ["None"],
            "io": ["'int8'"],
            "batch_size": ["None", "1"],
        },
        {
            "path": ("None", *PATHS, "folder / 'm.lite'", "folder", "file / 'm.tflite'"),
            "quantize": ("3", "'int4'", "'int8'", "['float16']", "True"),
            "representative": ("None", "3", "x[0]", "iter(x)", "x * np.nan", "x[:, :5]", "(3, y)"),
            "io": ("None", "3", "'int16'", "['int8']"),
            "model": MODELS[:8],
        },
        needs=("model", "path"),
        along={"representative": {"quantize": "'int8'"}},
        unfit=("double",),
    ),
    "export.saved_model": Call(
        "klp.export.saved_model({})",
        1,
        {
            "path": ["folder / 'served' / '1'"],
            "preprocessing": ["None", "lambda x: x / 255", "keras.layers.Rescaling(0.1)"],
            "labels": ["None", "['a', '猫', '$c'][: case.classes]"],
            "input_dtype": ["None", "'float32'"],
            "input_shape": ["None", "(8, 8, 3)"],
            "warmup": ["None"],
            "warmup_batch_sizes": ["(1, 8)", "[np.int64(2)]"],
        },
        {
            "path": ("None", *PATHS, "folder / 'one'", "folder / '01'", "file / '1'"),
            "preprocessing": ("3", "'scale'", "[len]", "lambda x: None", "lambda x: x[0]"),
            "labels": ("3", "'abc'", "['a']", "[1, 2, 3]", "{'a', 'b', 'c'}", "['a'] * 9"),
            "input_dtype": ("3", "'int4'", "['uint8']", "np.float32"),
            "input_shape": ("3", "'8'", "(8, 8)", "(0, 8, 3)", "(8.0, 8, 3)", "(9, 9, 9)"),
            "warmup": ("3", "'x'", "x[0]", "x[:0]", "x * np.nan", "iter(x)", "x[:, :5]"),
            "warmup_batch_sizes": ("None", "3", "()", "(0,)", "(1.5,)", "('1',)", "(True,)"),
            "model": MODELS[:9],
        },
        needs=("model", "path"),
    ),
    "export.LiteRTModel": Call(
        "klp.export.LiteRTModel({})",
        1,
        {"path": ["converted()", "str(converted())"]},
        {"path": ("None", *PATHS, "folder", "file", "folder / 'none.tflite'")},
        needs=("path",),
    ),
    "export.compare_litert": Call(
        "klp.export.compare_litert({})",
        1,
        {
            "path": ["converted()"],
            "data": ["(x, y)", "dataset(x, y)"],
            "model": ["converted_from()"],
        },
        {
            "path": ("None", *PATHS, "folder", "file", "folder / 'none.tflite'"),
            "data": SAMPLES,
            "model": MODELS,
        },
        needs=("model", "path", "data"),
        unfit=("sigmoid_unit",),
    ),
}
