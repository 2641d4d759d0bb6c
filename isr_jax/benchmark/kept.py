"""What a suite has scored so far: a file of lines for each method on each set, one line a picture, written at once.

A process may be killed at any time: a line that it had not finished is passed over, the picture is done again.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from isr_jax.benchmark.rows import Cost


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is known of one result."""

    name: str
    """Of the picture."""
    key: str
    """Hash of all that the result depends on."""
    picture_sha256: str
    """Of the file that holds the result; empty where it was not written."""
    scores: dict[str, float | None]
    """By `Measure.key`."""
    cost: Cost
    told: str = ""
    """What the model was told of the degradation."""


class KeptFile:
    """The lines of one method on one set; a later line of a picture replaces an earlier one."""

    def __init__(self, path: Path) -> None:
        """Reads what is there."""
        self._path, self._kept = path, {}
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        self._torn = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            try:
                kept = _from_json(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError):  # torn, or of another version
                continue
            self._kept[kept.name] = kept

    def get(self, name: str, key: str) -> Kept | None:
        """Returns what is known of a picture, if it is of this key."""
        kept = self._kept.get(name)
        return kept if kept is not None and kept.key == key else None

    def add(self, kept: Kept) -> None:
        """Writes a line.

        Raises:
          OSError: If it cannot be written.
        """
        values = asdict(kept)
        values["scores"] = {key: _finite(value) for key, value in kept.scores.items()}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n" * self._torn + json.dumps(values, ensure_ascii=False) + "\n")
        self._torn, self._kept[kept.name] = False, kept


def _finite(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)  # JSON has no infinity


def _from_json(values: dict[str, Any]) -> Kept:
    scores = {key: None if value is None else float(value) for key, value in values["scores"].items()}
    return Kept(**{**values, "scores": scores, "cost": Cost(**values["cost"])})
