"""What is known of the pictures of a batch: how each was observed, and how noisy it is."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from isr_jax.config import ConfigError
from isr_jax.physics.jpeg import Jpeg
from isr_jax.physics.kernels import as_kernels, gaussian_kernel
from isr_jax.physics.names import make_physics
from isr_jax.physics.physics import Physics

Blur = Any
"""A standard deviation in HR pixels; (std, std, angle in degrees) of a Gaussian; or kernels as for `as_kernels`."""

MAX_BLUR = 100
"""Largest standard deviation that a Gaussian may have, HR pixels: a kernel of 601 x 601."""
SUM_ERROR = 0.02
"""By so much the sum of a kernel may differ from 1."""


class Conditions(NamedTuple):
    """Of the pictures of one batch."""

    physics: Physics
    noise_std: np.ndarray | None
    """Noise level of each picture (N,) on 0..255; None: to be estimated."""

    def take(self, indices: Sequence[int] | np.ndarray) -> "Conditions":
        """Returns those of some of the pictures."""
        indices = np.asarray(indices)
        noise_std = None if self.noise_std is None else self.noise_std[indices]
        return Conditions(_per_picture(self.physics, lambda leaf: leaf[indices]), noise_std)

    def turned(self, turns: int, flip: bool) -> "Conditions":
        """Returns those of the turned pictures."""
        return self._replace(physics=self.physics.turned(turns, flip))


def _per_picture(physics: Physics, change: Any) -> Physics:
    """Applies `change` to the leaves with one entry a picture."""
    return jax.tree.map(
        lambda axis, leaf: leaf if axis is None else change(leaf), physics.axes(), physics, is_leaf=lambda a: a is None
    )


def blur_kernels(blur: Blur, *, color: bool = False) -> Any:
    """Returns the kernels (N or 1, k, k, 1 or C) that a blur stands for.

    Args:
      blur: As `Blur` above.
      color: Whether three axes are (k, k, C), as of one picture, instead of (N, k, k).
    Raises:
      ConfigError: If it is none of those, or the sum of a kernel is not 1.
    """
    numbers = blur.tolist() if isinstance(blur, np.ndarray | np.generic) and blur.ndim < 2 else blur
    numbers = [numbers] if isinstance(numbers, int | float) else numbers
    if isinstance(numbers, list | tuple) and all(isinstance(n, int | float | np.number) for n in numbers):
        usable = all(map(math.isfinite, numbers)) and all(0 <= n <= MAX_BLUR for n in numbers[:2])
        if len(numbers) not in (1, 2, 3) or not usable:
            raise ConfigError(
                f"`blur` is {blur}; give a standard deviation from 0 to {MAX_BLUR}, or two and an angle in degrees"
            )
        angle = math.radians(float(numbers[2])) if len(numbers) == 3 else 0.0
        return as_kernels(np.asarray(gaussian_kernel((float(numbers[0]), float(numbers[1 % len(numbers)])), angle)))
    if not isinstance(blur, list | tuple):
        blur = np.asarray(blur)
        blur = blur[None] if color and blur.ndim == 3 else blur
    kernels = as_kernels(blur)
    sums = np.asarray(kernels, np.float64).sum((1, 2))
    worst = float(sums.flat[np.argmax(np.abs(sums - 1))])
    if abs(worst - 1) > SUM_ERROR:
        raise ConfigError(f"the blur kernel has the sum {worst:.4g}; a blur keeps the brightness: divide it by its sum")
    return kernels


def check_levels(model: Any, name: str, noise_std: Any, jpeg: Any) -> None:
    """Checks the noise level and the JPEG quality, of one picture or of several, that a model is told.

    Raises:
      ConfigError: If the model makes no use of one of them, or it cannot be.
    """
    if noise_std is not None:
        levels = np.asarray(noise_std, np.float32)
        if not model.uses_noise_std:
            raise ConfigError(f"{name} makes no use of a noise level: leave out `noise_std`")
        if not ((levels >= 0) & (levels < math.inf)).all():
            raise ConfigError(f"`noise_std` is {levels.min()}; it is a level on the 0..255 scale, 0 or more")
    if jpeg is not None:
        qualities = np.asarray(jpeg, np.float32)
        usable = (qualities >= 1) & ((qualities <= 100) | np.isinf(qualities))
        if not model.uses_error_std:
            raise ConfigError(f"{name} was not trained on JPEG files and makes no use of a quality: leave out `jpeg`")
        if not usable.all():
            raise ConfigError(f"`jpeg` is {qualities[~usable].flat[0]:g}; it is the quality of the file, 1 to 100")


def make_conditions(
    config: Any,
    lr_shape: tuple[int, ...],
    *,
    physics: Physics | None,
    blur: Blur | None,
    noise_std: Any,
    jpeg: Any = None,
    uses_jpeg: bool = False,
    scale: int | None = None,
) -> Conditions:
    """Returns what is known of LR pictures. Kernels that do not fit them say so when the model is compiled.

    Args:
      config: Of the model, whose physics holds where none is given; MATLAB's bicubic reduction for "blur".
      lr_shape: (N, h, w, C).
      physics: Of the pictures.
      blur: Instead of a physics: a blur before the model's own.
      noise_std: For all pictures or for each, on 0..255.
      jpeg: Quality of the files that they come from, for all or for each; infinite: none. None: what the physics knows.
      uses_jpeg: Whether the model is told a quality: then of all pictures, so that one program serves all files.
      scale: Of the physics; by default what is given has, or the model.
    Raises:
      ConfigError: If something of it does not fit the pictures or the model.
    """
    if physics is not None and blur is not None:
        raise ConfigError("`physics` and `blur` exclude each other: give one")
    if physics is not None and not isinstance(physics, Physics):
        raise ConfigError(f"`physics` is {physics!r:.40}; it is an object, as isr_jax.Bicubic(4)")
    if physics is None:
        kernel = None if blur is None else blur_kernels(blur)
        name = "bicubic" if config.physics == "blur" and kernel is None else config.physics
        physics = make_physics(name, scale=config.scale if scale is None else scale, kernel=kernel)
    if physics.scale != (physics.scale if scale is None else scale):
        raise ConfigError(f"`physics` has the scale {physics.scale}, not the `scale` asked for, {scale}")
    if physics.scale not in config.all_scales:
        own = ", ".join(map(str, config.all_scales))
        raise ConfigError(f"the scale is {physics.scale}; this model enlarges by {own}")
    if physics.lr_size not in (None, lr_shape[1:3]):
        raise ConfigError(f"`physics` is for pictures of {physics.lr_size}, not of {lr_shape[1:3]}")
    pairs = zip(jax.tree.leaves(physics.axes(), is_leaf=lambda a: a is None), jax.tree.leaves(physics), strict=True)
    if other := [leaf.shape[0] for axis, leaf in pairs if axis == 0 and leaf.shape[0] != lr_shape[0]]:
        what = "`physics`" if blur is None else "`blur`"
        raise ConfigError(f"{what} has an entry each for {other[0]} pictures, not for {lr_shape[0]}")
    if noise_std is not None and np.ndim(noise_std) and np.shape(noise_std) != lr_shape[:1]:
        raise ConfigError(f"`noise_std` has shape {np.shape(noise_std)}; {lr_shape[0]} pictures need one level each")
    if noise_std is not None:
        noise_std = np.broadcast_to(np.asarray(noise_std, np.float32), lr_shape[:1])
    if jpeg is None and uses_jpeg and physics.error_std is None:
        jpeg = math.inf
    if jpeg is not None:
        if np.ndim(jpeg) and np.shape(jpeg) != lr_shape[:1]:
            raise ConfigError(f"`jpeg` has shape {np.shape(jpeg)}; {lr_shape[0]} pictures need one quality each")
        physics = Jpeg(np.broadcast_to(np.asarray(jpeg, np.float32), lr_shape[:1])) @ physics
    return Conditions(physics, noise_std)
