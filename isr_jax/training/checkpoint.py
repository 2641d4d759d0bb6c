"""Checkpoints: asynchronous, atomic saves by Orbax; the newest is restored, the last few and the best are kept.

A checkpoint holds the state's arrays, and a record: configuration, fingerprint of the data, best score, what was done
about steps that were not finite, the shapes of the arrays, and the checksums of the arrays and of the record itself.
They are made of what is in memory and are part of the save, so that there is no moment at which a checkpoint is whole
and they are not; a flipped bit on the way to the disk or on it is found when it is restored. One that is damaged is
moved to RUN/damaged, and the newest whole one is used.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from isr_jax.config import CheckpointConfig, TrainConfig, UserError, config_to_dict
from isr_jax.models.model_file import get_params
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.training.parallel import any_process, to_host
from isr_jax.training.resume import check_resumable
from isr_jax.training.state import TrainState, init_state

WHOLE = "the checkpoints saved before are whole: make room and start the same command again"
"""What to tell when the disk is full."""


class Restored(NamedTuple):
    """What a run goes on from."""

    state: TrainState
    best: float | None
    """The best score so far on the validation folder of this run."""
    failures: int
    """How many steps in a row were not finite, up to this one."""
    damaged: tuple[str, ...]
    """One line for each newer checkpoint that is damaged."""


class _DamageError(Exception):
    """A checkpoint that cannot be read, or is not what was saved."""


class Checkpoints:
    """The checkpoints of a run folder."""

    def __init__(self, folder: Path, config: TrainConfig, data: str) -> None:
        """Opens RUN/checkpoints.

        Args:
          folder: The run folder.
          config: Of the run, saved with every checkpoint.
          data: Fingerprint of the training data.
        """
        _mute()
        self._folder = folder
        self._record = {"config": config_to_dict(config), "data": data}
        self._allow_changes = config.checkpoint.allow_changes
        self._checkpointer = ocp.training.Checkpointer(
            str((folder / "checkpoints").absolute()),
            preservation_policy=_preservation(config.checkpoint),
            cleanup_tmp_directories=True,
        )

    def restore(self, like: TrainState) -> Restored | None:
        """Returns what the newest whole checkpoint holds, or None without a checkpoint; damaged ones are put aside.

        Args:
          like: A state of the same structure, on the devices that the restored one is to be on.
        Raises:
          UserError: If the checkpoint is of another configuration, network, seed or data, or none is whole.
        """
        damaged: list[tuple[int, str]] = []
        for checkpoint in sorted(self._checkpointer.checkpoints, key=lambda c: c.step, reverse=True):
            restored, damage = None, ""
            try:
                restored = self._load(checkpoint, like)
            except _DamageError as error:
                damage = str(error)
            # Whole is what is whole for every process: they must go on from the same one.
            if jax.process_count() > 1 and any_process(restored is None):
                restored, damage = None, damage or "another process cannot read it"
            if restored is None:
                damaged.append((checkpoint.step, damage))
                continue
            return restored._replace(damaged=tuple(self._put_aside(damaged, checkpoint.step)))
        if not damaged:
            return None
        step, damage = damaged[0]
        raise UserError(
            f"{self._folder}/checkpoints: none is whole ({step}: {damage}); choose another run folder (workdir; "
            f"checkpoint.init_from={self._folder} takes its weights), or remove the checkpoints to start anew"
        )

    def _load(self, checkpoint: Any, like: TrainState) -> Restored:
        """Reads one checkpoint.

        Raises:
          UserError: If it is of another configuration, network, seed or data.
          _DamageError: If it is damaged.
        """
        record = _read_record(self._checkpointer, checkpoint, self._folder)
        if not self._allow_changes:
            check_resumable(record, self._record, checkpoint.step, self._folder)
        loaded = _read_arrays(self._checkpointer, checkpoint, self._folder, record, like)
        rate_factor = np.float32(record.get("rate_factor", 1.0))
        factor = jax.make_array_from_callback((), like.rate_factor.sharding, lambda _: rate_factor)
        before, now = _first_folder(record), _first_folder(self._record)
        other = before and now and before != now  # a score on other pictures says nothing of these
        best = None if other else record.get("best")
        return Restored(TrainState(**loaded, rate_factor=factor), best, record.get("failures", 0), ())

    def _put_aside(self, damaged: list[tuple[int, str]], whole: int) -> Iterator[str]:
        """Moves damaged checkpoints to RUN/damaged, and says so."""
        for step, damage in damaged:
            source, target = self._folder / "checkpoints" / str(step), self._folder / "damaged" / str(step)
            copy = 1
            while target.exists():
                copy += 1
                target = target.with_name(f"{step}_{copy}")
            if jax.process_index() == 0:
                target.parent.mkdir(exist_ok=True)
                source.rename(target)
            yield f"{source} is damaged ({damage}) and now lies in {target}; going on from step {whole}"
        if damaged:
            if jax.process_count() > 1:
                multihost_utils.sync_global_devices("damaged checkpoints are put aside")
            self._checkpointer.reload()

    def save(self, state: TrainState, *, score: float | None, best: float | None, failures: int) -> None:
        """Starts to save, unless there is a checkpoint of this step; returns when the state has been copied.

        Args:
          state: What to save.
          score: Validation PSNR of this very state, if it was measured.
          best: Best PSNR of the run so far.
          failures: How many steps in a row were not finite, up to this one.
        """
        step = int(state.step)
        if any(c.step == step for c in self._checkpointer.checkpoints):
            return
        arrays = _arrays(state)
        record: dict[str, Any] = {
            **self._record,
            "arrays": _shapes(arrays),
            "best": best,
            "failures": failures,
            "rate_factor": float(to_host(state.rate_factor)),
        }
        record["checksums"] = {"state": _state_checksum(arrays), "record": _record_checksum(record)}
        with self._failures():
            self._checkpointer.save_async(
                step,
                arrays,
                force=True,  # the training loop decides when
                metrics=None if score is None else {"psnr": score},
                custom_metadata=record,
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
            raise UserError(
                f"{self._folder}: the checkpoint cannot be written ({_first_line(error)}); {WHOLE}"
            ) from error

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


def newest_step(run: Path) -> int | None:
    """Returns the step of a run folder's newest finished checkpoint; None without one. Nothing of it is read."""
    return max(_finished(run), default=None)


