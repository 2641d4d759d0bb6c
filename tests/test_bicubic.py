"""isr_jax.inference.bicubic: the baseline behaves as a model does, and is MATLAB's."""

import subprocess
import sys

import numpy as np
import pytest

from isr_jax.inference.bicubic import BicubicUpscaler
from isr_jax.physics.resize import imresize
from isr_jax.pictures.images import Picture

IMAGE = np.random.default_rng(0).integers(0, 256, (8, 9, 3)).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_it_is_imresize(dtype):
    image = IMAGE.astype(dtype)
    np.testing.assert_array_equal(BicubicUpscaler(3).upscale(image), imresize(image, 3))


def test_batches_of_8_bits_are_bit_exact():
    upscaler = BicubicUpscaler(4)
    [one, other] = upscaler.upscale_batches(np.stack([IMAGE, IMAGE[::-1]]))
    np.testing.assert_array_equal(one[0], imresize(IMAGE, 4).astype(np.float32))
    np.testing.assert_array_equal(other[0], imresize(IMAGE[::-1], 4).astype(np.float32))
    [stages] = upscaler.upscale_batches(IMAGE[None], all_stages=True)
    assert stages.shape == (1, 1, 32, 36, 3)
    [real] = upscaler.upscale_batches(IMAGE[None].astype(np.float32))
    assert not np.array_equal(real, np.round(real))
    assert upscaler.seconds > 0


def test_a_picture_keeps_what_belongs_to_it():
    picture = Picture(pixels=IMAGE, alpha=np.full(IMAGE.shape[:2], 128, np.uint8), resolution=(72, 72))
    result, exact = BicubicUpscaler(2.5).upscale_picture(picture, exact=True)
    assert result.pixels.shape == exact.shape == (20, 22, 3)
    assert result.alpha is not None
    assert np.all(result.alpha == 128)
    assert exact.dtype == np.float32
    deep = Picture(pixels=(IMAGE // 4 + np.uint16(96)) * np.uint16(257))
    deep, exact = BicubicUpscaler(2).upscale_picture(deep, exact=True, scale=3)
    assert deep.pixels.shape == (24, 27, 3)
    assert np.abs(deep.pixels / 257 - exact).max() < 0.01


def test_it_needs_no_jax():
    code = "import sys, isr_jax.inference.bicubic; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
