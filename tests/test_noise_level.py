import jax.numpy as jnp
import numpy as np
import pytest
import reference

from isr_jax.physics.noise_level import DB7_HIGH_PASS, estimate_noise_std, measure_noise_std


def test_estimates_the_level_of_white_noise_on_a_smooth_picture():
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, 256)[:, None, None] + np.linspace(0, 50, 256)[None, :, None] + np.zeros(3)
    for std in (1.0, 5.0, 20.0):
        noisy = ramp + rng.normal(0, std, ramp.shape)
        estimate = estimate_noise_std(jnp.asarray(noisy[None], jnp.float32))
        np.testing.assert_allclose(estimate, [std], rtol=0.03)


@pytest.mark.parametrize("shape", [(16, 17, 3), (21, 8, 1), (33, 40, 3)])
def test_agrees_with_the_definition_written_out(shape):
    image = np.random.default_rng(1).uniform(0, 255, shape).astype(np.float32)
    np.testing.assert_allclose(
        estimate_noise_std(jnp.asarray(image[None])), [reference.noise_std(image, DB7_HIGH_PASS)], rtol=1e-5
    )


def test_each_image_has_its_own_level_and_scales_with_its_unit():
    images = np.random.default_rng(2).uniform(0, 255, (3, 20, 24, 3)).astype(np.float32)
    together = estimate_noise_std(jnp.asarray(images))
    alone = [float(estimate_noise_std(jnp.asarray(image[None]))[0]) for image in images]
    np.testing.assert_allclose(together, alone, rtol=1e-6)
    np.testing.assert_allclose(estimate_noise_std(jnp.asarray(images / 255)), together / 255, rtol=1e-5)


def test_the_filter_is_an_orthonormal_high_pass_with_seven_vanishing_moments():
    taps = np.arange(14.0)
    assert np.sum(DB7_HIGH_PASS**2) == pytest.approx(1, abs=1e-12)
    for moment in range(7):
        assert np.sum(DB7_HIGH_PASS * (taps / 13) ** moment) == pytest.approx(0, abs=1e-9)


def test_tiny_and_constant_pictures_have_a_finite_level():
    assert float(estimate_noise_std(jnp.full((1, 40, 40, 3), 7.0))[0]) == pytest.approx(0, abs=1e-5)
    assert np.isfinite(estimate_noise_std(jnp.ones((1, 1, 1, 3)))).all()


@pytest.mark.parametrize("shape", [(2, 31, 40, 3), (1, 1, 7, 1), (1, 1, 1, 3)])
def test_numpy_measures_the_same(shape):
    images = np.random.default_rng(0).uniform(0, 255, shape).astype("f4")
    np.testing.assert_allclose(measure_noise_std(images), estimate_noise_std(jnp.asarray(images)), rtol=1e-5)
