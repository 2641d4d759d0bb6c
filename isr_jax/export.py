"""The command ``isr-jax export MODEL``: a model as one StableHLO file, which runs without this package."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import tyro

from isr_jax.__main__ import run
from isr_jax.command_line import parse_arguments
from isr_jax.config import ConfigError
from isr_jax.files import replace_file
from isr_jax.models.model_file import find_model, load_model
from isr_jax.solver.unrolled import ISRResCNet

SMALLEST_SIZE = 8
"""The noise estimate reflects 7 pixels at the border."""
PLATFORMS = ("cpu", "cuda", "tpu")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The arguments of the command."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A shipped name, a model file, or a run folder."""
    format: Literal["stablehlo"] = "stablehlo"
    """What to write; so far StableHLO alone, as `jax.export` serialises it."""
    output: Path | None = None
    """The file to write (default: the model's name, .stablehlo, in the current folder)."""
    size: tuple[int, int] | None = None
    """Height and width of the LR pictures; any if not given."""
    kernel_size: int | None = None
    """Width of the blur kernel, which a model whose data term is a blur takes as a second input."""


def main(argv: list[str] | None = None) -> None:
    """Exports as the command line says."""
    options = parse_arguments(
        ExportOptions,
        argv,
        prog="isr-jax export",
        description="Writes a model as one StableHLO file; jax.export.deserialize(bytes).call(lr) runs it.",
    )
    path = find_model(options.model)
    name = Path(options.model).resolve().name if Path(options.model).is_dir() else path.stem
    output = options.output or Path(f"{name}.stablehlo")
    if output.is_dir():
        raise ConfigError(f"{output} is a folder; --output is the file to write")
    data = export_stablehlo(load_model(path), size=options.size, kernel_size=options.kernel_size)
    replace_file(output, lambda temporary: temporary.write_bytes(data))
    size = "any height and width of at least 8" if options.size is None else "{}x{} pixels".format(*options.size)
    print(f"wrote {output} ({len(data) / 2**20:.1f} MiB): LR pictures float32 (N, height, width, channels), {size}")


def export_stablehlo(
    model: ISRResCNet, *, size: tuple[int, int] | None = None, kernel_size: int | None = None
) -> bytes:
    """Returns the model, weights included, as StableHLO serialised by `jax.export`, for CPU, CUDA and TPU.

    ``jax.export.deserialize(bytearray(data)).call(lr)`` maps LR pictures (N, height, width, channels), float32 on
    0..255, to HR pictures. N is free; so are height and width (8 or more) unless given.

    Args:
      model: The model.
      size: Height and width of the LR pictures, if they shall be fixed.
      kernel_size: For the data terms "blur" and "released_kernel": the function's second input is then a blur kernel
        (kernel_size, kernel_size).
    Raises:
      ConfigError: If the size is too small, or a kernel size is missing or not wanted.
    """
    config = model.config
    takes_kernel = config.data_term in ("blur", "released_kernel")
    if takes_kernel != (kernel_size is not None):
        verb = "needs" if takes_kernel else "takes no"
        raise ConfigError(f'a model with the data term "{config.data_term}" {verb} --kernel-size')
    if size is not None and min(size) < SMALLEST_SIZE:
        raise ConfigError(f"--size {size[0]} {size[1]}: pictures need at least {SMALLEST_SIZE} pixels a side")
    if kernel_size is not None and kernel_size < 1:
        raise ConfigError(f"--kernel-size is {kernel_size}; it must be at least 1")
    folded = model.folded()
    height, width = size or ("height", "width")
    constraints = [] if size else [f"height >= {SMALLEST_SIZE}", f"width >= {SMALLEST_SIZE}"]
    shape = jax.export.symbolic_shape(f"batch, {height}, {width}, {config.channels}", constraints=constraints)
    arguments: list[Any] = [jax.ShapeDtypeStruct(shape, jnp.float32)]
    if kernel_size is not None:
        arguments.append(jax.ShapeDtypeStruct((kernel_size, kernel_size), jnp.float32))
    upscale = jax.jit(lambda lr, kernel=None: folded(lr, kernel=kernel))
    return bytes(jax.export.export(upscale, platforms=PLATFORMS)(*arguments).serialize())


if __name__ == "__main__":
    run(main)
