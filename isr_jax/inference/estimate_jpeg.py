"""Whether pixels have been in a JPEG file before, and in what kind: from the lattice on which their coefficients lie.

On its grid of 8x8 blocks, wherever that begins after a crop, a picture that was a JPEG has coefficients which are
multiples of the file's steps, but for the rounding of pixels; most are 0. NumPy only.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt

from isr_jax.inference.estimate_features import luma
from isr_jax.physics.jpeg_tables import DCT, YCBCR, block_transform, quality_tables

SIDE = 512
"""Pixels of the part that is looked at, in the middle of the picture."""
ERROR = 0.4
"""Standard deviation of a coefficient from its multiple: pixels were rounded, in YCbCr and in RGB."""
BLOCKS = 400
"""Blocks whose coefficients are looked at."""
EVIDENCE = 40.0
"""Log-likelihood that the lattice must gain over no lattice."""
CHROMA_EVIDENCE = 5.0
"""The same for the sampling of chroma, over the next likely one."""
QUALITIES = range(4, 98)


class PixelJpeg(NamedTuple):
    """What is found."""

    quality: int
    sampling: tuple[int, int] | None
    """Rows and columns that share a value of chroma; None for grey pictures, or if it cannot be told."""
    shift: tuple[int, int]
    """Row and column of the first whole block."""


def find_jpeg(pixels: UInt[np.ndarray, "height width channels"]) -> PixelJpeg | None:
    """Returns what file 8-bit pixels have been in; None if none is found, as above quality 97."""
    top, left = (8 * (max(0, n - SIDE) // 16) for n in pixels.shape[:2])
    part = pixels[top : top + SIDE, left : left + SIDE]
    if pixels.dtype != np.uint8 or min(part.shape[:2]) < 32:
        return None
    plane = luma(part) - 128
    clipped = ((part == 0) | (part == 255)).any(axis=2).astype(np.float32)  # no longer what the decoder computed
    found = []
    for shift in {_quietest_grid(plane), _steepest_grid(plane)}:
        blocks = block_transform(_cut(plane, shift, 8)).reshape(-1, 8, 8)
        cut_off = block_transform(_cut(clipped, shift, 8)).reshape(-1, 8, 8)[:, 0, 0] > 0
        if cut_off.mean() > 0.9:
            continue
        evidence = _evidence(_richest(blocks[~cut_off]), 0)
        found.append((float(evidence.max()), int(evidence.argmax()), shift))
    gain, best, shift = max(found, default=(0.0, 0, (0, 0)))
    if gain < EVIDENCE:
        return None
    return PixelJpeg(QUALITIES[best], _find_sampling(part, shift, best), shift)


def _cut(plane: np.ndarray, start: tuple[int, int], multiple: int) -> np.ndarray:
    plane = plane[start[0] :, start[1] :]
    return plane[: plane.shape[0] // multiple * multiple, : plane.shape[1] // multiple * multiple]


def _quietest_grid(plane: Float[np.ndarray, "height width"]) -> tuple[int, int]:
    """Returns where blocks begin if most coefficients vanish: on the one of 64 grids where most do."""
    height, width = (min(n, 200) for n in plane.shape)
    top, left = (8 * ((n - m) // 16) for n, m in zip(plane.shape, (height, width), strict=True))
    plane = plane[top : top + height, left : left + width]
    rows, cols = (height - 7) // 8 * 8, (width - 7) // 8 * 8
    vanish = np.zeros((8, 8))
    for dy in range(8):
        across = DCT @ plane[dy : dy + rows].reshape(-1, 8, width)  # (blocks, frequency, width)
        for dx in range(8):
            found = across[:, :, dx : dx + cols].reshape(*across.shape[:2], -1, 8) @ DCT.T
            vanish[dy, dx] = (np.abs(found[:, 1:, :, 1:]) < 0.75).mean()
    row, col = np.unravel_index(np.argmax(vanish), vanish.shape)
    return (int(row) - top) % 8, (int(col) - left) % 8


def _steepest_grid(plane: Float[np.ndarray, "height width"]) -> tuple[int, int]:
    """Returns where blocks begin if their borders show: where steps are largest beside those before and behind."""
    phases = []
    for axis in (0, 1):
        step = np.abs(np.diff(plane, axis=axis))
        step = np.moveaxis(step, axis, 0)
        edge = np.clip(step[1:-1] - (step[:-2] + step[2:]) / 2, -8, 8).mean(1)
        phases.append(int(np.argmax([edge[k::8].mean() for k in range(8)])))  # edge k is between pixels k + 1 and k + 2
    return (phases[0] + 2) % 8, (phases[1] + 2) % 8


def _richest(blocks: Float[np.ndarray, "blocks 8 8"]) -> Float[np.ndarray, "fewer 8 8"]:
    return blocks[np.argsort((np.abs(blocks) > 1.5).sum((1, 2)))[-BLOCKS:]]


def _evidence(blocks: Float[np.ndarray, "blocks 8 8"], table: int) -> Float[np.ndarray, " qualities"]:
    """Returns of each quality how much more likely its lattice makes the coefficients than a smooth density does.

    The same number at the same place counts once: rounding makes no two of a photograph equal, and what is drawn or
    flat repeats itself without telling more.
    """
    chosen = np.abs(blocks) > 1.5
    _, rows, cols = np.nonzero(chosen)
    found = np.stack([rows, cols, np.abs(blocks[chosen]).round(2)], 1)
    found = found[np.sort(np.unique(found, axis=0, return_index=True)[1])][:5000]
    rows, cols, values = found[:, 0].astype(int), found[:, 1].astype(int), found[:, 2]
    totals = []
    for quality in QUALITIES:
        step = quality_tables(quality)[table][rows, cols]
        off = values - step * np.round(values / step)
        density = np.exp(-0.5 * np.square(off / ERROR)) / (ERROR * np.sqrt(2 * np.pi))
        totals.append(np.log(0.1 + 0.9 * step * density).sum())
    return np.array(totals)


def _find_sampling(part: np.ndarray, shift: tuple[int, int], quality: int) -> tuple[int, int] | None:
    """Returns how chroma was sampled: that of which the averages lie on the lattice."""
    if part.shape[2] == 1:
        return None
    chroma = part.astype(np.float32) @ YCBCR[1:].T
    found: dict[tuple[int, int], float] = {}
    for sampling in ((1, 1), (1, 2), (2, 2)):
        for start in np.ndindex(*sampling):
            first = (shift[0] + 8 * start[0], shift[1] + 8 * start[1])
            blocks = []
            for k in range(2):
                plane = chroma[first[0] :, first[1] :, k]
                for axis in (0, 1):
                    if sampling[axis] == 2:
                        plane = _undo_doubling(plane, axis)
                if min(plane.shape) >= 8:
                    blocks.append(block_transform(_cut(plane, (0, 0), 8)).reshape(-1, 8, 8))
            if blocks:  # none where the picture is hardly larger than a block
                near = slice(max(0, quality - 1), quality + 2)
                gain = float(_evidence(_richest(np.concatenate(blocks)), 1)[near].max())
                found[sampling] = max(found.get(sampling, -np.inf), gain)
    first, second = sorted(found, key=found.__getitem__)[-1:-3:-1]
    return first if found[first] > max(0, found[second]) + CHROMA_EVIDENCE else None


def _undo_doubling(plane: np.ndarray, axis: int) -> np.ndarray:
    """Inverts libjpeg's doubling of chroma, (3 near + far) / 4: averages of pairs are (before + 6 own + after) / 8."""
    plane = np.moveaxis(plane, axis, 0)
    half = (plane[: len(plane) // 2 * 2 : 2] + plane[1::2]) / 2
    root = 3 - 2 * np.sqrt(2)
    taps = (8 / (6 - 2 * root)) * (-root) ** np.abs(np.arange(-5, 6))
    padded = np.pad(half, ((5, 5), (0, 0)), mode="edge")
    undone: Any = sum(t * padded[k : k + len(half)] for k, t in enumerate(taps))
    return np.moveaxis(undone, 0, axis)
