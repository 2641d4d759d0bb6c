"""Working on large pictures window by window, where an output pixel sees only so far.

Windows overlap by twice what an output pixel can see (the halo), so that what is kept of them is what the whole picture
would give. The overlap is computed twice: few large windows of one shape that just cover the picture waste least, and
one shape is one program. The first and the last window end where the picture does, so that its borders are theirs.

Compiling a program for every size would take longer than many pictures do. The first few sizes have windows of their
own; later ones take a window that is there already, where that wastes little, or one that is rounded up, for others to
come: a picture that is smaller than its window is padded (`isr_jax.physics.padded`). There are at most `MAX_SHAPES`.
"""

import math
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

LEAST_KEPT = 64
"""Pixels that a window with neighbours on both sides keeps at least, along a side."""


MAX_WORK = 1.25
"""Pixels computed for each pixel of a picture, for which a window may take up to four times as much memory."""

OWN_SHAPES = 4
"""How many sizes have windows of their own."""

MAX_SHAPES = 12
"""Most windows of one kind; the last is the largest, in which any picture fits."""

SPARE_PIXELS = 4096
"""LR pixels that a picture may waste rather than compile, for each window beyond `OWN_SHAPES` and for one more."""

ROUNDING = 1.25
"""Ratio of the sides to which windows are rounded up."""


class Window(NamedTuple):
    """The shape of a window."""

    height: int
    width: int
    padded: bool = False
    """Whether its program is told the size of smaller pictures."""


class Span(NamedTuple):
    """One window along one side, in pixels."""

    start: int
    """Where the window starts."""
    first: int
    """The first pixel that is taken from it."""
    last: int
    """The pixel behind the last one that is taken."""


def share_window(
    size: tuple[int, int],
    halo: int,
    max_pixels: int,
    known: Collection[Window],
    *,
    pad: bool,
    limit: float | int = math.inf,
) -> Window:
    """Returns the window for a picture: one of those that are known, or a new one.

    Args:
      size: As for `choose_window`, and the next two.
      halo: How far an output pixel sees, LR pixels.
      max_pixels: Most pixels of one window.
      known: Windows that have been compiled for the same kind of pictures.
      pad: Whether pictures may be padded.
      limit: As for `choose_window`.
    """
    best = choose_window(size, halo, max_pixels, limit=limit)
    own, limit = Window(*best), max(limit, least_window(halo))
    known = [window for window in known if window.height * window.width <= limit]
    if not pad:
        return own
    pixels, best_work = math.prod(size), work_factor(size, best, halo)
    nearest = min(known, key=lambda window: work_factor(size, window[:2], halo, window.padded), default=own)
    waste = (work_factor(size, nearest[:2], halo, nearest.padded) - best_work) * pixels
    if own in known or len(known) < OWN_SHAPES:
        return nearest if waste <= 0 else own
    if waste <= SPARE_PIXELS * (len(known) - OWN_SHAPES + 1) or len(known) >= MAX_SHAPES:
        return nearest
    if len(known) == MAX_SHAPES - 1:
        side = math.isqrt(int(max(min(max_pixels, limit), least_window(halo))))
        return Window(side, side, padded=True)
    return Window(*(_rounded_up(side) for side in best), padded=True)


