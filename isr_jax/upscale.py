"""The command ``isr-jax upscale``: super-resolves pictures, folders of them, and what comes through a pipe."""

import dataclasses
import glob
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from isr_jax.__main__ import in_flags, run
from isr_jax.command_line import Positional, arg, parse_arguments
from isr_jax.config import ConfigError, UserError
from isr_jax.files import replace_file
from isr_jax.inference.bicubic import BicubicUpscaler
from isr_jax.pictures.images import FORMATS, MAX_PIXELS, encode_image, format_of, list_images, read_image, write_image
from isr_jax.pictures.picture import Picture
from isr_jax.progress import Progress
from isr_jax.startup import prepare_process

BICUBIC = "bicubic"
PIPE = "-"

Enlarge = Callable[[Picture], tuple[Picture, np.ndarray]]
"""Returns the enlarged picture, and its pixels before rounding: float32 on 0..255."""


@dataclass(frozen=True, kw_only=True)
class UpscaleConfig:
    """The arguments of the command."""

    inputs: Annotated[tuple[str, ...], Positional, arg(metavar="INPUT...")]
    """Pictures, folders (with all below them), patterns such as "photos/*.png", or - for standard input. Without
    --output two paths are INPUT and OUTPUT."""
    output: Annotated[str, arg(aliases=["-o"])] = ""
    """A file, or a folder for several pictures; .npy keeps float32 on 0..255; - is standard output (PNG)."""
    model: str = ""
    """Shipped name, model file or run folder, or "bicubic"; without it isr-lite-x4, or -x2 or -x3 by --scale."""
    scale: float | None = None
    """Enlarge by so much: by one of the model's own scales, or by downsampling after the next larger one; bicubic
    needs it."""
    ensemble: bool = False
    """Average over the eight flips and rotations of each picture: a little better, eight times slower."""
    num_stages: int | None = None
    """Stop the solver after so many stages: faster."""
    blur: str | None = None
    """What blurred the pictures, in pixels of the enlarged one: 1.6 (standard deviation), or 1.6,0.8,30 (two and an
    angle in degrees), or a kernel, which is divided by its sum: .npy, k x k or k x k x 3, or a grey picture of it
    (kernel.png)."""
    noise: Annotated[float | None, arg(aliases=["--noise-std"])] = None
    """Noise level of the pictures, standard deviation on the 0..255 scale; estimated from each by default."""
    format: str | None = None
    """Suffix of the files in an output folder, such as png; that of the input by default (of a GIF: png)."""
    quality: int = 95
    """Of JPEG and WebP, 1 to 100; 100 makes WebP lossless."""
    max_pixels: int = MAX_PIXELS
    """Refuse larger inputs: a small file can hold a picture that fills the memory."""
    skip_existing: bool = False
    """Leave alone what exists already in the output folder: resumes an interrupted run."""
    overwrite: bool = False
    """Replace what exists already in the output folder; a file that --output names itself is replaced anyway."""
    quiet: bool = False
    """Say nothing but what failed."""
    json_lines: bool = False
    """Say each picture as one line of JSON on standard output: input, output, seconds, error."""


def main(argv: list[str] | None = None) -> None:
    """Super-resolves as the command line says."""
    config = parse_arguments(
        UpscaleConfig, argv, prog="isr-jax upscale", description="Super-resolves pictures and folders of them."
    )
    if not 1 <= config.quality <= 100:
        raise ConfigError(f"--quality {config.quality}: choose 1 to 100")
    if config.scale is not None and not 0 < config.scale < 1000:
        raise ConfigError(f"--scale {config.scale}: choose a positive factor")
    if config.format is not None and f".{config.format.lstrip('.').lower()}" not in {*FORMATS, ".npy"}:
        raise ConfigError(f"--format {config.format}: choose one of {', '.join(s[1:] for s in FORMATS)}, npy")
    if config.overwrite and config.skip_existing:
        raise ConfigError("--overwrite and --skip-existing contradict each other: give one of them")
    if config.json_lines and config.output == PIPE:
        raise ConfigError("--json-lines and --output - would both write to standard output: give one of them")
    config = with_output(config)
    jobs = plan(config)
    todo = [(source, target) for source, target in jobs if not (config.skip_existing and Path(target).exists())]
    if not todo:
        _note(config, f"nothing to do: all {len(jobs)} exist")
        return
    enlarge = make_enlarger(config)
    failed: list[str] = []
    progress = Progress(total=len(todo), quiet=config.quiet, json_lines=config.json_lines)
    for source, target in todo:
        progress.begin(source)
        try:
            progress.end(target, upscale_file(source, target, enlarge, config))
        except (UserError, OSError, MemoryError) as error:
            failed.append(_one_line(source, error))
            if config.json_lines or len(todo) > 1:
                progress.end(target, error=in_flags(failed[-1]))
            if len(todo) == 1:
                raise
    for line in failed:
        print(f"isr-jax: {in_flags(line)}", file=sys.stderr)
    if failed:
        raise UserError(f"{len(failed)} of {len(todo)} pictures failed; the others are done")


