"""isr_jax.bands, and what is done in bands: the same as on the whole."""

import io

import numpy as np
import pytest

from isr_jax import bands as module
from isr_jax.bands import bands
from isr_jax.physics.resize import imresize
from isr_jax.pictures.encoding import save_image
from isr_jax.pictures.images import fill_transparent, read_image
from isr_jax.pictures.picture import Picture
from isr_jax.pictures.sixteen_bits import to_8_bits


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7,), (10, 4, 3), (5, 2_000_000), (3, 0)])
def test_every_row_once_and_in_order(shape):
    rows = [row for band in bands(shape) for row in range(shape[0])[band]]
    assert rows == list(range(shape[0]))
    assert all(band.stop > band.start for band in bands(shape))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bands_give_what_the_whole_gives(dtype, monkeypatch):
    rng, top = np.random.default_rng(0), np.iinfo(dtype).max
    pixels = rng.integers(0, top, (37, 41, 3), dtype, endpoint=True)
    alpha = rng.integers(0, top, (37, 41), dtype, endpoint=True) * (rng.uniform(size=(37, 41)) > 0.7).astype(dtype)
    alpha[3:30, 5:40] = 0
    picture = Picture(pixels=pixels, alpha=alpha)

    def results() -> list[np.ndarray]:
        made = [fill_transparent(pixels, alpha), to_8_bits(pixels)]
        for size in ((74, 82), (50, 20), (37, 90)):
            made += [imresize(of, size=size) for of in (pixels, alpha, pixels.astype(np.float32))]
        for image_format in ("PNG", "TIFF"):
            for compression in (0, 6):
                save_image(stream := io.BytesIO(), picture, image_format, compression=compression)
                made.append(again := read_image(stream.getvalue()).pixels)
                np.testing.assert_array_equal(again, pixels)
        return made

    whole = results()
    monkeypatch.setattr(module, "BAND", 200)
    for banded, expected in zip(results(), whole, strict=True):
        np.testing.assert_array_equal(banded, expected)
    assert (whole[0][alpha > 0] == pixels[alpha > 0]).all()
