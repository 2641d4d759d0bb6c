"""The experiments of configs/: each can be loaded, and says how it is run."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from isr_jax.config import TrainConfig
from isr_jax.solver.unrolled import ISRResCNet

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_is_one_and_opens_with_its_command(path):
    values = runpy.run_path(str(path))
    assert isinstance(values["CONFIG"], TrainConfig)
    assert f"configs/{path.name} --workdir" in values["__doc__"]


@pytest.mark.parametrize(
    ("name", "count"),
    [("paper_x2", 388_823), ("paper_x3", 388_823), ("paper_x4", 388_823), ("paper_x4_per_stage", 10 * 388_803 + 20)],
)
def test_the_paper_networks_have_the_published_size(name, count):
    [path] = [path for path in CONFIGS if path.stem == name]
    config = runpy.run_path(str(path))["CONFIG"].model
    model = jax.eval_shape(lambda: ISRResCNet(config, rngs=nnx.Rngs(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(model)) == count


def test_the_denoiser_is_the_erd_of_the_paper_network():
    def erd_shapes(name):
        [path] = [path for path in CONFIGS if path.stem == name]
        config = runpy.run_path(str(path))["CONFIG"].model
        return jax.tree.map(jnp.shape, nnx.state(nnx.eval_shape(lambda: ISRResCNet(config, rngs=nnx.Rngs(0)).prior)))

    assert erd_shapes("denoise") == erd_shapes("paper_x4")
