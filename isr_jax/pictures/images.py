"""Reading and writing pictures of all the kinds people have, as arrays and what has to travel with them.

A `Picture` is upright (EXIF orientation applied), grey or RGB, 8 or 16 bits deep, with its transparency apart and its
colour profile and resolution kept. Palettes become RGB, CMYK becomes sRGB, bilevel becomes grey.
"""

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Shaped, UInt
from PIL import Image

from isr_jax.bands import bands
from isr_jax.config import ConfigError, UserError
from isr_jax.files import write_file
from isr_jax.physics.resize import imresize
from isr_jax.pictures.decoding import decode, upright_size
from isr_jax.pictures.encoding import Subsampling, fit_to_format, save_image
from isr_jax.pictures.formats import READ_SUFFIXES, READABLE, format_of, is_left_out, looks_like_a_picture
from isr_jax.pictures.picture import Picture
from isr_jax.startup import silent_stderr

T = TypeVar("T")

MAX_PIXELS = 100_000_000
"""Largest picture that is read unless told otherwise: a small file can hold a picture that fills the memory."""


class _NoWarnings:
    """Silences Pillow's notes on odd metadata while any thread is within.

    Python's filters belong to the whole process: `warnings.catch_warnings` in two threads at once can leave them off.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._caught = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._caught.__exit__(None, None, None)


_no_warnings = _NoWarnings()


def read_image(source: str | os.PathLike | bytes, *, name: str = "", max_pixels: int = MAX_PIXELS) -> Picture:
    """Reads a picture of the kinds in docs/how-to/pictures.md, whatever its name says. Several threads may at once.

    Args:
      source: A path, or the bytes of a file.
      name: What messages call it; by default its path.
      max_pixels: Larger pictures are refused before they are decoded.
    Returns: The picture, upright.
    Raises:
      UserError: If it is missing, damaged, not a picture, animated, too large, or of a kind that is not supported.
    Examples:
      >>> isr_jax.write_image("small.png", np.zeros((4, 6, 3), np.uint8))
      >>> isr_jax.read_image("small.png").pixels.shape
      (4, 6, 3)
    """
    return _read(decode, source, name, max_pixels)


def read_size(source: str | os.PathLike | bytes, *, name: str = "", max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Returns the height and width of the picture that `read_image` would read, without decoding it.

    Raises:
      UserError: As `read_image`, as far as the head of the file tells.
    """
    return _read(upright_size, source, name, max_pixels)


def _read(decoder: Callable[[bytes, str, int], T], source: str | os.PathLike | bytes, name: str, max_pixels: int) -> T:
    """Calls a decoder with the bytes of a file; whatever it raises becomes an error of one line."""
    name = name or ("the picture" if isinstance(source, bytes) else str(source))
    if source == "":
        raise UserError("the name of the picture is empty: give its path")
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise UserError(f"{name}: {error.strerror}") from error
    if not data:
        raise UserError(f"{name} is empty")
    try:
        with _no_warnings:
            if data[:2] in (b"II", b"MM"):
                with silent_stderr():
                    return decoder(data, name, max_pixels)
            return decoder(data, name, max_pixels)
    except UserError:
        raise
    except Image.UnidentifiedImageError as error:
        if looks_like_a_picture(data):
            raise UserError(f"{name} is damaged, or of a kind that is not supported") from error
        raise UserError(f"{name} is not a picture that can be read ({READABLE})") from error
    except MemoryError as error:
        raise UserError(f"{name} does not fit into memory") from error
    except Exception as error:  # decoders of damaged files raise nearly everything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{name} is damaged: {reason}") from error


def write_image(
    path: str | os.PathLike,
    image: Picture | UInt[np.ndarray, "..."],
    *,
    quality: int = 95,
    subsampling: Subsampling = "4:4:4",
    compression: int = 6,
) -> None:
    """Writes a picture in the format that the suffix names, beside and then renamed.

    Args:
      path: Where to; its folder is made if need be.
      image: A picture, or just its pixels: (H, W), (H, W, 1) or (H, W, 3), uint8 or uint16.
      quality, subsampling, compression: As for `save_image`.
    Raises:
      ConfigError: If the suffix is not one of `FORMATS`.
      UserError: If the format cannot hold the picture.
      ValueError: If the pixels have another shape or type.
    Examples:
      >>> isr_jax.write_image("grey.tif", np.full((4, 6), 40_000, np.uint16))
      >>> isr_jax.read_image("grey.tif").pixels.max()
      np.uint16(40000)
    """
    if not isinstance(image, Picture):
        pixels = np.asarray(image)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.dtype not in (np.uint8, np.uint16):
            raise ValueError(
                f"a picture to write is uint8 or uint16, (H, W), (H, W, 1) or (H, W, 3), not {pixels.dtype}"
                f" {pixels.shape}; opacity goes apart, as Picture(pixels=..., alpha=...)"
            )
        image = Picture(pixels=pixels)
    options: dict[str, Any] = {"quality": quality, "subsampling": subsampling, "compression": compression}
    image_format = format_of(path)
    picture = fit_to_format(image, image_format)  # what cannot be written is said before a folder is made
    write_file(Path(path), lambda stream: save_image(stream, picture, image_format, **options))


