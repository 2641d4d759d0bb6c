"""Bicubic enlargement, the baseline, of the same kind as a model; needs no JAX."""

import numpy as np
from jaxtyping import Shaped

from isr_jax.physics.resize import imresize
from isr_jax.pictures.images import fill_transparent, scaled_picture
from isr_jax.pictures.picture import Picture


class BicubicUpscaler:
    """MATLAB's bicubic imresize by one factor."""

    def __init__(self, scale: float | int):
        self.scale = scale

    def upscale(
        self, image: Shaped[np.ndarray, "height width *channels"]
    ) -> Shaped[np.ndarray, "new_h new_w *channels"]:
        """Enlarges one picture, of any type that `imresize` takes."""
        return imresize(image, self.scale)

    def upscale_picture(self, picture: Picture, scale: float | int | None = None) -> tuple[Picture, np.ndarray]:
        """Enlarges a picture with all that belongs to it; `scale` is another factor than its own.

        Returns: The picture, and its pixels before rounding: float32 on 0..255.
        """
        pixels = picture.pixels
        if picture.alpha is not None:
            pixels = fill_transparent(pixels, picture.alpha)
        size = picture.scaled_size(self.scale if scale is None else scale)
        exact = imresize(pixels.astype(np.float32) / (257 if pixels.dtype == np.uint16 else 1), size=size)
        return scaled_picture(picture, imresize(pixels, size=size)), exact
