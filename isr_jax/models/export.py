"""A model as one StableHLO file, which runs without this package."""

from typing import Any

import jax
import jax.numpy as jnp

from isr_jax.config import ConfigError
from isr_jax.physics.names import make_physics, needs_kernel
from isr_jax.solver.unrolled import ISRResCNet

SMALLEST_SIZE = 8
"""The noise estimate reflects 7 pixels at the border."""
PLATFORMS = ("cpu", "cuda", "tpu")


def export_stablehlo(
    model: ISRResCNet, *, size: tuple[int, int] | None = None, kernel_size: int | None = None
) -> bytes:
    """Returns the model, weights included, as StableHLO serialised by `jax.export`, for CPU, CUDA and TPU.

    ``jax.export.deserialize(bytearray(data)).call(lr)`` maps LR pictures (N, height, width, channels), float32 on
    0..255, to HR pictures. N is free; so are height and width (8 or more) unless given.

    Args:
      model: The model.
      size: Height and width of the LR pictures, if they shall be fixed.
      kernel_size: Where the physics is a blur that is to be given: the function's second input is then a blur kernel
        (kernel_size, kernel_size).
    Raises:
      ConfigError: If the size is too small, or a kernel size is missing or not wanted.
    """
    config = model.config
    takes_kernel = needs_kernel(config.physics)
    if takes_kernel != (kernel_size is not None):
        verb = "needs" if takes_kernel else "takes no"
        raise ConfigError(f'a model with the physics "{config.physics}" {verb} `kernel_size`')
    if size is not None and min(size) < SMALLEST_SIZE:
        raise ConfigError(f"`size` is {size[0]}x{size[1]}: pictures need at least {SMALLEST_SIZE} pixels a side")
    if kernel_size is not None and kernel_size < 1:
        raise ConfigError(f"`kernel_size` is {kernel_size}; it must be at least 1")
    folded = model.folded()
    height, width = size or ("height", "width")
    constraints = [] if size else [f"height >= {SMALLEST_SIZE}", f"width >= {SMALLEST_SIZE}"]
    shape = jax.export.symbolic_shape(f"batch, {height}, {width}, {config.channels}", constraints=constraints)
    arguments: list[Any] = [jax.ShapeDtypeStruct(shape, jnp.float32)]
    if kernel_size is not None:
        arguments.append(jax.ShapeDtypeStruct((kernel_size, kernel_size), jnp.float32))

    def upscale(lr: jax.Array, kernel: jax.Array | None = None) -> jax.Array:
        return folded(lr, physics=make_physics(config.physics, scale=config.scale, kernel=kernel))

    return bytes(jax.export.export(jax.jit(upscale), platforms=PLATFORMS)(*arguments).serialize())
