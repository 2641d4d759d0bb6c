"""The whole way, from photographs to a super-resolved picture, in a few minutes on two cores: `make demo`.

Takes the photographs that come inside scikit-image, scikit-learn and matplotlib, trains configs/demo.py on some of
them, evaluates the model against bicubic on the others, super-resolves one, and writes a side-by-side picture; then
does the same with a shipped model and a photograph that this one has not seen.
Every step is the command a user would type; it is printed before it runs. A second run resumes where the first ended.

    python experiments/demo.py [--workdir runs/demo]
"""

import argparse
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from isr_jax.physics.resize import imresize

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "configs/demo.py"
SCALE = 3

# Photographs by the package they come in: public domain or CC0, but china.jpg and flower.jpg (CC BY 2.0, by the Flickr
# users danielbuechele and vultilion).
TRAIN = {
    "skimage": "data/motorcycle_left.png data/motorcycle_right.png data/camera.png data/brick.png"
    " data/hubble_deep_field.jpg",
    "sklearn": "datasets/images/china.jpg datasets/images/flower.jpg",
    "matplotlib": "mpl-data/sample_data/grace_hopper.jpg",
}
VALIDATION = {"skimage": "data/rocket.jpg"}
TEST = {"skimage": "data/astronaut.png data/chelsea.png data/coffee.png"}

SHOWN = "astronaut"
DETAILS = ((147, 12), (123, 285))
"""Left and top of the details that are shown, HR pixels."""

SHIPPED, SHIPPED_SCALE = "isr-lite-x4", 4
SHIPPED_TEST = {"matplotlib": "mpl-data/sample_data/grace_hopper.jpg"}
SHIPPED_DETAILS = ((170, 110), (0, 40))
DETAIL_SIZE = 162
ZOOM = 2


def main() -> int:
    """Runs the demo."""
    parser = argparse.ArgumentParser(description="Train, evaluate and super-resolve on photographs of Python packages.")
    parser.add_argument("--workdir", default="runs/demo", help="folder of everything this writes (runs/demo)")
    workdir = Path(parser.parse_args().workdir)
    photos, run_folder, results = workdir / "photos", workdir / "small_x3", workdir / "results"
    start = time.perf_counter()

    # ---------------------------------------------------------------------------------------------------- photographs
    sources = {"train": TRAIN, "validation/HR": VALIDATION, "test/HR": TEST, "shipped/HR": SHIPPED_TEST}
    for name, paths in sources.items():
        copied = copy_photos(paths, ROOT / photos / name)
        print(f"{len(copied):3} photographs in {photos / name}: {', '.join(copied)}")
    for folder, scale in ((photos / "test", SCALE), (photos / "shipped", SHIPPED_SCALE)):
        small = ROOT / folder / f"LRx{scale}"
        small.mkdir(exist_ok=True)
        for path in sorted((ROOT / folder / "HR").glob("*.png")):
            Image.fromarray(imresize(np.asarray(Image.open(path)), 1 / scale)).save(small / path.name)

    # ------------------------------------------------------------------------------------------------------- commands
    isr_jax("train", CONFIG, "--workdir", run_folder, "--data.train", photos / "train")
    bicubic, ours = compare(run_folder, photos / "test", SCALE, results / "side_by_side", SHOWN, "isr_jax", DETAILS)
    name = Path(SHIPPED_TEST["matplotlib"]).stem
    compare(SHIPPED, photos / "shipped", SHIPPED_SCALE, results / SHIPPED, name, SHIPPED, SHIPPED_DETAILS)

    # -------------------------------------------------------------------------------------------------------- results
    print(f"\nPhotographs it did not train on, x{SCALE}, PSNR-Y in dB / SSIM-Y:\n")
    print(table(bicubic, ours))
    print(f"\nLook at {results / 'side_by_side.png'}; the shipped {SHIPPED} made {results / SHIPPED}.png")
    print(f"({time.perf_counter() - start:.0f} s in all).")
    return 0


