"""Pictures of other libraries through DLPack."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from isr_jax.inference.arrays import array_of
from isr_jax.inference.upscaler import load


class Foreign:
    """An array of a library of which nothing is known but DLPack."""

    def __init__(self, array):
        self._array, self.ndim = array, array.ndim

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class Standard(Foreign):
    """One that names its library, as the array API asks for."""

    def __array_namespace__(self):
        return jnp


class Attached(Foreign):
    """One that refuses, as tensors do that require a gradient."""

    def __dlpack__(self, **options):
        raise BufferError("use tensor.detach()")


@pytest.fixture(scope="module")
def model():
    return load("isr-lite-x2")


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 9, 8, 3), np.uint8)


def test_memory_is_shared(pixels):
    assert np.shares_memory(array_of(Foreign(pixels)), pixels)


def test_all_kinds_give_the_same_and_their_own_kind(model, pixels):
    expected = model.upscale(pixels[0])
    for picture, kind in [
        (pixels[0], np.ndarray),
        (jnp.asarray(pixels[0]), np.ndarray),
        (Foreign(pixels[0]), np.ndarray),
        (Foreign(jnp.asarray(pixels[0])), np.ndarray),
        (Standard(pixels[0]), jax.Array),
        (Image.fromarray(pixels[0]), Image.Image),
    ]:
        got = model(picture)
        assert isinstance(got, kind)
        np.testing.assert_array_equal(np.asarray(got), expected)


def test_a_batch_is_called_as_a_picture_is(model, pixels):
    expected = np.stack([model.upscale(p) for p in pixels]).astype(int)
    for batch, kind in [(pixels, np.ndarray), (jnp.asarray(pixels), np.ndarray), (Standard(pixels), jax.Array)]:
        got = model(batch)
        assert isinstance(got, kind)
        assert got.dtype == np.uint8
        assert np.abs(np.asarray(got).astype(int) - expected).max() <= 1  # where a value falls on a half
    floats = pixels.astype(np.float32) / 255
    np.testing.assert_array_equal(model(floats, value_range=1), model.upscale_batch(floats, value_range=1))


def test_what_cannot_be_shared_is_named(model, pixels):
    with pytest.raises(TypeError, match=r"Attached that cannot be shared by DLPack \(use tensor.detach\(\)\)"):
        model(Attached(pixels[0]))
    with pytest.raises(TypeError, match="a picture is an array, a Pillow image or a path, not dict"):
        model({})
