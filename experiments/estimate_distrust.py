"""How much narrower than believed a blur is best told to a model, and what a wrong width costs.

    python experiments/estimate_distrust.py --data FOLDER ... --every 1 9 --record distrust.jsonl

Pictures that are no benchmark, all or every n-th of each folder, go through the blurs of `unknown_blur.py` at x4 and
are enlarged by a model, told widths around the true one, and by isr-lite; PSNR of Y between the widths is interpolated.
Printed are the means where the estimate is told less so many of its expected errors (isr-lite enlarges what is then
taken for clean), and where multiples of the true width are told. What is scored is kept in the record, by all that it
depends on, and the same command goes on from there; sixty pictures take half an hour of one core.
"""

import argparse
import hashlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from known_blur import Record, full_size_pictures, load_digested
from tqdm import tqdm
from unknown_blur import Case, cases, observed

from isr_jax.__main__ import exit_code
from isr_jax.config import ConfigError
from isr_jax.inference.estimate import CLEAN_BLUR, estimate_degradation
from isr_jax.inference.upscaler import Upscaler
from isr_jax.physics.blur import Blur
from isr_jax.physics.kernels import gaussian_kernel
from isr_jax.physics.sampling import Bicubic
from isr_jax.pictures.metrics import round_to_8_bits, score_picture
from isr_jax.pictures.pairs import read_pixels
from isr_jax.startup import prepare_process

SCALE = 4
NARROWER, WIDER, STEP = 1.2, 0.8, 0.2
"""Widths that are told, about the true one, HR pixels."""
ERRORS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
FACTORS = (0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2)


def told_widths(case: Case) -> list[float]:
    """Returns the widths that a model is told, HR pixels."""
    around = np.arange(max(0.0, case.width - NARROWER), case.width + WIDER + 0.01, STEP)
    return sorted({0.0, *around.round(2).tolist()})


def score(model: Upscaler, lite: Upscaler, hr: np.ndarray, case: Case, lr: np.ndarray) -> list[Any]:
    """Returns the PSNR-Y of a model for each told width, and that of isr-lite."""
    kernels = [gaussian_kernel((width, width), radius=4 * SCALE) for width in told_widths(case)]
    results = [model.upscale_batch(lr[None], physics=Bicubic(SCALE) @ Blur(k), noise_std=0.0)[0] for k in kernels]
    pictures = *map(round_to_8_bits, results), lite.upscale(lr)
    return [score_picture(sr, hr, SCALE, ("psnr_y",))["psnr_y"] for sr in pictures]


def main(argv: list[str] | None = None) -> None:
    """Prints the two tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--every", type=int, nargs="+", help="of each folder every so-manieth picture; all by default")
    parser.add_argument("--model", default="isr-any")
    parser.add_argument("--record", type=Path, required=True)
    arguments = parser.parse_args(argv)
    prepare_process()
    steps = arguments.every or [1] * len(arguments.data)
    if len(steps) != len(arguments.data) or min(steps) < 1:
        raise ConfigError("--every needs a number for each folder, at least 1")
    paths = [p for folder, step in zip(arguments.data, steps, strict=True) for p in full_size_pictures(folder)[::step]]
    record = Record(arguments.record)
    (model, digest), (lite, lite_digest) = map(load_digested, (arguments.model, f"isr-lite-x{SCALE}"))
    columns = cases("blur", SCALE)
    estimated = np.zeros((len(ERRORS), len(columns), len(paths)))
    multiplied = np.zeros((len(FACTORS), len(columns), len(paths)))
    for k, path in enumerate(tqdm(paths, unit="picture", disable=None)):
        hr = read_pixels(path, channels=3, convert=True)
        hr = hr[: hr.shape[0] // SCALE * SCALE, : hr.shape[1] // SCALE * SCALE]
        for j, case in enumerate(columns):
            lr, told = observed(hr, case, SCALE), told_widths(case)
            of = hashlib.sha256(lr.tobytes() + hr.tobytes()).hexdigest(), case.width, digest, lite_digest
            row = record.get(*of)
            if row is None:
                row = score(model.upscaler, lite.upscaler, hr, case, lr)
                record.add(row, f"{arguments.model} {path.stem} {case.width:g}", *of)
            believed = estimate_degradation(lr, scale=SCALE)
            for i, errors in enumerate(ERRORS):
                width = max(0.0, (believed.blur_std or 0.0) - errors * believed.blur_error)
                clean = width < CLEAN_BLUR * SCALE and replace(believed, blur=None).clean
                estimated[i, j, k] = row[-1] if clean else np.interp(width, told, row[:-1])
            multiplied[:, j, k] = [np.interp(f * case.width, told, row[:-1]) for f in FACTORS]
    heads = " | ".join(f"width {case.width:g}" for case in columns)
    for name, values, table in (("less errors", ERRORS, estimated), ("true width times", FACTORS, multiplied)):
        print(f"| {name} | {heads} | mean |\n{'| --- ' * (2 + len(columns))}|")
        for value, row in zip(values, table.mean(2), strict=True):
            print(f"| {value:g} | {' | '.join(f'{x:.2f}' for x in row)} | {row.mean():.3f} |")
        print()


if __name__ == "__main__":
    sys.exit(exit_code(main))
