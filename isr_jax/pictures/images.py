"""Reading and writing pictures of all the kinds people have, as arrays and what has to travel with them.

A `Picture` is upright (EXIF orientation applied), grey or RGB, 8 or 16 bits deep, with its transparency apart and its
colour profile and resolution kept. Palettes become RGB, CMYK becomes sRGB, bilevel becomes grey.
"""

import io
import os
import struct
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt
from PIL import ExifTags, Image

from isr_jax.config import ConfigError, UserError
from isr_jax.files import replace_file
from isr_jax.physics.resize import imresize
from isr_jax.pictures.sixteen_bits import decode_16_bits, encode_png16, encode_tiff16, low_byte_mode, to_8_bits

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

_READ_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")  # nothing that runs an interpreter, such as EPS
_pillow_limit, _stderr_lock = threading.Lock(), threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture as arrays, upright."""

    pixels: UInt[np.ndarray, "height width channels"]
    """Grey (1 channel) or RGB (3), uint8 or uint16, not premultiplied by alpha."""
    alpha: UInt[np.ndarray, "height width"] | None = None
    """Opacity, of the type of the pixels."""
    icc_profile: bytes | None = None
    """The colour profile the pixels are meant in; sRGB if there is none."""
    resolution: tuple[float | int, float | int] | None = None
    """Pixels per inch, horizontally and vertically."""
    format: str = "PNG"
    """The file format it was read from."""

    def scaled_size(self, scale: float | int) -> tuple[int, int]:
        """Returns the height and width enlarged by any factor, at least one pixel each."""
        height, width = self.pixels.shape[:2]
        return max(1, round(height * scale)), max(1, round(width * scale))


def read_image(source: str | os.PathLike | bytes, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Reads a picture: PNG, JPEG, WebP, TIFF, BMP or GIF, whatever its name says.

    Args:
      source: A path, or the bytes of a file.
      max_pixels: Larger pictures are refused before they are decoded.
    Returns: The picture, upright.
    Raises:
      UserError: If it is missing, damaged, not a picture, animated, too large, or of a kind that is not supported.
    """
    name = "the picture" if isinstance(source, bytes) else str(source)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise UserError(f"{name}: {error.strerror}") from error
    if not data:
        raise UserError(f"{name} is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's notes on odd metadata
            if data[:2] in (b"II", b"MM"):
                with _quiet_libtiff():
                    return _decode(data, name, max_pixels)
            return _decode(data, name, max_pixels)
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


# --- Decoding ---------------------------------------------------------------------------------------------------------


@contextmanager
def _open(data: bytes, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """Opens a picture without decoding it, under our own limit of its size instead of Pillow's."""
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(io.BytesIO(data), formats=_READ_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        if image.width * image.height > max_pixels:
            raise UserError(
                f"{name} has {image.width}x{image.height} pixels, more than the limit of {max_pixels}:"
                " raise it (--max-pixels) if you trust the file"
            )
        yield image


@contextmanager
def _quiet_libtiff() -> Iterator[None]:
    """Sends what libtiff itself writes to standard error (beside the error that Pillow raises) nowhere."""
    with _stderr_lock:
        sys.stderr.flush()
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


def _decode(data: bytes, name: str, max_pixels: int) -> Picture:
    with _open(data, name, max_pixels) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # the other pictures of an MPO are previews or the second eye
            raise UserError(f"{name} has {frames} frames or pages: split it into single pictures first")
        image_format = "JPEG" if image.format == "MPO" else image.format or "PNG"
        low_bytes = low_byte_mode(image, name)  # asked first: a PNG is decoded when it is asked for its EXIF
        exif = _exif(image)
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        resolution = _resolution(image, exif)
        icc_profile = image.info.get("icc_profile") or None
        transparent = image.info.get("transparency")
        inverted = image.format == "TIFF" and image.mode.startswith("I;16") and image.tag_v2.get(262) == 0  # pyright: ignore
        if low_bytes is not None:
            with _open(data, name, max_pixels) as again:
                pixels = decode_16_bits(image, again, low_bytes)
        elif image.mode.startswith("I;16"):
            pixels = np.asarray(image).astype(np.uint16)[..., None]
            pixels = 65535 - pixels if inverted else pixels
        else:
            if image.mode == "CMYK":
                image, icc_profile = _cmyk_to_srgb(image, icc_profile), None
            pixels = np.asarray(_to_plain_mode(image, name))
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
            transparent = None  # is an alpha channel by now
    if transparent is not None and pixels.shape[2] in (1, 3):  # 16 bits with one colour that stands for transparency
        opaque = np.any(pixels != np.asarray(transparent), axis=2, keepdims=True)
        pixels = np.concatenate([pixels, opaque * np.uint16(65535)], axis=2)
    if image_format != "TIFF":  # which Pillow turns itself
        pixels = _upright(pixels, orientation)
    if orientation in (5, 6, 7, 8) and resolution:
        resolution = resolution[1], resolution[0]
    pixels = np.ascontiguousarray(pixels)
    has_alpha = pixels.shape[2] in (2, 4)
    return Picture(
        pixels=pixels[..., :-1] if has_alpha else pixels,
        alpha=pixels[..., -1] if has_alpha else None,
        icc_profile=icc_profile,
        resolution=resolution,
        format=image_format,
    )


def _to_plain_mode(image: Image.Image, name: str) -> Image.Image:
    """Converts to L, LA, RGB or RGBA."""
    transparent = "transparency" in image.info
    match image.mode:
        case "L" | "1":
            return image.convert("LA" if transparent else "L")
        case "LA" | "La":
            return image.convert("LA")
        case "RGB" | "P" | "RGBX" | "YCbCr":
            return image.convert("RGBA" if transparent else "RGB")
        case "RGBA" | "RGBa" | "PA":
            return image.convert("RGBA")
    raise UserError(f"{name} has pixels of mode {image.mode}, which is not supported: convert it to 8 or 16 bit RGB")


def _cmyk_to_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """Converts through the picture's own profile if it has one that works, else by the plain formula."""
    if icc_profile:
        try:
            from PIL import ImageCms

            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
            converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except (ImportError, OSError, ImageCms.PyCMSError):
            pass
    return image.convert("RGB")


def _exif(image: Image.Image) -> Image.Exif:
    """Returns the EXIF data, none where they are damaged: the picture is not."""
    try:
        return image.getexif()
    except (SyntaxError, struct.error, ValueError, TypeError, KeyError, IndexError):
        return Image.Exif()


def _resolution(image: Image.Image, exif: Image.Exif) -> tuple[float, float] | None:
    values = image.info.get("dpi")
    if values is None and exif.get(ExifTags.Base.ResolutionUnit) in (2, 3):
        factor = 2.54 if exif[ExifTags.Base.ResolutionUnit] == 3 else 1
        values = [factor * float(exif.get(tag, 0)) for tag in (ExifTags.Base.XResolution, ExifTags.Base.YResolution)]
    try:
        x, y = (float(value) for value in values or (0, 0))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 else None


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
