"""How long the steps take."""

import time
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")

STRETCH = 1.0
"""Seconds that a stretch of steps is to last; in between, signals, the time limit and intervals in time are seen to."""


class Clock:
    """Seconds per step, and the share of them spent waiting for data, since it was last read."""

    def __init__(self) -> None:
        """Starts it."""
        self._read = {"seconds_per_step": 0.0, "data_wait_share": 0.0}
        self.restart()

    def restart(self) -> None:
        """Forgets what it has measured."""
        self._start, self._waited, self._steps = time.perf_counter(), 0.0, 0

    def waiting(self, data: Iterator[T]) -> Iterator[T]:
        """Yields from `data`, and counts the time until something comes as time without data."""
        while True:
            before = time.perf_counter()
            try:
                item = next(data)
            except StopIteration:
                return
            self._waited += time.perf_counter() - before
            yield item

    def count(self, steps: int) -> None:
        """Counts steps."""
        self._steps += steps

    def read(self) -> dict[str, float]:
        """Returns {"seconds_per_step", "data_wait_share"} and restarts; without a step since then, the same again."""
        if self._steps:
            elapsed = time.perf_counter() - self._start
            self._read = {"seconds_per_step": elapsed / self._steps, "data_wait_share": self._waited / elapsed}
            self.restart()
        return dict(self._read)


class Pace:
    """How many steps make a stretch, by the seconds per step of the last one."""

    def __init__(self) -> None:
        """Nothing is known at first."""
        self._stretches = 0
        self.seconds_per_step: float | None = None
        """None before the second stretch: the first one compiles, and says nothing of the others."""

    def measured(self, seconds: float, steps: int) -> None:
        """Notes how long a stretch has taken."""
        self._stretches += 1
        if self._stretches > 1:
            self.seconds_per_step = seconds / steps

    @property
    def steps(self) -> int:
        """Steps of the next stretch."""
        return max(1, int(STRETCH / self.seconds_per_step)) if self.seconds_per_step else 1

    @property
    def seconds(self) -> float:
        """How long the next stretch is to last."""
        return max(STRETCH, self.seconds_per_step or 0.0)
