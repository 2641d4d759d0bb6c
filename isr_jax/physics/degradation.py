r"""Observation models y = H x + n: how the LR picture came from the HR picture.

An `ObservationModel` is four functions. For the right operators `back_project` is the exact adjoint H^T, derived by
JAX from `apply` itself. The released PyTorch code's own operators ("released_*") are reproduced as they are: neither
adjoint pairs nor what their names say, and what weights trained with them need.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from isr_jax.config import DataTerm
from isr_jax.physics.resize import resize_matrix

DENSE_SIZE = 64
"""LR pictures up to this side are made by whole matrices: half the time of the band alone, which wins from 128 on."""

Images = Float[Array, "batch _ _ channels"]
Kernel = Float[Array | np.ndarray, "rows cols *channels"]


class ObservationModel(NamedTuple):
    """H as functions on images NHWC of any unit."""

    apply: Callable[[Images], Images]
    """H: HR to LR."""
    back_project: Callable[[Images], Images]
    """H^T: LR to HR (the released operators: what stands in its place)."""
    initial_estimate: Callable[[Images], Images]
    """A first HR picture from the observation."""
    step_size: Callable[[], Float[Array, ""]]
    """The step of the gradient descent: 1 / ||H^T H|| (the released operators: 1)."""

    def gradient(self, x: Images, y: Images) -> Images:
        """Returns the gradient of 1/2 ||H x - y||^2 at x."""
        return self.back_project(self.apply(x) - y)


def make_observation_model(
    data_term: DataTerm,
    lr_shape: tuple[Any, ...],
    scale: int,
    *,
    kernel: Kernel | None = None,
    align_corners: bool = False,
) -> ObservationModel:
    """Returns the observation model of LR images of one shape.

    Args:
      data_term: Which model; see `isr_jax.config.ModelConfig.data_term`. "none" has an initial estimate only.
      lr_shape: (N, height, width, channels) of the LR images; whole numbers, or the symbols of `jax.export`.
      scale: HR size over LR size.
      kernel: Blur kernel of "blur" and "released_kernel", correlated with the image; one for all channels, or one each.
      align_corners: Of "released_bilinear".
    Raises:
      ValueError: If a kernel is missing, not wanted, or its channels do not match the images.
    """
    if (kernel is not None) != (data_term in ("blur", "released_kernel")):
        raise ValueError(f'data term "{data_term}" {"takes no" if kernel is not None else "needs a"} blur kernel')
    if kernel is not None:
        if kernel.ndim == 3 and kernel.shape[2] not in (1, lr_shape[3]):
            raise ValueError(f"the kernel has {kernel.shape[2]} channels, the images {lr_shape[3]}")
        kernel = jnp.asarray(kernel, jnp.float32).reshape(*kernel.shape[:2], -1)
        kernel = jnp.broadcast_to(kernel, (*kernel.shape[:2], lr_shape[3]))
    match data_term:
        case "matlab_bicubic":
            # H H^T has the eigenvector 1 and no larger eigenvalue than 1 / s^2.
            return _with_adjoint(partial(downscale, scale=scale), lr_shape, scale, _bicubic_start(scale), scale**2)
        case "blur" if kernel is not None:
            return _with_adjoint(partial(_blur_and_decimate, kernel, scale), lr_shape, scale, _top_left_start(scale))
        case "decimation":
            return _with_adjoint(lambda x: x[:, ::scale, ::scale], lr_shape, scale, _top_left_start(scale), 1)
        case "released_bicubic":
            return _released_bicubic(lr_shape, scale)
        case "released_bilinear":
            return _released_bilinear(lr_shape, scale, align_corners)
        case "released_kernel" if kernel is not None:
            return _released_kernel(lr_shape, scale, kernel)
        case "released_decimation":
            return _released_decimation(lr_shape, scale)
        case "none":
            return ObservationModel(_no_data_term, _no_data_term, _bilinear_start(scale), lambda: jnp.ones(()))
    raise ValueError(f"unknown data term {data_term!r}")


def squared_norm(apply: Callable[[Images], Images], back_project: Callable[[Images], Images], shape: tuple[int, ...]):
    """Returns ||H^T H||, the largest eigenvalue, by 30 power iterations on HR images of a shape.

    A lower bound that rises with every iteration; within a per cent for the blurs of super-resolution.
    """
    start = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.0, shape), jnp.float32)

    def iterate(_, v):
        v = back_project(apply(v))
        return v / jnp.sqrt(jnp.sum(v * v))

    v = lax.fori_loop(0, 30, iterate, start)
    return jnp.sum(v * back_project(apply(v))) / jnp.sum(v * v)


def _with_adjoint(apply, lr_shape, scale, initial_estimate, step: int | None = None) -> ObservationModel:
    """Completes H by its exact adjoint and the step size: `step` if known, else by the norm for 16 x 16 LR pixels."""

    def adjoint_for(n, h, w, c):
        hr = jax.ShapeDtypeStruct((n, h * scale, w * scale, c), jnp.float32)
        return lambda y: jax.linear_transpose(apply, hr)(y)[0]

    def step_size():
        if step is not None:
            return jnp.float32(step)
        return 1 / squared_norm(apply, adjoint_for(1, 16, 16, lr_shape[3]), (1, 16 * scale, 16 * scale, lr_shape[3]))

    return ObservationModel(apply, adjoint_for(*lr_shape), initial_estimate, step_size)


# --- The right operators ----------------------------------------------------------------------------------------------


def polyphase(matrix: Float[np.ndarray, "out_size in_size"], scale: int) -> Float[np.ndarray, "blocks scale"]:
    """Returns the weights that a middle row of a downscaling matrix gives to the pixels of the blocks around it."""
    row = matrix.shape[0] // 2
    blocks = matrix[row].reshape(-1, scale)
    used = np.flatnonzero(np.any(np.abs(blocks) > 1e-9, axis=1)) - row
    reach = int(np.max(np.abs(used)))
    return blocks[row - reach : row + reach + 1]


def downscale(x: Images, scale: int) -> Images:
    """Reduces pictures by MATLAB's imresize, bicubic with antialiasing: H x = A_height x A_width^T.

    Sides must be multiples of the scale.
    """
    height, width = x.shape[1:3]
    if isinstance(height, int) and isinstance(width, int) and max(height, width) <= DENSE_SIZE * scale:
        rows, columns = (resize_matrix(size, size // scale).astype(np.float32) for size in (height, width))
        return jnp.einsum("jw,niwc->nijc", columns, jnp.einsum("ih,nhwc->niwc", rows, x))
    weights = polyphase(resize_matrix(16 * scale, 16), scale)
    for axis in (1, 2):
        x = _downscale_axis(x, weights, axis)
    return x


def _downscale_axis(x: Array, weights: np.ndarray, axis: int) -> Array:
    # A matrix product over the pixels of a block, then a sum over the blocks around. As one sum of strided slices it
    # would fuse with its neighbours, and XLA:CPU takes minutes to compile the derivative.
    num_blocks, scale = weights.shape
    reach = num_blocks // 2
    size = x.shape[axis] // scale
    padded = _pad_axis(x, axis, reach * scale, reach * scale, "symmetric")
    blocks = padded.reshape(*x.shape[:axis], size + 2 * reach, scale, *x.shape[axis + 1 :])
    products = jnp.tensordot(weights.astype(np.float32), blocks, axes=(1, axis + 1))
    return sum((lax.slice_in_dim(products[k], k, k + size, axis=axis) for k in range(num_blocks)), jnp.zeros(()))


def _pad_axis(x: Array, axis: int, before: int, after: int, mode: str) -> Array:
    padding = [(0, 0)] * x.ndim
    padding[axis] = (before, after)
    return jnp.pad(x, padding, mode=mode)


def _bicubic_start(scale: int):
    """MATLAB's bicubic enlargement: at scale-fold enlargement the matrix is the downscaling one's plain cubic."""
    matrix = resize_matrix(16, 16 * scale)
    blocks = matrix[8 * scale : 9 * scale]  # the rows of the output block of input pixel 8
    reach = int(np.max(np.abs(np.flatnonzero(np.any(np.abs(blocks) > 1e-9, axis=0)) - 8)))
    weights = blocks[:, 8 - reach : 8 + reach + 1]  # (phase, tap)

    def start(y: Images) -> Images:
        for axis in (1, 2):
            y = _upscale_axis(y, weights, axis, "symmetric")
        return y

    return start


def _top_left_start(scale: int):
    """Catmull-Rom enlargement for decimation at the first pixel of each block: LR pixel i lies on HR pixel s i."""
    weights = _catmull_rom_phases(scale)

    def start(y: Images) -> Images:
        for axis in (1, 2):
            y = _upscale_axis(y, weights, axis, "edge")
        return y

    return start


def _upscale_axis(y: Array, weights: Float[np.ndarray, "scale taps"], axis: int, border: str) -> Array:
    """Interleaves one filtered copy of y per output phase along an axis; the taps are centred."""
    phases = _filter_phases(y, weights, axis, border)
    return phases.reshape(*y.shape[:axis], -1, *y.shape[axis + 1 :])


def _filter_phases(y: Array, weights: Float[np.ndarray, "scale taps"], axis: int, border: str) -> Array:
    """Returns one filtered copy of y per phase, on a new axis behind `axis`."""
    taps, size = weights.shape[1], y.shape[axis]
    padded = _pad_axis(y, axis, taps // 2, taps // 2, border)
    windows = jnp.stack([lax.slice_in_dim(padded, k, k + size, axis=axis) for k in range(taps)])
    return jnp.moveaxis(jnp.tensordot(weights.astype(np.float32), windows, axes=1), 0, axis + 1)


def _catmull_rom_phases(scale: int) -> Float[np.ndarray, "scale 5"]:
    """Catmull-Rom weights of the phases 0, 1/scale, ..., as five centred taps (the first is 0)."""
    return np.stack([np.append(0, catmull_rom(phase / scale)) for phase in range(scale)])


def catmull_rom(fraction: float) -> Float[np.ndarray, " 4"]:
    """Returns the cubic convolution weights (a = -0.5, Keys 1981) of the samples at -1, 0, 1, 2."""
    t = np.abs(np.array([-1.0, 0.0, 1.0, 2.0]) - fraction)
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def _blur_and_decimate(kernel: Float[Array, "rows cols channels"], scale: int, x: Images) -> Images:
    """Correlates each channel with its kernel, with a symmetric border; even kernels lean to the bottom right."""
    rows, cols = kernel.shape[:2]
    padding = ((0, 0), ((rows - 1) // 2, rows // 2), ((cols - 1) // 2, cols // 2), (0, 0))
    x = jnp.pad(x, padding, mode="symmetric")
    return _correlate_channels(x, kernel)[:, ::scale, ::scale]


def _correlate_channels(x: Images, kernel: Array, **options) -> Images:
    """Correlates each channel with its own kernel, no padding unless `options` (of the XLA convolution) say so."""
    settings = {"window_strides": (1, 1), "padding": "VALID"} | options
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        feature_group_count=x.shape[3],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        **settings,
    )


def _bilinear_start(scale: int):
    """Bilinear enlargement with half-pixel centres: SRResCGAN's start."""

    def start(y: Images) -> Images:
        n, h, w, c = y.shape
        return jax.image.resize(y, (n, h * scale, w * scale, c), "bilinear")

    return start


