"""TIFF of kinds that Pillow does not know, such as floating point in colour: by tifffile, where that is installed."""

import io

import numpy as np
from PIL import TiffImagePlugin

from isr_jax.config import UserError
from isr_jax.pictures.sixteen_bits import unit_to_16_bits

Decoded = tuple[np.ndarray, bytes | None, int]


def is_unknown_to_pillow(data: bytes) -> bool:
    """Tells whether a file is a TIFF whose pixels are of a kind that Pillow does not know, and else sound."""
    if data[:2] not in (b"II", b"MM"):
        return False
    try:
        with TiffImagePlugin.TiffImageFile(io.BytesIO(data)):
            return False
    except SyntaxError as error:
        return "pixel mode" in str(error)


def decode_float_tiff(data: bytes, name: str, max_pixels: int) -> Decoded:
    """Returns the pixels, uint8 or uint16 (H, W, C) and not upright, their profile, and their orientation.

    Raises:
      UserError: If tifffile is not installed, or the file is of a kind that it does not help with.
    """
    try:
        import tifffile
    except ImportError as error:
        raise UserError(f"{name} is a TIFF of a rare kind; to read it: pip install 'isr_jax[formats]'") from error
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        if len(file.pages) != 1:
            raise UserError(f"{name} has {len(file.pages)} frames or pages: split it into single pictures first")
        page = file.pages.first
        if page.imagewidth * page.imagelength > max_pixels:
            raise UserError(
                f"{name} has {page.imagewidth}x{page.imagelength} pixels, more than the limit of {max_pixels}:"
                " raise it (`max_pixels`) if you trust the file"
            )
        if page.photometric not in (1, 2) or 1 in page.extrasamples or page.samplesperpixel > 4:
            raise UserError(f"{name} is a TIFF of a kind that is not supported: convert it to 8 or 16 bit RGB")
        values = page.asarray().reshape(page.shape)
        values = values[..., None] if values.ndim == 2 else values
        values = np.moveaxis(values, 0, -1) if page.planarconfig == 2 and values.shape[0] < 5 else values
        if np.issubdtype(values.dtype, np.floating):
            values = unit_to_16_bits(values, name)
        if values.dtype not in (np.uint8, np.uint16):
            raise UserError(f"{name} has samples of type {values.dtype}: convert it to 8 or 16 bits")
        orientation = page.tags.get(274)
        return values, page.iccprofile, 1 if orientation is None else int(orientation.value)
