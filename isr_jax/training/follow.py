"""Watching a run from another process, by what it writes: metrics.jsonl, status.json and lock. JAX is not imported."""

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isr_jax.config import UserError
from isr_jax.training.records import RECORD, Progress, describe_evaluation, parse_record, read_json

LINE_SECONDS = 60.0
"""Least time between two lines of progress, where there is no terminal."""
START_SECONDS = 15.0
"""How long a run may take to take up its folder."""


def follow(folder: Path, *, seconds: float = 1.0) -> int:
    """Prints how a run goes until it ends: its evaluations, and its progress.

    Args:
      folder: The run folder.
      seconds: Between two looks.
    Returns: The exit code of the run's own process: 0 when complete, 75 when stopped before.
    Raises:
      UserError: If it is no run folder, or the run failed or was killed.
    """
    if not _wait(lambda: any((folder / name).is_file() for name in ("lock", "status.json", RECORD)), seconds):
        raise UserError(f"{folder}: no run folder (yet); give the --workdir of a training run")
    _wait(lambda: _status(folder).get("state") != "killed", seconds)
    record, screen = _Tail(folder / RECORD), _Screen()
    begin = True
    try:
        while True:
            # The status first: what was recorded before it was written is shown before it is told.
            status = _status(folder)
            lines, replaced = record.read()
            screen.total_steps = status.get("of")
            if replaced:
                screen.say("the run was resumed")
            if begin or replaced:
                screen.begin(lines)
                begin = False
            else:
                screen.add(lines)
            if (code := _end(folder, status, screen)) is not None:
                return code
            time.sleep(seconds)
    finally:
        screen.close()


def _wait(begun: Callable[[], bool], seconds: float) -> bool:
    """Waits for a run that is just being started, which takes up its folder only when JAX is there."""
    until = time.monotonic() + START_SECONDS
    while not begun() and time.monotonic() < until:
        time.sleep(seconds)
    return begun()


def _end(folder: Path, status: dict[str, Any], screen: "_Screen") -> int | None:
    """Tells why the run has ended; None if it has not."""
    step, of, reason = status.get("step"), status.get("of"), status.get("reason")
    at = "" if step is None else f" at step {step}" if of is None else f" at step {step} of {of}"
    match status.get("state"):
        case "complete":
            screen.say(f"complete{at}")
            return 0
        case "stopped":
            screen.say(f"stopped{at} by {reason}; the same command goes on")
            return os.EX_TEMPFAIL
        case "failed":
            raise UserError(f"{folder}: the run failed{at}: {reason}")
        case "killed":
            saved = f", saved{at}" if at else ""
            raise UserError(f"{folder}: the run was killed{saved}; the same command goes on")
    return None


def _status(folder: Path) -> dict[str, Any]:
    """Returns status.json, with the state "killed" for a run without its process, and none for one that is starting."""
    lock, path = folder / "lock", folder / "status.json"
    alive = _owner_lives(lock)  # first: what a process that is gone has written is whole
    status = read_json(path)
    if alive and path.exists() and lock.stat().st_mtime_ns > path.stat().st_mtime_ns:
        status["state"] = None  # it is that of the session before
    if alive is False and status.get("state") in (None, "running"):
        status["state"] = "killed"
    return status


def _owner_lives(lock: Path) -> bool | None:
    """Whether the process that holds, or held, the run folder exists; None where that cannot be told from here."""
    owner = read_json(lock)
    if owner.get("host") != socket.gethostname() or not isinstance(owner.get("pid"), int):
        return None
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's; or of no process here
        pass
    return True


class _Tail:
    """The whole lines that are added to a file."""

    def __init__(self, path: Path) -> None:
        self._path, self._file, self._end = path, None, 0

    def read(self) -> tuple[list[str], bool]:
        """Returns the new lines, and whether they are those of another file, from its start, as after a resume."""
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                replaced = self._file not in (None, found.st_ino) or found.st_size < self._end
                self._end = 0 if replaced else self._end
                self._file = found.st_ino
                file.seek(self._end)
                whole = file.read().rpartition(b"\n")[0]  # the rest is still being written
        except OSError:  # not yet there
            return [], False
        self._end += len(whole) + 1 if whole else 0
        return whole.decode(errors="replace").splitlines(), replaced


class _Screen:
    """Standard output: in a terminal, one line that changes and the evaluations above it; else line after line."""

    total_steps: int | None = None

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()

    def begin(self, lines: list[str]) -> None:
        """Shows where a run stands: its last evaluation, and the progress of its last records."""
        records = _parse(lines)
        training = [record for record in records if "loss" in record[1]][-21:]
        self._progress = Progress(first_step=training[0][0] if training else 0)
        self._next_line = time.monotonic()
        if not records:
            self.say("no record yet")
        for line in [line for record in records if (line := describe_evaluation(*record))][-1:]:
            self.say(line)
        self._add(training)

    def add(self, lines: list[str]) -> None:
        """Shows new lines of the record."""
        records = _parse(lines)
        for record in records:
            if line := describe_evaluation(*record):
                self.say(line)
        self._add([record for record in records if "loss" in record[1]])

    def _add(self, training: list[tuple[int, dict[str, float]]]) -> None:
        for record in training:
            self._progress.add(*record)
        if not training or (not self._terminal and time.monotonic() < self._next_line):
            return
        self._next_line = time.monotonic() + LINE_SECONDS
        line = self._progress.tell(self.total_steps)
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[K{line[:width]}", end="", flush=True)
        else:
            print(line, flush=True)

    def say(self, line: str) -> None:
        """Prints a line that stays."""
        print(("\r\033[K" if self._terminal else "") + line, flush=True)

    def close(self) -> None:
        """Leaves the cursor at the start of a line."""
        if self._terminal:
            print(flush=True)


def _parse(lines: list[str]) -> list[tuple[int, dict[str, float]]]:
    return [record for line in lines if (record := parse_record(line))]
