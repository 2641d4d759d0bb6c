r"""The observation as an object: y = H x + n, with H linear, known, and different from picture to picture.

A physics is a pytree: its arrays (a kernel, a mask) are leaves, the rest is static. It passes through jit, vmap, scan,
grad and shard_map, and a picture each may have its own. Whoever has another camera writes one method:

    class Camera(Physics):
        scale = 2

        def apply(self, x):  # (N, 2 h, 2 w, C) -> (N, h, w, C)
            return (x[:, ::2, ::2] + x[:, 1::2, 1::2]) / 2

and inherits the rest; `check_physics(Camera(), (8, 8, 3))` says whether it is linear and what else is wrong. What is
inherited may be overridden where more is known. Composition is mathematics' own: `Bicubic(4) @ Blur(kernel)`.
"""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Float

from isr_jax.config import ConfigError
from isr_jax.physics.fourier import EquivalentBlur, closed_form
from isr_jax.physics.kernels import convolve_kernels

NORM_WINDOW = 16
"""Least side in LR pixels of the pictures on which the norm of an operator of any size is found."""

NORM_ITERATIONS = 30

SEEN = 1e-6
"""A pixel whose weight is less, relative to the largest, is not seen."""

Images = Float[Array, "batch _ _ _"]
PerPicture = Float[Array, " batch"] | Float[Array, ""] | float
"""One number a picture, or one for all."""


