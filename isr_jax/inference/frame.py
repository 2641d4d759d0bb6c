"""The frame of a picture, as a film's bars or a page's margin, which may have come later than the blur inside."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from isr_jax.config import ConfigError
from isr_jax.inference.estimate_features import luma
from isr_jax.pictures.metrics import round_to

Pixels = Shaped[np.ndarray, "height width channels"]
CHUNK = 256
"""Lines that are compared at once."""


class Frame(NamedTuple):
    """How many rows and columns at the sides belong to it."""

    top: int
    bottom: int
    left: int
    right: int

    def inside(self, size: tuple[int, ...], of: tuple[int, ...] | None = None) -> tuple[slice, slice]:
        """Returns where a picture of a size (H, W, ...) has what is inside, as it is or enlarged from the size `of`."""
        (height, width), (rows, columns) = size[:2], (of or size)[:2]
        return (
            slice(round(self.top * height / rows), height - round(self.bottom * height / rows)),
            slice(round(self.left * width / columns), width - round(self.right * width / columns)),
        )

    def wider(self, by: int, size: tuple[int, ...]) -> "Frame":
        """Returns a frame wider where there is one, but where hardly anything would be left of the inside."""
        rows, columns = self.inside(size)
        enough = [by if s.stop - s.start > 4 * by else 0 for s in (rows, rows, columns, columns)]
        return Frame(*(width + more if width else 0 for width, more in zip(self, enough, strict=True)))


NO_FRAME = Frame(0, 0, 0, 0)


def find_layers(pixels: Pixels) -> list[Frame]:
    """Returns the frame of a picture and, second, with the mat inside it; each is there only where it is found.

    A layer is the rows of one colour above and below, and the columns beside what is left. Something of more than one
    colour is left inside.
    """
    layers = []
    frame = NO_FRAME
    for _ in range(2):
        before = frame
        for name, others in (("top", "bottom"), ("left", "right")):
            inner = pixels[frame.inside(pixels.shape)]
            lines = inner if name == "top" else inner.swapaxes(0, 1)
            first, last = _same(lines), _same(lines[::-1])
            if first + last >= len(lines):
                return layers
            more = {name: getattr(frame, name) + first, others: getattr(frame, others) + last}
            frame = frame._replace(**more)
        inner = pixels[frame.inside(pixels.shape)]
        if frame == before or _same(inner) == len(inner):
            return layers
        layers.append(frame)
    return layers


def _same(lines: np.ndarray) -> int:
    """Returns how many lines from the first on are of the first pixel's colour."""
    done, chunk = 0, 1  # most pictures have no frame
    while done < len(lines):
        other = (lines[done : done + chunk] != lines[0, 0]).any(axis=(1, 2))
        if other.any():
            return done + int(other.argmax())
        done, chunk = done + chunk, CHUNK
    return len(lines)


def steps_inward(pixels: Pixels, frame: Frame, count: int) -> Float[np.ndarray, "4 count"]:
    """Returns the largest differences of luma on the way into a picture, for each side of its frame; 0 without one.

    Returns: Above, below, on the left, on the right; the first step is that across the frame's edge.
    """
    rows, columns = frame.inside(pixels.shape)
    above, beside = pixels[:, columns], pixels[rows].swapaxes(0, 1)
    steps = np.zeros((4, count), np.float32)
    for side, lines, width in zip(steps, (above, above[::-1], beside, beside[::-1]), frame, strict=True):
        if width:
            found = np.abs(np.diff(luma(lines[width - 1 : width + count]), axis=0)).max(1)
            side[: len(found)] = found
    return steps


def later_frame(pixels: Pixels, layers: list[Frame], steep: Callable[[float], bool]) -> Frame | None:
    """Returns at each side the layers up to the last one whose edge is too steep for the blur; None without any."""
    found = before = NO_FRAME
    for layer in layers:
        sides = zip(layer, before, found, steps_inward(pixels, layer, 1)[:, 0], strict=True)
        found = Frame(*(wide if wide > less and steep(float(step)) else kept for wide, less, kept, step in sides))
        before = layer
    return None if found == NO_FRAME else found


def check_frame(frame: Any, size: tuple[int, ...]) -> Frame:
    """Returns a frame that a caller gives.

    Raises:
      ConfigError: If it is none of four numbers, or nothing would be left of a picture of the size (H, W, ...).
    """
    try:
        found = Frame(*map(operator.index, frame))
    except TypeError:
        found = None
    if found is None or min(found) < 0 or any(s.start >= s.stop for s in found.inside(size)):
        raise ConfigError(
            f"`frame` is {frame}; it is (top, bottom, left, right), rows and columns that leave something of a picture"
            f" of {size[1]}x{size[0]}"
        )
    return found


def continued(
    pixels: Shaped[np.ndarray, "*batch height width channels"], frame: Frame
) -> Shaped[np.ndarray, "*batch height width channels"]:
    """Returns pictures whose inside goes on, mirrored, where their frame was."""
    rows, columns = frame.inside(pixels.shape[-3:])
    around = [(0, 0)] * (pixels.ndim - 3) + [(frame.top, frame.bottom), (frame.left, frame.right), (0, 0)]
    return np.pad(pixels[..., rows, columns, :], around, mode="symmetric")


def put_frame(
    enlarged: Shaped[np.ndarray, "*stages batch hr_height hr_width channels"],
    pixels: Shaped[np.ndarray, "batch height width channels"],
    frame: Frame,
) -> Shaped[np.ndarray, "*stages batch hr_height hr_width channels"]:
    """Returns what was made of pictures with their frame around it, whose pixels are squares of one colour.

    In place, where the array can be written to.
    """
    enlarged = np.require(enlarged, requirements="W")
    (height, width), size = enlarged.shape[-3:-1], pixels.shape[1:]
    rows, columns = frame.inside((height, width), size)
    of_rows, of_columns = frame.inside(size)
    above, below = slice(0, of_rows.start), slice(of_rows.stop, size[0])
    left, right = slice(0, of_columns.start), slice(of_columns.stop, size[1])
    whole, of_whole = slice(0, width), slice(0, size[1])
    for band, of in (
        ((slice(0, rows.start), whole), (above, of_whole)),
        ((slice(rows.stop, height), whole), (below, of_whole)),
        ((rows, slice(0, columns.start)), (of_rows, left)),
        ((rows, slice(columns.stop, width)), (of_rows, right)),
    ):
        for index in np.ndindex(enlarged.shape[:-3]):
            part = _squares(pixels[index[-1]], height, band[0], of[0]).swapaxes(0, 1)
            part = _squares(part, width, band[1], of[1]).swapaxes(0, 1)
            enlarged[index][band] = round_to(part, enlarged.dtype)
    return enlarged


def _squares(lines: np.ndarray, count: int, wanted: slice, of: slice) -> np.ndarray:
    """Returns some of `count` lines, not fewer than there are, each the mean of those of `of` that it lies on."""
    number = np.arange(wanted.start, wanted.stop)
    first = number * len(lines) // count
    over = (number + 1) * len(lines) - (first + 1) * count  # what lies on the next line
    share = (np.maximum(over, 0) / len(lines)).astype(np.float32)[:, None, None]
    near, far = (lines[np.clip(k, of.start, of.stop - 1)].astype(np.float32) for k in (first, first + 1))
    return near + share * (far - near)
