"""A picture in memory."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt

from isr_jax.pictures.metadata import NO_METADATA, Metadata


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture as arrays, upright.

    Examples:
      >>> opacity = np.full((4, 6), 128, np.uint8)
      >>> isr_jax.write_image("glass.png", isr_jax.Picture(pixels=np.zeros((4, 6, 3), np.uint8), alpha=opacity))
      >>> isr_jax.read_image("glass.png").alpha.max()
      np.uint8(128)
    """

    pixels: UInt[np.ndarray, "height width channels"]
    """Grey (1 channel) or RGB (3), uint8 or uint16, not premultiplied by alpha."""
    alpha: UInt[np.ndarray, "height width"] | None = None
    """Opacity, of the type of the pixels."""
    icc_profile: bytes | None = None
    """The colour profile the pixels are meant in; sRGB if there is none."""
    cicp: tuple[int, int, int, int] | None = None
    """The colours by the code points of ITU-T H.273 (primaries, transfer, matrix, full range), as PNG's cICP chunk."""
    resolution: tuple[float | int, float | int] | None = None
    """Pixels per inch, horizontally and vertically."""
    metadata: Metadata = NO_METADATA
    """What the file says of the picture: copyright, date, camera."""
    format: str = "PNG"
    """The file format it was read from."""
    remarks: tuple[str, ...] = ()
    """What its reader should be told: damage that was mended, colours that could not be kept; one sentence each."""


def scaled_size(shape: tuple[int, ...], scale: float | int) -> tuple[int, int]:
    """Returns the height and width of a picture of a shape (H, W, ...) enlarged by any factor, at least 1 each."""
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
