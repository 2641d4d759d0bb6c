"""Bicubic enlargement, the baseline, as an upscaler like any other; it needs no JAX."""

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from isr_jax.config import UserError
from isr_jax.inference.memory_limit import memory_of_host, write_memory
from isr_jax.inference.sizes import choose_target, cut_picture
from isr_jax.physics.resize import imresize
from isr_jax.pictures.images import fill_transparent, scaled_picture
from isr_jax.pictures.picture import Picture

BICUBIC = "bicubic"
"""What it is called where a model is named."""


class BicubicUpscaler:
    """MATLAB's `imresize` with the interface of `Upscaler`: no parameters, no stages, nothing to compile."""

    def __init__(self, scale: float | int):
        """Prepares the enlargement by any positive factor."""
        self.name, self.scale, self.ensemble = BICUBIC, scale, False
        self.num_stages = self.num_parameters = self.compilations = self.cache_hits = 0
        self.program_bytes: dict[tuple[int, ...], int] = {}
        self.macs_per_pixel = self.seconds = 0.0

    def upscale(
        self, image: Shaped[np.ndarray, "height width *channels"]
    ) -> Shaped[np.ndarray, "new_h new_w *channels"]:
        """Enlarges one picture.

        Args:
          image: Grey (H, W) or (H, W, 1), or RGB (H, W, 3): uint8, uint16, or floating point on 0..255.
        Returns: The picture, `scale` times as large, of the same type; integers are rounded as MATLAB rounds them.
        """
        return imresize(image, self.scale)

    def upscale_batches(
        self, lr: Shaped[np.ndarray, "batch height width channels"], *, all_stages: bool = False
    ) -> Iterator[Float[np.ndarray, "*stages 1 hr_height hr_width channels"]]:
        """Yields the pictures of a batch enlarged, one by one, as float32 on 0..255.

        Args:
          lr: Pictures on 0..255; those of uint8 are enlarged bit-exactly, rounded between the passes as MATLAB does.
          all_stages: Put an axis of the stages first; its one entry is the result.
        """
        for picture in lr:
            start = time.perf_counter()
            hr = imresize(picture, self.scale).astype(np.float32)[None]
            self.seconds += time.perf_counter() - start
            yield hr[None] if all_stages else hr

    def upscale_picture(
        self, picture: Picture, *, exact: bool = False, **wanted: Any
    ) -> tuple[Picture, np.ndarray | None]:
        """Enlarges a picture with all that belongs to it.

        Args:
          picture: What to enlarge.
          exact: Return the pixels before rounding, too.
          wanted: `scale`, or `size` and `fit`, as for `choose_target`; the upscaler's own scale by default.
        Returns: The picture, and, if asked for, its pixels before rounding: float32 on 0..255.
        Raises:
          UserError: If the result would not fit into memory.
        """
        pixels = picture.pixels
        if picture.alpha is not None:
            pixels = fill_transparent(pixels, picture.alpha)
        target = choose_target(pixels.shape, **(wanted or {"scale": self.scale}))
        needed = 4 * math.prod(target.size) * pixels.shape[2]  # float32 between the passes
        if needed > memory_of_host():
            size = f"{target.size[1]}x{target.size[0]}"
            raise UserError(f"a result of {size} needs {write_memory(needed)} of memory: choose a smaller one")
        result = cut_picture(scaled_picture(picture, imresize(pixels, size=target.size)), target)
        if not exact:
            return result, None
        levels = pixels.astype(np.float32) / (257 if pixels.dtype == np.uint16 else 1)
        return result, target.cut(imresize(levels, size=target.size))
