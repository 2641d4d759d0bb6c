import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import nnx

from isr_jax.solver.layers import INPUT_AXIS, OUTPUT_AXIS, Conv, PReLU, ResidualBlock, fold_weight_norm


def features(channels=4, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(2, 6, 7, channels)), jnp.float32)


@pytest.mark.parametrize("axis", [OUTPUT_AXIS, INPUT_AXIS])
@pytest.mark.parametrize("border", ["reflect", "zero"])
def test_weight_normalised_convolution(axis, border):
    layer = Conv(4, 5, 3, border=border, weight_norm=True, norm_axis=axis, rngs=nnx.Rngs(0))
    assert layer.gain is not None
    layer.gain[...] = jnp.arange(1.0, layer.gain.size + 1)
    layer.bias[...] = jnp.arange(5.0)
    kernel = reference.weight_norm(np.asarray(layer.kernel[...]), np.asarray(layer.gain[...]), axis)
    x = features()
    for i in range(2):
        expected = reference.conv(np.asarray(x[i]), kernel, np.arange(5.0), border)
        np.testing.assert_allclose(layer(x)[i], expected, atol=1e-4)


def test_the_output_does_not_depend_on_the_length_of_a_normalised_kernel():
    layer = Conv(4, 4, 3, border="zero", weight_norm=True, rngs=nnx.Rngs(0))
    before = layer(features())
    layer.kernel[...] = layer.kernel[...] * 7
    np.testing.assert_allclose(layer(features()), before, atol=1e-5)


def test_normalisation_starts_as_the_identity_and_folds_away():
    block = ResidualBlock(4, border="reflect", weight_norm=True, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(block.conv1.folded().kernel[...], block.conv1.kernel[...], atol=1e-6)
    folded = fold_weight_norm(block)
    assert folded.conv1.gain is None
    assert block.conv1.gain is not None
    np.testing.assert_allclose(folded(features()), block(features()), atol=1e-5)


def test_prelu_has_a_slope_for_each_channel():
    layer = PReLU(3)
    np.testing.assert_allclose(layer.slope[...], 0.1)
    layer.slope[...] = jnp.asarray([0.0, 0.5, 2.0])
    x = jnp.asarray([[-2.0, -2.0, -2.0], [3.0, 3.0, 3.0]])
    np.testing.assert_allclose(layer(x), [[0, -1, -4], [3, 3, 3]])


def test_the_shortcut_adds_the_input():
    with_it = ResidualBlock(4, border="zero", weight_norm=False, rngs=nnx.Rngs(0))
    without = ResidualBlock(4, border="zero", weight_norm=False, shortcut=False, rngs=nnx.Rngs(0))
    x = features()
    np.testing.assert_allclose(with_it(x) - without(x), x, atol=1e-5)


def test_half_precision_goes_through():
    block = ResidualBlock(4, border="reflect", weight_norm=True, rngs=nnx.Rngs(0))
    y = block(features().astype(jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), block(features()), atol=0.1)


def test_the_derivative_reaches_every_parameter():
    block = ResidualBlock(4, border="reflect", weight_norm=True, rngs=nnx.Rngs(0))
    gradient = jax.jit(jax.grad(lambda b, x: jnp.sum(b(x) ** 3)))(block, features())
    assert all(float(jnp.max(jnp.abs(leaf))) > 0 for leaf in jax.tree.leaves(gradient))
