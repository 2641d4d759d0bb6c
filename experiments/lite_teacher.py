"""Pairs for distillation: LR pictures, and as their HR pictures what a model's self-ensemble makes of them.

    python experiments/lite_teacher.py --model isr-lite-x4 --train FOLDER [FOLDER ...] --output runs/teacher

Trained on those pairs beside the true ones, a model comes to give in one pass what it gave on the average over the
eight flips and rotations. Writes OUTPUT/HR and OUTPUT/LRx<scale>, a folder for `--data.train`; pictures that are there
already are left alone, so an interrupted run is resumed.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from isr_jax.__main__ import exit_code
from isr_jax.inference.upscaler import load
from isr_jax.physics.resize import crop_to_multiple, imresize
from isr_jax.pictures.images import list_images, write_image
from isr_jax.pictures.pairs import read_pixels
from isr_jax.startup import prepare_process


def main(argv: list[str] | None = None) -> None:
    """Writes the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="isr-lite-x4", help="shipped name, model file or run folder")
    parser.add_argument("--train", nargs="+", type=Path, required=True, help="folders of HR pictures")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    paths = [path for folder in arguments.train for path in list_images(folder)]
    prepare_process()
    model = load(arguments.model, ensemble=True)
    for number, path in enumerate(tqdm(paths)):
        name = f"{number:04}_{path.stem}.png"
        hr_path, lr_path = arguments.output / "HR" / name, arguments.output / f"LRx{model.scale}" / name
        if hr_path.exists():
            continue
        lr = imresize(crop_to_multiple(read_pixels(path, channels=3, convert=True), model.scale), 1 / model.scale)
        hr = model.upscale(lr)
        for target, picture in ((lr_path, lr), (hr_path, hr)):  # HR last: it says that the pair is whole
            target.parent.mkdir(parents=True, exist_ok=True)
            write_image(target, picture)


if __name__ == "__main__":
    sys.exit(exit_code(main))
