"""Super-resolution where the blur is known: USRNet's benchmark, exactly as its authors run it.

    python experiments/known_blur.py --data BSD68 --kernels usrnet_12.npz --model bicubic closed-form isr-lite-x2 \
        isr-lite-x3 isr-lite-x4 --json known_blur.json

Every picture is blurred by each of the kernels (`scipy.ndimage.convolve` of the 8-bit pixels, periodic, which cuts off
what is behind the point), every scale-th pixel is kept, and noise is added, the same for every picture (seed 0). Scored
is the PSNR of RGB, rounded to 8 bits, without scale x scale pixels on each border.

Models are told the blur, as the physics of the pictures, and the level of the noise where they make use of one; a
model runs in the settings of its scale. "bicubic" is the Catmull-Rom enlargement whose pixels lie where this decimation
took them, the first of each block: `initial_estimate` of the physics, not imresize. "closed-form" is the minimum of
||H x - y||^2 + weight ||gradient of x||^2: no network at all. With --json each picture's scores are kept beside that
file as they come, and the same command goes on from there.

References: Zhang, Van Gool & Timofte 2020, Deep unfolding network for image super-resolution (USRNet), table 2.
"""

import argparse
import functools
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage
from tqdm import tqdm

from isr_jax.__main__ import exit_code
from isr_jax.config import ConfigError, UserError
from isr_jax.files import replace_file
from isr_jax.inference.upscaler import Upscaler
from isr_jax.models.model_file import load_model
from isr_jax.physics.blur import Blur
from isr_jax.physics.fourier import closed_form
from isr_jax.physics.kernels import gaussian_kernel, motion_kernel
from isr_jax.physics.physics import Physics
from isr_jax.physics.resize import crop_to_multiple
from isr_jax.physics.sampling import Decimation
from isr_jax.pictures.metrics import crop_border, psnr, round_to_8_bits
from isr_jax.pictures.pairs import list_pairs, read_pixels
from isr_jax.startup import prepare_process

WEIGHTS = {"x2/0": 1e-4, "x3/0": 1e-4, "x3/2.55": 1e-2, "x3/7.65": 1e-1, "x4/0": 3e-4}
"""The settings, scale/level of the noise on 0..255, and the weight of "closed-form" in each."""

PUBLISHED = {
    "IRCNN (published)": {
        "x2/0": (29.60, 30.16, 29.50, 28.37, 28.07, 27.95, 28.21, 27.19, 28.58, 26.79, 29.02, 28.96),
        "x3/0": (25.97, 26.89, 27.07, 27.01, 26.83, 26.76, 26.88, 26.67, 26.22, 25.59, 26.14, 26.05),
        "x3/2.55": (25.70, 26.13, 25.72, 25.33, 25.28, 25.18, 25.34, 24.97, 25.00, 24.64, 24.90, 24.73),
        "x3/7.65": (24.58, 24.68, 24.59, 24.39, 24.24, 24.20, 24.27, 24.02, 23.94, 23.77, 23.75, 23.69),
        "x4/0": (23.99, 25.01, 25.32, 25.45, 25.36, 25.26, 25.34, 25.47, 24.69, 24.39, 24.44, 24.57),
    },
    "USRNet (published)": {
        "x2/0": (30.55, 30.96, 30.56, 29.49, 29.13, 29.12, 29.28, 28.28, 30.90, 30.65, 30.60, 30.75),
        "x3/0": (27.16, 27.76, 27.90, 27.88, 27.71, 27.68, 27.74, 27.57, 27.69, 27.50, 27.50, 27.41),
        "x3/2.55": (26.99, 27.40, 27.23, 26.78, 26.55, 26.60, 26.72, 26.14, 26.90, 26.80, 26.69, 26.49),
        "x3/7.65": (26.45, 26.52, 26.10, 25.57, 25.46, 25.40, 25.49, 25.00, 25.39, 25.47, 25.20, 25.01),
        "x4/0": (25.30, 25.96, 26.18, 26.29, 26.20, 26.15, 26.17, 26.30, 25.91, 25.57, 25.76, 25.70),
    },
}
"""Both from table 2 of the USRNet paper, all 68 pictures, by kernel."""

