"""Whether a picture has been enlarged before, and by how much.

Interpolated pixels are averages of their neighbours, and how smooth they are repeats with the enlargement's period.

References: Gallagher 2005, Detection of linear and cubic interpolation in JPEG compressed images.
"""

import math

import numpy as np
from jaxtyping import Float, UInt

from isr_jax.inference.estimate_features import luma

SIDE = 768
"""Pixels of the part that is looked at, in the middle of the picture."""
FACTORS = (1.5, 4.0)
"""Range that is looked for."""
LEAST_RUNS = 12
"""Runs of equal rows that tell whether they are even."""
EVIDENCE = 6.0
"""How far a line of the spectrum stands out of its neighbours, on both axes together."""
EMPTY = 0.02
"""Most power beyond the frequency of the smaller picture's pixels, against that below it."""
FALL = 0.25
"""Most power just beyond that frequency, against that just below it."""


def find_enlargement(pixels: UInt[np.ndarray, "height width channels"], *, jpeg: bool = False) -> float | None:
    """Returns by what a picture was enlarged, 1.5 to 4, by a common filter; None where no trace of it is found.

    Args:
      pixels: Grey or RGB.
      jpeg: Whether it was a JPEG: its blocks have a period, too, of 8 pixels and its fractions.
    """
    top, left = ((max(0, n - SIDE) // 2) for n in pixels.shape[:2])
    part = pixels[top : top + SIDE, left : left + SIDE]
    if min(part.shape[:2]) < 64:
        return None
    plane = luma(part)
    if (repeated := _repeated(part)) is not None:
        return repeated
    lines = [_lines(np.moveaxis(plane, axis, 1)) for axis in (0, 1)]
    grid = np.arange(0.18, 0.5001, 0.0005)
    strength = np.prod([np.interp(grid, f, s) for f, s in lines], axis=0) ** 0.5
    if jpeg:
        strength[np.abs(grid * 8 - np.round(grid * 8)) < 0.05] = 0
    best = int(np.argmax(strength))
    if strength[best] < EVIDENCE:
        return None
    # A period of 1.5 pixels and one of 3 have the same line; frequencies beyond the smaller picture's tell them apart.
    line = float(grid[best])
    small, large = sorted((1 / line, 1 / (1 - line)))
    for factor in (large, small):
        if not FACTORS[0] * 0.98 <= factor <= FACTORS[1] * 1.02:
            continue
        empty = _power(plane, 0.2 / factor, min(0.625 / factor, 0.47), 0.5) < EMPTY
        falls = large - small < 0.05 or _power(plane, 0.35 / factor, 0.525 / factor, 0.475 / small) < FALL
        if empty and (factor == small or falls):
            return round(factor, 2)
    return None


def _repeated(part: UInt[np.ndarray, "height width channels"]) -> float | None:
    """Returns the factor where whole rows and columns repeat evenly: the nearest neighbour was taken.

    Blank parts of a page repeat, too, but not each row twice.
    """
    factors = []
    for axis in (0, 1):
        changes = np.flatnonzero((np.diff(part.astype(int), axis=axis) != 0).any(axis=(1 - axis, 2)))
        runs = np.diff(changes)  # rows from one change to the next
        short = runs[runs <= math.ceil(FACTORS[1])]  # longer ones are blank
        if len(short) < LEAST_RUNS:
            return None
        mean = float(short.mean())
        even = short[(short >= math.floor(mean)) & (short <= math.ceil(mean))]
        factor = float(even.mean()) if len(even) else 0.0
        if factor < 0.98 * FACTORS[0] or len(even) < 0.9 * len(short):
            return None
        factors.append(factor)
    return round(sum(factors) / 2, 2) if abs(factors[0] - factors[1]) < 0.05 * min(factors) else None


def _lines(plane: Float[np.ndarray, "height width"]) -> tuple[np.ndarray, np.ndarray]:
    """Returns frequencies, and how far each stands out in the spectrum of the mean |second difference| of columns."""
    steps = np.abs(np.diff(plane, axis=1))
    bends = np.abs(np.diff(plane, n=2, axis=1))  # after doubling all alike; then the steps are not
    spectra = []
    for values in (steps[:, 1:], bends):
        signal = np.log(np.minimum(values, 20).mean(0) + 0.05)
        signal = signal - np.convolve(np.pad(signal, 8, mode="edge"), np.ones(17) / 17, mode="valid")
        power = np.abs(np.fft.rfft(signal * np.hanning(len(signal)), 4096))
        spectra.append(power / (np.median(power[600:]) + 1e-3))
    return np.fft.rfftfreq(4096), np.maximum(*spectra)


def _power(plane: np.ndarray, below: float, low: float, high: float) -> float:
    """Returns the mean power of frequencies from low to high, over that of an octave from `below` on; of both axes."""
    shares = []
    for axis in (0, 1):
        lines = np.moveaxis(plane, axis, 1)
        lines = (lines - lines.mean(1, keepdims=True)) * np.hanning(lines.shape[1])
        power = np.square(np.abs(np.fft.rfft(lines))).mean(0)
        f = np.fft.rfftfreq(lines.shape[1])
        inside, beyond = (power[(f > a) & (f <= b)] for a, b in ((below, min(2 * below, low)), (low, high)))
        shares.append(beyond.sum() / max(1, beyond.size) / (inside.sum() / max(1, inside.size) + 1e-9))
    return float(max(shares))
