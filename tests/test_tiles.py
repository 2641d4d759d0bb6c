"""isr_jax.inference.tiles: windows that waste little, and take every pixel once."""

import numpy as np
import pytest

from isr_jax.inference.tiles import choose_window, cover, upscale_windows, work_factor

MAX_PIXELS = 2**24 // 48  # what a window of isr-lite may have


@pytest.mark.parametrize("size", [(540, 960), (960, 540), (640, 640)])
def test_the_work_is_little_more_than_the_picture(size):
    window = choose_window(size, 38, MAX_PIXELS)
    assert window[0] * window[1] <= MAX_PIXELS
    assert work_factor(size, window, 38) <= 1.25


def test_what_fits_is_not_cut():
    for size in ((1, 1), (500, 600), (3, 100_000)):
        assert choose_window(size, 38, MAX_PIXELS) == size
        assert work_factor(size, size, 38) == 1


def test_the_least_work_of_all_windows():
    size, halo, limit = (300, 410), 10, 20_000
    windows = [(rows, cols) for rows in range(21, 301) for cols in range(21, 411) if rows * cols <= limit]
    best = min(work_factor(size, window, halo) for window in windows)
    assert work_factor(size, choose_window(size, halo, limit), halo) == pytest.approx(best)


@pytest.mark.parametrize("halo", [0, 1, 38, 300])
def test_windows_cover_every_pixel_once_with_their_surroundings(halo):
    for side in (1, 10, 320, 599, 600, 601, 777, 2000):
        for other in (1, 50, 900):
            for max_pixels in (1, 10_000, 300_000):
                length, _ = choose_window((side, other), halo, max_pixels)
                spans = cover(side, length, halo)
                assert [span.first for span in spans] == [0] + [span.last for span in spans[:-1]]
                assert spans[-1].last == side
                for start, first, last in spans:
                    assert 0 <= start <= first < last <= start + length <= side
                    assert start == 0 or first - start >= halo
                    assert start + length == side or start + length - last >= halo


def test_windows_that_are_all_halo_are_refused():
    with pytest.raises(ValueError, match="not more than two halos"):
        cover(100, 20, 10)


def test_the_parts_are_put_together():
    lr = np.random.default_rng(0).uniform(size=(2, 30, 41, 3)).astype(np.float32)
    window = (12, 20)
    shapes = set()

    def enlarge(part):
        shapes.add(part.shape)
        blurred = part + np.roll(part, 1, axis=1)  # sees one pixel above; wrong in a window's first row
        return blurred.repeat(2, axis=1).repeat(2, axis=2)

    hr = upscale_windows(lr, enlarge, scale=2, window=window, halo=2)
    assert shapes == {(2, *window, 3)}
    np.testing.assert_array_equal(hr[:, 2:], enlarge(lr)[:, 2:])
