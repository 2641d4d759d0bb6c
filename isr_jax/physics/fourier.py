r"""The data step in closed form, where Fourier diagonalises it: a blur B, periodic, and a decimation S.

    min_x  1/2 ||S B x - y||^2 + 1/2 (x - z)^T D (x - z),   D diagonal in Fourier space

    x^ = z^ + conj(b)/d T[ (y^ - A(b z^)) / (1 + A(|b|^2 / d)) ]

with b the transform of the kernel, d the diagonal of D, A the mean over the scale x scale aliases, T their tiling. The
usual form, D^{-1} (r - conj(b) T[...]), cancels catastrophically in float32 where d is small; this one does not.

References: Zhao et al. 2016, Fast single image super-resolution using a new analytical solution for l2-l2 problems.
"""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from isr_jax.config import ConfigError
from isr_jax.physics.kernels import Kernels, transfer

Images = Float[Array, "batch _ _ _"]

FLATTEST = 1e-6
"""What is added to |gradient|^2, so that the mean of a picture is determined where H does not see it."""


class EquivalentBlur(struct.PyTreeNode):
    """H x = the pixels `phase`, `phase` + `scale`, ... of a convolution of x."""

    kernel: Kernels
    scale: int = struct.field(pytree_node=False)
    phase: tuple[int, int] = struct.field(pytree_node=False)
    periodic: bool = struct.field(pytree_node=False)
    """Whether that holds at the borders, too, those being periodic."""


def closed_form(blur: EquivalentBlur, y: Images, z: Images | None, weight: Any, *, smooth: bool = False) -> Images:
    """Returns the x that minimises 1/2 ||H x - y||^2 + weight/2 ||x - z||^2 for a periodic blur and decimation.

    Args:
      blur: H.
      y: The observation (N, h, w, C).
      z: What x shall be near to (N, H, W, C); None: 0.
      weight: For each picture or for all, positive; good down to 1e-6 in float32.
      smooth: Whether not x - z itself but its gradient shall be small: the solution without a network.
    Raises:
      ConfigError: If the kernel is larger than the pictures.
    """
    s = blur.scale
    height, width = y.shape[1] * s, y.shape[2] * s
    if blur.kernel.shape[1] > height or blur.kernel.shape[2] > width:
        raise ConfigError(
            f"the blur kernel is {blur.kernel.shape[1]}x{blur.kernel.shape[2]}, larger than the picture of "
            f"{height}x{width}"
        )
    b = transfer(blur.kernel, (height, width), half=False, phase=blur.phase)
    d = jnp.asarray(weight, jnp.float32).reshape(-1, 1, 1, 1)
    if smooth:
        d = d * _squared_gradient(height, width)[None, :, :, None]

    def aliases(q: Array) -> Array:
        return q.reshape(q.shape[0], s, height // s, s, width // s, q.shape[3]).mean((1, 3))

    residual, start = jnp.fft.fft2(y, axes=(1, 2)), 0
    if z is not None:
        start = jnp.fft.fft2(z, axes=(1, 2))
        residual = residual - aliases(b * start)
    d = jnp.broadcast_to(d, (d.shape[0], height, width, 1))
    residual = residual / (1 + aliases(jnp.abs(b) ** 2 / d))
    solution = start + jnp.conj(b) / d * jnp.tile(residual, (1, s, s, 1))
    return jnp.fft.ifft2(solution, axes=(1, 2)).real.astype(y.dtype)


def closed_form_tapered(
    blur: EquivalentBlur, y: Images, z: Images | None, weight: Any, *, smooth: bool = False
) -> Images:
    """Returns what `closed_form` does for pictures that are not periodic: extended, solved, cropped.

    The pictures are continued by their mirror images, which pass into each other before they meet at the seam.

    Args: As for `closed_form`.
    """
    s = blur.scale
    margin = max(blur.kernel.shape[1:3]) // s + 8  # two radii, and what a regularised inverse rings
    margins = [fast_size(n + margin) - n for n in y.shape[1:3]]
    y_wide, z_wide = y, z
    for axis, m in zip((1, 2), margins, strict=True):
        y_wide = _extend(y_wide, axis, m)
        z_wide = None if z_wide is None else _extend(z_wide, axis, m * s)
    return closed_form(blur, y_wide, z_wide, weight, smooth=smooth)[:, : y.shape[1] * s, : y.shape[2] * s]


def _extend(x: Images, axis: int, margin: int) -> Images:
    """Appends `margin` pixels that lead from the last pixel back to the first."""
    size = x.shape[axis]
    mirror = np.concatenate([np.arange(size), np.arange(size)[::-1]])
    after, before = mirror[(size + np.arange(margin)) % (2 * size)], mirror[np.arange(-margin, 0) % (2 * size)]
    t = (np.arange(margin) + 0.5) / margin
    shape = [1] * x.ndim
    shape[axis] = margin
    blend = jnp.asarray((t * t * (3 - 2 * t)).reshape(shape), x.dtype)
    seam = (1 - blend) * jnp.take(x, after, axis) + blend * jnp.take(x, before, axis)
    return jnp.concatenate([x, seam], axis)


@functools.cache
def fast_size(least: int) -> int:
    """Returns the smallest size of at least `least` whose only prime factors are 2, 3 and 5: quick to transform."""
    size = least
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 1


def _squared_gradient(height: int, width: int) -> Float[Array, "height width"]:
    """The transform of minus the Laplacian: |gradient|^2 of each frequency."""
    # Added in the program: as a constant of it, that of a large picture would be gigabytes.
    rows, cols = (4 * np.sin(np.pi * np.fft.fftfreq(n)) ** 2 for n in (height, width))
    return jnp.asarray(rows, jnp.float32)[:, None] + jnp.asarray(cols + FLATTEST, jnp.float32)
