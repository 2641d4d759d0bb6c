"""What one picture over several devices costs, read off the traced program itself: no device is needed.

Programs are traced for an abstract mesh of any size; operations are counted from the shapes that each device sees, a
loop's as often as it runs. So the numbers are those of the code, not of a model of it.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr  # pyright: ignore[reportPrivateImportUsage]
from jax.sharding import AbstractMesh, AxisType

from isr_jax.inference.layout import AXES, Layout, choose_grid
from isr_jax.inference.programs import needed_bytes
from isr_jax.inference.spatial import least_tile, sees_tiles, spread_model
from isr_jax.inference.tiles import cover
from isr_jax.physics.names import make_physics
from isr_jax.solver.compilation import compiler_options
from isr_jax.solver.unrolled import ISRResCNet

MEASURED_SIDE = 256
"""Side in LR pixels of the window whose program is compiled to see what memory a pixel takes."""


class Work(NamedTuple):
    """What one device does."""

    flops: float
    """Operations of convolutions, matrix products and Fourier transforms; a multiply-add is two."""
    sent_bytes: float
    """What a device with neighbours on all sides sends to them, and of gathered tiles receives."""

    def __add__(self, other: Any) -> "Work":
        return Work(self.flops + other.flops, self.sent_bytes + other.sent_bytes)

    def times(self, count: float | int) -> "Work":
        """Returns that of so many such."""
        return Work(self.flops * count, self.sent_bytes * count)


class Plan(NamedTuple):
    """One picture over the devices, in one pass or in several windows that each fit into memory."""

    devices: int
    grid: tuple[int, int]
    """Tiles along the height and the width."""
    passes: int
    window: tuple[int, int]
    """What a device works on at a time, LR pixels."""
    work: Work
    """Of one device, all passes together."""
    work_factor: float
    """All devices' operations over those of the whole picture on one."""
    memory_bytes: float
    """Of one device."""


def count_work(jaxpr: Jaxpr | ClosedJaxpr, devices: int = 1) -> Work:
    """Returns what one device does in a traced program.

    Args:
      jaxpr: As `jax.jit(function).trace(...).jaxpr`. A `while` of unknown length counts once; what
        the compiler leaves out because nothing needs it is counted, too.
      devices: Among how many is shared what stands outside of `shard_map`.
    """
    total = Work(0.0, 0.0)
    for equation in (jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr).eqns:
        name, params = equation.primitive.name, equation.params
        inside = [p for p in jax.tree.leaves(list(params.values())) if isinstance(p, Jaxpr | ClosedJaxpr)]
        share = 1 if name == "shard_map" else devices
        part = functools.reduce(Work.__add__, (count_work(p, share) for p in inside), Work(0.0, 0.0))
        if name == "scan":
            part = part.times(params["length"])
        total = total + part
        own = _OPERATIONS.get(name)
        if own is not None:
            total = total + own(equation)._replace(flops=own(equation).flops / devices)
    return total


def _convolution(equation: Any) -> Work:
    kernel, out = equation.invars[1].aval.shape, equation.outvars[0].aval
    numbers = equation.params.get("dimension_numbers")
    outputs = kernel[3] if numbers is None else kernel[numbers.rhs_spec[0]]
    return Work(2 * out.size * math.prod(kernel) / outputs, 0)


def _product(equation: Any) -> Work:
    (contracted, _), _ = equation.params["dimension_numbers"]
    terms = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    return Work(2 * equation.outvars[0].aval.size * terms, 0)


def _transform(equation: Any) -> Work:
    size, points = equation.invars[0].aval.size, math.prod(equation.params["fft_lengths"])
    return Work(5 * size * math.log2(max(2, points)), 0)


def _sent(equation: Any) -> Work:
    return Work(0, sum(v.aval.size * v.aval.dtype.itemsize for v in equation.invars))


def _gathered(equation: Any) -> Work:
    received = equation.params["axis_size"] - 1
    return _sent(equation).times(received)


_OPERATIONS: dict[str, Callable[[Any], Work]] = {
    "same_correlation": _convolution,
    "conv_general_dilated": _convolution,
    "dot_general": _product,
    "fft": _transform,
    "ppermute": _sent,
    "all_gather": _gathered,
}


def plan_picture(model: ISRResCNet, size: tuple[int, int], devices: int, *, memory: float | int) -> Plan:
    """Returns what a picture costs on so many devices; it need not exist, nor they.

    Args:
      model: Any whose network has a finite reach, with the physics it was made for.
      size: Height and width of the LR picture.
      devices: Of one pod.
      memory: Bytes that each may use. A model of finite reach works in passes where one would take more.
    """
    physics = make_physics(model.config.physics, scale=model.config.scale)
    noise = jax.ShapeDtypeStruct((1,), jnp.float32) if model.uses_noise_std else None
    stages = model.config.num_stages
    tiled = sees_tiles(model, physics, estimates_noise=False, num_stages=stages)
    halo = least_tile(model, physics)
    per_pixel = bytes_per_pixel(model)
    part, cuts = size, 1
    while tiled and per_pixel * math.prod(_layout(part, halo, devices).window(halo)) > memory:
        cuts += 1  # windows of the whole pod, of which each device takes a tile
        height, width = (math.ceil((side + 2 * (cuts - 1) * halo) / cuts) for side in size)
        part = height, width
    layout = _layout(part, halo, devices)
    work, count = count_work(_trace(model, layout, tiled, noise), layout.devices), layout.devices
    whole = count_work(_trace(model, _layout(part, halo, 1), tiled, noise)).flops / math.prod(part) * math.prod(size)
    passes = len(cover(size[0], part[0], halo)) * len(cover(size[1], part[1], halo))
    return Plan(
        devices=count,
        grid=layout.grid,
        passes=passes,
        window=layout.window(halo),
        work=work.times(passes),
        work_factor=work.flops * passes * count / whole,
        memory_bytes=per_pixel * math.prod(layout.window(halo)),
    )


def bytes_per_pixel(model: ISRResCNet, side: int = MEASURED_SIDE) -> float:
    """Returns the memory that a window's program takes for each LR pixel, as this machine's compiler says."""
    lr = jax.ShapeDtypeStruct((1, side, side, model.config.channels), jnp.float32)
    noise = jax.ShapeDtypeStruct((1,), jnp.float32) if model.uses_noise_std else None
    run = jax.jit(lambda model, lr, noise_std: model(lr, noise_std=noise_std))
    program = run.lower(model, lr, noise).compile(compiler_options=dict[str, Any](compiler_options(model.config)))
    return needed_bytes(program) / side**2


def _layout(size: tuple[int, int], halo: int, devices: int) -> Layout:
    grid = choose_grid(size, halo, devices)
    return Layout(AbstractMesh(grid, AXES, axis_types=(AxisType.Auto,) * 2), size)


def _trace(model: ISRResCNet, layout: Layout, tiled: bool, noise: Any) -> ClosedJaxpr:
    size = layout.padded if tiled else layout.size
    lr = jax.ShapeDtypeStruct((1, *size, model.config.channels), jnp.float32)
    run = jax.jit(lambda model, lr, noise_std: spread_model(layout, model, lr, noise_std=noise_std))
    return run.trace(model, lr, noise).jaxpr
