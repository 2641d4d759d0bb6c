"""Blur: a convolution with a known kernel, one for all pictures or one each."""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float

from isr_jax.config import ConfigError
from isr_jax.physics.fourier import EquivalentBlur
from isr_jax.physics.kernels import Kernels, as_kernels, transfer, turned_kernel
from isr_jax.physics.physics import Images, Physics, check_pictures, floating

DIRECT_TAPS = 121
"""Kernels of up to so many taps are summed directly, larger ones by Fourier transforms where sizes are fixed."""

Border = Literal["symmetric", "periodic"]


class Blur(Physics, kw_only=False):
    """y = k * x, a convolution: the kernel is what a point becomes. Scale 1; `Decimation(3) @ Blur(kernel)` decimates.

    Equal to `scipy.ndimage.convolve` with mode "reflect" (symmetric) or "wrap" (periodic), for sides odd and even: the
    kernel's centre is at (rows // 2, cols // 2), so an even one leans.

    Args:
      kernel: (k, k) for all pictures, (N, k, k) for one a picture, (N, k, k, C) for one a channel (N may be 1),
        or a sequence of (k, k) of several sizes, one a picture; see `as_kernels`.
      border: What lies outside the picture: its mirror image, or the picture again.
      allow_zero_sum: Whether a kernel may have the sum 0.
    Raises:
      ConfigError: If a kernel has another shape, a value that is not finite, or the sum 0, or there is no such border.
    Examples:
      >>> physics = isr_jax.Decimation(2) @ isr_jax.Blur(np.full((3, 3), 1 / 9))
      >>> physics.apply(jnp.ones((1, 8, 8, 3))).shape, physics.scale
      ((1, 4, 4, 3), 2)
    """

    kernel: Any
    border: Border = struct.field(pytree_node=False, default="symmetric")
    allow_zero_sum: bool = struct.field(pytree_node=False, default=False)

    scale = 1
    start_reach = 0

    def __post_init__(self) -> None:
        # JAX rebuilds the object around placeholders and traced arrays, of which (k, k, C) is one picture's under vmap.
        dimensions = getattr(self.kernel, "ndim", 4)
        traced = isinstance(self.kernel, Tracer)
        given = isinstance(self.kernel, list | tuple | np.ndarray)
        if given or dimensions < 3 or (dimensions == 3 and not traced):
            object.__setattr__(self, "kernel", as_kernels(self.kernel, allow_zero_sum=self.allow_zero_sum))
        if self.border not in get_args(Border):
            raise ConfigError(f"`border` of a blur is {self.border!r}; choose one of {', '.join(get_args(Border))}")

    @property
    def _kernels(self) -> Kernels:
        if not hasattr(self.kernel, "ndim"):
            remedy = "an array, as isr_jax.physics.kernels.gaussian_kernel(1.6)"
            raise ConfigError(f"the kernel of a blur is {self.kernel!r:.40}; it is {remedy}")
        return self.kernel if self.kernel.ndim == 4 else self.kernel[None]

    @property
    def reach(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Half the kernel."""
        return None if self.border == "periodic" else max(self._kernels.shape[1:3]) // 2

    def apply(self, x: Images) -> Images:
        """Returns k * x.

        Raises:
          ConfigError: If the kernels are neither one nor as many as the pictures, their channels do not fit, or they
            are larger than the picture.
        """
        kernel, x = self._kernels, floating(check_pictures(x))
        if kernel.shape[0] not in (1, x.shape[0]):
            raise ConfigError(f"there are {kernel.shape[0]} blur kernels for {x.shape[0]} pictures")
        if kernel.shape[3] not in (1, x.shape[3]):
            raise ConfigError(f"the blur kernel has {kernel.shape[3]} channels, the pictures {x.shape[3]}")
        fixed = isinstance(x.shape[1], int) and isinstance(x.shape[2], int)
        if fixed and (kernel.shape[1] > x.shape[1] or kernel.shape[2] > x.shape[2]):
            raise ConfigError(
                f"the blur kernel is {kernel.shape[1]}x{kernel.shape[2]}, larger than the picture of "
                f"{x.shape[1]}x{x.shape[2]}"
            )
        return convolve(x, kernel, self.border)

    def axes(self) -> Any:
        """Returns 0 where there is one kernel a picture."""
        return self.replace(kernel=0 if self._kernels.shape[0] > 1 else None)

    def initial_estimate(self, y: Images) -> Images:
        """Returns y itself."""
        return y

    def turned(self, turns: int, flip: bool = False) -> Physics:
        """Returns the blur with the kernel turned."""
        if self._kernels.shape[1] % 2 and self._kernels.shape[2] % 2:
            return self.replace(kernel=turned_kernel(self._kernels, turns, flip))
        return super().turned(turns, flip)

    def as_blur(self) -> EquivalentBlur | None:
        """Returns the kernel itself."""
        return EquivalentBlur(self._kernels, 1, (0, 0), self.border == "periodic")


def convolve(x: Images, kernel: Kernels, border: Border) -> Images:
    """Convolves each picture's channels with its kernel, the size kept."""
    rows, cols = kernel.shape[1:3]
    above, left = rows - 1 - rows // 2, cols - 1 - cols // 2
    mode = "symmetric" if border == "symmetric" else "wrap"
    fixed = isinstance(x.shape[1], int) and isinstance(x.shape[2], int)
    if rows * cols > DIRECT_TAPS and fixed:
        if border == "periodic":
            return _transform(x, transfer(kernel, (x.shape[1], x.shape[2])))
        pads = ((0, 0), (rows, rows), (cols, cols), (0, 0))
        size = x.shape[1] + 2 * rows, x.shape[2] + 2 * cols
        y = _transform(jnp.pad(x, pads, mode=mode), transfer(kernel, size))
        return y[:, rows : rows + x.shape[1], cols : cols + x.shape[2]]
    x = jnp.pad(x, ((0, 0), (above, rows // 2), (left, cols // 2), (0, 0)), mode=mode)
    flipped = kernel[:, ::-1, ::-1]
    if kernel.shape[0] == 1:
        return correlate(x, flipped[0])
    return jax.vmap(lambda x, k: correlate(x[None], k)[0])(x, flipped)


def _transform(x: Images, factor: Array) -> Images:
    return jnp.fft.irfft2(jnp.fft.rfft2(x, axes=(1, 2)) * factor, s=x.shape[1:3], axes=(1, 2))


def correlate(x: Images, kernel: Float[Array, "rows cols one_or_channels"], **options: Any) -> Images:
    """Correlates each channel with its kernel; no padding unless `options` (of the XLA convolution) say so."""
    channels = x.shape[3]
    kernel = jnp.broadcast_to(kernel, (*kernel.shape[:2], channels)).astype(x.dtype)
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        feature_group_count=channels,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,
        **({"window_strides": (1, 1), "padding": "VALID"} | options),
    )
