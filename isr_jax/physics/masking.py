"""Operators that leave out: masks, and the mosaics of colour that sensors see."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Float

from isr_jax.config import ConfigError
from isr_jax.physics.physics import Images, Physics, floating, turn


class Mask(Physics, kw_only=False):
    """y = mask x, pixel by pixel: inpainting.

    Args:
      mask: (H, W) for all pictures, (N, H, W) or (N, H, W, 1), 1 where a pixel is seen, 0 where not.
    Raises:
      ConfigError: If it has another shape, or that of other pictures than it is applied to.
    Examples:
      >>> isr_jax.Mask(np.eye(2)).apply(jnp.full((1, 2, 2, 1), 9.0))[0, :, :, 0].tolist()
      [[9.0, 0.0], [0.0, 9.0]]
    """

    mask: Any

    scale = 1
    reach = 0

    def __post_init__(self) -> None:
        mask: Any = self.mask
        mask = np.asarray(mask) if isinstance(mask, list | tuple) else mask
        if isinstance(mask, np.ndarray) and not np.isfinite(mask).all():
            raise ConfigError("the mask holds what is not finite: 1 where a pixel is seen, 0 where not")
        dimensions, traced = getattr(mask, "ndim", 4), isinstance(mask, Tracer)
        if dimensions == 2 or (dimensions == 3 and not traced):  # see Blur
            mask = jnp.asarray(mask, jnp.float32)
            object.__setattr__(self, "mask", mask[..., None] if dimensions == 3 else mask[None, ..., None])
        elif dimensions not in (3, 4, 5) or (isinstance(mask, np.ndarray) and mask.shape[-1] != 1):
            raise ConfigError(f"a mask has shape (H, W), (N, H, W) or (N, H, W, 1), not {tuple(mask.shape)}")

    @property
    def _masks(self) -> Array:
        if not hasattr(self.mask, "ndim"):
            raise ConfigError(f"the mask is {self.mask!r:.40}; it is an array (H, W), (N, H, W) or (N, H, W, 1)")
        return self.mask if self.mask.ndim == 4 else self.mask[None]

    @property
    def lr_size(self) -> tuple[int, int]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The mask's."""
        return self._masks.shape[1], self._masks.shape[2]

    def apply(self, x: Images) -> Images:
        """Returns what is seen.

        Raises:
          ConfigError: If the mask has another size than the pictures, or there are neither one nor as many masks.
        """
        if self._masks.shape[1:3] != x.shape[1:3] or self._masks.shape[0] not in (1, x.shape[0]):
            raise ConfigError(
                f"the mask has shape {self._masks.shape[:3]}; {x.shape[0]} pictures of {x.shape[1]}x{x.shape[2]} pixels"
                f" need one of that size, or one each"
            )
        return x * self._masks

    def axes(self) -> Any:
        """Returns 0 where there is one mask a picture."""
        return self.replace(mask=0 if self._masks.shape[0] > 1 else None)

    def squared_norm(self, lr_shape: tuple[Any, ...]) -> Float[Array, " batch"]:
        """Returns the square of the largest value of each mask."""
        return jnp.broadcast_to(jnp.max(jnp.square(self._masks), axis=(1, 2, 3)), lr_shape[:1])

    def initial_estimate(self, y: Images) -> Images:
        """Returns y with the holes filled from their surroundings, by averages over windows that grow."""
        y, mask = floating(y), jnp.broadcast_to(self._masks, (*y.shape[:3], 1)) > 0
        x, width = jnp.where(mask, y, 0), 3
        while width < 2 * max(y.shape[1:3]):
            x, mask = _fill(x, mask, width)
            width = 2 * width + 1
        return x

    def turned(self, turns: int, flip: bool = False) -> Physics:
        """Returns the mask turned."""
        return self.replace(mask=turn(self._masks, turns, flip))


