"""isr_jax.inference.stages: networks whose norm is the whole picture's, in windows."""

import jax
import numpy as np
import pytest
from random_model import random_model

from isr_jax.config import ERDConfig, ModelConfig
from isr_jax.inference.upscaler import Upscaler
from isr_jax.models.convert_torch import load_released_weights
from isr_jax.models.model_file import model_from_parameters
from isr_jax.physics.resize import imresize

TINY = {"features": 4, "num_blocks": 1, "kernel_size": 3, "feedback_steps": 1}


@jax.jit
def whole(model, lr, **known):
    return model(lr, **known)


def smooth(height, width, seed=0):
    small = np.random.default_rng(seed).uniform(0, 255, (-(-height // 4), -(-width // 4), 3)).astype("f4")
    noise = np.random.default_rng(1).normal(0, 2, (height, width, 3)).astype("f4")
    return (imresize(small, size=(height, width)) + noise).clip(0, 255)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"physics": "released_decimation", "per_stage": True, "scale": 3},
        {"physics": "bicubic", "noise_from": "initial", "learned_step": True},
        {"physics": "none", "clip": False, "extrapolation": False, "prior": ERDConfig(**TINY, resolution="lr")},
    ],
)
def test_windows_give_the_whole_picture(monkeypatch, options):
    model = random_model(ModelConfig(**({"scale": 2, "num_stages": 3, "prior": ERDConfig(**TINY)} | options)))
    lr = np.stack([smooth(40, 66), smooth(40, 66, 2)])
    monkeypatch.setattr("isr_jax.inference.runner.MAX_WINDOW_FEATURES", 16)
    monkeypatch.setattr("isr_jax.inference.tiles.LEAST_KEPT", 8)
    upscaler = Upscaler(model)
    hr = upscaler.upscale_batch(lr)
    assert min(shape[1] * shape[2] for shape in upscaler.program_bytes) < 40 * 66  # the start is whole
    assert upscaler.compilations + upscaler.cache_hits == 2  # and a stage's window, for all stages
    np.testing.assert_allclose(hr, whole(model, lr), atol=1e-3)
    assert np.abs(hr - Upscaler(model, num_stages=1).upscale_batch(lr)).mean() > 0.01
    told = upscaler.upscale_batch(lr, noise_std=[1, 9])
    np.testing.assert_allclose(told, whole(model, lr, noise_std=np.array([1, 9], "f4")), atol=1e-3)


@pytest.mark.slow
def test_the_released_network_in_windows(monkeypatch, shared):
    """The paper's x4 with the weights that its converter was tested with, ten stages."""
    golden = load_released_weights(shared / "golden/isrrescnet/isrrescnet_x4.pth", ModelConfig())
    model = model_from_parameters(ModelConfig(), golden)
    lr = smooth(40, 64)[None]
    monkeypatch.setattr("isr_jax.inference.runner.MAX_WINDOW_FEATURES", 2**8)
    monkeypatch.setattr("isr_jax.inference.tiles.LEAST_KEPT", 4)
    upscaler = Upscaler(model)
    hr = upscaler.upscale_batch(lr)
    assert (1, 40, 64, 3) in upscaler.program_bytes
    assert len(upscaler.program_bytes) == 2
    np.testing.assert_allclose(hr, whole(model, lr), atol=1e-3)


def test_what_more_than_a_projection_makes_whole(monkeypatch):
    monkeypatch.setattr("isr_jax.inference.runner.MAX_WINDOW_FEATURES", 1)
    for options in ({"data_step_place": "after"}, {"final_data_step": True}, {"data_step": "conjugate_gradient"}):
        model = random_model(ModelConfig(physics="bicubic", prior=ERDConfig(**TINY), **options))
        assert model.stage_reach() is None
    carries = ERDConfig(**TINY, resolution="lr", carry_features=True)
    assert random_model(ModelConfig(physics="bicubic", prior=carries)).stage_reach() is None
    assert random_model(ModelConfig(physics="released_bilinear", prior=ERDConfig(**TINY))).stage_reach() is None
