"""Pictures as Pillow images, for who works with those."""

import numpy as np
from PIL import Image

from isr_jax.config import UserError
from isr_jax.pictures.decoding import picture_of
from isr_jax.pictures.metadata import read_exif
from isr_jax.pictures.picture import Picture
from isr_jax.pictures.sixteen_bits import to_8_bits


def picture_from_pillow(image: Image.Image) -> Picture:
    """Returns a Pillow image as a picture: upright, palettes and CMYK as RGB, bilevel as grey.

    Raises:
      ValueError: If its mode is another, such as "HSV".
    """
    try:
        return picture_of(image, "the image", read_exif(image))
    except UserError as error:
        raise ValueError(str(error)) from error


def picture_to_pillow(picture: Picture) -> Image.Image:
    """Returns a picture as a Pillow image of mode L, LA, RGB, RGBA, or I;16, with what belongs to it.

    Pillow has 16 bits for grey without transparency alone; other 16-bit pictures become 8 bits.
    """
    pixels = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    if pixels.dtype == np.uint16 and pixels.shape[2] > 1:
        pixels = to_8_bits(pixels)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if picture.icc_profile is not None:
        image.info["icc_profile"] = picture.icc_profile
    if picture.metadata.exif:
        image.info["exif"] = picture.metadata.exif
    if picture.metadata.xmp:
        image.info["xmp"] = picture.metadata.xmp
    if picture.resolution is not None:
        image.info["dpi"] = picture.resolution
    return image
