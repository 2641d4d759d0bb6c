"""``isr-jax upscale FOLDER -o OUT --watch``: which pictures have arrived, and are to be enlarged."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from isr_jax.config import ConfigError
from isr_jax.pictures.images import list_images
from isr_jax.upscale_options import PIPE, UpscaleConfig
from isr_jax.upscale_plan import target_suffix

PAUSE = 1.0
"""Seconds between two looks. A file that has not changed from one to the next is whole."""

Stamp = tuple[int, int]
"""When a file was changed, and its size: what tells one version from another."""


def arrivals(config: UpscaleConfig, tell: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    """Returns for ever the pictures to be enlarged, and where to, each when it is whole.

    A picture is left alone whose result is younger than it: what was done is done, also after a restart. One that
    changes comes again. What lies in the output folder is no input. Each version of a file comes once. Of pictures that
    would have one result the first that came has it; `tell` is told once of each of the others.

    Raises:
      ConfigError: If an input is no folder or lies in the output folder, or the output is a file.
    """
    output = Path(config.output)
    if config.output == PIPE or (output.exists() and not output.is_dir()):
        raise ConfigError(f"--watch writes into a folder; --output {config.output} is none")
    if other := [name for name in config.inputs if not name or not Path(name).is_dir()]:
        raise ConfigError(f"--watch looks into folders; {other[0] or 'an empty name'} is none")
    for name in config.inputs:
        if Path(name).resolve().is_relative_to(output.resolve()):
            raise ConfigError(
                f"--output {output} holds the input {name!r}, whose results it would watch: name another place"
            )
    return _arrivals(config, output, tell)


def _arrivals(config: UpscaleConfig, output: Path, tell: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    owners: dict[Path, Path] = {}
    told: set[Path] = set()
    seen: dict[Path, Stamp] = {}
    given: dict[Path, Stamp] = {}
    while True:
        now: dict[Path, Stamp] = {}
        for target, sources in _places(config, output).items():
            source = owners.get(target)
            if source not in sources and (len(sources) == 1 or not target.exists()):
                source = owners[target] = sources[0]
            for other in sources:
                if other != source and other not in told:
                    told.add(other)
                    tell(f"{other} is left alone: {target} is of another picture; rename it")
            if source not in sources or (stamp := _stamp(source)) is None:  # nobody knows whose it is, or gone again
                continue
            now[source] = stamp
            if stamp[1] and seen.get(source) == stamp and given.get(source) != stamp:
                given[source] = stamp
                made = _stamp(target)
                if made is None or made[0] < stamp[0]:
                    yield str(source), str(target)
        seen = now
        time.sleep(PAUSE)


def _places(config: UpscaleConfig, output: Path) -> dict[Path, list[Path]]:
    """Returns, by where their result is to be, the pictures that are there."""
    places: dict[Path, list[Path]] = {}
    for folder in map(Path, config.inputs):
        for source in list_images(folder, recursive=True):
            if not source.resolve().is_relative_to(output.resolve()):
                place = source.relative_to(folder)
                places.setdefault(output / place.with_suffix(target_suffix(place, config)), []).append(source)
    return places


def _stamp(path: Path) -> Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
