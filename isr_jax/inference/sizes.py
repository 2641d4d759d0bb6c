"""The size that a picture is to get, and what makes it of a whole factor's result.

A network at LR resolution enlarges by whole factors only: a block of HR pixels is the channels of one LR pixel. For any
other size the next larger result is reduced (MATLAB's bicubic, antialiased), which leaves a picture that no longer
agrees with the observation; one data step with the reduction H from the wanted size to the observed one mends that:

    x = argmin 1/2 ||H x - y||^2 + w/2 ||x - z||^2 = z + H^T (H H^T + w)^-1 (y - H z),    H = A_rows (x) A_columns

by conjugate gradients in the small space of y, where H H^T is one band matrix an axis (measured in
experiments/README.md).
"""

import math
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Shaped

from isr_jax.config import ConfigError
from isr_jax.physics.resize import resize_weights
from isr_jax.pictures.picture import Picture, scaled_size

Fit = Literal["contain", "cover", "stretch"]
"""What becomes of another aspect ratio: the picture inside the size, over it and cut, or distorted."""

Size = tuple[int | None, int | None] | int
"""Width and height, one of which may be None and then follows; or the length of the longer side."""

AGREEMENT_WEIGHT = 0.03
"""w, of the nearness to the reduced picture."""

AGREEMENT_STEPS = 10
"""Of the conjugate gradients: the condition of H H^T + w is below 40."""


class Target(NamedTuple):
    """What a picture is made of."""

    size: tuple[int, int]
    """Height and width that it is resized to."""
    kept: tuple[int, int]
    """Those that are cut out of the middle of that."""

    def cut(
        self, pixels: Shaped[np.ndarray, "height width *channels"]
    ) -> Shaped[np.ndarray, "kept_h kept_w *channels"]:
        """Returns the middle."""
        top, left = ((side - kept) // 2 for side, kept in zip(self.size, self.kept, strict=True))
        return pixels[top : top + self.kept[0], left : left + self.kept[1]]


def choose_target(
    shape: tuple[int, ...], *, scale: float | int | None = None, size: Size | None = None, fit: Fit = "contain"
) -> Target:
    """Returns what a picture of a shape (H, W, ...) becomes; sides have at least one pixel.

    Args:
      shape: Of the picture.
      scale: Factor of both sides.
      size: Instead of a scale.
      fit: For a size of another aspect ratio.
    Raises:
      ConfigError: If not exactly one of `scale` and `size` is given, or one cannot be.
    """
    if (scale is None) == (size is None):
        raise ConfigError("`scale` and `size` exclude each other: give one")
    if fit not in get_args(Fit):
        raise ConfigError(f"`fit` is {fit!r}; choose {', '.join(get_args(Fit))}")
    if scale is not None:
        if fit != "contain":
            raise ConfigError(f"`fit` is {fit!r}, but no `size` is given that the picture would not fit: leave it out")
        if not 0 < scale < math.inf:
            raise ConfigError(f"`scale` is {scale}; choose a positive factor")
        whole = scaled_size(shape, scale)
        return Target(whole, whole)
    longest, wanted = (None, size) if isinstance(size, tuple) else (size, (None, None))
    sides = [side for side in (longest, *wanted) if side is not None]
    if len(wanted) != 2 or not sides or any(isinstance(s, bool) or not isinstance(s, int) or s < 1 for s in sides):
        raise ConfigError(f"`size` is {size}; it is (width, height) in pixels, one of them None, or the longer side")
    height, width = shape[:2]
    if longest is not None:
        whole = scaled_size(shape, longest / max(height, width))
        return Target(whole, whole)
    factors = [side / own for side, own in zip(wanted, (width, height), strict=True) if side is not None]
    if len(factors) == 2 and fit == "stretch":
        whole = wanted[1] or 1, wanted[0] or 1
        return Target(whole, whole)
    if len(factors) == 2 and fit == "cover":
        rows, columns = scaled_size(shape, max(factors))
        kept = wanted[1] or 1, wanted[0] or 1
        return Target((max(rows, kept[0]), max(columns, kept[1])), kept)
    whole = scaled_size(shape, min(factors))
    return Target(whole, whole)


def cut_picture(picture: Picture, target: Target) -> Picture:
    """Returns the middle of a resized picture."""
    alpha = None if picture.alpha is None else target.cut(picture.alpha)
    return replace(picture, pixels=target.cut(picture.pixels), alpha=alpha)


def largest_factor(shape: tuple[int, ...], size: tuple[int, int]) -> float:
    """Returns the factor of the side that grows most from a shape (H, W, ...) to a size."""
    return max(size[0] / shape[0], size[1] / shape[1])


def agree(
    x: Float[np.ndarray, "height width channels"],
    lr: Float[np.ndarray, "lr_height lr_width channels"],
    weight: float = AGREEMENT_WEIGHT,
) -> Float[np.ndarray, "height width channels"]:
    """Returns the picture nearest to x that agrees with what was observed, up to a weight.

    Args:
      x: A picture of any unit, not smaller than what was observed.
      lr: The observation, what MATLAB's bicubic reduction makes of the picture wanted.
      weight: Of the nearness.
    """
    rows, columns = (_matrix(large, small) for large, small in zip(x.shape[:2], lr.shape[:2], strict=True))

    def along_both(by_rows: Any, by_columns: Any, picture: np.ndarray) -> np.ndarray:
        height, width, channels = picture.shape
        picture = (by_rows @ picture.reshape(height, -1)).reshape(-1, width, channels)
        turned = by_columns @ picture.swapaxes(0, 1).reshape(width, -1)
        return turned.reshape(-1, len(picture), channels).swapaxes(0, 1)

    gram = rows @ rows.T, columns @ columns.T
    residual = lr - along_both(rows, columns, x)
    solution, direction, energy = np.zeros_like(residual), residual.copy(), float(np.vdot(residual, residual))
    for _ in range(AGREEMENT_STEPS):
        image = along_both(*gram, direction) + np.float32(weight) * direction
        curvature = float(np.vdot(direction, image))
        if curvature <= 0:  # there is nothing left
            break
        step = np.float32(energy / curvature)
        solution += step * direction
        residual = residual - step * image
        energy, before = float(np.vdot(residual, residual)), energy
        direction = residual + np.float32(energy / before) * direction
    correction = along_both(rows.T.tocsr(), columns.T.tocsr(), solution)
    correction += x
    return correction


def _matrix(in_size: int, out_size: int) -> Any:
    """Returns the reduction of one axis as a sparse matrix."""
    from scipy.sparse import csr_array  # not at the top: a command's --help must not wait for it

    indices, weights = resize_weights(in_size, out_size)
    row = np.repeat(np.arange(out_size), indices.shape[1])
    values = weights.astype(np.float32).reshape(-1)
    return csr_array((values, (row, indices.reshape(-1))), shape=(out_size, in_size))
