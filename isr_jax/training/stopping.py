"""When a run is to end before its last step: a signal, or the time that it was given."""

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any


class StopRequests:
    """Says whether to stop. In its context, the first SIGTERM or SIGINT is a request; the second acts as ever.

    Signals belong to the main thread: elsewhere, only the time limit asks.
    """

    def __init__(self, *, began: float, max_minutes: float) -> None:
        """Sets the limit: `max_minutes` after `began`, a time of `time.monotonic`; 0: none."""
        self._end = began + max_minutes * 60 if max_minutes > 0 else float("inf")
        self._limit = f"max_minutes={max_minutes:g}"
        self._signal = ""
        self._former: dict[signal.Signals, Any] = {}

    @property
    def reason(self) -> str:
        """Why to stop, as "SIGTERM" or "max_minutes=30"; empty: go on."""
        return self._signal or (self._limit if time.monotonic() > self._end else "")

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
        os.write(2, b"\nisr-jax: stopping after the next step; the same signal again stops at once\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
