"""isr_jax.physics.jpeg against the files that Pillow writes."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from isr_jax.physics.jpeg import compress_jpeg
from isr_jax.physics.resize import imresize


@pytest.fixture(scope="module")
def hr():
    coarse = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 3)).astype(np.uint8)
    return jnp.asarray(np.stack([imresize(p, 4) for p in coarse]))


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
