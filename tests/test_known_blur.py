"""experiments/known_blur.py: the protocol by definition, on made pictures and on real ones; stopped and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from random_model import save_random_model
from scipy import ndimage

from experiments import known_blur
from isr_jax.__main__ import exit_code
from isr_jax.physics.resize import crop_to_multiple

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "experiments" / "known_blur.py"


def write_data(folder, sizes=((48, 60),) * 3):
    rng = np.random.default_rng(0)
    (folder / "HR").mkdir(parents=True)
    for i, (height, width) in enumerate(sizes):
        smooth = ndimage.gaussian_filter(rng.uniform(-600, 900, (height, width, 3)), (2, 2, 0))
        Image.fromarray(smooth.clip(0, 255).astype(np.uint8)).save(folder / "HR" / f"{i}.png")
    kernels = rng.uniform(size=(2, 7, 7))
    np.savez(folder / "kernels.npz", kernels=kernels / kernels.sum((1, 2), keepdims=True))
    return folder


def command(folder, *models, data=None, kernels=None, options=()):
    data, kernels = data or folder, kernels or folder / "kernels.npz"
    words = ["--data", data, "--kernels", kernels, "--model", *models, "--json", folder / "scores.json", *options]
    return [sys.executable, str(SCRIPT), *map(str, words)]


def run(folder, *models, **where):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command(folder, *models, **where), env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return {
        (r["model"], f"x{r['scale']}/{r['noise']:g}"): r
        for r in json.loads((folder / "scores.json").read_text())["rows"]
    }, result


def by_definition(hr, kernel, scale, noise, weight):
    """PSNR of the closed form, in float64, from the words of the protocol."""
    lr = ndimage.convolve(hr, kernel[..., None], mode="wrap")[::scale, ::scale] / 255.0
    np.random.seed(0)  # noqa: NPY002
    lr = lr + np.random.normal(0, noise / 255.0, lr.shape)  # noqa: NPY002
    height, width = hr.shape[:2]
    basis = np.eye(height * width).reshape(-1, height, width)
    h = np.stack([ndimage.convolve(e, kernel, mode="wrap")[::scale, ::scale].ravel() for e in basis], axis=1)
    laplace = np.stack([(4 * e - sum(np.roll(e, t, a) for t in (1, -1) for a in (0, 1))).ravel() for e in basis], 1)
    left = h.T @ h + weight * (laplace + 1e-6 * np.eye(len(laplace)))
    x = np.stack([np.linalg.solve(left, h.T @ lr[..., c].ravel()).reshape(height, width) for c in range(3)], -1)
    error = (np.clip(np.round(x * 255), 0, 255) - hr)[scale**2 : -(scale**2), scale**2 : -(scale**2)]
    return 10 * np.log10(255**2 / np.mean(error**2))


def test_the_protocol_as_defined_and_every_model_told_the_blur(tmp_path):
    folder = write_data(tmp_path, [(36, 42), (42, 37)])
    rows, result = run(folder, "bicubic", "closed-form", save_random_model(folder / "model_x3.safetensors", 3))
    assert {(model.rsplit("/")[-1], setting) for model, setting in rows} == {
        *((name, s) for name in ("bicubic", "closed-form") for s in ("x2/0", "x3/0", "x3/2.55", "x3/7.65", "x4/0")),
        *(("model_x3.safetensors", s) for s in ("x3/0", "x3/2.55", "x3/7.65")),
    }
    photos = [np.asarray(Image.open(path)) for path in sorted((folder / "HR").iterdir())]
    kernels = np.load(folder / "kernels.npz")["kernels"]
    for setting, weight in (("x2/0", 1e-4), ("x3/7.65", 1e-1)):
        scale, noise = int(setting[1]), float(setting[3:])
        row = rows["closed-form", setting]
        cut = [crop_to_multiple(hr, scale) for hr in photos]
        expected = [np.mean([by_definition(hr, kernel, scale, noise, weight) for hr in cut]) for kernel in kernels]
        np.testing.assert_allclose(row["kernels"], expected, atol=0.02)
        assert row["mean"] == pytest.approx(np.mean(row["kernels"]))
        assert row["pictures"] == 2
    assert "| closed-form |" in result.stdout
    assert "USRNet" not in result.stdout  # whose figures are of its own twelve kernels


@pytest.mark.slow
def test_a_killed_run_goes_on_from_the_pictures_it_has(tmp_path):
    folder, kept = write_data(tmp_path), tmp_path / "scores.pictures.jsonl"
    process = subprocess.Popen(
        command(folder, "bicubic", "closed-form"), env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 100
    while not (kept.exists() and kept.read_bytes().count(b"\n") >= 2) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    whole = kept.read_text().splitlines()
    assert len(whole) >= 2
    marked = json.loads(whole[0]) | {"psnr": [1000.0, 1000.0]}
    kept.write_text(json.dumps(marked) + "\n" + "\n".join(whole[1:]) + '\n{"name": "torn')
    rows, _ = run(folder, "bicubic", "closed-form")
    assert rows["bicubic", "x2/0"]["mean"] > 300  # the one that was there is used
    before = kept.read_text().splitlines()
    run(folder, "bicubic", "closed-form")
    assert kept.read_text().splitlines() == before
    assert sum(line.endswith("}") for line in before) == 3 * 2 * 5


def test_what_cannot_be_used_is_one_line(tmp_path, capsys):
    folder = write_data(tmp_path, [(24, 30)])
    np.savez(folder / "other.npz", blurs=np.ones((2, 3, 3)))
    model = save_random_model(folder / "model.safetensors", 2)
    (folder / "empty").mkdir()
    for words, code, message in (
        ((str(model), "--settings", "x3/0"), 2, "is for none of the settings x3/0: add one"),
        (("bicubic", "--settings", "x4/0"), 1, "0.png is all border at x4/0"),
        (("bicubic", "--every", "0"), 2, "--every is 0; it must be at least 1"),
        (("bicubic", "--kernels", str(folder / "other.npz")), 1, 'other.npz has no array called "kernels"'),
        (("bicubic", "--kernels", str(folder / "none.npz")), 1, 'none.npz has no array called "kernels"'),
        (("bicubic", "--data", str(folder / "none")), 2, "none: no such folder; name a folder of pictures"),
        (("bicubic", "--data", str(folder / "empty")), 1, "empty has no pictures: put the full-size ones into it"),
    ):
        assert exit_code(known_blur.main, command(folder, *words)[2:]) == code
        assert message in capsys.readouterr().err


def test_a_picture_and_a_kernel_of_the_benchmark(shared, tmp_path):
    kernels = np.load(shared / "data" / "kernels" / "usrnet_12.npz")["kernels"][:1]
    paths = sorted((shared / "data" / "BSD68" / "HR").iterdir())[:1]
    settings = [known_blur.Setting.of("x4/0"), known_blur.Setting.of("x3/2.55")]
    rows = known_blur.run(paths, kernels, ["bicubic", "closed-form"], settings, known_blur.Record(None))
    measured = {(row["model"], row["scale"]): row["mean"] for row in rows}
    known = {("bicubic", 4): 21.972, ("closed-form", 4): 22.033, ("bicubic", 3): 22.827, ("closed-form", 3): 22.896}
    assert measured == pytest.approx(known, abs=0.01)
