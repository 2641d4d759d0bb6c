"""Super-resolution where the blur is not known: the protocol of IKC and DASR; and the same with noise and JPEG.

    python experiments/unknown_blur.py --data Set5 --scale 4 --json unknown_blur.json
    python experiments/unknown_blur.py --data Set14 --scale 4 --table noise
    python experiments/unknown_blur.py --data Set14 --scale 4 --table jpeg
    python experiments/unknown_blur.py --data Set14 --scale 1 --table jpeg

Full-size pictures are blurred by an isotropic Gaussian of 21x21 pixels, reduced by MATLAB's bicubic, made noisy and
compressed as the table says, rounded to 8 bits; scored are PSNR and SSIM of Y without `scale` pixels on each border.
"bicubic" and "isr-lite" are told nothing; "known" is the model told the truth, "estimated" told what
`isr_jax.estimate_degradation` believes, or MATLAB's bicubic alone where that is not sure, and "upscale" what
`isr-jax upscale` does by itself: isr-lite where the picture is taken for a clean one, else "estimated". Without a
--model isr-any is told the truth, and the estimate that of the shipped ones which `upscale` would take. IKC and DASR
publish the first table. At scale 1 nothing is reduced or enlarged: "bicubic" is then the picture itself. With
--ensemble all of ours are means over eight flips and rotations ("known+").

References: Gu et al. 2019 (arXiv 1904.03377, IKC); Wang et al. 2021 (arXiv 2104.00416, DASR).
"""

import argparse
import functools
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from PIL import Image

from isr_jax.__main__ import exit_code
from isr_jax.files import replace_file
from isr_jax.inference.automatic import ANY, model_told
from isr_jax.inference.estimate import estimate_degradation
from isr_jax.inference.upscaler import Upscaler, load
from isr_jax.physics.blur import Blur
from isr_jax.physics.kernels import gaussian_kernel
from isr_jax.physics.physics import Physics
from isr_jax.physics.resize import imresize
from isr_jax.physics.sampling import Bicubic
from isr_jax.pictures.metrics import round_to_8_bits, score_picture
from isr_jax.pictures.pairs import read_dataset
from isr_jax.pictures.picture import Picture
from isr_jax.startup import prepare_process
from isr_jax.upscale_models import make_enlarger
from isr_jax.upscale_options import UpscaleConfig

RADIUS = 10


class Case(NamedTuple):
    """What is done to the pictures."""

    width: float = 0.0
    """Of the blur, HR pixels."""
    noise_std: float = 0.0
    quality: int | None = None
    """Of the JPEG, 4:2:0 as most files are."""


def cases(table: str, scale: int) -> list[Case]:
    """Returns the columns of a table: widths grow with the scale, as in the papers."""
    if table == "blur":
        return [Case(round(k * scale * 0.3, 2)) for k in range(4)]
    if table == "noise":
        return [Case(0.0, level) for level in (3.0, 5.0, 10.0, 15.0, 25.0)]
    return [Case(0.0, 0.0, quality) for quality in ((10, 20, 30, 40) if scale == 1 else (30, 40, 50, 60, 70, 80, 90))]


def camera(scale: int, width: float) -> Physics:
    """Returns MATLAB's reduction of a picture under a Gaussian."""
    return Bicubic(scale) @ Blur(gaussian_kernel((width, width), radius=RADIUS))


def observed(hr: np.ndarray, case: Case, scale: int) -> np.ndarray:
    """Returns the LR picture."""
    y = np.asarray(camera(scale, case.width).apply(jnp.asarray(hr[None], jnp.float32)))[0]
    lr = round_to_8_bits(y + np.random.default_rng(0).normal(0, case.noise_std, y.shape))
    if case.quality is None:
        return lr
    stream = io.BytesIO()
    Image.fromarray(lr.squeeze()).save(stream, "JPEG", quality=case.quality)
    return np.asarray(Image.open(stream)).reshape(lr.shape)


Method = Callable[[np.ndarray, Case], np.ndarray]


def methods(scale: int, name: str | None, ensemble: bool) -> dict[str, Method]:
    """Returns what enlarges LR pictures of a case."""
    loaded = functools.cache(lambda name: load(name, ensemble=ensemble))
    found: dict[str, Method] = {"bicubic": lambda lr, case: imresize(lr, scale)}
    if scale > 1:
        lite = loaded(f"isr-lite-x{scale}")
        found["isr-lite"] = lambda lr, case: lite.upscale(lr)
    exact = loaded(name or ANY)

    def told(model: Upscaler, lr: np.ndarray, **known: Any) -> np.ndarray:
        if not model.uses_noise_std:
            del known["noise_std"]
        return round_to_8_bits(model.upscale_batch(lr[None], **known)[0])

    def estimated(lr: np.ndarray, case: Case) -> np.ndarray:
        estimate = estimate_degradation(lr, scale=scale)
        model = loaded(name or model_told(estimate, scale))
        return told(model, lr, **estimate.known(jpeg=model.uses_jpeg))

    def known(lr: np.ndarray, case: Case) -> np.ndarray:
        jpeg = {} if case.quality is None or not exact.uses_jpeg else {"jpeg": case.quality}
        return told(exact, lr, physics=camera(scale, case.width), noise_std=case.noise_std, **jpeg)

    command = make_enlarger(UpscaleConfig(inputs=(), scale=scale, ensemble=ensemble))

    def upscale(lr: np.ndarray, case: Case) -> np.ndarray:
        return command.enlarge(Picture(pixels=lr), b"", exact=False, reserve=0, progress=None)[0].pixels

    return found | {"known": known, "estimated": estimated} | ({"upscale": upscale} if scale > 1 else {})


def main(argv: list[str] | None = None) -> None:
    """Prints the table in Markdown as it comes, and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--table", choices=("blur", "noise", "jpeg"), default="blur")
    parser.add_argument("--model", help="told the blur and the noise, a name, file or run folder")
    parser.add_argument("--ensemble", action="store_true", help="average over flips and rotations")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    prepare_process()
    scale, columns = arguments.scale, cases(arguments.table, arguments.scale)
    pairs = list(read_dataset(arguments.data, scale).pairs)
    lrs = {case: [observed(pair.hr, case, scale) for pair in pairs] for case in columns}
    rows = []
    heads = {"blur": lambda c: f"width {c.width:g}", "noise": lambda c: f"noise {c.noise_std:g}"}
    head = heads.get(arguments.table, lambda c: f"JPEG {c.quality}")
    print(f"| {arguments.data.name} x{scale} | {' | '.join(map(head, columns))} |")
    print("| --- " * (1 + len(columns)) + "|")
    for name, enlarge in methods(scale, arguments.model, arguments.ensemble).items():
        name += "+" * (arguments.ensemble and name != "bicubic")
        for case in columns:
            scores = [
                score_picture(enlarge(lr, case), pair.hr, scale, ("psnr_y", "ssim_y"))
                for lr, pair in zip(lrs[case], pairs, strict=True)
            ]
            means = {metric: float(np.mean([s[metric] for s in scores])) for metric in ("psnr_y", "ssim_y")}  # pyright: ignore
            rows.append({"method": name, **case._asdict(), **means})
        psnr = [f"{row['psnr_y']:.2f}" for row in rows[-len(columns) :]]
        print(f"| {name} | {' | '.join(psnr)} |", flush=True)
        if arguments.json:
            text = json.dumps({"data": arguments.data.name, "scale": scale, "model": arguments.model, "rows": rows})
            replace_file(arguments.json, lambda path, text=text: path.write_text(text))


if __name__ == "__main__":
    sys.exit(exit_code(main))
