"""The arguments of ``isr-jax upscale``, and what they may not be."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from isr_jax.command_line import Positional, arg
from isr_jax.config import ConfigError
from isr_jax.inference.sizes import Fit, Size
from isr_jax.pictures.encoding import Subsampling
from isr_jax.pictures.formats import FORMATS
from isr_jax.pictures.images import MAX_PIXELS

BICUBIC = "bicubic"
PIPE = "-"


@dataclass(frozen=True, kw_only=True)
class UpscaleConfig:
    """The arguments of the command."""

    inputs: Annotated[tuple[str, ...], Positional, arg(metavar="INPUT...")]
    """Pictures, folders (with all below them), patterns such as "photos/*.png", or - for standard input. Without
    --output two paths are INPUT and OUTPUT."""
    output: Annotated[str, arg(aliases=["-o"])] = ""
    """A file, or a folder for several pictures; .npy keeps float32 on 0..255; - is standard output (PNG)."""
    model: str = ""
    """Shipped name, model file or run folder, or "bicubic"; without it isr-lite-x4 (-x2, -x3 by --scale) for pictures
    that are taken for clean, isr-blind-x4 for those that are blurred and nothing else, at x4, and isr-any for others,
    and where --blur, --noise or --jpeg say something."""
    scale: float | None = None
    """Enlarge by so much: by one of the model's own scales, or by any smaller factor by way of the next larger one."""
    size: str | None = None
    """Instead of a scale, width and height in pixels, as 1920x1080; of another aspect ratio see --fit."""
    width: int | None = None
    """Or the width alone; the height follows."""
    height: int | None = None
    """Or the height alone; the width follows."""
    longest: int | None = None
    """Or the longer side. Pictures that are to shrink are reduced by antialiased bicubic interpolation alone."""
    fit: Fit = "contain"
    """A picture of another aspect ratio than --size lies inside it (contain), fills it and is cut around the middle
    (cover), or is distorted (stretch)."""
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
    jpeg: float | None = None
    """Quality of the JPEG files that the pictures come from, 1 to 100, for models that are told it; estimated from each
    by default, or read from the file."""
    no_inspect: bool = False
    """Take blur, noise and JPEG that are not given for none, instead of estimating them."""
    strength: float = 1.0
    """How much of what the network does is wanted: from 0, the solution without it, to 1."""
    shard: str | None = None
    """Do one share of the pictures, as 3/16, the fourth of 0/16 to 15/16, on many machines or processes, by the names
    of the outputs; or "auto", by JAX_PROCESS_ID and JAX_NUM_PROCESSES, or under SLURM."""
    devices: str | None = None
    """Share each picture among so many devices, or "all"."""
    memory: str | None = None
    """What the process may hold, as 2G or 800M: large pictures are done in smaller windows, a little slower."""
    format: str | None = None
    """Suffix of the files in an output folder, such as png; that of the input by default, png where that is only
    read (GIF, HEIC)."""
    quality: int = 95
    """Of JPEG, WebP and AVIF, 1 to 100; 100 makes WebP lossless."""
    subsampling: Subsampling = "4:4:4"
    """How much of the colours JPEG and AVIF keep: all, half (4:2:2), or a quarter (4:2:0)."""
    compression: int = 6
    """Of PNG and TIFF, 0 (none) to 9 (smallest and slow)."""
    bits: Literal["8", "16", "32"] | None = None
    """Bits a sample of PNG and TIFF, 32 being floating point on 0..1 (TIFF alone); those of the input by default."""
    strip: bool = False
    """Leave out what the file says of the picture (EXIF, XMP, IPTC, comment); colours and resolution are kept."""
    max_pixels: int = MAX_PIXELS
    """Refuse larger inputs: a small file can hold a picture that fills the memory."""
    skip_existing: bool = False
    """Leave alone what exists already in the output folder: resumes an interrupted run."""
    overwrite: bool = False
    """Replace what exists already in the output folder; a file that --output names itself is replaced anyway."""
    watch: bool = False
    """Go on for ever: enlarge what arrives in the input folders, when it is whole, and what changes there. Ctrl-C ends
    it; after a restart it goes on."""
    quiet: bool = False
    """Say nothing but what failed."""
    json_lines: bool = False
    """Say each picture as one line of JSON on standard output: input, output, seconds, error."""


def check(config: UpscaleConfig) -> UpscaleConfig:
    """Returns the arguments with an output, see `with_output`.

    Raises:
      ConfigError: If one cannot be, or two contradict each other.
    """
    if not 1 <= config.quality <= 100:
        raise ConfigError(f"--quality {config.quality}: choose 1 to 100")
    if not 0 <= config.compression <= 9:
        raise ConfigError(f"--compression {config.compression}: choose 0 to 9")
    if config.scale is not None and not 0 < config.scale < 1000:
        raise ConfigError(f"--scale {config.scale}: choose a factor above 0 and below 1000")
    if config.max_pixels < 1:
        raise ConfigError(f"--max-pixels {config.max_pixels}: choose a number of pixels, at least 1")
    if not 0 <= config.strength <= 1:
        raise ConfigError(f"--strength {config.strength}: choose 0 to 1")
    wanted_size(config)
    if config.format is not None and f".{config.format.lstrip('.').lower()}" not in {*FORMATS, ".npy"}:
        raise ConfigError(f"--format {config.format}: choose one of {', '.join(s[1:] for s in FORMATS)}, npy")
    if config.overwrite and config.skip_existing:
        raise ConfigError("--overwrite and --skip-existing contradict each other: give one of them")
    if config.watch and (config.overwrite or config.skip_existing or config.shard is not None):
        raise ConfigError(
            "--watch makes what is missing or older than its picture: leave out --overwrite, --skip-existing, --shard"
        )
    config = with_output(config)
    if config.json_lines and config.output == PIPE:
        raise ConfigError("--json-lines and --output - would both write to standard output: give one of them")
    return config


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
    said = config.overwrite or config.skip_existing
    if Path(target).is_file() and not said:  # `isr-jax upscale *.png` may stand for two pictures
        raise ConfigError(f"{target} exists already: say --overwrite, or name where the results go with --output")
    return replace(config, inputs=(source,), output=target)


def wanted_size(config: UpscaleConfig) -> Size | None:
    """Returns the size that the command line asks for, None where it asks for none.

    Raises:
      ConfigError: If it asks for several, or for one that cannot be.
    """
    flags = ("scale", "size", "width", "height", "longest")
    given = [f"--{name}" for name in flags if getattr(config, name) is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} exclude each other: give one")
    if config.fit != "contain" and config.size is None:
        raise ConfigError(f"--fit {config.fit} has a meaning only with --size")
    sides = (config.width, config.height, config.longest)
    if (side := next((side for side in sides if side is not None), 1)) < 1:
        raise ConfigError(f"{given[0]} is {side}; choose a whole number of pixels, at least 1")
    if config.size is not None:
        width, _, height = config.size.lower().partition("x")
        if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            raise ConfigError(f"--size is {config.size}; give width and height in pixels, as 1920x1080")
        return int(width), int(height)
    if config.longest is not None:
        return config.longest
    return None if config.width is None and config.height is None else (config.width, config.height)
