"""Pairs of a full-size picture (HR) and its reduced version (LR): the one reader for tests, validation and training.

A folder is read in any of the layouts that data sets come in, LR being used as it is wherever it is found:

- DIR/HR, with DIR/LRx2, DIR/LRx3, DIR/LRx4;
- DIV2K_valid_HR, with DIV2K_valid_LR_bicubic/X4 beside it, or the folder that holds both; and DIR/HR with
  DIR/LR_bicubic/X4;
- a plain folder of pictures.

An LR picture has the name of its HR picture, or DIV2K's: 0001x4.png beside 0001.png. Where there is no LR folder, the
bit-exact imresize makes LR.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from isr_jax.config import ConfigError, UserError
from isr_jax.physics.resize import crop_to_multiple, imresize
from isr_jax.pictures.images import list_images, list_left_out, read_image, read_size


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A picture and its reduced version."""

    name: str
    """File name without the suffix."""
    hr: UInt8[np.ndarray, "height width channels"]
    """The truth, cut at the bottom and right to a multiple of the scale."""
    lr: Shaped[np.ndarray, "lr_height lr_width channels"]
    """What is super-resolved: uint8, or made by a degradation that does not round, floating point on 0..255."""


@dataclass(frozen=True, kw_only=True)
class InnerFile:
    """The file of a picture that lies inside another file."""

    name: str
    """Its own name."""
    within: str
    """What messages call the other one."""
    read_bytes: Callable[[], bytes]
    """Returns the content; raises UserError."""

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePath(self.name).stem

    def __str__(self) -> str:
        return f"{self.within}, {self.name}"


