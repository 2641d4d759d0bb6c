"""Trains what `isr_jax.estimate_degradation` believes of blur and noise.

    python experiments/estimate_training.py draw --train FOLDER ... --without HELD_BACK --seed 1 --samples 1.npz
    python experiments/estimate_training.py fit --samples 1.npz ... --output isr_jax/inference/estimate.npz

Every photograph, also reduced beforehand, so that sharp ones are among them, is blurred by a Gaussian
(`isr_jax.physics`), reduced by MATLAB's bicubic to a quarter, made noisy and, a third of them, compressed; what is kept
are its features, its sharpest windows and the truth. A photograph of whose source one tile is held back is left out.
With what `drawn_pictures.py` draws among the folders, the output is `isr_jax/inference/estimate_drawn.npz`.
`estimate_accuracy.py` measures how near the result comes.
"""

import argparse
import functools
import io
import math
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image
from tqdm import tqdm

from isr_jax.__main__ import exit_code
from isr_jax.config import UserError
from isr_jax.files import replace_file
from isr_jax.inference.estimate_features import WINDOW, features, sample_windows, sharpest
from isr_jax.physics.blur import Blur
from isr_jax.physics.kernels import gaussian_kernel
from isr_jax.physics.resize import imresize
from isr_jax.physics.sampling import Bicubic
from isr_jax.pictures.images import list_images, read_size
from isr_jax.pictures.metrics import round_to_8_bits
from isr_jax.pictures.pairs import read_pixels
from isr_jax.startup import prepare_process

SCALE = 4
WIDEST = 5.0
"""Standard deviation, HR pixels."""
RADIUS = 15
SIDES = (480, 480, 320, 224)
"""HR pixels of a crop, at most; compiled once each."""
FACTORS = (0.75, 0.6, 0.5)
"""By which three of five pictures are reduced before anything else."""
LARGE = 0.4
"""Share of the crops from pictures larger than the largest crop."""
KEPT, SEEN = 16, 8
"""Windows that are kept of a picture, and those of them, at random, that a step of the training sees."""
CHANNELS, HIDDEN = (16, 24, 32), (64, 32)
"""Features of the convolutions, and of the network behind them."""
BATCH, RATE, DECAY = 48, 2e-3, 1e-3

_observe = jax.jit(lambda hr, kernel: (Bicubic(SCALE) @ Blur(kernel)).apply(hr))


def draw_truth(rng: np.random.Generator, unblurred: float) -> tuple[float, float, float, float, int]:
    """Returns the widths of a blur (HR pixels) and its angle (radians), the noise, and the JPEG quality (0: none)."""
    major = minor = 0.0 if rng.random() < unblurred else rng.uniform(0, WIDEST)
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