def compare(
    model: str | Path,
    test: Path,
    scale: int,
    picture: Path,
    name: str,
    label: str,
    details: tuple[tuple[int, int], ...],
) -> tuple[dict, dict]:
    """Evaluates a model beside bicubic, super-resolves a photograph and draws it; returns both rows."""
    scores, enlarged = picture.with_suffix(".json"), picture.parent / f"{name}.png"
    (ROOT / picture.parent).mkdir(exist_ok=True)
    isr_jax("evaluate", "--model", "bicubic", model, "--data", test, "--scale", scale, "--json", scores)
    isr_jax("upscale", test / f"LRx{scale}" / enlarged.name, "--output", enlarged, "--model", model)
    rows = json.loads((ROOT / scores).read_text())["rows"]
    psnr = [next(image["psnr_y"] for image in row["images"] if image["name"] == name) for row in rows]
    paths = test / f"LRx{scale}" / enlarged.name, test / "HR" / enlarged.name, enlarged
    lr, hr, sr = (np.asarray(Image.open(ROOT / path)) for path in paths)
    panels = {
        f"Input, {lr.shape[1]}x{lr.shape[0]}": np.kron(lr, np.ones((scale, scale, 1), np.uint8)),
        f"Bicubic, {psnr[0]:.2f} dB": imresize(lr, scale),
        f"{label}, {psnr[1]:.2f} dB": sr,
        f"Truth, {hr.shape[1]}x{hr.shape[0]}": hr,
    }
    side_by_side(panels, details).save(ROOT / picture.with_suffix(".png"))
    return rows[0], rows[1]


def isr_jax(*arguments: object) -> None:
    """Prints and runs one command of the package; ends the demo if it fails, which a training out of time has not."""
    words = [str(argument) for argument in arguments]
    print("\n$ isr-jax", shlex.join(words), flush=True)
    code = subprocess.run([sys.executable, "-m", "isr_jax", *words], cwd=ROOT).returncode
    if code not in (0, os.EX_TEMPFAIL):
        sys.exit(code)


def copy_photos(sources: dict[str, str], folder: Path) -> list[str]:
    """Copies photographs out of installed packages, as PNG, sides cut to multiples of 12; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for package, paths in sources.items():
        root = package_folder(package)
        for path in paths.split():
            photo = Image.open(root / path).convert("RGB")
            photo = photo.crop((0, 0, photo.width // 12 * 12, photo.height // 12 * 12))
            photo.save(folder / f"{Path(path).stem}.png")
            names.append(Path(path).stem)
    return sorted(names)


def package_folder(package: str) -> Path:
    """Returns the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        sys.exit(f"{package} is not installed; run: pip install 'isr_jax[demo]'")
    return Path(spec.origin).parent


def table(bicubic: dict, ours: dict) -> str:
    """Formats two rows of an evaluation: a line for each picture and one for the mean, and what we gain."""
    lines = [f"  {'':12}{'bicubic':>16}{'isr_jax':>16}{'gain':>9}"]
    of_images = zip(bicubic["images"], ours["images"], strict=True)
    for name, a, b in [*((a["name"], a, b) for a, b in of_images), ("mean", bicubic, ours)]:
        cells = "".join(f"{score['psnr_y']:8.2f} / {score['ssim_y']:.3f}" for score in (a, b))
        lines.append(f"  {Path(name).stem:12}{cells}{b['psnr_y'] - a['psnr_y']:+9.2f}")
    return "\n".join(lines)


def side_by_side(panels: dict[str, np.ndarray], details: tuple[tuple[int, int], ...]) -> Image.Image:
    """Draws the same details of several pictures, enlarged, one column a picture and its label above."""
    side, gap, head = DETAIL_SIZE * ZOOM, 6, 30
    canvas = Image.new("RGB", (gap + len(panels) * (side + gap), head + len(details) * (side + gap)), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(18)
    for column, (label, pixels) in enumerate(panels.items()):
        x = gap + column * (side + gap)
        draw.text((x + side / 2, head / 2), label, fill="black", font=font, anchor="mm")
        for row, (left, top) in enumerate(details):
            detail = Image.fromarray(pixels[top : top + DETAIL_SIZE, left : left + DETAIL_SIZE])
            canvas.paste(detail.resize((side, side), Image.Resampling.NEAREST), (x, head + row * (side + gap)))
    return canvas


if __name__ == "__main__":
    sys.exit(main())
