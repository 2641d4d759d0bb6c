"""Trains what `isr_jax.estimate_degradation` believes of blur and noise, and measures how near it comes.

    python experiments/estimate_training.py draw --train FOLDER ... --without HELD_BACK --samples samples.npz
    python experiments/estimate_training.py fit --samples samples.npz --output isr_jax/inference/estimate.npz

Every photograph is blurred by a Gaussian (`isr_jax.physics`), reduced by MATLAB's bicubic to a quarter, made noisy and,
a third of them, compressed; what is kept are the features and the truth. A photograph of whose source one tile is
held back is left out.
"""

import argparse
import io
import math
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from sklearn.neural_network import MLPRegressor
from tqdm import tqdm

from isr_jax.__main__ import exit_code
from isr_jax.files import replace_file
from isr_jax.inference.estimate_features import features, sample_windows
from isr_jax.physics.blur import Blur
from isr_jax.physics.kernels import gaussian_kernel
from isr_jax.physics.sampling import Bicubic
from isr_jax.pictures.images import list_images
from isr_jax.pictures.metrics import round_to_8_bits
from isr_jax.pictures.pairs import read_pixels
from isr_jax.startup import prepare_process

SCALE = 4
WIDEST = 5.0
"""Standard deviation, HR pixels."""
RADIUS = 15
HIDDEN = (48, 24)
"""Features of the network's hidden layers."""
SIDE = 480
"""HR pixels of a crop, at most."""

_observe = jax.jit(lambda hr, kernel: (Bicubic(SCALE) @ Blur(kernel)).apply(hr))


def draw_truth(rng: np.random.Generator) -> tuple[float, float, float, float, int]:
    """Returns the widths of a blur (HR pixels) and its angle (radians), the noise, and the JPEG quality (0: none)."""
    major = minor = 0.0 if rng.random() < 0.08 else rng.uniform(0, WIDEST)
    if rng.random() < 0.4:
        minor = major * rng.uniform(0.15, 1)
    noise = 0.0 if rng.random() < 0.4 else math.exp(rng.uniform(math.log(0.5), math.log(27)))
    quality = 0 if rng.random() < 0.65 else int(rng.integers(20, 98))
    return major, minor, rng.uniform(0, math.pi), noise, quality


def degrade(
    hr: np.ndarray, truth: tuple[float, float, float, float, int], rng: np.random.Generator, subsampling: int = 0
) -> np.ndarray:
    """Returns the LR picture, uint8."""
    major, minor, angle, noise, quality = truth
    kernel = gaussian_kernel(jnp.array([major, minor]), angle, RADIUS)
    y = np.asarray(_observe(jnp.asarray(hr[None], jnp.float32), kernel))[0]
    lr = round_to_8_bits(y + rng.normal(0, noise, y.shape) if noise else y)
    if quality:
        stream = io.BytesIO()
        Image.fromarray(lr.squeeze()).save(stream, "JPEG", quality=quality, subsampling=subsampling)
        lr = np.asarray(Image.open(stream)).reshape(lr.shape)
    return lr


