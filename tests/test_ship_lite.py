"""experiments/ship_lite.py: means of models, and one of several scales at one of them."""

import argparse
import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx
from test_scales import CONFIG
from test_unrolled import build

from experiments.ship_lite import load_mean, mixture, of_one_scale
from isr_jax.config import ConfigError
from isr_jax.inference.upscaler import Upscaler
from isr_jax.models.model_file import load_model, save_model
from isr_jax.solver.unrolled import ISRResCNet


def test_a_run_is_mixed_with_its_start_and_those_beside(tmp_path):
    runs = [tmp_path / name for name in ("start", "beside", "run")]
    for seed, run in enumerate(runs):
        save_model(run / "model.safetensors", build(seed))
        (run / "config.json").write_text(json.dumps({"checkpoint": {"init_from": str(runs[0])}}))
    given = argparse.Namespace(run=runs[2], beside=[runs[1]], parts=[0.5, 0.2, 0.3])
    leaves = [jax.tree.leaves(load_model(run)) for run in runs]
    for mean, start, beside, run in zip(jax.tree.leaves(load_mean(given)), *leaves, strict=True):
        np.testing.assert_allclose(mean, 0.5 * start + 0.2 * beside + 0.3 * run, rtol=1e-5, atol=1e-6)
    alone = load_mean(argparse.Namespace(run=runs[2], beside=[], parts=[]))
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(alone), leaves[2], strict=True))
    with pytest.raises(ConfigError, match="a number for the start"):
        load_mean(argparse.Namespace(run=runs[2], beside=[runs[1]], parts=[0.5, 0.5]))


def test_the_card_tells_each_part_or_what_is_said_instead(tmp_path):
    beside, run = tmp_path / "beside", tmp_path / "run"
    given = argparse.Namespace(run=run, beside=[beside], parts=[0.5, 0.2, 0.3], said=None)
    assert mixture(given) == {
        beside: ", of which 0.5 is mixed with 0.2 of this",
        run: ", of which 0.5 is mixed with 0.3 of this",
    }
    given.said = "with what the start had learned"
    assert mixture(given) == {run: ", with what the start had learned"}


def test_a_model_of_several_scales_is_at_one_what_it_was():
    config = CONFIG.model
    several = ISRResCNet(config, rngs=nnx.Rngs(0))
    one = of_one_scale(several, 2)
    assert one.config == dataclasses.replace(config, scale=2, scales=(2,))
    lr = np.random.default_rng(0).uniform(0, 255, (8, 9, 3)).astype(np.float32)
    told = {"blur": 1.2, "noise_std": 2.0}
    expected = Upscaler(several).upscale(lr, scale=2, **told)
    np.testing.assert_array_equal(Upscaler(one).upscale(lr, **told), expected)
