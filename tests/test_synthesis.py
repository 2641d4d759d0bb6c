import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from isr_jax.config import ConfigError, SynthesisConfig
from isr_jax.physics.kernels import gaussian_kernel
from isr_jax.physics.resize import imresize
from isr_jax.physics.synthesis import compress_jpeg, synthesize

SCALE = 2


@pytest.fixture(scope="module")
def hr():
    coarse = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 3)).astype(np.uint8)
    return jnp.asarray(np.stack([imresize(p, 4) for p in coarse]))


def keys(seed=0, count=3):
    return jax.random.split(jax.random.key(seed), count)


def made(hr, seed=0, **ranges):
    return np.asarray(synthesize(hr, keys(seed, len(hr)), SCALE, SynthesisConfig(**ranges)), np.float32)


def test_without_blur_noise_and_jpeg_it_is_imresize(hr):
    expected = np.stack([imresize(np.asarray(p), 1 / SCALE) for p in hr]).astype(np.float32)
    difference = np.abs(made(hr) - expected)
    assert difference.max() <= 2  # imresize rounds between its two passes
    assert difference.mean() < 0.3


@pytest.mark.parametrize("angle", [0.0, 0.6, np.pi / 2])
def test_a_gaussian_kernel_has_its_moments(angle):
    kernel = np.asarray(gaussian_kernel(jnp.array([2.0, 1.0]), jnp.float32(angle), 9), np.float64)
    offsets = np.arange(-9, 10)
    y, x = np.meshgrid(offsets, offsets, indexing="ij")
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = turn @ np.diag([4.0, 1.0]) @ turn.T
    moments = [[(kernel * a * b).sum() for b in (x, y)] for a in (x, y)]
    np.testing.assert_allclose(moments, expected, atol=0.02)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)


def test_blur_noise_and_jpeg_act_in_their_ranges(hr):
    plain = made(hr)
    assert made(hr, blur_std=(2.0, 2.0)).std() < plain.std()
    noise = made(jnp.full((8, 32, 32, 3), 128, jnp.uint8), noise_std=(10.0, 10.0)) - 128
    assert noise.std() == pytest.approx(10, rel=0.05)
    low, high = (np.abs(made(hr, jpeg_quality=(q, q)) - plain).mean() for q in (10.0, 95.0))
    assert low > high > 0
    ranges = {"blur_std": (0.2, 2.0), "anisotropic": True, "noise_std": (0.0, 5.0), "jpeg_quality": (30.0, 90.0)}
    np.testing.assert_array_equal(made(hr, **ranges), made(hr, **ranges))
    assert (made(hr, seed=1, **ranges) != made(hr, **ranges)).any()


@pytest.mark.parametrize("quality", [20, 75])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_a_file_makes_of_it(hr, quality, channels):
    pixels = np.asarray(hr[0])[:, :, :channels]
    file = io.BytesIO()
    options = {"subsampling": 0} if channels == 3 else {}
    Image.fromarray(pixels.squeeze()).save(file, "JPEG", quality=quality, **options)
    expected = np.asarray(Image.open(file), np.float32).reshape(pixels.shape)
    ours = np.asarray(compress_jpeg(jnp.asarray(pixels, jnp.float32), float(quality)))
    # libjpeg rounds in other places, which moves a coefficient on the edge of two steps now and then.
    assert np.abs(ours - expected).mean() < min(0.5, 0.2 * np.abs(expected - pixels).mean())


@pytest.mark.parametrize(
    "ranges", [{"blur_std": (2.0, 1.0)}, {"noise_std": (-1.0, 1.0)}, {"jpeg_quality": (0.0, 101.0)}]
)
def test_ranges_are_checked(ranges):
    with pytest.raises(ConfigError, match=next(iter(ranges))):
        SynthesisConfig(**ranges)
