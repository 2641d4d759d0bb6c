"""A factor between the whole ones: the next larger result reduced, and one data step that makes it agree again.

    python experiments/any_ratio.py --data Set14

HR pictures are reduced by MATLAB's bicubic `imresize` to their size divided by the factor, and enlarged by it; PSNR of
luma in dB, four pixels of the border left out, mean over the pictures.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from known_blur import full_size_pictures

from isr_jax.__main__ import exit_code
from isr_jax.inference.sizes import agree
from isr_jax.inference.upscaler import load
from isr_jax.physics.resize import imresize
from isr_jax.pictures.images import read_image
from isr_jax.pictures.metrics import crop_border, psnr, rgb_to_luma, round_to

BORDER = 4


def score(sr: np.ndarray, hr: np.ndarray) -> float:
    """Returns the PSNR of luma, the result rounded to whole levels."""
    sr, hr = (crop_border(rgb_to_luma(x), BORDER) for x in (round_to(sr, np.dtype(np.uint8)), hr))
    return psnr(sr, hr)


def main(argv: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures, or one that has HR/")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.5, 2.5])
    args = parser.parse_args(argv)
    paths = full_size_pictures(args.data)
    print("| factor | bicubic | reduced | and made to agree |\n| --- | --- | --- | --- |")
    for scale in args.scales:
        model, rows = load(f"isr-lite-x{max(2, int(np.ceil(scale)))}"), []
        for path in paths:
            hr = read_image(path).pixels
            hr = hr.repeat(3, axis=2) if hr.shape[2] == 1 else hr
            size = int(hr.shape[0] // scale), int(hr.shape[1] // scale)
            hr = hr[: round(size[0] * scale), : round(size[1] * scale)]
            lr = imresize(hr, size=size).astype(np.float32)
            reduced = imresize(model.upscale(lr, value_range=255), size=hr.shape[:2])
            rows.append([score(x, hr) for x in (imresize(lr, size=hr.shape[:2]), reduced, agree(reduced, lr))])
        print(f"| {scale:g} | {' | '.join(f'{value:.2f}' for value in np.mean(rows, axis=0))} |", flush=True)


if __name__ == "__main__":
    sys.exit(exit_code(main))
