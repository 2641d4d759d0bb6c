"""What came later than a blur: found, taken off, and put around the enlarged picture again."""

import numpy as np
import pytest
from random_model import SEVERAL, random_model

from isr_jax.config import ConfigError, ModelConfig
from isr_jax.inference.frame import NO_FRAME, check_frame, continued, find_frame, put_frame, steps_inward
from isr_jax.inference.upscaler import Upscaler


def texture(height=24, width=30, channels=3):
    return np.random.default_rng(0).integers(1, 255, (height, width, channels), np.uint8)


def test_bars_margins_and_mats_are_found():
    inside = texture()
    assert find_frame(inside) == NO_FRAME
    bars = np.pad(inside, ((5, 3), (0, 0), (0, 0)))
    assert find_frame(bars) == (5, 3, 0, 0)
    assert find_frame(bars.swapaxes(0, 1)) == (0, 0, 5, 3)
    mat = np.pad(np.pad(inside, ((4, 4), (6, 7), (0, 0)), constant_values=255), ((2, 2), (2, 0), (0, 0)))
    assert find_frame(mat) == (6, 6, 8, 7)
    assert (mat[find_frame(mat).inside(mat.shape)] == inside).all()


def test_a_sky_of_many_colours_is_no_frame():
    sky = np.broadcast_to(np.arange(20, dtype=np.uint8)[:, None, None], (20, 30, 3))
    assert find_frame(np.concatenate([sky, texture()]))[0] == 2


@pytest.mark.parametrize("flat", [np.zeros((8, 9, 1), np.uint8), np.repeat(np.eye(2, dtype=np.uint8), 5, 0)[..., None]])
def test_something_is_left(flat):
    assert find_frame(flat[:, :1].repeat(9, axis=1)) == NO_FRAME
    assert find_frame(flat[:, :1].repeat(9, axis=1).swapaxes(0, 1)) == NO_FRAME


def test_steps_are_those_on_the_way_in():
    inside = np.full((10, 12, 1), 100, np.uint8)
    inside[0], inside[:, -1] = 110, 130
    picture = np.pad(inside, ((3, 0), (0, 2), (0, 0)), constant_values=40)
    steps = steps_inward(picture, find_frame(picture)._replace(top=3, bottom=0, left=0, right=2), 3)
    np.testing.assert_array_equal(steps, [90, 30, 0])


def test_what_is_continued_and_framed_again_is_the_picture():
    picture = np.pad(texture(), ((5, 0), (9, 4), (0, 0)), constant_values=7)
    frame = find_frame(picture)
    mirrored = continued(picture, frame)
    np.testing.assert_array_equal(mirrored[4::-1, 9:-4], texture()[:5])
    put_frame(mirrored, picture, frame)
    np.testing.assert_array_equal(mirrored, picture)
    for shape in ((58, 86, 3), (44, 65, 3)):
        larger = np.full(shape, 200.0)
        put_frame(larger, picture, frame)
        where = frame.inside(shape, picture.shape)
        assert (larger[where] == 200).all()
        assert (larger == 7).sum() == larger.size - larger[where].size


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


@pytest.mark.parametrize("frame", [(1, 2, 3), (12, 12, 0, 0), (-1, 0, 0, 0), (0.5, 0, 0, 0)])
def test_frames_that_leave_nothing_are_refused(frame):
    with pytest.raises(ConfigError, match="leave something of a picture of 30x24"):
        check_frame(frame, texture().shape)