def with_output(config: UpscaleConfig) -> UpscaleConfig:
    """Returns the arguments with an output, which may be the second of two paths.

    Raises:
      ConfigError: If there is none, or it may be meant as an input.
    """
    if config.output or not config.inputs:
        return config
    if len(config.inputs) != 2:
        raise ConfigError("name where the results go: two paths, INPUT and OUTPUT, or --output after the inputs")
    source, target = config.inputs
    if Path(target).is_file() and not config.overwrite:  # `isr-jax upscale *.png` may stand for two pictures
        raise ConfigError(f"{target} exists already: say --overwrite, or name where the results go with --output")
    return dataclasses.replace(config, inputs=(source,), output=target)


def plan(config: UpscaleConfig) -> list[tuple[str, str]]:
    """Returns the pairs of input and output that the command line stands for; reads no picture.

    Raises:
      ConfigError: If an input does not exist, outputs coincide with each other or with inputs, cannot be written, or
        exist in an output folder and nothing says what to do with them.
    """
    if not config.inputs:
        raise ConfigError("nothing to upscale: name pictures, folders, patterns, or - for standard input")
    sources: list[tuple[str, Path]] = []  # and where below an output folder the result goes
    to_folder = len(config.inputs) > 1
    output = Path(config.output)
    for given in config.inputs:
        path = Path(given)
        if given == PIPE:
            sources.append((PIPE, Path("stdin.png")))
        elif path.is_dir():
            to_folder = True
            inside = list_images(path, recursive=True)
            if path.resolve() in output.resolve().parents:  # what an earlier run made there is not an input
                inside = [p for p in inside if not p.resolve().is_relative_to(output.resolve())]
            if not inside:
                raise ConfigError(f"{given} has no pictures ({', '.join(FORMATS)})")
            sources += [(str(p), p.relative_to(path)) for p in inside]
        elif path.exists() or not glob.has_magic(given):
            sources.append((given, Path(path.name)))  # a missing file is named when its turn comes
        else:
            matches = [Path(match) for match in sorted(glob.glob(given, recursive=True))]
            files = [match for match in matches if match.is_file()]
            if not files:
                raise ConfigError(f"{given} matches no file")
            to_folder = True
            sources += [(str(file), Path(file.name)) for file in files]
    if config.output == PIPE:
        if to_folder:
            raise ConfigError("--output - takes one picture: name a folder for several")
        return [(sources[0][0], PIPE)]
    to_folder = to_folder or output.is_dir() or config.output.endswith("/")
    if not to_folder and output.suffix:
        if output.suffix.lower() != ".npy":
            format_of(output)
        targets = [output]
    else:
        named_as_file = output.suffix.lower() in {*FORMATS, ".npy"} and not config.output.endswith("/")
        if not output.is_dir() and (output.exists() or named_as_file):
            raise ConfigError(f"--output {output} is a file; several pictures need a folder")
        targets = [output / place.with_suffix(_target_suffix(place, config)) for _, place in sources]
    seen: dict[Path, str] = {}
    inputs = {Path(source).resolve(): source for source, _ in sources if source != PIPE}
    for (source, _), target in zip(sources, targets, strict=True):
        if target in seen:
            raise ConfigError(f"{seen[target]} and {source} would both become {target}: upscale them apart")
        seen[target] = source
        overwritten = inputs.get(target.resolve())
        if source != PIPE and target.exists() and Path(source).exists() and target.samefile(source):
            overwritten = source  # by another spelling or link
        if overwritten is not None:
            raise ConfigError(f"--output would overwrite {overwritten}: name another place")
    existing = [target for target in targets if target.exists()]
    if existing and targets != [output] and not config.overwrite and not config.skip_existing:
        more = f" and {len(existing) - 1} more exist" if len(existing) > 1 else " exists"
        raise ConfigError(f"{existing[0]}{more} already: --overwrite replaces, --skip-existing leaves what is there")
    return [(source, str(target)) for (source, _), target in zip(sources, targets, strict=True)]


