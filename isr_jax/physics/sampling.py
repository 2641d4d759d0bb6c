"""Operators that sample: reductions, decimation, averages."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from isr_jax.config import ConfigError
from isr_jax.physics.fourier import EquivalentBlur
from isr_jax.physics.physics import Images, Physics, check_pictures
from isr_jax.physics.resampling import bicubic_phases, bicubic_taps, catmull_rom_phases, downscale, einsum, upscale
from isr_jax.physics.resize import resize_matrix


def _set_scale(physics: Physics) -> None:
    if not _is_whole(physics.scale) or physics.scale < 1:
        name = type(physics).__name__
        raise ConfigError(f"{name} has the scale {physics.scale!r}; it must be a whole number of at least 1")
    object.__setattr__(physics, "scale", int(physics.scale))


def _is_whole(number: Any) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def _constant(lr_shape: tuple[Any, ...], value: float) -> Float[Array, " batch"]:
    return jnp.full(lr_shape[0], value, jnp.float32)


class Bicubic(Physics, kw_only=False):
    """MATLAB's `imresize(x, 1 / scale)`, bicubic and antialiased (a = -1/2, symmetric border), without rounding.

    Args:
      scale: HR size over LR size, a whole number of at least 1; sides of HR pictures must be multiples of it.
    Raises:
      ConfigError: If it is none.
    References: Keys 1981, Cubic convolution interpolation for digital image processing.
    Examples:
      >>> isr_jax.Bicubic(2).apply(jnp.full((1, 8, 8, 1), 7.0))[0, 0, :, 0].round(4).tolist()
      [7.0, 7.0, 7.0, 7.0]
    """

    scale: int = struct.field(pytree_node=False)  # pyright: ignore[reportIncompatibleVariableOverride]

    start_reach = 2
    mirrors = True

    def __post_init__(self) -> None:
        _set_scale(self)

    @property
    def reach(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of the widened kernel."""
        return len(bicubic_taps(self.scale)) // 2

    def apply(self, x: Images) -> Images:
        """Returns A_height x A_width^T.

        Raises:
          ConfigError: If the sides are no multiples of the scale.
        """
        return downscale(check_pictures(x, self.scale), self.scale)

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
    """Every scale-th pixel, from the pixel `phase` of each block on.

    Args:
      scale: HR size over LR size, a whole number of at least 1.
      phase: Row and column in the block, 0 to scale - 1, or one number for both.
    Raises:
      ConfigError: If one of them is none.
    Examples:
      >>> isr_jax.Decimation(2, phase=1).apply(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
      [[5.0, 7.0], [13.0, 15.0]]
    """

    scale: int = struct.field(pytree_node=False)  # pyright: ignore[reportIncompatibleVariableOverride]
    phase: Any = struct.field(pytree_node=False, default=(0, 0))
    """Row and column in the block, or one number for both."""

    reach = 0
    start_reach = 2

    def __post_init__(self) -> None:
        _set_scale(self)
        phase = self.phase if isinstance(self.phase, tuple | list) else (self.phase, self.phase)
        if len(phase) != 2 or not all(_is_whole(p) and 0 <= p < self.scale for p in phase):
            raise ConfigError(
                f"Decimation has the phase {self.phase!r}; it is one or two whole numbers, 0 to {self.scale - 1}"
            )
        object.__setattr__(self, "phase", (int(phase[0]), int(phase[1])))

    def apply(self, x: Images) -> Images:
        """Returns the pixels that are kept.

        Raises:
          ConfigError: If the sides are no multiples of the scale.
        """
        x = check_pictures(x, self.scale)
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
    """The average of each scale x scale block: the light that a larger pixel of a camera gathers.

    Args:
      scale: HR size over LR size, a whole number of at least 1; sides of HR pictures must be multiples of it.
    Raises:
      ConfigError: If it is none.
    Examples:
      >>> isr_jax.BoxAverage(2).apply(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
      [[2.5, 4.5], [10.5, 12.5]]
    """

    scale: int = struct.field(pytree_node=False)  # pyright: ignore[reportIncompatibleVariableOverride]

    reach = 0
    start_reach = 2
    mirrors = True

    def __post_init__(self) -> None:
        _set_scale(self)

    def apply(self, x: Images) -> Images:
        """Returns the averages.

        Raises:
          ConfigError: If the sides are no multiples of the scale.
        """
        n, h, w, c = check_pictures(x, self.scale).shape
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
    """y = x: denoising.

    Examples:
      >>> isr_jax.Identity().apply(jnp.ones((1, 2, 2, 1))).shape
      (1, 2, 2, 1)
    """

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


class Resize(Physics, kw_only=True):
    """MATLAB's bicubic imresize between any two sizes, by one matrix an axis.

    Args:
      hr_size: Height and width of the HR pictures, pixels.
      lr_size: Of the LR pictures.
    Raises:
      ConfigError: If a side is below 1 pixel, or pictures have another size.
    Examples:
      >>> isr_jax.Resize(hr_size=(9, 12), lr_size=(6, 5)).apply(jnp.ones((1, 9, 12, 3))).shape
      (1, 6, 5, 3)
    """

    hr_size: tuple[int, int] = struct.field(pytree_node=False)
    lr_size: tuple[int, int] = struct.field(pytree_node=False)  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self) -> None:
        for name in ("hr_size", "lr_size"):
            size: Any = getattr(self, name)
            if np.shape(size) != (2,) or not all(_is_whole(side) and side >= 1 for side in size):
                raise ConfigError(f"`{name}` of Resize is {size!r}; it is a height and a width of at least 1 pixel")
            object.__setattr__(self, name, (int(size[0]), int(size[1])))

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
