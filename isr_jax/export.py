"""The command ``isr-jax export MODEL``: a model as one StableHLO file, which runs without this package."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from isr_jax.__main__ import run
from isr_jax.command_line import Positional, arg, parse_arguments
from isr_jax.config import ConfigError
from isr_jax.files import replace_file
from isr_jax.models.export import export_stablehlo
from isr_jax.models.model_file import find_model, load_model


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The arguments of the command."""

    model: Annotated[str, Positional, arg(metavar="MODEL")]
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


if __name__ == "__main__":
    run(main)
