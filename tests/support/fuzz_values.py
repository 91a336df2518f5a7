"""Values to call public functions with, as the code that one would type.

Names in them: `case` (a model of the pool), `model`, `x`, `y`, `folder` (an empty one), and what
`fuzzing.py` adds. `RIGHT` and `WRONG` hold for arguments of that name in every function; a call of
`fuzz_calls.py` has others where a name means another thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keras_lrp_prune.criteria.registry import compared

Values = Mapping[str, Sequence[str]]

NUMBERS = ("None", "'0.5'", "np.nan", "np.inf", "-1", "True", "[0.5]", "1j", "b'1'")
SHARES = (*NUMBERS, "1.5", "np.float32(7)", "object()")
WHOLES = ("'8'", "1.5", "0", "-3", "np.nan", "np.inf", "True", "2.0", "[1]", "np.float64(2)")
_SEEDS = ("None", "-1", "1.5", "'0'", "2**32", "np.int64(-5)", "True", "np.nan", "[0]")
FLAGS = ("None", "'yes'", "1", "0.0", "[]")
PATHS = ("3", "b'out'", "['out']", "'a\\0b'", "True")
LISTS = ("None", "3", "True", "model")
OPTIONS = ("3", "'epsilon'", "[1]", "{1: 2}")
MODELS = (
    *("None", "3", "'model.keras'", "model.layers", "type(model)", "keras.layers.Dense(3)"),
    *("unbuilt()", "subclassed()", "two_outputs()", "two_inputs()", "image_output()"),
)
UNREADABLE = MODELS[:8]
READABLE = ("model", "two_outputs()", "two_inputs()", "image_output()")
SAMPLES = (
    *("None", "3", "'data'", "x", "(x,)", "(x, y, y)", "{'x': x, 'y': y}", "(row for row in x)"),
    *("(x, None)", "(None, y)", "(x, y[1:])", "(x[:0], y[:0])", "(x[0], y)", "(x[..., :1], y)"),
    *("(x[:, :5], y)", "((row for row in x), y)", "(x, iter(y))", "(x * np.nan, y)", "(x, y + 9)"),
    *("(x, y - 1)", "(x, y + 0.5)", "(x, np.zeros_like(y))", "(x, y.astype(str))"),
    *("(x, np.ones((len(y), case.classes)))", "(x, np.eye(case.classes + 1)[y])", "(x > 1e9, 'y')"),
    *("(x.astype(object), y)", "(x + 1j, y)", "(x / 0.0, y)", "([[1], [1, 2]], [0, 1])"),
    *("dataset(x, y).unbatch()", "dataset(x, y).repeat()", "dataset(x, y).take(0)"),
    *("dataset(x, y).map(lambda x, y: x)", "dataset(x, y).map(lambda x, y: {'x': x, 'y': y})"),
    *("dataset(x, y).unbatch().map(unranked)", "dataset(x, y).filter(lambda x, y: False)"),
)
_NAMES = ("None", "'conv'", "3", "[3]", "['no such layer']", "[None]", "b'conv'", "['']", "model")

RIGHT: Values = {
    "model": ["model"],
    "reference": ["(x, y)", "[x, y]", "(x, np.eye(case.classes)[y])", "dataset(x, y)"],
    "validation": ["None", "(x[::-1], y[::-1])", "dataset(x, y)"],
    "target_rate": ["0.3", "np.float32(0.25)", "0", "None"],
    "budget": ["None", "{'filters': 0.8}", "{'flops': 0.7, 'params': np.float64(0.9)}"],
    "min_accuracy": ["None", "0", "np.float64(0)"],
    "schedule": [
        *("schedules.EqualSteps(0.5)", "tfmot.ConstantSparsity(0.25, 0, frequency=1)"),
        "schedules.AccuracyAware(0.2, max_step=0.3)",
    ],
    "criterion": [*map(repr, compared("channels")), "'lrp.log_odds'", "'lrp.z'"],
    "analyzer_options": ["None", "{}"],
    "engine": ["'native'"],
    "recovery": ["None"],
    "protect": ["()", "[case.filters]", "iter([case.filters])", "{case.filters}"],
    "min_channels": ["1", "0.25", "np.int64(2)", "2.0"],
    "round_to": ["1", "np.int8(2)"],
    "batch_size": ["5", "np.int32(64)"],
    "memory_budget": ["2**30", "np.float32(1e6)"],
    "strategy": ["None"],
    "worker_python": ["None"],
    "checkpoint_dir": ["None", "folder / 'run'", "str(folder / '実行 1')"],
    "state_dir": ["None", "folder / 'states'"],
    "seed": ["0", "np.int64(7)", "2**32 - 1"],
    "verbose": ["0", "False"],
    "class_names": ["None", "['a$b', '猫', 'c_d'][: case.classes]"],
    "test": ["(x, y)"],
    "method": ["'l1'", "klp.Method('own', 'l2')"],
    "rates": ["[0, 0.3]", "np.array([0.25])"],
    "x": ["x", "x.tolist()", "x.astype('float64')"],
    "y": ["y", "np.eye(case.classes)[y]", "y.tolist()"],
    "analyzer": ["'lrp.z'", "'lrp.epsilon'", "'lrp.alpha_1_beta_0'"],
    "every_class": ["False", "np.True_"],
    "path": ["None", "folder / 'drawn.png'", "str(folder / '図 $1.svg')"],
    "threads": ["1", "np.int64(2)"],
    "title": ["None", "'$a_b'"],
}

WRONG: Values = {
    "model": MODELS,
    "reference": SAMPLES,
    "validation": SAMPLES[1:],
    "target_rate": (*SHARES[1:], "1.0"),
    "budget": ("3", "{}", "{'flops': 0}", "{'speed': 0.5}", "{'flops': '0.5'}", "[0.5]", "0.5"),
    "min_accuracy": SHARES[1:],
    "schedule": (
        *("'accuracy'", "0.5", "schedules.EqualSteps", "answering(None)", "answering((True, 'a'))"),
        *("answering((True, np.nan))", "answering((True, 50))", "answering(0.5)"),
    ),
    "criterion": ("3", "'magnitude'", "['l1']", "len", "klp.criteria.Taylor"),
    "analyzer_options": (*OPTIONS, "{'no_such_option': 1}"),
    "engine": ("None", "3", "'torch'", "['native']"),
    "recovery": ("3", "'all'", "['head']", "True"),
    "protect": _NAMES,
    "min_channels": ("None", "'2'", "0", "-1", "2.5", "np.nan", "np.inf", "True", "[1]"),
    "round_to": ("None", *WHOLES),
    "batch_size": WHOLES,
    "memory_budget": ("None", "'1'", "0", "-1", "np.nan", "np.inf", "True", "[1]"),
    "strategy": ("3", "'mirrored'", "tf.distribute.MirroredStrategy", "[None]"),
    "worker_python": ("3", "b'python'", "['python']"),
    "checkpoint_dir": (*PATHS, "file"),
    "state_dir": (*PATHS, "file"),
    "seed": _SEEDS,
    "verbose": ("None", "-1", "3", "'yes'", "1.0", "np.nan"),
    "class_names": ("3", "'abc'", "['a']", "{'a', 'b', 'c'}", "[1, 2, 3]", "['a'] * 9"),
    "test": SAMPLES,
    "method": ("None", "3", "'magic'", "klp.Method", "['l1']", "klp.Method('own', 'magic')"),
    "rates": ("3", "[]", "[0.5, 0.2]", "[1.0]", "['0.5']", "[np.nan]", "'0.5'", "[[0.1]]", "[-1]"),
    "x": ("None", "3", "'x'", "x[0]", "x[:0]", "x[..., :2]", "x * np.nan", "iter(x)", "[x, 1]"),
    "y": ("3", "y[1:]", "y + 9", "y - 1", "y + 0.5", "iter(y)", "y.astype(str)", "y * np.nan"),
    "analyzer": ("None", "3", "'lrp.magic'", "['lrp.z']", "object()"),
    "every_class": FLAGS,
    "path": (*PATHS[:4], "folder", "folder / 'drawn.docx'", "file / 'drawn.png'"),
    "threads": ("None", *WHOLES),
    "title": ("3", "b'a'"),
}


STEPS = {
    "initial_step": ["0.05", "np.float32(0.05)"],
    "min_step": ["0.01"],
    "max_step": ["0.25"],
    "tolerance": ["None", "0", "0.1"],
    "grow": ["1", "1.5"],
    "shrink": ["0.5"],
    "final_sparsity": ["0.5", "0"],
    "order": [
        "'uniform'",
        "'harmonic'",
        "{'class_name': 'HarmonicOrder', 'config': {'floor': 0.1}}",
    ],
    "pool": ["0", "0.2"],
    "rate": ["'auto'", "'equal'", "'adaptive'"],
    "steering": ["'auto'", "'as_is'"],
    "trials": ["None", "False", "np.True_"],
    "begin_step": ["0", "np.int64(2)"],
    "end_step": ["-1", "9"],
    "frequency": ["1", "5"],
}


NO_STEPS = {
    **dict.fromkeys(("initial_step", "min_step", "max_step", "shrink"), (*SHARES, "0", "1")),
    "tolerance": (*SHARES[1:], "1"),
    "grow": (*NUMBERS, "0.5"),
    "final_sparsity": (*SHARES, "1"),
    "order": ("None", "3", "'magic'", "{'class_name': 'Magic'}", "len", "{}"),
    "pool": SHARES,
    "rate": ("None", "3", "'magic'", "['auto']"),
    "steering": ("None", "3", "'magic'", "['auto']"),
    "trials": FLAGS[1:],
    "begin_step": ("None", "'1'", "1.5", "-1", "True"),
    "end_step": ("None", "'1'", "1.5", "-2", "True"),
    "frequency": ("None", *WHOLES),
}
