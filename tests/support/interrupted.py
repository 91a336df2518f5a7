"""A schedule at which a run stops, as Ctrl-C would stop it."""

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
