"""The record of a run, RUN/metrics.jsonl: its lines read, and told in words. Neither JAX nor matplotlib is imported."""

import json
import math
from pathlib import Path
from typing import Any

RECORD = "metrics.jsonl"
"""Name of the file in a run folder; a JSON object a line, in the order of the steps."""


def parse_record(line: str) -> tuple[int, dict[str, float]] | None:
    """Returns the step and the finite numbers of a line; None for one that is torn, as the last of a killed run."""
    try:
        record = json.loads(line)
        step = int(record.pop("step"))
        return step, {name: float(value) for name, value in record.items() if value is not None}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a record; of bytes that are no text, `parse_record` makes nothing."""
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def record_until(path: Path, step: int) -> str:
    """Returns the lines of a record up to a step; a torn one is left out. Empty if there is none."""
    if not path.exists():
        return ""
    lines = ((line, parse_record(line)) for line in read_lines(path))
    return "".join(line + "\n" for line, record in lines if record is not None and record[0] <= step)


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file of a run folder; an empty one if it is not there, or being written."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def describe_evaluation(step: int, values: dict[str, float]) -> str | None:
    """Returns a line on an evaluation or on a step whose data were skipped; None for any other record."""
    if "skipped" in values:
        return f"step {step}: not finite; its data are skipped"
    scores = [f"{name} {value:.4g}" for name, value in values.items() if name.endswith("_y")]
    return f"step {step}: " + ", ".join(scores) if scores else None


class Progress:
    """What a run has done since it was last told."""

    def __init__(self, *, first_step: int) -> None:
        """Starts after `first_step`."""
        self._step = first_step
        self._timed = False  # the first record's time is that of compiling
        self._restart()

    def _restart(self) -> None:
        self._losses: list[float] = []
        self._steps, self._seconds, self._waited = 0, 0.0, 0.0

    def add(self, step: int, values: dict[str, float]) -> None:
        """Adds a record of training."""
        steps, self._step = max(0, step - self._step), step
        self._rate = values.get("learning_rate")
        if math.isfinite(loss := values.get("loss", math.nan)):
            self._losses.append(loss)
        if "seconds_per_step" in values:
            if self._timed:
                seconds = steps * values["seconds_per_step"]
                self._steps, self._seconds = self._steps + steps, self._seconds + seconds
                self._waited += seconds * values.get("data_wait_share", 0.0)
            self._timed = True

    def tell(self, total_steps: int | None) -> str:
        """Returns a line on the records since the last call, as "step 300 of 1000: loss 0.01234, 12 steps/s".

        Args:
          total_steps: Of the whole run; None: not known.
        """
        parts = []
        if self._losses:
            parts.append(f"loss {sum(self._losses) / len(self._losses):.5f}")
        if self._rate is not None:
            parts.append(f"learning rate {self._rate:.3g}")
        if self._seconds > 0:
            parts.append(f"{self._steps / self._seconds:.3g} steps/s")
            if total_steps is not None:
                parts.append(f"{_duration((total_steps - self._step) * self._seconds / self._steps)} left")
            parts.append(f"{self._waited / self._seconds:.0%} waiting for data")
        self._restart()
        of = "" if total_steps is None else f" of {total_steps}"
        return f"step {self._step}{of}: " + ", ".join(parts)


def _duration(seconds: float) -> str:
    """Returns a time in its two largest units, as "6 h 12 min"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
