"""Pictures of unknown history, side by side: bicubic, isr-lite, and what `isr-jax upscale` makes of them by itself.

    python experiments/real_pictures.py photos/*.jpg --scale 4 --output sheet.png

No truth exists: the sheet is to look at. Of each picture its part with most contrast is shown, pixels being HR pixels,
and what it was taken for. Without pictures those of scikit-image are shown, which are free, with what files go through:
saved as JPEG, reduced and enlarged again, out of focus, noisy.
"""

import argparse
import io
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageFilter

from isr_jax.__main__ import exit_code
from isr_jax.files import replace_file
from isr_jax.inference.automatic import default_model
from isr_jax.pictures.images import read_image
from isr_jax.pictures.metrics import round_to_8_bits
from isr_jax.pictures.sixteen_bits import to_8_bits
from isr_jax.startup import prepare_process
from isr_jax.upscale_models import make_enlarger
from isr_jax.upscale_options import UpscaleConfig

SIDE = 180
"""HR pixels of what is shown."""


def own_pictures(folder: Path) -> list[Path]:
    """Writes pictures of scikit-image as they are found in the world; returns the files."""
    from skimage import data  # here: not needed for one's own

    def small(name: str, size: int) -> Image.Image:
        image = Image.fromarray(getattr(data, name)()).convert("RGB")
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
        return image

    def save(image: Image.Image, name: str, **options: Any) -> None:
        image.save(folder / name, **options)

    rng = np.random.default_rng(0)
    save(small("astronaut", 256), "astronaut q40.jpg", quality=40)
    save(small("coffee", 300), "coffee q75.jpg", quality=75)
    save(small("chelsea", 300).filter(ImageFilter.GaussianBlur(0.8)), "cat, soft, q90.jpg", quality=90)
    rocket = np.asarray(small("rocket", 320))
    save(Image.fromarray(round_to_8_bits(rocket + rng.normal(0, 12, rocket.shape))), "rocket, noisy.png")
    stream = io.BytesIO()
    small("astronaut", 200).save(stream, "JPEG", quality=60)
    again = Image.open(stream).resize((300, 300), Image.Resampling.BICUBIC)
    save(again, "astronaut, q60, enlarged, q80.jpg", quality=80)
    save(small("coffee", 240), "coffee, clean.png")
    return sorted(folder.iterdir())


def most_contrast(pixels: np.ndarray, side: int) -> tuple[int, int]:
    """Returns the corner of the part of a side with the most contrast."""
    grey = pixels.astype(np.float32).mean(-1)
    best, found = -1.0, (0, 0)
    for row in range(0, max(1, grey.shape[0] - side + 1), max(1, side // 4)):
        for col in range(0, max(1, grey.shape[1] - side + 1), max(1, side // 4)):
            contrast = np.abs(np.diff(grey[row : row + side, col : col + side], axis=1)).mean()
            if contrast > best:
                best, found = float(contrast), (row, col)
    return found


def main(argv: list[str] | None = None) -> None:
    """Draws the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="*", type=Path)
    parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4))
    parser.add_argument("--most", type=int, default=640, help="pixels of a side that are enlarged of a picture")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    prepare_process()
    scale = arguments.scale
    bicubic, lite, ours = (
        make_enlarger(UpscaleConfig(inputs=(), model=model, scale=scale))
        for model in ("bicubic", default_model(scale), "")
    )
    with tempfile.TemporaryDirectory() as folder:
        rows: list[tuple[str, str, list[np.ndarray]]] = []
        for path in arguments.pictures or own_pictures(Path(folder)):
            picture = read_image(path)
            part = replace(picture, pixels=picture.pixels[: arguments.most, : arguments.most], alpha=None)
            made = [
                enlarger.enlarge(part, str(path), exact=False, reserve=0, progress=None)[0]
                for enlarger in (bicubic, lite, ours)
            ]
            row, col = (n * scale for n in most_contrast(part.pixels, SIDE // scale))
            rows.append((path.name, made[-1].remarks[-1], [p.pixels[row : row + SIDE, col : col + SIDE] for p in made]))
            print(f"{path.name}: {rows[-1][1]}", flush=True)
    lines = -(-len(rows) // 2)
    figure = Figure(figsize=(6 * 1.7, 2.0 * lines), layout="constrained")
    grid = figure.subplots(lines, 6, squeeze=False)
    for axis in grid.flat:
        axis.axis("off")
    for axes, (name, believed, pictures) in zip(grid.reshape(2 * lines, 3), rows, strict=False):
        for axis, pixels, title in zip(axes, pictures, (f"{name}: bicubic", "isr-lite", "upscale"), strict=True):
            shown = to_8_bits(pixels) if pixels.dtype == np.uint16 else pixels
            axis.imshow(shown.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="none")
            axis.set_title(title, fontsize=5)
        label = axes[1].text(0.5, -0.04, believed, fontsize=5, ha="center", va="top", transform=axes[1].transAxes)
        label.set_in_layout(False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    sheet = Image.open(stream).convert("RGB").quantize(256)  # a third of the file
    replace_file(arguments.output, lambda beside: sheet.save(beside, "PNG", optimize=True))


if __name__ == "__main__":
    sys.exit(exit_code(main))
