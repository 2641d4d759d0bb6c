"""isr_jax.inference.upscaler: every way of running a model gives what the model itself gives."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx

import isr_jax
from isr_jax.config import ConfigError, ERDConfig, ModelConfig
from isr_jax.inference.upscaler import TILE, Upscaler, _windows, macs_per_pixel, round_to
from isr_jax.models.model_file import save_model
from isr_jax.physics.resize import imresize
from isr_jax.pictures.images import Picture
from isr_jax.solver.unrolled import ISRResCNet

TINY = ERDConfig(features=4, num_blocks=1, feedback_steps=0, kernel_size=3)


def make_model(**options) -> ISRResCNet:
    settings = {"scale": 2, "num_stages": 2, "data_term": "none", "prior": TINY} | options  # quick to compile
    return ISRResCNet(ModelConfig(**settings), rngs=nnx.Rngs(0))


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)


@jax.jit
def run(model: ISRResCNet, lr: jax.Array, **options) -> jax.Array:
    return model(lr, **options)


def whole(model: ISRResCNet, lr: np.ndarray, **options) -> np.ndarray:
    return np.asarray(run(model, lr, **options))


@pytest.fixture(scope="module")
def model() -> ISRResCNet:
    return make_model()


def test_is_the_model_in_one_program_per_shape(model):
    upscaler = Upscaler(model, batch_size=2)
    lr = pictures(5, 6, 7, 3)
    hr = upscaler.upscale_batch(lr)
    np.testing.assert_allclose(hr, whole(model, lr), atol=2e-3)
    np.testing.assert_allclose(upscaler.upscale_batch(lr[::-1])[::-1], hr, atol=2e-3)
    assert upscaler.compilations + upscaler.cache_hits == 1
    assert upscaler.seconds > 0
    assert upscaler.peak_bytes > 0
    stages = upscaler.upscale_batch(lr, all_stages=True)
    assert stages.shape == (2, 5, 12, 14, 3)
    np.testing.assert_allclose(stages[-1], hr, atol=2e-3)
    fewer = Upscaler(model, num_stages=1).upscale_batch(lr)
    np.testing.assert_allclose(fewer, stages[0], atol=2e-3)


def test_ensemble_is_the_mean_over_eight_pictures_and_turns_with_the_picture(model):
    lr = pictures(1, 5, 8, 3)
    upscaler = Upscaler(model, ensemble=True)
    hr = upscaler.upscale_batch(lr)
    total = np.zeros_like(hr)
    for turns in range(4):
        for flip in (False, True):
            x = np.rot90(lr, turns, (1, 2))
            y = whole(model, np.ascontiguousarray(x[:, ::-1] if flip else x))
            total += np.rot90(y[:, ::-1] if flip else y, -turns, (1, 2))
    np.testing.assert_allclose(hr, total / 8, atol=2e-3)
    turned = upscaler.upscale_batch(np.ascontiguousarray(np.rot90(lr, 1, (1, 2))))
    np.testing.assert_allclose(turned, np.rot90(hr, 1, (1, 2)), atol=2e-3)
    assert upscaler.compilations + upscaler.cache_hits == 2  # upright and lying
    assert upscaler.macs_per_pixel == 8 * macs_per_pixel(model.config)


@pytest.mark.parametrize("resolution", ["lr", "hr"])
def test_windows_give_the_whole_picture(monkeypatch, resolution):
    erd = ERDConfig(
        features=4,
        num_blocks=2,
        feedback_steps=0,
        kernel_size=3,
        resolution=resolution,
        carry_features=resolution == "lr",
    )
    model = make_model(projection=False, prior=erd, data_term="matlab_bicubic", final_data_step=True)
    lr = pictures(1, 190, 97, 3)
    expected = whole(model, lr)
    monkeypatch.setattr("isr_jax.inference.upscaler.TILE", 16)  # grows to what the model sees, and 64 pixels
    upscaler = Upscaler(model)
    hr = upscaler.upscale_batch(lr)
    window = 2 * upscaler._halo() + 64  # pyright: ignore
    assert window < 190
    assert {key[0][1:3] for key in upscaler._programs} == {(window, min(window, 97))}
    np.testing.assert_allclose(hr, expected, atol=2e-3)
    assert np.abs(expected - np.repeat(np.repeat(lr, 2, 1), 2, 2)).mean() > 1  # the network does something


def test_a_model_that_sees_the_whole_picture_is_not_cut(model):
    assert Upscaler(model)._halo() is None
    assert Upscaler(make_model(projection=False, data_term="released_bilinear"))._halo() is None


def test_windows_cover_every_pixel_once_with_their_surroundings():
    for size in (10, TILE, TILE + 1, 777, 2000):
        parts = _windows(size, TILE, 30)
        assert [first for _, first, _ in parts] == [0] + [last for _, _, last in parts[:-1]]
        assert parts[-1][2] == size
        for start, first, last in parts:
            assert start == 0 or first - start >= 30
            assert start + TILE >= size or start + TILE - last >= 30


def test_upscale_keeps_type_shape_and_scale(model):
    upscaler = Upscaler(model)
    lr = pictures(6, 5, 3).round()
    exact = upscaler.upscale_batch(lr[None])[0]
    np.testing.assert_array_equal(upscaler.upscale(lr), exact)
    np.testing.assert_array_equal(upscaler.upscale(lr.astype(np.uint8)), round_to(exact, np.uint8))
    deep = upscaler.upscale(lr.astype(np.uint16) * 257)
    assert deep.dtype == np.uint16
    np.testing.assert_allclose(deep / 257, exact, atol=0.01)
    assert upscaler.upscale(lr.astype(np.float64)).dtype == np.float64
    for shape in [(6, 5), (6, 5, 1), (1, 1), (1, 2, 3)]:
        assert upscaler.upscale(np.zeros(shape, np.uint8)).shape == (shape[0] * 2, shape[1] * 2, *shape[2:])
    for bad in (np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3), np.int64), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="a picture"):
            upscaler.upscale(bad)


def test_grey_through_a_colour_model_and_colour_through_a_grey_model(model):
    lr = pictures(1, 6, 5, 1)
    expected = whole(model, lr.repeat(3, axis=3)).mean(axis=3, keepdims=True)
    np.testing.assert_allclose(Upscaler(model).upscale_batch(lr), expected, atol=2e-3)
    grey = make_model(channels=1)
    lr = pictures(2, 6, 5, 3)
    expected = np.concatenate([whole(grey, lr[..., c : c + 1]) for c in range(3)], axis=3)
    np.testing.assert_allclose(Upscaler(grey).upscale_batch(lr), expected, atol=2e-3)


def test_kernel_and_noise_level_reach_the_model():
    blur = make_model(data_term="blur")
    kernel = np.outer([1, 2, 1], [1, 3, 1]) / 20
    lr = pictures(1, 6, 5, 3)
    upscaler = Upscaler(blur, kernel=kernel, noise_std=3)
    expected = whole(blur, lr, kernel=kernel.astype(np.float32), noise_std=np.full(1, 3, np.float32))
    np.testing.assert_allclose(upscaler.upscale_batch(lr), expected, atol=2e-3)


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ({"data_term": "blur"}, {}, "needs the blur kernel"),
        ({}, {"kernel": np.ones((3, 3))}, "takes no blur kernel"),
        ({"data_term": "blur"}, {"kernel": np.ones((3, 3, 2))}, "has shape"),
        ({"data_term": "blur"}, {"kernel": np.ones((3, 3)), "ensemble": True}, "ensemble"),
        ({}, {"num_stages": 3}, "stages 1 to 2"),
        ({}, {"num_stages": 0}, "stages 1 to 2"),
        ({}, {"noise_std": -1.0}, "noise_std is -1"),
        ({}, {"noise_std": float("nan")}, "noise_std is nan"),
        ({"projection": False}, {"noise_std": 5}, "no use of a noise level"),
    ],
)
def test_options_that_do_not_fit(config, options, message):
    with pytest.raises(ConfigError, match=message):
        Upscaler(make_model(**config), **options)


def test_pictures_keep_what_belongs_to_them(model):
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[:, :4] = 200
    alpha = np.zeros((6, 8), np.uint8)
    alpha[:, :4] = 255
    picture = Picture(pixels=pixels, alpha=alpha, icc_profile=b"profile", resolution=(72, 36), format="TIFF")
    result, exact = Upscaler(model).upscale_picture(picture)
    assert result.pixels.shape == exact.shape == (12, 16, 3)
    assert result.alpha is not None
    np.testing.assert_array_equal(result.alpha, imresize(alpha, 2))
    assert (result.icc_profile, result.resolution, result.format) == (b"profile", (144, 72), "TIFF")
    opaque = Picture(pixels=np.full_like(pixels, 200))
    np.testing.assert_array_equal(
        Upscaler(model).upscale_picture(opaque)[0].pixels, result.pixels
    )  # no black bleeds in
    smaller, exact = Upscaler(model).upscale_picture(picture, scale=1.5)
    assert smaller.pixels.shape == exact.shape == (9, 12, 3)
    assert smaller.resolution == (108, 54)


def test_macs_of_the_released_network():
    assert macs_per_pixel(ModelConfig()) / 10 == pytest.approx(1.52e6, rel=5e-3)
    erd = ERDConfig(features=32, num_blocks=2, feedback_steps=0, kernel_size=3, resolution="lr", weight_norm=False)
    config = ModelConfig(data_term="matlab_bicubic", prior=erd)
    expected = (9 * (51 * 32 + 32 * 48) + 4 * 9 * 32 * 32) / 16
    assert macs_per_pixel(config, 3) == pytest.approx(3 * expected)


def test_load(model, tmp_path):
    save_model(tmp_path / "model.safetensors", model)
    lr = pictures(4, 4, 3).astype(np.uint8)
    sr = isr_jax.load(tmp_path).upscale(lr)
    np.testing.assert_array_equal(sr, Upscaler(model).upscale(lr))
    with pytest.raises(ConfigError, match="no model"):
        isr_jax.load("no-such-model")


def test_all_devices_share_a_batch(tmp_path):
    script = """
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 4)
from flax import nnx
from isr_jax.config import ERDConfig, ModelConfig
from isr_jax.inference.upscaler import Upscaler
from isr_jax.solver.unrolled import ISRResCNet
erd = ERDConfig(features=4, num_blocks=1, feedback_steps=0, kernel_size=3)
model = ISRResCNet(ModelConfig(scale=2, num_stages=1, data_term="none", prior=erd), rngs=nnx.Rngs(0))
upscaler, lr = Upscaler(model), np.random.default_rng(0).uniform(0, 255, (6, 5, 7, 3)).astype(np.float32)
together = upscaler.upscale_batch(lr)
apart = np.concatenate([upscaler.upscale_batch(one[None]) for one in lr])
np.testing.assert_allclose(together, apart, atol=2e-3)
assert {key[0][0] for key in upscaler._programs} == {8, 1}
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
