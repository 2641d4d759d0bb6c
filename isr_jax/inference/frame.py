"""The frame of a picture, as a film's bars or a page's margin, which may have come later than the blur inside."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from isr_jax.config import ConfigError
from isr_jax.inference.estimate_features import luma

Pixels = Shaped[np.ndarray, "height width channels"]
Enlarged = Shaped[np.ndarray, "hr_height hr_width channels"]


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


def find_frame(pixels: Pixels) -> Frame:
    """Returns the rows of one colour above and below, the columns beside what is left, and the same once more: a mat.

    Where nothing would be left, it stays.
    """
    frame = NO_FRAME
    for _ in range(2):
        for name, others in (("top", "bottom"), ("left", "right")):
            inner = pixels[frame.inside(pixels.shape)]
            lines = inner if name == "top" else inner.swapaxes(0, 1)
            first, last = _same(lines), _same(lines[::-1])
            if first + last < len(lines):
                more = {name: getattr(frame, name) + first, others: getattr(frame, others) + last}
                frame = frame._replace(**more)
    return frame


def check_frame(frame: Any, size: tuple[int, ...]) -> Frame:
    """Returns a frame that a caller gives.

    Raises:
      ConfigError: If nothing would be left of a picture of the size (H, W, ...).
    """
    found = Frame(*map(int, frame)) if len(frame) == 4 and all(n == int(n) >= 0 for n in frame) else None
    if found is None or any(s.start >= s.stop for s in found.inside(size)):
        raise ConfigError(
            f"`frame` is {frame}; it is (top, bottom, left, right), rows and columns that leave something of a picture"
            f" of {size[1]}x{size[0]}"
        )
    return found


def _same(lines: np.ndarray) -> int:
    """Returns how many lines from the first on are of the first pixel's colour."""
    for k, line in enumerate(lines):
        if not (line == lines[0, 0]).all():
            return k
    return len(lines)


def steps_inward(pixels: Pixels, frame: Frame, count: int) -> Float[np.ndarray, " count"]:
    """Returns the largest differences of luma on the way into a picture, the first that across its frame's edge."""
    rows, columns = frame.inside(pixels.shape)
    above, beside = pixels[:, columns], pixels[rows].swapaxes(0, 1)
    steps = np.zeros(count, np.float32)
    for lines, width in zip((above, above[::-1], beside, beside[::-1]), frame, strict=True):
        if width:
            found = np.abs(np.diff(luma(lines[width - 1 : width + count]), axis=0)).max(1)
            steps[: len(found)] = np.maximum(steps[: len(found)], found)
    return steps


def continued(pixels: Pixels, frame: Frame) -> Pixels:
    """Returns a picture whose inside goes on, mirrored, where its frame was."""
    around = ((frame.top, frame.bottom), (frame.left, frame.right), (0, 0))
    return np.pad(pixels[frame.inside(pixels.shape)], around, mode="symmetric")


def put_frame(enlarged: Enlarged, pixels: Pixels, frame: Frame) -> None:
    """Puts the frame of a picture around what was made of it, as sharp as pixels are, in place."""
    near_rows, near_columns = (
        ((np.arange(many) + 0.5) * few / many).astype(int)
        for many, few in zip(enlarged.shape[:2], pixels.shape[:2], strict=True)
    )
    rows, columns = frame.inside(enlarged.shape, pixels.shape)
    everywhere = slice(None)
    for band in (
        (slice(rows.start), everywhere),
        (slice(rows.stop, None), everywhere),
        (rows, slice(columns.start)),
        (rows, slice(columns.stop, None)),
    ):
        enlarged[band] = pixels[np.ix_(near_rows[band[0]], near_columns[band[1]])]
