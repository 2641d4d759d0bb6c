"""isr_jax.physics.jpeg against the files that Pillow writes."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from isr_jax import Bicubic, Blur, Decimation
from isr_jax.config import ConfigError
from isr_jax.physics.jpeg import Jpeg, compress_jpeg
from isr_jax.physics.physics import Turned
from isr_jax.physics.resize import imresize


@pytest.fixture(scope="module")
def hr():
    coarse = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 3)).astype(np.uint8)
    return jnp.asarray(np.stack([imresize(p, 4) for p in coarse]))


@pytest.mark.parametrize("quality", [20, 75])
@pytest.mark.parametrize(("channels", "subsampled"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("size", [(24, 24), (21, 19)])
def test_jpeg_is_what_a_file_makes_of_it(hr, quality, channels, subsampled, size):
    pixels = np.asarray(hr[0])[: size[0], : size[1], :channels]
    file = io.BytesIO()
    options = {"subsampling": 2 * subsampled} if channels == 3 else {}
    Image.fromarray(pixels.squeeze()).save(file, "JPEG", quality=quality, **options)
    expected = np.asarray(Image.open(file), np.float32).reshape(pixels.shape)
    ours = np.asarray(compress_jpeg(jnp.asarray(pixels, jnp.float32), float(quality), subsampled=subsampled))
    # libjpeg rounds in other places, which moves a coefficient on the edge of two steps now and then.
    limit = 1.1 if subsampled or size[0] % 8 else 0.5
    assert np.abs(ours - expected).mean() < min(limit, 0.2 * np.abs(expected - pixels).mean())


def test_as_a_physics_it_is_the_identity_and_knows_how_large_the_error_is(hr):
    physics = Jpeg([10, 50, np.inf]) @ Decimation(2) @ Blur(np.ones((3, 3)) / 9)
    plain = Decimation(2) @ Blur(np.ones((3, 3)) / 9)
    np.testing.assert_array_equal(physics.apply(hr * 1.0), plain.apply(hr * 1.0))
    np.testing.assert_array_equal(physics.as_blur().kernel, plain.as_blur().kernel)
    levels = np.asarray(physics.error_std)
    assert levels[0] > levels[1] > levels[2] == 0
    np.testing.assert_array_equal(Turned(inner=physics, turns=1, flip=False).error_std, levels)
    assert plain.error_std is None
    assert (physics.axes().outer.outer.quality, Jpeg(50).axes().quality) == (0, None)
    assert Bicubic(2).error_std is None


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90])
def test_the_error_of_a_photograph_has_the_level_that_is_told(shared, quality):
    errors = []
    for path in sorted((shared / "data" / "bsds400").glob("*"))[::33]:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        small = imresize(pixels[: len(pixels) // 4 * 4, : pixels.shape[1] // 4 * 4], 1 / 4)
        file = io.BytesIO()
        Image.fromarray(small).save(file, "JPEG", quality=quality)
        errors.append(np.mean((np.asarray(Image.open(file), np.float64) - small) ** 2))
    assert 0.67 < Jpeg(quality).error_std[0] / np.sqrt(np.mean(errors)) < 1.33


@pytest.mark.parametrize("quality", [0, 101, [50, np.nan], [[50]]])
def test_what_is_no_quality_is_refused(quality):
    with pytest.raises(ConfigError, match="`quality` of a JPEG"):
        _ = Jpeg(quality).error_std