def _no_data_term(_):
    raise ValueError('data term "none" has no observation operator')


# --- The released code's operators ------------------------------------------------------------------------------------


def _one() -> Array:
    return jnp.ones(())


def _released_bicubic(lr_shape, scale: int) -> ObservationModel:
    """Decimation down; Catmull-Rom up, top-left aligned, with the two fractions swapped.

    Note: The fraction of the row position weights the column neighbours and the other way round.
    """
    weights = _catmull_rom_phases(scale)

    def up(y: Images) -> Images:
        n, h, w, c = y.shape
        # out[s i + p, s j + q] = sum_ab c(p/s)[a] c(q/s)[b] y[i + b, j + a]: the rows by the column's phase q.
        rows = _filter_phases(y, weights, 1, "edge")  # n, i, q, w, c
        grid = _filter_phases(rows, weights, 3, "edge")  # n, i, q, j, p, c
        return grid.transpose(0, 1, 4, 3, 2, 5).reshape(n, h * scale, w * scale, c)

    return ObservationModel(lambda x: x[:, ::scale, ::scale], up, _corner_start(lr_shape, scale), _one)


def _released_bilinear(lr_shape, scale: int, align_corners: bool) -> ObservationModel:
    """Bilinear sampling both ways."""
    up = _corner_start(lr_shape, scale, align_corners)
    _, h, w, _ = lr_shape

    def down(x: Images) -> Images:
        return _sample_from_corners(x, (h, w), align_corners)

    return ObservationModel(down, up, up, _one)


