"""The losses that `LossConfig.kind` names, of pictures on 0..255, measured on 0..1.

A loss is a function of the configuration that returns a function of an estimate and its target. One of one's own is a
function like these, anywhere: kind="my_package.losses:huber".
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from isr_jax.config import LossConfig

Loss = Callable[[Array, Array], Float[Array, ""]]


def l1(config: LossConfig) -> Loss:
    """Mean absolute error."""
    del config
    return lambda estimate, target: jnp.abs((estimate - target) / 255).mean()


def l2(config: LossConfig) -> Loss:
    """Mean squared error."""
    del config
    return lambda estimate, target: jnp.square((estimate - target) / 255).mean()


def charbonnier(config: LossConfig) -> Loss:
    """Mean of sqrt(error^2 + epsilon^2): a smooth l1 (Charbonnier et al. 1994)."""
    return lambda estimate, target: jnp.sqrt(jnp.square((estimate - target) / 255) + config.epsilon**2).mean()
