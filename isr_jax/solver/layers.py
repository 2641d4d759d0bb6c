"""The layers of the ERD: weight-normalised convolution, per-channel PReLU, residual block."""

import copy
import functools
import math
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from isr_jax.solver.convolution import conv2d

Border = Literal["reflect", "zero"]
OUTPUT_AXIS = 3
INPUT_AXIS = 2

Inside = Float[Array, "1 _ _ 1"] | None
"""1 where there is a picture and 0 beyond, where pictures are smaller than their arrays; None: everywhere."""


class Conv(nnx.Module):
    r"""A same-size convolution with bias, optionally weight-normalised: w = gain * v / ||v||.

    The norm is taken over all axes of the HWIO kernel v but `norm_axis`. A transposed convolution of stride 1 is the
    convolution with the flipped kernel; PyTorch normalises its weight per *input* channel, hence `INPUT_AXIS`.

    References: Salimans & Kingma 2016 (arXiv 1602.07868).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int,
        *,
        border: Border,
        weight_norm: bool,
        norm_axis: int = OUTPUT_AXIS,
        kernel_init: nnx.Initializer | None = None,
        precision: lax.Precision = lax.Precision.HIGHEST,
        rngs: nnx.Rngs,
    ):
        self.border: Border = border
        self.precision = precision
        self.norm_axis = norm_axis
        init = kernel_init or nnx.initializers.he_normal()
        kernel = init(rngs.params(), (kernel_size, kernel_size, inputs, outputs), jnp.float32)
        self.kernel = nnx.Param(kernel)
        self.gain = nnx.Param(self._norm(kernel).reshape(-1)) if weight_norm else None
        self.bias = nnx.Param(jnp.zeros(outputs))

    @property
    def macs(self) -> int:
        """Multiply-adds per pixel."""
        return math.prod(self.kernel.shape[-4:])

    def _norm(self, kernel: Array) -> Array:
        axes = tuple(axis for axis in range(4) if axis != self.norm_axis)
        return jnp.sqrt(jnp.sum(jnp.square(kernel), axis=axes, keepdims=True))

    def folded(self) -> "Conv":
        """Returns the same layer without weight normalisation, its kernel being the normalised one."""
        if self.gain is None:
            return self
        kernel = self.kernel[...]
        shape = [-1 if axis == self.norm_axis else 1 for axis in range(4)]
        layer = copy.copy(self)
        layer.kernel = nnx.Param(kernel * (self.gain[...].reshape(shape) / self._norm(kernel)))
        layer.gain = None
        return layer

    def __call__(
        self, x: Float[Array, "batch height width inputs"], *, dtype: Any = None
    ) -> Float[Array, "batch height width outputs"]:
        """Filters a batch of feature maps, with the kernel in their type; `dtype` is the sums' and the result's."""
        layer = self.folded()
        kernel = layer.kernel[...].astype(x.dtype)
        y = conv2d(x, kernel, border=self.border, precision=self.precision, dtype=dtype)
        return y + layer.bias[...].astype(y.dtype)


class PReLU(nnx.Module):
    """The parametric rectifier with one slope per channel, 0.1 at the start (released code)."""

    def __init__(self, features: int):
        self.slope = nnx.Param(jnp.full(features, 0.1))

    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch features"]:
        """Scales what is negative by the slope of its channel."""
        return jnp.where(x >= 0, x, self.slope[...].astype(x.dtype) * x)


class ResidualBlock(nnx.Module):
    """PReLU, 3x3 convolution, PReLU, 3x3 convolution, and (optionally) the input added."""

    def __init__(
        self,
        features: int,
        *,
        border: Border,
        weight_norm: bool,
        shortcut: bool = True,
        kernel_init: nnx.Initializer | None = None,
        precision: lax.Precision = lax.Precision.HIGHEST,
        rngs: nnx.Rngs,
    ):
        self.shortcut = shortcut
        conv = functools.partial(
            Conv, features, features, 3, border=border, weight_norm=weight_norm, precision=precision, rngs=rngs
        )
        self.prelu1 = PReLU(features)
        self.conv1 = conv()
        self.prelu2 = PReLU(features)
        self.conv2 = conv(kernel_init=kernel_init)

    def __call__(
        self, x: Float[Array, "batch height width features"], inside: Inside = None
    ) -> Float[Array, "batch height width features"]:
        """Adds the branch's output to the input, or replaces it where there is no shortcut."""
        y = activate_convolve(self.prelu1, self.conv1, x, inside)
        y = activate_convolve(self.prelu2, self.conv2, y, inside)
        return x + y if self.shortcut else y


@functools.partial(jax.checkpoint, prevent_cse=False)
def activate_convolve(prelu: PReLU, conv: Conv, x: Array, inside: Inside = None) -> Array:
    """PReLU and then a convolution, of which the backward pass keeps nothing but x.

    The rectified and padded maps are made again from x, which is cheap; the convolution itself is not repeated, for
    nothing of its derivative needs its output. It halves the memory of a training step.
    """
    return conv(only_inside(prelu(x), inside))


def only_inside(x: Array, inside: Inside) -> Array:
    """Returns feature maps with zeros outside of the picture: what a convolution with zero border sees there."""
    return x if inside is None else x * inside.astype(x.dtype)


Module = TypeVar("Module", bound=nnx.Module)


def fold_weight_norm(module: Module) -> Module:
    """Returns the module with every weight-normalised convolution replaced by a plain one of the same function."""

    def fold(node):
        return node.folded() if isinstance(node, Conv) else node

    return jax.tree.map(fold, module, is_leaf=lambda node: isinstance(node, Conv))
