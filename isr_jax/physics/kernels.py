"""Blur kernels: checked, padded, turned, and made."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from isr_jax.config import ConfigError

Kernels = Float[Array, "_ _ _ _"]
"""(1 or N, rows, cols, 1 or C), the centre at (rows // 2, cols // 2)."""


def as_kernels(kernel: Any, *, allow_zero_sum: bool = False) -> Kernels:
    """Returns blur kernels in the one form that the operators take, (1 or N, rows, cols, 1 or C), float32.

    Args:
      kernel: (k, k), one for all pictures; (N, k, k), one a picture; (N, k, k, C), one a channel; or a sequence of
        kernels of several sizes, one a picture, which are padded to one size. NumPy arrays are checked for values, too.
      allow_zero_sum: Whether a kernel may have the sum 0, as a derivative has.
    Raises:
      ConfigError: If it has another shape, a value that is not finite, or the sum 0.
    """
    if isinstance(kernel, list | tuple):
        several = all(getattr(k, "ndim", None) == 2 for k in kernel)
        kernel = pad_kernels([np.asarray(k) for k in kernel]) if several else np.asarray(kernel)
    if kernel.ndim not in (2, 3, 4) or 0 in kernel.shape:
        raise ConfigError(f"a blur kernel has shape (k, k), (N, k, k) or (N, k, k, C), not {tuple(kernel.shape)}")
    if isinstance(kernel, np.ndarray):
        if kernel.dtype.kind not in "fiu":
            raise ConfigError(f"a blur kernel holds numbers, not {kernel.dtype}")
        if not np.isfinite(kernel).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(kernel))[0])
            raise ConfigError(f"the blur kernel holds {kernel[place]} at {place}; it must be finite")
        sums = kernel.sum(axis=(-2, -1) if kernel.ndim < 4 else (1, 2), dtype=np.float64)
        size = np.abs(kernel).sum(axis=(-2, -1) if kernel.ndim < 4 else (1, 2), dtype=np.float64)
        if not allow_zero_sum and np.any(np.abs(sums) <= 1e-6 * size):
            raise ConfigError(
                "the blur kernel has the sum 0, so all pictures would be black: divide by a sum that is not"
            )
    kernel = jnp.asarray(kernel, jnp.float32)
    if kernel.ndim == 2:
        kernel = kernel[None]
    return kernel if kernel.ndim == 4 else kernel[..., None]


