"""How near `isr_jax.estimate_degradation` comes to the truth, on pictures that it was not trained on.

    python experiments/estimate_accuracy.py --data HELD_BACK

Every picture is degraded as in `estimate_training.py`, by one thing at a time beside a blur; printed are the mean
errors as tables in Markdown, with the share of the pictures for which something was told.
"""

import argparse
import io
import math
import sys
import time
from pathlib import Path

import numpy as np
from estimate_training import degrade
from known_blur import full_size_pictures
from PIL import Image

from isr_jax.__main__ import exit_code
from isr_jax.inference.estimate import NEAR, TRAINED_SCALE, Estimate, estimate_degradation
from isr_jax.inference.estimate_enlargement import find_enlargement
from isr_jax.physics.resize import imresize
from isr_jax.pictures.pairs import read_pixels
from isr_jax.startup import prepare_process

WIDTHS = (0.0, 0.6, 1.2, 1.8, 2.4, 3.0, 3.6)
NOISES = (0.0, 2.0, 5.0, 10.0, 25.0)
QUALITIES = (10, 30, 50, 70, 90)
FACTORS = (1.5, 2.0, 3.0, 4.0)
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def main(argv: list[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args(argv)
    prepare_process()
    pictures = [read_pixels(path, channels=3, convert=True) for path in full_size_pictures(arguments.data)]
    pictures = [x[: x.shape[0] // 32 * 32, : x.shape[1] // 32 * 32] for x in pictures]
    rng = np.random.default_rng(0)
    claimed: list[tuple[float, bool]] = []

    def estimates(major: float, minor: float, noise: float, quality: int) -> list[tuple[Estimate, float]]:
        found = []
        for hr in pictures:
            angle = rng.uniform(0, math.pi)
            lr = degrade(hr, (major, minor, angle, noise, quality), rng, int(rng.choice([0, 2])))
            found.append((estimate_degradation(lr), angle))
        width = math.sqrt((major**2 + minor**2) / 2)
        for e, _ in found:
            if e.blur_std is not None:
                claimed.append((e.confidence, abs(e.blur_std - width) <= NEAR * TRAINED_SCALE))
        return found

    def error_of_width(found: list[tuple[Estimate, float]], width: float) -> str:
        errors = [e.blur_std - width for e, _ in found if e.blur_std is not None]
        return f"{np.mean(np.abs(errors)):.2f} ({np.mean(errors):+.2f}) {100 * len(errors) / len(found):.0f} %"

    print("Width, HR pixels at x4: mean error (bias), share told; by the noise (rows) or the JPEG quality\n")
    print(f"| | {' | '.join(map(str, WIDTHS))} |")
    print("| --- " * (1 + len(WIDTHS)) + "|")
    for noise in NOISES:
        cells = [error_of_width(estimates(w, w, noise, 0), w) for w in WIDTHS]
        print(f"| noise {noise:g} | {' | '.join(cells)} |", flush=True)
    for quality in QUALITIES:
        cells = [error_of_width(estimates(w, w, 0.0, quality), w) for w in WIDTHS]
        print(f"| JPEG {quality} | {' | '.join(cells)} |", flush=True)

    print("\nAnisotropic, 2.8 x 1.0 HR pixels: error of the two widths, of the angle in degrees, share told so\n")
    found = estimates(2.8, 1.0, 0.0, 0)
    told = [(e.blur, a) for e, a in found if e.blur is not None and e.blur[0] != e.blur[1]]
    turns = [abs((b[2] - math.degrees(a) + 90) % 180 - 90) for b, a in told]
    widths = [np.mean([abs(b[k] - w) for b, _ in told]) for k, w in ((0, 2.8), (1, 1.0))]
    print(f"{widths[0]:.2f} and {widths[1]:.2f}, {np.mean(turns):.0f} degrees, {len(told)} of {len(found)}")

    print("\n| noise | told, mean | mean error |\n| --- | --- | --- |")
    for noise in NOISES:
        levels = [e.noise_std for w in (0.0, 1.2, 2.4) for e, _ in estimates(w, w, noise, 0) if e.noise_std is not None]
        print(f"| {noise:g} | {np.mean(levels):.2f} | {np.mean(np.abs(np.array(levels) - noise)):.2f} |", flush=True)

    print("\n| JPEG in the pixels, cropped | found | quality within 1 | grid | chroma told | of it right |")
    print("| --- " * 6 + "|")
    for quality in QUALITIES:
        jpegs = []
        for hr in pictures:
            sampling, (top, left) = int(rng.choice([0, 1, 2])), rng.integers(0, 16, 2)
            stream = io.BytesIO()
            Image.fromarray(imresize(hr, 0.5)).save(stream, "JPEG", quality=quality, subsampling=sampling)
            jpeg = estimate_degradation(np.asarray(Image.open(stream))[top:, left:]).jpeg
            jpegs.append((jpeg, ((1, 1), (1, 2), (2, 2))[sampling], (-int(top) % 8, -int(left) % 8)))
        known = [(j, s, p) for j, s, p in jpegs if j]
        told = [(j, s) for j, s, _ in known if j.sampling]
        counts = [
            len(known),
            sum(abs(j.quality - quality) <= 1 for j, _, _ in known),
            sum(j.shift == p for j, _, p in known),
            len(told),
            sum(j.sampling == s for j, s in told),
        ]
        print(f"| {quality} | {' | '.join(f'{n} of {len(pictures)}' for n in counts)} |", flush=True)
    clean = [estimate_degradation(imresize(hr, 0.5)) for hr in pictures]
    print(f"\nOf {len(clean)} clean pictures {sum(e.jpeg is not None for e in clean)} were taken for JPEG,")
    print(f"{sum(e.enlarged is not None for e in clean)} for enlarged.")

    print(f"\n| enlarged, right within 5 % | {' | '.join(f'{f:g}' for f in FACTORS)} |")
    print("| --- " * (1 + len(FACTORS)) + "|")
    for name, how in FILTERS.items():
        cells = []
        for factor in FACTORS:
            right = 0
            for hr in pictures:
                small = Image.fromarray(imresize(hr, 0.5))
                large = small.resize((round(small.width * factor), round(small.height * factor)), how)
                told_factor = find_enlargement(np.asarray(large))
                right += told_factor is not None and abs(told_factor / factor - 1) < 0.05
            cells.append(f"{right} of {len(pictures)}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)

    print("\n| confidence | right within half an HR pixel at x4 | pictures |\n| --- | --- | --- |")
    for low in (0.2, 0.4, 0.6, 0.8):
        right = [r for c, r in claimed if low <= c < low + 0.2]
        if right:
            print(f"| {low:g} to {low + 0.2:g} | {100 * np.mean(right):.0f} % | {len(right)} |")
    large = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3)).astype(np.uint8)
    start = time.perf_counter()
    estimate_degradation(large)
    print(f"\n12 megapixels: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    sys.exit(exit_code(main))
