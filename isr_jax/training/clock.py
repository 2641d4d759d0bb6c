"""How long the steps take."""

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Seconds per step, and the share of them spent waiting for data, since it was last read."""

    def __init__(self) -> None:
        """Starts it."""
        self.restart()

    def restart(self) -> None:
        """Forgets what it has measured."""
        self._start, self._waited, self._steps = time.perf_counter(), 0.0, 0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time in this context as time without data."""
        before = time.perf_counter()
        yield
        self._waited += time.perf_counter() - before

    def count(self) -> None:
        """Counts a step."""
        self._steps += 1

    def read(self) -> dict[str, float]:
        """Returns {"seconds_per_step", "data_wait_share"} and restarts."""
        elapsed = time.perf_counter() - self._start
        values = {"seconds_per_step": elapsed / max(1, self._steps), "data_wait_share": self._waited / elapsed}
        self.restart()
        return values
