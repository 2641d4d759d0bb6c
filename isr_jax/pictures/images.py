"""Reading and writing pictures of all the kinds people have, as arrays and what has to travel with them.

A `Picture` is upright (EXIF orientation applied), grey or RGB, 8 or 16 bits deep, with its transparency apart and its
colour profile and resolution kept. Palettes become RGB, CMYK becomes sRGB, bilevel becomes grey.
"""

import io
import os
import struct
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import UInt
from PIL import ExifTags, Image

from isr_jax.config import ConfigError, UserError
from isr_jax.files import replace_file
from isr_jax.physics.resize import imresize
from isr_jax.pictures.decoding import decode, upright_size
from isr_jax.pictures.picture import Picture
from isr_jax.pictures.sixteen_bits import encode_png16, encode_tiff16, to_8_bits
from isr_jax.startup import silent_stderr

T = TypeVar("T")

MAX_PIXELS = 100_000_000
"""Largest picture that is read unless told otherwise: a small file can hold a picture that fills the memory."""

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
"""What can be written, by the file's suffix. Read are these by their content, and GIF that is not animated."""


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
    """Reads a picture: PNG, JPEG, WebP, TIFF, BMP or GIF, whatever its name says. Several threads may at once.

    Args:
      source: A path, or the bytes of a file.
      name: What messages call it; by default its path.
      max_pixels: Larger pictures are refused before they are decoded.
    Returns: The picture, upright.
    Raises:
      UserError: If it is missing, damaged, not a picture, animated, too large, or of a kind that is not supported.
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
        raise UserError(f"{name} is not a picture that can be read (PNG, JPEG, WebP, TIFF, BMP, GIF)") from error
    except MemoryError as error:
        raise UserError(f"{name} does not fit into memory") from error
    except Exception as error:  # decoders of damaged files raise nearly everything
        raise UserError(f"{name} is damaged: {error}") from error


def encode_image(picture: Picture, image_format: str, *, quality: int = 95) -> bytes:
    """Returns the picture as the bytes of a file.

    Args:
      picture: What to write. JPEG, WebP and BMP hold 8 bits: deeper pictures are rounded.
      image_format: One of the values of `FORMATS`.
      quality: Of JPEG and WebP, 1 to 100; 100 makes WebP lossless.
    Raises:
      UserError: If the format cannot hold the picture: transparent parts, or its size.
    """
    pixels, alpha = picture.pixels, picture.alpha
    if alpha is not None and image_format in ("JPEG", "BMP"):
        if np.any(alpha != np.iinfo(alpha.dtype).max):
            raise UserError(f"{image_format} holds no transparency: write PNG, WebP or TIFF instead")
        alpha = None  # nothing of it is transparent, as in most screenshots
    if pixels.dtype == np.uint16 and image_format not in ("PNG", "TIFF"):
        pixels, alpha = to_8_bits(pixels), None if alpha is None else to_8_bits(alpha)
    if alpha is not None:
        pixels = np.concatenate([pixels, alpha[..., None]], axis=2)
    if pixels.dtype == np.uint16:
        encode = encode_png16 if image_format == "PNG" else encode_tiff16
        return encode(pixels, picture.icc_profile, picture.resolution)
    options: dict[str, Any] = {}
    match image_format:
        case "JPEG":
            options = {"quality": quality, "subsampling": 0}
        case "WEBP":
            options = {"quality": quality, "lossless": quality == 100, "exact": True}
        case "TIFF":
            options = {"compression": "tiff_adobe_deflate"}
    if picture.icc_profile and image_format != "BMP":
        options["icc_profile"] = picture.icc_profile
    if picture.resolution and image_format == "WEBP":
        exif = Image.Exif()
        exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution] = picture.resolution
        exif[ExifTags.Base.ResolutionUnit] = 2
        options["exif"] = exif
    elif picture.resolution:
        options["dpi"] = tuple(picture.resolution)
    stream = io.BytesIO()
    try:
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(stream, image_format, **options)
    except (OSError, ValueError, struct.error) as error:
        height, width = pixels.shape[:2]
        raise UserError(f"a picture of {width}x{height} cannot be written as {image_format}: {error}") from error
    return stream.getvalue()


def write_image(path: str | os.PathLike, image: Picture | UInt[np.ndarray, "..."], *, quality: int = 95) -> None:
    """Writes a picture in the format that the suffix names, beside and then renamed.

    Args:
      path: Where to; its folder is made if need be.
      image: A picture, or just its pixels: (H, W), (H, W, 1) or (H, W, 3), uint8 or uint16.
      quality: Of JPEG and WebP.
    Raises:
      ConfigError: If the suffix is not one of `FORMATS`.
      UserError: If the format cannot hold the picture.
    """
    if not isinstance(image, Picture):
        image = Picture(pixels=image[..., None] if image.ndim == 2 else image)
    data = encode_image(image, format_of(path), quality=quality)
    replace_file(Path(path), lambda temporary: temporary.write_bytes(data))


def format_of(path: str | os.PathLike) -> str:
    """Returns the format that the suffix of a path names.

    Raises:
      ConfigError: If the suffix is not one of `FORMATS`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ConfigError(
            f"{path}: cannot write {suffix or 'a name without a suffix'}; use one of {', '.join(FORMATS)}"
        )
    return FORMATS[suffix]


def list_images(folder: str | os.PathLike, *, recursive: bool = False) -> list[Path]:
    """Returns the pictures in a folder by their suffix, sorted, hidden ones left out.

    Raises:
      ConfigError: If there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder: give a folder of pictures")
    found = folder.rglob("*") if recursive else folder.glob("*")
    suffixes = {*FORMATS, ".gif"}
    return sorted(
        path
        for path in found
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
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
        resolution=resolution,
        format=picture.format,
    )


def fill_transparent(
    pixels: UInt[np.ndarray, "height width channels"], alpha: UInt[np.ndarray, "height width"]
) -> UInt[np.ndarray, "height width channels"]:
    """Gives wholly transparent pixels the colours of their visible neighbours, so that theirs do not bleed out.

    What a file holds under full transparency is arbitrary, often black; a filter that spans the edge would mix it in.
    The colours are pulled up a pyramid of alpha-weighted means of 2x2 pixels and pushed down into the holes.
    """
    filled = _fill(pixels.astype(np.float64), alpha.astype(np.float64))
    return np.round(filled).astype(pixels.dtype)


def _fill(colour: np.ndarray, weight: np.ndarray) -> np.ndarray:
    visible = weight > 0
    if visible.all() or not visible.any():
        return colour
    height, width = weight.shape
    padding = ((0, height % 2), (0, width % 2))
    weighted = np.pad(np.concatenate([colour * weight[..., None], weight[..., None]], axis=2), (*padding, (0, 0)))
    rows, cols, channels = weighted.shape
    summed = weighted.reshape(rows // 2, 2, cols // 2, 2, channels).sum(axis=(1, 3))
    mean = summed[..., :-1] / np.where(summed[..., -1:] > 0, summed[..., -1:], 1)
    coarse = _fill(mean, summed[..., -1]).repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return np.where(visible[..., None], colour, coarse)
