"""A schedule at which a run stops, as Ctrl-C would stop it."""

import pytest

import keras_lrp_prune as klp


class Interrupted(klp.schedules.AccuracyAware):
    """Stops the run at its next call when `calls_left` is 0; `None` lets it run to its end."""

    calls_left = None

    def __call__(self, step):
        if Interrupted.calls_left == 0:
            raise KeyboardInterrupt
        if Interrupted.calls_left is not None:
            Interrupted.calls_left -= 1
        return super().__call__(step)


def whole_and_in_parts(prune, folder):
    """The results of a run, and of the same one interrupted three times; both have to be the same.

    Args:
        prune: Called with `schedule` and `checkpoint_dir`, for each of them.
        folder: For checkpoints.
    """

    def run(name, calls=None):
        Interrupted.calls_left = calls
        schedule = Interrupted(initial_step=0.1, tolerance=0.0, rate="adaptive")
        return prune(schedule=schedule, checkpoint_dir=folder / name)

    whole = run("whole")
    for calls in (0, 2, 1):
        with pytest.raises(KeyboardInterrupt):
            run("parts", calls)
    resumed = run("parts")
    assert resumed.history == whole.history
    assert all((resumed.kept[name] == whole.kept[name]).all() for name in whole.kept)
    return whole, resumed