def crop(hr: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a random crop of one of three sizes: compiled once each."""
    side = int(rng.choice([SIDE, SIDE, 320, 224]))
    side = min(side, *(n // 32 * 32 for n in hr.shape[:2]))
    top, left = (int(rng.integers(0, n - side + 1)) for n in hr.shape[:2])
    return hr[top : top + side, left : left + side]


def draw(folders: list[Path], without: Path, count: int, output: Path, seed: int) -> None:
    """Writes features and truths."""
    rng = np.random.default_rng(seed)
    source = lambda path: path.stem.rpartition("_")[0] or path.stem  # noqa: E731
    held_back = {source(path) for path in list_images(without)}
    paths = [path for folder in folders for path in list_images(folder) if source(path) not in held_back]
    found, truths = [], []
    for i in tqdm(range(count), unit="picture", disable=None):
        hr = crop(read_pixels(paths[i % len(paths)], channels=3, convert=True), rng)
        for _ in range(3):
            truth = draw_truth(rng)
            if rng.random() < 0.5:
                hr = np.rot90(hr)
            sample = sample_windows(degrade(hr, truth, rng, int(rng.choice([0, 2]))))
            assert sample is not None
            found.append(features(sample.windows))
            truths.append(truth)
        if i % 200 == 199 or i == count - 1:
            replace_file(output, lambda path: np.savez(path, features=np.stack(found), truths=np.array(truths)))


def fit(files: list[Path], output: Path) -> None:
    """Fits a network of two hidden layers, and what its error is; writes both as one file of float16."""
    loaded = [np.load(file) for file in files]
    x = np.concatenate([z["features"] for z in loaded])
    major, minor, angle, noise, _ = np.concatenate([z["truths"] for z in loaded]).T
    mean, std = x.mean(0), x.std(0) + 1e-3
    x = np.clip((x - mean) / std, -4, 4)
    difference = major - minor
    y = np.stack(
        [
            np.sqrt((major**2 + minor**2) / 2),
            difference * np.cos(2 * angle),
            difference * np.sin(2 * angle),
            np.log(noise + 0.5),
        ],
        axis=1,
    )
    unit = y.std(0)
    options: dict[str, Any] = {"hidden_layer_sizes": HIDDEN, "alpha": 0.03, "random_state": 0, "early_stopping": True}
    # The error of pictures that it has not seen: each half is judged by a network of the other.
    order = np.random.default_rng(0).permutation(len(x) // 3) // (len(x) // 6 + 1)
    half = np.repeat(order, 3)[: len(x)].clip(0, 1)
    half = np.concatenate([half, np.zeros(len(x) - len(half), int)])
    error = np.zeros(len(x))
    for side in (0, 1):
        judge = MLPRegressor(max_iter=150, **options).fit(x[half != side], (y / unit)[half != side])
        error[half == side] = np.abs(np.asarray(judge.predict(x[half == side]))[:, 0] * unit[0] - y[half == side, 0])
    print(f"mean error of the width, unseen crops: {error.mean():.3f} HR pixels")
    y = np.column_stack([y, np.log(error + 0.05) + 0.25])  # the mean of a logarithm lies below that of the error
    unit = np.append(unit, 1.0)
    network = MLPRegressor(max_iter=300, **options).fit(x, y / unit)
    arrays: dict[str, np.ndarray] = {"mean": mean, "std": std, "unit": unit}
    for k, (weights, biases) in enumerate(zip(network.coefs_, network.intercepts_, strict=True)):
        arrays |= {f"w{k}": weights, f"b{k}": biases}
    small: dict[str, Any] = {name: array.astype(np.float16) for name, array in arrays.items()}
    replace_file(output, lambda path: np.savez_compressed(path, **small))
    print(f"{output}: {output.stat().st_size / 1000:.1f} kB, {network.n_iter_} passes over {len(x)} pictures")


def main(argv: list[str] | None = None) -> None:
    """Draws or fits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw")
    drawing.add_argument("--train", type=Path, nargs="+", required=True)
    drawing.add_argument("--without", type=Path, required=True, help="folder of held-back pictures")
    drawing.add_argument("--samples", type=Path, required=True)
    drawing.add_argument("--count", type=int, default=4000, help="crops; three degradations each")
    drawing.add_argument("--seed", type=int, default=0)
    fitting = commands.add_parser("fit")
    fitting.add_argument("--samples", type=Path, nargs="+", required=True)
    fitting.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    if arguments.command == "fit":
        fit(arguments.samples, arguments.output)
        return
    prepare_process()
    draw(arguments.train, arguments.without, arguments.count, arguments.samples, arguments.seed)


if __name__ == "__main__":
    sys.exit(exit_code(main))
