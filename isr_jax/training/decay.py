"""A finished model from a run that has not ended: the learning rate decays on a branch, the run itself goes on.

    done = branch("runs/long", "runs/long-at-noon", steps=2000)

The branch is a run folder of its own: an ordinary run whose schedule is "wsd", which equals in every bit the run that
was told from its beginning to decay there.
"""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isr_jax.config import ConfigError, TrainConfig, UserError, config_to_dict, read_config
from isr_jax.files import new_folder
from isr_jax.models.model_file import read_metadata
from isr_jax.training.checkpoint import copy_newest, newest_step
from isr_jax.training.loop import Run, fit
from isr_jax.training.records import RECORD, record_until
from isr_jax.training.resume import differences
from isr_jax.training.schedules import first_difference

_MARK = "branch.json"
"""Says in the new folder which run it branched off, after which step."""


def branch(
    run: str | os.PathLike,
    workdir: str | os.PathLike,
    *,
    steps: int,
    change: Callable[[TrainConfig], TrainConfig] = lambda config: config,
    **options: Any,
) -> Run:
    """Trains on from the newest whole checkpoint of a run while the learning rate decays, in a folder of its own.

    The run is only read, and may go on meanwhile. The same call goes on with a branch that was stopped.

    Args:
      run: A run folder whose rate is constant since the warm-up: schedule.kind "constant", or "wsd" before its decay.
      workdir: The new run folder.
      steps: Over which the rate falls, at least 2; the first still has the run's rate.
      change: Of the configuration: of what leaves the steps as they are, as eval, checkpoint, max_minutes.
      options: Those of `isr_jax.fit`: callback, quiet, began.
    Raises:
      UserError: If the run has no whole checkpoint or has not had a constant rate, or `workdir` holds something else;
        and what `isr_jax.fit` raises.
    """
    run, workdir = Path(run), Path(workdir)
    if workdir.resolve().is_relative_to(run.resolve()):
        raise ConfigError(f"{workdir} lies in {run}, into which nothing is written; choose another output folder")
    if workdir.exists() and not workdir.is_dir():
        raise ConfigError(f"{workdir} is a file; name a folder for the branch")
    if not workdir.is_dir() or not any(workdir.iterdir()):
        _changed(read_config(TrainConfig, run / "config.json"), change)  # before anything is made
        _begin(run, workdir, steps)
    return fit(_changed(_begun(run, workdir, steps), change), workdir, **options)


def _changed(config: TrainConfig, change: Callable[[TrainConfig], TrainConfig]) -> TrainConfig:
    changed = change(config)
    if said := differences(config_to_dict(config), config_to_dict(changed)):
        raise ConfigError(f"a branch goes on with the configuration of its run: leave out {', '.join(said)}")
    return changed


def _begin(run: Path, workdir: Path, steps: int) -> None:
    """Makes the new folder, whole or not at all."""
    config = read_config(TrainConfig, run / "config.json")
    with new_folder(workdir) as folder:
        step = copy_newest(run, config, folder)
        if step < config.schedule.warmup_steps:
            raise UserError(
                f"{run} is at step {step} and warms up until step {config.schedule.warmup_steps}; wait for a later one"
            )
        schedule = dataclasses.replace(config.schedule, kind="wsd", decay_steps=steps)
        decaying = dataclasses.replace(config, schedule=schedule, steps=step + steps, epochs=0.0)
        before, now = (c.schedule.build(c.steps or 1) for c in (config, decaying))
        if (first := first_difference(before, now, step)) is not None:
            raise UserError(
                f"{run}: its learning rate has not been constant up to step {step} (schedule.kind is "
                f"{config.schedule.kind!r}; step {first + 1} had another); choose a run with constant, or with wsd "
                "before its decay"
            )
        (folder / "config.json").write_text(json.dumps(config_to_dict(decaying), indent=2) + "\n")
        (folder / _MARK).write_text(json.dumps({"run": str(run.resolve()), "step": step}) + "\n")
        _copy_record(run, folder, step)


def _copy_record(run: Path, folder: Path, step: int) -> None:
    """Copies what the run has recorded and found best up to a step."""
    if kept := record_until(run / RECORD, step):
        (folder / RECORD).write_text(kept, encoding="utf-8")
    if (run / "best.safetensors").exists():
        best = folder / "best.safetensors"
        best.write_bytes((run / "best.safetensors").read_bytes())
        if read_metadata(best)["step"] > step:
            best.unlink()


def _begun(run: Path, workdir: Path, steps: int) -> TrainConfig:
    """Returns the configuration of a branch that is there."""
    another = "choose another output folder"
    try:
        mark = json.loads((workdir / _MARK).read_text())
        origin, step = mark["run"], mark["step"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{workdir} holds something else than a branch of {run}; {another}") from None
    if origin != str(run.resolve()):
        raise UserError(f"{workdir} is a branch of {origin}; {another}, or go on with it by isr-jax train --workdir")
    config = read_config(TrainConfig, workdir / "config.json")
    if config.schedule.decay_steps != steps:
        raise UserError(f"{workdir} decays over {config.schedule.decay_steps} steps, not {steps}; {another}")
    if (newest := newest_step(workdir)) is None or newest < step:
        raise UserError(f"{workdir}: the checkpoint that it began with is gone; {another}")
    return config
