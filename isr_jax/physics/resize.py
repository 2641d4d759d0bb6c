r"""MATLAB's `imresize` (bicubic, antialiased), to the last digit.

Each axis is resized by a linear map of its own. Output pixel i sits at u = (i + 1/2)/s - 1/2 of the input (s = output
size / input size) and weighs its neighbours with Keys' cubic kernel (a = -1/2), widened by 1/s when s < 1 so that it
also removes what the smaller grid cannot hold (antialiasing). Outside the picture its mirror image is taken.

The same map is offered in two forms: `imresize` for pictures, whose integer path rounds as MATLAB does, and
`resize_matrix` for the observation operators, which need it exactly linear.

References: R. Keys, Cubic convolution interpolation for digital image processing, 1981.
"""

import math

import numpy as np
from jaxtyping import Float, Int, Shaped

from isr_jax.bands import bands


def imresize(
    image: Shaped[np.ndarray, "height width *channels"],
    scale: float | int | None = None,
    *,
    size: tuple[int, int] | None = None,
) -> Shaped[np.ndarray, "new_height new_width *channels"]:
    """Resizes a picture as MATLAB's `imresize(image, scale)` or `imresize(image, size)` does, bicubic and antialiased.

    The axis with the smaller factor is resized first, rows before columns when both are equal. Integer pictures (uint8,
    uint16) are rounded and clipped to their type after each of the two passes, which makes the result bit-exact.

    Args:
      image: (H, W) or (H, W, C), uint8, uint16, or floating point of any range.
      scale: Factor of both axes; the new size is ceil(scale * size).
      size: New height and width, instead of `scale`.
    Returns: The resized picture, of the same type.
    Raises:
      ValueError: If not exactly one of `scale` and `size` is given, or one of them, or the picture, is empty.
      TypeError: If the picture is neither uint8, uint16 nor floating point.
    """
    if (scale is None) == (size is None):
        raise ValueError("imresize takes either a scale or a size")
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"imresize takes pictures of shape (H, W) or (H, W, C), not {image.shape}")
    integer = image.dtype in (np.uint8, np.uint16)
    if not integer and not np.issubdtype(image.dtype, np.floating):
        raise TypeError(f"imresize takes uint8, uint16 or floating point pictures, not {image.dtype}")
    if size is None:
        assert scale is not None
        if not scale > 0:
            raise ValueError(f"scale is {scale}; it must be positive")
        factors = (float(scale), float(scale))
        size = math.ceil(scale * image.shape[0]), math.ceil(scale * image.shape[1])
    else:
        factors = size[0] / image.shape[0], size[1] / image.shape[1]
    for axis in sorted((0, 1), key=factors.__getitem__):  # a stable sort: rows first when the factors are equal
        indices, weights = resize_weights(image.shape[axis], size[axis], factors[axis])
        image = _resize_axis(image, indices, weights, axis)
    return image


def resize_weights(
    in_size: int, out_size: int, scale: float | int | None = None
) -> tuple[Int[np.ndarray, "out taps"], Float[np.ndarray, "out taps"]]:
    """Returns the input pixels that each output pixel of one axis is made of, and their weights.

    Args:
      in_size: Pixels of the input along the axis.
      out_size: Pixels of the output along the axis.
      scale: Factor between the two grids; out_size / in_size if not given. They differ where a size was rounded up.
    Returns: Indices into the input, 0-based, mirrored at its borders, and float64 weights, each row of which sums to 1.
    Raises:
      ValueError: If a size is not positive.
    """
    if in_size < 1 or out_size < 1:
        raise ValueError(f"cannot resize {in_size} pixels to {out_size}; both must be at least 1")
    scale = out_size / in_size if scale is None else scale
    shrink = min(scale, 1.0)
    width = 4.0 / shrink
    # MATLAB counts pixels from 1, and so do we up to the last line: the rounding errors, too, are to be the same.
    position = np.arange(1, out_size + 1) / scale + 0.5 * (1 - 1 / scale)
    first = np.floor(position - width / 2)
    indices = first[:, None] + np.arange(math.ceil(width) + 2)
    weights = shrink * keys_cubic(shrink * (position[:, None] - indices))
    weights /= weights.sum(axis=1, keepdims=True)
    mirror = np.concatenate([np.arange(in_size), np.arange(in_size)[::-1]])
    indices = mirror[(indices.astype(np.int64) - 1) % (2 * in_size)]
    used = weights.any(axis=0)
    return indices[:, used], weights[:, used]


def resize_matrix(in_size: int, out_size: int) -> Float[np.ndarray, "out in"]:
    """Returns the resizing of one axis as a matrix: imresize of a float picture x is A_height @ x @ A_width.T.

    Args:
      in_size: Pixels of the input along the axis.
      out_size: Pixels of the output along the axis.
    Returns: float64 matrix of shape (out_size, in_size) whose rows sum to 1; its transpose is the exact adjoint.
    """
    indices, weights = resize_weights(in_size, out_size)
    matrix = np.zeros((out_size, in_size))
    np.add.at(matrix, (np.arange(out_size)[:, None], indices), weights)  # adds where the mirror meets a pixel twice
    return matrix


def crop_to_multiple(
    image: Shaped[np.ndarray, "height width *channels"], multiple: int
) -> Shaped[np.ndarray, "new_height new_width *channels"]:
    """Cuts rows at the bottom and columns at the right until both sizes are multiples of `multiple` ("modcrop")."""
    height, width = image.shape[:2]
    return image[: height - height % multiple, : width - width % multiple]


def keys_cubic(x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Evaluates Keys' cubic kernel with a = -1/2: the Catmull-Rom spline."""
    x = np.abs(x)
    inner = (1.5 * x**3 - 2.5 * x**2 + 1) * (x <= 1)
    outer = (-0.5 * x**3 + 2.5 * x**2 - 4 * x + 2) * ((x > 1) & (x <= 2))
    return inner + outer


def _resize_axis(image: np.ndarray, indices: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """Resizes one axis in float64, then returns to the picture's own type as MATLAB does."""
    resized = np.empty((*image.shape[:axis], len(indices), *image.shape[axis + 1 :]), image.dtype)
    rows, new_rows = np.moveaxis(image, axis, 0), np.moveaxis(resized, axis, 0)
    shape = (-1,) + (1,) * (rows.ndim - 1)
    for band in bands(new_rows.shape):
        total = np.zeros(new_rows[band].shape)
        for tap in range(indices.shape[1]):  # in MATLAB's order: where a sum falls on a half, the order decides
            total += weights[band, tap].reshape(shape) * rows[indices[band, tap]]
        if not np.issubdtype(image.dtype, np.floating):
            total = np.clip(np.floor(total + 0.5), 0, np.iinfo(image.dtype).max)
        new_rows[band] = total
    return resized
