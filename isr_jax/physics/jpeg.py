"""JPEG, without its lossless part: what a file does to the pixels, as a function of the quality; and as a physics.

References: ITU-T T.81, annexes A and K; the scale of the tables, and how chroma is enlarged, are libjpeg's.
"""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float

from isr_jax.config import ConfigError
from isr_jax.physics.jpeg_tables import CHROMA_TABLE, DCT, LUMA_TABLE, YCBCR
from isr_jax.physics.resampling import einsum
from isr_jax.physics.sampling import Identity

product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)

ERROR_PER_STEP = 3.5
"""Variance of what a file of a photograph gets wrong, for each unit of what it would be if no coefficient were zero."""


class Jpeg(Identity, kw_only=False):
    """A JPEG file of the picture: y = x and an error whose size, not whose value, is known from the quality.

    Before a reduction and a blur, as in `Jpeg(75) @ Bicubic(4)`, it tells a network of `ERDConfig.error_plane`
    how much to remove. What the very coefficients of a file say is `isr_jax.physics.jpeg_constraint`.

    Args:
      quality: 1 to 100 as libjpeg counts it, for all pictures or (N,) for each; infinite: not compressed.
    Raises:
      ConfigError: If it is none of those.

    Examples:
      >>> physics = isr_jax.Jpeg(75) @ isr_jax.Bicubic(4)
      >>> physics.scale, round(float(physics.error_std[0]), 1)
      (4, 5.8)
    """

    quality: Any

    def __post_init__(self) -> None:
        # JAX rebuilds the object around anything, 0 and None among it.
        numbers = isinstance(self.quality, int | float | list | tuple | np.generic | np.ndarray | Array)
        if not numbers or isinstance(self.quality, Tracer) or (isinstance(self.quality, int) and self.quality == 0):
            return
        quality = np.atleast_1d(np.asarray(self.quality, np.float32))
        if quality.ndim > 1 or not ((quality >= 1) & ((quality <= 100) | np.isinf(quality))).all():
            raise ConfigError(f"`quality` of a JPEG is {self.quality}; it is 1 to 100, for all pictures or for each")
        object.__setattr__(self, "quality", jnp.asarray(quality))

    def axes(self) -> Any:
        """Returns 0 where there is one quality a picture."""
        return self.replace(quality=0 if self.quality.shape[0] > 1 else None)

    @property
    def error_std(self) -> Float[Array, " batch"]:
        """The root of ERROR_PER_STEP times the root mean square of uniform errors of the luma table's steps.

        Within a third of what it is, from quality 10 to 90, for photographs reduced by 4 and stored with 4:2:0.
        """
        if not hasattr(self.quality, "shape"):
            raise ConfigError(f"`quality` of a JPEG is {self.quality!r:.40}; it is 1 to 100")
        uniform = jnp.sqrt(jnp.mean(jnp.square(_tables(self.quality[:, None, None], LUMA_TABLE)), (1, 2)) / 12)
        return jnp.where(jnp.isinf(self.quality), 0.0, jnp.sqrt(ERROR_PER_STEP * uniform))


def compress_jpeg(
    x: Float[Array, "height width channels"], quality: Float[Array, ""] | float, *, subsampled: Any = False
) -> Float[Array, "height width channels"]:
    """Returns the picture as it comes back from a JPEG file, rounded.

    Args:
      x: Grey or RGB, 0..255.
      quality: 1 to 100, as libjpeg counts it.
      subsampled: Whether 2x2 pixels share their chroma (4:2:0); it may be traced.
    """
    quality = jnp.asarray(quality, jnp.float32)
    if x.shape[2] == 1:
        return jnp.clip(_quantise(x[..., 0] - 128, _tables(quality, LUMA_TABLE)) + 128, 0, 255)[..., None]
    planes = jnp.round(product(x, YCBCR.T))
    luma = _quantise(planes[..., 0] - 128, _tables(quality, LUMA_TABLE)) + 128
    table = _tables(quality, CHROMA_TABLE)

    def chroma(plane: Array) -> Array:
        if subsampled is False:
            return _quantise(plane, table)
        halved = _enlarge(_quantise(_halve(plane), table))[: plane.shape[0], : plane.shape[1]]
        return jnp.where(subsampled, halved, _quantise(plane, table))

    planes = jnp.stack([luma, chroma(planes[..., 1]), chroma(planes[..., 2])], axis=-1)
    return jnp.clip(jnp.round(product(planes, np.linalg.inv(YCBCR).T)), 0, 255)


def _tables(quality: Array, table: np.ndarray) -> Array:
    percent = jnp.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    return jnp.clip(jnp.floor((table * percent + 50) / 100), 1, 255)


def _quantise(plane: Float[Array, "height width"], table: Array) -> Float[Array, "height width"]:
    """Rounds the coefficients of each 8x8 block, and then the pixels."""
    height, width = plane.shape
    padded = jnp.pad(plane, ((0, -height % 8), (0, -width % 8)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // 8, 8, padded.shape[1] // 8, 8)
    coefficients = jnp.round(einsum("ky,aybx,lx->abkl", DCT, blocks, DCT) / table) * table
    return jnp.round(einsum("ky,abkl,lx->aybx", DCT, coefficients, DCT)).reshape(padded.shape)[:height, :width]


def _halve(plane: Float[Array, "height width"]) -> Float[Array, "rows cols"]:
    padded = jnp.pad(plane, ((0, plane.shape[0] % 2), (0, plane.shape[1] % 2)), mode="edge")
    return jnp.round(padded.reshape(padded.shape[0] // 2, 2, -1, 2).mean((1, 3)))


def _enlarge(plane: Float[Array, "rows cols"]) -> Float[Array, "height width"]:
    """Enlarges by 2, each new pixel from the two nearest by 3/4 and 1/4 ("fancy upsampling")."""
    for axis in (0, 1):
        ends = [(int(a == axis), int(a == axis)) for a in (0, 1)]
        wide = jnp.moveaxis(jnp.pad(plane, ends, mode="edge"), axis, 0)
        before, own, after = wide[:-2], wide[1:-1], wide[2:]
        both = jnp.stack([(3 * own + before) / 4, (3 * own + after) / 4], axis=1)
        plane = jnp.moveaxis(both.reshape(-1, both.shape[2]), 0, axis)
    return jnp.round(plane)
