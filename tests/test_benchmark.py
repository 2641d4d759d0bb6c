"""isr_jax.benchmark.benchmark from Python: names, paths and upscalers side by side; a row speaks of itself alone."""

import jax
import numpy as np
import pytest
from random_model import save_random_model

import isr_jax
from isr_jax.benchmark.benchmark import LR, TRUTH
from isr_jax.benchmark.rows import model_label
from isr_jax.config import ConfigError
from isr_jax.inference.bicubic import BicubicUpscaler
from isr_jax.inference.upscaler import load
from isr_jax.models.model_file import get_params, load_model
from isr_jax.physics.resize import imresize
from isr_jax.pictures.images import write_image
from isr_jax.training.data import validation_pairs
from isr_jax.training.evaluation import make_evaluation


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two folders: plain, with large pictures; and with small ones."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, size in (("large", 96), ("small/HR", 32)):
        pixels = imresize(rng.integers(0, 256, (size // 4, size // 4, 3)).astype(np.uint8), 4)
        write_image(folder / name / "a.png", pixels)
    return folder


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    return save_random_model(tmp_path_factory.mktemp("model") / "tiny.safetensors", scale=2)


def test_names_paths_and_upscalers_side_by_side(data, model_file, capsys):
    seen = []
    mine = load(model_file)
    mine.name = "mine"
    result = isr_jax.run_benchmark(
        [model_file, mine, "bicubic"], data / "small", on_picture=lambda *picture: seen.append(picture)
    )
    assert [row.label for row in result.rows] == ["tiny", "mine", "bicubic"]
    assert [row.label for row in result.table()] == ["bicubic", "tiny", "mine"]
    assert result.rows[0].mean("psnr_y") == result.rows[1].mean("psnr_y")
    assert result.rows[2] == result.bicubic[0]
    assert [picture[3] for picture in seen] == [LR, TRUTH, "bicubic", "tiny", "mine"]
    assert {picture[:3] for picture in seen} == {("small", 2, "a")}
    assert capsys.readouterr().out == ""


def test_the_baseline_is_an_upscaler_like_any_other(data):
    named = isr_jax.run_benchmark("bicubic", str(data / "small"), scale=2)
    given = isr_jax.run_benchmark(BicubicUpscaler(2), data / "small")
    assert named.rows[0].images == given.rows[0].images
    assert (named.rows[0].cost.parameters, named.rows[0].cost.macs_per_pixel) == (0, 0)
    with pytest.raises(ConfigError, match=r"bicubic enlarges by 2\.5"):
        isr_jax.run_benchmark(BicubicUpscaler(2.5), data / "small")


def test_any_object_with_the_interface_is_scored(data):
    class Nearest(BicubicUpscaler):
        def upscale_batches(self, lr, *, all_stages=False):
            yield lr.repeat(self.scale, axis=1).repeat(self.scale, axis=2).astype(np.float32)

    nearest = Nearest(2)
    nearest.name = "nearest"
    result = isr_jax.run_benchmark([nearest, "bicubic"], data / "small", scale=2)
    assert result.rows[0].model == "nearest"
    assert result.rows[0].mean("psnr_y") < result.rows[1].mean("psnr_y")


def test_training_scores_as_the_benchmark_does(data, model_file):
    model = load_model(model_file)
    pairs = {"small": validation_pairs(str(data / "small"), 2, 3)}
    values = make_evaluation(model)(jax.device_put(get_params(model)), pairs, {})
    [row] = isr_jax.run_benchmark(model_file, data / "small").rows
    assert values["small/psnr_y"] == pytest.approx(row.mean("psnr_y"), abs=1e-3)
    assert values["small/ssim_y"] == pytest.approx(row.mean("ssim_y"), abs=1e-6)
    assert abs(values["small/ssim_y"] - row.mean("ssim_y_rounded")) > 1e-6


def test_memory_is_that_of_the_row(data, model_file):
    upscaler = load(model_file)
    folders = [data / "large", data / "small"]
    large, small = (row.cost.peak_bytes for row in isr_jax.run_benchmark(upscaler, folders).rows)
    assert 0 < small < large
    again = isr_jax.run_benchmark(upscaler, folders[::-1])  # nothing is compiled any more
    assert [row.cost.peak_bytes for row in again.rows] == [small, large]
    assert [row.cost.compilations + row.cost.cache_hits for row in again.rows] == [0, 0]
    assert upscaler.peak_bytes == large


def test_a_model_is_known_by_its_file_or_folder(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    names = (".", "model.safetensors", "../run/", "x4.safetensors", "isr-lite-x4")
    assert [model_label(name) for name in names] == ["run", "run", "run", "x4", "isr-lite-x4"]


def test_wrong_arguments(data, model_file):
    for models, folders, options, message in [
        ([], data / "small", {}, "no model is named"),
        ("bicubic", [], {"scale": 2}, "no folder"),
        ("bicubic", data / "small", {}, "give the scale"),
        (load(model_file), data / "small", {"scale": 3}, "made for x2, not x3"),
        ([load(model_file), model_file], data / "small", {}, "two models are called tiny"),
    ]:
        with pytest.raises(ConfigError, match=message):
            isr_jax.run_benchmark(models, folders, **options)
