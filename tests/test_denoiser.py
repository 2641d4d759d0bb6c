"""isr_jax.solver.denoiser: any function of pictures and a noise level, in the place of a network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import ndimage

from isr_jax.physics.sampling import Identity
from isr_jax.solver.denoiser import Denoiser
from isr_jax.solver.plug_and_play import half_quadratic_splitting


def pictures(count=3, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(0, 255, (count, 6, 5, 3)), jnp.float32)


def test_it_hands_over_what_the_function_takes_away():
    x, levels = pictures(), jnp.array([1.0, 2.0, 3.0])
    noise, carried = Denoiser(lambda x, noise_std: x / (1 + noise_std))(x, None, levels, None)
    np.testing.assert_allclose(noise, x - x / (1 + levels)[:, None, None, None], rtol=1e-5)
    assert carried is None


def test_each_picture_has_its_own_level_though_there_are_as_many_as_channels():
    """Levels (3,) would broadcast over the three channels of the three pictures unnoticed."""
    x = pictures()
    noise, _ = Denoiser(lambda x, noise_std: x - noise_std)(x, None, jnp.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(noise.mean((1, 2)), np.array([[1.0] * 3, [2.0] * 3, [3.0] * 3]), rtol=1e-4)


def test_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"makes pictures of shape \(3, 6, 5, 1\) of pictures of shape \(3, 6, 5, 3\)"):
        Denoiser(lambda x, noise_std: x.mean(-1, keepdims=True))(pictures(), None, jnp.ones(3))
    with pytest.raises(ValueError, match="the denoiser makes NoneType of pictures of shape"):
        Denoiser(lambda x, noise_std: None)(pictures(), None, jnp.ones(3))


def test_a_function_that_is_not_jaxs_through_a_callback():
    def smooth(x, noise_std):
        call = lambda x, s: np.stack([ndimage.gaussian_filter(p, (q, q, 0)) for p, q in zip(x, s.ravel(), strict=True)])  # noqa: E731
        return jax.pure_callback(call, jax.ShapeDtypeStruct(x.shape, x.dtype), x, noise_std / 10)

    y = pictures(2)
    run = jax.jit(lambda y: half_quadratic_splitting(Identity(), y, Denoiser(smooth), noise_std=10, num_stages=3))
    assert float(jnp.std(run(y))) < 0.7 * float(jnp.std(y))


def test_a_network_s_parameters_are_leaves_and_get_gradients():
    class Shrink(nnx.Module):
        def __init__(self):
            self.factor = nnx.Param(jnp.array(0.5))

        def __call__(self, x, noise_std):
            return x * self.factor

    prior = Denoiser(Shrink())
    assert len(jax.tree.leaves(prior)) == 1

    @jax.jit
    def loss(prior, y):
        return jnp.mean(half_quadratic_splitting(Identity(), y, prior, noise_std=5.0, num_stages=2) / 255)

    slope = jax.tree.leaves(jax.grad(loss)(prior, pictures()))[0]
    other = jax.tree.map(lambda leaf: leaf + 1e-2, prior)
    less = jax.tree.map(lambda leaf: leaf - 1e-2, prior)
    assert float(slope) == pytest.approx(float(loss(other, pictures()) - loss(less, pictures())) / 2e-2, rel=1e-2)
