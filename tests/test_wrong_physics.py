"""experiments/wrong_physics.py: what is told right scores as the model told the truth does, whatever else is told."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from random_model import SEVERAL, random_model
from scipy import ndimage

from isr_jax.config import ModelConfig
from isr_jax.inference.upscaler import load
from isr_jax.models.model_file import save_model
from isr_jax.physics.blur import Blur
from isr_jax.physics.kernels import gaussian_kernel
from isr_jax.physics.sampling import Decimation
from isr_jax.pictures.metrics import psnr, round_to_8_bits

ROOT = Path(__file__).parents[1]


def test_the_right_blur_stands_between_the_wrong_ones(tmp_path):
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.uniform(-600, 900, (48, 60, 3)), (2, 2, 0)).clip(0, 255).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "0.png")
    save_model(tmp_path / "model.safetensors", random_model(ModelConfig(scale=2, **SEVERAL)))
    words = ["--data", tmp_path, "--model", tmp_path / "model.safetensors", "--scale", 2, "--plot", tmp_path / "a.png"]
    done = subprocess.run(
        [sys.executable, ROOT / "experiments" / "wrong_physics.py", *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "a.png") as plot:
        assert plot.width > 1000
    tables = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| width 1.2") or "PSNR" in line]
    scores = dict(zip((cell.strip() for cell in tables[0]), tables[1], strict=True))

    kernel = np.asarray(gaussian_kernel(1.2, radius=12), np.float64)
    lr = ndimage.convolve(smooth, kernel[..., None], mode="wrap")[::2, ::2]
    physics = Decimation(2) @ Blur(kernel, "periodic")
    sr = load(tmp_path / "model.safetensors").upscale_batch(lr[None], physics=physics, noise_std=0)[0]
    inner = (slice(4, -4), slice(4, -4))
    assert float(scores["+0 %"]) == pytest.approx(psnr(round_to_8_bits(sr)[inner], smooth[inner]), abs=0.01)
    assert len({scores[f"{error:+d} %"] for error in (-50, -20, 0, 20, 50)}) == 5
