"""The one convolution of the project: stride 1, same size, zero or reflect border."""

from typing import Literal

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def conv2d(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "rows cols inputs outputs"],
    *,
    border: Literal["zero", "reflect"] = "zero",
) -> Float[Array, "batch height width outputs"]:
    """Correlates images with a kernel, stride 1, and keeps their size.

    What deep learning calls a convolution: y[n, i, j, o] = sum x[n, i + a - r, j + b - r, c] kernel[a, b, c, o].

    Args:
      x: Images or feature maps, NHWC.
      kernel: HWIO, odd height and width.
      border: What lies outside the image: "zero", or "reflect" (mirrored without repeating the edge pixel;
        images smaller than the border are mirrored repeatedly and a single pixel is repeated, as `numpy.pad` does).

    Returns: The filtered images, of the type `x` and `kernel` promote to.

    Raises:
      ValueError: If the kernel's sides are even, the channels do not agree, or the border is unknown.
    """
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(f"conv2d needs x NHWC and kernel HWIO; their shapes are {x.shape} and {kernel.shape}")
    rows, cols, inputs, _ = kernel.shape
    if rows % 2 == 0 or cols % 2 == 0:
        raise ValueError(f"conv2d keeps the size only with odd kernels; this one is {rows}x{cols}")
    if x.shape[3] != inputs:
        raise ValueError(f"x has {x.shape[3]} channels where the kernel reads {inputs}")
    if border not in ("zero", "reflect"):
        raise ValueError(f'border is {border!r}; choose "zero" or "reflect"')
    dtype = jnp.promote_types(x.dtype, kernel.dtype)
    x, kernel = x.astype(dtype), kernel.astype(dtype)
    pads = (rows // 2, cols // 2)
    if border == "zero" or pads == (0, 0):
        return _same(x, kernel)
    # Padded, convolved with SAME, cropped: with VALID the older XLA:CPU takes five times as long.
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (pads[0], pads[0]), (pads[1], pads[1]), (0, 0)), mode="reflect")
    return _same(x, kernel)[:, pads[0] : pads[0] + height, pads[1] : pads[1] + width]


def _same(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
