r"""Pictures that do not fill their arrays: one compiled program for many sizes, with the result of each alone.

A picture lies in the upper left of its array and is followed by zeros below and on the right. Its physics is told the
size, a number and no shape, and continues the picture beyond its own border as `imresize` does, by its mirror image:

    H_padded = M H C,    C continues, M puts zeros where no pixel is observed
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from isr_jax.physics.physics import Images, Physics


class Padded(Physics):
    """A physics of pictures in the upper left of their arrays."""

    inner: Physics
    """One whose `mirrors` is true."""
    size: Any
    """LR height and width of the pictures, the same for all, as an array of two whole numbers."""

    @property
    def scale(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner one's."""
        return self.inner.scale

    @property
    def reach(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner one's."""
        return self.inner.reach

    @property
    def start_reach(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner one's."""
        return self.inner.start_reach

    @property
    def observes(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the inner one does."""
        return self.inner.observes

    @property
    def error_std(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner one's."""
        return self.inner.error_std

    def inside(self, height: int, width: int) -> Float[Array, "1 height width 1"]:
        """Returns 1 at the LR pixels of the pictures and 0 beyond."""
        rows, cols = jnp.arange(height) < self.size[0], jnp.arange(width) < self.size[1]
        return (rows[:, None] & cols)[None, :, :, None].astype(jnp.float32)

    def apply(self, x: Images) -> Images:
        """Returns H of the pictures alone, and 0 beyond."""
        height, width = x.shape[1] // self.scale, x.shape[2] // self.scale
        wide = _continue(x, self.size * self.scale, (self.inner.reach or 0) * self.scale)
        return self.inner.apply(wide)[:, :height, :width] * self.inside(height, width)

    def squared_norm(self, lr_shape: tuple[Any, ...]) -> Float[Array, " batch"]:
        """Returns the inner one's."""
        return self.inner.squared_norm(lr_shape)

    def axes(self) -> Any:
        """Returns the inner one's; all pictures have one size."""
        return Padded(inner=self.inner.axes(), size=None)

    def initial_estimate(self, y: Images) -> Images:
        """Returns that of the pictures alone; beyond, what does not matter."""
        n, height, width, c = self.hr_shape(y.shape)
        del n, c
        return self.inner.initial_estimate(_continue(y, self.size, self.inner.start_reach or 0))[:, :height, :width]


def _continue(x: Images, size: Int[Array, "2"], margin: int) -> Images:
    """Fills what lies beyond pictures of a size with their mirror images, and appends a margin of them."""
    for axis in (1, 2):
        side = size[axis - 1]
        at = jnp.arange(x.shape[axis] + margin) % (2 * side)
        x = jnp.take(x, jnp.where(at < side, at, 2 * side - 1 - at), axis, mode="clip")
    return x
