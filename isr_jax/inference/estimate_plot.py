"""An estimate as a plot: what of the picture it rests on, and the blur that is believed."""

import os
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from isr_jax.files import replace_file
from isr_jax.inference.estimate import Estimate
from isr_jax.inference.estimate_features import WINDOW, sample_windows, spectrum
from isr_jax.pictures.images import read_image


def draw_estimate(source: str | os.PathLike | bytes, estimate: Estimate, path: Path) -> None:
    """Draws the spectrum of a picture, the histogram of its gradients, and the estimate.

    Args:
      source: The picture's path, or its bytes.
      estimate: What `estimate_degradation` said of it.
      path: Where the PNG goes; written beside and renamed.
    Raises:
      UserError: If the picture cannot be read.
    """
    sample = sample_windows(read_image(source).pixels)
    figure = Figure(figsize=(12, 4), layout="constrained")
    figure.suptitle(str(estimate))
    frequencies, gradients, believed = figure.subplots(1, 3)
    if sample is not None:
        power = spectrum(sample.windows) + 1e-6
        half = WINDOW // 2
        f = np.fft.rfftfreq(WINDOW)
        frequencies.semilogy(f[1:], power[0, 1:], label="across")
        frequencies.semilogy(f[1:], power[1 : half + 1, 0], label="along the height")
        frequencies.legend(fontsize="small")
        values = sample.windows
        counts, edges = np.histogram(np.abs(np.diff(values, axis=2)).ravel(), bins=64, range=(0, 128), density=True)
        gradients.stairs(np.log10(counts + 1e-7), edges)
    frequencies.set(xlabel="cycles per pixel", ylabel="power", title="spectrum")
    gradients.set(xlabel="|difference| of neighbours, grey levels", ylabel="log10 density", title="gradients")
    believed.set(title=f"blur, pixels at x{estimate.scale:g}", aspect="equal")
    if estimate.blur is None:
        believed.text(0.5, 0.5, "cannot tell", ha="center", va="center", transform=believed.transAxes)
        believed.set(xticks=[], yticks=[])
    else:
        major, minor, angle = estimate.blur
        reach = max(1.0, 3 * major)
        for times in (1, 2):
            shape = Ellipse((0, 0), 2 * times * major, 2 * times * minor, angle=angle, fill=False)
            believed.add_patch(shape)
        believed.set(xlim=(-reach, reach), ylim=(reach, -reach))  # rows grow downwards, as in the picture
    replace_file(path, lambda beside: figure.savefig(beside, format="png", dpi=110))
