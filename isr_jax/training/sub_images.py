"""Training pictures, and the aligned LR and HR sub-images that they are cut into.

Decoding a large picture for one small patch wastes nearly all of it, so pictures are cut into overlapping sub-images
once. The LR side is made from the whole picture (or read: `pictures.pairs`), so that a sub-image's border is no border.
"""

import collections
import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np

from isr_jax.config import ConfigError, DataConfig, UserError
from isr_jax.config.names import source_digest
from isr_jax.physics.names import make_physics
from isr_jax.pictures.images import name_left_out
from isr_jax.pictures.metrics import round_to_8_bits
from isr_jax.pictures.pairs import Pair, PairFiles, files_digest, hash_file, list_pairs, list_unread
from isr_jax.startup import user_cache
from isr_jax.training.own_pictures import OwnPicture, OwnPictures
from isr_jax.training.pack import is_pack, read_pack

VERSION = "1.0.0"
"""Of the way pictures are cut; part of every fingerprint."""

FETCHED, OWN = "div2k/", r"[\w.]+:\w+"
"""What names a data set of TFDS begin with, and what those of a sequence of one's own are."""

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, kw_only=True)
class Source:
    """The pictures of one folder, of one data set of TFDS, or of a class of one's own."""

    name: str
    """What messages call it."""
    pairs: Any
    """Its `PairFiles` or `OwnPicture`s: an iterable, as often as asked for, with a length."""
    content: str
    """Digest of names and bytes."""


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """How pictures become sub-images."""

    scale: int
    channels: int
    """3 for colour, 1 for grey."""
    tile: int
    """Largest side of a sub-image, HR pixels, a multiple of the scale."""
    least: int
    """Smallest side of a picture, HR pixels."""
    strict: bool
    """Whether an unreadable picture is an error."""
    camera: str = ""
    """Physics that LR pictures are made by where there are none, "module:Name"; empty: imresize."""

    @classmethod
    def of(cls, config: DataConfig, *, scale: int, channels: int, camera: str = "") -> "Cutting":
        """Returns what a configuration asks for."""
        tile, least = config.tile_size // scale * scale, config.drawn_size(scale) * scale
        return cls(scale=scale, channels=channels, tile=tile, least=least, strict=config.strict, camera=camera)

    def digest(self, source: Source) -> str:
        """Returns a digest of the sub-images of a source."""
        recipe = f"{VERSION}|{self.scale}|{self.channels}|{self.tile}|{self.least}|{source.content}"
        recipe += f"|{self.camera}|{source_digest(self.camera)}" if self.camera else ""
        return hashlib.sha256(recipe.encode()).hexdigest()[:16]

    def places(self, height: int, width: int) -> list[tuple[int, int]]:
        """Returns the upper left corners of the sub-images of an HR picture, HR pixels."""
        return [(y, x) for y in cut(height, self.tile, self.scale) for x in cut(width, self.tile, self.scale)]


def check_there(field: str, names: Iterable[str]) -> None:
    """Raises if a file or folder that a field names is not there; what is to be imported or fetched is not looked for.

    Raises:
      ConfigError: That names the field.
    """
    for name in names:
        if not name:
            raise ConfigError(f"{field} names an empty path: name a folder or a pack")
        if not (Path(name).exists() or name.startswith(FETCHED) or re.fullmatch(OWN, name)):
            raise ConfigError(
                f"{field} names {name}, which is not there, seen from {Path.cwd()}: name a folder or a pack"
            )


def open_sources(config: DataConfig, scale: int) -> list[Source]:
    """Finds the pictures of all of `config.train`; decodes none.

    Raises:
      UserError: If a source is missing, has no pictures, or its LR and HR pictures do not match.
    """
    if not config.train:
        raise UserError("data.train is empty; name at least one folder of pictures, as --data.train photos")
    sources = []
    for name in config.train:
        path = Path(name)
        if name.startswith(FETCHED) and not path.exists():
            with needs_tensorflow(f"data.train={name}", "name a folder of pictures"):
                from isr_jax.training.tfds import TfdsPictures
            pictures = TfdsPictures(name)
            sources.append(Source(name=name, pairs=pictures, content=pictures.content))
        elif re.fullmatch(OWN, name) and not path.exists():
            pictures = OwnPictures(name)
            sources.append(Source(name=name, pairs=pictures, content=pictures.content))
        elif is_pack(path):
            for part in read_pack(path).sources:
                pairs = part.pairs(scale)
                sources.append(Source(name=f"{name}, {part.name}", pairs=pairs, content=part.content(scale)))
        else:
            pairs = list_pairs(path, scale)
            name_left_out(list_unread(path, scale))
            sources.append(Source(name=name, pairs=pairs, content=_content(pairs)))
    return sources


