"""The command ``isr-jax pack FOLDER... -o train.pack``: what training needs of folders of pictures, as one file."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from isr_jax.__main__ import run
from isr_jax.command_line import Positional, arg, parse_arguments
from isr_jax.config import ConfigError
from isr_jax.files import printable
from isr_jax.training.pack import SUFFIX, Pack, read_pack
from isr_jax.training.packing import write_pack


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """The arguments of the command."""

    inputs: Annotated[tuple[str, ...], Positional, arg(metavar="FOLDER...")]
    """Folders of pictures, or of HR/ and LRx<scale>/, in the order in which training reads them; with --show, packs."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """The file to write; its name ends in .pack, and data.train takes it."""
    max_size: str | None = None
    """Largest size of the file, as 60M (K, M and G are powers of 1024). Where the pictures' files do not fit, pictures
    become WebP of the highest quality with which all fit, at least 80, except those whose own file is smaller."""
    show: bool = False
    """Print what is in packs, and check it, instead of making one."""


def main(argv: list[str] | None = None) -> None:
    """Packs as the command line says."""
    options = parse_arguments(
        PackOptions,
        argv,
        prog="isr-jax pack",
        description="Packs folders of pictures, with the files that name their licences, into one file to train from.",
    )
    if options.show:
        if not options.inputs or options.output or options.max_size:
            raise ConfigError("--show takes packs and nothing else, as isr-jax pack --show train.pack")
        for name in options.inputs:
            print_pack(read_pack(Path(name)))
        return
    if options.output is None or options.output.suffix != SUFFIX or options.output.is_dir():
        raise ConfigError(f"--output must name the file to write, as train{SUFFIX}")
    max_size = None if options.max_size is None else parse_size(options.max_size)
    print_pack(write_pack(list(options.inputs), options.output, max_size=max_size))


def parse_size(text: str) -> int:
    """Returns a size in bytes, as 60M or 1.5G say it.

    Raises:
      ConfigError: If it is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)(?:i?b)?", text.strip(), re.IGNORECASE)
    if match is None or not float(match[1]):
        raise ConfigError(f"--max-size {text}: give a size, as 60M or 1.5G")
    return int(float(match[1]) * 1024 ** " kmg".index(match[2].lower() or " "))


def print_pack(pack: Pack) -> None:
    """Prints what is in a pack."""
    quality = "the pictures' own files" if pack.quality is None else f"WebP of quality {pack.quality} where smaller"
    print(f"{pack.path}: {pack.path.stat().st_size / 2**20:.1f} MiB, {quality}")
    for source in pack.sources:
        stored = [picture for picture in source.hr if picture.member]
        pixels = sum(picture.height * picture.width for picture in stored)
        said = [f"{len(stored)} pictures", f"{pixels / 1e6:.1f} megapixels"]
        if encoded := sum(picture.quality is not None for picture in stored):
            said.append(f"{encoded} re-encoded")
        if lost := len(source.hr) - len(stored):
            said.append(f"{lost} could not be read")
        said += [f"LR x{scale}" for scale in source.lr]
        print(printable(f"  {source.name}: {', '.join(said)}"))
        licences = [f"{name} (unzip -p {pack.path} {member})" for name, member in source.licences.items()]
        print(printable(f"    licences: {', '.join(licences) or 'the folder had no file that names one'}"))


if __name__ == "__main__":
    run(main)
