"""Pictures of 16 bits a sample, of which Pillow reads and writes grey only: colour and transparency; and TIFF."""

import io
import struct
import sys
import zlib
from typing import Any

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from isr_jax.bands import bands
from isr_jax.config import UserError
from isr_jax.pictures.metadata import Metadata, exif_of


def low_byte_mode(image: Image.Image, name: str) -> str | None:
    """Returns Pillow's raw mode that decodes the low byte of each 16-bit sample, or None if Pillow reads all bits.

    Pillow keeps 16-bit colour as 8 bits, the high byte of each sample. Asked for the other byte order it keeps the low.
    """
    if image.mode not in ("RGB", "RGBA") or not getattr(image, "tile", None):
        return None
    args: Any = image.tile[0][3]  # pyright: ignore
    raw_mode = args[0] if isinstance(args, tuple) and args else args
    if not isinstance(raw_mode, str) or ";16" not in raw_mode:
        return None
    tags = getattr(image, "tag_v2", {})
    if raw_mode.startswith("RGBa") or (image.format == "TIFF" and tags.get(284) == 2):
        raise UserError(f"{name} is a 16 bit TIFF with premultiplied alpha or separate planes: save it without")
    if not raw_mode.startswith(("RGB", "LA")):
        return None
    if raw_mode == "LA;16B":
        return "RGBA"  # four bytes a pixel: both of the grey, both of the alpha
    kind, order = raw_mode.split(";16")
    if order not in ("L", "B", "N"):
        return None  # the 16 bits of a pixel: 5-6-5
    if order == "N":
        order = "L" if sys.byteorder == "little" else "B"
    return f"{kind};16{'L' if order == 'B' else 'B'}"


def decode_16_bits(image: Image.Image, again: Image.Image, low_bytes: str) -> np.ndarray:
    """Decodes 16-bit colour in two passes: the high bytes and the low bytes.

    Args:
      image: The picture, open.
      again: The same, opened once more and not decoded yet.
      low_bytes: What `low_byte_mode` said of it.
    """
    again.tile = [  # pyright: ignore
        tile._replace(args=low_bytes if isinstance(tile.args, str) else (low_bytes, *tile.args[1:]))
        for tile in again.tile  # pyright: ignore
    ]
    low = np.asarray(again).astype(np.uint16)
    if low_bytes == "RGBA":
        return low[..., 0::2] * 256 + low[..., 1::2]
    return np.asarray(image).astype(np.uint16) * 256 + low


def to_8_bits(values: np.ndarray) -> np.ndarray:
    """Returns uint16 as the nearest uint8."""
    nearest = np.empty(values.shape, np.uint8)
    for band in bands(values.shape):
        nearest[band] = np.round(values[band] / 257)
    return nearest


def unit_to_16_bits(values: np.ndarray, name: str) -> np.ndarray:
    """Returns floating point on 0..1 as the nearest uint16; what is a little outside is clipped.

    Raises:
      UserError: If the numbers are not those of a picture: NaN, or far from 0..1.
    """
    if not np.isfinite(values).all():
        raise UserError(f"{name} has values that are NaN or infinite")
    least, most = float(values.min()), float(values.max())
    if least < -0.5 or most > 1.5:
        raise UserError(f"{name} has values from {least:.3g} to {most:.3g}; floating point is on 0..1: scale it")
    return np.round(values.astype(np.float64).clip(0, 1) * 65535).astype(np.uint16)


Resolution = tuple[float | int, float | int] | None


def save_png16(
    stream: io.BufferedIOBase,
    pixels: np.ndarray,
    icc_profile: bytes | None,
    resolution: Resolution,
    chunks: list[tuple[bytes, bytes]],
    exif: bytes,
    compression: int,
) -> None:
    """Writes PNG of 16 bits a sample, band by band. References: PNG specification, third edition (W3C)."""

    def write(kind: bytes, content: bytes) -> None:
        stream.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))

    height, width, channels = pixels.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    stream.write(b"\x89PNG\r\n\x1a\n")
    write(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    if icc_profile:
        write(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile))
    if resolution:
        per_metre = [round(value / 0.0254) for value in resolution]
        write(b"pHYs", struct.pack(">IIB", *per_metre, 1))
    for kind, content in chunks:
        write(kind, content)
    if exif:
        write(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    compressor, above = zlib.compressobj(compression), np.zeros((1, 2 * width * channels), np.uint8)
    for band in bands(pixels.shape):
        rows = np.ascontiguousarray(pixels[band], ">u2").view(np.uint8).reshape(-1, above.size)
        filtered = np.full((len(rows), 1 + above.size), 2, np.uint8)  # filter 2, "up": each byte minus the one above
        filtered[:, 1:] = rows - np.concatenate([above, rows[:-1]])
        above = rows[-1:]
        if packed := compressor.compress(filtered):
            write(b"IDAT", packed)
    write(b"IDAT", compressor.flush())
    write(b"IEND", b"")


def save_tiff(
    stream: io.BufferedIOBase,
    pixels: np.ndarray,
    icc_profile: bytes | None,
    resolution: Resolution,
    metadata: Metadata,
    compression: int,
) -> None:
    """Writes TIFF of 8 or 16 bits a sample or of floating point, in one strip, deflated unless `compression` is 0.

    The deflated strip is held in memory until its length, which stands before it, is known.

    References: TIFF 6.0 and its technical note 2.
    """
    if pixels.dtype != np.uint8 and pixels.shape[2] == 2:  # such grey with alpha is hardly read by anyone
        pixels = pixels[..., [0, 0, 0, 1]]
    height, width, channels = pixels.shape
    order = pixels.dtype.newbyteorder("<")
    parts, length = (np.ascontiguousarray(pixels[band], order) for band in bands(pixels.shape)), pixels.nbytes
    if compression:
        compressor = zlib.compressobj(compression)
        parts = [*map(compressor.compress, parts), compressor.flush()]
        length = sum(map(len, parts))
    tags = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    exif = exif_of(metadata)
    for tag in exif:
        tags[tag] = exif[tag]
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if inside := exif.get_ifd(directory):
            tags[directory] = dict(inside)
    if metadata.xmp:
        tags[TiffImagePlugin.XMP] = metadata.xmp
    if metadata.iptc:
        tags[TiffImagePlugin.IPTC_NAA_CHUNK] = metadata.iptc
    tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH] = width, height
    tags[TiffImagePlugin.BITSPERSAMPLE] = (8 * pixels.dtype.itemsize,) * channels
    tags[TiffImagePlugin.COMPRESSION] = 8 if compression else 1
    tags[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 1 if channels < 3 else 2
    tags[TiffImagePlugin.SAMPLESPERPIXEL] = channels
    tags[TiffImagePlugin.ROWSPERSTRIP] = height
    tags[TiffImagePlugin.STRIPBYTECOUNTS] = length
    tags[TiffImagePlugin.STRIPOFFSETS] = 0  # counted from the end of the directory
    if channels in (2, 4):
        tags[TiffImagePlugin.EXTRASAMPLES] = 2
    if pixels.dtype == np.float32:
        tags[TiffImagePlugin.SAMPLEFORMAT] = (3,) * channels
    if icc_profile:
        tags[TiffImagePlugin.ICCPROFILE] = icc_profile
    if resolution:
        tags[TiffImagePlugin.X_RESOLUTION], tags[TiffImagePlugin.Y_RESOLUTION] = resolution
        tags[TiffImagePlugin.RESOLUTION_UNIT] = 2
    head = io.BytesIO()
    tags.save(head)
    stream.write(head.getvalue())
    for part in parts:
        stream.write(part)
