"""The learning rates over the steps that `ScheduleConfig.kind` names.

A schedule is a function of the configuration and the steps of the run that returns the rate as a function of the step.
One of one's own is a function like these, anywhere: kind="my_package.schedules:triangle".
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from isr_jax.config import ScheduleConfig

Schedule = Callable[[Int[Array, ""] | int], Float[Array, ""]]


def constant(config: ScheduleConfig, steps: int) -> Schedule:
    """The largest rate, after the warm-up."""
    del steps
    return lambda step: _warmed_up(config, step)


def multistep(config: ScheduleConfig, steps: int) -> Schedule:
    """Multiplied by `factor` at each of the `milestones`."""

    def learning_rate(step: Int[Array, ""] | int) -> Float[Array, ""]:
        passed = sum((jnp.asarray(step) >= math.ceil(m * steps)).astype(jnp.float32) for m in config.milestones)
        return _warmed_up(config, step) * config.factor**passed

    return learning_rate


def cosine(config: ScheduleConfig, steps: int) -> Schedule:
    """From the largest rate down to `final_fraction` of it, by half a cosine."""

    def learning_rate(step: Int[Array, ""] | int) -> Float[Array, ""]:
        position = jnp.asarray(step, jnp.float32)
        done = jnp.clip((position - config.warmup_steps) / max(1, steps - config.warmup_steps), 0.0, 1.0)
        shape = config.final_fraction + (1 - config.final_fraction) * 0.5 * (1 + jnp.cos(jnp.pi * done))
        return _warmed_up(config, step) * shape

    return learning_rate


def wsd(config: ScheduleConfig, steps: int) -> Schedule:
    """Warm-up, stable, decay: the largest rate, and over the last `decay_steps` 1 - sqrt down to `final_fraction`.

    Until the decay begins, nothing depends on the length of the run, which may be changed till then; its first step
    still has the largest rate, its last one the final rate.

    References: Hu et al. 2024, MiniCPM (arXiv 2404.06395); Hägele et al. 2024 (arXiv 2405.18392) for the shape, which
    they find better than a linear one.
    """

    def learning_rate(step: Int[Array, ""] | int) -> Float[Array, ""]:
        position = jnp.asarray(step, jnp.float32)
        done = jnp.clip((position - (steps - config.decay_steps)) / (config.decay_steps - 1), 0.0, 1.0)
        # Exactly 1 before the decay, so that the rate is that of "constant" to the last bit.
        return _warmed_up(config, step) * (1 - (1 - config.final_fraction) * jnp.sqrt(done))

    return learning_rate


def first_difference(old: Schedule, new: Schedule, steps: int) -> int | None:
    """Returns the first of the steps 0, 1, ... `steps` - 1 whose rates differ in any bit; None: none."""
    rates = (np.asarray(jax.vmap(schedule)(jnp.arange(steps))) for schedule in (old, new))
    different = np.flatnonzero(np.not_equal(*rates))
    return int(different[0]) if len(different) else None


def _warmed_up(config: ScheduleConfig, step: Int[Array, ""] | int) -> Float[Array, ""]:
    position = jnp.asarray(step, jnp.float32)
    return config.learning_rate * jnp.minimum(1.0, (position + 1) / max(1, config.warmup_steps))
