"""The numbers of JPEG: its transform, its colours, and libjpeg's tables of quantisation. NumPy only.

References: ITU-T T.81, annexes A and K; the scale of the tables is libjpeg's.
"""

import numpy as np
from jaxtyping import Float, Shaped

LUMA_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
CHROMA_TABLE = np.full((8, 8), 99, np.float32)
CHROMA_TABLE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
"""From RGB to luma and the two chroma, whose middle is 0 here."""
_k, _n = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
DCT = (np.sqrt(np.where(_k == 0, 1, 2) / 8) * np.cos(np.pi * (2 * _n + 1) * _k / 16)).astype(np.float32)
"""Orthonormal, frequency by pixel."""


def quality_tables(quality: int) -> Float[np.ndarray, "2 8 8"]:
    """Returns libjpeg's tables for luma and chroma at a quality from 1 to 100."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip(np.floor((np.stack([LUMA_TABLE, CHROMA_TABLE]) * percent + 50) / 100), 1, 255)


def table_quality(table: Shaped[np.ndarray, "8 8"]) -> int:
    """Returns the quality from 1 to 100 whose luma table by libjpeg is nearest to a file's, in logarithms."""
    wanted = np.log(np.asarray(table, np.float64))
    return min(range(1, 101), key=lambda quality: float(np.abs(np.log(quality_tables(quality)[0]) - wanted).sum()))


def block_transform(plane: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "rows cols 8 8"]:
    """Returns the coefficients of the 8x8 blocks of a plane, whose sides are multiples of 8."""
    height, width = plane.shape
    blocks = plane.reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2)
    return DCT @ blocks @ DCT.T
