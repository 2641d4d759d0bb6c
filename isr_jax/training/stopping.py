"""When a run is to end before its last step: a signal, or the time that it was given."""

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

_EXIT = 5.0
"""Seconds kept back for the end of the process itself."""
_SLACK = 1.5
"""How much longer than the last time a save or an evaluation may take."""


class Reserve:
    """What the end of a session needs of its time: a last save, an evaluation, and the end of the process."""

    def __init__(self, *, save: float, evaluation: float | None) -> None:
        """Takes first guesses, in seconds; None: there is none, and no time is kept back for an evaluation."""
        self.save = save
        """Seconds of a save, until it is on disk."""
        self.evaluation = evaluation
        """Seconds of the last evaluation."""
        self.first_evaluation = evaluation
        """Seconds of a session's first evaluation, which compiles: the next session's first guess."""
        self._guessed = True

    def evaluated(self, seconds: float) -> None:
        """Notes how long an evaluation took."""
        self.evaluation = seconds
        if self._guessed:
            self.first_evaluation, self._guessed = seconds, False

    @property
    def seconds(self) -> float:
        """All that is kept back."""
        return _EXIT + _SLACK * (self.save + (self.evaluation or 0.0))

    def evaluation_fits(self, left: float) -> bool:
        """Whether there is time for an evaluation and all that follows it; not if none was made before."""
        return self.evaluation is not None and left > _EXIT + self.save + self.evaluation


class StopRequests:
    """Says whether to stop. In its context, the first SIGTERM or SIGINT is a request; the second acts as ever.

    Signals belong to the main thread: elsewhere, only the time limit asks.
    """

    def __init__(self, *, began: float, max_minutes: float) -> None:
        """Sets the limit: `max_minutes` after `began`, a time of `time.monotonic`; 0: none."""
        self._end = began + max_minutes * 60 if max_minutes > 0 else float("inf")
        self.limit = f"max_minutes={max_minutes:g}"
        """The reason that the limit gives."""
        self._signal = ""
        self._former: dict[signal.Signals, Any] = {}

    @property
    def left(self) -> float:
        """Seconds up to the limit; infinity without one."""
        return self._end - time.monotonic()

    def reason(self, needed: float) -> str:
        """Returns why to stop, as "SIGTERM" or "max_minutes=30"; empty: go on, `needed` seconds are left and more."""
        return self._signal or (self.limit if self.left < needed else "")

    def __enter__(self) -> "StopRequests":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                former = signal.getsignal(number)
                if former is not None:  # one that Python did not set could not be put back
                    self._former[number] = former
                    signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del frame
        asked = signal.Signals(number)
        self._signal = asked.name
        signal.signal(asked, self._former[asked])
        # Not print: a handler may run in the middle of another print.
        os.write(2, b"\nisr-jax: stopping after the steps under way; the same signal again stops at once\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
