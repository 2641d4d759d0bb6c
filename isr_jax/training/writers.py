"""The record of a run as it is written: metrics.jsonl, TensorBoard, and what is shown on standard error."""

import json
import math
import sys
import time
from pathlib import Path

import numpy as np

from isr_jax.files import replace_file
from isr_jax.training.records import RECORD, Progress, record_until

try:
    from isr_jax.training.board import Board
except ModuleNotFoundError:
    Board = None
try:
    from tqdm import tqdm
except ModuleNotFoundError:
    tqdm = None

LINE_SECONDS = 60.0
"""Least time between two lines of progress, where there is no bar."""


class Writers:
    """Writes each record to every place; only one process of a run should.

    On a terminal a bar shows the progress; elsewhere, and where tqdm is not installed, a line at most once a minute.
    """

    def __init__(self, folder: Path, *, first_step: int, total_steps: int, quiet: bool) -> None:
        """Opens the record; what lies after `first_step`, of a session that was killed, is dropped.

        Args:
          folder: The run folder.
          first_step: Steps done.
          total_steps: Steps of the whole run.
          quiet: Whether neither progress nor a line is shown.
        """
        self._quiet, self._total = quiet, total_steps
        self._path = folder / RECORD
        if self._path.exists():
            kept = record_until(self._path, first_step)
            replace_file(self._path, lambda path: path.write_text(kept, encoding="utf-8"))
        self._file = self._path.open("a", buffering=1)
        self._bar, self._shown = None, {}
        if tqdm is not None and not quiet and sys.stderr.isatty():
            self._bar = tqdm(initial=first_step, total=total_steps, unit="step", dynamic_ncols=True, file=sys.stderr)
        self._progress = Progress(first_step=first_step)
        self._next_line = time.monotonic()
        self._board = None
        if Board is not None:
            self._board = Board(folder / "tensorboard", first_step)
        else:
            self.say(f"isr-jax: tensorboardX is not installed; the record is in {RECORD} alone")

    def advance(self, steps: int) -> None:
        """Moves the progress bar by so many steps."""
        if self._bar is not None:
            self._bar.update(steps)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Records named numbers; in metrics.jsonl, null stands for those that JSON does not have."""
        plain = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps({"step": step, **plain}) + "\n")
        if self._board is not None:
            self._board.scalars(step, values)
        if "loss" in values:
            self._progress.add(step, values)
            if self._bar is None and time.monotonic() >= self._next_line:
                self._next_line = time.monotonic() + LINE_SECONDS
                self.say(self._progress.tell(self._total))

    def show(self, **values: str) -> None:
        """Shows values beside the progress bar until they are replaced."""
        self._shown.update(values)
        if self._bar is not None:
            self._bar.set_postfix(self._shown, refresh=False)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Records a picture, uint8 (h, w, C), in TensorBoard."""
        if self._board is not None:
            self._board.picture(step, name, pixels)

    def say(self, message: str) -> None:
        """Prints a line, above the progress bar."""
        if self._bar is not None:
            self._bar.write(message, file=sys.stderr)
        elif not self._quiet:
            print(message, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Flushes everything."""
        if self._bar is not None:
            self._bar.close()
        try:
            self._file.close()
        finally:
            if self._board is not None:
                self._board.close()
