"""From pictures to files and their bytes."""

import io
import struct
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from PIL import Image, PngImagePlugin

from isr_jax.config import UserError
from isr_jax.pictures.colour import HDR, convert_to_srgb, is_grey_profile
from isr_jax.pictures.formats import check_size
from isr_jax.pictures.metadata import Metadata, exif_bytes
from isr_jax.pictures.metrics import round_to
from isr_jax.pictures.picture import Picture
from isr_jax.pictures.sixteen_bits import save_png16, save_tiff, to_8_bits

Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]

_JPEG_SEGMENT = 65533 - 29
"""Most bytes of EXIF, XMP, IPTC or a comment in a JPEG."""


def fit_to_format(picture: Picture, image_format: str) -> Picture:
    """Returns the picture as a format holds it; what changes in looks, or cannot be kept, is among its remarks.

    16 bits become 8 outside PNG and TIFF; alpha that hides nothing goes where there is none; colours become sRGB where
    their profile cannot be written.

    Raises:
      UserError: If the format cannot hold the picture: transparent parts, or its size.
    """
    pixels, alpha, profile, remarks = picture.pixels, picture.alpha, picture.icc_profile, list(picture.remarks)
    height, width = pixels.shape[:2]
    check_size(image_format, height, width, pixels.itemsize * (pixels.shape[2] + (alpha is not None)))
    if alpha is not None and image_format in ("JPEG", "BMP"):
        if np.any(alpha != np.iinfo(alpha.dtype).max):
            raise UserError(f"{image_format} holds no transparency: write PNG, WebP or TIFF instead")
        alpha = None  # nothing of it is transparent, as in most screenshots
    if pixels.dtype == np.uint16 and image_format not in ("PNG", "TIFF"):
        pixels, alpha = to_8_bits(pixels), None if alpha is None else to_8_bits(alpha)
    becomes_colour = image_format == "WEBP" or (image_format == "AVIF" and alpha is not None)
    becomes_colour |= image_format == "TIFF" and alpha is not None and pixels.dtype != np.uint8
    if profile is not None and (image_format == "BMP" or (becomes_colour and is_grey_profile(profile))):
        converted = None if pixels.dtype != np.uint8 else convert_to_srgb(pixels, profile)
        if converted is None:
            remarks.append(f"{image_format} cannot hold its colour profile, nor can that be applied: it is left out")
        else:
            pixels = converted
        profile = None
    if image_format != "PNG" and profile is None and picture.cicp is not None:
        if picture.cicp[1] in HDR:
            kind = HDR[picture.cicp[1]]
            remarks.append(
                f"its colours are HDR ({kind}), which {image_format} cannot say here: write PNG to keep them"
            )
        elif not picture.cicp[3]:
            remarks.append(f"its numbers are of limited range, which is not written to {image_format}: write PNG")
    metadata = picture.metadata
    if image_format == "JPEG":
        metadata, lost = _within_segments(metadata)
        remarks += lost
    elif image_format != "TIFF" and metadata.iptc:
        metadata = replace(metadata, iptc=b"")
        remarks.append(f"{image_format} has no place for its IPTC data, which are left out: JPEG and TIFF keep them")
    return replace(picture, pixels=pixels, alpha=alpha, icc_profile=profile, metadata=metadata, remarks=tuple(remarks))


def encode_image(picture: Picture, image_format: str, **options: Any) -> bytes:
    """Returns the picture as the bytes of a file; the arguments and errors are those of `save_image`."""
    stream = io.BytesIO()
    save_image(stream, picture, image_format, **options)
    return stream.getvalue()


