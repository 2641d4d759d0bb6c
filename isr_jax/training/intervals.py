"""When something is due that is done again and again: every so many steps, or once in a time."""

import sys
import time

from isr_jax.config.checks import interval_seconds


class Interval:
    """One of a configuration's intervals, as `eval.every`, in the course of a session."""

    def __init__(self, every: int | str) -> None:
        """Begins it; `every` is a number of steps, or a time, as "60s"."""
        self._steps = every if isinstance(every, int) else None
        self._seconds = 0.0 if isinstance(every, int) else interval_seconds(every)
        self.restart()

    def left(self, step: int) -> int:
        """Returns the steps from `step` to the next one at which it is due; one in time says nothing of steps."""
        return sys.maxsize if self._steps is None else self._steps - step % self._steps

    def due(self, step: int) -> bool:
        """Whether it is due after `step`."""
        if self._steps is None:
            return time.monotonic() - self._begun >= self._seconds
        return step % self._steps == 0

    def restart(self) -> None:
        """Begins anew: what it is for has been done."""
        self._begun = time.monotonic()
