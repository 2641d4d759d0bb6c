"""Noise level of a picture from its wavelet coefficients."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

# Daubechies 7, decomposition high-pass (Daubechies 1992, table 6.1; the digits of PyWavelets' "db7").
DB7_HIGH_PASS = np.array(
    [
        -0.07785205408500918,
        0.3965393194819173,
        -0.7291320908462351,
        0.4697822874051931,
        0.14390600392856498,
        -0.22403618499387498,
        -0.07130921926683026,
        0.08061260915108308,
        0.03802993693501441,
        -0.01657454163066688,
        -0.01255099855609984,
        0.0004295779729213665,
        0.0018016407040474908,
        0.00035371379997452024,
    ]
)


def estimate_noise_std(images: Float[Array, "batch height width channels"]) -> Float[Array, " batch"]:
    r"""Estimates the standard deviation of white Gaussian noise in each image.

    The median absolute deviation of the finest diagonal wavelet coefficients d, median(|d|) / 0.6745, averaged
    over the channels: a picture has few large coefficients there, noise has many small ones.

    Args:
      images: Pictures in any unit.
    Returns: Noise level per image, in the unit of `images`.
    References: Donoho & Johnstone 1994; the released code of Umer et al. 2020.
    Note: As there, the median of an even count is the lower of the two middle values, and the border is reflected.
      The released code estimates on 0..1 and scales back; the estimate is proportional to the image, so this does not.
    """
    magnitude = _magnitudes(images, jnp)
    middle = (magnitude.shape[1] - 1) // 2
    # Not [:, middle]: under export the size, and so the middle, is a symbol.
    median = lax.dynamic_index_in_dim(jnp.sort(magnitude, axis=1), jnp.asarray(middle), axis=1, keepdims=False)
    return jnp.mean(median, axis=-1) / 0.6745


def measure_noise_std(images: Float[np.ndarray, "batch height width channels"]) -> Float[np.ndarray, " batch"]:
    """Returns what `estimate_noise_std` does, by NumPy: without a program for each size of pictures."""
    magnitude = _magnitudes(images, np)
    middle = (magnitude.shape[1] - 1) // 2
    median = np.partition(magnitude, middle, axis=1)[:, middle]
    return (median.mean(axis=-1) / 0.6745).astype(np.float32)


def _magnitudes(images: Any, xp: Any) -> Any:
    """Returns the sizes of the finest diagonal wavelet coefficients (N, positions, C); `xp` is NumPy or JAX's."""
    coefficients = images.astype(np.float32)
    for axis in (1, 2):
        coefficients = _filter_and_halve(coefficients, axis, xp)
    return xp.abs(coefficients).reshape(images.shape[0], -1, images.shape[-1])


def _filter_and_halve(x: Any, axis: int, xp: Any) -> Any:
    """Correlates with the high-pass filter along one axis and keeps every second value."""
    taps = len(DB7_HIGH_PASS)
    width = [(0, 0)] * x.ndim
    width[axis] = (taps // 2, taps // 2)
    padded = xp.pad(x, width, mode="reflect")
    count = (padded.shape[axis] - taps) // 2 + 1
    windows = [_every_second(padded, axis, start, count) for start in range(taps)]
    return sum(float(tap) * window for tap, window in zip(DB7_HIGH_PASS, windows, strict=True))  # pyright: ignore


def _every_second(x: Any, axis: int, start: int, count: Any) -> Any:
    index = [slice(None)] * x.ndim
    index[axis] = slice(start, start + 2 * (count - 1) + 1, 2)
    return x[tuple(index)]