Pictures = Any
"""(N, h, w, C), float32, 0..255."""
Method = Callable[[Pictures, Physics, Any], Any]
"""Makes HR pictures of the LR pictures, their physics and the level of the noise, one or one each."""


class Setting(NamedTuple):
    """What is done to the pictures beside the blur."""

    name: str
    scale: int
    noise_std: float

    @classmethod
    def of(cls, name: str) -> "Setting":
        """Reads "x3/2.55"."""
        scale, noise_std = name[1:].split("/")
        return cls(name, int(scale), float(noise_std))


def blurred(hr: UInt8[np.ndarray, "height width channels"], kernel: Float[np.ndarray, "rows cols"]) -> np.ndarray:
    """Returns the blurred picture; uint8, as the benchmark has it."""
    return ndimage.convolve(hr, kernel[..., None], mode="wrap")


def observed(blurred: UInt8[np.ndarray, "height width channels"], setting: Setting) -> np.ndarray:
    """Returns the LR picture on 0..255, noisy and not rounded."""
    y = blurred[:: setting.scale, :: setting.scale] / 255
    # NumPy's legacy generator, with the seed 0 for each picture.
    return (y + np.random.RandomState(0).normal(0, setting.noise_std / 255, y.shape)) * 255


def score(sr: Float[np.ndarray, "..."], hr: UInt8[np.ndarray, "height width channels"], scale: int) -> float:
    """Returns the PSNR in dB."""
    border = scale**2
    return psnr(crop_border(round_to_8_bits(sr), border), crop_border(hr, border))


# ---------------------------------------------------------------------------------------------------------------------
# Methods
# ---------------------------------------------------------------------------------------------------------------------


@jax.jit
def bicubic(lr: Pictures, physics: Physics) -> Any:
    """Catmull-Rom through the pixels that were kept."""
    return physics.initial_estimate(lr)


@jax.jit
def smoothest(lr: Pictures, physics: Physics, weight: float) -> Any:
    """The closed form without a network."""
    blur = physics.as_blur()
    assert blur is not None
    return closed_form(blur, lr, None, weight, smooth=True)


def make_method(name: str, setting: Setting) -> tuple[Method, str] | None:
    """Returns a method and what its results depend on beside the pictures; None if it is not for the scale."""
    if name == "bicubic":
        return lambda lr, physics, _: bicubic(lr, physics), ""
    if name == "closed-form":
        weight = WEIGHTS[setting.name]
        return lambda lr, physics, _: smoothest(lr, physics, weight), str(weight)
    model, digest = load_digested(name)
    if setting.scale not in model.scales:
        return None
    tells = model.uses_noise_std

    def run(lr: Pictures, physics: Physics, noise_std: Any) -> Any:
        known: dict[str, Any] = {"noise_std": noise_std} if tells else {}
        return model.upscaler.upscale_batch(lr, physics=physics, value_range=255, **known)

    return run, digest


class Loaded(NamedTuple):
    """A model."""

    scales: tuple[int, ...]
    uses_noise_std: bool
    upscaler: Upscaler


@functools.cache
def load_digested(name: str) -> tuple[Loaded, str]:
    """Returns a model, and what its results depend on: a digest of its weights and configuration."""
    model = load_model(name)
    digest = hashlib.sha256(repr(model.config).encode())
    for leaf in jax.tree.leaves(model):
        digest.update(np.asarray(leaf).tobytes())
    return Loaded(model.config.all_scales, model.uses_noise_std, Upscaler(model, name=name)), digest.hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# Scores, kept as they come
# ---------------------------------------------------------------------------------------------------------------------


