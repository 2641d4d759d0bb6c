"""What is faithful and what is invented: results reduced again, beside the picture they were made of.

    isr-jax convert srrescgan_x4.pth srrescgan.safetensors
    python experiments/faithful.py --model srrescgan.safetensors isr-any --plot docs/images/isr-any-faithful.png

A photograph inside matplotlib (Grace Hopper, public domain) is reduced by 4 (MATLAB's bicubic reduction, 8 bits) and
enlarged by each model. Above, a detail; below, what the same detail of the result lacks or has too much, reduced by the
same physics: H x - y, grey where it agrees. A result that contradicts what was observed is invented there, however
sharp it looks. Prints the PSNR of RGB, and LR-PSNR: of H x against y.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from closed_form_border import photograph
from matplotlib.figure import Figure

from isr_jax.__main__ import exit_code
from isr_jax.config import ConfigError
from isr_jax.files import replace_file
from isr_jax.inference.upscaler import load
from isr_jax.physics.names import make_physics
from isr_jax.pictures.metrics import psnr, round_to_8_bits
from isr_jax.startup import prepare_process

SCALE, CONTRAST = 4, 16
ROWS, COLUMNS = slice(24, 48), slice(40, 72)
"""The detail, in LR pixels: the face."""


def main(argv: list[str] | None = None) -> None:
    """Runs the models, prints, draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", required=True, help="models for x4")
    parser.add_argument("--plot", type=Path, required=True)
    arguments = parser.parse_args(argv)
    prepare_process()
    hr = photograph()
    physics = make_physics("bicubic", scale=SCALE)
    reduced = np.asarray(physics.apply(jnp.asarray(hr[None], jnp.float32)))[0]
    lr = round_to_8_bits(reduced)
    detail = slice(ROWS.start * SCALE, ROWS.stop * SCALE), slice(COLUMNS.start * SCALE, COLUMNS.stop * SCALE)
    figure = Figure(figsize=(4 * (1 + len(arguments.model)), 6.4), layout="constrained")
    axes: Any = figure.subplots(2, 1 + len(arguments.model))
    shown = [("the photograph", hr, reduced - lr)]
    for name in arguments.model:
        model = load(name)
        if SCALE not in model.scales:
            raise ConfigError(f"{name} is not for x{SCALE}")
        known = {"noise_std": 0} if model.config.physics == "blur" else {}
        sr = model.upscale(lr, scale=SCALE, **known)
        again = np.asarray(physics.apply(jnp.asarray(sr[None], jnp.float32)))[0]
        label = f"{Path(name).stem}: {psnr(sr, hr):.2f} dB, LR-PSNR {psnr(round_to_8_bits(again), lr):.1f} dB"
        print(label)
        shown.append((label, sr, again - lr))
    for (label, picture, difference), column in zip(shown, axes.T, strict=True):
        column[0].imshow(picture[detail])
        column[0].set_title(label, fontsize=10)
        column[1].imshow(round_to_8_bits(128 + CONTRAST * difference[ROWS, COLUMNS]))
        column[1].set_title(f"H x - y, {CONTRAST} times", fontsize=9)
        for axis in column:
            axis.set_axis_off()
    replace_file(arguments.plot, lambda path: figure.savefig(path, format="png", dpi=90))


if __name__ == "__main__":
    sys.exit(exit_code(main))
