r"""The operators of the released PyTorch code, as they are.

They are neither adjoint pairs nor what their names say, and what weights trained with them need. `adjoint` is what
stands in its place there, the norm is 1, so that the step is the released code's.
"""

from typing import Any

import jax.numpy as jnp
from flax import struct
from jax import lax
from jaxtyping import Array, Float

from isr_jax.config import ConfigError
from isr_jax.physics.blur import correlate
from isr_jax.physics.kernels import as_kernels
from isr_jax.physics.physics import Images, Physics
from isr_jax.physics.resampling import catmull_rom_phases, einsum, filter_phases


class Released(Physics, kw_only=False):
    """What the four have in common: a bilinear start with a dark border, and the step 1."""

    scale: int = struct.field(pytree_node=False)  # pyright: ignore[reportIncompatibleVariableOverride]

    def squared_norm(self, lr_shape: tuple[Any, ...]) -> Float[Array, " batch"]:
        """Returns 1."""
        return jnp.ones(lr_shape[0])

    def initial_estimate(self, y: Images) -> Images:
        """Returns the released start of every mode."""
        return sample_from_corners(y, self.hr_shape(y.shape)[1:3], False)


class ReleasedBicubic(Released):
    """Decimation down; Catmull-Rom up, top-left aligned, with the two fractions swapped.

    Note: The fraction of the row position weights the column neighbours and the other way round.
    """

    reach = 2
    """Of the way back; the way down sees one pixel."""

    def apply(self, x: Images) -> Images:
        """Keeps the first pixel of each block."""
        return x[:, :: self.scale, :: self.scale]

    def adjoint(self, y: Images) -> Images:
        """Returns out[s i + p, s j + q] = sum_ab c(p/s)[a] c(q/s)[b] y[i + b, j + a]."""
        weights = catmull_rom_phases(self.scale)
        n, h, w, c = y.shape
        rows = filter_phases(y, weights, 1, "edge")  # n, i, q, w, c: the rows by the column's phase q
        grid = filter_phases(rows, weights, 3, "edge")  # n, i, q, j, p, c
        return grid.transpose(0, 1, 4, 3, 2, 5).reshape(n, h * self.scale, w * self.scale, c)


class ReleasedBilinear(Released):
    """Bilinear sampling both ways; `align_corners` mends the dark border."""

    align_corners: bool = struct.field(pytree_node=False, default=False)

    def apply(self, x: Images) -> Images:
        """Samples the smaller grid."""
        return sample_from_corners(x, (x.shape[1] // self.scale, x.shape[2] // self.scale), self.align_corners)

    def adjoint(self, y: Images) -> Images:
        """Samples the larger grid."""
        return sample_from_corners(y, self.hr_shape(y.shape)[1:3], self.align_corners)

    def initial_estimate(self, y: Images) -> Images:
        """Returns the same."""
        return self.adjoint(y)


class ReleasedKernel(Released):
    """Correlation with stride and zero padding; back by a transposed correlation without padding, cropped.

    Note: The way back is cropped from the top-left, so it is shifted by half the kernel against the adjoint.
    """

    kernel: Any
    """(k, k) or, one a channel, (1, k, k, C); odd sides."""

    def __post_init__(self) -> None:
        if hasattr(self.kernel, "ndim") and self.kernel.ndim < 4:
            object.__setattr__(self, "kernel", as_kernels(self.kernel))
        if hasattr(self.kernel, "ndim") and (self.kernel.shape[1] % 2 == 0 or self.kernel.shape[2] % 2 == 0):
            raise ConfigError(
                f"the blur kernel is {self.kernel.shape[1]}x{self.kernel.shape[2]}; the released term needs odd sides"
            )
        if hasattr(self.kernel, "ndim") and self.kernel.shape[0] != 1:
            raise ConfigError(f"the released kernel term takes one kernel for all pictures, not {self.kernel.shape[0]}")

    @property
    def reach(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of the way back, which is the farther one."""
        return -(-(max(self.kernel.shape[1:3]) - 1) // self.scale)

    def apply(self, x: Images) -> Images:
        """Correlates and decimates."""
        rows, cols = self.kernel.shape[1:3]
        padding = ((rows // 2, rows // 2), (cols // 2, cols // 2))
        return correlate(x, self.kernel[0], window_strides=(self.scale, self.scale), padding=padding)

    def adjoint(self, y: Images) -> Images:
        """Correlates the spread pixels with the turned kernel."""
        rows, cols = self.kernel.shape[1:3]
        padding = ((rows - 1, self.scale - 1), (cols - 1, self.scale - 1))
        return correlate(y, self.kernel[0, ::-1, ::-1], padding=padding, lhs_dilation=(self.scale, self.scale))


class ReleasedDecimation(Released):
    """Decimation at phase 1; the way back puts the values there and 0 elsewhere."""

    reach = 0

    def apply(self, x: Images) -> Images:
        """Keeps the second pixel of each block."""
        return x[:, 1 :: self.scale, 1 :: self.scale]

    def adjoint(self, y: Images) -> Images:
        """Puts the pixels back."""
        edge = (1, self.scale - 2, self.scale - 1)
        return lax.pad(y, jnp.zeros((), y.dtype), ((0, 0, 0), edge, edge, (0, 0, 0)))


def sample_from_corners(x: Images, size: tuple[Any, Any], align_corners: bool) -> Images:
    """Samples bilinearly at positions from -1 to 1 inclusive, with zeros outside: the released start of every mode.

    Note: Unless `align_corners`, -1 and 1 are read as the outer edges of the corner pixels, although the positions are
      spaced as if they were the centres. This darkens the border: a constant 100 becomes 50 on the edges.
    """

    def matrix(in_size, out_size) -> Array:
        # Whole numbers, in units of 1 / unit of a pixel: exact, and good for the symbolic sizes of an export.
        unit = 2 * (out_size - 1)
        i = jnp.arange(out_size)
        at = 2 * i * (in_size - 1) if align_corners else 2 * i * in_size - unit // 2
        distance = jnp.abs(at[:, None] - jnp.arange(in_size) * unit)
        return jnp.maximum(0, 1 - distance / jnp.maximum(1, jnp.asarray(unit, jnp.float32)))

    x = einsum("ih,nhwc->niwc", matrix(x.shape[1], size[0]), x)
    return einsum("jw,nhwc->nhjc", matrix(x.shape[2], size[1]), x)
