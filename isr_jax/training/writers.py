"""The record of a run: metrics.jsonl, TensorBoard and the progress bar."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

from isr_jax.files import replace_file


class Writers:
    """Writes each record to every place; only one process of a run should."""

    def __init__(self, folder: Path, *, first_step: int, total_steps: int, quiet: bool) -> None:
        """Opens the record; what lies after `first_step`, of a session that was killed, is dropped.

        Args:
          folder: The run folder.
          first_step: Steps done.
          total_steps: Steps of the whole run.
          quiet: Whether neither the progress bar nor a line is shown.
        """
        self._quiet = quiet
        self._path = folder / "metrics.jsonl"
        if self._path.exists():
            kept = [line for line in self._path.read_text().splitlines() if _step(line) <= first_step]
            replace_file(self._path, lambda path: path.write_text("".join(line + "\n" for line in kept)))
        self._file = self._path.open("a", buffering=1)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)
        self._bar = tqdm(
            initial=first_step, total=total_steps, unit="step", dynamic_ncols=True, file=sys.stderr, disable=quiet
        )
        self._shown: dict[str, str] = {}

    def advance(self, steps: int) -> None:
        """Moves the progress bar by so many steps; it tells how many a second."""
        self._bar.update(steps)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Records named numbers; in metrics.jsonl, null stands for those that JSON does not have."""
        plain = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps({"step": step, **plain}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def show(self, **values: str) -> None:
        """Shows values beside the progress bar until they are replaced."""
        self._shown.update(values)
        self._bar.set_postfix(self._shown, refresh=False)

    def picture(self, step: int, name: str, pixels: np.ndarray) -> None:
        """Records a picture, uint8 (h, w, C)."""
        self._board.add_image(name, pixels, step, dataformats="HWC")

    def say(self, message: str) -> None:
        """Prints a line above the progress bar."""
        if not self._quiet:
            tqdm.write(message, file=sys.stderr)

    def close(self) -> None:
        """Flushes everything."""
        self._bar.close()
        self._file.close()
        self._board.close()


def _step(line: str) -> int:
    """The step of a line; a torn last line counts as the future."""
    try:
        record: dict[str, Any] = json.loads(line)
        return int(record["step"])
    except (ValueError, KeyError, TypeError):
        return sys.maxsize
