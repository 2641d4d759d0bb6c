"""Folders over many machines: which pictures are one process's share.

A picture belongs to the share that a hash of its output's name says. So the processes need not talk to each other, a
picture has one owner whatever else there is in the folder and whoever looks at it when, and no two write one file.
Shares are equal on average: of 1600 pictures over 16 about 100, give or take 10.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import NamedTuple

from isr_jax.config import ConfigError

AUTO = "auto"


class Shard(NamedTuple):
    """One share of several."""

    index: int
    """From 0 on."""
    count: int

    def owns(self, name: str) -> bool:
        """Whether an output of this name, relative to the output folder, is this share's."""
        digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index


def read_shard(text: str, environment: Mapping[str, str]) -> Shard:
    """Returns the share that a command line names: "3/16", the fourth of 16, or "auto", by the environment.

    JAX_PROCESS_ID of JAX_NUM_PROCESSES, as `jax.distributed` takes them, come first; else under SLURM the task of the
    step (SLURM_PROCID of SLURM_NTASKS) within the task of a job array, if it is one.

    Raises:
      ConfigError: If it is none, or the environment does not say.
    """
    if text == AUTO:
        return _from_environment(environment)
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not int(match[1]) < int(match[2]):
        raise ConfigError(f"`shard` is {text!r}; give INDEX/COUNT, from 0/16 to 15/16 for 16 shares, or auto")
    return Shard(int(match[1]), int(match[2]))


def _from_environment(environment: Mapping[str, str]) -> Shard:
    def number(name: str, default: int | None = None) -> int:
        if default is not None and name not in environment:
            return default
        try:
            return int(environment[name])
        except (KeyError, ValueError):
            value = environment.get(name)
            raise ConfigError(f"`shard` is auto, but {name} is {value!r}; set it, or give INDEX/COUNT") from None

    if "JAX_PROCESS_ID" in environment or "JAX_NUM_PROCESSES" in environment:
        names, shard = "JAX_PROCESS_ID", Shard(number("JAX_PROCESS_ID"), number("JAX_NUM_PROCESSES"))
    elif "SLURM_JOB_ID" in environment:
        task, tasks = number("SLURM_PROCID", 0), number("SLURM_NTASKS", 1)
        if "SLURM_ARRAY_TASK_ID" in environment:
            first, step = number("SLURM_ARRAY_TASK_MIN"), number("SLURM_ARRAY_TASK_STEP", 1)
            job = (number("SLURM_ARRAY_TASK_ID") - first) // max(1, step)
            task, tasks = job * tasks + task, number("SLURM_ARRAY_TASK_COUNT") * tasks
        names, shard = "SLURM's", Shard(task, tasks)
    else:
        raise ConfigError("`shard` is auto, but neither SLURM nor JAX_PROCESS_ID says which: give INDEX/COUNT")
    if not 0 <= shard.index < shard.count:
        raise ConfigError(f"`shard` is auto, but {names} index is {shard.index} of {shard.count}: give INDEX/COUNT")
    return shard
