"""``isr-jax upscale FOLDER -o OUT --watch``: which pictures have arrived, and are to be enlarged."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from isr_jax.config import ConfigError
from isr_jax.pictures.images import list_images
from isr_jax.upscale_options import PIPE, UpscaleConfig
from isr_jax.upscale_plan import target_suffix

PAUSE = 1.0
"""Seconds between two looks. A file that has not changed from one to the next is whole."""

Stamp = tuple[int, int]
"""When a file was changed, and its size: what tells one version from another."""


def arrivals(config: UpscaleConfig) -> Iterator[tuple[str, str]]:
    """Returns for ever the pictures to be enlarged, and where to, each when it is whole.

    A picture is left alone whose result is younger than it: what was done is done, also after a restart. One that
    changes comes again. What lies in the output folder is no input. Each version of a file comes once.

    Raises:
      ConfigError: If an input is no folder, or the output is a file.
    """
    output = Path(config.output)
    if config.output == PIPE or (output.exists() and not output.is_dir()):
        raise ConfigError(f"--watch writes into a folder; --output {config.output} is none")
    if other := [name for name in config.inputs if not Path(name).is_dir()]:
        raise ConfigError(f"--watch looks into folders; {other[0]} is none")
    return _arrivals(config, output)


def _arrivals(config: UpscaleConfig, output: Path) -> Iterator[tuple[str, str]]:
    seen: dict[Path, Stamp] = {}
    given: dict[Path, Stamp] = {}
    while True:
        now: dict[Path, Stamp] = {}
        for source, target in _pairs(config, output):
            if (stamp := _stamp(source)) is None:  # gone again
                continue
            now[source] = stamp
            if stamp[1] and seen.get(source) == stamp and given.get(source) != stamp:
                given[source] = stamp
                made = _stamp(target)
                if made is None or made[0] < stamp[0]:
                    yield str(source), str(target)
        seen = now
        time.sleep(PAUSE)


def _pairs(config: UpscaleConfig, output: Path) -> list[tuple[Path, Path]]:
    """Returns what is there, the first by name where two would have the same result."""
    pairs: dict[Path, Path] = {}
    for folder in map(Path, config.inputs):
        for source in list_images(folder, recursive=True):
            if not source.resolve().is_relative_to(output.resolve()):
                place = source.relative_to(folder)
                pairs.setdefault(output / place.with_suffix(target_suffix(place, config)), source)
    return [(source, target) for target, source in pairs.items()]


def _stamp(path: Path) -> Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
