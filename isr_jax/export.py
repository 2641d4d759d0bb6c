"""The command ``isr-jax export MODEL [OUT]``: a model as one file, which runs without this package."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from isr_jax.__main__ import run
from isr_jax.command_line import Positional, arg, parse_arguments
from isr_jax.config import ConfigError
from isr_jax.files import replace_file
from isr_jax.pictures.formats import READ_SUFFIXES

SUFFIXES = {".onnx": "onnx", ".stablehlo": "stablehlo"}


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The arguments of the command."""

    model: Annotated[str, Positional, arg(metavar="MODEL")]
    """A shipped name, a model file, or a run folder."""
    out: Annotated[Path | None, Positional, arg(metavar="OUT")] = None
    """The file to write: .onnx or .stablehlo (default: the model's name in the current folder)."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """The same, as an option."""
    format: Literal["onnx", "stablehlo"] | None = None
    """What to write, whatever the file is called: ONNX, or StableHLO as `jax.export` serialises it."""
    layout: Literal["nchw", "nhwc"] = "nchw"
    """Of ONNX: planar pictures (N, channels, height, width), or (N, height, width, channels)."""
    input: Literal["float", "uint8"] = "float"
    """Of ONNX: floating point on 0..1, or 8 bits on 0..255; the output alike."""
    scale: int | None = None
    """The factor, of a model that has several."""
    size: tuple[int, int] | None = None
    """Height and width of the LR pictures; any if not given."""
    kernel_size: int | None = None
    """Of StableHLO: side of the blur kernel that a model is told; ONNX takes any."""


def main(argv: list[str] | None = None) -> None:
    """Exports as the command line says."""
    options = parse_arguments(
        ExportOptions,
        argv,
        prog="isr-jax export",
        description="Writes a model as one file for other programs: ONNX, or StableHLO (docs/how-to/onnx.md).",
    )
    if options.out and options.output and options.out != options.output:
        raise ConfigError(f"the file to write is {options.out} and --output {options.output}: give one")
    given = options.out or options.output
    kind = options.format or SUFFIXES.get(given.suffix.lower() if given else ".onnx")
    if kind is None:
        raise ConfigError(f"{given}: end its name with .onnx or .stablehlo, or give --format")
    if given is not None and given.is_dir():
        raise ConfigError(f"{given} is a folder; name the file to write")
    if given is not None and given.suffix == ".safetensors":
        raise ConfigError(f"{given} is the name of a model file: name another file to write")
    if given is not None and given.exists() and given.suffix.lower() in READ_SUFFIXES:
        raise ConfigError(f"{given} is a picture: name another file to write")
    if options.size is not None and min(options.size) < 1:
        raise ConfigError(f"--size is {options.size[0]} {options.size[1]}: give a height and a width of at least 1")
    if kind == "onnx" and options.kernel_size is not None:
        raise ConfigError("an ONNX file takes kernels of any size: leave out --kernel-size")
    if kind == "stablehlo" and (options.layout, options.input) != ("nchw", "float"):
        raise ConfigError("--layout and --input are of ONNX files: leave them out")

    # Not at the top: --help must not wait for JAX.
    from isr_jax.models.model_file import find_model, load_model, read_metadata, shipped_models

    path = find_model(options.model)
    name = Path(options.model).resolve().name if Path(options.model).is_dir() else path.stem
    output = given or Path(f"{name}.{kind}")
    if kind == "onnx":
        from isr_jax.models.onnx_file import export_onnx

        weights = "MIT" if options.model in shipped_models() else str(read_metadata(path).get("license", ""))
        data = export_onnx(
            load_model(path),
            name=name,
            license=weights,
            scale=options.scale,
            size=options.size,
            layout=options.layout,
            input=options.input,
        )
        pictures = "uint8 on 0..255" if options.input == "uint8" else "float32 on 0..1"
        axes, least = ", ".join({"n": "N", "c": "channels", "h": "height", "w": "width"}[x] for x in options.layout), ""
    else:
        from isr_jax.models.export import export_stablehlo

        model = load_model(path)
        data = export_stablehlo(model, scale=options.scale, size=options.size, kernel_size=options.kernel_size)
        pictures, axes, least = "float32 on 0..255", "N, height, width, channels", " of at least 8"
    replace_file(output, lambda temporary: temporary.write_bytes(data))
    size = f"any height and width{least}" if options.size is None else "{}x{} pixels".format(*options.size)
    print(f"wrote {output} ({len(data) / 2**20:.1f} MiB): LR pictures {pictures} ({axes}), {size}")


if __name__ == "__main__":
    run(main)
