"""Picture quality as the super-resolution field measures it: PSNR and SSIM on the Y channel, borders cropped."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped, UInt8

SSIM_WINDOW = 11
"""Side of the window of SSIM, pixels."""

SSIM_TAPS = np.exp(-((np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2) ** 2) / (2 * 1.5**2))
SSIM_TAPS /= SSIM_TAPS.sum()
"""A row of that window, and a column."""

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales of MS-SSIM, from the finest to the coarsest."""

MS_SSIM_SIDE = SSIM_WINDOW * 2 ** (len(MS_SSIM_WEIGHTS) - 1)
"""Shortest side of a picture that MS-SSIM can be taken of, pixels."""

METRICS = ("psnr_y", "ssim_y", "ssim_y_rounded", "psnr_rgb", "ssim_rgb")
"""What `score_picture` measures."""

PROTOCOL = {
    "colour_space": "Y of BT.601, limited range; rgb: RGB",
    "rounding": "pictures to 8 bits; Y not, but for ssim_y_rounded to whole levels",
    "ssim_window": "Gaussian 11x11, sigma 1.5, valid",
}
"""How, in words that go with every result."""


def score_picture(
    image: UInt8[np.ndarray, "height width channels"],
    truth: UInt8[np.ndarray, "height width channels"],
    border: int,
    metrics: Sequence[str] = METRICS,
) -> dict[str, float | None]:
    """Scores a super-resolved picture as the field does.

    Y is a real number, as in the published figures of networks. Rounded to whole levels, as MATLAB's rgb2ycbcr leaves
    it for 8-bit pictures, SSIM comes out about 0.001 lower: that is `ssim_y_rounded`, and never to be compared with the
    other.

    Args:
      image: The picture to judge, RGB or grey.
      truth: What it should be.
      border: Pixels that are left out on each side: as many as the scale.
      metrics: Which of `METRICS` to measure; SSIM takes far longer than PSNR.
    Returns: PSNR in dB, infinite where nothing differs; SSIM, None where the picture is smaller than its window.
    Raises:
      ValueError: If the shapes differ, nothing is left inside the border, or a metric is unknown.
    """
    pictures = {"rgb": (crop_border(image, border), crop_border(truth, border))}
    pictures["y"] = rgb_to_luma(pictures["rgb"][0]), rgb_to_luma(pictures["rgb"][1])
    pictures["y_rounded"] = np.round(pictures["y"][0]), np.round(pictures["y"][1])
    large_enough = min(pictures["rgb"][0].shape[:2]) >= SSIM_WINDOW
    scores: dict[str, float | None] = {}
    for metric in metrics:
        if metric not in METRICS:
            raise ValueError(f"{metric} is no metric; those are {', '.join(METRICS)}")
        kind, _, which = metric.partition("_")
        if kind == "psnr":
            scores[metric] = psnr(*pictures[which])
        else:
            scores[metric] = ssim(*pictures[which]) if large_enough else None
    return scores


