"""From files and Pillow images to pictures: upright, in one of four modes, with what belongs to them."""

import io
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import ExifTags, Image

from isr_jax.config import UserError
from isr_jax.pictures.picture import Picture
from isr_jax.pictures.sixteen_bits import decode_16_bits, low_byte_mode

_READ_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")  # nothing that runs an interpreter, such as EPS
_PNG_EXIF = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
"""Without any of these a PNG has no orientation; asked for its EXIF data, Pillow would decode it to look behind."""
_pillow_limit = threading.Lock()


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
                " raise it (`max_pixels`) if you trust the file"
            )
        yield image


def decode(data: bytes, name: str, max_pixels: int) -> Picture:
    """Decodes the bytes of a file; damaged ones raise nearly everything. `name` is for the messages.

    Raises:
      UserError: If the picture is too large, one of several, or of a kind that is not supported.
    """
    with _open(data, name, max_pixels) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # the other pictures of an MPO are previews or the second eye
            raise UserError(f"{name} has {frames} frames or pages: split it into single pictures first")
        low_bytes = low_byte_mode(image, name)  # asked first: a PNG is decoded when it is asked for its EXIF
        exif = read_exif(image)
        if low_bytes is None:
            return picture_of(image, name, exif)
        with _open(data, name, max_pixels) as again:
            return picture_of(image, name, exif, decode_16_bits(image, again, low_bytes))


def upright_size(data: bytes, name: str, max_pixels: int) -> tuple[int, int]:
    """Returns the height and width that `decode` will give, from the head of the file."""
    with _open(data, name, max_pixels) as image:
        height, width = image.height, image.width
        if image.format == "TIFF":  # whose size Pillow tells as it will be turned
            return height, width
        if image.format == "PNG" and not any(mark in data for mark in _PNG_EXIF):
            return height, width
        turned = read_exif(image).get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def picture_of(image: Image.Image, name: str, exif: Image.Exif, deep: np.ndarray | None = None) -> Picture:
    """Returns an open Pillow image as a picture, upright.

    Args:
      image: The image.
      name: What messages call it.
      exif: Its EXIF data, as they were before it was decoded.
      deep: Its pixels where Pillow would not read all their bits.
    Raises:
      UserError: If its pixels are of a kind that is not supported.
    """
    image_format = "JPEG" if image.format == "MPO" else image.format or "PNG"
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    resolution = _resolution(image, exif)
    icc_profile = image.info.get("icc_profile") or None
    transparent = image.info.get("transparency")
    inverted = image.format == "TIFF" and image.mode.startswith("I;16") and image.tag_v2.get(262) == 0  # pyright: ignore
    if deep is not None:
        pixels = deep
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


def read_exif(image: Image.Image) -> Image.Exif:
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
