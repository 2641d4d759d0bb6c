"""How a model that is told the blur and the noise does where it is told wrong ones.

    python experiments/wrong_physics.py --data FOLDER --model isr-any --plot docs/images/isr-any-wrong-physics.png

The pictures are blurred, decimated and made noisy as in `known_blur.py`, by a Gaussian; the model is told one whose
width, or angle, is another, or another level of the noise. Drawn is the PSNR of RGB against the error, beside bicubic
enlargement (`known_blur.py`), which is told nothing. Prints the same figures as tables in Markdown.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import known_blur as judge
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from isr_jax.__main__ import exit_code
from isr_jax.config import ConfigError
from isr_jax.files import replace_file
from isr_jax.physics.blur import Blur
from isr_jax.physics.kernels import gaussian_kernel
from isr_jax.physics.resize import crop_to_multiple
from isr_jax.physics.sampling import Decimation
from isr_jax.pictures.pairs import read_pixels
from isr_jax.startup import prepare_process

WIDTHS = (-0.5, -0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
ANGLES = (0, 5, 10, 20, 30, 45)
LEVELS = (0.0, 0.5, 0.8, 1.0, 1.2, 1.5, 2.0)


class Told(NamedTuple):
    """A camera: the width of its blur along two axes in HR pixels, their angle in degrees, the level of its noise."""

    stds: tuple[float, float]
    angle: float = 0.0
    noise_std: float = 0.0

    @property
    def kernel(self) -> np.ndarray:
        """The blur, (25, 25)."""
        return np.asarray(gaussian_kernel(self.stds, math.radians(self.angle), radius=12), np.float64)


class Curve(NamedTuple):
    """One error: what is true, and what is told instead, by how large the error is."""

    name: str
    true: Told
    told: dict[str, Told]


def curves() -> list[Curve]:
    """Returns the errors that are tried."""
    found = []
    for stds in ((1.2, 1.2), (2.4, 2.4)):
        wrong = {f"{100 * e:+.0f} %": Told((stds[0] * (1 + e), stds[1] * (1 + e))) for e in WIDTHS}
        found.append(Curve(f"width {stds[0]} px", Told(stds), wrong))
    for stds in ((1.6, 0.8), (3.2, 1.0)):
        turned = {f"{e} degrees": Told(stds, 30.0 + e) for e in ANGLES}
        found.append(Curve(f"angle of {stds[0]} x {stds[1]} px", Told(stds, 30.0), turned))
    for level in (2.55, 7.65):
        louder = {f"x {e:g}": Told((1.6, 1.6), 0.0, level * e) for e in LEVELS}
        found.append(Curve(f"noise {level:g}", Told((1.6, 1.6), 0.0, level), louder))
    return found


def run(paths: list[Path], model: str, scale: int) -> list[tuple[Curve, list[float], float]]:
    """Returns of each curve the mean PSNR, dB, for each error, and that of bicubic enlargement."""
    results = []
    for curve in tqdm(curves(), unit="curve", disable=None):
        setting = judge.Setting(f"x{scale}/{curve.true.noise_std:g}", scale, curve.true.noise_std)
        made, bicubic = judge.make_method(model, setting), judge.make_method("bicubic", setting)
        if made is None:
            raise ConfigError(f"--scale is {scale}; {model} is not for it")
        assert bicubic is not None
        told = list(curve.told.values())
        physics = Decimation(scale) @ Blur(np.stack([t.kernel for t in told]), "periodic")
        true = Decimation(scale) @ Blur(curve.true.kernel, "periodic")
        scores, plain = [], []
        for path in paths:
            hr = crop_to_multiple(read_pixels(path, channels=3), scale)
            lr = judge.observed(judge.blurred(hr, curve.true.kernel), setting).astype(np.float32)
            sr = made[0](np.stack([lr] * len(told)), physics, np.asarray([t.noise_std for t in told], np.float32))
            scores.append([judge.score(x, hr, scale) for x in np.asarray(sr)])
            plain.append(judge.score(np.asarray(bicubic[0](lr[None], true, 0.0))[0], hr, scale))
        results.append((curve, [float(x) for x in np.mean(scores, axis=0)], float(np.mean(plain))))
    return results


def draw(results: list[tuple[Curve, list[float], float]], path: Path, title: str) -> None:
    """Draws one panel for each kind of error."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    figure.suptitle(title)
    axes: Any = figure.subplots(1, 3)
    for axis, label, first in zip(axes, ("width told", "angle told", "noise told"), (0, 2, 4), strict=True):
        for curve, scores, plain in results[first : first + 2]:
            (line,) = axis.plot(list(curve.told), scores, "o-", label=curve.name)
            axis.axhline(plain, color=line.get_color(), linestyle=":", label=f"bicubic, {curve.name}")
        axis.set_xlabel(f"error of the {label}")
        axis.grid(alpha=0.3)
        axis.tick_params("x", rotation=45)
        axis.legend(fontsize=7)
    axes[0].set_ylabel("PSNR, dB")
    replace_file(path, lambda beside: figure.savefig(beside, format="png", dpi=110))


def main(argv: list[str] | None = None) -> None:
    """Scores every error, prints the tables, draws the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures of one size, or one with HR/")
    parser.add_argument("--model", required=True)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--every", type=int, default=1, help="take every so many-th picture")
    parser.add_argument("--plot", type=Path, required=True)
    arguments = parser.parse_args(argv)
    prepare_process()
    paths = judge.full_size_pictures(arguments.data)[:: max(1, arguments.every)]
    results = run(paths, arguments.model, arguments.scale)
    for curve, scores, plain in results:
        print(f"\n| {curve.name}, told | {' | '.join(curve.told)} | bicubic |")
        print("| --- " * (2 + len(curve.told)) + "|")
        print(f"| PSNR, dB | {' | '.join(f'{score:.2f}' for score in scores)} | {plain:.2f} |")
    draw(results, arguments.plot, f"{arguments.model}, x{arguments.scale}: told a wrong blur or noise")


if __name__ == "__main__":
    sys.exit(exit_code(main))