class Record:
    """The scores of each picture, by all that they depend on; in a file, if there is one, a line each."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._scores: dict[str, list[float]] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                    self._scores[entry["of"]] = entry["psnr"]
                except (ValueError, KeyError, TypeError):  # torn: the process was killed while it wrote
                    continue

    def get(self, *of: Any) -> list[float] | None:
        """Returns the scores that are known."""
        return self._scores.get(self._key(of))

    def add(self, scores: list[float], name: str, *of: Any) -> None:
        """Keeps scores; `name` is for the reader."""
        key = self._key(of)
        self._scores[key] = scores
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            torn = self._path.exists() and self._path.read_bytes()[-1:] not in (b"", b"\n")
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n" * torn + json.dumps({"name": name, "of": key, "psnr": scores}) + "\n")

    @staticmethod
    def _key(of: tuple[Any, ...]) -> str:
        return hashlib.sha256("\n".join(map(str, of)).encode()).hexdigest()


def development_kernels() -> Float[np.ndarray, "12 25 25"]:
    """Returns twelve others, of the same three kinds, to choose models by: those of the benchmark only judge."""
    widths = [(0.8, 0.8), (1.4, 1.4), (2.2, 2.2), (1.8, 1.8), (4.0, 1.5), (2.5, 1.0), (3.5, 3.0), (3.0, 0.8)]
    angles = [0.0] * 4 + [0.6, 2.2, 1.0, 1.6]
    gaussians = [gaussian_kernel(std, angle, 12) for std, angle in zip(widths, angles, strict=True)]
    motions = [motion_kernel(key, 25, (10.0, 40.0)) for key in jax.random.split(jax.random.key(77), 4)]
    return np.asarray(jnp.stack(gaussians + motions), np.float64)


def read_kernels(path: Path) -> Float[np.ndarray, "count rows cols"]:
    """Returns the array `kernels` of a file, or `development_kernels` for "development".

    Raises:
      UserError: If it is not there.
    """
    if str(path) == "development":
        return development_kernels()
    try:
        kernels = np.load(path)["kernels"]
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f'{path} has no array called "kernels" ({error}): save one by numpy.savez') from error
    if kernels.ndim != 3:
        raise UserError(f"{path} has kernels of shape {kernels.shape}; they must be (count, k, k)")
    return kernels


def run(
    paths: list[Path],
    kernels: Float[np.ndarray, "count rows cols"],
    models: list[str],
    settings: list[Setting],
    record: Record,
) -> list[dict[str, Any]]:
    """Scores every model in every setting of its scale; returns a row each."""
    kinds = [(setting, name, made) for setting in settings for name in models if (made := make_method(name, setting))]
    if idle := [name for name in models if name not in {kind[1] for kind in kinds}]:
        raise ConfigError(f"{idle[0]} is for none of the settings {', '.join(s.name for s in settings)}: add one")
    scores: dict[tuple[str, str], list[list[float]]] = {(s.name, name): [] for s, name, _ in kinds}
    for path in tqdm(paths, unit="picture", file=sys.stderr):
        image = read_pixels(path, channels=3)
        digest = hashlib.sha256(image.tobytes() + repr(image.shape).encode() + kernels.tobytes()).hexdigest()
        blurs = functools.cache(lambda image=image: [blurred(image, kernel) for kernel in kernels])
        for setting, name, (method, depends) in kinds:
            of = digest, setting.name, name in ("bicubic", "closed-form") and name, depends
            found = record.get(*of)
            if found is None:
                hr = crop_to_multiple(image, setting.scale)
                if min(hr.shape[:2]) <= 2 * setting.scale**2:
                    raise UserError(f"{path} is all border at {setting.name}: leave it, or that setting, out")
                whole = hr.shape == image.shape
                lr = [observed(b, setting) for b in (blurs() if whole else [blurred(hr, k) for k in kernels])]
                physics = Decimation(setting.scale) @ Blur(kernels, "periodic")
                sr = method(np.stack(lr).astype(np.float32), physics, setting.noise_std)
                found = [score(x, hr, setting.scale) for x in np.asarray(sr)]
                record.add(found, f"{name} {setting.name} {path.stem}", *of)
            scores[setting.name, name].append(found)
    return [
        {
            "model": name,
            "scale": setting.scale,
            "noise": setting.noise_std,
            "kernels": [float(mean) for mean in np.mean(scores[setting.name, name], axis=0)],
            "mean": float(np.mean(scores[setting.name, name])),
            "pictures": len(paths),
        }
        for setting, name, _ in kinds
    ]


def print_tables(rows: list[dict[str, Any]], settings: list[Setting], count: int, *, published: bool) -> None:
    """Prints the means over the kernels, and then each setting by kernel, beside what is published."""
    tables = PUBLISHED if published else {}
    means = {name: {s: float(np.mean(v)) for s, v in values.items()} for name, values in tables.items()}
    by_kernel: dict[str, dict[str, Any]] = {s.name: {} for s in settings}
    for row in rows:
        setting = f"x{row['scale']}/{row['noise']:g}"
        means = {row["model"]: {}} | means if row["model"] not in means else means
        means[row["model"]][setting] = row["mean"]
        by_kernel[setting][row["model"]] = row["kernels"]
    names = list(dict.fromkeys(row["model"] for row in rows)) + list(tables)
    print(f"| PSNR, mean over {count} kernels | {' | '.join(s.name for s in settings)} |")
    print("| --- " * (1 + len(settings)) + "|")
    for name in names:
        cells = [f"{means[name][s.name]:.2f}" if s.name in means[name] else "-" for s in settings]
        print(f"| {name} | {' | '.join(cells)} |")
    for setting in settings:
        print(f"\n| {setting.name}, kernel | {' | '.join(str(i + 1) for i in range(count))} |")
        print("| --- " * (1 + count) + "|")
        of_published = {name: values[setting.name] for name, values in tables.items()}
        for name, values in (by_kernel[setting.name] | of_published).items():
            print(f"| {name} | {' | '.join(f'{v:.2f}' for v in values)} |")


def full_size_pictures(folder: Path) -> list[Path]:
    """Returns the HR pictures of a folder, which may have them in HR/.

    Raises:
      ConfigError: If there is no such folder.
      UserError: If it has no pictures.
    """
    return [pair.hr for pair in list_pairs(folder, 1, lr_files=False) if isinstance(pair.hr, Path)]


def main(argv: list[str] | None = None) -> None:
    """Runs the benchmark, prints its tables in Markdown, writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures, or one with HR/")
    parser.add_argument(
        "--kernels", type=Path, required=True, help='.npz with `kernels` (count, k, k), or "development"'
    )
    parser.add_argument("--model", nargs="+", required=True, help="bicubic, closed-form, or models")
    parser.add_argument("--settings", nargs="+", default=list(WEIGHTS), choices=list(WEIGHTS), metavar="xSCALE/NOISE")
    parser.add_argument("--every", type=int, default=1, help="take every so many-th picture")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    prepare_process()
    if arguments.every < 1:
        raise ConfigError(f"--every is {arguments.every}; it must be at least 1")
    paths = full_size_pictures(arguments.data)[:: arguments.every]
    kernels = read_kernels(arguments.kernels)
    settings = [Setting.of(name) for name in dict.fromkeys(arguments.settings)]
    beside = arguments.json and arguments.json.with_name(f"{arguments.json.stem}.pictures.jsonl")
    rows = run(paths, kernels, list(dict.fromkeys(arguments.model)), settings, Record(beside))
    print_tables(rows, settings, len(kernels), published=len(kernels) == 12 and str(arguments.kernels) != "development")
    if arguments.json:
        replace_file(arguments.json, lambda path: path.write_text(json.dumps({"rows": rows}, indent=1) + "\n"))


if __name__ == "__main__":
    sys.exit(exit_code(main))
