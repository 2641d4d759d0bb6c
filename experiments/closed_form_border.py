"""What a periodic closed form does at the border of a picture that is not periodic, and what the taper does about it.

    python experiments/closed_form_border.py --plot docs/images/closed-form-border.png

A photograph inside matplotlib (Grace Hopper, public domain) is blurred, halved and made a little noisy; one data step
from its first estimate is solved by Fourier transforms of the picture as it is, of the picture continued to a periodic
one (`closed_form_tapered`), and by conjugate gradients with the true border. Prints and draws the difference from those
in grey levels.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from isr_jax.__main__ import exit_code
from isr_jax.config import UserError
from isr_jax.files import replace_file
from isr_jax.physics.blur import Blur
from isr_jax.physics.fourier import closed_form, closed_form_tapered
from isr_jax.physics.kernels import gaussian_kernel
from isr_jax.physics.sampling import Decimation
from isr_jax.startup import prepare_process

WEIGHT = 1e-2
SHOWN = (slice(0, 110), slice(0, 160))
"""The detail that is drawn: a corner, with most of the ringing."""


def photograph() -> np.ndarray:
    """Returns the upper half of the portrait."""
    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
    if not path.exists():
        raise UserError(f"{path} is not there: install matplotlib with its sample data")
    return np.asarray(Image.open(path))[:300, :400]


def main(argv: list[str] | None = None) -> None:
    """Solves in three ways and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path, required=True)
    arguments = parser.parse_args(argv)
    prepare_process()
    x = jnp.asarray(photograph()[None], jnp.float32)
    physics = Decimation(2) @ Blur(np.asarray(gaussian_kernel(1.6)))
    blur = physics.as_blur()
    assert blur is not None
    y = physics.observe(x, jax.random.key(0), 1.0)
    z = physics.initial_estimate(y)
    results = {
        "conjugate gradients": physics.conjugate_gradients(y, z, WEIGHT, iterations=200),
        "closed form, continued": closed_form_tapered(blur, y, z, WEIGHT),
        "closed form as it is": closed_form(blur, y, z, WEIGHT),
    }
    pictures = {name: np.asarray(result[0]) for name, result in results.items()}
    exact = pictures["conjugate gradients"]
    reach = physics.reach
    assert reach is not None
    width = 2 * reach * physics.scale
    ring = np.ones(exact.shape[:2], bool)
    ring[width:-width, width:-width] = False
    figure = Figure(figsize=(12, 5.6), layout="constrained")
    for column, (name, picture) in zip(figure.subplots(2, 3).T, pictures.items(), strict=True):
        difference = picture - exact
        rms = [float(np.sqrt(np.mean(difference[where] ** 2))) for where in (ring, ~ring)]
        print(f"{name}: {rms[0]:.2f} grey levels RMS within {width} pixels of the border, {rms[1]:.3f} inside")
        column[0].imshow(np.clip(picture[SHOWN] / 255, 0, 1), interpolation="nearest")
        column[1].imshow(difference[SHOWN].mean(axis=2), cmap="gray", vmin=-20, vmax=20, interpolation="nearest")
        column[0].set_title(name)
        column[1].set_title(f"difference, ±20 levels: {rms[0]:.2f} RMS at the border", fontsize=10)
        for axis in column:
            axis.set_axis_off()
    replace_file(arguments.plot, lambda path: figure.savefig(path, format=arguments.plot.suffix[1:], dpi=80))


if __name__ == "__main__":
    sys.exit(exit_code(main))
