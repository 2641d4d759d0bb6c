"""The network that tells blur and noise of a picture's windows, in NumPy: an estimate must not wait for JAX.

Three convolutions look at the sharpest windows, and a gate chooses the places that count, edges above all; their mean
and spread over all windows and the features of `isr_jax.inference.estimate_features` go through two more layers. There
are weights of photographs alone, and weights that have seen what is drawn, too; `experiments/estimate_training.py`
trains both.
"""

import functools
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view

from isr_jax.inference.estimate_features import features, sharpest


class Belief(NamedTuple):
    """What the network tells; widths in HR pixels of scale 4."""

    width: float
    """Standard deviation of the round Gaussian that is nearest."""
    across: float
    """By how much the larger width exceeds the smaller, times the cosine of twice the angle of the larger."""
    diagonal: float
    """The same times the sine."""
    noise_std: float
    """Of each of three channels whose noise is independent, on 0..255."""
    error: float
    """Expected absolute error of `width`."""


def believe(windows: Float[np.ndarray, "windows side side"], drawn: bool) -> Belief:
    """Returns what is believed of a picture, perhaps drawn, of which these are windows, luma on 0..255."""
    weights = _weights("estimate_drawn" if drawn else "estimate")
    width, across, diagonal, noise, error = map(float, forward(weights, sharpest(windows), features(windows)))
    noise_std = max(0.0, math.exp(noise) - 0.5)
    return Belief(max(0.0, width), across, diagonal, noise_std, math.exp(min(max(error, -3.0), 2.0)))


@functools.cache
def _weights(name: str) -> dict[str, np.ndarray]:
    with np.load(Path(__file__).with_name(f"{name}.npz")) as stored:
        return {name: stored[name].astype(np.float32) for name in stored.files}


def forward(
    w: dict[str, np.ndarray],
    windows: Float[np.ndarray, "windows side side"],
    values: Float[np.ndarray, " features"],
) -> Float[np.ndarray, "5"]:
    """Returns the width, how it differs along two axes, the logarithms of the noise + 1/2 and of the width's error."""
    x = windows - windows.mean((1, 2), keepdims=True)
    x = x / (np.sqrt(np.square(x).mean((1, 2), keepdims=True)) + 2)
    x = x[..., None]
    for name, stride in (("c0", 1), ("c1", 2), ("c2", 1)):
        rows, cols, _, channels = w[name].shape
        patches = sliding_window_view(x, (rows, cols), (1, 2))[:, ::stride, ::stride]
        kernel = np.moveaxis(w[name], 2, 0).reshape(-1, channels)  # a patch's channels come first
        x = np.maximum(patches.reshape(*patches.shape[:3], -1) @ kernel + w[f"{name}_bias"], 0)
    x = x.reshape(-1, x.shape[-1])
    gate = 0.5 + 0.5 * np.tanh(0.5 * (x @ w["gate"] + w["gate_bias"]))  # the logistic function, without overflow
    total = gate.sum(0) + 1e-3
    mean = (gate * x).sum(0) / total
    spread = np.sqrt((gate * np.square(x - mean)).sum(0) / total + 1e-4)
    h = np.concatenate([mean, spread, np.clip((values - w["mean"]) / w["std"], -4, 4)])
    for name in ("w0", "w1"):
        h = np.maximum(h @ w[name] + w[f"{name}_bias"], 0)
    return h @ w["w2"] + w["w2_bias"]