def pad_kernels(kernels: Sequence[Shaped[np.ndarray, "..."]], size: int | None = None) -> np.ndarray:
    """Pads kernels (k, k) of several sizes with zeros to one, the centres on each other: (N, size, size).

    A hundred kernels padded to one size are one compilation.

    Args:
      kernels: Each with its centre at (rows // 2, cols // 2).
      size: Side of the result; the largest side of the kernels by default.
    Raises:
      ConfigError: If there is no kernel, one has another number of axes, or one is larger than `size`.
    """
    if not kernels or any(k.ndim != 2 for k in kernels):
        raise ConfigError(f"kernels to be padded are (k, k) each, not {[k.shape for k in kernels]}")
    largest: int = max(max(k.shape) for k in kernels)
    size = size or largest
    if largest > size:
        raise ConfigError(f"a kernel of {largest} pixels does not fit into {size}")
    padded = np.zeros((len(kernels), size, size), np.result_type(*kernels))
    for i, k in enumerate(kernels):
        top, left = (size // 2 - side // 2 for side in k.shape)
        if top + k.shape[0] > size or left + k.shape[1] > size:  # even in odd: the centre leans
            raise ConfigError(f"a kernel of {k.shape[0]}x{k.shape[1]} has its centre off that of {size}x{size}")
        padded[i, top : top + k.shape[0], left : left + k.shape[1]] = k
    return padded


def turned_kernel(kernel: Kernels, turns: int, flip: bool) -> Kernels:
    """Returns the kernels of pictures that are turned as `isr_jax.physics.physics.turn` does; odd sides only."""
    return jnp.rot90(kernel[:, :, ::-1] if flip else kernel, turns, axes=(1, 2))


def convolve_kernels(a: Kernels, b: Kernels) -> Kernels:
    """Returns the kernel of one blur after the other."""

    def one(a: Array, b: Array) -> Array:
        a = jnp.pad(a, [(side - 1, side - 1) for side in b.shape])  # one of the two has to contain the other
        return jax.scipy.signal.convolve2d(a, b, mode="valid", precision=jax.lax.Precision.HIGHEST)

    count, channels = max(a.shape[0], b.shape[0]), max(a.shape[3], b.shape[3])
    a, b = (jnp.broadcast_to(k, (count, *k.shape[1:3], channels)) for k in (a, b))
    # The centre of the full convolution is at the sum of the centres; a row or column of zeros puts it in the middle.
    full = jax.vmap(jax.vmap(one, -1, -1))(a, b)
    pads = [
        (0, max(0, 2 * (x // 2 + y // 2) + 1 - (x + y - 1))) for x, y in zip(a.shape[1:3], b.shape[1:3], strict=True)
    ]
    return jnp.pad(full, ((0, 0), *pads, (0, 0)))


def transfer(kernel: Kernels, size: tuple[int, int], *, half: bool = True, phase: tuple[int, int] = (0, 0)) -> Array:
    """Returns the Fourier transform of kernels whose centre is moved to the first pixel.

    Args:
      kernel: No larger than `size`.
      size: Height and width of the pictures.
      half: Leave out what follows by symmetry, as `rfft2` does: (N, H, W // 2 + 1, C) instead of (N, H, W, C).
      phase: Row and column that shall come to lie on the first pixel, counted from the centre.
    """
    rows, cols = kernel.shape[1:3]
    pads = ((0, 0), (0, size[0] - rows), (0, size[1] - cols), (0, 0))
    centred = jnp.roll(jnp.pad(kernel, pads), (-(rows // 2) - phase[0], -(cols // 2) - phase[1]), axis=(1, 2))
    return (jnp.fft.rfft2 if half else jnp.fft.fft2)(centred, axes=(1, 2))


def gaussian_kernel(
    std: Float[Array, "2"] | Sequence[float] | float, angle: Float[Array, ""] | float = 0.0, radius: int | None = None
) -> Float[Array, "size size"]:
    """Returns a Gaussian of sum 1.

    Args:
      std: Standard deviation in pixels, or one along each of two axes.
      angle: Of the first axis against the width, radians, towards the height.
      radius: The kernel's side is 2 radius + 1; 3 standard deviations by default (`std` must then be plain numbers).
    """
    if radius is None:
        radius = max(1, math.ceil(3 * float(np.max(np.asarray(std)))))
    std = jnp.broadcast_to(jnp.asarray(std, jnp.float32), (2,))
    offsets = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
    y, x = jnp.meshgrid(offsets, offsets, indexing="ij")
    along, across = jnp.cos(angle) * x + jnp.sin(angle) * y, jnp.cos(angle) * y - jnp.sin(angle) * x
    std = jnp.maximum(std, 1e-2)  # of a single pixel, instead of 0 / 0
    kernel = jnp.exp(-0.5 * ((along / std[0]) ** 2 + (across / std[1]) ** 2))
    return kernel / kernel.sum()


MOTION_POINTS = 400
"""Points of a trajectory."""


def motion_kernel(key: Array, size: int, length: tuple[float | int, float | int]) -> Float[Array, "size size"]:
    """Returns the blur of a camera that moves while it exposes: a random trajectory one to two pixels wide, of sum 1.

    The direction drifts, turns as a whole, and in half of the cases jumps once; the speed varies; the centre of mass
    lies up to two pixels off the middle; half of the trajectories are blurred a little more. A trajectory that would
    leave the kernel is made smaller.

    Args:
      key: Of the draw.
      size: Side of the kernel, odd, at least 7.
      length: Range of the length of the trajectory, pixels.
    """
    uniform_key, normal_key = jax.random.split(key)
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    sums = jnp.tril(jnp.ones((MOTION_POINTS, MOTION_POINTS)))  # jnp.cumsum takes seconds to compile on CPU
    normal = jax.random.normal(normal_key, (2 * MOTION_POINTS + 1,))
    drift, speed = product(normal[1:].reshape(2, -1), sums.T)
    shape = [(0.02, 0.25), (0.3, 1), (-2.5, 2.5), (0, 2 * np.pi), (0, 1), length, (0.3, 0.7)]
    low, high = jnp.array([*shape, (-2, 2), (-2, 2), (0, 1), (0, 1)]).T
    draws = low + (high - low) * jax.random.uniform(uniform_key, low.shape)
    unrest, drifting, turn, start, moment, total, std, *moved, jumps, softened = draws
    time = jnp.linspace(0, 1, MOTION_POINTS)
    direction = start + drift * unrest * drifting + 2 * normal[0] * time
    direction = direction + jnp.where((jumps < 0.5) & (time > moment), turn, 0)
    path = total / MOTION_POINTS * product(jnp.stack([jnp.sin(direction), jnp.cos(direction)]), sums.T)  # y, x
    exposure = jnp.abs(1 + 0.08 * speed) + 0.05
    exposure = exposure / exposure.sum()
    path = path - (path * exposure).sum(1, keepdims=True)
    moved = jnp.stack(moved)[:, None]
    room = size // 2 - 1 - jnp.abs(moved).max()
    path = path * jnp.minimum(1, room / jnp.abs(path).max()) + moved
    pixels = jnp.arange(size) - size // 2
    # A point is spread over four pixels by the product of a triangle in y and one in x; their sum is a matrix product.
    rows, cols = jnp.maximum(0, 1 - jnp.abs(path[:, :, None] - pixels))
    std = jnp.where(softened < 0.5, std, 1e-2)
    soft = jnp.exp(-0.5 * ((pixels[:, None] - pixels) / std) ** 2)
    kernel = product(product(rows * exposure[:, None], soft).T, product(cols, soft))
    return kernel / kernel.sum()