def cut(hr: np.ndarray, sides: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Returns a random crop."""
    top, left = (int(rng.integers(0, n - side + 1)) for n, side in zip(hr.shape[:2], sides, strict=True))
    return hr[top : top + sides[0], left : left + sides[1]]


def draw_crop(pictures: tuple[list[Path], list[Path]], rng: np.random.Generator) -> np.ndarray:
    """Returns a crop of one of the large pictures or of one of the others, perhaps reduced before, uint8."""
    large, others = pictures
    paths = (large if rng.random() < LARGE else others) or large or others
    hr = _read(paths[rng.integers(len(paths))])
    factor = 1.0 if rng.random() < 0.4 else float(rng.choice(FACTORS))
    if factor < 1 and min(hr.shape[:2]) * factor >= min(SIDES):
        most = math.ceil(max(SIDES) / factor / 4) * 4
        hr = cut(hr, (min(hr.shape[0], most), min(hr.shape[1], most)), rng)
        hr = round_to_8_bits(imresize(hr.astype(np.float32), factor))
    side = min(int(rng.choice(SIDES)), *(n // 32 * 32 for n in hr.shape[:2]))
    return cut(hr, (side, side), rng)


@functools.cache
def _read(path: Path) -> np.ndarray:
    return read_pixels(path, channels=3, convert=True)


def draw(folders: list[Path], without: Path, count: int, output: Path, seed: int, unblurred: float) -> None:
    """Writes features, windows and truths of three degradations of every crop."""
    rng = np.random.default_rng(seed)
    source = lambda path: path.stem.rpartition("_")[0] or path.stem  # noqa: E731
    held_back = {source(path) for path in list_images(without)}
    paths = [path for folder in folders for path in list_images(folder) if source(path) not in held_back]
    if not paths:
        raise UserError(f"{', '.join(map(str, folders))}: no pictures but those that are held back; name other folders")
    large = {path for path in paths if max(read_size(path)) > max(SIDES)}
    pictures = ([path for path in paths if path in large], [path for path in paths if path not in large])
    found, windows, counts, truths = [], [], [], []
    for _ in tqdm(range(count), unit="picture", disable=None):
        hr = draw_crop(pictures, rng)
        for _ in range(3):
            truth = draw_truth(rng, unblurred)
            if rng.random() < 0.5:
                hr = np.rot90(hr)
            sample = sample_windows(degrade(hr, truth, rng, int(rng.choice([0, 2]))))
            assert sample is not None
            sharp = sharpest(sample.windows)[-KEPT:]
            found.append(features(sample.windows))
            counts.append(len(sharp))
            windows.append(np.concatenate([sharp, np.zeros((KEPT - len(sharp), WINDOW, WINDOW))]).astype(np.float16))
            truths.append(truth)
    arrays = {"features": found, "windows": windows, "counts": counts, "truths": truths}
    replace_file(output, lambda path: np.savez(path, **{k: np.stack(v) for k, v in arrays.items()}))  # pyright: ignore


def start(rng: np.random.Generator, inputs: int) -> dict[str, Any]:
    """Returns random weights, by the names that `isr_jax.inference.estimate_network` knows."""

    def kernel(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[:-1]))).astype(np.float32)

    (c0, c1, c2), (h0, h1) = CHANNELS, HIDDEN
    shapes = [(5, 5, 1, c0), (3, 3, c0, c1), (3, 3, c1, c2), (c2, c2), (2 * c2 + inputs, h0), (h0, h1), (h1, 5)]
    weights = {}
    for name, shape in zip(("c0", "c1", "c2", "gate", "w0", "w1", "w2"), shapes, strict=True):
        weights[name] = kernel(*shape) * (0.1 if name in ("gate", "w2") else 1)
        weights[f"{name}_bias"] = np.zeros(shape[-1], np.float32)
    weights["w2_bias"] = np.array([2.2, 0, 0, 0.5, -0.7], np.float32)  # about the mean of what is to be told
    return weights


def network(w: dict[str, Any], windows: jax.Array, counts: jax.Array, values: jax.Array) -> jax.Array:
    """`isr_jax.inference.estimate_network.forward`, for batches of pictures."""
    x = windows.astype(jnp.float32)
    x = x - x.mean((2, 3), keepdims=True)
    x = x / (jnp.sqrt(jnp.square(x).mean((2, 3), keepdims=True)) + 2)
    x = x.reshape(-1, WINDOW, WINDOW, 1)
    for name, stride in (("c0", 1), ("c1", 2), ("c2", 1)):
        x = jax.lax.conv_general_dilated(
            x, w[name], (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + w[f"{name}_bias"])
    x = x.reshape(*windows.shape[:2], -1, x.shape[-1])
    there = (jnp.arange(x.shape[1]) < counts[:, None])[..., None, None]
    gate = jax.nn.sigmoid(x @ w["gate"] + w["gate_bias"]) * there
    total = gate.sum((1, 2)) + 1e-3
    mean = (gate * x).sum((1, 2)) / total
    spread = jnp.sqrt((gate * jnp.square(x - mean[:, None, None])).sum((1, 2)) / total + 1e-4)
    h = jnp.concatenate([mean, spread, values], axis=1)
    for name in ("w0", "w1"):
        h = jax.nn.relu(h @ w[name] + w[f"{name}_bias"])
    return h @ w["w2"] + w["w2_bias"]


def loss(w: dict[str, Any], windows: Any, counts: Any, values: Any, y: Any) -> jax.Array:
    """The likelihood of the width under a Laplacian whose scale is told too, and the errors of the rest.

    Those of the two differences are squared: most blurs are round, and the median of what one is unsure of would be 0.
    """
    found = network(w, windows, counts, values)
    log_scale = jnp.clip(found[:, 4], -3, 2)
    error = jnp.abs(found[:, :4] - y)
    rest = 0.25 * jnp.square(error[:, 1:3]).sum(1) + 0.5 * error[:, 3]
    return (error[:, 0] * jnp.exp(-log_scale) + log_scale + rest).mean()


def fit(files: list[Path], output: Path, steps: int) -> None:
    """Trains the network and writes it as one file of float16; a tenth of the crops judges it."""
    loaded = []
    for file in files:
        with np.load(file) as stored:
            loaded.append(dict(stored))
    every = {name: np.concatenate([arrays[name] for arrays in loaded]) for name in loaded[0]}
    major, minor, angle, noise, quality = every["truths"].T
    mean, std = every["features"].mean(0), every["features"].std(0) + 1e-3
    values = np.clip((every["features"] - mean) / std, -4, 4).astype(np.float32)
    along = [(major - minor) * np.cos(2 * angle), (major - minor) * np.sin(2 * angle)]
    y = np.stack([np.sqrt((major**2 + minor**2) / 2), *along, np.log(noise + 0.5)], axis=1).astype(np.float32)
    judges = np.arange(len(y)) // 3 % 10 == 0
    seen, unseen = np.flatnonzero(~judges), np.flatnonzero(judges)
    rng = np.random.default_rng(0)
    w = start(rng, values.shape[1])
    schedule = optax.warmup_cosine_decay_schedule(0.0, RATE, steps // 50, steps)
    optimizer = optax.adamw(schedule, weight_decay=DECAY)

    @jax.jit
    def step(w: Any, average: Any, state: Any, *batch: Any) -> tuple[Any, Any, Any]:
        updates, state = optimizer.update(jax.grad(loss)(w, *batch), state, w)
        w = optax.apply_updates(w, updates)
        return w, jax.tree.map(lambda a, b: 0.99 * a + 0.01 * b, average, w), state

    def judge(w: dict[str, Any]) -> str:
        parts = np.array_split(unseen, max(1, len(unseen) // 100))
        run = jax.jit(network)
        found = np.concatenate([run(w, every["windows"][p], every["counts"][p], values[p]) for p in parts])
        error, clean = np.abs(found[:, 0] - y[unseen, 0]), (noise[unseen] < 1) & (quality[unseen] == 0)
        return f"{error.mean():.3f} HR pixels, {error[clean].mean():.3f} without noise and JPEG"

    average, state = w, optimizer.init(w)  # pyright: ignore[reportArgumentType]
    order = np.concatenate([rng.permutation(seen) for _ in range(steps * BATCH // len(seen) + 1)])
    for k in (progress := tqdm(range(steps), unit="step", disable=None)):
        p = order[k * BATCH : (k + 1) * BATCH]
        among = rng.random((len(p), KEPT)) + 100 * (np.arange(KEPT) >= every["counts"][p][:, None])
        chosen = np.take_along_axis(every["windows"][p], among.argsort(1)[:, :SEEN, None, None], 1)
        w, average, state = step(w, average, state, chosen, every["counts"][p].clip(max=SEEN), values[p], y[p])
        if k % 500 == 499:
            progress.write(f"step {k + 1}, mean error of the width, unseen crops: {judge(average)}")
    small = {name: np.asarray(a, np.float16) for name, a in {"mean": mean, "std": std, **average}.items()}
    replace_file(output, lambda path: np.savez_compressed(path, **small))  # pyright: ignore[reportArgumentType]
    print(f"{output}: {output.stat().st_size / 1000:.1f} kB; unseen crops: {judge(average)}")


def main(argv: list[str] | None = None) -> None:
    """Draws or fits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw")
    drawing.add_argument("--train", type=Path, nargs="+", required=True)
    drawing.add_argument("--without", type=Path, required=True, help="folder of held-back pictures")
    drawing.add_argument("--samples", type=Path, required=True)
    drawing.add_argument("--count", type=int, default=4000, help="crops; three degradations each")
    drawing.add_argument("--unblurred", type=float, default=0.08, help="share of the degradations without a blur")
    drawing.add_argument("--seed", type=int, default=0)
    fitting = commands.add_parser("fit")
    fitting.add_argument("--samples", type=Path, nargs="+", required=True)
    fitting.add_argument("--output", type=Path, required=True)
    fitting.add_argument("--steps", type=int, default=6000)
    arguments = parser.parse_args(argv)
    prepare_process()
    if arguments.command == "fit":
        fit(arguments.samples, arguments.output, arguments.steps)
    else:
        draw(
            arguments.train, arguments.without, arguments.count, arguments.samples, arguments.seed, arguments.unblurred
        )


if __name__ == "__main__":
    sys.exit(exit_code(main))
