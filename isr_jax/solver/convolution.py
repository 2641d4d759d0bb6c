"""The one convolution of the project: stride 1, same size, zero or reflected border; a fast weight gradient on CPU.

The same-size correlation y = x * k is linear in x and in k, so it is declared to JAX as a bilinear primitive, and its
weight gradient as a second one; each is a transpose of the other, so both modes of differentiation work, to any order:

    x_bar = y_bar * flip(k)        k_bar = weight_gradient(x, y_bar)

XLA's own convolution serves the first two on every platform, and all three on accelerators. On CPU its weight gradient
runs at a third of the speed of a matmul; `_weight_gradient_cpu` replaces it. The measurements are in
experiments/README.md.
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

# Positions of one block of the weight gradient: its operands (1-4 MB) stay in the cache, and the matmul is still long.
BLOCK_POSITIONS = 2304


def conv2d(
    x: Float[Array, "batch height width inputs"],
    kernel: Float[Array, "rows cols inputs outputs"],
    *,
    border: Literal["zero", "reflect"] = "zero",
    precision: lax.Precision = lax.Precision.HIGHEST,
    dtype: Any = None,
) -> Float[Array, "batch height width outputs"]:
    """Correlates images with a kernel, stride 1, and keeps their size.

    What deep learning calls a convolution: y[n, i, j, o] = sum x[n, i + a - r, j + b - r, c] kernel[a, b, c, o].

    Args:
      x: Images or feature maps, NHWC.
      kernel: HWIO, odd height and width.
      border: What lies outside the image: "zero", or "reflect" (mirrored without repeating the edge pixel;
        images smaller than the border are mirrored repeatedly and a single pixel is repeated, as `numpy.pad` does).
      precision: Of products of float32 on accelerators, those of the derivatives included; on CPU it changes nothing.
        HIGHEST is float32; DEFAULT the platform's fast one, TF32 (10 bits) on a GPU, bfloat16 (8 bits) on a TPU.
      dtype: Of the sums and of the result, as float32 of bfloat16 `x` and `kernel`; None: the one they promote to.

    Returns: The filtered images.

    Raises:
      ValueError: If the kernel's sides are even, or the channels do not agree.
    """
    rows, cols = kernel.shape[:2]
    if rows % 2 == 0 or cols % 2 == 0:
        raise ValueError(f"conv2d keeps the size only with odd kernels; this one is {rows}x{cols}")
    if x.shape[3] != kernel.shape[2]:
        raise ValueError(f"x has {x.shape[3]} channels where the kernel reads {kernel.shape[2]}")
    common = jnp.promote_types(x.dtype, kernel.dtype)
    x, kernel = x.astype(common), kernel.astype(common)
    correlate = functools.partial(_correlate, precision=precision, dtype=np.dtype(dtype or common))
    pads = (rows // 2, cols // 2)
    if border == "zero" or pads == (0, 0):
        return correlate(x, kernel)
    # Padded, convolved with SAME, cropped: with VALID the older XLA:CPU takes five times as long.
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (pads[0], pads[0]), (pads[1], pads[1]), (0, 0)), mode="reflect")
    return correlate(x, kernel)[:, pads[0] : pads[0] + height, pads[1] : pads[1] + width]


def _correlate(x: Array, kernel: Array, *, precision: lax.Precision, dtype: np.dtype) -> Array:
    return _correlate_p.bind(*_vary_alike(x, kernel), precision=precision, dtype=dtype)


def _weight_gradient(x: Array, y_bar: Array, *, size: tuple[int, int], precision: lax.Precision) -> Array:
    return _weight_gradient_p.bind(*_vary_alike(x, y_bar), size=size, precision=precision)


def _adjoint_kernel(kernel: Array) -> Array:
    """Returns the kernel whose correlation is the adjoint: turned by 180 degrees, inputs and outputs exchanged."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _vary_alike(*arrays: Array) -> list[Array]:
    """Marks all arrays as varying over every mesh axis that one varies over, as JAX does for its own primitives."""
    axes = [jax.typeof(a).manual_axis_type.varying for a in arrays]
    union = frozenset().union(*axes)
    return [lax.pcast(a, tuple(union - v), to="varying") if union - v else a for a, v in zip(arrays, axes, strict=True)]


def _correlate_xla(x: Array, kernel: Array, *, precision: lax.Precision, dtype: np.dtype) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
        preferred_element_type=dtype,
    )


def _weight_gradient_xla(x: Array, y_bar: Array, *, size: tuple[int, int], precision: lax.Precision) -> Array:
    kernel = jax.ShapeDtypeStruct((*size, x.shape[3], y_bar.shape[3]), x.dtype)
    correlate = functools.partial(_correlate_xla, x, precision=precision, dtype=x.dtype)
    return jax.linear_transpose(correlate, kernel)(y_bar)[0]


