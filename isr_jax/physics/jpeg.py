"""JPEG, without its lossless part: what a file does to the pixels, as a function of the quality.

References: ITU-T T.81, annexes A and K; the scale of the tables is libjpeg's.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from isr_jax.physics.jpeg_tables import CHROMA_TABLE, DCT, LUMA_TABLE, YCBCR
from isr_jax.physics.resampling import einsum

product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


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
    tables = jnp.stack([LUMA_TABLE, CHROMA_TABLE, CHROMA_TABLE][:channels])
    tables = jnp.clip(jnp.floor((tables * percent + 50) / 100), 1, 255)
    planes = jnp.round(product(x, YCBCR.T)) if channels == 3 else x
    planes = planes - jnp.array([128.0, 0, 0][:channels])
    padded = jnp.pad(planes, ((0, -height % 8), (0, -width % 8), (0, 0)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // 8, 8, padded.shape[1] // 8, 8, channels)
    coefficients = einsum("ky,aybxc,lx->abckl", DCT, blocks, DCT)
    coefficients = jnp.round(coefficients / tables) * tables
    blocks = einsum("ky,abckl,lx->aybxc", DCT, coefficients, DCT)
    planes = jnp.round(blocks.reshape(padded.shape)[:height, :width]) + jnp.array([128.0, 0, 0][:channels])
    restored = product(planes, np.linalg.inv(YCBCR).T) if channels == 3 else planes
    return jnp.clip(jnp.round(restored), 0, 255)
