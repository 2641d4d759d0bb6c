"""isr_jax.physics.padded: a picture in a larger array gives what it gives alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_model import random_model

from isr_jax.config import ERDConfig, ModelConfig
from isr_jax.models.model_file import load_model
from isr_jax.physics.names import make_physics
from isr_jax.physics.padded import Padded
from isr_jax.physics.resize import imresize


def pad(pictures, height, width):
    beyond = ((0, 0), (0, height - pictures.shape[1]), (0, width - pictures.shape[2]), (0, 0))
    return jnp.asarray(np.pad(pictures, beyond))


@pytest.mark.parametrize("name", ["bicubic", "box", "none"])
@pytest.mark.parametrize(
    ("scale", "size"),
    [pytest.param(2, (1, 7), marks=pytest.mark.slow), pytest.param(3, (9, 10), marks=pytest.mark.slow), (2, (12, 13))],
)
def test_a_physics_sees_the_pictures_alone(name, scale, size):
    physics, rng = make_physics(name, scale=scale), np.random.default_rng(0)
    assert physics.mirrors
    padded = Padded(inner=physics, size=jnp.asarray(size))
    x, y = (rng.uniform(0, 255, (2, s * size[0], s * size[1], 3)).astype("f4") for s in (scale, 1))
    x_padded, y_padded = pad(x, 12 * scale, 14 * scale), pad(y, 12, 14)
    start = padded.initial_estimate(y_padded)[:, : x.shape[1], : x.shape[2]]
    np.testing.assert_allclose(start, physics.initial_estimate(jnp.asarray(y)), atol=1e-3)
    np.testing.assert_array_equal(padded.inside(12, 14)[0, ..., 0], pad(np.ones((1, *size, 1)), 12, 14)[0, ..., 0])
    if not physics.observes:
        return
    spoilt = jnp.where(x_padded == 0, 1e3, x_padded)  # what lies beyond does not count
    np.testing.assert_allclose(padded.apply(spoilt), pad(np.asarray(physics.apply(jnp.asarray(x))), 12, 14), atol=1e-3)
    adjoint = pad(np.asarray(physics.adjoint(jnp.asarray(y))), 12 * scale, 14 * scale)
    np.testing.assert_allclose(padded.adjoint(y_padded), adjoint, atol=1e-3)


@pytest.mark.parametrize("options", [{"carry_features": True, "kernel_size": 5}, {"feedback_steps": 2}])
def test_a_model_sees_the_pictures_alone(options):
    erd = {"features": 4, "num_blocks": 2, "feedback_steps": 0, "kernel_size": 3, "border": "zero", "resolution": "lr"}
    fixed = {"scale": 2, "num_stages": 2, "physics": "bicubic", "projection": False, "final_data_step": True}
    check(random_model(ModelConfig(prior=ERDConfig(**(erd | options)), **fixed)), (19, 26), (20, 40))


@pytest.mark.parametrize("size", [(1, 1), (33, 21)])
def test_a_shipped_model_sees_the_pictures_alone(size):
    check(load_model("isr-lite-x3"), size, (40, 48))


def check(model, size, padded_size):
    assert model.can_be_padded()
    config = model.config
    physics = make_physics(config.physics, scale=config.scale)
    small = np.random.default_rng(0).uniform(50, 200, (*(-(-side // 4) for side in size), 3)).astype("f4")
    lr = np.stack([imresize(small, size=size), imresize(small[::-1], size=size)])
    run = jax.jit(lambda model, lr, physics: model(lr, physics=physics))
    padded = run(model, pad(lr, *padded_size), Padded(inner=physics, size=jnp.asarray(size)))
    alone = run(model, lr, physics)
    np.testing.assert_allclose(padded[:, : alone.shape[1], : alone.shape[2]], alone, atol=1e-3)


def test_what_cannot_be_padded():
    fixed = {"projection": False, "physics": "bicubic", "prior": ERDConfig(border="zero", resolution="lr")}
    assert random_model(ModelConfig(**fixed)).can_be_padded()
    for options in ({"prior": ERDConfig(border="reflect", resolution="lr")}, {"physics": "decimation"}):
        assert not random_model(ModelConfig(**(fixed | options))).can_be_padded()
    assert not random_model(ModelConfig()).can_be_padded()
