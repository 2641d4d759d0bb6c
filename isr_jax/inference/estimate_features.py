"""What a picture's pixels tell of its blur and noise: a few dozen numbers, of a sample of small windows.

Everything is relative to the picture's own contrast, so that only the shape of spectra and histograms counts; the
noise alone is in grey levels. NumPy only, a few tens of milliseconds whatever the picture's size.
"""

import itertools
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt

WINDOW = 32
"""Side of the windows, pixels."""
MAX_WINDOWS = 192
"""Windows that are looked at; the sharpest quarter or more of them tell of the blur."""
BANDS = 12
"""Rings of the spectrum, up to the corner of the frequency square."""
DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))
"""Steps (rows, columns) to the right, to the right below, below, and to the left below."""
QUANTILES = (0.5, 0.75, 0.9, 0.97, 0.995)


class Sample(NamedTuple):
    """Windows of a picture."""

    windows: Float[np.ndarray, "windows side side"]
    """Luma on 0..255."""
    equal: float
    """Share of neighbours that are exactly equal, of those neither black nor white: near 0 in photographs."""
    textured: int
    """Windows whose contrast is above that of noise and rounding."""


def luma(pixels: UInt[np.ndarray, "height width channels"]) -> Float[np.ndarray, "height width"]:
    """Returns the full-range luma of BT.601 on 0..255, float32."""
    values = pixels.astype(np.float32)
    if pixels.dtype == np.uint16:
        values /= 257
    return values[..., 0] if pixels.shape[2] == 1 else values @ np.array([0.299, 0.587, 0.114], np.float32)