def copy_newest(run: Path, config: TrainConfig, folder: Path) -> int:
    """Copies the newest whole checkpoint of a run to `folder`/checkpoints, and returns its step.

    The run is only read: it may go on meanwhile, and remove what is being copied.

    Args:
      run: The run folder.
      config: Of the run.
      folder: Where to; every number of the copy is read and compared with the checksum it was saved with.
    Raises:
      UserError: If the run has no whole checkpoint.
    """
    like = jax.eval_shape(
        lambda: init_state(get_params(ISRResCNet(config.model, rngs=nnx.Rngs(0))), config.optimizer.build())
    )
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=here), like)
    _mute()
    damaged: dict[int, str] = {}
    while steps := _finished(run) - damaged.keys():
        step = max(steps)
        copy = folder / "checkpoints" / str(step)
        try:
            shutil.copytree(run / "checkpoints" / str(step), copy)
            with ocp.training.Checkpointer(str(copy.parent.absolute())) as checkpointer:
                checkpoint = next(c for c in checkpointer.checkpoints if c.step == step)
                record = _read_record(checkpointer, checkpoint, run)
                _read_arrays(checkpointer, checkpoint, run, record, like)
            return step
        except (OSError, shutil.Error, StopIteration, _DamageError) as error:
            damaged[step] = str(error)  # or it was removed meanwhile: then there is a newer one
            shutil.rmtree(copy, ignore_errors=True)
    if not damaged:
        raise UserError(f"{run}: there is no checkpoint yet; train saves the first")
    step = max(damaged)
    raise UserError(f"{run}/checkpoints: none is whole ({step}: {damaged[step]})")