def _fill(x: Images, known: Array, width: int) -> tuple[Images, Array]:
    """Fills unknown pixels that have known ones in a window around them with those ones' average."""

    def window_sum(values: Array) -> Array:
        for axis in (1, 2):  # by differences of running sums: windows may be as large as the picture
            at = np.arange(values.shape[axis])
            first, end = np.maximum(at - width // 2, 0), np.minimum(at + width // 2 + 1, len(at))
            pads = [(int(a == axis), 0) for a in range(4)]
            totals = jnp.pad(jnp.cumsum(values, axis), pads)
            values = jnp.take(totals, end, axis) - jnp.take(totals, first, axis)
        return values

    weight = window_sum(known.astype(x.dtype))
    average = window_sum(x) / jnp.maximum(weight, 1)
    return jnp.where(known, x, jnp.where(weight > 0, average, 0)), known | (weight > 0)


class Mosaic(Physics, kw_only=False):
    """One colour a pixel, as a camera's sensor sees: (N, H, W, C) -> (N, H, W, 1).

    Args:
      pattern: "RGGB" or another order of the Bayer pattern, or rows of channel numbers, as ((0, 1), (1, 2)).
      channels: Of the HR pictures; the pattern has all of them.
    Raises:
      ConfigError: If the pattern has rows of several lengths, or not every channel.
    Examples:
      >>> isr_jax.Mosaic("GRBG").apply(jnp.array([[[[1.0, 2.0, 3.0]] * 2] * 2]))[0, :, :, 0].tolist()
      [[2.0, 1.0], [3.0, 2.0]]
    """

    pattern: Any = struct.field(pytree_node=False, default="RGGB")
    channels: int = struct.field(pytree_node=False, default=3)
    """Of the HR pictures."""

    scale = 1
    reach = 0

    def __post_init__(self) -> None:
        pattern = self.pattern
        if isinstance(pattern, str):
            if pattern not in ("RGGB", "BGGR", "GRBG", "GBRG"):
                raise ConfigError(f"the mosaic {pattern!r} is no Bayer pattern; choose RGGB, BGGR, GRBG or GBRG")
            numbers = ["RGB".index(letter) for letter in pattern]
            pattern = (numbers[:2], numbers[2:])
        if not isinstance(pattern, list | tuple | np.ndarray) or any(np.ndim(row) != 1 for row in pattern):
            raise ConfigError(f"the mosaic is {pattern!r:.40}; it is a Bayer pattern or rows of channel numbers")
        pattern = tuple(tuple(int(c) for c in row) for row in pattern)
        if len({len(row) for row in pattern}) != 1 or {c for row in pattern for c in row} != set(range(self.channels)):
            raise ConfigError(
                f"the mosaic {pattern} must have rows of one length and every channel 0 to {self.channels - 1}"
            )
        object.__setattr__(self, "pattern", pattern)

    def hr_shape(self, lr_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Returns the shape in colour."""
        return *lr_shape[:3], self.channels

    def _masks(self, height: int, width: int) -> Float[np.ndarray, "1 height width channels"]:
        numbers = np.asarray(self.pattern)
        rows, cols = numbers.shape
        numbers = np.tile(numbers, (-(-height // rows), -(-width // cols)))[:height, :width]
        return (numbers[None, ..., None] == np.arange(self.channels)).astype(np.float32)

    def apply(self, x: Images) -> Images:
        """Returns the colour that each pixel's filter lets through."""
        return jnp.sum(x * self._masks(*x.shape[1:3]), axis=-1, keepdims=True)

    def squared_norm(self, lr_shape: tuple[Any, ...]) -> Float[Array, " batch"]:
        """Returns 1."""
        return jnp.ones(lr_shape[0])

    def initial_estimate(self, y: Images) -> Images:
        """Returns bilinear demosaicking: each missing colour is the average of its neighbours that have it."""
        masks = self._masks(*y.shape[1:3])
        taps = np.array([[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]], np.float32)

        def smooth(x: Any, pad: Any) -> Any:
            padded = pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            h, w = x.shape[1:3]
            return sum(taps[i, j] * padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3))

        weights = smooth(masks, np.pad)
        estimate, known = smooth(y * masks, jnp.pad) / np.maximum(weights, 1e-6), weights > 0
        if not known.all():  # a pattern of one's own may have larger holes
            filled = [Mask(known[0, :, :, c]).initial_estimate(estimate[..., c : c + 1]) for c in range(self.channels)]
            estimate = jnp.concatenate(filled, axis=-1)
        return jnp.where(masks > 0, y, estimate)

    def turned(self, turns: int, flip: bool = False) -> Physics:
        """Returns the turned pattern; the sides of the pictures must be multiples of its own."""
        pattern = np.asarray(self.pattern)
        pattern = np.rot90(pattern[:, ::-1] if flip else pattern, turns)
        return self.replace(pattern=tuple(map(tuple, pattern.tolist())))