def sample_windows(pixels: UInt[np.ndarray, "height width channels"]) -> Sample | None:
    """Returns windows spread over a picture; None where it is smaller than one window's half.

    Args:
      pixels: Grey or RGB. Narrow pictures are continued by their mirror image to one window.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < WINDOW // 2:
        return None
    if min(height, width) < WINDOW:
        pads = ((0, max(0, WINDOW - height)), (0, max(0, WINDOW - width)), (0, 0))
        pixels = np.pad(pixels, pads, mode="symmetric")
        height, width = pixels.shape[:2]
    # Half overlapping in small pictures, ever farther apart in large ones.
    step = max(WINDOW // 2, int(np.sqrt(height * width / MAX_WINDOWS)))
    counts = (max(1, round((n - WINDOW) / step) + 1) for n in (height, width))
    rows, cols = (np.linspace(0, n - WINDOW, m).astype(int) for n, m in zip((height, width), counts, strict=True))
    cuts = np.stack([pixels[r : r + WINDOW, c : c + WINDOW] for r in rows for c in cols])
    windows = luma(cuts.reshape(-1, WINDOW, cuts.shape[-1])).reshape(-1, WINDOW, WINDOW)
    inner = (windows[:, :, 1:] > 2) & (windows[:, :, 1:] < 253)
    equal = (windows[:, :, 1:] == windows[:, :, :-1]) & inner
    contrast = np.abs(np.diff(windows, axis=2)).mean((1, 2))
    share = float(equal.sum() / inner.sum()) if inner.mean() > 0.05 else 1.0
    return Sample(windows, share, int((contrast > 1.0).sum()))


def sharpest(windows: Float[np.ndarray, "windows side side"]) -> Float[np.ndarray, "sharp side side"]:
    """Returns the third of the windows that tells most of a blur, the sharpest last."""
    return windows[_by_strength(windows)[-max(1, len(windows) // 3, min(len(windows), 4)) :]]


def _by_strength(windows: np.ndarray) -> np.ndarray:
    return np.argsort(np.mean([np.square(_difference(windows, *step)).mean((1, 2)) for step in DIRECTIONS], axis=0))


def features(windows: Float[np.ndarray, "windows side side"]) -> Float[np.ndarray, " features"]:
    """Returns the features of a sample of windows: logarithms and ratios, float32."""
    sharp, ordered = sharpest(windows), windows[_by_strength(windows)]
    return np.concatenate([_spectrum(sharp), _gradients(sharp), _edges(sharp), _noise(ordered)]).astype(np.float32)


def _difference(x: np.ndarray, dy: int, dx: int, lag: int = 1) -> np.ndarray:
    dy, dx = dy * lag, dx * lag
    height, width = x.shape[1:]
    cut = slice(max(0, -dx), width - max(0, dx))
    return x[:, dy:, max(0, dx) : width + min(0, dx)] - x[:, : height - dy, cut]


def most_noise(windows: Float[np.ndarray, "windows side side"]) -> float:
    """Returns what is left of the flattest eighth of the windows by a filter that takes smooth pictures away.

    The standard deviation of the noise in the luma is at most that: texture adds to it.
    """
    rest = windows
    for dy, dx in ((0, 1), (1, 0), (0, 1), (1, 0)):
        rest = _difference(rest, dy, dx)
    levels = np.sort(np.sqrt(np.square(rest).mean((1, 2))) / 6)
    return float(levels[: max(1, len(levels) // 8)].mean())


def widest(windows: Float[np.ndarray, "windows side side"], *, noise_std: float = 0.0, beyond: float = 0.0) -> float:
    """Returns the width (pixels) of the widest Gaussian behind which neighbours can differ as much as here.

    Args:
      windows: Of the picture.
      noise_std: Of the windows; six times that are no edge.
      beyond: Share of the steps between neighbours that may be larger.
    """
    steps = np.abs(np.concatenate([np.diff(windows, axis=axis).ravel() for axis in (1, 2)]))
    return width_of(float(np.quantile(steps, 1 - beyond)) - 6 * noise_std, windows)


def width_of(step: float, windows: Float[np.ndarray, "windows side side"]) -> float:
    """Returns the width of the Gaussian behind which the whole range of the windows is so steep an edge."""
    return 0.5 / NormalDist().inv_cdf(0.5 + 0.5 * min(max(step / float(np.ptp(windows)), 1e-6), 1 - 1e-6))


def spectrum(windows: Float[np.ndarray, "windows side side"]) -> Float[np.ndarray, "side half"]:
    """Returns the mean power of windows, each of mean 0 and under a Hann window."""
    taper = np.hanning(WINDOW + 2)[1:-1].astype(np.float32)
    flat = windows - windows.mean((1, 2), keepdims=True)
    power = np.square(np.abs(np.fft.rfft2(flat * np.outer(taper, taper))))
    return power.mean(0) / np.square(taper).sum() ** 2


def _spectrum(windows: np.ndarray) -> np.ndarray:
    """Rings of the spectrum, and four sectors of four rings."""
    power = spectrum(windows) + 1e-3
    fy, fx = np.fft.fftfreq(WINDOW)[:, None], np.fft.rfftfreq(WINDOW)[None]
    radius, angle = np.hypot(fy, fx), np.mod(np.arctan2(fy, fx), np.pi)
    edges = np.concatenate([np.linspace(0.04, 0.5, BANDS), [0.71]])
    rings = np.array([np.log(power[(radius >= a) & (radius < b)].mean()) for a, b in itertools.pairwise(edges)])
    sectors = []
    for low, high in ((0.08, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5)):
        ring = (radius >= low) & (radius < high)
        for k in range(4):
            near = np.abs(np.mod(angle - k * np.pi / 4 + np.pi / 2, np.pi) - np.pi / 2) <= np.pi / 8
            sectors.append(np.log(power[ring & near].mean()) - np.log(power[ring].mean()))
    return np.concatenate([rings - rings[1], sectors])


def _gradients(windows: np.ndarray) -> np.ndarray:
    """Quantiles of differences near and far, all directions and each, and the correlations of second differences."""
    near = [np.abs(_difference(windows, dy, dx)) + 0.1 for dy, dx in DIRECTIONS]
    far = [np.abs(_difference(windows, dy, dx, 3)) + 0.1 for dy, dx in DIRECTIONS]
    quantiles = [np.log(np.quantile(g, QUANTILES)) for g in (*near, *far)]
    all_near, all_far = np.mean(quantiles[:4], axis=0), np.mean(quantiles[4:], axis=0)
    ratios = [all_near - all_far, all_far - all_far[2]]
    for k in range(4):
        ratios.append(quantiles[k] - quantiles[4 + k] - ratios[0])
    lags = []
    for dy, dx in DIRECTIONS:
        bend = _difference(_difference(windows, dy, dx), dy, dx)
        energy = np.square(bend).mean() + 1e-2
        for lag in (1, 2, 3):
            change = np.square(_difference(bend, dy, dx, lag)).mean()
            lags.append(1 - change / (2 * energy))
    return np.concatenate([*ratios, lags])


def _edges(windows: np.ndarray) -> np.ndarray:
    """How much of the steepest edges' slope is left when the picture is blurred again: quantiles, and each direction's.

    References: Zhuo & Sim 2011, Defocus map estimation from a single image.
    """
    taps = np.array([0.0545, 0.2442, 0.4026, 0.2442, 0.0545], np.float32)  # a Gaussian of standard deviation 1
    again: Any = sum(t * windows[:, k : WINDOW - 4 + k] for k, t in enumerate(taps))
    again = sum(t * again[:, :, k : WINDOW - 4 + k] for k, t in enumerate(taps))
    left, steep = [], []
    for dy, dx in DIRECTIONS:
        slope = np.abs(_difference(windows[:, 2:-2, 2:-2], dy, dx))
        edges = slope >= np.maximum(np.quantile(slope, 0.96, axis=(1, 2), keepdims=True), 2)
        if not edges.any():
            edges = slope >= slope.max()
        ratio = (np.abs(_difference(again, dy, dx)) + 0.05)[edges] / (slope[edges] + 0.05)
        left.append(np.quantile(ratio, (0.1, 0.25, 0.5, 0.75, 0.9)))
        steep.append(np.mean(ratio))
    return np.concatenate([np.mean(left, axis=0), np.array(left)[:, 2] - np.mean(left, axis=0)[2], steep])


def _noise(windows: np.ndarray) -> np.ndarray:
    """The levels left by filters that take smooth pictures away: of the first windows, the flattest, and of all."""
    checker = _difference(_difference(windows, 0, 1), 1, 0)  # the mixed difference: white noise doubles
    finer = _difference(_difference(checker, 0, 1), 1, 0)
    few = max(1, len(windows) // 8)
    levels = []
    for rest, gain in ((checker, 2.0), (finer, 6.0)):
        mad = np.median(np.abs(rest), axis=(1, 2)) / (0.6745 * gain)
        root = np.sqrt(np.square(rest).mean((1, 2))) / gain
        levels += [mad[:few].mean(), np.median(mad), root[:few].mean(), np.median(root)]
    blocks = np.square(finer[:, :-1, :-1][:, :28, :28].reshape(-1, 7, 4, 7, 4) / 6).mean((2, 4)).ravel()
    levels += list(np.sqrt(np.quantile(blocks, (0.02, 0.1, 0.3, 0.6))))
    return np.log(np.array(levels) + 0.1)
