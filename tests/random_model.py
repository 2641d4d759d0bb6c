"""Models with random parameters, made without compiling their initialisation."""

from pathlib import Path

import numpy as np
from flax import nnx

from isr_jax.config import ERDConfig, ModelConfig
from isr_jax.models.model_file import model_from_parameters, save_model
from isr_jax.solver.unrolled import ISRResCNet

SEVERAL = {"scales": (2, 3), "physics": "blur", "data_step": "closed_form", "data_step_place": "after", "num_stages": 1}
SEVERAL |= {"start_weights": (1e-4, 1e-3, 1e-2), "extrapolation": False, "projection": False, "clip": False}
SEVERAL |= {
    "prior": ERDConfig(features=4, num_blocks=1, feedback_steps=0, kernel_size=3, weight_norm=False, resolution="lr")
}
"""Of a model of two scales that is told blur and noise."""


def random_model(config: ModelConfig, seed: int = 0) -> ISRResCNet:
    rng = np.random.default_rng(seed)
    shapes = nnx.to_flat_state(nnx.state(nnx.eval_shape(lambda: ISRResCNet(config, rngs=nnx.Rngs(0))), nnx.Param))
    parameters = {".".join(map(str, path)): np.asarray(0.1 * rng.normal(size=p.shape), "f4") for path, p in shapes}
    return model_from_parameters(config, parameters)


def save_random_model(path: Path, scale: int) -> Path:
    """Writes a model that is quick to compile."""
    erd = ERDConfig(features=4, num_blocks=1, feedback_steps=0, kernel_size=3, border="zero", resolution="lr")
    plain = {"num_stages": 1, "physics": "bicubic", "projection": False, "extrapolation": False}
    save_model(path, random_model(ModelConfig(scale=scale, prior=erd, **plain)))
    return path
