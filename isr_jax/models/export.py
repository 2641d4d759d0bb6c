"""A model as one StableHLO file, which runs without this package."""

from typing import Any

import jax
import jax.numpy as jnp

from isr_jax.config import ConfigError, ModelConfig
from isr_jax.physics.jpeg import Jpeg
from isr_jax.physics.names import make_physics, needs_kernel
from isr_jax.solver.unrolled import ISRResCNet

SMALLEST_SIZE = 8
"""The noise estimate reflects 7 pixels at the border."""
PLATFORMS = ("cpu", "cuda", "tpu")


def choose_scale(config: ModelConfig, scale: int | None) -> int:
    """Returns the scale of a file: one of the model's, its first if none is asked for.

    Raises:
      ConfigError: If the model has no such scale.
    """
    scale = config.scale if scale is None else scale
    if scale not in config.all_scales:
        own = " and ".join(f"x{s}" for s in config.all_scales)
        raise ConfigError(f"`scale` is {scale}; the model is made for {own}")
    return scale


def export_stablehlo(
    model: ISRResCNet,
    *,
    scale: int | None = None,
    size: tuple[int, int] | None = None,
    kernel_size: int | None = None,
) -> bytes:
    """Returns the model, weights included, as StableHLO serialised by `jax.export`, for CPU, CUDA and TPU.

    ``jax.export.deserialize(bytearray(data)).call(lr)`` maps LR pictures (N, height, width, channels), float32 on
    0..255, to HR pictures. N is free; so are height and width (8 or more) unless given. Further inputs, in this order,
    are what the model is told: a blur kernel (kernel_size, kernel_size), its centre at kernel_size // 2, where the
    physics is a blur that is to be given; then noise_std (N,), on 0..255, where the model starts from solutions; then
    jpeg (N,), int32, 0 where a picture was never compressed, where it is told the quality of files.

    Args:
      model: The model.
      scale: One of the model's, if it has several; by default its first.
      size: Height and width of the LR pictures, if they shall be fixed. Needed by a closed form.
      kernel_size: Side of the blur kernel.
    Raises:
      ConfigError: If the model has no such scale, the size is too small or missing, or a kernel size is missing or not
        wanted.
    """
    config = model.config
    scale = choose_scale(config, scale)
    takes_kernel = needs_kernel(config.physics)
    if takes_kernel != (kernel_size is not None):
        verb = "needs" if takes_kernel else "takes no"
        raise ConfigError(f'a model with the physics "{config.physics}" {verb} `kernel_size`')
    if size is not None and min(size) < SMALLEST_SIZE:
        raise ConfigError(f"`size` is {size[0]}x{size[1]}: pictures need at least {SMALLEST_SIZE} pixels a side")
    if kernel_size is not None and kernel_size < 1:
        raise ConfigError(f"`kernel_size` is {kernel_size}; it must be at least 1")
    if size is None and (config.start_weights or config.data_step == "closed_form"):
        raise ConfigError("a model that solves in closed form needs `size`: its Fourier transforms are of one size")
    folded = model.folded()
    height, width = size or ("height", "width")
    constraints = [] if size else [f"height >= {SMALLEST_SIZE}", f"width >= {SMALLEST_SIZE}"]
    shape = jax.export.symbolic_shape(f"batch, {height}, {width}, {config.channels}", constraints=constraints)
    arguments: list[Any] = [jax.ShapeDtypeStruct(shape, jnp.float32)]
    if kernel_size is not None:
        arguments.append(jax.ShapeDtypeStruct((kernel_size, kernel_size), jnp.float32))
        if config.start_weights:
            arguments.append(jax.ShapeDtypeStruct(shape[:1], jnp.float32))
            if model.uses_error_std:
                arguments.append(jax.ShapeDtypeStruct(shape[:1], jnp.int32))

    def upscale(lr: jax.Array, kernel: Any = None, noise_std: Any = None, jpeg: Any = None) -> jax.Array:
        physics = make_physics(config.physics, scale=scale, kernel=kernel)
        if jpeg is not None:
            physics = Jpeg(jnp.where(jpeg > 0, jpeg, jnp.inf)) @ physics
        return folded(lr, physics=physics, noise_std=noise_std)

    return bytes(jax.export.export(jax.jit(upscale), platforms=PLATFORMS)(*arguments).serialize())
