import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from random_model import SEVERAL, random_model

import isr_jax
from isr_jax.config import ERDConfig, ModelConfig, UserError
from isr_jax.models.model_file import get_params, parameters_to_dict, save_model
from isr_jax.physics.jpeg import Jpeg
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.training.state import make_bind
from isr_jax.training.warm_start import warm_start

PRIOR = dataclasses.replace(SEVERAL["prior"], noise_plane=True)
OLD = ModelConfig(scale=3, **SEVERAL | {"prior": PRIOR})


def warmed(config, source, seed=1):
    new = ISRResCNet(config, rngs=nnx.Rngs(seed))
    params, count = warm_start(get_params(new), config, str(source))
    return make_bind(new)(jax.tree.map(jnp.asarray, params)), count


@pytest.fixture
def source(tmp_path):
    model = random_model(OLD)
    save_model(tmp_path / "old.safetensors", model, {})
    return model, tmp_path / "old.safetensors"


@pytest.mark.parametrize("scale", [2, 3])
def test_a_plane_more_and_a_scale_more_change_nothing_at_first(source, scale):
    old, file = source
    config = dataclasses.replace(OLD, scales=(1, 2, 3), prior=dataclasses.replace(PRIOR, error_plane=True))
    new, count = warmed(config, file)
    assert count == len(get_params(new))
    lr = jnp.asarray(np.random.default_rng(0).uniform(0, 255, (2, 10, 12, 3)), jnp.float32)
    physics = isr_jax.Decimation(scale) @ isr_jax.Blur(np.ones((3, 3)) / 9, "periodic")
    known = {"physics": physics, "noise_std": jnp.array([0.0, 5.0])}
    np.testing.assert_allclose(new(lr, **known), old(lr, **known), atol=1e-3)
    # ... and what is told of a file has an effect, by the weights of the data term.
    known["physics"] = Jpeg([30, np.inf]) @ physics
    difference = np.abs(np.asarray(new(lr, **known) - old(lr, physics=physics, noise_std=known["noise_std"])))
    assert difference[0].max() > 0.1
    assert difference[1].max() < 1e-3


def test_a_scale_that_the_source_has_not_starts_as_its_nearest(source):
    _, file = source
    new, _ = warmed(dataclasses.replace(OLD, scale=4, scales=(4, 2)), file)
    given, found = parameters_to_dict(source[0]), parameters_to_dict(new)
    np.testing.assert_array_equal(found["prior.encoder.x2.kernel"], given["prior.encoder.x2.kernel"])
    np.testing.assert_array_equal(found["log_start_weight"], given["log_start_weight"][[1, 0]])
    assert found["prior.encoder.x4.kernel"].shape == (3, 3, 3 * 3 * 16 + 3 + 1, 4)
    # What the solver shows a picture of one colour is the same at any scale.
    for part, axis in (("encoder", 2), ("decoder", 3)):
        kernels = [p[f"prior.{part}.x{s}.kernel"] for p, s in ((found, 4), (given, 3))]
        sums = [k[:, :, : k.shape[2] - 4 if part == "encoder" else None].sum(axis) for k in kernels]
        ratio = 1 if part == "encoder" else (4 / 3) ** 2
        np.testing.assert_allclose(sums[0], ratio * sums[1], atol=1e-5)


def test_a_source_of_which_nothing_fits_is_refused(tmp_path):
    save_model(tmp_path / "small.safetensors", random_model(OLD), {})
    config = ModelConfig(num_stages=3, prior=ERDConfig(features=6, num_blocks=1))
    with pytest.raises(UserError, match="none of its parameters fits"):
        warmed(config, tmp_path / "small.safetensors")


def test_more_stages_and_carried_features_start_from_what_one_stage_knows(source):
    prior = dataclasses.replace(PRIOR, carry_features=True)
    new, count = warmed(dataclasses.replace(OLD, num_stages=3, prior=prior), source[1])
    given, found = parameters_to_dict(source[0]), parameters_to_dict(new)
    assert count == len(get_params(new)) - 1  # the radii are the stages' own
    kernel = found["prior.encoder.x3.kernel"]
    np.testing.assert_array_equal(kernel[:, :, : -prior.features], given["prior.encoder.x3.kernel"])
    assert not kernel[:, :, -prior.features :].any()
    np.testing.assert_array_equal(found["log_weight"], np.repeat(given["log_weight"], 3, axis=1))
    np.testing.assert_array_equal(found["log_start_weight"], given["log_start_weight"])
