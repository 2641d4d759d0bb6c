"""The losses that `LossConfig.kind` names, of pictures on 0..255, measured on 0..1.

A loss is a function of the configuration that returns a function of an estimate and its target. One of one's own is a
function like these, anywhere: kind="my_package.losses:huber".
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from isr_jax.config import ConfigError, LossConfig
from isr_jax.pictures.metrics import SSIM_TAPS, SSIM_WINDOW, ssim_maps

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


def l1_ssim(config: LossConfig) -> Loss:
    """(1 - w) l1 + w (1 - SSIM), w being `ssim_weight`, and SSIM that of `isr_jax.ssim`, channel by channel.

    Raises:
      ConfigError: When it is called, if the pictures are smaller than the window of SSIM.
    References: Zhao, Gallo, Frosio & Kautz, Loss functions for image restoration with neural networks, 2017.
    """
    weight, absolute = config.ssim_weight, l1(config)

    def loss(estimate: Array, target: Array) -> Float[Array, ""]:
        if (side := min(target.shape[1:3])) < SSIM_WINDOW:
            needs = f'loss.kind="l1_ssim" needs HR patches of at least {SSIM_WINDOW} pixels, not {side}'
            raise ConfigError(f"{needs}: raise data.patch_size")
        luminance, structure = ssim_maps(estimate / 255, target / 255, 1, _window_mean)
        return (1 - weight) * absolute(estimate, target) + weight * (1 - (luminance * structure).mean())

    return loss


def _window_mean(x: Float[Array, "batch height width channels"]) -> Float[Array, "planes 1 rows cols"]:
    """Returns the Gaussian means about each position where the window lies wholly inside, a plane for each channel."""
    taps = jnp.asarray(SSIM_TAPS, x.dtype)
    planes = jnp.moveaxis(x, -1, 1).reshape(-1, 1, *x.shape[1:3])
    rows = lax.conv_general_dilated(planes, taps.reshape(1, 1, -1, 1), (1, 1), "VALID")
    return lax.conv_general_dilated(rows, taps.reshape(1, 1, 1, -1), (1, 1), "VALID")
