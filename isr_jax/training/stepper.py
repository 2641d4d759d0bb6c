"""The steps of a run on their way: several in a call, and each call sent off before the one ahead of it is read.

The device does not wait for the host: while the metrics of one call are read, the next one runs. It needs no word that
the one ahead went well, which it sees for itself (`isr_jax.training.step.repeat_step`).
"""

import functools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from isr_jax.training.parallel import Parallel
from isr_jax.training.state import TrainState


@dataclass(frozen=True)
class Call:
    """A call that has ended."""

    passed: int
    """Its steps that were finite."""
    failed: bool
    """Whether another step followed that was not finite."""
    source: Any
    """What it was given: the batch, or the whole `Memory`."""
    metrics: dict[str, Any]
    """Of each step, arrays on the device; those of the steps that passed come first."""

    def read(self, index: int) -> dict[str, float]:
        """Returns the numbers of one of its steps by name."""
        return {k: float(v[index]) for k, v in jax.device_get(self.metrics).items() if k != "finite"}


class Stepper:
    """Holds the state, and moves it on."""

    def __init__(
        self, steps: Callable[..., Any], state: TrainState, sources: Iterator[Any], parallel: Parallel, most: int
    ):
        """Takes up a run.

        Args:
          steps: As `Parallel.map_steps` returns it.
          state: Replicated; it is donated.
          sources: On the devices: what each call is given, in turn.
          parallel: The devices.
          most: The largest number of steps in a call; 1 where the sources are batches.
        """
        self.state = state
        """After the steps that were read; while others are under way, what they will make of it."""
        self._steps, self._sources, self._most = steps, sources, most
        self._returned: deque[Any] = deque()
        self._going = parallel.replicate(np.True_)
        self._count = functools.cache(lambda count: parallel.replicate(np.int32(count)))

    def run(self, count: int) -> Iterator[Call]:
        """Takes `count` steps and yields the calls they were made in, with nothing under way after the last one.

        A step that is not finite ends it early: the last call says so, and `state` is the one before that step.
        """
        sent: deque[tuple[int, Any, Any]] = deque()
        going, failed = self._going, False
        while (count or sent) and not failed:
            while count and len(sent) < 2:
                steps = min(count, self._most)
                source = self._returned.popleft() if self._returned else next(self._sources)
                number = self._count(steps)
                with jax.transfer_guard("disallow"):
                    self.state, going, metrics = self._steps(self.state, going, source, number)
                sent.append((steps, source, metrics))
                count -= steps
            steps, source, metrics = sent.popleft()
            passed = int(jax.device_get(metrics["finite"]).sum())  # it ends with the first that is not
            if failed := passed < steps:
                self._returned.extend(source for _, source, _ in sent)  # these calls have done nothing
            yield Call(passed, failed, source, metrics)