def _weight_gradient_cpu(x: Array, y_bar: Array, *, size: tuple[int, int], precision: lax.Precision) -> Array:
    """Computes all taps of the weight gradient as one matmul.

    k_bar[a, b] = sum_p x[p + (a - r, b - s)] y_bar[p] = sum_q x[q + (0, b - s)] y_bar[q - (a - r, 0)]: the shift along
    the width goes to x, the one along the height to y_bar, so [cols C, positions] @ [positions, rows O] holds all taps,
    with 6 shifted copies to build (3x3) where im2col has 9. The sum over positions is cut into blocks of whole rows
    that stay in the cache, several images to a block if they are small.
    """
    (batch, height, width, inputs), outputs = x.shape, y_bar.shape[3]
    rows, cols = size
    images, strips = blocks(batch, height, width)
    steps, strip = batch // images * strips, -(-height // strips)
    surplus = strips * strip - height
    x = jnp.pad(x, ((0, 0), (0, surplus), (0, 0), (0, 0))).reshape(steps, images, strip, width, inputs)
    y_bar = jnp.pad(y_bar, ((0, 0), (rows // 2, rows // 2 + surplus), (0, 0), (0, 0)))

    def add_block(total: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
        i, x_block = step
        start = (i // strips * images, i % strips * strip, 0, 0)
        y_block = lax.dynamic_slice(y_bar, start, (images, strip + rows - 1, width, outputs))
        x_block = jnp.pad(x_block, ((0, 0), (0, 0), (cols // 2, cols // 2), (0, 0)))
        left = jnp.concatenate([x_block[:, :, b : b + width] for b in range(cols)], axis=3)
        right = jnp.concatenate([y_block[:, rows - 1 - a : rows - 1 - a + strip] for a in range(rows)], axis=3)
        left, right = left.reshape(-1, cols * inputs), right.reshape(-1, rows * outputs)
        product = lax.dot_general(
            left, right, (((0,), (0,)), ((), ())), precision=precision, preferred_element_type=total.dtype
        )
        return total + product, None

    zeros = jnp.zeros((cols * inputs, rows * outputs), jnp.promote_types(x.dtype, jnp.float32))
    total, _ = lax.scan(add_block, _vary_alike(zeros, x, y_bar)[0], (jnp.arange(steps), x))
    return total.reshape(cols, inputs, rows, outputs).transpose(2, 0, 1, 3).astype(x.dtype)


def blocks(batch: int, height: int, width: int) -> tuple[int, int]:
    """Chooses the images of a block, or the strips of rows one image is cut into (one of the two is 1)."""
    if height * width <= BLOCK_POSITIONS:
        most = BLOCK_POSITIONS // (height * width)
        return max(n for n in range(1, min(most, batch) + 1) if batch % n == 0), 1
    least = min(height, -(-height * width // BLOCK_POSITIONS))
    # Strips of equal height spare a padded copy of x; without them the last strip is filled with zeros.
    return 1, next((n for n in range(least, 2 * least) if height % n == 0), least)


def _batch_correlate(args: tuple[Array, Array], axes: tuple[Any, Any], **params: Any) -> tuple[Array, int]:
    (x, kernel), (x_axis, kernel_axis) = args, axes
    if kernel_axis is not None:
        return jax.vmap(functools.partial(_correlate_xla, **params), axes)(x, kernel), 0
    x = jnp.moveaxis(x, x_axis, 0)
    y = _correlate(x.reshape(-1, *x.shape[2:]), kernel, **params)
    return y.reshape(*x.shape[:2], *y.shape[1:]), 0


def _batch_weight_gradient(args: tuple[Array, Array], axes: tuple[Any, Any], **params: Any) -> tuple[Array, int]:
    return jax.vmap(functools.partial(_weight_gradient_xla, **params), axes)(*args), 0


def _transpose_to_x(y_bar: Array, x: Any, kernel: Array, *, precision: lax.Precision, dtype: np.dtype) -> Array:
    del dtype
    return _correlate(y_bar.astype(kernel.dtype), _adjoint_kernel(kernel), precision=precision, dtype=x.aval.dtype)


def _transpose_to_kernel(y_bar: Array, x: Array, kernel: Any, *, precision: lax.Precision, dtype: np.dtype) -> Array:
    del dtype
    return _weight_gradient(x, y_bar.astype(x.dtype), size=kernel.aval.shape[:2], precision=precision)


def _gradient_transpose_to_x(k_bar: Array, x: Any, y_bar: Array, *, size: Any, precision: lax.Precision) -> Array:
    del size
    return _correlate(y_bar, _adjoint_kernel(k_bar), precision=precision, dtype=x.aval.dtype)


def _gradient_transpose_to_y(k_bar: Array, x: Array, y_bar: Any, *, size: Any, precision: lax.Precision) -> Array:
    del size
    return _correlate(x, k_bar, precision=precision, dtype=y_bar.aval.dtype)


_correlate_p = Primitive("same_correlation")
_correlate_p.def_impl(jax.jit(_correlate_p.bind, static_argnames=("precision", "dtype")))
_correlate_p.def_abstract_eval(
    lambda x, kernel, *, precision, dtype: x.update(shape=(*x.shape[:3], kernel.shape[3]), dtype=dtype, weak_type=False)
)
mlir.register_lowering(_correlate_p, mlir.lower_fun(_correlate_xla, multiple_results=False))
batching.primitive_batchers[_correlate_p] = _batch_correlate
ad.defbilinear(_correlate_p, _transpose_to_x, _transpose_to_kernel)

_weight_gradient_p = Primitive("same_correlation_weight_gradient")
_weight_gradient_p.def_impl(jax.jit(_weight_gradient_p.bind, static_argnames=("size", "precision")))
_weight_gradient_p.def_abstract_eval(
    lambda x, y_bar, *, size, precision: x.update(shape=(*size, x.shape[3], y_bar.shape[3]), weak_type=False)
)
mlir.register_lowering(_weight_gradient_p, mlir.lower_fun(_weight_gradient_xla, multiple_results=False))
mlir.register_lowering(_weight_gradient_p, mlir.lower_fun(_weight_gradient_cpu, multiple_results=False), platform="cpu")
batching.primitive_batchers[_weight_gradient_p] = _batch_weight_gradient
ad.defbilinear(_weight_gradient_p, _gradient_transpose_to_x, _gradient_transpose_to_y)
