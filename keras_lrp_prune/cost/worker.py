"""The process that measures one model: how long calls take, and how much memory they need.

TensorFlow's thread pools are fixed once they are started, and the peak of a process's memory never
falls: so each measurement gets a process of its own, which reads a request from standard input and
answers on standard output, both JSON.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_lrp_prune.cost.measurements import call_times
from keras_lrp_prune.graph.inference import SIGNATURE

Request = Mapping[str, Any]
Call = Callable[[], Any]


class Unmeasurable(ValueError):
    """The request cannot be carried out; the message says why and what to do."""


def main() -> None:
    """Answers one request; a request that cannot be carried out, or fails, has an answer too."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print, too
    request = json.load(sys.stdin)
    try:
        reply = KINDS[request["kind"]](request)
    except Unmeasurable as error:
        reply = {"error": str(error)}
    except Exception as error:  # of TensorFlow, the interpreter or the model
        traceback.print_exc()
        reply = {"failure": f"{type(error).__name__}: {error}"}
    answers.write(json.dumps(reply))


def _saved_model(request: Request) -> dict[str, Any]:
    import tensorflow as tf

    threads = request["threads"]
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    float(tf.reduce_sum(tf.ones((2, 2))))  # starts the runtime: its memory is not the model's
    before = _peak()
    loaded = tf.saved_model.load(request["path"])
    function = _signature(loaded, request["path"])
    specs = function.structured_input_signature[1]
    shapes = {
        name: _sample_shape(name, _listed(spec.shape), request["input_shape"])
        for name, spec in specs.items()
    }

    def call(batch_size: int) -> Call:
        for name, spec in specs.items():
            _check_batch(name, spec.shape[0], batch_size)
        inputs = {
            name: tf.constant(_drawn((batch_size, *shapes[name]), specs[name].dtype.name, name))
            for name in specs
        }
        return lambda: [output.numpy() for output in tf.nest.flatten(function(**inputs))]

    timings = _timings(request, call, before)
    weights = {id(variable): variable for variable in function.variables}.values()
    return {
        "timings": timings,
        "parameters": sum(variable.shape.num_elements() for variable in weights),
        "weights": _bytes_by_dtype(weights),
        "flops": profiled_flops(
            function,
            {
                name: tf.TensorSpec((1, *shapes[name]), spec.dtype, name)
                for name, spec in specs.items()
            },
        ),
    }


def _litert(request: Request) -> dict[str, Any]:
    from ai_edge_litert.interpreter import Interpreter

    before = _peak()

    def call(batch_size: int) -> Call:
        interpreter = Interpreter(request["path"], num_threads=request["threads"])
        for entry in interpreter.get_input_details():
            shape = entry.get("shape_signature", entry["shape"]).tolist()
            sample = _sample_shape(entry["name"], shape, request["input_shape"])
            interpreter.resize_tensor_input(entry["index"], (batch_size, *sample))
        try:
            interpreter.allocate_tensors()
        except RuntimeError as error:
            raise Unmeasurable(
                f"{request['path']} cannot run batches of {batch_size}: {error}. Give the "
                "batch size that it was converted with, as batch_sizes=(1,)."
            ) from error
        for entry in interpreter.get_input_details():
            drawn = _drawn(entry["shape"], np.dtype(entry["dtype"]).name, entry["name"])
            interpreter.set_tensor(entry["index"], drawn)
        return interpreter.invoke

    return {"timings": _timings(request, call, before)}


KINDS: Mapping[str, Callable[[Request], dict[str, Any]]] = {
    "saved_model": _saved_model,
    "litert": _litert,
}