def _mute() -> None:
    """Keeps tracebacks from the user: what fails in the background is raised again where we wait for it."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _finished(run: Path) -> set[int]:
    """Returns the steps of the checkpoints that are written to the end: Orbax then gives them their names."""
    try:
        return {int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdecimal()}
    except OSError:
        return set()


def _read_record(checkpointer: Any, checkpoint: Any, folder: Path) -> dict[str, Any]:
    """Returns the record of a checkpoint.

    Raises:
      UserError: If it is of a version before.
      _DamageError: If it is damaged.
    """
    try:
        metadata = checkpointer.metadata(checkpoint)
        record: Any = metadata.custom_metadata
        found = _shapes(metadata.metadata)
    except Exception as error:  # Orbax raises whatever its readers do
        raise _DamageError("a part of it is missing or cannot be read") from error
    if not isinstance(record, dict) or "config" not in record:
        raise _DamageError("its record is missing")
    checksums = record.get("checksums")  # none: saved by a version before there were any
    rest = {name: value for name, value in record.items() if name != "checksums"}
    if checksums and checksums["record"] != _record_checksum(rest):
        raise _DamageError("its record is not what was saved")
    if not found:  # what Orbax says where it cannot read them
        raise _DamageError("the shapes of its arrays cannot be read")
    record.setdefault("arrays", found)  # absent: saved by a version before
    if "erd" in record["config"].get("model", {}):  # what the prior was called before there could be others
        raise UserError(
            f"{folder} was begun by an older isr_jax, whose checkpoints this one cannot go on with: choose "
            f"another run folder (workdir); checkpoint.init_from={folder} takes its weights"
        )
    return record


def _read_arrays(checkpointer: Any, checkpoint: Any, folder: Path, record: dict[str, Any], like: TrainState) -> Any:
    """Returns the arrays of a checkpoint, on the devices of those of `like`.

    Raises:
      UserError: If they are of another network or optimiser.
      _DamageError: If they are damaged.
    """
    arrays = _arrays(like)
    if record["arrays"] != _shapes(arrays):
        raise UserError(
            f"{folder}/checkpoints/{checkpoint.step} is of another network or optimiser: choose another run "
            f"folder (workdir); checkpoint.init_from={folder} takes its weights"
        )
    abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), arrays)
    try:
        loaded: Any = checkpointer.load(checkpoint, abstract)
    except Exception as error:
        raise _DamageError("its arrays cannot be read") from error
    checksums = record.get("checksums")
    if checksums and checksums["state"] != _state_checksum(loaded):
        raise _DamageError("its arrays are not what was saved")
    return loaded


def _arrays(state: TrainState) -> dict[str, Any]:
    """The part of the state that is saved as arrays; the factor of the rate is in the record."""
    fields = (field.name for field in dataclasses.fields(state))
    return {name: getattr(state, name) for name in fields if name != "rate_factor"}


def _shapes(tree: Any) -> list[str]:
    """Returns type and shape of every array, in an order that does not depend on the tree's."""
    return sorted(f"{np.dtype(leaf.dtype)}{list(leaf.shape)}" for leaf in jax.tree.leaves(tree))


def _state_checksum(arrays: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(to_host(arrays)):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype} ".encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()


def _record_checksum(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]


def _preservation(config: CheckpointConfig) -> Any:
    policies = ocp.training.preservation_policies
    best = policies.BestN(get_metric_fn=lambda m: m["psnr"], n=1, keep_checkpoints_without_metrics=False)
    return policies.AnyPreservationPolicy([policies.LatestN(config.keep), best])


def _first_folder(record: dict[str, Any]) -> str:
    """The name of the validation folder that decides the best weights."""
    data = record.get("config", {}).get("eval", {}).get("data", ())
    return Path(data[0]).resolve().name if data else ""
