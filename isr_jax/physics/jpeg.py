"""JPEG, without its lossless part: what a file does to the pixels, as a function of the quality.

References: ITU-T T.81, annexes A and K; the scale of the tables is libjpeg's.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from isr_jax.physics.resampling import einsum

_LUMA_TABLE = np.array(
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
_CHROMA_TABLE = np.full((8, 8), 99, np.float32)
_CHROMA_TABLE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
_product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
_k, _n = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
_DCT = (np.sqrt(np.where(_k == 0, 1, 2) / 8) * np.cos(np.pi * (2 * _n + 1) * _k / 16)).astype(np.float32)


def compress_jpeg(
    x: Float[Array, "height width channels"], quality: Float[Array, ""] | float
) -> Float[Array, "height width channels"]:
    """Returns the picture as it comes back from a JPEG file, rounded, without chroma subsampling.

    Args:
      x: Grey or RGB, 0..255.
      quality: 1 to 100, as libjpeg counts it.
    """
    height, width, channels = x.shape
    quality = jnp.asarray(quality, jnp.float32)
    percent = jnp.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    tables = jnp.stack([_LUMA_TABLE, _CHROMA_TABLE, _CHROMA_TABLE][:channels])
    tables = jnp.clip(jnp.floor((tables * percent + 50) / 100), 1, 255)
    planes = jnp.round(_product(x, _YCBCR.T)) if channels == 3 else x
    planes = planes - jnp.array([128.0, 0, 0][:channels])
    padded = jnp.pad(planes, ((0, -height % 8), (0, -width % 8), (0, 0)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // 8, 8, padded.shape[1] // 8, 8, channels)
    coefficients = einsum("ky,aybxc,lx->abckl", _DCT, blocks, _DCT)
    coefficients = jnp.round(coefficients / tables) * tables
    blocks = einsum("ky,abckl,lx->aybxc", _DCT, coefficients, _DCT)
    planes = jnp.round(blocks.reshape(padded.shape)[:height, :width]) + jnp.array([128.0, 0, 0][:channels])
    restored = _product(planes, np.linalg.inv(_YCBCR).T) if channels == 3 else planes
    return jnp.clip(jnp.round(restored), 0, 255)
