"""A loss: --loss.kind own_parts.loss:Huber."""

import jax.numpy as jnp

from isr_jax.config import LossConfig


class Huber:
    """The square of small errors, the absolute value of large ones; of pictures on 0..255, measured on 0..1."""

    def __init__(self, config: LossConfig):
        self.width = config.epsilon

    def __call__(self, estimate, target):
        error = jnp.abs((estimate - target) / 255)
        return jnp.where(error < self.width, error**2 / (2 * self.width), error - self.width / 2).mean()
