"""isr_jax.solver.data_step: each against NumPy on small problems, for pictures of their own, and inside a model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from random_model import random_model
from test_erd import LR
from test_physics import kernels, random
from test_plug_and_play import blur_matrix

import isr_jax
from isr_jax.config import ConfigError, ModelConfig
from isr_jax.models.model_file import save_model
from isr_jax.physics.blur import Blur
from isr_jax.physics.kernels import gaussian_kernel
from isr_jax.physics.masking import Mosaic
from isr_jax.physics.sampling import Bicubic, Decimation
from isr_jax.solver.data_step import ClosedForm, ConjugateGradient, Gradient, make_data_step

STACK = kernels(3)
PHYSICS = Decimation(2) @ Blur(STACK, "periodic")
MATRICES = [blur_matrix(kernel, (8, 10), 2) for kernel in STACK]
Y, Z = random((3, 4, 5, 1)), random((3, 8, 10, 1), 1)
AMOUNTS = jnp.array([1.0, 0.1, 1e-3])


def expected(step, y, z, amounts):
    """By definition, picture by picture, in float64."""
    results = []
    for h, y_i, z_i, amount in zip(MATRICES, np.float64(y), np.float64(z), amounts, strict=True):
        gradient = h.T @ (h @ z_i.ravel() - y_i.ravel())
        if isinstance(step, Gradient):
            results.append(z_i.ravel() - amount / np.linalg.norm(h, 2) ** 2 * gradient)
        else:
            results.append(z_i.ravel() - np.linalg.solve(h.T @ h + amount * np.eye(80), gradient))
    return np.stack(results).reshape(z.shape)


STEPS = [Gradient(), ConjugateGradient(100), ClosedForm()]


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_step_as_defined_with_a_kernel_and_a_weight_each(step):
    run = jax.jit(lambda physics, y, z, amount: step(physics, step.prepare(physics, y), y, z, amount))
    u, residual = run(PHYSICS, Y, Z, AMOUNTS)
    np.testing.assert_allclose(u, expected(step, Y, Z, AMOUNTS), atol=0.3 if isinstance(step, Gradient) else 0.05)
    at = u if step.solves else Z
    np.testing.assert_allclose(residual, PHYSICS.apply(at) - Y, atol=1e-3)
    for i in range(3):  # a batch is a loop
        physics = Decimation(2) @ Blur(STACK[i], "periodic")
        alone, _ = run(physics, Y[i : i + 1], Z[i : i + 1], AMOUNTS[i : i + 1])
        np.testing.assert_allclose(alone[0], u[i], atol=0.02)
    number, _ = run(PHYSICS, Y, Z, 0.1)
    np.testing.assert_allclose(number[1], u[1], atol=0.02)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_derivatives_are_the_operator_s_own(step):
    """Of what is linear in y and z; the weight's by a difference."""
    direction = random(Z.shape, 3) / 255

    def value(y, z, amounts):
        u, residual = step(PHYSICS, step.prepare(PHYSICS, y), y, z, amounts)
        return jnp.sum(u * direction) + jnp.sum(residual) / 255

    slopes = jax.jit(jax.grad(value, (0, 1, 2)))(Y, Z, AMOUNTS)
    assert all(np.isfinite(slope).all() for slope in slopes)

    def exact(y, z, amounts):
        u = expected(step, y, z, np.float64(amounts))
        at = u if step.solves else np.float64(z)
        residual = np.stack(
            [h @ x.ravel() - y_i.ravel() for h, x, y_i in zip(MATRICES, at, np.float64(y), strict=True)]
        )
        return np.sum(u * np.float64(direction)) + np.sum(residual) / 255

    for i, nudge in enumerate([random(Y.shape, 4) / 255, random(Z.shape, 5) / 255, 1e-3 * AMOUNTS]):
        ends = []
        for sign in (1, -1):
            moved = [np.float64(Y), np.float64(Z), np.float64(AMOUNTS)]
            moved[i] = moved[i] + sign * np.float64(nudge)
            ends.append(exact(*moved))
        tolerance = 0.02 if isinstance(step, Gradient) else 0.005  # the norm is by power iterations
        found = 2 * float(jnp.sum(nudge * slopes[i]))
        assert found == pytest.approx(ends[0] - ends[1], rel=tolerance, abs=tolerance * abs(ends[0] - ends[1]) + 1e-4)


@pytest.mark.slow
def test_few_conjugate_gradients_have_nearly_the_derivative_of_many():
    """The derivative is a solve of as many iterations, which must not start from the picture."""
    physics = Decimation(2) @ Blur(np.asarray(gaussian_kernel(1.2)))
    y, z, target = random((1, 16, 16, 1)), random((1, 32, 32, 1), 1), random((1, 32, 32, 1), 2)

    def value(z, weight, iterations):
        return jnp.mean(((ConjugateGradient(iterations)(physics, None, y, z, weight)[0] - target) / 255) ** 2)

    slope = jax.jit(jax.grad(value), static_argnums=2)
    for weight, tolerance in ((1e-1, 0.01), (1e-2, 0.3), (1e-3, 3)):
        few, many = (slope(z, weight, iterations) for iterations in (10, 200))
        assert float(jnp.linalg.norm(few - many)) < tolerance * float(jnp.linalg.norm(many))
    nudge = random(z.shape, 3) / 12
    ends = [float(value(z + sign * nudge, 1e-1, 10)) for sign in (1, -1)]
    assert 2 * float(jnp.sum(slope(z, 1e-1, 10) * nudge)) == pytest.approx(ends[0] - ends[1], rel=0.02)


