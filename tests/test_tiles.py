"""isr_jax.inference.tiles: windows that waste little, and take every pixel once."""

import jax
import numpy as np
import pytest
from random_model import random_model

from isr_jax.config import ERDConfig, ModelConfig
from isr_jax.inference.tiles import (
    MAX_SHAPES,
    MAX_WORK,
    ROUNDING,
    Window,
    choose_window,
    cover,
    least_window,
    share_window,
    upscale_windows,
    work_factor,
)
from isr_jax.models.model_file import load_model

MAX_PIXELS = 2**24 // 48  # what a window of isr-lite may have


@pytest.mark.parametrize("size", [(540, 960), (960, 540), (640, 640), (1080, 1920), (2160, 3840), (4000, 6000)])
def test_the_work_is_little_more_than_the_picture(size):
    window = choose_window(size, 40, MAX_PIXELS)
    assert window[0] * window[1] <= 4 * MAX_PIXELS
    assert work_factor(size, window, 40) <= 1.25
    assert window[0] * window[1] <= MAX_PIXELS or max(size) > 1000


def test_what_fits_is_not_cut():
    for size in ((1, 1), (500, 600), (3, 100_000)):
        assert choose_window(size, 40, MAX_PIXELS) == size
        assert work_factor(size, size, 38) == 1


def test_the_least_work_of_all_windows():
    size, halo, limit = (300, 410), 10, 20_000
    windows = [(rows, cols) for rows in range(21, 301) for cols in range(21, 411) if rows * cols <= limit]
    best = min(work_factor(size, window, halo) for window in windows)
    assert best <= MAX_WORK
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


def test_many_sizes_share_few_windows():
    rng, known = np.random.default_rng(0), {}
    for low, high in ((1, 60), (20, 500), (500, 3000)):
        for size in rng.integers(low, high, (100, 2)).tolist():
            window = share_window(tuple(size), 40, MAX_PIXELS, known, pad=True)
            known[window] = None
            assert work_factor(tuple(size), window[:2], 40, window.padded) < np.inf
    assert len(known) == MAX_SHAPES
    assert [window.padded for window in known] == [False] * 4 + [True] * 8
    first = next(iter(known))
    assert share_window(first[:2], 40, MAX_PIXELS, known, pad=True) == first
    assert share_window((1, 20_000), 40, MAX_PIXELS, known, pad=True) in known
    assert share_window((77, 78), 40, MAX_PIXELS, known, pad=False) == Window(77, 78)


def test_a_picture_alone_has_a_window_of_its_own():
    assert share_window((64, 64), 40, MAX_PIXELS, {}, pad=True) == Window(64, 64)
    assert share_window((64, 65), 40, MAX_PIXELS, {Window(64, 64): None}, pad=True) == Window(64, 65)
    assert work_factor((64, 64), (96, 64), 40) == np.inf  # not without padding
    assert work_factor((200, 64), (80, 64), 40) == np.inf  # nothing but halo


@pytest.mark.parametrize("limit", [1, 50_000, 100_000, 600_000])
def test_no_window_is_larger_than_the_memory_allows(limit):
    known = {Window(500, 600): None, Window(300, 300, padded=True): None}
    for size in ((1080, 1920), (4000, 6000), (100, 30_000), (250, 300)):
        for windows in ({}, known, {Window(400 + n, 410): None for n in range(MAX_SHAPES - 1)}):
            for pad in (True, False):
                height, width, _ = share_window(size, 40, MAX_PIXELS, windows, pad=pad, limit=limit)
                assert height * width <= max(limit, least_window(40)) * ROUNDING**2 * 1.1  # sides are rounded up
                assert work_factor(size, (height, width), 40, pad) < np.inf
    assert choose_window((1080, 1920), 40, MAX_PIXELS, limit=10**9) == choose_window((1080, 1920), 40, MAX_PIXELS)


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


@pytest.mark.parametrize(
    ("scale", "options", "erd"),
    [
        (4, {"final_data_step": True}, {"resolution": "lr", "num_blocks": 2}),
        (3, {"num_stages": 2}, {"resolution": "lr", "kernel_size": 5}),
        (2, {"physics": "decimation"}, {"resolution": "hr", "num_blocks": 2}),
        (3, {"physics": "decimation"}, {"resolution": "hr", "feedback_steps": 2, "num_blocks": 1}),
        (2, {"physics": "box", "num_stages": 2}, {"resolution": "lr", "carry_features": True}),
    ],
)
def test_the_reach_is_what_an_output_pixel_sees(scale, options, erd):
    """A pixel that is not a number spoils every pixel that depends on it, however little, and no other."""
    plain = {"feedback_steps": 0, "kernel_size": 3, "num_blocks": 1, "features": 4, "border": "zero"}
    fixed = {"scale": scale, "num_stages": 1, "physics": "bicubic", "projection": False, "clip": False}
    model = random_model(ModelConfig(**(fixed | options), prior=ERDConfig(**(plain | erd))))
    reach, size = model.reach(), 81  # beyond DENSE_SIZE, where matrices would mix all pixels
    lr = np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)).astype(np.float32)
    lr[0, 40, 40] = np.nan
    spoilt = np.isnan(np.asarray(jax.jit(lambda model, lr: model(lr))(model, lr))).any((0, 3))
    blocks = np.argwhere(spoilt.reshape(size, scale, size, scale).any((1, 3)))
    seen = np.abs(blocks - 40).max()
    assert reach - 1 <= seen <= reach < 40  # a stage at HR resolution may start in the middle of an LR pixel
    if model.config.erd.resolution == "lr":
        assert seen == reach


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_reach_of_the_shipped_models(scale):
    model, size = load_model(f"isr-lite-x{scale}"), 97
    first = np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)).astype(np.float32)
    second = first.copy()
    second[0, 48, 48] = 255 - second[0, 48, 48]
    run = jax.jit(lambda model, lr: model(lr))
    changed = np.asarray(run(model, first) != run(model, second)).any((0, 3))
    blocks = np.argwhere(changed.reshape(size, scale, size, scale).any((1, 3)))
    seen = np.abs(blocks - 48).max()
    assert model.reach() == 40
    assert 37 <= seen <= 40  # the outermost weights are too small for float32 to show
