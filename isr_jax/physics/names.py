"""What configurations and the command line call a physics: the one table that turns names into objects.

Each function below is a name, and returns that physics for a scale. A physics of one's own is named as
"my_package.camera:Camera": a class with a scale of its own, an object of one, or whatever makes one of a scale.
"""

import dataclasses
from typing import Any

import jax
from flax import struct

from isr_jax.config import ConfigError
from isr_jax.config.names import locate_in, running
from isr_jax.physics.blur import Blur
from isr_jax.physics.kernels import as_kernels
from isr_jax.physics.physics import Images, Physics
from isr_jax.physics.released import ReleasedBicubic, ReleasedBilinear, ReleasedDecimation, ReleasedKernel
from isr_jax.physics.sampling import Bicubic, BoxAverage, Decimation, Identity


def needs_kernel(name: str) -> bool:
    """Whether a name stands for a physics that is only known with the blur of the pictures."""
    return name in ("blur", "released_kernel")


def make_physics(name: str, *, scale: int, kernel: Any = None, field: str = "model.physics") -> Physics:
    """Returns the physics of a name.

    Args:
      name: A function of this module, or "module:Name".
      scale: HR size over LR size.
      kernel: Blur kernel of the pictures, as for `Blur`: needed by "blur" and "released_kernel"; before any other H it
        is one blur more.
      field: What messages call the place of the name.
    Raises:
      ConfigError: If there is no such physics, or the kernel is missing or cannot be used.
    """
    make = locate_in(name, __name__, field)
    if needs_kernel(name):
        if kernel is None:
            raise ConfigError(f'the physics is "{name}", which needs the blur of the pictures: give `blur`')
        return make(scale, kernel)
    physics = make
    if callable(make) and not isinstance(make, Physics):
        with running(name, field):
            physics = make(scale) if _takes_a_scale(make) else make()
    if not isinstance(physics, Physics):
        raise ConfigError(f"{field} is {name!r}, which is no isr_jax.Physics but {type(physics).__name__}")
    if physics.scale != scale:
        raise ConfigError(f"{field} is {name!r}, whose scale is {physics.scale}, where {scale} is asked for")
    if ":" in name:
        _check_sizes(physics, name, field)
    return physics if kernel is None else physics @ Blur(kernel)


def _check_sizes(physics: Physics, name: str, field: str) -> None:
    """Raises unless a physics of one's own makes LR pictures of HR pictures; nothing is computed."""
    lr = (1, *(physics.lr_size or (32, 32)), 3)
    hr = physics.hr_shape(lr)
    with running(name, field):
        made = jax.eval_shape(physics.apply, jax.ShapeDtypeStruct(hr, "float32"))
    if (shape := getattr(made, "shape", None)) != lr:
        raise ConfigError(f"{field} is {name!r}, which makes {shape} of {hr}; pictures of {lr} are meant to come of it")


def _takes_a_scale(make: Any) -> bool:
    """Whether it makes a physics of a scale, unlike a class whose scale is its own."""
    own = isinstance(make, type) and issubclass(make, Physics)
    return not own or "scale" in {field.name for field in dataclasses.fields(make)}


def bicubic(scale: int) -> Physics:
    """MATLAB's antialiased bicubic reduction."""
    return Bicubic(scale)


def blur(scale: int, kernel: Any) -> Physics:
    """A given blur, and then every scale-th pixel."""
    return Decimation(scale) @ Blur(kernel)


def box(scale: int) -> Physics:
    """Averages of blocks."""
    return BoxAverage(scale)


def decimation(scale: int) -> Physics:
    """Every scale-th pixel."""
    return Decimation(scale)


def identity(scale: int) -> Physics:
    """No change: denoising."""
    if scale != 1:
        raise ConfigError(f'the physics "identity" has the scale 1, not {scale}')
    return Identity()


def none(scale: int) -> Physics:
    """No observation model: the prior alone, on an enlarged picture."""
    return _Unobserved(scale)


def released_bicubic(scale: int) -> Physics:
    """The released code's, as the next ones."""
    return ReleasedBicubic(scale)


def released_bilinear(scale: int) -> Physics:
    """With the dark border."""
    return ReleasedBilinear(scale)


def released_bilinear_aligned(scale: int) -> Physics:
    """With the corners aligned, as they were meant to be."""
    return ReleasedBilinear(scale, align_corners=True)


def released_decimation(scale: int) -> Physics:
    """At the second pixel of each block."""
    return ReleasedDecimation(scale)


def released_kernel(scale: int, kernel: Any) -> Physics:
    """A given blur."""
    return ReleasedKernel(scale, as_kernels(kernel))


class _Unobserved(Physics, kw_only=False):
    """No H; the first estimate is bilinear with half-pixel centres, SRResCGAN's."""

    scale: int = struct.field(pytree_node=False)  # pyright: ignore[reportIncompatibleVariableOverride]

    observes = False
    reach = 0
    start_reach = 1
    mirrors = True

    def initial_estimate(self, y: Images) -> Images:
        return jax.image.resize(y, self.hr_shape(y.shape), "bilinear")

    def turned(self, turns: int, flip: bool = False) -> Physics:
        return self