class Physics(struct.PyTreeNode, kw_only=True):
    """How an LR picture y comes from an HR picture x: y = H x + n. Pictures are NHWC, of any unit.

    A subclass needs a `scale` and `apply`; the adjoint, the norm, solutions and turns follow from them, and may be
    overridden where more is known. `check_physics` says whether they are right.

    Examples:
      >>> class Camera(isr_jax.Physics):
      ...     scale = 2
      ...
      ...     def apply(self, x):
      ...         return (x[:, ::2, ::2] + x[:, 1::2, 1::2]) / 2
      >>> Camera().adjoint(jnp.full((1, 1, 1, 1), 6.0))[0, :, :, 0].tolist()
      [[3.0, 0.0], [0.0, 3.0]]
    """

    scale: ClassVar[Any]
    """HR size over LR size, a whole number; 1 for denoising and inpainting."""
    lr_size: ClassVar[tuple[int, int] | None] = None
    """The one LR height and width that it is for; None: any."""
    reach: ClassVar[int | None] = None
    """How many LR pixels to each side of its own an LR pixel sees, as blocks of HR pixels; None: the whole picture.
    Large pictures are computed in windows only where it is given."""
    start_reach: ClassVar[int | None] = None
    """How many LR pixels to each side of its block a pixel of the initial estimate sees; None: the whole picture. By
    itself `reach`, where the estimate is the one that is derived here."""
    observes: ClassVar[bool] = True
    """Whether there is an H at all; without one only the initial estimate has a meaning."""
    mirrors: ClassVar[bool] = False
    """Whether H and the initial estimate see beyond the border the mirror image, edge pixels repeated, and no more."""
    error_std: ClassVar[Any] = None
    """Level of what the observation gets wrong besides noise, as a file that was compressed, of each picture (N,) or of
    all (1,) on 0..255; None: nothing."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        derived = cls.initial_estimate is Physics.initial_estimate and "start_reach" not in vars(cls)
        if derived and isinstance(vars(cls).get("reach"), int):
            cls.start_reach = cls.reach

    def apply(self, x: Images) -> Images:
        """Returns H x. The one method a physics must have; linear in x."""
        raise NotImplementedError(f"{type(self).__name__} has no apply(x) -> y")

    def hr_shape(self, lr_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Returns the shape (N, H, W, C) of the HR pictures that LR pictures of a shape come from."""
        n, h, w, c = lr_shape
        return n, h * self.scale, w * self.scale, c

    def inside(self, height: Any, width: Any) -> Float[Array, "1 height width 1"] | None:
        """Returns where an LR array of a height and width has pixels of a picture; None: everywhere."""
        del height, width
        return None

    def adjoint(self, y: Images) -> Images:
        """Returns H^T y, derived from `apply`."""
        y = floating(y)
        hr = jax.ShapeDtypeStruct(self.hr_shape(y.shape), y.dtype)
        return jax.linear_transpose(self.apply, hr)(y)[0]

    def axes(self) -> Any:
        """Returns the `in_axes` of `jax.vmap` over pictures: this tree, 0 for leaves with one entry a picture."""
        return jax.tree.map(lambda leaf: None, self)

    def squared_norm(self, lr_shape: tuple[Any, ...]) -> Float[Array, " batch"]:
        """Returns the largest eigenvalue of H^T H for each picture, by power iterations.

        A lower bound that rises with every iteration; within a per cent for the blurs of super-resolution. An operator
        of any size that sees no farther than a known reach is measured on pictures of 16 x 16 LR pixels, or as many as
        it needs; one that may vary over the picture on the whole of it.

        Args:
          lr_shape: (N, h, w, C) of the LR pictures.
        """
        n, h, w, c = lr_shape
        size, blur = (h, w), self.as_blur()
        if self.lr_size is None and (blur is not None or self.reach is not None or not isinstance(h * w, int)):
            sees = 2 * (self.reach or 0) + 1 if blur is None else math.ceil(max(blur.kernel.shape[1:3]) / blur.scale)
            size = max(NORM_WINDOW, sees), max(NORM_WINDOW, sees)
        one = np.random.default_rng(0).uniform(0.5, 1.0, self.hr_shape((1, *size, c)))
        start = jnp.broadcast_to(jnp.asarray(one, jnp.float32), (n, *one.shape[1:]))

        def iterate(_: Any, v: Images) -> Images:
            v = self.adjoint(self.apply(v))
            return v * _expand(jax.lax.rsqrt(jnp.maximum(_dot(v, v), jnp.finfo(jnp.float32).tiny)))

        v = jax.lax.fori_loop(0, NORM_ITERATIONS, iterate, start)
        return _dot(v, self.adjoint(self.apply(v))) / jnp.maximum(_dot(v, v), jnp.finfo(jnp.float32).tiny)

    def initial_estimate(self, y: Images) -> Images:
        """Returns a first HR picture: H^T y, weighed so that a constant picture starts as itself.

        A pixel that H does not see starts as the LR pixel of its block.
        """
        y = floating(y)
        ones = self.apply(jnp.ones(self.hr_shape(y.shape), y.dtype))
        weights = self.adjoint(ones)
        seen = jnp.abs(weights) > SEEN * jnp.abs(weights).max()
        level = y / jnp.where(jnp.abs(ones) > SEEN, ones, 1)
        nearest = jax.image.resize(level, weights.shape, "nearest")
        return jnp.where(seen, self.adjoint(y) / jnp.where(seen, weights, 1), nearest)

    def solve(self, y: Images, z: Images, weight: PerPicture, *, iterations: int = 50) -> Images:
        """Returns the x that minimises 1/2 ||H x - y||^2 + weight/2 ||x - z||^2.

        In closed form where H is a periodic blur and a decimation, else by conjugate gradients from z. Each picture of
        a batch is a problem of its own.

        Args:
          y: The observation.
          z: What x shall be near to.
          weight: Of the nearness, for each picture or for all; positive.
          iterations: Most steps of the conjugate gradients.
        """
        y, z, blur = floating(y), floating(z), self.as_blur()
        if blur is not None and blur.periodic:
            return closed_form(blur, y, z, weight)
        return self.conjugate_gradients(y, z, weight, iterations=iterations)

    def conjugate_gradients(self, y: Images, z: Images, weight: PerPicture, *, iterations: int) -> Images:
        """Returns what `solve` does, by conjugate gradients from z whatever H is."""
        weight = jnp.broadcast_to(jnp.asarray(weight, y.dtype), y.shape[:1])

        def one(physics: Any, y: Array, z: Array, weight: Array) -> Array:
            def normal(x: Array) -> Array:
                return physics.adjoint(physics.apply(x[None]))[0] + weight * x

            # From 0 for the change of z: the derivative is such a solve, too, and shares the first guess.
            right = physics.adjoint(y[None] - physics.apply(z[None]))[0]
            return z + cg(normal, right, maxiter=iterations, tol=1e-7)[0]

        # Leaves keep an axis of pictures, of length 1.
        axes = self.axes()
        pictures = jax.tree.map(
            lambda axis, leaf: leaf if axis is None else leaf[:, None], axes, self, is_leaf=lambda a: a is None
        )
        return jax.vmap(one, (axes, 0, 0, 0))(pictures, y, z, weight)

    def observe(self, x: Images, key: Array | None = None, noise_std: PerPicture = 0.0) -> Images:
        """Returns H x + n, n white Gaussian noise: training data come from the very object that the solver inverts.

        Args:
          x: HR pictures.
          key: Of the noise; None: no noise.
          noise_std: Its level for each picture or for all, in the unit of the pictures.
        """
        y = self.apply(floating(x))
        if key is None:
            return y
        level = jnp.broadcast_to(jnp.asarray(noise_std, y.dtype), y.shape[:1])
        return y + _expand(level) * jax.random.normal(key, y.shape, y.dtype)

    def turned(self, turns: int, flip: bool = False) -> "Physics":
        """Returns the physics of the turned picture: turned.apply(turn(x)) = turn(apply(x)), `turn` as below."""
        return Turned(inner=self, turns=turns % 4, flip=flip) if turns % 4 or flip else self

    def as_blur(self) -> EquivalentBlur | None:
        """Returns H as a blur and then a decimation, where it is one but for the borders: what Fourier diagonalises."""
        return None

    def __matmul__(self, other: "Physics") -> "Physics":
        """Returns the composition: first `other`, then this."""
        if not isinstance(other, Physics):
            return NotImplemented
        return Composed(outer=self, inner=other)