@dataclass(frozen=True, kw_only=True)
class PairFiles:
    """Where a pair lies."""

    hr: Path | InnerFile
    lr: Path | InnerFile | None
    """None if LR is to be made."""

    def lr_size(self, scale: int, *, least: int) -> tuple[int, int] | None:
        """Returns the height and width of LR, by the head of the HR file; None where `read` would raise for sure."""
        try:
            height, width = (side // scale for side in read_size(_source(self.hr), name=str(self.hr)))
        except UserError:
            return None
        return (height, width) if min(height, width) * scale >= max(least, scale) else None

    def read(self, scale: int, *, channels: int | None = None, least: int = 1, convert: bool = False) -> Pair:
        """Reads the pair.

        Args:
          scale: HR size over LR size.
          channels: 3 for colour, 1 for grey; by default as the files are.
          least: Fewest pixels that a side of the HR picture must have, once it is cut.
          convert: Round 16 bits to 8 and leave transparency out, for training; a score would not be that of the file,
            so by default such pictures are refused.
        Raises:
          UserError: If a picture cannot be read or used, or the two do not match.
        """
        hr = read_pixels(self.hr, channels=channels, convert=convert)
        lr = None if self.lr is None else read_pixels(self.lr, channels=channels, convert=convert)
        hr, lr = match_pair(hr, lr, scale, least=least, names=(str(self.hr), str(self.lr)))
        return Pair(name=self.hr.stem, hr=hr, lr=lr)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The pairs of a folder at one scale."""

    name: str
    """The folder's name."""
    scale: int
    pairs: tuple[Pair, ...]
    lr_source: str
    """"files", "imresize" or "degradation"."""
    sha256: str
    """Hash of every pixel of the pairs."""


def read_dataset(folder: Path, scale: int, *, channels: int | None = None, lr_files: bool = True) -> Dataset:
    """Reads all pairs of a folder, to be scored.

    Args:
      folder: See the top of this module.
      scale: HR size over LR size.
      channels: 3 for colour, 1 for grey; by default as the files are.
      lr_files: Whether LR pictures that are there are used; else all are made.
    Raises:
      ConfigError: If there is no such folder, or it is not clear which pictures are meant.
      UserError: If it has no pictures, one is damaged, of 16 bits, transparent, or no larger than the border that is
        left out of a score (`scale` pixels on each side), or HR and LR do not match.
    """
    files = list_pairs(folder, scale, lr_files=lr_files)
    pairs = tuple(pair.read(scale, channels=channels, least=2 * scale + 1) for pair in files)
    return Dataset(
        name=dataset_name(folder),
        scale=scale,
        pairs=pairs,
        lr_source="imresize" if files[0].lr is None else "files",
        sha256=digest_of_pairs(pairs),
    )


def digest_of_pairs(pairs: Iterable[Pair]) -> str:
    """Returns the SHA-256 hash of every pixel."""
    digest = hashlib.sha256()
    for pair in pairs:
        for pixels in (pair.hr, pair.lr):
            digest.update(f"{pair.name} {pixels.shape} ".encode() + pixels.tobytes())
    return digest.hexdigest()


def dataset_name(folder: Path) -> str:
    """Returns what a folder's pictures are called: by the folder, DIR for DIR/HR."""
    path = Path(os.path.abspath(folder))  # "." has no name
    return path.parent.name if path.name == "HR" else path.name


def list_pairs(folder: Path, scale: int, *, lr_files: bool = True) -> list[PairFiles]:
    """Finds the pairs of a folder, sorted by their names; reads no picture.

    Args:
      folder: See the top of this module.
      scale: HR size over LR size.
      lr_files: Whether LR pictures that are there belong to the pairs.
    Raises:
      ConfigError: If there is no such folder, or it is not clear which pictures are meant.
      UserError: If it has no pictures, two of them have one name, or a picture of HR or LR has no partner.
    """
    hr_folder, lr_folder = _find_folders(folder, scale)
    hr_paths = list_images(hr_folder)
    if not hr_paths:
        for path in list_left_out(hr_folder):
            raise UserError(f"{hr_folder} has no pictures that are read; {path.name} is not: convert it to PNG or TIFF")
        raise UserError(f"{hr_folder} has no pictures: put the full-size ones into it")
    hr = _by_name(hr_paths, lambda stem: stem)
    if lr_folder is None or not lr_files:
        return [PairFiles(hr=path, lr=None) for path in hr_paths]
    suffix = f"x{scale}"
    lr = _by_name(list_images(lr_folder), lambda stem: stem if stem in hr else stem.removesuffix(suffix))
    for lacking, names in ((lr_folder, sorted(set(hr) - set(lr))), (hr_folder, sorted(set(lr) - set(hr)))):
        if names:
            other = hr_folder if lacking == lr_folder else lr_folder
            for path in list_left_out(lacking):
                if path.stem.removesuffix(suffix) == names[0].removesuffix(suffix):
                    raise UserError(f"{path} is not read, and {other} has its partner: convert it to PNG or TIFF")
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise UserError(f"{lacking} lacks {names[0]}{more}, which {other} has: they must hold the same names")
    return [PairFiles(hr=path, lr=lr[path.stem]) for path in hr_paths]


def list_unread(folder: Path, scale: int, *, lr_files: bool = True) -> list[Path]:
    """Returns the pictures beside those of `list_pairs` that are of kinds that are not read; the arguments are its.

    Raises:
      ConfigError: If there is no such folder, or it is not clear which pictures are meant.
    """
    hr_folder, lr_folder = _find_folders(folder, scale)
    return [*list_left_out(hr_folder), *(list_left_out(lr_folder) if lr_folder is not None and lr_files else ())]


def files_digest(hr: Iterable[tuple[str, bytes]], lr: Iterable[tuple[str, bytes]]) -> str:
    """Returns a digest of the files of pairs: of the names and SHA-256 hashes of HR, in their order, and of LR."""
    digest = hashlib.sha256()
    for name, content in [*hr, *sorted(lr, key=lambda file: PurePath(file[0]).stem)]:
        digest.update(name.encode(errors="surrogateescape") + b"\0" + content)
    return digest.hexdigest()


def hash_file(path: Path) -> bytes:
    """Returns the SHA-256 hash of a file.

    Raises:
      UserError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def match_pair(
    hr: UInt8[np.ndarray, "height width hr_channels"],
    lr: UInt8[np.ndarray, "lr_height lr_width lr_channels"] | None,
    scale: int,
    *,
    least: int,
    names: tuple[str, str],
) -> tuple[
    UInt8[np.ndarray, "new_height new_width channels"], UInt8[np.ndarray, "new_lr_height new_lr_width channels"]
]:
    """Makes a pair of two pictures, or of one.

    Args:
      hr: The full-size picture.
      lr: Its reduced version; made by imresize if there is none.
      scale: HR size over LR size.
      least: Fewest pixels that a side of HR must have, once it is cut.
      names: What messages call HR and LR.
    Returns: HR, cut to a multiple of the scale, and LR, both grey or both in colour.
    Raises:
      UserError: If HR is too small, or the two do not match.
    """
    size = f"{hr.shape[1]}x{hr.shape[0]}"
    hr = crop_to_multiple(hr, scale)
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    if lr is not None and lr.shape[:2] != (height, width):
        raise UserError(
            f"{names[1]} is {lr.shape[1]}x{lr.shape[0]}; its HR picture at scale {scale} needs {width}x{height}:"
            " make it again"
        )
    least = max(least, scale)
    if min(hr.shape[:2]) < least:
        needed = math.ceil(least / scale) * scale
        raise UserError(
            f"{names[0]} is {size}, too small for scale {scale}: leave it out, or give each side {needed} pixels"
        )
    if lr is None:
        lr = imresize(hr, 1 / scale)
    if lr.shape[2] != hr.shape[2]:  # one of the two is grey
        hr, lr = (x.repeat(3, axis=2) if x.shape[2] == 1 else x for x in (hr, lr))
    return hr, lr


def _source(file: Path | InnerFile) -> Path | bytes:
    return file if isinstance(file, Path) else file.read_bytes()


def read_pixels(
    file: Path | InnerFile, *, channels: int | None = None, convert: bool = False
) -> UInt8[np.ndarray, "height width channels"]:
    """Reads a picture of 8 bits; the arguments are those of `PairFiles.read`.

    Raises:
      UserError: If the file is missing or no picture; without `convert`, if it has 16 bits or is transparent.
    """
    picture = read_image(_source(file), name=str(file))
    pixels = picture.pixels
    if not convert and pixels.dtype != np.uint8:
        raise UserError(f"{file} has 16 bits; scores are of 8: convert it")
    if not convert and picture.alpha is not None and not (picture.alpha == 255).all():
        raise UserError(f"{file} is transparent; scores know no transparency: flatten it")
    if pixels.dtype != np.uint8:
        pixels = np.round(pixels / 257).astype(np.uint8)
    return pixels if channels is None else as_channels(pixels, channels)


def as_channels(
    pixels: UInt8[np.ndarray, "height width channels"], channels: int
) -> UInt8[np.ndarray, "height width new_channels"]:
    """Turns colour to grey (the full-range luma of BT.601) or grey to colour, where that is wanted."""
    if pixels.shape[-1] == channels:
        return pixels
    mode = "RGB" if channels == 3 else "L"
    converted = np.asarray(Image.fromarray(pixels[..., 0] if channels == 3 else pixels).convert(mode))
    return converted.reshape(*pixels.shape[:2], channels)


def _find_folders(folder: Path, scale: int) -> tuple[Path, Path | None]:
    """Returns where the HR pictures lie, and the LR pictures if there are any."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; name a folder of pictures")
    if folder.name == "HR":
        folder = folder.parent
    hr = folder / "HR" if (folder / "HR").is_dir() else folder
    if hr == folder and not list_images(folder):
        sets = sorted(inside for inside in folder.glob("*_HR") if inside.is_dir())
        if len(sets) > 1:
            raise ConfigError(f"{folder} holds more than one set, {sets[0].name} and {sets[1].name}: name one of them")
        hr = sets[0] if sets else folder
    lr = folder / f"LRx{scale}"
    path = Path(os.path.abspath(hr))
    if not lr.is_dir() and path.name.endswith("HR"):
        lr = path.parent / f"{path.name.removesuffix('HR')}LR_bicubic" / f"X{scale}"
    return hr, lr if lr.is_dir() else None


def _by_name(paths: list[Path], name: Callable[[str], str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        key = name(path.stem)
        if key in found:
            raise UserError(f"{found[key]} and {path.name} are two pictures of one name: keep one, or rename one")
        found[key] = path
    return found
