"""isr_jax.pictures.metrics: against scikit-image and against the definitions."""

import math

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from skimage.transform import downscale_local_mean

from isr_jax.pictures.metrics import (
    METRICS,
    MS_SSIM_WEIGHTS,
    crop_border,
    ms_ssim,
    psnr,
    rgb_to_luma,
    round_to_8_bits,
    score_picture,
    ssim,
)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    reference = np.cumsum(rng.normal(0, 9, (40, 33, 3)), axis=1) + 128
    reference = np.clip(reference, 0, 255).astype(np.uint8)
    image = np.clip(reference + rng.normal(0, 12, reference.shape), 0, 255).astype(np.uint8)
    return image, reference


def test_psnr_is_scikit_images(pair):
    assert psnr(*pair) == pytest.approx(peak_signal_noise_ratio(pair[1], pair[0], data_range=255), abs=1e-9)
    assert psnr(pair[0] / 255, pair[1] / 255, data_range=1) == pytest.approx(psnr(*pair), abs=1e-9)
    assert psnr(pair[0], pair[0]) == math.inf


def test_ssim_is_scikit_images(pair):
    for channels in (slice(0, 1), slice(0, 3)):
        image, reference = (x[..., channels] for x in pair)
        result = structural_similarity(
            image,
            reference,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            channel_axis=2,
            full=True,
        )
        expected = np.asarray(result[1])[5:-5, 5:-5].mean()  # pyright: ignore
        assert ssim(image, reference) == pytest.approx(expected, abs=1e-9)
    assert ssim(pair[0][..., 0], pair[1][..., 0]) == pytest.approx(ssim(pair[0][..., :1], pair[1][..., :1]))
    assert ssim(pair[0], pair[0]) == pytest.approx(1)


def test_ssim_of_one_window_is_the_formula(pair):
    x, y = (p[:11, :11, 0].astype(float) for p in pair)
    window = np.exp(-(np.add.outer(np.arange(-5, 6) ** 2, np.arange(-5, 6) ** 2)) / (2 * 1.5**2))
    window /= window.sum()
    mean_x, mean_y = (window * x).sum(), (window * y).sum()
    var_x, var_y = (window * (x - mean_x) ** 2).sum(), (window * (y - mean_y) ** 2).sum()
    cov = (window * (x - mean_x) * (y - mean_y)).sum()
    c1, c2 = 2.55**2, 7.65**2
    expected = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    assert ssim(x, y) == pytest.approx(expected, abs=1e-9)


def make_large_pair(height: int, width: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    reference = np.clip(np.cumsum(rng.normal(0, 9, (height, width, channels)), axis=1) + 128, 0, 255).astype(np.uint8)
    return np.clip(reference + rng.normal(0, 20, reference.shape), 0, 255).astype(np.uint8), reference


def test_ms_ssim_is_the_product_of_scikit_images_pieces():
    image, reference = (x.astype(float) for x in make_large_pair(176, 192, 3))
    product, settings = 1, {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        # A large K1 makes the luminance term 1: contrast and structure alone.
        k1 = 0.01 if scale == 4 else 1e9
        result = structural_similarity(image, reference, K1=k1, channel_axis=2, full=True, **settings)
        product = product * np.asarray(result[1])[5:-5, 5:-5].mean(axis=(0, 1)) ** weight  # pyright: ignore
        image, reference = (downscale_local_mean(x, (2, 2, 1)) for x in (image, reference))
    assert ms_ssim(*make_large_pair(176, 192, 3)) == pytest.approx(np.mean(product), abs=1e-9)


def test_ms_ssim_is_tensorflows():
    """tf.image.ssim_multiscale (2.21), float32 inside, on these pictures; sides that 16 does not divide."""
    assert ms_ssim(*make_large_pair(176, 201, 3)) == pytest.approx(0.9801223, abs=5e-6)
    assert ms_ssim(*make_large_pair(256, 192, 1)) == pytest.approx(0.9801445, abs=5e-6)


def test_ms_ssim_ends_at_nought_and_one():
    image, reference = make_large_pair(180, 176, 1)
    assert ms_ssim(reference, reference) == pytest.approx(1)
    assert ms_ssim(255 - reference, reference) == 0  # whose structure is negative
    assert ms_ssim(image / 255, reference / 255, data_range=1) == pytest.approx(ms_ssim(image, reference))


def test_luma_has_the_limited_range():
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_allclose(rgb_to_luma(colours), [[16, 235, 81.481, 144.553, 40.966]], atol=1e-9)


def test_grey_counts_as_rgb_with_equal_channels():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = rgb_to_luma(np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_allclose(rgb_to_luma(grey), expected, atol=1e-9)
    np.testing.assert_allclose(rgb_to_luma(grey[..., None]), expected, atol=1e-9)


def test_crop_border():
    image = np.arange(5 * 7 * 3).reshape(5, 7, 3)
    np.testing.assert_array_equal(crop_border(image, 2), image[2:3, 2:5])
    np.testing.assert_array_equal(crop_border(image, 0), image)


def test_says_what_it_cannot_compare(pair):
    image, reference = pair
    for measure in (psnr, ssim, ms_ssim):
        with pytest.raises((ValueError, TypeCheckError)):  # which of the two depends on whether shapes are checked
            measure(image, reference[1:])
        with pytest.raises(ValueError, match="pixels"):
            measure(image[:0], reference[:0])
    with pytest.raises(ValueError, match="11x11"):
        ssim(image[:10], reference[:10])
    with pytest.raises(ValueError, match="176x176 pixels, not 40x33"):
        ms_ssim(image, reference)
    with pytest.raises(ValueError, match="RGB or grey"):
        rgb_to_luma(image[..., :2])
    with pytest.raises(ValueError, match="border of 3"):
        crop_border(image[:6], 3)


def test_a_score_is_the_field_s(pair):
    image, truth = pair
    scores = score_picture(image, truth, 4)
    luma, luma_truth = (rgb_to_luma(x[4:-4, 4:-4]) for x in pair)
    assert list(scores) == list(METRICS)
    assert scores["psnr_y"] == psnr(luma, luma_truth)
    assert scores["ssim_y"] == ssim(luma, luma_truth)
    assert scores["ssim_y_rounded"] == ssim(np.round(luma), np.round(luma_truth))
    assert scores["psnr_rgb"] == psnr(image[4:-4, 4:-4], truth[4:-4, 4:-4])
    assert score_picture(image, truth, 4, ("ssim_y",)) == {"ssim_y": scores["ssim_y"]}
    assert score_picture(image[:14], truth[:14], 2)["ssim_rgb"] is None
    assert score_picture(image, image, 4)["psnr_y"] == math.inf
    with pytest.raises(ValueError, match="lpips is no metric"):
        score_picture(image, truth, 4, ("lpips",))


def test_halves_are_rounded_up():
    values = np.array([-1, 0.49, 0.5, 1.5, 2.5, 254.5, 300], np.float32)
    np.testing.assert_array_equal(round_to_8_bits(values), [0, 0, 1, 2, 3, 255, 255])
