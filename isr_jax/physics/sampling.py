"""Operators that sample: reductions, decimation, averages, masks and mosaics."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Float

from isr_jax.config import ConfigError
from isr_jax.physics.fourier import EquivalentBlur
from isr_jax.physics.physics import Images, Physics, turn
from isr_jax.physics.resampling import bicubic_phases, bicubic_taps, catmull_rom_phases, downscale, einsum, upscale
from isr_jax.physics.resize import resize_matrix


def _check_scale(name: str, scale: Any) -> None:
    if isinstance(scale, bool) or not isinstance(scale, int) or scale < 1:
        raise ConfigError(f"{name} has the scale {scale!r}; it must be a whole number of at least 1")


def _constant(lr_shape: tuple[Any, ...], value: float) -> Float[Array, " batch"]:
    return jnp.full(lr_shape[0], value, jnp.float32)


class Bicubic(Physics, kw_only=False):
    """MATLAB's `imresize(x, 1 / scale)`, bicubic and antialiased (a = -1/2, symmetric border), without rounding."""

    scale: int = struct.field(pytree_node=False)  # pyright: ignore[reportIncompatibleVariableOverride]

    start_reach = 2
    mirrors = True

    def __post_init__(self) -> None:
        _check_scale("Bicubic", self.scale)

    @property
    def reach(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of the widened kernel."""
        return len(bicubic_taps(self.scale)) // 2

    def apply(self, x: Images) -> Images:
        """Returns A_height x A_width^T. Sides must be multiples of the scale."""
        return downscale(x, self.scale)

    def squared_norm(self, lr_shape: tuple[Any, ...]) -> Float[Array, " batch"]:
        """Returns 1 / scale^2: H H^T has the eigenvector 1 and no larger eigenvalue."""
        return _constant(lr_shape, 1 / self.scale**2)

    def initial_estimate(self, y: Images) -> Images:
        """Returns MATLAB's bicubic enlargement."""
        return upscale(y, bicubic_phases(self.scale), bicubic_phases(self.scale), "symmetric")

    def turned(self, turns: int, flip: bool = False) -> Physics:
        """Returns the same."""
        return self

    def as_blur(self) -> EquivalentBlur:
        """Returns the antialiasing kernel; MATLAB's symmetric border is another than a periodic one."""
        weights = bicubic_taps(self.scale).reshape(-1)
        used = np.flatnonzero(np.abs(weights) > 1e-9)
        # LR pixel 0 reads the HR pixels used - reach scale; the convolution's kernel is the correlation's reversed.
        first = int(used[0]) - self.reach * self.scale
        taps = weights[used[0] : used[-1] + 1][::-1]
        phase = first + len(taps) - 1 - len(taps) // 2
        kernel = jnp.asarray(np.outer(taps, taps)[None, :, :, None], jnp.float32)
        return EquivalentBlur(kernel, self.scale, (phase, phase), False)


class Decimation(Physics, kw_only=False):
    """Every scale-th pixel, from the pixel `phase` of each block on."""

    scale: int = struct.field(pytree_node=False)  # pyright: ignore[reportIncompatibleVariableOverride]
    phase: Any = struct.field(pytree_node=False, default=(0, 0))
    """Row and column in the block, or one number for both."""

    reach = 0
    start_reach = 2

    def __post_init__(self) -> None:
        _check_scale("Decimation", self.scale)
        phase = (self.phase, self.phase) if isinstance(self.phase, int) else tuple(self.phase)
        if len(phase) != 2 or not all(isinstance(p, int) and 0 <= p < self.scale for p in phase):
            raise ConfigError(f"Decimation has the phase {self.phase!r}; it must lie in 0 to {self.scale - 1}")
        object.__setattr__(self, "phase", phase)

    def apply(self, x: Images) -> Images:
        """Returns the pixels that are kept."""
        return x[:, self.phase[0] :: self.scale, self.phase[1] :: self.scale]

    def squared_norm(self, lr_shape: tuple[Any, ...]) -> Float[Array, " batch"]:
        """Returns 1."""
        return _constant(lr_shape, 1.0)

    def initial_estimate(self, y: Images) -> Images:
        """Returns the Catmull-Rom enlargement through the pixels that were kept."""
        rows, cols = (catmull_rom_phases(self.scale, phase) for phase in self.phase)
        return upscale(y, rows, cols, "edge")

    def turned(self, turns: int, flip: bool = False) -> Physics:
        """Returns the decimation at the turned pixel of the block."""
        block = np.zeros((self.scale, self.scale), bool)
        block[self.phase] = True
        row, col = np.argwhere(np.rot90(block[:, ::-1] if flip else block, turns))[0]
        return self.replace(phase=(int(row), int(col)))

    def as_blur(self) -> EquivalentBlur:
        """Returns a kernel of one pixel."""
        return EquivalentBlur(jnp.ones((1, 1, 1, 1)), self.scale, self.phase, True)


class BoxAverage(Physics, kw_only=False):
    """The average of each scale x scale block: the light that a larger pixel of a camera gathers."""

    scale: int = struct.field(pytree_node=False)  # pyright: ignore[reportIncompatibleVariableOverride]

    reach = 0
    start_reach = 2
    mirrors = True

    def __post_init__(self) -> None:
        _check_scale("BoxAverage", self.scale)

    def apply(self, x: Images) -> Images:
        """Returns the averages."""
        n, h, w, c = x.shape
        return x.reshape(n, h // self.scale, self.scale, w // self.scale, self.scale, c).mean((2, 4))

    def squared_norm(self, lr_shape: tuple[Any, ...]) -> Float[Array, " batch"]:
        """Returns 1 / scale^2."""
        return _constant(lr_shape, 1 / self.scale**2)

    def initial_estimate(self, y: Images) -> Images:
        """Returns the bicubic enlargement, whose pixels lie as the blocks' do."""
        return Bicubic(self.scale).initial_estimate(y)

    def turned(self, turns: int, flip: bool = False) -> Physics:
        """Returns the same."""
        return self

    def as_blur(self) -> EquivalentBlur:
        """Returns the box."""
        kernel = jnp.full((1, self.scale, self.scale, 1), 1 / self.scale**2)
        phase = self.scale - 1 - self.scale // 2
        return EquivalentBlur(kernel, self.scale, (phase, phase), True)


class Identity(Physics):
    """y = x: denoising."""

    scale = 1
    reach = start_reach = 0
    mirrors = True

    def apply(self, x: Images) -> Images:
        """Returns x."""
        return x

    def squared_norm(self, lr_shape: tuple[Any, ...]) -> Float[Array, " batch"]:
        """Returns 1."""
        return _constant(lr_shape, 1.0)

    def initial_estimate(self, y: Images) -> Images:
        """Returns y."""
        return y

    def turned(self, turns: int, flip: bool = False) -> Physics:
        """Returns the same."""
        return self

    def as_blur(self) -> EquivalentBlur:
        """Returns a kernel of one pixel."""
        return EquivalentBlur(jnp.ones((1, 1, 1, 1)), 1, (0, 0), True)


class Mask(Physics, kw_only=False):
    """y = mask x, pixel by pixel: inpainting.

    Args:
      mask: (H, W) for all pictures or (N, H, W), 1 where a pixel is seen, 0 where not.
    """

    mask: Any

    scale = 1
    reach = 0

    def __post_init__(self) -> None:
        dimensions, traced = getattr(self.mask, "ndim", 4), isinstance(self.mask, Tracer)
        if dimensions == 2 or (dimensions == 3 and not traced):  # see Blur
            mask = jnp.asarray(self.mask, jnp.float32)
            object.__setattr__(self, "mask", mask[..., None] if dimensions == 3 else mask[None, ..., None])
        elif dimensions not in (3, 4, 5):
            raise ConfigError(f"a mask has shape (H, W) or (N, H, W), not {tuple(self.mask.shape)}")

    @property
    def _masks(self) -> Array:
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
        mask = jnp.broadcast_to(self._masks, (*y.shape[:3], 1)) > 0
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
    """

    pattern: Any = struct.field(pytree_node=False, default="RGGB")
    channels: int = struct.field(pytree_node=False, default=3)
    """Of the HR pictures."""

    scale = 1
    reach = 0

    def __post_init__(self) -> None:
        pattern = self.pattern
        if isinstance(pattern, str):
            if len(pattern) != 4 or set(pattern) != set("RGB"):
                raise ConfigError(f"the mosaic {pattern!r} is no Bayer pattern; choose RGGB, BGGR, GRBG or GBRG")
            numbers = ["RGB".index(letter) for letter in pattern]
            pattern = (numbers[:2], numbers[2:])
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
        return _constant(lr_shape, 1.0)

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


class Resize(Physics, kw_only=True):
    """MATLAB's bicubic imresize between any two sizes, by one matrix an axis.

    Args:
      hr_size: Height and width of the HR pictures.
      lr_size: Of the LR pictures.
    """

    hr_size: tuple[int, int] = struct.field(pytree_node=False)
    lr_size: tuple[int, int] = struct.field(pytree_node=False)  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self) -> None:
        if any(not isinstance(n, int) or n < 1 for n in (*self.hr_size, *self.lr_size)):
            raise ConfigError(
                f"Resize goes from {self.hr_size} to {self.lr_size}; both need two sides of at least 1 pixel"
            )

    @property
    def scale(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Height over height; not whole."""
        return self.hr_size[0] / self.lr_size[0]

    def hr_shape(self, lr_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Returns the shape of the HR size."""
        return lr_shape[0], *self.hr_size, lr_shape[3]

    def apply(self, x: Images) -> Images:
        """Returns A_height x A_width^T.

        Raises:
          ConfigError: If the pictures have another size.
        """
        if x.shape[1:3] != self.hr_size:
            raise ConfigError(f"Resize is for pictures of {self.hr_size}, not {x.shape[1:3]}")
        rows, cols = (resize_matrix(a, b).astype(np.float32) for a, b in zip(self.hr_size, self.lr_size, strict=True))
        return einsum("jw,niwc->nijc", cols, einsum("ih,nhwc->niwc", rows, x))

    def initial_estimate(self, y: Images) -> Images:
        """Returns the bicubic resizing back."""
        rows, cols = (resize_matrix(b, a).astype(np.float32) for a, b in zip(self.hr_size, self.lr_size, strict=True))
        return einsum("jw,niwc->nijc", cols, einsum("ih,nhwc->niwc", rows, y))

    def turned(self, turns: int, flip: bool = False) -> Physics:
        """Returns the resizing with the sides exchanged at odd turns."""
        return self.replace(hr_size=self.hr_size[::-1], lr_size=self.lr_size[::-1]) if turns % 2 else self
