"""Kills pruning runs at random moments and checks that they resume to the same result.

    python tests/support/kill_and_resume.py --kills 10 --seed 0

Prunes a small model without interruption. Then prunes it again and again in another checkpoint
folder, killing (SIGKILL) in turn iNNvestigate's worker, upon which the run must end with
WorkerError, and the run itself, upon which its worker must vanish. A killed run is started again
until it ends. Exits with 1 if the result differs from that of the uninterrupted run, or a process
is left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from places import ROOT

sys.path.insert(0, str(ROOT))
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

WORKER_ERROR, LEFT_BEHIND = 3, 4  # exit codes of a run


class Failure(Exception):
    """What this script looks for."""


def prepare(folder: Path) -> None:
    """Trains the model and writes it with its reference set."""
    from pruning_models import digits_model, reference

    digits_model(width=12).save(folder / "model.keras")
    x, y = reference(20)
    np.savez(folder / "reference.npz", x=x, y=y)


def run(folder: Path, checkpoint: Path) -> int:
    """One pruning run, in a process of its own; writes what it kept and how it went."""
    import keras

    import keras_lrp_prune as klp

    data = np.load(folder / "reference.npz")
    try:
        result = klp.prune(
            keras.models.load_model(folder / "model.keras"),
            (data["x"], data["y"]),
            0.6,
            criterion="lrp.sequential_preset_a",
            schedule=klp.schedules.AccuracyAware(initial_step=0.02, min_step=0.01, max_step=0.02),
            checkpoint_dir=checkpoint,
            batch_size=16,
            verbose=0,
        )
    except klp.WorkerError as error:
        print(error, file=sys.stderr)
        return LEFT_BEHIND if left_behind() else WORKER_ERROR
    outcome = {
        "kept": {name: kept.tolist() for name, kept in result.kept.items()},
        "history": [record.to_dict() for record in result.history],
    }
    (checkpoint / "outcome.json").write_text(json.dumps(outcome))
    return LEFT_BEHIND if left_behind() else 0


def left_behind() -> bool:
    """Whether there is a process beside the worker that waits for the next run, if one does."""
    from keras_lrp_prune.relevance.worker_process import borrow

    borrow().close()
    return bool(psutil.Process().children())


@dataclass
class Run:
    """A run in progress."""

    folder: Path
    checkpoint: Path

    def __post_init__(self) -> None:
        command = [sys.executable, __file__, "--run", str(self.folder), str(self.checkpoint)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def worker(self) -> psutil.Process | None:
        """Its iNNvestigate worker, once there is one."""
        try:
            children = psutil.Process(self.process.pid).children()
            workers = [child for child in children if "innvestigate" in " ".join(child.cmdline())]
        except psutil.NoSuchProcess:
            return None
        return workers[0] if workers else None

    def step(self) -> int:
        """The number of steps in its checkpoint."""
        try:
            with np.load(self.checkpoint / "pruning.npz") as file:
                return len(json.loads(str(file["described"]))["history"])
        except FileNotFoundError:
            return 0

    def wait_for(self, step: int, jitter: float) -> psutil.Process | None:
        """The worker, a moment after that step; `None` if the run ends before."""
        while self.process.poll() is None:
            worker = self.worker()
            if worker and self.step() >= step:
                time.sleep(jitter)
                return worker if self.process.poll() is None else None
            time.sleep(0.01)
        return None

    def end(self) -> tuple[int, str]:
        """Waits for the end: exit code and last words."""
        _, errors = self.process.communicate(timeout=300)
        return self.process.returncode, errors


def kill_worker(run: Run, worker: psutil.Process) -> str:
    """Kills the worker; the run must notice."""
    with contextlib.suppress(psutil.NoSuchProcess):  # the run may be just ending
        worker.kill()
    code, errors = run.end()
    if code == 0:
        return "the run had ended"
    if code != WORKER_ERROR or "killed by signal 9" not in errors:
        raise Failure(f"the run ended with exit code {code}:\n{errors}")
    return "the run ended with WorkerError"


def kill_main(run: Run, worker: psutil.Process) -> str:
    """Kills the run; its worker must vanish."""
    run.process.kill()
    run.end()
    start = time.monotonic()
    # A zombie waits for its new parent only, which is none of ours.
    while _lives(worker):
        if time.monotonic() > start + 10:
            raise Failure(f"the worker {worker.pid} is an orphan")
        time.sleep(0.02)
    return f"its worker was gone after {time.monotonic() - start:.1f} s"


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def outcome(run: Run) -> dict:
    """The result of a run that is left alone."""
    code, errors = run.end()
    if code:
        raise Failure(f"the run ended with exit code {code}:\n{errors}")
    return json.loads((run.checkpoint / "outcome.json").read_text())


def check(kills: int, seed: int, folder: Path) -> None:
    """Kills that many times, and compares; prints a line for each kill."""
    draw = random.Random(seed)
    prepare(folder)
    expected = outcome(Run(folder, folder / "uninterrupted"))
    steps = len(expected["history"])
    filters = sum(map(len, expected["kept"].values()))
    print(f"uninterrupted: {steps} steps, {filters} filters kept", flush=True)
    done = rounds = 0
    while done < kills:
        rounds += 1
        checkpoint = folder / f"round {rounds}"
        while True:
            current = Run(folder, checkpoint)
            if done == kills:
                break
            # 0: while the worker starts and builds its graph.
            step = current.step() + draw.choice((0, 1, 2, 5, 8, 12))
            jitter = draw.uniform(0, 3 if step == 0 else 0.3)
            worker = current.wait_for(step, jitter)
            if worker is None:
                break
            what, kill = (("worker", kill_worker), ("main process", kill_main))[done % 2]
            reached = current.step()
            verdict = kill(current, worker)
            done += 1
            print(f"kill {done}: {what} at step {reached} of {steps}: {verdict}", flush=True)
        if outcome(current) != expected:
            raise Failure(f"round {rounds} ended in another result")
        print(f"round {rounds}: resumed to the same result", flush=True)
    print(f"{done} kills in {rounds} rounds: same filters, same history, no process left behind")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return run(*options.run)
    with tempfile.TemporaryDirectory() as folder:
        try:
            check(options.kills, options.seed, Path(folder))
        except Failure as failure:
            print(f"FAILED: {failure}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