@contextlib.contextmanager
def needs_tensorflow(what: str, instead: str) -> Iterator[None]:
    """Explains an import that fails within: what needs it, and what can be done instead.

    Raises:
      UserError: If tensorflow, tensorflow_datasets, or what they import is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"{what} needs tensorflow and tensorflow-datasets ({error.name} is missing): {instead}, or run"
            " pip install 'isr_jax[train]'"
        ) from None


def fingerprint(digests: Iterable[str], config: DataConfig) -> str:
    """Returns what changes with the sub-images of the sources, and with measured kernels.

    Raises:
      ConfigError: If the kernels cannot be read.
    """
    names = list(digests)
    if kernels := config.degradation.kernels:
        try:
            names.append(hashlib.sha256(Path(kernels).read_bytes()).hexdigest())
        except OSError as error:
            raise ConfigError(f"data.degradation.kernels, {kernels}: cannot be read ({error.strerror})") from None
    return hashlib.sha256("|".join(names).encode()).hexdigest()[:16]


def usable_pairs(source: Source, cutting: Cutting) -> Iterator[tuple[int, Pair]]:
    """Reads the pairs of a source, several at once, and yields them in order with their index among all of them.

    Those that cannot be used are named on standard error at the end.

    Raises:
      UserError: If no picture can be used; where `cutting.strict`, if one cannot.
    """

    def read(files: PairFiles | OwnPicture) -> Pair | UserError:
        try:
            pair = files.read(cutting.scale, channels=cutting.channels, least=cutting.least, convert=True)
            made = cutting.camera and files.lr is None
            return seen_by(cutting.camera, pair, cutting.scale) if made else pair
        except UserError as error:
            return error

    used, skipped = 0, []
    for index, pair in enumerate(in_threads(read, source.pairs)):
        if isinstance(pair, Pair):
            used += 1
            yield index, pair
        elif cutting.strict:
            raise pair
        else:
            skipped.append(str(pair))
    for message in skipped:
        print(f"isr-jax: skipped {message}", file=sys.stderr)
    if skipped:
        print(f"isr-jax: {len(skipped)} pictures skipped, {used} used", file=sys.stderr)
    if not used:
        raise UserError(f"{source.name}: none of its {len(skipped)} pictures can be used; the first: {skipped[0]}")


def seen_by(camera: str, pair: Pair, scale: int) -> Pair:
    """Returns a pair whose LR picture a physics makes, rounded to 8 bits.

    Args:
      camera: "module:Name".
      pair: HR and what is put aside.
      scale: HR size over LR size.
    Raises:
      UserError: If the physics is for LR pictures of one size, and not of this one.
    """
    physics = make_physics(camera, scale=scale)
    if physics.lr_size not in (None, pair.lr.shape[:2]):
        raise UserError(f"{pair.name}: {camera} is for LR pictures of one size: give those beside, in LRx{scale}")
    lr = physics.apply(jnp.asarray(pair.hr[None], jnp.float32))
    return replace(pair, lr=round_to_8_bits(np.asarray(lr)[0]))


def in_threads(function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """Maps in as many threads as there are cores; a few results ahead of the reader, in order."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        waiting = collections.deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def cache_folder(config: DataConfig) -> Path:
    """Returns where sub-images are kept."""
    given = config.cache_dir or os.environ.get("ISR_JAX_CACHE")
    return Path(given).expanduser().absolute() if given else user_cache()


def cut(length: int, tile: int, scale: int) -> list[int]:
    """Returns where sub-images of `tile` pixels start along a side, evenly, covering it, at multiples of `scale`."""
    if length <= tile:
        return [0]
    count = -(-length // tile)
    return [round((length - tile) * i / (count - 1)) // scale * scale for i in range(count)]


def _content(pairs: list[PairFiles]) -> str:
    """Returns a digest of the names and bytes of the pictures of a folder."""
    files = ([pair.hr for pair in pairs], [pair.lr for pair in pairs])
    return files_digest(*([(file.name, hash_file(file)) for file in side if isinstance(file, Path)] for side in files))
