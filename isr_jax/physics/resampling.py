"""Separable resampling of pictures by an integer factor: MATLAB's bicubic reduction, and enlargement phase by phase."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from isr_jax.physics.physics import Images
from isr_jax.physics.resize import keys_cubic, resize_matrix

DENSE_SIZE = 64
"""LR pictures up to this side are made by whole matrices: half the time of the band alone, which wins from 128 on."""

einsum = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)
"""On accelerators the default precision of products would be off by up to half a grey level."""


@functools.cache
def bicubic_taps(scale: int) -> Float[np.ndarray, "blocks scale"]:
    """Returns the weights that MATLAB's bicubic reduction gives to the pixels of the blocks around an LR pixel."""
    matrix, row = resize_matrix(16 * scale, 16), 8
    blocks = matrix[row].reshape(-1, scale)
    used = np.flatnonzero(np.any(np.abs(blocks) > 1e-9, axis=1)) - row
    reach = int(np.max(np.abs(used)))
    return blocks[row - reach : row + reach + 1]


def downscale(x: Images, scale: int) -> Images:
    """Reduces pictures by MATLAB's imresize, bicubic with antialiasing: H x = A_height x A_width^T.

    Sides must be multiples of the scale.
    """
    height, width = x.shape[1:3]
    if isinstance(height, int) and isinstance(width, int) and max(height, width) <= DENSE_SIZE * scale:
        rows, columns = (resize_matrix(size, size // scale).astype(np.float32) for size in (height, width))
        return einsum("jw,niwc->nijc", columns, einsum("ih,nhwc->niwc", rows, x))
    weights = bicubic_taps(scale)
    for axis in (1, 2):
        x = _downscale_axis(x, weights, axis)
    return x


def _downscale_axis(x: Array, weights: np.ndarray, axis: int) -> Array:
    # A matrix product over the pixels of a block, then a sum over the blocks around. As one sum of strided slices it
    # would fuse with its neighbours, and XLA:CPU takes minutes to compile the derivative.
    num_blocks, scale = weights.shape
    reach = num_blocks // 2
    size = x.shape[axis] // scale
    padded = _pad_axis(x, axis, reach * scale, reach * scale, "symmetric")
    blocks = padded.reshape(*x.shape[:axis], size + 2 * reach, scale, *x.shape[axis + 1 :])
    products = jnp.tensordot(weights.astype(np.float32), blocks, axes=(1, axis + 1), precision=lax.Precision.HIGHEST)
    return sum((lax.slice_in_dim(products[k], k, k + size, axis=axis) for k in range(num_blocks)), jnp.zeros(()))


def _pad_axis(x: Array, axis: int, before: int, after: int, mode: str) -> Array:
    padding = [(0, 0)] * x.ndim
    padding[axis] = (before, after)
    return jnp.pad(x, padding, mode=mode)


@functools.cache
def bicubic_phases(scale: int) -> Float[np.ndarray, "scale taps"]:
    """Returns the weights of MATLAB's bicubic enlargement, one row a phase, the taps centred."""
    matrix = resize_matrix(16, 16 * scale)
    blocks = matrix[8 * scale : 9 * scale]  # the rows of the output block of input pixel 8
    reach = int(np.max(np.abs(np.flatnonzero(np.any(np.abs(blocks) > 1e-9, axis=0)) - 8)))
    return blocks[:, 8 - reach : 8 + reach + 1]


def catmull_rom_phases(scale: int, phase: int = 0) -> Float[np.ndarray, "scale 5"]:
    """Returns Catmull-Rom weights (Keys 1981, a = -1/2) where LR pixel i lies on HR pixel scale i + phase.

    One row for each HR pixel of a block, five centred taps.
    """
    at = (np.arange(scale) - phase) / scale  # in LR pixels, between -1 and 1
    return keys_cubic(at[:, None] - np.arange(-2, 3))


def upscale(
    y: Images, rows: Float[np.ndarray, "scale taps"], cols: Float[np.ndarray, "scale taps"], border: str
) -> Images:
    """Enlarges pictures along the height and then the width, by the weights of each phase."""
    return _upscale_axis(_upscale_axis(y, rows, 1, border), cols, 2, border)


def _upscale_axis(y: Array, weights: Float[np.ndarray, "scale taps"], axis: int, border: str) -> Array:
    """Interleaves one filtered copy of y per output phase along an axis; the taps are centred."""
    phases = filter_phases(y, weights, axis, border)
    return phases.reshape(*y.shape[:axis], y.shape[axis] * len(weights), *y.shape[axis + 1 :])


def filter_phases(y: Array, weights: Float[np.ndarray, "scale taps"], axis: int, border: str) -> Array:
    """Returns one filtered copy of y per phase, on a new axis behind `axis`."""
    taps, size = weights.shape[1], y.shape[axis]
    padded = _pad_axis(y, axis, taps // 2, taps // 2, border)
    windows = jnp.stack([lax.slice_in_dim(padded, k, k + size, axis=axis) for k in range(taps)])
    return jnp.moveaxis(
        jnp.tensordot(weights.astype(np.float32), windows, axes=1, precision=lax.Precision.HIGHEST), 0, axis + 1
    )