def choose_window(
    size: tuple[int, int], halo: int, max_pixels: int, *, limit: float | int = math.inf
) -> tuple[int, int]:
    """Returns the height and width of the equal windows that cover a picture with the least work.

    Args:
      size: Height and width of the picture.
      halo: How far an output pixel sees, LR pixels.
      max_pixels: Most pixels of one window; up to four times as many are taken where the work would be more than
        `MAX_WORK`, and as many as it takes where that many hold hardly more than the halo.
      limit: Most pixels of one window whatever the work, if they are not fewer than `least_window`.
    """
    height, width = size
    if height * width <= min(max_pixels, limit):
        return size
    rows, columns = (
        [_length(side, count, halo) for count in range(1, max(1, side // LEAST_KEPT) + 1)] for side in size
    )
    window = size
    for pixels in (max_pixels, 2 * max_pixels, 4 * max_pixels):
        most = max(min(pixels, limit), least_window(halo))
        windows = ((r, c) for r in rows for c in columns if r * c <= most)
        window = min(windows, key=lambda window: (work_factor(size, window, halo), window))
        if work_factor(size, window, halo) <= MAX_WORK:
            break
    return window


def least_window(halo: int) -> int:
    """Returns the pixels of the smallest window that is worth while."""
    return (2 * (halo + LEAST_KEPT)) ** 2


def work_factor(size: tuple[int, int], window: tuple[int, int], halo: int, pad: bool = False) -> float | int:
    """Returns how many pixels are computed for each pixel of the picture; 1 where the window is the picture.

    Infinity where the picture is smaller than the window and must not be padded, or the window is nothing but halo.
    """
    work = 1
    for side, length in zip(size, window, strict=True):
        count = _count(side, length, halo)
        if count == math.inf or (side < length and not pad):
            return math.inf
        work *= count * length / side
    return work


def cover(side: int, window: int, halo: int) -> list[Span]:
    """Covers the pixels 0, ..., side - 1 by windows of one length, each pixel taken once, `halo` away from a cut.

    Raises:
      ValueError: If a window is shorter than the side and holds nothing but halo.
    """
    if side <= window:
        return [Span(0, 0, side)]
    if _count(side, window, halo) == math.inf:
        raise ValueError(f"a window of {window} pixels is not more than two halos of {halo}")
    spans, first = [], 0
    while first < side:
        start = min(max(first - halo, 0), side - window)
        last = side if start + window == side else start + window - halo
        spans.append(Span(start, first, last))
        first = last
    return spans


class Part(NamedTuple):
    """A window on pictures (N, H, W, C), as indices of arrays that have `scale` pixels for each LR pixel of a side."""

    rows: Span
    columns: Span
    size: tuple[int, int]

    def seen(self, scale: int = 1) -> tuple[slice, ...]:
        """Returns where the window lies."""
        starts = zip((self.rows.start, self.columns.start), self.size, strict=True)
        return slice(None), *(slice(start * scale, (start + side) * scale) for start, side in starts)

    def taken(self, scale: int) -> tuple[slice, ...]:
        """Returns where that lies which is taken from the window."""
        return slice(None), *(slice(s.first * scale, s.last * scale) for s in (self.rows, self.columns))

    def inside(self, scale: int) -> tuple[slice, ...]:
        """Returns where that lies in the window."""
        spans = (self.rows, self.columns)
        return slice(None), *(slice((s.first - s.start) * scale, (s.last - s.start) * scale) for s in spans)


def parts(size: tuple[int, int], window: tuple[int, int], halo: int) -> Iterator[Part]:
    """Yields the windows that cover pictures, row by row."""
    for rows in cover(size[0], window[0], halo):
        for columns in cover(size[1], window[1], halo):
            yield Part(rows, columns, window)


def upscale_windows(
    lr: Shaped[np.ndarray, "batch height width channels"],
    upscale: Callable[[np.ndarray], np.ndarray],
    *,
    scale: int,
    window: tuple[int, int],
    halo: int,
    dtype: Any = np.float32,
) -> Shaped[np.ndarray, "batch hr_height hr_width channels"]:
    """Super-resolves pictures window by window.

    Args:
      lr: The pictures.
      upscale: Does one window of all of them, and returns it as `dtype`.
      scale: What it enlarges by.
      window: Height and width.
      halo: How far an output pixel sees, LR pixels.
      dtype: Of the result; what is larger never lies in memory as a whole.
    """
    batch, height, width, channels = lr.shape
    if height <= window[0] and width <= window[1]:
        return upscale(lr)[:, : height * scale, : width * scale]
    hr = np.empty((batch, height * scale, width * scale, channels), dtype)
    for part in parts((height, width), window, halo):
        hr[part.taken(scale)] = upscale(lr[part.seen()])[part.inside(scale)]
    return hr


def _count(side: int, window: int, halo: int) -> float | int:
    """Returns how many windows of a length cover a side."""
    if side <= window:
        return 1
    return math.ceil((side - 2 * halo) / (window - 2 * halo)) if window > 2 * halo else math.inf


def _rounded_up(side: int) -> int:
    """Returns the next of a few sides, 32 at least, all of which are multiples of 8."""
    rounded = 32.0
    while rounded < side:
        rounded *= ROUNDING
    return math.ceil(rounded / 8) * 8


def _length(side: int, count: int, halo: int) -> int:
    """Returns the shortest length of which so many windows cover a side."""
    return min(side, math.ceil((side + 2 * (count - 1) * halo) / count))