@pytest.mark.slow
def test_a_kernel_larger_than_16_pixels_has_a_norm():
    for physics in (
        Blur(kernels(1, 25)[0]),
        Decimation(2) @ Blur(kernels(2, 41)),
        Bicubic(2) @ Blur(kernels(1, 41)[0]),
    ):
        norm = physics.squared_norm((2, 48, 48, 1))
        assert norm.shape == (2,)
        assert np.isfinite(norm).all()
        assert float(norm.max()) < 1.5


def test_what_varies_over_the_picture_is_measured_on_all_of_it():
    class Vignette(isr_jax.Physics):
        """Brighter than the corner of 16 pixels shows."""

        scale = 1

        def apply(self, x):
            return x * jnp.linspace(0.5, 2.0, x.shape[2])[None, None, :, None]

    assert float(Vignette().squared_norm((1, 8, 64, 1))[0]) == pytest.approx(4, rel=0.05)


def test_the_closed_form_says_what_it_is_not_for():
    with pytest.raises(ConfigError, match="Mosaic is no blur and decimation.*: use conjugate gradients"):
        ClosedForm().prepare(Mosaic(), random((1, 4, 4, 1)))
    with pytest.raises(ConfigError, match="choose one of gradient, conjugate_gradient, closed_form"):
        ModelConfig(data_step="newton")


@pytest.mark.parametrize("name", ["closed_form", pytest.param("conjugate_gradient", marks=pytest.mark.slow)])
def test_a_model_of_it_runs_trains_and_is_kept(name, tmp_path):
    """With a kernel and a level of noise for each picture."""
    options = {"scale": 2, "num_stages": 2, "physics": "blur", "projection": False, "extrapolation": False}
    config = ModelConfig(
        data_step=name, data_step_iterations=5, prior=dataclasses.replace(LR, noise_plane=True), **options
    )
    assert make_data_step(config).solves
    model, lr, hr = random_model(config), random((3, 12, 12, 3)), random((3, 24, 24, 3), 1)
    physics, noise_std = Decimation(2) @ Blur(STACK), jnp.array([0.0, 3.0, 10.0])

    @jax.jit
    def train(model, physics):
        def loss(model):
            return jnp.mean(((model(lr, physics=physics, noise_std=noise_std) - hr) / 255) ** 2)

        value, slopes = jax.value_and_grad(loss)(model)
        return value, slopes, jax.tree.map(lambda p, g: p - 1e-2 * g, model, slopes)

    before, slopes, better = train(model, physics)
    flat = {".".join(map(str, path)): np.abs(leaf[...]).max() for path, leaf in nnx.to_flat_state(nnx.state(slopes))}
    assert all(np.isfinite(value) for value in flat.values())
    assert {path for path, value in flat.items() if value == 0} == {"log_radius"}
    assert float(train(better, physics)[0]) < float(before)
    save_model(tmp_path / "model.safetensors", better)
    hr = isr_jax.load(tmp_path).upscale_batch(np.asarray(lr), blur=STACK, noise_std=[0.0, 3.0, 10.0])
    np.testing.assert_allclose(hr, better(lr, physics=physics, noise_std=noise_std), atol=0.02)


def ring_error(photo):
    """RMS in grey levels between the closed form and the solution with the true border, in the ring where H sees it."""
    x = jnp.asarray(photo[None, :120, :144], jnp.float32)
    physics = Decimation(2) @ Blur(np.asarray(gaussian_kernel(1.6)))
    y = physics.observe(x, jax.random.key(0), 1.0)
    z = physics.initial_estimate(y)
    width = 2 * physics.reach * physics.scale
    ring = np.ones(x.shape[1:3], bool)
    ring[width:-width, width:-width] = False
    step = ClosedForm()
    exact = jax.jit(lambda y, z: physics.conjugate_gradients(y, z, 1e-2, iterations=100))(y, z)
    found = jax.jit(lambda y, z: step(physics, step.prepare(physics, y), y, z, 1e-2)[0])(y, z)
    return float(np.sqrt(np.mean(np.asarray(found - exact)[0][ring] ** 2)))


@pytest.mark.parametrize("name", ["skimage_chelsea", "forensics_IMG_1054", "palapeli_castle-maintenon"])
def test_no_ringing_enters_from_the_border_of_real_pictures(shared, name):
    photo = np.asarray(Image.open(shared / "data" / "train_photos" / f"{name}.png").convert("RGB"))
    assert ring_error(photo) < 1


def test_no_ringing_enters_from_the_border():
    ramp = (
        np.linspace(0, 200, 144)[None, :, None] + np.linspace(0, 55, 120)[:, None, None]
    )  # from side to side it jumps
    waves = 20 * np.sin(np.arange(144)[None, :, None] / 3) * np.sin(np.arange(120)[:, None, None] / 4)
    assert ring_error(np.clip(ramp + waves, 0, 255)) < 1
