import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isr_jax.solver.proximal import noise_radius, project_l2_ball


def residual(seed, scale=1.0):
    return jnp.asarray(np.random.default_rng(seed).normal(0, scale, (2, 5, 6, 3)), jnp.float32)


def test_inside_the_ball_nothing_changes_outside_the_norm_is_the_radius():
    r = residual(0)
    norms = np.linalg.norm(np.asarray(r).reshape(2, -1), axis=1)
    np.testing.assert_allclose(project_l2_ball(r, jnp.asarray(norms * 1.01)), r, rtol=1e-6)
    projected = project_l2_ball(r, jnp.asarray([0.5, 2.0]))
    np.testing.assert_allclose(np.linalg.norm(np.asarray(projected).reshape(2, -1), axis=1), [0.5, 2.0], rtol=1e-5)


def test_it_is_the_nearest_point_of_the_ball():
    rng = np.random.default_rng(1)
    r = residual(1, 3.0)
    radius = jnp.asarray([1.0, 4.0])
    distance = np.linalg.norm(np.asarray(r - project_l2_ball(r, radius)).reshape(2, -1), axis=1)
    for _ in range(200):
        other = rng.normal(size=(2, 90))
        other *= (np.asarray(radius) * rng.uniform(0, 1, 2) / np.linalg.norm(other, axis=1))[:, None]
        assert (np.linalg.norm(np.asarray(r).reshape(2, -1) - other, axis=1) >= distance - 1e-4).all()


def test_it_is_idempotent_and_does_not_expand():
    a, b, radius = residual(2, 3.0), residual(3, 3.0), jnp.asarray([2.0, 2.0])
    once = project_l2_ball(a, radius)
    np.testing.assert_allclose(project_l2_ball(once, radius), once, rtol=1e-5)
    assert float(jnp.linalg.norm(once - project_l2_ball(b, radius))) <= float(jnp.linalg.norm(a - b))


@pytest.mark.parametrize("radius", [0.0, 1.0])
def test_value_and_gradient_are_finite_at_zero(radius):
    zero, radii = jnp.zeros((1, 4, 4, 3)), jnp.asarray([radius])
    assert (project_l2_ball(zero, radii) == 0).all()
    gradient = jax.grad(lambda r: jnp.sum(project_l2_ball(r, radii) * 2))(zero)
    np.testing.assert_allclose(gradient, 2.0 if radius else 0.0)
    assert np.isfinite(jax.grad(lambda e: jnp.sum(project_l2_ball(zero + 1, e)))(radii)).all()


def test_a_radius_of_zero_removes_nothing():
    assert (project_l2_ball(residual(4), jnp.zeros(2)) == 0).all()


def test_the_radius_is_the_expected_norm_of_the_noise():
    noise = np.random.default_rng(5).normal(0, 3.0, (1, 64, 64, 3))
    radius = noise_radius(jnp.asarray([3.0]), jnp.zeros(()), noise[0].size)
    np.testing.assert_allclose(radius, [np.linalg.norm(noise)], rtol=0.02)


def test_one_radius_for_each_image_is_asked_for():
    with pytest.raises(Exception, match=r"one entry each|Expected type.*batch"):  # the tests check types before values
        project_l2_ball(residual(0), jnp.ones(3))
