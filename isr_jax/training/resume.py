"""What a run may be resumed with: all that leaves what it has done as it was."""

from pathlib import Path
from typing import Any

from isr_jax.config import ConfigError, TrainConfig, UserError, config_from_dict, config_to_dict
from isr_jax.training.schedules import first_difference

_FREE = ("parallel", "checkpoint", "eval", "steps_per_call", "max_minutes", "on_nonfinite")
"""Fields that do not change what is computed."""
_FREE_OF_DATA = ("data.train", "data.cache_dir", "data.strict", "data.degradation.kernels")
"""Places; what lies there is in the data's fingerprint."""


def check_resumable(old: dict[str, Any], new: dict[str, Any], step: int, folder: Path) -> None:
    """Raises if a run would go on with other settings than it began with.

    The length of the run and the schedule may change as long as the rates of the steps done are, to the last bit, those
    that the new ones give them: those of "constant" always, of "wsd" until it begins to decay.

    Args:
      old: The record of the checkpoint, with "config" and "data", the data's fingerprint.
      new: That of this session.
      step: Steps done.
      folder: Of the run, for the message.
    Raises:
      UserError: What has changed, in one line.
    """
    remedy = "choose another run folder (workdir), or set checkpoint.allow_changes"
    if said := changes(old.get("config", {}), new["config"], step):
        raise UserError(f"{folder} was trained with another {said}; {remedy}")
    if old.get("data") != new["data"]:
        raise UserError(f"{folder} was trained on other data than data.train holds now; {remedy}")


def changes(old: dict[str, Any], new: dict[str, Any], step: int) -> str:
    """Says in which fields two configurations, as dictionaries, differ that changes the first `step` steps; "": none.

    A field that only one of them has is at its default in the other.
    """
    before, now = _completed(old), _completed(new)
    changed = differences(before, now)
    why: str | None = ""
    if changed and all(name in ("steps", "epochs") or name.startswith("schedule.") for name in changed):
        why = _done_otherwise(before, now, step)
    return "" if why is None or not changed else ", ".join(changed.values()) + why


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, str]:
    """Returns the fields in which two configurations, as dictionaries, differ in what they compute.

    Returns: By name, what to say of each: "steps (40 before, 60 now)".
    """
    return dict(sorted(_changes(old, new, "")))


def _changes(old: Any, new: Any, name: str) -> list[tuple[str, str]]:
    if name in _FREE or name in _FREE_OF_DATA:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        return [c for k in old.keys() | new.keys() for c in _changes(old.get(k), new.get(k), f"{name}.{k}".lstrip("."))]
    return [] if old == new else [(name, f"{name} ({old} before, {new} now)")]


def _completed(config: dict[str, Any]) -> dict[str, Any]:
    """Fills in the fields that there were not when it was written: at their defaults they change nothing."""
    try:
        return config_to_dict(config_from_dict(TrainConfig, config))
    except (ConfigError, TypeError, ValueError):  # of a version whose fields are no longer
        return config


def _done_otherwise(old: dict[str, Any], new: dict[str, Any], step: int) -> str | None:
    """Returns what to say where steps already done would have been others; None: they are the same."""
    try:
        before, now = (config_from_dict(TrainConfig, config) for config in (old, new))
    except (ConfigError, TypeError, ValueError):
        return ""
    if any(not config.steps and config.schedule.kind != "constant" for config in (before, now)):
        return ""  # epochs: their number of steps is not in the record
    if 0 < now.steps < step:
        return f", and has done {step} steps"
    old_rate, new_rate = (config.schedule.build(config.steps) for config in (before, now))
    first = first_difference(old_rate, new_rate, step)
    return None if first is None else f", which changes the learning rate of steps it has done, from step {first + 1}"
