"""The record of a run as TensorBoard reads it; needs tensorboardX."""

import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import RecordWriter

FLUSH_SECONDS = 30.0
"""Least time between two moments at which all that was written is made sure to be on the disk."""


class Board:
    """Writes one file of events.

    tensorboardX's own SummaryWriter leaves that to a thread; a full disk ends the thread, and the run would wait for it
    for ever. Here it is an OSError where it happens.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        """Begins a file; of earlier ones TensorBoard drops what lies after `first_step`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = RecordWriter(str(folder / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"))
        self._next_flush = 0.0
        self._write(0, file_version="brain.Event:2")
        self._write(first_step + 1, session_log=SessionLog(status=SessionLog.START))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Records named numbers."""
        for name, value in values.items():
            self._write(step, summary=summary.scalar(name, value))

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Records a picture, uint8 (h, w, C)."""
        self._write(step, summary=summary.image(name, pixels, dataformats="HWC"))

    def close(self) -> None:
        """Flushes everything."""
        self._file.close()

    def _write(self, step: int, **what: Any) -> None:
        self._file.write(Event(step=step, wall_time=time.time(), **what).SerializeToString())
        if time.monotonic() >= self._next_flush:
            self._file.flush()
            self._next_flush = time.monotonic() + FLUSH_SECONDS