def save_image(
    stream: io.BufferedIOBase,
    picture: Picture,
    image_format: str,
    *,
    quality: int = 95,
    subsampling: Subsampling = "4:4:4",
    compression: int = 6,
) -> None:
    """Writes the picture as a file.

    Args:
      stream: Where to, at its start.
      picture: What to write; first made to fit, see `fit_to_format`.
      image_format: One of the values of `isr_jax.pictures.formats.FORMATS`.
      quality: Of JPEG, WebP and AVIF, 1 to 100; 100 makes WebP lossless.
      subsampling: How much of the colours JPEG and AVIF keep: all, half, or a quarter.
      compression: Of PNG and TIFF, 0 (none) to 9 (slow); what is read again is the same.
    Raises:
      OSError: If the stream cannot be written to.
      UserError: If the format cannot hold the picture: transparent parts, or its size.
    """
    picture = fit_to_format(picture, image_format)
    pixels, metadata = picture.pixels, picture.metadata
    if picture.alpha is not None:
        pixels = np.concatenate([pixels, picture.alpha[..., None]], axis=2)
    if image_format == "TIFF":
        save_tiff(stream, pixels, picture.icc_profile, picture.resolution, metadata, compression)
        return
    options: dict[str, Any] = {}
    sink: Any = stream  # Pillow's types ask for more than it uses
    match image_format:
        case "PNG":
            chunks = _png_chunks(picture)
            if pixels.dtype == np.uint16:
                of = (picture.icc_profile, picture.resolution, chunks, metadata.exif)
                save_png16(stream, pixels, *of, compression)
                return
            info = PngImagePlugin.PngInfo()
            for kind, content in chunks:
                info.add(kind, content)
            options = {"pnginfo": info, "compress_level": compression, "exif": metadata.exif}
        case "JPEG":
            options = {"quality": quality, "subsampling": subsampling}
            options["exif"] = exif_bytes(replace(metadata, comment=b"")) if metadata.texts else metadata.exif
            options |= {"xmp": metadata.xmp, "comment": metadata.comment, "extra": _photoshop_segment(metadata.iptc)}
        case "WEBP":
            options = {"quality": quality, "lossless": quality == 100, "exact": True}
        case "AVIF":
            grey = pixels.shape[2] == 1
            options = {"quality": quality, "subsampling": "4:0:0" if grey else subsampling}
    if image_format in ("WEBP", "AVIF"):
        options |= {"exif": exif_bytes(metadata, picture.resolution), "xmp": metadata.xmp}
    if picture.icc_profile and image_format != "BMP":
        options["icc_profile"] = picture.icc_profile
    if picture.resolution:
        options["dpi"] = tuple(picture.resolution)
    options = {key: value for key, value in options.items() if value != b""}
    try:
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(sink, image_format, **options)
    except (OSError, ValueError, struct.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the stream, such as a full disk
        height, width = pixels.shape[:2]
        raise UserError(f"a picture of {width}x{height} cannot be written as {image_format}: {error}") from error


def check_bits(image_format: str, bits: int) -> None:
    """Says that a format has no samples of so many bits.

    Raises:
      UserError: If that is so.
    """
    formats = {8: (image_format,), 16: ("PNG", "TIFF"), 32: ("TIFF",)}[bits]
    if image_format not in formats:
        raise UserError(f"{image_format} has no samples of {bits} bits (`bits`): write {' or '.join(formats)}")


def writing_bytes(image_format: str, shape: tuple[int, ...], itemsize: int) -> int:
    """Returns about how much memory `save_image` takes at most, beside the picture.

    Args:
      image_format: As there.
      shape: Height, width and channels, alpha among them.
      itemsize: Bytes a sample.
    """
    height, width, channels = shape
    joined = height * width * channels * itemsize if channels in (2, 4) else 0
    match image_format:
        case "TIFF":
            return joined + height * width * channels * itemsize  # the compressed strip
        case "PNG" if itemsize > 1:
            return joined
        case "WEBP" | "AVIF":
            return joined + 16 * height * width  # the encoder's own
    return joined + 4 * height * width * (channels in (2, 3))  # Pillow has a word for each pixel of these


def with_bits(picture: Picture, exact: Float[np.ndarray, "height width channels"], bits: int) -> Picture:
    """Returns a picture with samples of 8 or 16 bits, rounded from its exact pixels on 0..255."""
    dtype, factor = (np.uint8, 1) if bits == 8 else (np.uint16, 257)
    alpha = picture.alpha
    if alpha is not None and alpha.dtype != dtype:
        alpha = to_8_bits(alpha) if bits == 8 else alpha.astype(np.uint16) * np.uint16(257)
    return replace(picture, pixels=round_to(exact * np.float32(factor), dtype), alpha=alpha)


def save_float_tiff(
    stream: io.BufferedIOBase,
    picture: Picture,
    exact: Float[np.ndarray, "height width channels"],
    *,
    compression: int = 6,
) -> None:
    """Writes a picture as a TIFF of floating point on 0..1, neither rounded nor clipped.

    Args:
      stream: As for `save_image`.
      picture: What belongs to the pixels.
      exact: The pixels, on 0..255.
      compression: As for `save_image`.
    """
    height, width, channels = exact.shape
    check_size("TIFF", height, width, 4 * (channels + (picture.alpha is not None)))
    pixels = exact / np.float32(255)
    if picture.alpha is not None:
        alpha = picture.alpha / np.float32(np.iinfo(picture.alpha.dtype).max)
        pixels = np.concatenate([pixels, alpha[..., None].astype(np.float32)], axis=2)
    save_tiff(stream, pixels, picture.icc_profile, picture.resolution, picture.metadata, compression)


def _png_chunks(picture: Picture) -> list[tuple[bytes, bytes]]:
    """Returns the chunks for a PNG's colours and texts."""
    texts = list(picture.metadata.texts)
    if picture.metadata.comment:
        texts.append(("Comment", picture.metadata.comment.decode("utf-8", "replace")))
    info = PngImagePlugin.PngInfo()
    if picture.cicp is not None:
        info.add(b"cICP", bytes(picture.cicp))
    for key, text in texts:
        info.add_itxt(key, text)
    if picture.metadata.xmp:
        info.add_itxt("XML:com.adobe.xmp", picture.metadata.xmp.decode("utf-8", "replace"))
    return [(chunk[0], chunk[1]) for chunk in info.chunks]


def _within_segments(metadata: Metadata) -> tuple[Metadata, list[str]]:
    """Leaves out of the metadata what a JPEG has no room for, and says so."""
    names = {"exif": "EXIF", "xmp": "XMP", "iptc": "IPTC", "comment": "comment"}
    large = [part for part in names if len(getattr(metadata, part)) > _JPEG_SEGMENT]
    kept = replace(metadata, **dict.fromkeys(large, b""))
    return kept, [f"its {names[part]} data are too large for a JPEG: they are left out" for part in large]


def _photoshop_segment(iptc: bytes) -> bytes:
    """Returns the APP13 segment that holds IPTC records. Reference: Adobe Photoshop File Formats, image resources."""
    if not iptc:
        return b""
    resource = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    content = b"Photoshop 3.0\0" + resource
    return b"\xff\xed" + struct.pack(">H", len(content) + 2) + content