class Composed(Physics):
    """Two physics, one after the other."""

    outer: Physics
    inner: Physics

    @property
    def scale(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The product of the two scales."""
        return self.outer.scale * self.inner.scale

    @property
    def observes(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether both do."""
        return self.outer.observes and self.inner.observes

    @property
    def lr_size(self) -> tuple[int, int] | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the outer; where the inner has one, the LR size that leads to it."""
        if self.outer.lr_size is not None or self.inner.lr_size is None:
            return self.outer.lr_size
        return self.inner.lr_size[0] // self.outer.scale, self.inner.lr_size[1] // self.outer.scale

    @property
    def reach(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The sum, the inner one's counted in the outer one's pixels."""
        if self.outer.reach is None or self.inner.reach is None:
            return None
        return self.outer.reach + math.ceil(self.inner.reach / self.outer.scale)

    @property
    def start_reach(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The sum, counted alike."""
        if self.outer.start_reach is None or self.inner.start_reach is None:
            return None
        return self.outer.start_reach + math.ceil(self.inner.start_reach / self.outer.scale)

    @property
    def error_std(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The outer one's: it comes last."""
        return self.inner.error_std if self.outer.error_std is None else self.outer.error_std

    def apply(self, x: Images) -> Images:
        """Returns H_outer H_inner x."""
        return self.outer.apply(self.inner.apply(x))

    def hr_shape(self, lr_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Returns the shape that the inner one's input has."""
        return self.inner.hr_shape(self.outer.hr_shape(lr_shape))

    def adjoint(self, y: Images) -> Images:
        """Returns H_inner^T H_outer^T y."""
        return self.inner.adjoint(self.outer.adjoint(y))

    def axes(self) -> Any:
        """Returns those of the two."""
        return Composed(outer=self.outer.axes(), inner=self.inner.axes())

    def initial_estimate(self, y: Images) -> Images:
        """Returns the inner one's first estimate of the outer one's."""
        return self.inner.initial_estimate(self.outer.initial_estimate(y))

    def turned(self, turns: int, flip: bool = False) -> Physics:
        """Returns the composition of the two turned."""
        return Composed(outer=self.outer.turned(turns, flip), inner=self.inner.turned(turns, flip))

    def as_blur(self) -> EquivalentBlur | None:
        """Returns the convolution of the two kernels, where the inner one does not decimate or the outer one is 1x1."""
        outer, inner = self.outer.as_blur(), self.inner.as_blur()
        if outer is None or inner is None:
            return None
        if outer.scale == 1 and outer.kernel.shape[1:3] == (1, 1):
            return inner.replace(kernel=inner.kernel * outer.kernel)
        if inner.scale != 1:
            return None
        kernel = convolve_kernels(outer.kernel, inner.kernel)
        return EquivalentBlur(kernel, outer.scale, outer.phase, outer.periodic and inner.periodic)


class Turned(Physics):
    """Any physics, of the turned picture."""

    inner: Physics
    turns: int = struct.field(pytree_node=False)
    flip: bool = struct.field(pytree_node=False)

    @property
    def scale(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner one's."""
        return self.inner.scale

    @property
    def lr_size(self) -> tuple[int, int] | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner one's, turned."""
        size = self.inner.lr_size
        return size if size is None or self.turns % 2 == 0 else (size[1], size[0])

    @property
    def reach(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner one's."""
        return self.inner.reach

    @property
    def start_reach(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner one's."""
        return self.inner.start_reach

    @property
    def error_std(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The inner one's."""
        return self.inner.error_std

    def apply(self, x: Images) -> Images:
        """Turns back, applies, turns."""
        return turn(self.inner.apply(turn_back(x, self.turns, self.flip)), self.turns, self.flip)

    def hr_shape(self, lr_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Returns the inner one's, turned."""
        n, h, w, c = self.inner.hr_shape(_turned_shape(lr_shape, self.turns))
        return _turned_shape((n, h, w, c), self.turns)

    def axes(self) -> Any:
        """Returns the inner one's."""
        return Turned(inner=self.inner.axes(), turns=self.turns, flip=self.flip)

    def initial_estimate(self, y: Images) -> Images:
        """Returns the inner one's, turned."""
        return turn(self.inner.initial_estimate(turn_back(y, self.turns, self.flip)), self.turns, self.flip)


def turn(x: Array, turns: int, flip: bool = False) -> Array:
    """Flips pictures (N, H, W, C) along the width if asked to, then turns them counter-clockwise by 90 degrees."""
    return jnp.rot90(x[:, :, ::-1] if flip else x, turns, axes=(1, 2))


def turn_back(x: Array, turns: int, flip: bool = False) -> Array:
    """The inverse of `turn`."""
    x = jnp.rot90(x, -turns, axes=(1, 2))
    return x[:, :, ::-1] if flip else x


def _turned_shape(shape: tuple[Any, ...], turns: int) -> tuple[Any, ...]:
    n, h, w, c = shape
    return (n, w, h, c) if turns % 2 else (n, h, w, c)


def check_pictures(x: Array, scale: int = 1) -> Array:
    """Returns pictures as they are.

    Args:
      x: (N, H, W, C).
      scale: What their sides must be multiples of.
    Raises:
      ConfigError: If they have another number of axes, or such a side.
    """
    if x.ndim != 4:
        raise ConfigError(f"pictures have shape (N, H, W, C), not {x.shape}: one picture is x[None]")
    if any(isinstance(side, int) and side % scale for side in x.shape[1:3]):  # of a symbolic side nothing is known
        raise ConfigError(f"pictures of {x.shape[1]}x{x.shape[2]}: sides must be multiples of {scale}; crop them")
    return x


def floating(x: Array) -> Array:
    """Returns pictures as floating point of at least 32 bits, which neither rounds nor overflows on the way."""
    return jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))


def _dot(a: Array, b: Array) -> Float[Array, " batch"]:
    """The inner product of each picture with its partner."""
    return jnp.sum(a * b, axis=(1, 2, 3))


def _expand(values: Float[Array, " batch"]) -> Float[Array, "batch 1 1 1"]:
    return values[:, None, None, None]
