r"""What a JPEG file says for certain: every coefficient of the picture lies within half a step of the file's own.

    K = {y : |D S C y - q c| <= q / 2}      C: RGB to YCbCr,  S: averages of chroma,  D: the DCT of 8x8 blocks

K is convex, and its projection is exact in one pass: D is orthonormal and S S^T a multiple of the identity, so that
coefficients are clipped to their intervals and the change is given to all pixels of a chroma block alike. Nearest is
meant in YCbCr, where the file lives. For an enlarged picture the set is {x : H x in K}; the distance of H x to K has
the gradient H^T (H x - P(H x)), so that a data step towards `project(physics.apply(x))` in place of y is the data step
of the file. With H = 1 that is deblocking.

References: Zakhor 1992, Iterative procedures for reduction of blocking effects in transform image coding.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jaxtyping import Array, Bool, Float

from isr_jax.physics.jpeg import product
from isr_jax.physics.jpeg_file import JpegFile
from isr_jax.physics.jpeg_tables import DCT, YCBCR
from isr_jax.physics.physics import Images, Physics
from isr_jax.physics.resampling import einsum

Coefficients = Float[Array, "_ _ 8 8"]

ROUNDING = 0.004
"""Units of a coefficient that intervals are narrowed by at each end, so that float32 stays inside."""


class JpegConstraint(struct.PyTreeNode):
    """The pictures of `JpegFile.whole_size` that quantise to the coefficients of a file."""

    least: tuple[Coefficients, ...]
    most: tuple[Coefficients, ...]
    """Ends of the interval of each coefficient, of each plane; infinite where the file has no block."""
    sampling: tuple[int, int] = struct.field(pytree_node=False)

    def project(self, y: Images) -> Images:
        """Returns the nearest picture of the set, in YCbCr.

        Args:
          y: (1, H, W, 1 or 3) on 0..255, H and W those of `JpegFile.whole_size`.
        """
        planes = _to_planes(y)
        projected = []
        for k, (least, most) in enumerate(zip(self.least, self.most, strict=True)):
            found = self._transform(planes[k], k)
            change = einsum("ky,abkl,lx->aybx", DCT, jnp.clip(found, least, most) - found, DCT)
            rows, cols = self.sampling if k else (1, 1)
            plane = change.reshape(8 * change.shape[0], 8 * change.shape[2])
            projected.append(planes[k] + plane.repeat(rows, 0).repeat(cols, 1))
        return _from_planes(projected)

    def violated(self, y: Images) -> tuple[Bool[Array, "_ _ 8 8"], ...]:
        """Returns of each plane which coefficients of a picture would not be quantised to the file's."""
        inside = []
        for k, (least, most) in enumerate(zip(self.least, self.most, strict=True)):
            found = self._transform(_to_planes(y)[k], k)
            inside.append((found < least - ROUNDING) | (found > most + ROUNDING))
        return tuple(inside)

    def _transform(self, plane: Float[Array, "height width"], k: int) -> Coefficients:
        rows, cols = self.sampling if k else (1, 1)
        height, width = plane.shape
        plane = plane.reshape(height // rows, rows, width // cols, cols).mean((1, 3))
        blocks = plane.reshape(plane.shape[0] // 8, 8, plane.shape[1] // 8, 8)
        return einsum("ky,aybx,lx->abkl", DCT, blocks, DCT)


def jpeg_constraint(file: JpegFile, *, width: float = 1.0) -> JpegConstraint:
    """Returns the constraint that a file is.

    Args:
      file: From `read_jpeg`.
      width: Of the intervals in steps: 1 is what the quantisation allows. Less keeps the picture nearer to the decoded
        one, as the narrow set of Park & Kim 1999 does, and leaves room for rounding to 8 bits.
    """
    least, most = [], []
    for k, (coefficients, table) in enumerate(zip(file.coefficients, file.tables, strict=True)):
        rows, cols = file.sampling if k else (1, 1)
        whole = [n // (8 * step) for n, step in zip(file.whole_size, (rows, cols), strict=True)]
        missing = [*((0, n - m) for n, m in zip(whole, coefficients.shape, strict=False)), (0, 0), (0, 0)]
        half = width * table / 2 - ROUNDING
        for ends, sign in ((least, -1), (most, 1)):
            end = coefficients * table.astype(np.float64) + sign * half
            ends.append(jnp.asarray(np.pad(end, missing, constant_values=sign * np.inf), jnp.float32))
    return JpegConstraint(tuple(least), tuple(most), file.sampling)


def satisfy_jpeg(
    constraint: JpegConstraint, physics: Physics, x: Images, *, weight: float = 1e-3, rounds: int = 6
) -> Images:
    """Returns a picture near x whose observation H x quantises to the file's coefficients.

    Each round solves for H x = P(H x) near the last picture; a few suffice, as H^T H is well conditioned on what it
    sees.

    Args:
      constraint: On the observation.
      physics: H.
      x: (1, H, W, C), on 0..255.
      weight: Of the nearness to the last picture, against that to the observation, in units of ||H^T H||.
      rounds: How often.
    """
    norm = physics.squared_norm((1, *_lr_size(constraint), x.shape[3]))

    def nearer(_: Any, x: Images) -> Images:
        return physics.solve(constraint.project(physics.apply(x)), x, weight * norm)

    return lax.fori_loop(0, rounds, nearer, x)


def _lr_size(constraint: JpegConstraint) -> tuple[int, int]:
    rows, cols = constraint.least[0].shape[:2]
    return 8 * rows, 8 * cols


def _to_planes(y: Images) -> list[Float[Array, "height width"]]:
    planes: Any = y[0] if y.shape[3] == 1 else product(y[0], YCBCR.T)
    return [planes[..., k] - (0 if k else 128) for k in range(y.shape[3])]


def _from_planes(planes: list[Any]) -> Images:
    y = jnp.stack([planes[0] + 128, *planes[1:]], axis=-1)[None]
    return y if len(planes) == 1 else product(y, np.linalg.inv(YCBCR).T)
