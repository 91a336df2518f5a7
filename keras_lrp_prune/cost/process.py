"""Measuring a model file in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from keras_lrp_prune.children import environment, module_command

_ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",  # latency and memory are those of the CPU
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
_OUT_OF_MEMORY = 9  # the signal (SIGKILL) that Linux ends a process with when memory runs out


def measured(
    kind: str,
    path: str | os.PathLike[str],
    *,
    batch_sizes: Sequence[int],
    threads: int,
    repeats: int,
    input_shape: Sequence[int] | None,
) -> Mapping[str, Any]:
    """Times a model file in a fresh process, on the CPU.

    Args:
        kind: One of `cost.worker.KINDS`.
        path: The file or folder.
        batch_sizes: Batch sizes to measure.
        threads: Threads that may compute.
        repeats: Timed calls of each batch size.
        input_shape: Shape of a sample, where the model leaves it open.

    Returns:
        What the worker found: `"timings"`, and for a SavedModel `"parameters"`, `"flops"` and
        `"weights"` (bytes by dtype).

    Raises:
        ValueError: If the file cannot be measured with these arguments.
        RuntimeError: If the process fails.
    """
    request = {
        "kind": kind,
        "path": os.fspath(path),
        "batch_sizes": list(batch_sizes),
        "threads": threads,
        "repeats": repeats,
        "input_shape": None if input_shape is None else list(input_shape),
    }
    done = subprocess.run(
        module_command("keras_lrp_prune.cost.worker"),
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=environment(**_ENVIRONMENT),
    )
    reply: dict[str, Any] = _ended(done) if done.returncode else json.loads(done.stdout)
    if "error" in reply:
        raise ValueError(reply["error"])
    if "failure" in reply:
        failure = RuntimeError(f"{request['path']} could not be measured: {reply['failure']}")
        failure.add_note(done.stderr)
        raise failure
    return reply


def _ended(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """A reply in the place of that of a process that failed before it gave one."""
    if done.returncode == -_OUT_OF_MEMORY:
        how = "was killed, probably as memory ran out; measure smaller batches"
    elif done.returncode < 0:
        how = f"was killed by signal {-done.returncode}"
    else:
        how = f"failed: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}"
    return {"failure": f"the process that measures it {how}"}