def round_to_8_bits(values: Float[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Returns what a file would hold of a picture on 0..255, and what is scored: rounded, halves up, and clipped."""
    return round_to(values, np.uint8)


def round_to(values: Shaped[np.ndarray, "..."], dtype: Any) -> Shaped[np.ndarray, "..."]:
    """Returns the values as a type: integers rounded and clipped to its range, floating point as it is."""
    if np.issubdtype(dtype, np.floating):
        return values.astype(dtype)
    rounded = np.asarray(np.add(values, 0.5))
    np.floor(rounded, out=rounded)
    return np.clip(rounded, 0, np.iinfo(dtype).max, out=rounded).astype(dtype)


def psnr(
    image: Shaped[np.ndarray, "height width *channels"],
    reference: Shaped[np.ndarray, "height width *channels"],
    data_range: float | int = 255,
) -> float:
    """Returns the peak signal-to-noise ratio, 10 log10(data_range^2 / mean((image - reference)^2)), in dB.

    Args:
      image: The picture to judge, any real type.
      reference: The truth, of the same shape.
      data_range: Distance from black to white.
    Returns: PSNR over all pixels and channels; infinite where the pictures are equal.
    Raises:
      ValueError: If the shapes differ or the pictures are empty.
    Examples:
      >>> round(isr_jax.psnr(np.full((4, 4), 101, np.uint8), np.full((4, 4), 100, np.uint8)), 2)
      48.13
    """
    image, reference = np.asarray(image), np.asarray(reference)  # JAX's would stay in single precision
    _check_pair(image, reference)
    error = float(np.mean((image.astype(np.float64) - reference.astype(np.float64)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(data_range**2 / error)


def ssim(
    image: Shaped[np.ndarray, "height width *channels"],
    reference: Shaped[np.ndarray, "height width *channels"],
    data_range: float | int = 255,
) -> float:
    """Returns the structural similarity, averaged over positions and channels.

    Local statistics are taken with a Gaussian window of 11x11 pixels, sigma 1.5, only where it lies wholly inside the
    picture, with K1 = 0.01 and K2 = 0.03: the settings of the authors' ssim_index.m.

    Args:
      image: The picture to judge, (H, W) or (H, W, C), any real type.
      reference: The truth, of the same shape.
      data_range: Distance from black to white.
    Returns: SSIM, at most 1.
    Raises:
      ValueError: If the shapes differ or a side is shorter than the window.
    References: Wang, Bovik, Sheikh & Simoncelli, Image quality assessment, 2004.
    Examples:
      >>> picture = np.arange(144.0).reshape(12, 12)
      >>> isr_jax.ssim(picture, picture), round(isr_jax.ssim(picture, picture.T), 3)
      (1.0, 0.233)
    """
    image, reference = np.asarray(image), np.asarray(reference)  # JAX's would stay in single precision
    _check_pair(image, reference)
    if min(image.shape[:2]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs pictures of at least 11x11 pixels, not {image.shape[0]}x{image.shape[1]}")
    luminance, structure = ssim_maps(image.astype(np.float64), reference.astype(np.float64), data_range)
    return float(np.mean(luminance * structure))


def ms_ssim(
    image: Shaped[np.ndarray, "height width *channels"],
    reference: Shaped[np.ndarray, "height width *channels"],
    data_range: float | int = 255,
) -> float:
    """Returns the multi-scale structural similarity, averaged over channels.

    The product over five scales of the mean contrast and structure of SSIM, at the coarsest scale of all of SSIM, each
    to the power of its weight; from scale to scale, the mean of 2x2 pixels, odd sides continued by their last pixel:
    the authors' msssim.m. A negative mean, which has no such power, counts as 0.

    Args:
      image: The picture to judge, (H, W) or (H, W, C), any real type.
      reference: The truth, of the same shape.
      data_range: Distance from black to white.
    Returns: MS-SSIM, from 0 to 1.
    Raises:
      ValueError: If the shapes differ or a side is shorter than `MS_SSIM_SIDE`.
    References: Wang, Simoncelli & Bovik, Multi-scale structural similarity for image quality assessment, 2003.
    """
    _check_pair(image, reference)
    if min(image.shape[:2]) < MS_SSIM_SIDE:
        least, size = f"{MS_SSIM_SIDE}x{MS_SSIM_SIDE}", "x".join(map(str, image.shape[:2]))
        raise ValueError(f"MS-SSIM needs pictures of at least {least} pixels, not {size}")
    x, y = image.astype(np.float64), reference.astype(np.float64)
    product: Any = 1.0
    for scale, weight in enumerate(MS_SSIM_WEIGHTS, start=1):
        luminance, structure = ssim_maps(x, y, data_range)
        means = np.mean(structure if scale < len(MS_SSIM_WEIGHTS) else luminance * structure, axis=(0, 1))
        product = product * np.maximum(means, 0) ** weight
        x, y = _halve(x), _halve(y)
    return float(np.mean(product))


def rgb_to_luma(image: Shaped[np.ndarray, "height width *channels"]) -> Float[np.ndarray, "height width"]:
    """Returns the limited-range BT.601 luma: Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255, not rounded.

    Args:
      image: RGB (H, W, 3) on 0..255. Grey pictures, (H, W) or (H, W, 1), count as RGB with equal channels: they are put
        on the same limited range, so that their PSNR can be averaged with the others'.
    Returns: float64 luma from 16 (black) to 235 (white).
    Raises:
      ValueError: If the picture has neither 3 channels nor 1.
    """
    pixels = image.astype(np.float64)
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return 16 + pixels @ (np.array([65.481, 128.553, 24.966]) / 255)
    if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 1):
        return 16 + pixels.reshape(pixels.shape[:2]) * (219 / 255)
    raise ValueError(f"luma needs an RGB or grey picture, not one of shape {image.shape}")


def crop_border(
    image: Shaped[np.ndarray, "height width *channels"], border: int
) -> Shaped[np.ndarray, "new_height new_width *channels"]:
    """Cuts `border` pixels off every side.

    Raises:
      ValueError: If nothing would be left, or `border` is negative.
    """
    height, width = image.shape[:2]
    if border < 0 or min(height, width) <= 2 * border:
        raise ValueError(f"cannot cut a border of {border} pixels off a picture of {height}x{width}")
    return image[border : height - border, border : width - border]


def _check_pair(image: np.ndarray, reference: np.ndarray) -> None:
    if image.shape != reference.shape or image.size == 0:
        raise ValueError(f"pictures to compare must have one shape and pixels, not {image.shape} and {reference.shape}")


def ssim_maps(x: Any, y: Any, data_range: float | int, window_mean: Callable[[Any], Any] | None = None) -> tuple:
    """Returns the two factors of SSIM at each position of the window: luminance, and contrast with structure.

    Args:
      x: Pictures (H, W, ...); any arrays that `window_mean` takes.
      y: Others, of the same shape.
      data_range: Distance from black to white.
      window_mean: Returns the means under the window; NumPy's, of the first two axes, by default.
    """
    window_mean = window_mean or _window_mean
    mean_x, mean_y = window_mean(x), window_mean(y)
    variance_x = window_mean(x * x) - mean_x**2
    variance_y = window_mean(y * y) - mean_y**2
    covariance = window_mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance, (2 * covariance + c2) / (variance_x + variance_y + c2)


def _halve(x: np.ndarray) -> np.ndarray:
    """Returns the means of 2x2 pixels."""
    odd = [(0, side % 2) for side in x.shape[:2]] + [(0, 0)] * (x.ndim - 2)
    x = np.pad(x, odd, mode="edge")
    return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4


def _window_mean(x: np.ndarray) -> np.ndarray:
    """Filters the first two axes with the Gaussian window, one after the other, "valid" positions only."""
    for axis in (0, 1):
        rows = np.moveaxis(x, axis, 0)
        size = len(rows) - (SSIM_WINDOW - 1)
        total = SSIM_TAPS[0] * rows[:size]
        for start in range(1, SSIM_WINDOW):
            total += SSIM_TAPS[start] * rows[start : start + size]
        x = np.moveaxis(total, 0, axis)
    return x
