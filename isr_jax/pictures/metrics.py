"""Picture quality as the super-resolution field measures it: PSNR and SSIM on the Y channel, borders cropped."""

import math

import numpy as np
from jaxtyping import Float, Shaped

SSIM_WINDOW = 11
"""Side of the window of SSIM, pixels."""


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
    """
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
    """
    _check_pair(image, reference)
    if min(image.shape[:2]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs pictures of at least 11x11 pixels, not {image.shape[0]}x{image.shape[1]}")
    x, y = image.astype(np.float64), reference.astype(np.float64)
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variance_x = _window_mean(x * x) - mean_x**2
    variance_y = _window_mean(y * y) - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float(np.mean(luminance * structure))


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


def _window_mean(x: np.ndarray) -> np.ndarray:
    """Filters the first two axes with the Gaussian window, one after the other, "valid" positions only."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    for axis in (0, 1):
        rows = np.moveaxis(x, axis, 0)
        size = len(rows) - 10
        total = window[0] * rows[:size]
        for start in range(1, 11):
            total += window[start] * rows[start : start + size]
        x = np.moveaxis(total, 0, axis)
    return x
