"""A run folder: one run at a time writes to it (RUN/lock), and it says how the run stands (RUN/status.json)."""

import contextlib
import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import jax

from isr_jax.config import TrainConfig, UserError, config_to_dict
from isr_jax.files import replace_file
from isr_jax.training.parallel import any_process
from isr_jax.training.records import read_json

_AGAIN = "the same command, or isr_jax.fit with the same configuration and folder, goes on from the last checkpoint"
"""How a run that has not reached its last step is resumed."""

State = Literal["running", "complete", "stopped", "failed"]


class RunFolder:
    """A run folder, made and locked while the context lasts; of several processes of one run, process 0 holds it.

    The lock is `flock` on RUN/lock: the kernel lets go of it when its owner ends, however it ends, so that no lock is
    ever stale and no process number mistaken for another's; the number in the file is for the reader. Over NFS, Linux
    turns it into a lock of the server's, which holds for all machines; mounted with `nolock` or `local_lock`, it holds
    on each machine alone. Where the file system has no locks at all, runs are not kept apart.
    """

    def __init__(self, path: Path) -> None:
        """Names the folder; nothing is made before the context is entered."""
        self.path = path
        self._chief = jax.process_index() == 0
        self._lock: int | None = None
        self._step: int | None = None
        self._total: int | None = None
        self._seconds: dict[str, float | None] = {}
        self.former: dict[str, Any] = {}
        """The status that the session before has left; empty: none."""

    def __enter__(self) -> "RunFolder":
        """Makes and locks the folder.

        Raises:
          UserError: If it cannot be written to, or another run holds it.
        """
        refused: UserError | None = None
        if self._chief:
            try:
                self._acquire()
            except UserError as error:
                refused = error
        if jax.process_count() > 1 and any_process(refused is not None) and refused is None:
            refused = UserError(f"{self.path}: process 0 cannot use it; see what it says")
        if refused is not None:
            raise refused
        self.former = read_json(self.path / "status.json")
        return self

    def _acquire(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(
                f"{self.path}: cannot be written ({error.strerror}); choose another run folder (workdir)"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(os.pread(lock, 1000, 0))
            os.close(lock)
            raise UserError(
                f"{self.path}: {owner} trains in it; wait for it or stop it, or choose another run folder (workdir)"
            ) from None
        except OSError:  # a file system without locks
            pass
        self._lock = lock
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)

    def write_config(self, config: TrainConfig) -> None:
        """Writes RUN/config.json, with which `isr-jax train --workdir RUN` goes on."""
        if self._chief:
            text = json.dumps(config_to_dict(config), indent=2) + "\n"
            replace_file(self.path / "config.json", lambda path: path.write_text(text))

    def report(
        self,
        state: State,
        step: int | None,
        total: int | None,
        reason: str = "",
        seconds: dict[str, float | None] | None = None,
    ) -> None:
        """Writes RUN/status.json: how the run stands, and how it goes on.

        "running" without a process that holds the lock is a run that was killed.

        Args:
          state: Of the run.
          step: Steps done and saved; None if the run failed before that was known.
          total: Steps of the whole run; likewise.
          reason: Why it has stopped or failed.
          seconds: How long things take, by name, rounded to four digits; None: as in the report before.
        """
        self._step, self._total = step, total
        self._seconds = self._seconds if seconds is None else seconds
        if not self._chief:
            return
        status: dict[str, Any] = {"state": state, "step": step, "of": total, "reason": reason or None}
        first = "mend what the reason names; then " if state == "failed" else ""
        status["resume"] = None if state == "complete" else first + _AGAIN
        status |= {name: None if value is None else float(f"{value:.4g}") for name, value in self._seconds.items()}
        status["updated"] = datetime.now(UTC).isoformat(timespec="seconds")
        text, target = json.dumps(status, indent=2) + "\n", self.path / "status.json"
        try:
            replace_file(target, lambda path: path.write_text(text))
        except OSError:
            if state != "failed":
                raise
            with target.open("r+") as file:  # a full disk has no room for a second file, but this one keeps its own
                file.write(text)
                file.truncate()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What is refused before it begins leaves what the run has come to as it was.
        if error is not None and (self._total is not None or not self.former):
            reason = " ".join(str(error).split()) or type(error).__name__
            with contextlib.suppress(OSError):  # a full disk: what went wrong first is being told
                self.report("failed", self._step, self._total, reason)
        if self._lock is not None:
            os.close(self._lock)  # the file stays: to remove it could free a lock that another has just taken


def _owner(text: bytes) -> str:
    try:
        owner = json.loads(text)
        return f"process {owner['pid']} on {owner['host']}"
    except (ValueError, KeyError, TypeError):  # it has the lock and has not yet written
        return "another process"