def make_enlarger(config: UpscaleConfig) -> Enlarge:
    """Returns what enlarges a picture: a model, or bicubic interpolation (which needs no JAX).

    Raises:
      ConfigError: If there is no such model, or an option does not fit it.
    """
    name = config.model or default_model(config.scale)
    if name == BICUBIC:
        if config.scale is None:
            raise ConfigError("bicubic enlargement has no scale of its own: give --scale")
        if config.blur is not None or config.noise is not None:
            raise ConfigError("bicubic enlargement makes no use of --blur and --noise: leave them out")
        return BicubicUpscaler(config.scale).upscale_picture
    from isr_jax.inference import upscaler as infer
    from isr_jax.inference.kernels import read_blur

    prepare_process()
    model = infer.load(
        name,
        ensemble=config.ensemble,
        num_stages=config.num_stages,
        blur=None if config.blur is None else read_blur(config.blur),
        noise_std=config.noise,
    )
    if config.blur is not None and model.config.physics != "blur":
        physics = model.config.physics
        _note(config, f"isr-jax: {name} was trained on {physics} alone; its data steps are told the blur")
    if config.scale is not None:
        model.own_scale(config.scale)
    if config.blur is None and model.config.physics == "blur":
        _note(config, f"isr-jax: {name} is told that MATLAB's bicubic reduction made the pictures; see --blur")
    return lambda picture: model.upscale_picture(picture, config.scale)


def default_model(scale: float | int | None) -> str:
    """Returns the smallest shipped model that reaches a scale, or the largest: isr-lite-x2, -x3 or -x4."""
    return f"isr-lite-x{4 if scale is None else min(4, max(2, math.ceil(scale)))}"


def upscale_file(source: str, target: str, enlarge: Enlarge, config: UpscaleConfig) -> str:
    """Super-resolves one picture from a file to a file ("-": the pipes). Returns the sizes, for the progress."""
    picture = read_image(sys.stdin.buffer.read() if source == PIPE else source, max_pixels=config.max_pixels)
    if target != PIPE and not target.lower().endswith(".npy") and picture.alpha is not None:
        encode_image(_most_transparent(picture), format_of(target))  # says at once if it cannot hold that
    result, exact = enlarge(picture)
    if target == PIPE:
        sys.stdout.buffer.write(encode_image(result, "PNG"))
        sys.stdout.buffer.flush()
    elif target.lower().endswith(".npy"):
        replace_file(Path(target), lambda path: _save_array(path, exact))
    else:
        write_image(target, result, quality=config.quality)
    height, width = picture.pixels.shape[:2]
    return f"{width}x{height} -> {result.pixels.shape[1]}x{result.pixels.shape[0]}"


def _most_transparent(picture: Picture) -> Picture:
    """The pixel of a picture that a format without transparency is least able to hold."""
    alpha = None if picture.alpha is None else picture.alpha.min(keepdims=True)
    return Picture(pixels=picture.pixels[:1, :1], alpha=alpha)


def _save_array(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:  # numpy.save would append a suffix to a bare name
        np.save(file, array.astype(np.float32))


def _target_suffix(place: Path, config: UpscaleConfig) -> str:
    if config.format is not None:
        return f".{config.format.lstrip('.').lower()}"
    return place.suffix if place.suffix.lower() in FORMATS else ".png"


def _one_line(source: str, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or source}: {error.strerror or error}"
    text = " ".join(str(error).split()) or "not enough memory"
    return text if source in text else f"{source}: {text}"


def _note(config: UpscaleConfig, message: str) -> None:
    if not config.quiet and not config.json_lines:
        print(message, file=sys.stderr)


if __name__ == "__main__":
    run(main)
