"""isr_jax.inference.sizes: what a picture becomes, and agreement with what was observed."""

import numpy as np
import pytest

import isr_jax
from isr_jax.config import ConfigError
from isr_jax.inference.bicubic import BicubicUpscaler
from isr_jax.inference.sizes import agree, choose_target
from isr_jax.physics.resize import imresize, resize_matrix
from isr_jax.pictures.picture import Picture


@pytest.mark.parametrize(
    ("wanted", "size", "kept"),
    [
        ({"scale": 1.5}, (150, 300), None),
        ({"scale": 0.001}, (1, 1), None),
        ({"size": (300, None)}, (150, 300), None),
        ({"size": (None, 30)}, (30, 60), None),
        ({"size": 400}, (200, 400), None),
        ({"size": (300, 300)}, (150, 300), None),
        ({"size": (300, 300), "fit": "cover"}, (300, 600), (300, 300)),
        ({"size": (300, 300), "fit": "stretch"}, (300, 300), None),
        ({"size": (400, 201), "fit": "cover"}, (201, 402), (201, 400)),
    ],
)
def test_targets(wanted, size, kept):
    target = choose_target((100, 200, 3), **wanted)
    assert target == (size, kept or size)
    assert target.cut(np.zeros((*target.size, 3))).shape == (*target.kept, 3)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({}, "`scale` and `size`"),
        ({"scale": 2, "size": 9}, "`scale` and `size`"),
        ({"scale": 0}, "`scale` is 0"),
        ({"scale": 2, "fit": "cover"}, "`fit` is 'cover', but no `size` is given"),
        ({"scale": float("nan")}, "`scale` is nan"),
        ({"size": 0}, "`size` is 0"),
        ({"size": (None, None)}, "`size` is"),
        ({"size": (3, 4), "fit": "crop"}, "choose contain, cover, stretch"),
    ],
)
def test_what_is_no_target(wanted, message, unchecked_shapes):
    with pytest.raises(ConfigError, match=message):
        choose_target((3, 4, 3), **wanted)


def test_agreement_is_the_minimum():
    """The minimum of 1/2 ||H x - y||^2 + w/2 ||x - z||^2, from its definition with one dense matrix."""
    rng = np.random.default_rng(0)
    z, y = rng.uniform(0, 255, (9, 12, 1)).astype("f4"), rng.uniform(0, 255, (6, 8, 1)).astype("f4")
    h, w = np.kron(resize_matrix(9, 6), resize_matrix(12, 8)), 0.1
    exact = np.linalg.solve(h.T @ h + w * np.eye(108), h.T @ y.reshape(-1) + w * z.reshape(-1))
    np.testing.assert_allclose(agree(z, y, w), exact.reshape(9, 12, 1), atol=0.3)
    x = imresize(imresize(z, 4), size=(45, 60))
    np.testing.assert_allclose(agree(x, imresize(x, size=(18, 24))), x, atol=0.01)  # it agrees already


def test_any_ratio_agrees_with_what_was_observed_and_is_nearer_to_the_truth():
    rng = np.random.default_rng(0)
    truth = (imresize(rng.uniform(size=(20, 26, 3)), 6) > 0.5).astype("f4") * 200
    lr = imresize(truth, size=(80, 104))
    model = isr_jax.load("isr-lite-x2")
    reduced = imresize(model.upscale(lr), size=truth.shape[:2])
    ours = model.upscale(lr, scale=1.5)
    assert ours.shape == truth.shape

    def far(a, b):
        return np.sqrt(np.mean((a - b)[4:-4, 4:-4] ** 2))

    assert far(imresize(ours, size=(80, 104)), lr) < 0.3 * far(imresize(reduced, size=(80, 104)), lr)
    assert far(ours, truth) < far(reduced, truth)
    np.testing.assert_array_equal(model.upscale(lr, size=(156, 120)), ours)
    told = model.upscale(lr, scale=1.5, blur=0.01)  # another camera: no more than reduced
    assert told.shape == truth.shape


def test_every_size_of_a_picture():
    model, rng = isr_jax.load("isr-lite-x2"), np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
    assert model.upscale(pixels, size=(50, 40)).shape == (33, 50, 3)
    assert model.upscale(pixels, size=(40, 40), fit="cover").shape == (40, 40, 3)
    assert model.upscale(pixels, size=(60, 10), fit="stretch").shape == (10, 60, 3)
    assert model.upscale(pixels[:, :, 0], size=45).shape == (30, 45)
    before = model.compilations + model.cache_hits
    np.testing.assert_array_equal(model.upscale(pixels, scale=0.5), np.round(imresize(pixels.astype("f4"), 0.5)))
    np.testing.assert_array_equal(model.upscale(pixels, scale=1), pixels)
    assert model.compilations + model.cache_hits == before  # no network shrinks
    with pytest.raises(ConfigError, match="by 3 is asked for; .* made for x2, and can do no more"):
        model.upscale(pixels, size=90)
    picture = Picture(pixels=pixels, alpha=pixels[..., 0], resolution=(72, 72))
    for upscaler in (model, BicubicUpscaler(2)):
        result, exact = upscaler.upscale_picture(picture, exact=True, size=(40, 40), fit="cover")
        assert result.alpha is not None
        assert result.pixels.shape == exact.shape == (40, 40, 3)
        assert result.alpha.shape == (40, 40)
        assert result.resolution == (144, 144)
