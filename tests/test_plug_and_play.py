"""isr_jax.solver.plug_and_play: against the same iterations in NumPy, and against minima that are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_erd import LR, randomised
from test_physics import Lens, kernels, random

from isr_jax.config import ConfigError, ERDConfig
from isr_jax.physics.blur import Blur
from isr_jax.physics.masking import Mask
from isr_jax.physics.sampling import Bicubic, Decimation, Identity
from isr_jax.solver.data_step import ClosedForm, ConjugateGradient, Gradient
from isr_jax.solver.denoiser import Denoiser
from isr_jax.solver.erd import ERD
from isr_jax.solver.plug_and_play import half_quadratic_splitting, proximal_gradient

SHRINK = Denoiser(lambda x, noise_std: x / (1 + noise_std**2 / 100**2))
"""The proximal map of 1/2 ||x / 100||^2: what is known of Gaussian pictures."""


def blur_matrix(kernel, size, scale):
    """S B as a matrix, by definition: a periodic convolution whose first pixel of every block is kept."""
    rows, cols = size
    matrix = np.zeros((rows, cols, rows, cols))
    r = len(kernel) // 2
    for i in range(rows):
        for j in range(cols):
            for a in range(len(kernel)):
                for b in range(len(kernel)):
                    matrix[i, j, (i - a + r) % rows, (j - b + r) % cols] += kernel[a, b]
    return matrix[::scale, ::scale].reshape(rows // scale * (cols // scale), rows * cols)


def test_half_quadratic_splitting_is_its_equations():
    kernel, y = kernels(1)[0], random((1, 4, 5, 1))
    physics = Decimation(2) @ Blur(kernel, "periodic")
    h, sigma, stages = blur_matrix(kernel, (8, 10), 2), 3.0, 4
    x = np.asarray(physics.initial_estimate(y), np.float64).ravel()
    for level in np.geomspace(49, sigma, stages):
        weight = 0.23 * sigma**2 / level**2
        x = np.linalg.solve(h.T @ h + weight * np.eye(80), h.T @ np.ravel(y) + weight * x)
        x = x / (1 + level**2 / 100**2)
    for step in (None, ClosedForm(), ConjugateGradient(200)):
        found = half_quadratic_splitting(physics, y, SHRINK, noise_std=sigma, num_stages=stages, data_step=step)
        np.testing.assert_allclose(np.ravel(found), x, atol=0.05)


def test_the_proximal_gradient_is_its_equations():
    kernel, y = kernels(1)[0], random((1, 4, 5, 1))
    physics = Decimation(2) @ Blur(kernel, "periodic")
    h, sigma, stages = blur_matrix(kernel, (8, 10), 2), 3.0, 6
    norm = float(physics.squared_norm(y.shape)[0]) ** 0.5
    x = previous = np.asarray(physics.initial_estimate(y), np.float64).ravel()
    for k, level in enumerate(np.geomspace(49, sigma / norm, stages)):
        z = x + k / (k + 3) * (x - previous)
        u = z - h.T @ (h @ z - np.ravel(y)) / norm**2
        x, previous = u / (1 + level**2 / 100**2), x
    for step in (None, Gradient()):
        found = proximal_gradient(physics, y, SHRINK, noise_std=sigma, num_stages=stages, data_step=step)
        np.testing.assert_allclose(np.ravel(found), x, atol=0.05)


def test_where_the_level_stays_the_proximal_gradient_reaches_the_minimum():
    """Of 1/2 ||H x - y||^2 + sigma^2 / 2 ||x / 100||^2, but for the sharper step of the prior at a finite level."""
    kernel, y, sigma = kernels(1)[0], random((1, 4, 5, 1)), 20.0
    physics = Decimation(2) @ Blur(kernel, "periodic")
    h = blur_matrix(kernel, (8, 10), 2)
    expected = np.linalg.solve(h.T @ h + (sigma / 100) ** 2 * np.eye(80), h.T @ np.ravel(y))
    found = proximal_gradient(physics, y, SHRINK, noise_std=sigma, num_stages=400, first_noise_std=1)
    np.testing.assert_allclose(np.ravel(found), expected, atol=0.05)


@pytest.mark.parametrize("solve", [half_quadratic_splitting, pytest.param(proximal_gradient, marks=pytest.mark.slow)])
def test_a_batch_is_a_loop(solve):
    """A kernel, a level and a picture each."""
    stack, y, levels = kernels(3), random((3, 6, 5, 3)), np.array([0.0, 3.0, 60.0], np.float32)
    run = jax.jit(lambda physics, y, s: solve(physics, y, SHRINK, noise_std=s, num_stages=4))
    together = run(Decimation(2) @ Blur(stack), y, levels)
    for i in range(3):
        alone = run(Decimation(2) @ Blur(stack[i : i + 1]), y[i : i + 1], levels[i : i + 1])
        np.testing.assert_allclose(together[i], alone[0], atol=0.02)
    number = solve(Decimation(2) @ Blur(stack), y, SHRINK, noise_std=3.0, num_stages=4)
    np.testing.assert_allclose(number[1], together[1], atol=0.02)


@pytest.mark.parametrize("solve", [half_quadratic_splitting, proximal_gradient])
@pytest.mark.parametrize(
    "physics", [Identity(), Bicubic(2), Mask(np.eye(6, 5) < 1), Decimation(2) @ Blur(kernels(1)[0])]
)
def test_derivatives_are_finite_and_agree_with_a_difference(solve, physics):
    y = random((1, 6, 5, 1))

    @jax.jit
    def value(physics, y, noise_std):
        x = solve(physics, y, SHRINK, noise_std=noise_std, num_stages=3)
        return jnp.mean((x / 255) ** 2)

    slopes = jax.grad(value, (0, 1, 2))(physics, y, 5.0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
    nudge = random(y.shape, 1) / 255
    difference = value(physics, y + nudge, 5.0) - value(physics, y - nudge, 5.0)
    assert float(difference) == pytest.approx(2 * float(jnp.sum(nudge * slopes[1])), rel=0.02)


def test_any_physics_has_a_data_step():
    lens = Lens(blurs=(Blur(kernels(1)[0]), Blur(kernels(1, 3)[0])))
    y = random((1, 8, 9, 1))
    assert half_quadratic_splitting(lens, y, SHRINK, noise_std=2.0).shape == y.shape
    with pytest.raises(ConfigError, match="Lens is no blur and decimation.*use conjugate gradients"):
        half_quadratic_splitting(lens, y, SHRINK, noise_std=2.0, data_step=ClosedForm())


def test_pictures_may_be_numpy_s_and_of_8_bits():
    y = np.asarray(random((2, 6, 5, 3))).astype(np.uint8)
    for solve in (half_quadratic_splitting, proximal_gradient):
        x = solve(Bicubic(2), y, SHRINK, noise_std=np.array([1, 2]), num_stages=2)
        expected = solve(Bicubic(2), jnp.asarray(y, jnp.float32), SHRINK, noise_std=jnp.array([1.0, 2.0]), num_stages=2)
        np.testing.assert_allclose(x, expected, atol=1e-3)


def test_with_64_bits_on_the_solver_stays_in_32(sixty_four_bits):
    y, erd = np.asarray(random((1, 6, 5, 3))), dataclasses.replace(LR, noise_plane=True, carry_features=True)
    prior = randomised(ERD(erd, channels=3, scale=2, rngs=nnx.Rngs(0)), 0)
    for solve, denoiser in ((half_quadratic_splitting, prior), (proximal_gradient, SHRINK)):
        assert solve(Bicubic(2), y, denoiser, noise_std=2.0, num_stages=2).dtype == jnp.float32


@pytest.fixture
def sixty_four_bits():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def test_a_level_of_0_stays_finite():
    y = random((1, 6, 5, 1))
    for solve in (half_quadratic_splitting, proximal_gradient):
        x = solve(Decimation(2) @ Blur(kernels(1)[0]), y, SHRINK, noise_std=0.0, num_stages=4)
        assert np.isfinite(x).all()
        at_least = solve(Decimation(2) @ Blur(kernels(1)[0]), y, SHRINK, noise_std=0.255, num_stages=4)
        np.testing.assert_array_equal(x, at_least)


def test_one_stage_is_of_the_last_level():
    y = random((1, 6, 5, 1))
    x = half_quadratic_splitting(Identity(), y, SHRINK, noise_std=50, num_stages=1)
    np.testing.assert_allclose(x, y / 1.25, atol=1e-3)


@pytest.mark.parametrize("noise_plane", [True, False])
def test_an_erd_is_a_prior(noise_plane):
    """One that is not told the level may remove no more than noise of that level would weigh."""
    erd = ERDConfig(features=4, num_blocks=1, feedback_steps=0, kernel_size=3, noise_plane=noise_plane)
    prior = randomised(ERD(erd, channels=3, scale=2, rngs=nnx.Rngs(0)), 0)
    y = random((2, 6, 5, 3))
    physics, step = Decimation(2) @ Blur(kernels(1)[0]), ConjugateGradient(50)
    x = half_quadratic_splitting(physics, y, prior, noise_std=jnp.array([1.0, 4.0]), num_stages=1, data_step=step)
    u, _ = step(physics, None, y, physics.initial_estimate(y), 0.23)
    removed = np.linalg.norm(np.asarray(u - x).reshape(2, -1), axis=1) / np.sqrt(x[0].size - 1)
    if noise_plane:
        noise, _ = prior(u, None, jnp.array([1.0, 4.0]))
        np.testing.assert_allclose(x, u - noise, atol=0.02)
    else:
        np.testing.assert_allclose(removed, [1, 4], rtol=1e-3)


def test_an_erd_at_lr_resolution_sees_the_residual_and_carries_features():
    erd = dataclasses.replace(LR, noise_plane=True, carry_features=True)
    prior = randomised(ERD(erd, channels=3, scale=2, rngs=nnx.Rngs(0)), 0)
    x = half_quadratic_splitting(Bicubic(2), random((1, 6, 5, 3)), prior, noise_std=2.0, num_stages=3)
    assert x.shape == (1, 12, 10, 3)
    assert np.isfinite(x).all()


@pytest.mark.parametrize(
    ("solve", "options", "message"),
    [
        (half_quadratic_splitting, {"data_step": Gradient()}, "takes ClosedForm or ConjugateGradient"),
        (proximal_gradient, {"data_step": ClosedForm()}, "takes Gradient"),
        (half_quadratic_splitting, {"num_stages": 0}, "`num_stages` is 0; it must be a whole number of at least 1"),
        (proximal_gradient, {"num_stages": -1}, "`num_stages` is -1; it must be a whole number of at least 1"),
        (half_quadratic_splitting, {"noise_std": -3.0}, "`noise_std` is -3.0; it must be finite and not negative"),
        (proximal_gradient, {"noise_std": np.nan}, "`noise_std` is nan"),
        (proximal_gradient, {"noise_std": np.ones(2)}, r"shape \(2,\); 1 pictures need one level each"),
        (proximal_gradient, {"first_noise_std": -4.0}, "`first_noise_std` is -4.0"),
        (half_quadratic_splitting, {"prior_weight": 0.0}, "`prior_weight` is 0.0; it must be above 0"),
    ],
)
def test_what_cannot_be_used_is_one_line(solve, options, message):
    with pytest.raises(ConfigError, match=message) as error:
        solve(Identity(), random((1, 6, 5, 1)), SHRINK, **{"noise_std": 2.0} | options)
    assert "\n" not in str(error.value)


def test_a_function_alone_is_no_prior():
    with pytest.raises(TypeError, match=r"`prior` is .*; a function f\(x, noise_std\) is one as Denoiser\(f\)"):
        half_quadratic_splitting(Identity(), jnp.zeros((1, 4, 4, 1)), lambda x, noise_std: x, noise_std=1.0)
