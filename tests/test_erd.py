import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import nnx

from isr_jax.config import ConfigError, ERDConfig, ModelConfig
from isr_jax.solver.erd import ERD, depth_to_space, for_other_scale, space_to_depth
from isr_jax.solver.unrolled import ISRResCNet


def image(shape=(2, 8, 12, 3), seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(0, 255, shape), jnp.float32)


def randomised(module, seed=0):
    """The module with every parameter moved away from its start, so that no slope, gain or bias goes untested."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(np.asarray(p) + rng.normal(0, 0.05, p.shape), jnp.float32), module)


def named(module, prefix="prior."):
    flat = nnx.to_flat_state(nnx.state(module, nnx.Param))
    return {prefix + ".".join(map(str, path)): np.asarray(param[...], np.float64) for path, param in flat}


@pytest.mark.parametrize("feedback_steps", [0, 1, 3])
@pytest.mark.parametrize("feedback_input", ["hidden", "encoder"])
def test_the_network_as_defined(feedback_steps, feedback_input):
    config = ERDConfig(features=6, num_blocks=2, feedback_steps=feedback_steps, feedback_input=feedback_input)
    erd = randomised(ERD(config, channels=3, scale=4, rngs=nnx.Rngs(0)))
    x = image()
    noise, _ = jax.jit(lambda erd, x: erd(x))(erd, x)
    for i in range(2):
        expected = reference.erd(
            named(erd), np.asarray(x[i]), feedback_steps=feedback_steps, feedback_input=feedback_input, num_blocks=2
        )
        np.testing.assert_allclose(noise[i], expected, rtol=1e-4, atol=2e-4 * np.abs(expected).max())


def test_the_two_feedbacks_agree_on_the_first_step_only():
    def noise(steps, kind):
        config = ERDConfig(features=4, num_blocks=1, feedback_steps=steps, feedback_input=kind)
        return ERD(config, channels=3, scale=4, rngs=nnx.Rngs(0))(image())[0]

    np.testing.assert_array_equal(noise(1, "hidden"), noise(1, "encoder"))
    assert float(jnp.max(jnp.abs(noise(2, "hidden") - noise(2, "encoder")))) > 1e-3


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_space_to_depth_keeps_blocks_and_is_undone(scale):
    x = image((2, 4 * scale, 5 * scale, 3))
    deep = space_to_depth(x, scale)
    assert deep.shape == (2, 4, 5, 3 * scale**2)
    np.testing.assert_array_equal(deep[0, 1, 2].reshape(scale, scale, 3), x[0, scale:][:scale, 2 * scale :][:, :scale])
    np.testing.assert_array_equal(depth_to_space(deep, scale), x)


LR = ERDConfig(
    features=8,
    num_blocks=2,
    feedback_steps=0,
    kernel_size=3,
    border="zero",
    weight_norm=False,
    first_shortcut=True,
    resolution="lr",
    carry_features=True,
)


def test_at_lr_resolution_it_starts_as_the_identity_of_the_solver():
    erd = ERD(LR, channels=3, scale=4, rngs=nnx.Rngs(0))
    noise, features = erd(image(), image((2, 2, 3, 3)), None, jnp.zeros((2, 2, 3, 8)))
    assert features.shape == (2, 2, 3, 8)
    np.testing.assert_array_equal(noise, 0)


def test_at_lr_resolution_every_input_matters():
    erd = randomised(ERD(LR, channels=3, scale=4, rngs=nnx.Rngs(0)))
    x, residual, carried = image(), image((2, 2, 3, 3)), image((2, 2, 3, 8)) / 255
    noise, _ = erd(x, residual, None, carried)
    assert noise.shape == x.shape
    for other in [(x + 9, residual, carried), (x, residual + 9, carried), (x, residual, carried + 1)]:
        assert float(jnp.max(jnp.abs(erd(*other[:2], None, other[2])[0] - noise))) > 1e-3


def resized_by_area(x, scale, new_scale):
    """Repeats pixels up to a grid that both sizes divide, and averages there."""
    n, height, width, channels = x.shape
    fine = x.repeat(new_scale, 1).repeat(new_scale, 2)
    blocks = fine.reshape(n, height // scale * new_scale, scale, width // scale * new_scale, scale, channels)
    return blocks.mean((2, 4))


@pytest.mark.parametrize(("scale", "new_scale", "pictures"), [(4, 2, 1), (4, 3, 1), (2, 3, 2), (2, 1, 2)])
def test_for_another_scale_it_sees_and_writes_the_same_pictures_by_area(scale, new_scale, pictures):
    old = randomised(ERD(LR, channels=3, scale=scale, pictures=pictures, rngs=nnx.Rngs(0)))
    new = ERD(LR, channels=3, scale=new_scale, pictures=pictures, rngs=nnx.Rngs(1))
    values = named(old, "")
    values |= for_other_scale(values, scale, new_scale, channels=3, pictures=pictures)
    state = nnx.state(new, nnx.Param)
    for path, param in nnx.to_flat_state(state):
        param.set_value(jnp.asarray(values[".".join(map(str, path))], jnp.float32))
    nnx.update(new, state)
    x = image((2, 5 * new_scale, 4 * new_scale, 3 * pictures))
    residual, carried = image((2, 5, 4, 3)), image((2, 5, 4, 8)) / 255
    noise, features = new(x, residual, None, carried)
    expected, expected_features = old(resized_by_area(x, new_scale, scale), residual, None, carried)
    np.testing.assert_allclose(features, expected_features, atol=1e-4)
    np.testing.assert_allclose(noise, resized_by_area(expected, scale, new_scale), atol=2e-2)
    assert float(jnp.std(noise)) > 1


def test_a_stack_holds_independent_networks():
    config = ModelConfig(num_stages=3, per_stage=True, prior=ERDConfig(features=4, num_blocks=1, feedback_steps=1))
    kernels = ISRResCNet(config, rngs=nnx.Rngs(0)).prior.encoder.kernel[...]
    assert kernels.shape == (3, 5, 5, 3, 4)
    assert float(jnp.max(jnp.abs(kernels[0] - kernels[1]))) > 0.01


def test_configurations_without_a_meaning_are_refused():
    with pytest.raises(ConfigError, match="odd"):
        ERDConfig(kernel_size=4)
    with pytest.raises(ConfigError, match="resolution"):
        ERDConfig(carry_features=True)
    with pytest.raises(ConfigError, match="noise_plane"):
        ERDConfig(error_plane=True)
