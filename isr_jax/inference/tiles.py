"""Working on large pictures window by window, where an output pixel sees only so far.

Windows overlap by twice what an output pixel can see (the halo), so that what is kept of them is what the whole picture
would give. The overlap is computed twice: few large windows of one shape that just cover the picture waste least, and
one shape is one program.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

LEAST_KEPT = 64
"""Pixels that a window with neighbours on both sides keeps at least, along a side."""


class Span(NamedTuple):
    """One window along one side, in pixels."""

    start: int
    """Where the window starts."""
    first: int
    """The first pixel that is taken from it."""
    last: int
    """The pixel behind the last one that is taken."""


def choose_window(size: tuple[int, int], halo: int, max_pixels: int) -> tuple[int, int]:
    """Returns the height and width of the equal windows that cover a picture with the least work.

    Args:
      size: Height and width of the picture.
      halo: How far an output pixel sees, LR pixels.
      max_pixels: Most pixels of one window; more are taken where that many hold hardly more than the halo.
    """
    height, width = size
    if height * width <= max_pixels:
        return size
    max_pixels = max(max_pixels, (2 * (halo + LEAST_KEPT)) ** 2)
    lengths = ([_length(side, count, halo) for count in range(1, max(1, side // LEAST_KEPT) + 1)] for side in size)
    rows, columns = lengths
    windows = ((r, c) for r in rows for c in columns if r * c <= max_pixels)
    return min(windows, key=lambda window: (work_factor(size, window, halo), window))


def work_factor(size: tuple[int, int], window: tuple[int, int], halo: int) -> float:
    """Returns how many pixels are computed for each pixel of the picture; 1 where the window is the picture."""
    counts = (len(cover(side, length, halo)) for side, length in zip(size, window, strict=True))
    return math.prod(counts) * math.prod(window) / math.prod(size)


def cover(side: int, window: int, halo: int) -> list[Span]:
    """Covers the pixels 0, ..., side - 1 by windows of one length, each pixel taken once, `halo` away from a cut.

    Raises:
      ValueError: If a window is shorter than the side and holds nothing but halo.
    """
    if side <= window:
        return [Span(0, 0, side)]
    if window <= 2 * halo:
        raise ValueError(f"a window of {window} pixels is not more than two halos of {halo}")
    spans, first = [], 0
    while first < side:
        start = min(max(first - halo, 0), side - window)
        last = side if start + window == side else start + window - halo
        spans.append(Span(start, first, last))
        first = last
    return spans


def upscale_windows(
    lr: Float[np.ndarray, "batch height width channels"],
    upscale: Callable[[np.ndarray], np.ndarray],
    *,
    scale: int,
    window: tuple[int, int],
    halo: int,
) -> Float[np.ndarray, "batch hr_height hr_width channels"]:
    """Super-resolves pictures window by window; `upscale` does one window of all of them."""
    batch, height, width, channels = lr.shape
    hr = np.empty((batch, height * scale, width * scale, channels), np.float32)
    for top, first_row, last_row in cover(height, window[0], halo):
        for left, first_column, last_column in cover(width, window[1], halo):
            tile = upscale(lr[:, top : top + window[0], left : left + window[1]])
            rows = slice((first_row - top) * scale, (last_row - top) * scale)
            columns = slice((first_column - left) * scale, (last_column - left) * scale)
            placed = hr[:, first_row * scale : last_row * scale, first_column * scale : last_column * scale]
            placed[...] = tile[:, rows, columns]
    return hr


def _length(side: int, count: int, halo: int) -> int:
    """Returns the shortest length of which so many windows cover a side."""
    return min(side, math.ceil((side + 2 * (count - 1) * halo) / count))
