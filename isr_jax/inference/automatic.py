"""Pictures that no model is named for: which shipped one enlarges them, and how the result keeps to a JPEG file.

A picture that is taken for a clean one, or that shrinks, is isr-lite's; noise, JPEG and blur are told to isr-any, an
estimated blur alone, at x4, to isr-blind-x4, which bears an estimate's errors better.
"""

import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from isr_jax.inference.estimate import CLEAN_NOISE, Estimate
from isr_jax.inference.jpeg_agreement import agree_with_jpeg
from isr_jax.pictures.metrics import round_to
from isr_jax.pictures.picture import Picture

if TYPE_CHECKING:
    from isr_jax.inference.upscaler import Upscaler

ANY, BLIND = "isr-any", "isr-blind-x4"


def default_model(scale: float | int) -> str:
    """Returns the smallest shipped model that reaches a scale, or the largest: isr-lite-x2, -x3 or -x4."""
    return f"isr-lite-x{min(4, max(2, math.ceil(scale)))}"


def model_for(estimate: Estimate, factor: float | int) -> str:
    """Returns the shipped model that enlarges what a picture is believed to be, by a factor."""
    return default_model(factor) if estimate.clean or factor < 1 else model_told(estimate, factor)


def model_told(estimate: Estimate, factor: float | int) -> str:
    """Returns the shipped model that is best told what a picture is believed to be."""
    only_blurred = estimate.jpeg is None and (estimate.noise_std or 0.0) < CLEAN_NOISE
    return BLIND if only_blurred and factor > 3 else ANY


def upscale_held(
    model: "Upscaler", picture: Picture, file: str | os.PathLike | bytes, *, exact: bool = False, **known: Any
) -> tuple[Picture, np.ndarray | None]:
    """Enlarges a picture; one that keeps its size is held to what its JPEG file says.

    Args:
      model: What enlarges it.
      picture: The picture.
      file: Where it comes from, path or bytes.
      exact: Whether the pixels before rounding are wanted, too.
      known: As for `Upscaler.upscale_picture`, which also says what is returned.
    """
    pixels, same_size = picture.pixels, known.get("scale") == 1
    if not (same_size and model.uses_jpeg and pixels.dtype == np.uint8 and picture.alpha is None):
        return model.upscale_picture(picture, exact=exact, **known)
    result, floats = model.upscale_picture(picture, exact=True, **known)
    assert floats is not None
    held = agree_with_jpeg(floats, file, pixels)
    return replace(result, pixels=round_to(held, pixels.dtype)), held if exact else None
