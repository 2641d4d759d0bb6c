"""experiments/accelerator.py, rehearsed on CPU as on a bare machine: two slices, the second going on from the first."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from blocked import run_blocked
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
ABSENT = ("tensorflow", "tensorflow_datasets", "tyro", "tensorboardX", "safetensors", "matplotlib")
CONFIG = """
from isr_jax.config import *
CONFIG = TrainConfig(
    model=ModelConfig(scale=2, num_stages=1, physics="bicubic", extrapolation=False, projection=False, clip=False,
        prior=ERDConfig(features=8, num_blocks=2, feedback_steps=0, kernel_size=3, border="zero", weight_norm=False,
            resolution="lr")),
    data=DataConfig(patch_size=16, batch_size=8, tile_size=96, placement="memory"),
    optimizer=OptimizerConfig(kind="muon"),
    eval=EvalConfig(every="10s"),
    steps=1_000_000,
)
"""


def photographs(folder, count, side):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        waves = 128 + 90 * np.sin(np.arange(side)[:, None, None] / (3 + i)) * np.cos(np.arange(side)[:, None] / (5 + i))
        pixels = np.clip(waves + rng.normal(0, 8, (side, side, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")


def a_slice(minutes, *arguments, cwd):
    began = time.monotonic()
    script = str(ROOT / "experiments" / "accelerator.py")
    program = f"import runpy, sys\nsys.argv[0] = {script!r}\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    done = run_blocked(program, ABSENT, *arguments, "--minutes", str(minutes), cwd=cwd, timeout=400)
    return done, (time.monotonic() - began) / 60


@pytest.mark.slow
def test_two_slices_of_three_minutes(tmp_path):
    photographs(tmp_path / "photos", 6, 120)
    photographs(tmp_path / "dev", 2, 64)
    (tmp_path / "config.py").write_text(CONFIG)
    pack = [sys.executable, "-m", "isr_jax", "pack", str(tmp_path / "photos"), "-o", str(tmp_path / "train.pack")]
    subprocess.run(pack, check=True, capture_output=True, cwd=ROOT)
    common = ["--data", "train.pack", "--eval", "dev", "--score", "dev", "--out", "out"]
    first, took = a_slice(3, "config.py", *common, "--measure-seconds", "0.2", cwd=tmp_path)
    assert first.returncode == 75, first.stderr[-3000:]
    assert took < 3
    table = (tmp_path / "out" / "measured.md").read_text()
    assert len(re.findall(r"^\| (?:float32|tf32|bfloat16) \| (?:8|32|64|128) \| \d", table, re.MULTILINE)) == 12
    assert re.search(r"chosen: \w+, batch \d+", first.stdout)
    assert (tmp_path / "out" / "run.tar").stat().st_size < 16 * 2**20
    reached = int(re.search(r"step (\d+) of 1000000", first.stdout)[1])
    assert reached > 0
    assert "psnr" in (tmp_path / "out" / "scores.md").read_text().lower()

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("train.pack", "dev"):
        (elsewhere / name).symlink_to(tmp_path / name)
    shutil.copy(tmp_path / "out" / "run.tar", elsewhere / "run.tar")
    second, took = a_slice(3, "--state", "run.tar", *common, cwd=elsewhere)
    assert second.returncode == 75, second.stderr[-3000:]
    assert took < 3
    assert f"resumed at step {reached} of 1000000" in second.stderr
    assert int(re.search(r"step (\d+) of 1000000 after", second.stdout)[1]) > reached
    assert not (elsewhere / "out" / "measured.md").exists()
