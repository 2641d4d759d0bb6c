"""A picture in memory."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture as arrays, upright."""

    pixels: UInt[np.ndarray, "height width channels"]
    """Grey (1 channel) or RGB (3), uint8 or uint16, not premultiplied by alpha."""
    alpha: UInt[np.ndarray, "height width"] | None = None
    """Opacity, of the type of the pixels."""
    icc_profile: bytes | None = None
    """The colour profile the pixels are meant in; sRGB if there is none."""
    resolution: tuple[float | int, float | int] | None = None
    """Pixels per inch, horizontally and vertically."""
    format: str = "PNG"
    """The file format it was read from."""


def scaled_size(shape: tuple[int, ...], scale: float | int) -> tuple[int, int]:
    """Returns the height and width of a picture of a shape (H, W, ...) enlarged by any factor, at least 1 each."""
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