def _timings(request: Request, call: Callable[[int], Call], before: int | None) -> list[Any]:
    """One entry for each batch size; in ascending order, as the peak of memory never falls."""
    found = []
    for batch_size in sorted(request["batch_sizes"]):
        (seconds,) = call_times([call(batch_size)], request["repeats"])
        milliseconds = 1e3 * seconds / batch_size
        now = _peak()
        found.append(
            {
                "batch_size": batch_size,
                "median": float(np.median(milliseconds)),
                "p95": float(np.percentile(milliseconds, 95)),
                "peak_memory": None if now is None or before is None else now - before,
            }
        )
    return found


def _peak() -> int | None:
    """The most memory that this process has held so far, in bytes, where the system tells."""
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux's ru_maxrss starts at what the parent held, which is often more than a model takes.
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(line.split()[1])


def _signature(loaded: Any, path: str) -> Any:
    signatures = loaded.signatures
    if SIGNATURE not in signatures:
        raise Unmeasurable(
            f"The SavedModel {path} has no signature {SIGNATURE!r}; it has: "
            f"{', '.join(map(repr, signatures)) or 'none'}. Export it with one."
        )
    return signatures[SIGNATURE]


def _listed(shape: Any) -> list[int | None] | None:
    """A `tf.TensorShape` as a list; `None` if not even its rank is known."""
    return None if shape.rank is None else shape.as_list()


def _sample_shape(
    name: str, shape: Sequence[int | None] | None, given: Sequence[int] | None
) -> Sequence[int]:
    """The shape of one sample of an input; `given` stands in where it is open."""
    if not shape:
        raise Unmeasurable(f"Input {name!r} has no batch dimension: its shape is {shape}.")
    sample = [None if size is None or size < 0 else int(size) for size in shape[1:]]
    known = [size for size in sample if size is not None]
    if len(known) == len(sample):
        return known
    if given is None or not _fits(given, sample):
        raise Unmeasurable(
            f"Input {name!r} takes samples of shape {tuple(sample)}; give input_shape= with its "
            f"sizes, not {given}."
        )
    return given


def _check_batch(name: str, fixed: int | None, batch_size: int) -> None:
    if fixed not in (None, batch_size):
        raise Unmeasurable(
            f"Input {name!r} takes batches of {fixed} only; give batch_sizes=({fixed},)."
        )


def _fits(given: Sequence[int], sample: Sequence[int | None]) -> bool:
    return len(given) == len(sample) and all(
        size in (None, wanted) for size, wanted in zip(sample, given, strict=True)
    )


def _drawn(shape: Sequence[int], dtype: str, name: str) -> np.ndarray:
    """Random samples: floats in [0, 1), bytes of all values; zeros for other integers."""
    rng = np.random.default_rng(0)
    if dtype in ("float16", "float32", "float64"):
        return rng.random(tuple(shape)).astype(dtype)
    if dtype in ("uint8", "int8"):
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, tuple(shape), dtype, endpoint=True)
    if dtype in ("int16", "int32", "int64", "bool"):
        return np.zeros(tuple(shape), dtype)
    raise Unmeasurable(
        f"Input {name!r} takes {dtype}; only models that take numbers can be measured."
    )


def _bytes_by_dtype(variables: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for variable in variables:
        dtype = variable.dtype
        found[dtype.name] = found.get(dtype.name, 0) + variable.shape.num_elements() * dtype.size
    return found


def profiled_flops(function: Any, specs: Mapping[str, Any]) -> int | None:
    """What TensorFlow's graph profiler counts in one call.

    `None` where it cannot be told: a graph that assigns variables, as that of an LSTM with dropout
    does, cannot be frozen.

    Args:
        function: A concrete function.
        specs: `tf.TensorSpec` of each argument by name, of known sizes.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    called = tf.function(lambda **inputs: function(**inputs), autograph=False)
    # In a frozen graph, calls of functions are inlined: the profiler does not look into them.
    try:
        frozen = convert_variables_to_constants_v2(called.get_concrete_function(**specs))
    except ValueError:
        return None
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    return int(tf.compat.v1.profiler.profile(frozen.graph, options=options).total_float_ops)
