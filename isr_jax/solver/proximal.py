"""The proximal step's projection and its radius."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float


def noise_radius(
    noise_std: Float[Array, " batch"], log_radius: Float[Array, ""], num_values: Any
) -> Float[Array, " batch"]:
    r"""Returns the radius of the ball that the noise of each image lies in, e^alpha sigma sqrt(N - 1).

    Args:
      noise_std: Noise level sigma per image, on the 0..255 scale.
      log_radius: alpha, the learned logarithm of the radius in units of the expected norm.
      num_values: N, the values of one image: height x width x channels (a whole number, or a symbol of `jax.export`).
    Returns: Radius per image, same unit as `noise_std`.
    References: Umer et al. 2020 (arXiv 2009.04809), proximal step.
    """
    return jnp.exp(log_radius) * noise_std * jnp.sqrt(jnp.asarray(num_values - 1, jnp.float32))


def project_l2_ball(
    residual: Float[Array, "batch height width channels"],
    radius: Float[Array, " batch"],
    reduce: Callable[[Array], Array] | None = None,
) -> Float[Array, "batch height width channels"]:
    r"""Projects each residual image onto the l2 ball of its own radius.

    The proximal map of the indicator of {r : ||r|| <= radius}:  r * radius / max(||r||, radius), with the norm over
    one image.

    Args:
      residual: Noise estimate, intensity units on the 0..255 scale.
      radius: Ball radius per image, same units, not negative; 0 gives 0.
      reduce: Where `residual` is a part of each image: makes the squared norm of the whole (N,) of the part's.
    Returns: The residual, unchanged inside the ball, on its surface outside.
    Raises:
      ValueError: If `radius` does not have one entry per image.
    References: Umer et al. 2020 (arXiv 2009.04809), proximal step.
    Note: Written as sqrt(max(||r||^2, radius^2)), whose gradient is finite at r = 0, unlike the norm's own.
    """
    if radius.shape != residual.shape[:1]:
        raise ValueError(f"radius has shape {radius.shape}; {residual.shape[0]} images need one entry each")
    squared_norm = jnp.sum(jnp.square(residual.astype(jnp.float32)), axis=(1, 2, 3))
    squared_norm = squared_norm if reduce is None else reduce(squared_norm)
    tiny = jnp.finfo(jnp.float32).tiny
    factor = radius / jnp.sqrt(jnp.maximum(squared_norm, jnp.maximum(jnp.square(radius), tiny)))
    return residual * factor[:, None, None, None].astype(residual.dtype)