def _corner_start(lr_shape, scale: int, align_corners: bool = False):
    _, h, w, _ = lr_shape
    return lambda y: _sample_from_corners(y, (h * scale, w * scale), align_corners)


def _sample_from_corners(x: Images, size: tuple[Any, Any], align_corners: bool) -> Images:
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

    x = jnp.einsum("ih,nhwc->niwc", matrix(x.shape[1], size[0]), x)
    return jnp.einsum("jw,nhwc->nhjc", matrix(x.shape[2], size[1]), x)


def _released_kernel(lr_shape, scale: int, kernel: Array) -> ObservationModel:
    """Correlation with stride and zero padding; back by a transposed correlation without padding, cropped.

    Note: The way back is cropped from the top-left, so it is shifted by half the kernel against the adjoint.
    """
    rows, cols, _ = kernel.shape

    def down(x: Images) -> Images:
        padding = ((rows // 2, rows // 2), (cols // 2, cols // 2))
        return _correlate_channels(x, kernel, window_strides=(scale, scale), padding=padding)

    def up(y: Images) -> Images:
        padding = ((rows - 1, scale - 1), (cols - 1, scale - 1))
        return _correlate_channels(y, kernel[::-1, ::-1], padding=padding, lhs_dilation=(scale, scale))

    return ObservationModel(down, up, _corner_start(lr_shape, scale), _one)


def _released_decimation(lr_shape, scale: int) -> ObservationModel:
    """Decimation at phase 1; the way back puts the values there and 0 elsewhere."""

    def up(y: Images) -> Images:
        edge = (1, scale - 2, scale - 1)
        return lax.pad(y, jnp.zeros((), y.dtype), ((0, 0, 0), edge, edge, (0, 0, 0)))

    return ObservationModel(lambda x: x[:, 1::scale, 1::scale], up, _corner_start(lr_shape, scale), _one)