def list_images(folder: str | os.PathLike, *, recursive: bool = False) -> list[Path]:
    """Returns the pictures in a folder by their suffix, sorted, hidden ones left out.

    Raises:
      ConfigError: If there is no such folder.
    """
    return [path for path in _files(folder, recursive) if path.suffix.lower() in READ_SUFFIXES]


def list_left_out(folder: str | os.PathLike, *, recursive: bool = False) -> list[Path]:
    """Returns the files beside those of `list_images` that are pictures by their suffix, of kinds that are not read."""
    return [path for path in _files(folder, recursive) if is_left_out(path)]


def name_left_out(paths: Iterable[Path]) -> None:
    """Says on standard error, in a line each, which pictures are of kinds that are not read."""
    for path in paths:
        print(f"isr-jax: {path} is left out: {path.suffix} is not read; convert it to PNG or TIFF", file=sys.stderr)


def _files(folder: str | os.PathLike, recursive: bool) -> list[Path]:
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder: give a folder of pictures")
    found = folder.rglob("*") if recursive else folder.glob("*")
    return sorted(
        path
        for path in found
        if path.suffix and not any(part.startswith(".") for part in path.relative_to(folder).parts) and path.is_file()
    )


def scaled_picture(picture: Picture, pixels: UInt[np.ndarray, "new_height new_width channels"]) -> Picture:
    """Returns the enlarged pixels of a picture with the rest of it: transparency (bicubic), profile, resolution."""
    height, width = pixels.shape[:2]
    resolution = picture.resolution
    if resolution is not None:
        old_height, old_width = picture.pixels.shape[:2]
        resolution = resolution[0] * width / old_width, resolution[1] * height / old_height
    return Picture(
        pixels=pixels,
        alpha=None if picture.alpha is None else imresize(picture.alpha, size=(height, width)),
        icc_profile=picture.icc_profile,
        cicp=picture.cicp,
        resolution=resolution,
        metadata=picture.metadata.resized(height, width),
        format=picture.format,
        remarks=picture.remarks,
    )


def fill_transparent(
    pixels: Shaped[np.ndarray, "height width channels"], alpha: Shaped[np.ndarray, "height width"]
) -> Shaped[np.ndarray, "height width channels"]:
    """Gives wholly transparent pixels the colours of their visible neighbours, so that theirs do not bleed out.

    What a file holds under full transparency is arbitrary, often black; a filter that spans the edge would mix it in.
    The colours are pulled up a pyramid of alpha-weighted means of 2x2 pixels and pushed down into the holes; integers
    are rounded.
    """
    if alpha.all() or not alpha.any():
        return pixels
    coarse, filled = fill_transparent(*_halve(pixels, alpha)), pixels.copy()
    for band in bands(pixels.shape):
        rows, columns = np.nonzero(alpha[band] == 0)
        rows += band.start
        colours = coarse[rows // 2, columns // 2]
        filled[rows, columns] = np.round(colours) if np.issubdtype(pixels.dtype, np.integer) else colours
    return filled


def _halve(colour: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weighted means of 2x2 pixels and their weights, float64."""
    height, width = (side // 2 + side % 2 for side in weight.shape)
    means, weights = np.empty((height, width, colour.shape[2])), np.empty((height, width))
    for band in bands(means.shape):
        rows = slice(2 * band.start, 2 * band.stop)
        of_row = weight[rows, :, None].astype(np.float64)
        weighted = np.concatenate([colour[rows] * of_row, of_row], axis=2)
        weighted = np.pad(weighted, ((0, weighted.shape[0] % 2), (0, weighted.shape[1] % 2), (0, 0)))
        summed = weighted.reshape(-1, 2, width, 2, weighted.shape[2]).sum(axis=(1, 3))
        means[band] = summed[..., :-1] / np.where(summed[..., -1:] > 0, summed[..., -1:], 1)
        weights[band] = summed[..., -1]
    return means, weights
