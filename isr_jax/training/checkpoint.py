"""Checkpoints: asynchronous, atomic saves by Orbax; the newest is restored, the last few and the best are kept."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from isr_jax.config import CheckpointConfig, TrainConfig, UserError, config_to_dict
from isr_jax.training.state import TrainState

_FREE_FIELDS = ("parallel", "checkpoint", "eval", "max_minutes")
"""Fields that do not change what is computed: a run may be resumed with others."""
_FREE_DATA_FIELDS = ("train", "cache_dir", "strict")
"""Of the data; what they lead to is in the data's fingerprint."""


WHOLE = "the checkpoints saved before are whole: make room and start the same command again"
"""What to tell when the disk is full."""


class Checkpoints:
    """The checkpoints of a run folder."""

    def __init__(self, folder: Path, config: TrainConfig, data: str) -> None:
        """Opens RUN/checkpoints.

        Args:
          folder: The run folder.
          config: Of the run, saved with every checkpoint.
          data: Fingerprint of the training data.
        """
        # What fails in the background is raised again where we wait for it; its traceback is not for the user.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self._folder = folder
        self._record = {"config": config_to_dict(config), "data": data}
        self._allow_changes = config.checkpoint.allow_changes
        self._checkpointer = ocp.training.Checkpointer(
            str((folder / "checkpoints").absolute()),
            preservation_policy=_preservation(config.checkpoint),
            cleanup_tmp_directories=True,
        )

    def restore(self, like: TrainState) -> tuple[TrainState, float | None] | None:
        """Returns the newest state and the best score so far on this validation folder, or None without a checkpoint.

        Args:
          like: A state of the same structure, on the devices that the restored one is to be on.
        Raises:
          UserError: If the checkpoint is of another configuration, seed or data, or cannot be read.
        """
        latest = self._checkpointer.latest
        if latest is None:
            return None
        record: Any = self._checkpointer.metadata(latest).custom_metadata or {}
        if not self._allow_changes:
            _compare(record, self._record, self._folder)
        abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), like)
        try:
            state: Any = self._checkpointer.load(latest, abstract)
        except Exception as error:  # Orbax raises whatever its readers do
            raise UserError(
                f"{self._folder}/checkpoints/{latest.step} is damaged, or of another network or optimiser: choose "
                f"another --workdir (--checkpoint.init-from {self._folder} takes its weights), or remove it"
            ) from error
        before, now = _first_folder(record), _first_folder(self._record)
        other = before and now and before != now  # a score on other pictures says nothing of these
        return state, None if other else record.get("best")

    def save(self, step: int, state: TrainState, *, score: float | None, best: float | None) -> None:
        """Starts to save; returns when the state has been copied.

        Args:
          step: Of the state.
          state: What to save.
          score: Validation PSNR of this very state, if it was measured.
          best: Best PSNR of the run so far.
        """
        if any(c.step == step for c in self._checkpointer.checkpoints):
            return
        with self._failures():
            self._checkpointer.save_async(
                step,
                state,
                force=True,  # the training loop decides when
                metrics=None if score is None else {"psnr": score},
                custom_metadata={**self._record, "best": best},
            )

    def wait(self) -> None:
        """Waits until everything is on disk."""
        with self._failures():
            self._checkpointer.wait()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Says in one line why a save failed, be it the present one or the one before, which ran in the background."""
        try:
            yield
        except Exception as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UserError(f"{self._folder}: the checkpoint cannot be written ({reason}); {WHOLE}") from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._checkpointer.close()
        except Exception:
            if error is None:  # otherwise what went wrong first is being told
                raise


def _preservation(config: CheckpointConfig) -> Any:
    policies = ocp.training.preservation_policies
    best = policies.BestN(get_metric_fn=lambda m: m["psnr"], n=1, keep_checkpoints_without_metrics=False)
    return policies.AnyPreservationPolicy([policies.LatestN(config.keep), best])


def _first_folder(record: dict[str, Any]) -> str:
    """The name of the validation folder that decides the best weights."""
    data = record.get("config", {}).get("eval", {}).get("data", ())
    return Path(data[0]).resolve().name if data else ""


def _compare(old: dict[str, Any], new: dict[str, Any], folder: Path) -> None:
    """Raises if a run would go on with other settings than it began with."""
    remedy = "choose another --workdir, or say --checkpoint.allow-changes"
    changed = sorted(_changes(_comparable(old.get("config", {})), _comparable(new["config"])))
    if changed:
        raise UserError(f"{folder} was trained with another {', '.join(changed)}; {remedy}")
    if old.get("data") != new["data"]:
        raise UserError(f"{folder} was trained on other data than data.train holds now; {remedy}")


def _comparable(config: dict[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in config.items() if k not in _FREE_FIELDS}
    return {**kept, "data": {k: v for k, v in config.get("data", {}).items() if k not in _FREE_DATA_FIELDS}}


def _changes(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [c for k in old.keys() | new.keys() for c in _changes(old.get(k), new.get(k), f"{name}.{k}".lstrip("."))]
    return [] if old == new else [f"{name} ({old} before, {new} now)"]
