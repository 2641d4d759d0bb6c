"""Which files ``isr-jax upscale`` reads and writes: what its command line stands for."""

import glob
from collections.abc import Sequence
from pathlib import Path

from isr_jax.config import ConfigError
from isr_jax.inference.shards import Shard
from isr_jax.pictures.formats import FORMATS, READABLE, format_of
from isr_jax.pictures.images import list_images, list_left_out
from isr_jax.upscale_options import PIPE, UpscaleConfig


def plan(config: UpscaleConfig, shard: Shard | None = None) -> list[tuple[str, str]]:
    """Returns the pairs of input and output that the command line stands for, or a share of it; reads no picture.

    Raises:
      ConfigError: If an input does not exist, outputs coincide with each other or with inputs, cannot be written, or
        exist in an output folder and nothing says what to do with them.
    """
    if not config.inputs:
        raise ConfigError("nothing to upscale: name pictures, folders, patterns, or - for standard input")
    sources, to_folder = find_sources(config.inputs, config.output)
    if config.output == PIPE:
        if to_folder:
            raise ConfigError("--output - takes one picture: name a folder for several")
        return [(sources[0][0], PIPE)]
    output = Path(config.output)
    to_folder = to_folder or output.is_dir() or config.output.endswith("/")
    to_file = bool(output.suffix) and not to_folder
    if to_file:
        if output.suffix.lower() != ".npy":
            image_format = format_of(output)
            if config.format is not None and FORMATS.get(target_suffix(output, config)) != image_format:
                raise ConfigError(f"--format {config.format} and --output {output} contradict each other: give one")
        targets = [output]
    else:
        named_as_file = output.suffix.lower() in {*FORMATS, ".npy"} and not config.output.endswith("/")
        if not output.is_dir() and (output.exists() or named_as_file):
            raise ConfigError(f"--output {output} is a file; several pictures need a folder")
        targets = [output / place.with_suffix(target_suffix(place, config)) for _, place in sources]
    pairs = list(zip((source for source, _ in sources), targets, strict=True))
    _check_apart(pairs)
    if shard is not None:  # what others have written meanwhile is theirs
        pairs = [(s, t) for s, t in pairs if shard.owns(t.name if to_file else t.relative_to(output).as_posix())]
    existing = [target for _, target in pairs if target.exists()]
    if existing and not to_file and not config.overwrite and not config.skip_existing:
        more = f" and {len(existing) - 1} more exist" if len(existing) > 1 else " exists"
        raise ConfigError(f"{existing[0]}{more} already: --overwrite replaces, --skip-existing leaves what is there")
    return [(source, str(target)) for source, target in pairs]


def left_out(config: UpscaleConfig) -> list[Path]:
    """Returns the pictures in the folders among the inputs that are of kinds that are not read."""
    return [path for folder in config.inputs if Path(folder).is_dir() for path in list_left_out(folder, recursive=True)]


def target_suffix(place: Path, config: UpscaleConfig) -> str:
    """Returns the suffix of what is made of a picture in an output folder."""
    if config.format is not None:
        return f".{config.format.lstrip('.').lower()}"
    return place.suffix if place.suffix.lower() in FORMATS else ".png"


def find_sources(inputs: Sequence[str], output: str = "") -> tuple[list[tuple[str, Path]], bool]:
    """Returns the pictures that inputs stand for, each with its place in an output folder; and whether several may be.

    What is named twice is one picture; what lies in the output folder is none.

    Raises:
      ConfigError: If a folder has no pictures, or a pattern matches no file.
    """
    sources: list[tuple[str, Path]] = []
    several = len(inputs) > 1
    made = Path(output).resolve() if output else None
    for given in inputs:
        if not given:
            raise ConfigError("an input is empty: name a picture or a folder (. is this one)")
        path = Path(given)
        if given == PIPE:
            sources.append((PIPE, Path("stdin.png")))
        elif path.is_dir():
            several = True
            inside = list_images(path, recursive=True)
            if made is not None and path.resolve() in made.parents:  # what an earlier run made there is not an input
                inside = [p for p in inside if not p.resolve().is_relative_to(made)]
            if not inside:
                raise ConfigError(f"{given} has no pictures ({READABLE})")
            sources += [(str(p), p.relative_to(path)) for p in inside]
        elif path.exists() or not glob.has_magic(given):
            sources.append((given, Path(path.name)))  # a missing file is named when its turn comes
        else:
            several = True
            files = [match for match in map(Path, sorted(glob.glob(given, recursive=True))) if match.is_file()]
            if not files:
                raise ConfigError(f"{given} matches no file")
            sources += [(str(file), Path(file.name)) for file in files]
    return list(dict.fromkeys(sources)), several


def _check_apart(pairs: list[tuple[str, Path]]) -> None:
    """Says which output would be another's, or an input."""
    seen: dict[Path, str] = {}
    inputs = {Path(source).resolve(): source for source, _ in pairs if source != PIPE}
    for source, target in pairs:
        if target in seen:
            raise ConfigError(f"{seen[target]} and {source} would both become {target}: upscale them apart")
        seen[target] = source
        overwritten = inputs.get(target.resolve())
        if source != PIPE and target.exists() and Path(source).exists() and target.samefile(source):
            overwritten = source  # by another spelling or link
        if overwritten is not None:
            raise ConfigError(f"--output would overwrite {overwritten}: name another place")
