"""How far a command is with its files: a bar on a terminal, a line a file elsewhere, JSON for programs, or nothing."""

import json
import sys
import time
from dataclasses import dataclass

BAR = 20
"""Characters."""

CLEAR = "\r\033[K"
"""What takes away the line that a terminal's cursor is in."""


@dataclass(kw_only=True)
class Progress:
    """Tells of files in turn: `begin` one, perhaps say how far it is, then `end` it."""

    total: int
    quiet: bool = False
    json_lines: bool = False
    """Whether each file is a line of JSON on standard output, and nothing is told beside it."""
    part: str = "window"
    """What a file is done in, for `within`."""
    number: int = 0
    """Of the file that was begun last."""
    _started: float = 0.0
    _source: str = ""

    def __post_init__(self) -> None:
        self._first, self._bar = time.perf_counter(), not self._silent and sys.stderr.isatty()

    @property
    def _silent(self) -> bool:
        return self.quiet or self.json_lines

    def begin(self, source: str) -> None:
        """Starts the clock of the next file."""
        self.number, self._source, self._started = self.number + 1, source, time.perf_counter()
        if self._bar:
            self._draw(self.number - 1, source)

    def within(self, done: int, total: int) -> None:
        """Tells how many parts of the file that was begun last are done; on a terminal alone."""
        if self._bar and total > 1:
            self._draw(self.number - 1 + done / total, f"{self._source}, {self.part} {done}/{total}")

    def clear(self) -> None:
        """Takes the bar away, for what is said in its place."""
        if self._bar:
            print(end=CLEAR, file=sys.stderr, flush=True)

    def end(self, target: str, what: str = "", error: str | None = None) -> None:
        """Tells that it is done, or failed.

        Args:
          target: The file that was to be written.
          what: More of what was done, for people.
          error: Why it failed.
        """
        seconds = time.perf_counter() - self._started
        if self.json_lines:
            line = {"input": self._source, "output": None if error else target, "seconds": round(seconds, 3)}
            print(json.dumps({**line, "error": error}, ensure_ascii=False), flush=True)
        elif self._bar:
            last = self.number == self.total
            self._draw(self.number, f"{self._source} {'failed' if error else f'-> {target}, {what}'}" if last else "")
            print(end="\n" if last else "", file=sys.stderr, flush=True)
        elif not self.quiet:
            done = "failed" if error else f"-> {target}, {what}, {seconds:.1f} s"
            print(f"{self.number}/{self.total} {self._source} {done}", file=sys.stderr, flush=True)

    def _draw(self, done: float, message: str) -> None:
        filled = int(BAR * done / self.total)
        left = (time.perf_counter() - self._first) / done * (self.total - done) if done else 0
        remaining = f" {_duration(left)} left," if 0 < done < self.total else ""
        bar = f"[{'#' * filled}{'.' * (BAR - filled)}] {int(done)}/{self.total}{remaining} {message}"
        print(f"{CLEAR}{bar.rstrip(', ')}", end="", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
