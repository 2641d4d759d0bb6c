"""isr_jax.solver.compilation: what XLA is told changes how fast a network is, not what it computes."""

import jax
import numpy as np
import pytest
from flax import nnx
from test_erd import LR

from isr_jax.config import ERDConfig, ModelConfig
from isr_jax.solver.compilation import compiler_options
from isr_jax.solver.unrolled import ISRResCNet


def test_networks_at_hr_resolution_are_left_alone():
    assert compiler_options(ModelConfig(prior=ERDConfig())) == {}


def test_the_options_are_known_to_the_compiler_and_change_nothing():
    config = ModelConfig(scale=2, num_stages=1, physics="bicubic", projection=False, clip=False, prior=LR)
    options = compiler_options(config)
    if not options:
        pytest.skip("this CPU has no AVX-512, or this version of JAX no such option")
    model = ISRResCNet(config, rngs=nnx.Rngs(0))
    lr = np.random.default_rng(0).uniform(0, 255, (2, 9, 12, 3)).astype(np.float32)

    def loss(model, lr):
        return (model(lr) ** 2).mean()

    told, plain = (jax.jit(jax.value_and_grad(loss), compiler_options=o)(model, lr) for o in (options, None))
    for a, b in zip(jax.tree.leaves(told), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * float(np.abs(b).max()))
