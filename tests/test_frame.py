"""What came later than a blur: found, taken off, and put around the enlarged picture again."""

import numpy as np
import pytest
from random_model import SEVERAL, random_model

from isr_jax.config import ConfigError, ModelConfig
from isr_jax.inference.frame import Frame, check_frame, continued, find_layers, later_frame, put_frame, steps_inward
from isr_jax.inference.upscaler import Upscaler


def texture(height=24, width=30, channels=3):
    return np.random.default_rng(0).integers(1, 255, (height, width, channels), np.uint8)


def test_bars_margins_and_mats_are_found():
    inside = texture()
    assert find_layers(inside) == []
    bars = np.pad(inside, ((5, 3), (0, 0), (0, 0)))
    assert find_layers(bars) == [(5, 3, 0, 0)]
    assert find_layers(bars.swapaxes(0, 1)) == [(0, 0, 5, 3)]
    mat = np.pad(np.pad(inside, ((4, 4), (6, 7), (0, 0)), constant_values=255), ((2, 2), (2, 0), (0, 0)))
    outer, whole = find_layers(mat)
    assert (outer, whole) == ((2, 2, 2, 7), (6, 6, 8, 7))
    assert (mat[whole.inside(mat.shape)] == inside).all()


def test_a_sky_of_many_colours_is_hardly_a_frame():
    sky = np.broadcast_to(np.arange(20, dtype=np.uint8)[:, None, None], (20, 30, 3))
    assert find_layers(np.concatenate([sky, texture()]))[-1] == (2, 0, 0, 0)


@pytest.mark.parametrize("flat", [np.zeros((600, 9, 1), np.uint8), np.eye(2, dtype=np.uint8)[..., None].repeat(300, 0)])
def test_something_is_left(flat):
    stripes = flat[:, :1].repeat(9, axis=1)
    assert find_layers(stripes) == find_layers(stripes.swapaxes(0, 1)) == []


def test_steps_are_those_on_the_way_in():
    inside = np.full((10, 12, 1), 100, np.uint8)
    inside[0], inside[:, -1] = 110, 130
    picture = np.pad(inside, ((3, 0), (0, 2), (0, 0)), constant_values=40)
    steps = steps_inward(picture, Frame(3, 0, 0, 2), 3)
    np.testing.assert_array_equal(steps, [[90, 10, 0], [0, 0, 0], [0, 0, 0], [90, 30, 0]])


def test_what_came_later_goes_up_to_the_last_steep_edge_of_each_side():
    """A photograph on white, all of it blurred, in a black line; and one with a later bar beside its own night."""
    soft = np.linspace(250, 180, 30)[None, :, None].repeat(20, axis=0) + np.arange(20)[:, None, None] % 3
    white = np.pad(soft, ((4, 4), (4, 4), (0, 0)), constant_values=255)
    product = np.pad(white, ((2, 2), (2, 2), (0, 0))).astype(np.uint8)
    steep = lambda step: step > 100  # noqa: E731
    assert find_layers(product) == [(2, 2, 2, 2), (6, 6, 6, 6)]
    assert later_frame(product, find_layers(product), steep) == (2, 2, 2, 2)
    assert later_frame(product, find_layers(product), lambda step: step > 255) is None
    night = np.pad(255 - white, ((0, 5), (0, 0), (0, 0)), constant_values=255).astype(np.uint8)
    assert later_frame(night, find_layers(night), steep) == (0, 5, 0, 0)


def test_what_is_continued_and_framed_again_is_the_picture():
    picture = np.pad(texture(), ((5, 0), (9, 4), (0, 0)), constant_values=7)
    frame = find_layers(picture)[0]
    mirrored = continued(picture, frame)
    np.testing.assert_array_equal(mirrored[4::-1, 9:-4], texture()[:5])
    put_frame(mirrored[None], picture[None], frame)
    np.testing.assert_array_equal(mirrored, picture)
    for shape in ((58, 86, 3), (44, 65, 3)):
        larger = np.full(shape, 200.0)
        put_frame(larger[None], picture[None], frame)
        where = frame.inside(shape, picture.shape)
        assert (larger[where] == 200).all()
        assert (larger == 7).sum() == larger.size - larger[where].size


def test_thin_lines_are_as_wide_on_either_side():
    picture = np.pad(
        np.pad(texture(20, 20, 1), ((7, 7), (7, 7), (0, 0)), constant_values=255), ((1, 1), (1, 1), (0, 0))
    )
    frame = find_layers(picture)[-1]
    for side in (54, 72, 90):
        larger = np.zeros((side, side, 1), np.uint8)
        put_frame(larger[None], picture[None], frame)
        middle = larger[side // 2, :, 0].astype(int)
        assert (255 - middle[: side // 12]).sum() == pytest.approx(255 * side / 36, abs=1)
        np.testing.assert_array_equal(middle[: side // 12], middle[-(side // 12) :][::-1])


@pytest.mark.parametrize("wanted", [{}, {"scale": 1.5}, {"size": (50, 50), "fit": "cover"}])
def test_inside_it_is_enlarged_as_if_there_were_no_frame(wanted):
    upscaler, inside = Upscaler(random_model(ModelConfig(scale=2, **SEVERAL))), texture()
    mirrored = np.pad(inside, ((8, 8), (8, 8), (0, 0)), mode="symmetric")
    picture = np.pad(inside, ((8, 8), (8, 8), (0, 0)))
    expected = upscaler.upscale(mirrored, **wanted)
    result = upscaler.upscale(picture, frame=(8, 8, 8, 8), **wanted)
    assert result.shape == expected.shape
    seen = result != 0
    assert 0.1 < seen.mean() < 0.9
    np.testing.assert_array_equal(result[seen], expected[seen])


def test_a_batch_is_framed_too_and_a_reduction_is_reduced_with_its_frame():
    upscaler = Upscaler(random_model(ModelConfig(scale=2, **SEVERAL)))
    pictures = np.pad(np.stack([texture(), texture() // 2]), ((0, 0), (8, 8), (8, 8), (0, 0)))
    alone = np.stack([upscaler.upscale(picture, frame=(8, 8, 8, 8)) for picture in pictures])
    np.testing.assert_array_equal(upscaler(pictures, frame=(8, 8, 8, 8)), alone)
    small = upscaler.upscale(pictures[0], frame=(8, 8, 8, 8), scale=0.5)
    np.testing.assert_array_equal(small, upscaler.upscale(pictures[0], scale=0.5))
    with pytest.raises(ConfigError, match="`size` is of one picture"):
        upscaler(pictures, size=50)
    np.testing.assert_array_equal(upscaler(pictures, scale=2.0), upscaler(pictures, scale=2))


@pytest.mark.parametrize(
    "frame",
    ["abcd", 5, (None, 0, 0, 0), (float("nan"), 0, 0, 0), (1, 2, 3), (12, 12, 0, 0), (-1, 0, 0, 0), (0.5, 0, 0, 0)],
)
def test_frames_that_leave_nothing_are_refused(frame):
    with pytest.raises(ConfigError, match="leave something of a picture of 30x24"):
        check_frame(frame, texture().shape)
