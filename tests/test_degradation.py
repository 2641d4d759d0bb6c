"""isr_jax.benchmark.degradation: the camera as defined, told to the models, and every wrong word in one line."""

import csv
import io
import json
import sys

import numpy as np
import pytest
from PIL import Image
from random_model import SEVERAL, random_model
from scipy import ndimage

import isr_jax
from isr_jax import evaluate
from isr_jax.__main__ import exit_code
from isr_jax.benchmark.degradation import Degradation
from isr_jax.config import ConfigError, ModelConfig
from isr_jax.inference.bicubic import BicubicUpscaler
from isr_jax.inference.upscaler import load
from isr_jax.models.model_file import save_model
from isr_jax.physics.blur import Blur
from isr_jax.physics.resize import imresize
from isr_jax.physics.sampling import Decimation
from isr_jax.pictures.images import write_image
from isr_jax.pictures.metrics import psnr, round_to_8_bits

HR = round_to_8_bits(imresize(np.random.default_rng(0).uniform(0, 255, (15, 18, 3)), 4))
KERNEL = np.random.default_rng(1).uniform(size=(6, 5)) * [1, 2, 3, 1, 5]
KERNEL /= KERNEL.sum()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two pictures, one of them grey, with LR pictures that nobody may use, and a kernel."""
    folder = tmp_path_factory.mktemp("data")
    for name, pixels in (("a", HR), ("b", HR[..., :1])):
        write_image(folder / "Set5" / "HR" / f"{name}.png", pixels)
    write_image(folder / "Set5" / "LRx2" / "other.png", HR)
    np.save(folder / "kernel.npy", 7 * KERNEL)
    save_model(folder / "any.safetensors", random_model(ModelConfig(scale=2, **SEVERAL)))
    save_model(folder / "lite.safetensors", random_model(ModelConfig(scale=2, physics="bicubic", num_stages=1)))
    return folder


@pytest.mark.parametrize(("border", "mode"), [("symmetric", "reflect"), ("periodic", "wrap")])
def test_the_camera_is_its_definition(border, mode):
    """Orientation, phase and border are those of experiments/known_blur.py, whose judge is scipy, and its noise."""
    blurred = ndimage.convolve(HR.astype(float), KERNEL[..., None], mode=mode)[::3, ::3]
    noise = np.random.RandomState(0).normal(0, 2.55, blurred.shape)
    camera = Degradation(blur=KERNEL, noise_std=2.55, rounding="none", border=border)
    np.testing.assert_allclose(camera.apply(HR, 3), blurred + noise, atol=1e-3)
    np.testing.assert_allclose(camera.apply(HR, 3, noisy=False), blurred, atol=1e-3)
    rounded = Degradation(blur=KERNEL, noise_std=2.55, border=border).apply(HR, 3)
    assert rounded.dtype == np.uint8
    assert np.mean(rounded != round_to_8_bits(blurred + noise)) < 1e-3
    floored = ndimage.convolve(HR, KERNEL[..., None], mode=mode)[::3, ::3]  # uint8: cut off
    np.testing.assert_allclose(
        Degradation(blur=KERNEL, noise_std=2.55, rounding="floor", border=border).apply(HR, 3),
        floored + noise,
        atol=1e-4,
    )
    cut = Degradation(blur=KERNEL, rounding="floor", border=border).apply(HR, 3)
    np.testing.assert_array_equal(cut, floored)


def test_samplings():
    np.testing.assert_allclose(Degradation().apply(HR, 4).astype(int), imresize(HR, 0.25), atol=1)  # one rounding less
    np.testing.assert_array_equal(Degradation(sampling="decimation").apply(HR, 4), HR[::4, ::4])
    box = HR.reshape(15, 4, 18, 4, 3).mean((1, 3))
    np.testing.assert_allclose(Degradation(sampling="box", rounding="none").apply(HR, 4), box, atol=1e-3)


def test_a_file_is_compressed_at_last_and_the_physics_knows_its_quality():
    camera, plain = Degradation.parse("noise=2,jpeg=30"), Degradation(noise_std=2)
    file = io.BytesIO()
    Image.fromarray(plain.apply(HR, 2)).save(file, "JPEG", quality=30)
    np.testing.assert_array_equal(camera.apply(HR, 2), np.asarray(Image.open(file)))
    np.testing.assert_array_equal(camera.apply(HR, 2, noisy=False), plain.apply(HR, 2, noisy=False))
    assert camera.apply(HR[..., :1], 2).shape == (30, 36, 1)
    assert str(camera) == "noise=2,jpeg=30,sampling=bicubic,rounding=round,border=symmetric"
    assert len({camera.digest(), plain.digest(), Degradation(noise_std=2, jpeg=31).digest()}) == 3
    assert camera.physics(2).error_std[0] > 5
    for words, message in [("jpeg=0", "jpeg=0"), ("jpeg=x", "jpeg=x"), ("jpeg=50,rounding=none", "whole numbers")]:
        with pytest.raises(ConfigError, match=message):
            Degradation.parse(words)


def test_words_are_read_and_spelled(tmp_path):
    whole = "blur=1.6,0.8,30,noise=2.5,sampling=bicubic,rounding=none,border=periodic"
    assert str(Degradation.parse(whole)) == whole
    assert str(Degradation.parse("noise=5, blur=1.6")) == (
        "blur=1.6,noise=5,sampling=decimation,rounding=round,border=symmetric"
    )
    assert str(Degradation.parse("noise=5")) == "noise=5,sampling=bicubic,rounding=round,border=symmetric"
    assert str(Degradation(blur=(1.6, 0.8, 30.0))).startswith("blur=1.6,0.8,30,noise=0,")
    assert str(Degradation(blur=KERNEL)).startswith("blur=kernel of 6x5,")
    path = tmp_path / "a, b.npy"
    np.save(path, KERNEL)
    read, expected = Degradation.parse(f"blur={path},noise=1"), Degradation(blur=KERNEL, noise_std=1)
    np.testing.assert_array_equal(read.apply(HR, 2), expected.apply(HR, 2))


def test_models_are_told_and_bicubic_stays_what_it_is(data, capsys):
    camera = Degradation(blur=str(data / "kernel.npy"), noise_std=5)
    results = {}
    mine = load(data / "any.safetensors")
    result = isr_jax.run_benchmark(
        [mine, data / "lite.safetensors", "bicubic"],
        data / "Set5",
        scale=2,
        degradation=camera,
        on_picture=lambda _, __, name, label, pixels: results.update({(name, label): pixels}),
    )
    physics = Decimation(2) @ Blur(KERNEL)
    for name, hr in (("a", HR), ("b", HR[..., :1])):
        lr = camera.apply(hr, 2)
        np.testing.assert_array_equal(results[name, "LR"], lr)
        np.testing.assert_array_equal(results[name, "bicubic"], imresize(lr, 2))
        expected = mine.upscale(lr, physics=physics, noise_std=5)
        np.testing.assert_allclose(results[name, "any"].astype(int), expected, atol=1)
    told, lite, bicubic = result.rows
    assert (told.told, lite.told, bicubic.told) == ("physics and noise level", "physics and noise level", "")
    assert (bicubic.sentinel_ok, bicubic.lr_source) == (None, "degradation")
    assert bicubic.as_dict()["degradation"] == str(camera)
    expected = psnr(camera.apply(results["a", "any"], 2, noisy=False), results["a", "LR"])
    assert told.images[0].values["lr_psnr"] == pytest.approx(expected)
    assert "WARNING" not in capsys.readouterr().err  # of the name Set5, whose figures are known
    [wrong] = isr_jax.run_benchmark(mine, data / "Set5", degradation=str(camera), blur=0.5).rows
    assert wrong.told.startswith("physics of blur=0.5,noise=5")
    assert wrong.data_sha256 == told.data_sha256
    assert wrong.images != told.images


def test_dark_pictures_that_are_not_rounded(data, tmp_path):
    write_image(tmp_path / "dark" / "a.png", np.zeros((24, 24, 3), np.uint8))
    models = [data / "any.safetensors", "bicubic"]
    rows = isr_jax.run_benchmark(models, tmp_path / "dark", scale=2, degradation="blur=1,rounding=none").rows
    assert [row.images[0].values["lr_psnr"] for row in rows][1] == np.inf


class Oracle(BicubicUpscaler):
    """Knows the truth."""

    def upscale_batches(self, lr, *, all_stages=False):
        yield np.stack([HR.astype(np.float32)] * len(lr))


@pytest.mark.parametrize("degradation", [None, "blur=1.6", "blur=1.6,rounding=floor", "sampling=box,rounding=none"])
def test_the_truth_agrees_with_what_was_observed(tmp_path, degradation):
    write_image(tmp_path / "set" / "a.png", HR)
    oracle = Oracle(2)
    oracle.name = "oracle"
    [row] = isr_jax.run_benchmark(oracle, tmp_path / "set", degradation=degradation).rows
    assert row.images[0].values["lr_psnr"] == np.inf
    assert row.as_dict()["lr_psnr"] is None


def test_the_command(data, tmp_path, capfd):
    files = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "markdown")}
    outputs = [str(word) for name, path in files.items() for word in (f"--{name}", path)]
    argv = ["--model", str(data / "any.safetensors"), "--data", str(data / "Set5"), "--scale", "3", *outputs]
    report = tmp_path / "out.html"
    assert exit_code(evaluate.main, [*argv, "--degradation", "blur=1.6,noise=5", "--report", str(report)]) == 0
    whole = "blur=1.6,noise=5,sampling=decimation,rounding=round,border=symmetric"
    sentence = f"LR pictures are made by {whole}; any is told the physics and noise level."
    said = capfd.readouterr().out
    assert sentence in said
    assert said.strip() == files["markdown"].read_text().strip()
    assert sentence in report.read_text()
    assert "ISRResCNet (paper)" not in report.read_text()  # whose figures are of other LR pictures
    rows = json.loads(files["json"].read_text())["rows"]
    assert (rows[0]["lr_source"], rows[0]["degradation"]) == ("degradation", whole)
    with files["csv"].open() as file:
        lines = list(csv.DictReader(file))
    assert {line["degradation"] for line in lines} == {whole}
    assert float(lines[-1]["lr_psnr"]) == rows[0]["lr_psnr"]


def test_a_camera_of_ones_own(tmp_path, monkeypatch, capfd):
    (tmp_path / "camera.py").write_text(
        "from isr_jax import Physics\n"
        "class Camera(Physics):\n"
        "    scale = 2\n"
        "    def apply(self, x):\n"
        "        return (x[:, ::2, ::2] + x[:, 1::2, 1::2]) / 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    camera = Degradation(sampling="camera:Camera", rounding="none")
    np.testing.assert_allclose(camera.apply(HR, 2), (HR[::2, ::2] / 2.0 + HR[1::2, 1::2] / 2.0), atol=1e-3)
    with pytest.raises(ConfigError, match="sampling of `degradation` is 'camera:Camera', whose scale is 2, where 3"):
        camera.apply(HR, 3)
    sys.modules.pop("camera")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("blur=1.6,nose=5", "has 'nose=5'; write blur=..., noise=..., jpeg=..., sampling=..."),
        ("", "has ''; write"),
        ("5", "has '5'; write"),
        ("blur=", "has 'blur='; write"),
        ("noise=-1", "has noise=-1.0; it is a level"),
        ("noise=nan", "has noise=nan; it is a level"),
        ("noise=loud", "has noise=loud; it is a number"),
        ("blur=1,blur=2", "has blur twice"),
        ("rounding=up", "has rounding=up; choose round or floor or none"),
        ("border=zero", "has border=zero; choose symmetric or periodic"),
        ("sampling=blur", "has sampling=blur; choose decimation or bicubic or box, or your own as module:Name"),
        ("sampling=os:path", "is 'os:path', which is no isr_jax.Physics but module"),
        ("sampling=nowhere:Camera", "nowhere"),
        ("blur=-1", ": blur is -1.0; give a standard deviation"),
        ("blur=none.npy", ": none.npy: No such file"),
        ("blur=40", "larger than the picture"),
    ],
)
def test_what_is_no_degradation_gives_one_line(data, capfd, text, said):
    argv = ["--model", "bicubic", "--data", str(data / "Set5"), "--scale", "2", "--degradation", text]
    assert exit_code(evaluate.main, argv) == 2
    err = capfd.readouterr().err
    assert "--degradation" in err or "larger" in err
    assert said in err
    assert err.count("\n") == 1
