"""Models with random parameters, made without compiling their initialisation."""

import numpy as np
from flax import nnx

from isr_jax.config import ModelConfig
from isr_jax.model import ISRResCNet
from isr_jax.model_io import model_from_parameters


def random_model(config: ModelConfig, seed: int = 0) -> ISRResCNet:
    rng = np.random.default_rng(seed)
    shapes = nnx.to_flat_state(nnx.state(nnx.eval_shape(lambda: ISRResCNet(config, rngs=nnx.Rngs(0))), nnx.Param))
    parameters = {".".join(map(str, path)): (0.1 * rng.normal(size=p.shape)).astype("f4") for path, p in shapes}
    return model_from_parameters(config, parameters)
