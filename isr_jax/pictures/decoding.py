"""From files and Pillow images to pictures: upright, in one of four modes, with what belongs to them."""

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from isr_jax.config import UserError
from isr_jax.pictures.colour import image_to_srgb, read_colour
from isr_jax.pictures.float_tiff import decode_float_tiff, is_unknown_to_pillow
from isr_jax.pictures.formats import jxl_size, open_picture
from isr_jax.pictures.metadata import read_exif, read_metadata
from isr_jax.pictures.picture import Picture
from isr_jax.pictures.repair import with_jpeg_end, without_damaged_chunks
from isr_jax.pictures.sixteen_bits import decode_16_bits, low_byte_mode, unit_to_16_bits

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_EXIF = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
"""Without any of these a PNG has no orientation; asked for its EXIF data, Pillow would decode it to look behind."""
_pillow_limit = threading.Lock()


@contextmanager
def _open(data: bytes, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """Opens a picture without decoding it, at its only page, under our own limit of its size instead of Pillow's."""
    if data[:2] == b"\xff\x0a" or data[4:8] == b"JXL ":
        _check_size(*jxl_size(data), name, max_pixels)  # it is decoded when it is opened
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = open_picture(data, name)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        _choose_page(image, name)
        _check_size(image.height, image.width, name, max_pixels)
        yield image


def _check_size(height: int, width: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise UserError(
            f"{name} has {width}x{height} pixels, more than the limit of {max_pixels}:"
            " raise it (`max_pixels`) if you trust the file"
        )


def _choose_page(image: Image.Image, name: str) -> None:
    """Turns to the only page of a file that is a picture of its own.

    Raises:
      UserError: If there are several.
    """
    frames = getattr(image, "n_frames", 1)
    if image.format == "TIFF":
        if 50706 in image.tag_v2:  # pyright: ignore[reportAttributeAccessIssue] # the version of a DNG
            raise UserError(f"{name} is the raw file of a camera: develop it to a TIFF or PNG first")
        if frames == 1:
            return
        pages = []
        for page in range(frames):
            image.seek(page)
            tags = image.tag_v2  # pyright: ignore[reportAttributeAccessIssue]
            if not (tags.get(254, 0) & 5 or tags.get(255) == 2):  # a reduced picture, or a mask
                pages.append(page)
        if len(pages) == 1:
            image.seek(pages[0])
            return
        frames = len(pages) or frames
    if frames > 1 and image.format != "MPO":  # the other pictures of an MPO are previews or the second eye
        raise UserError(f"{name} has {frames} frames or pages: split it into single pictures first")


def decode(data: bytes, name: str, max_pixels: int) -> Picture:
    """Decodes the bytes of a file; damaged ones raise nearly everything. `name` is for the messages.

    Raises:
      UserError: If the picture is too large, one of several, or of a kind that is not supported.
    """
    try:
        return _decode(data, name, max_pixels)
    except (OSError, SyntaxError, ValueError, IndexError):
        if data[:8] == _PNG:
            mended, damaged = without_damaged_chunks(data)
            remark = f"damaged parts are left out ({', '.join(damaged)}); the pixels are whole"
        elif data[:3] == b"\xff\xd8\xff":
            mended, damaged = with_jpeg_end(data), None
            remark = "it lacks its end, which is not part of the pixels: was it copied whole?"
        else:
            raise
        if not mended or damaged == []:
            raise
        picture = _decode(mended, name, max_pixels)
        return dataclasses.replace(picture, remarks=(remark, *picture.remarks))


def _decode(data: bytes, name: str, max_pixels: int) -> Picture:
    if is_unknown_to_pillow(data):
        pixels, icc_profile, orientation = decode_float_tiff(data, name, max_pixels)
        return _picture(_upright(pixels, orientation), icc_profile=icc_profile, format="TIFF")
    with _open(data, name, max_pixels) as image:
        low_bytes = low_byte_mode(image, name)  # asked first: a PNG is decoded when it is asked for its EXIF
        exif = read_exif(image)
        if low_bytes is None:
            return picture_of(image, name, exif, data=data)
        with _open(data, name, max_pixels) as again:
            return picture_of(image, name, exif, decode_16_bits(image, again, low_bytes), data=data)


def upright_size(data: bytes, name: str, max_pixels: int) -> tuple[int, int]:
    """Returns the height and width that `decode` will give, from the head of the file."""
    try:
        return _upright_size(data, name, max_pixels)
    except (OSError, SyntaxError, ValueError, IndexError):
        if data[:8] != _PNG:
            raise
        return _upright_size(without_damaged_chunks(data)[0], name, max_pixels)


def _upright_size(data: bytes, name: str, max_pixels: int) -> tuple[int, int]:
    if is_unknown_to_pillow(data):
        pixels, _, orientation = decode_float_tiff(data, name, max_pixels)
        height, width = _upright(pixels, orientation).shape[:2]
        return height, width
    with _open(data, name, max_pixels) as image:
        height, width = image.height, image.width
        if image.format == "TIFF":  # whose size Pillow tells as it will be turned
            return height, width
        if image.format == "PNG" and not any(mark in data for mark in _PNG_EXIF):
            return height, width
        turned = _orientation(image, read_exif(image)) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def picture_of(
    image: Image.Image, name: str, exif: Image.Exif, deep: np.ndarray | None = None, *, data: bytes = b""
) -> Picture:
    """Returns an open Pillow image as a picture, upright.

    Args:
      image: The image.
      name: What messages call it.
      exif: Its EXIF data, as they were before it was decoded.
      deep: Its pixels where Pillow would not read all their bits.
      data: The bytes of its file, if it has one.
    Raises:
      UserError: If its pixels are of a kind that is not supported.
    """
    image_format = "JPEG" if image.format == "MPO" else image.format or "PNG"
    orientation = _orientation(image, exif)
    resolution = _resolution(image, exif)
    if deep is not None:
        pixels = deep
    elif image.mode.startswith("I;16") or image.mode in ("I", "F"):
        pixels = _deep_grey(image, name)
    else:
        pixels = None
    if image.format == "PNG" and image.mode == "L" and data[24:25] in (b"\2", b"\4") and "transparency" in image.info:
        image.info["transparency"] *= 255 // (2 ** data[24] - 1)  # Pillow spreads the grey values alone
    transparent = image.info.get("transparency")
    to_srgb = image.mode in ("CMYK", "LAB")  # whose profile is used up
    cicp, remarks = None, ()
    icc_profile = image.info.get("icc_profile") or None
    if to_srgb:
        image, icc_profile = _to_srgb(image, icc_profile), None
    if pixels is None:
        pixels = np.asarray(_to_plain_mode(image, name))
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        transparent = None  # is an alpha channel by now
    if transparent is not None and pixels.shape[2] in (1, 3):  # 16 bits with one colour that stands for transparency
        opaque = np.any(pixels != np.asarray(transparent), axis=2, keepdims=True)
        pixels = np.concatenate([pixels, opaque * np.uint16(65535)], axis=2)
    if not to_srgb:
        icc_profile, cicp, remarks = read_colour(image, data, exif, grey=pixels.shape[2] < 3)
    metadata = read_metadata(image, exif)
    if image_format != "TIFF":  # which Pillow turns itself
        pixels = _upright(pixels, orientation)
    if orientation in (5, 6, 7, 8) and resolution:
        resolution = resolution[1], resolution[0]
    return _picture(
        pixels,
        icc_profile=icc_profile,
        cicp=cicp,
        resolution=resolution,
        metadata=metadata,
        format=image_format,
        remarks=remarks,
    )


def _picture(pixels: np.ndarray, **rest: Any) -> Picture:
    """Returns a picture of pixels whose last channel is alpha if there are two or four."""
    pixels = np.ascontiguousarray(pixels)
    if pixels.shape[2] in (2, 4):
        return Picture(pixels=pixels[..., :-1], alpha=pixels[..., -1], **rest)
    return Picture(pixels=pixels, **rest)


def _deep_grey(image: Image.Image, name: str) -> np.ndarray:
    """Returns grey pixels of more than 8 bits as uint16.

    Raises:
      UserError: If the numbers are not those of a picture.
    """
    values = np.asarray(image)[..., None]
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F":
        values = unit_to_16_bits(values, name)
    elif image.mode == "I":
        if values.min() < 0 or values.max() > 65535:
            raise UserError(f"{name} has values outside 0..65535: convert it to 8 or 16 bits")
    elif tags.get(258) == (12,):
        values = np.round(values * (65535 / 4095))
    values = values.astype(np.uint16)
    return 65535 - values if tags.get(262) == 0 else values


def _to_plain_mode(image: Image.Image, name: str) -> Image.Image:
    """Converts to L, LA, RGB or RGBA."""
    transparent = image.info.get("transparency")
    match image.mode:
        case "L" | "1":
            return image.convert("L" if transparent is None else "LA")
        case "LA" | "La":
            return image.convert("LA")
        case "RGB" | "P" | "RGBX" | "YCbCr":
            return image.convert("RGB" if transparent is None else "RGBA")
        case "RGBA" | "RGBa" | "PA":
            return image.convert("RGBA")
    raise UserError(f"{name} has pixels of mode {image.mode}, which is not supported: convert it to 8 or 16 bit RGB")


def _to_srgb(image: Image.Image, icc_profile: bytes | None) -> Image.Image:
    """Converts CMYK or Lab, the former through its own profile if it has one that works, else by the plain formula."""
    converted = image_to_srgb(image, icc_profile) if icc_profile or image.mode == "LAB" else None
    return image.convert("RGB") if converted is None else converted


def _orientation(image: Image.Image, exif: Image.Exif) -> int:
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1  # its decoder turns it, and EXIF has no say
    return exif.get(ExifTags.Base.Orientation, 1)


def _resolution(image: Image.Image, exif: Image.Exif) -> tuple[float, float] | None:
    values = image.info.get("dpi")
    try:
        if values is None and exif.get(ExifTags.Base.ResolutionUnit) in (2, 3):
            factor = 2.54 if exif[ExifTags.Base.ResolutionUnit] == 3 else 1
            values = [
                factor * float(exif.get(tag, 0)) for tag in (ExifTags.Base.XResolution, ExifTags.Base.YResolution)
            ]
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
