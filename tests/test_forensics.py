import dataclasses

import jax
import numpy as np
import pytest

from isr_jax.config import OptimizerConfig, ScheduleConfig
from isr_jax.training.forensics import diagnose
from tests.small_run import fresh_state, small_config


@pytest.fixture(scope="module")
def batch():
    hr = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3)).astype(np.uint8)
    return {"lr": hr[:, ::2, ::2].copy(), "hr": hr}


def test_a_final_data_step_that_is_not_finite_is_named(tmp_path, batch):
    config = small_config(tmp_path)
    config = dataclasses.replace(
        config, model=dataclasses.replace(config.model, num_stages=1, clip=False, final_data_step=True)
    )
    state = jax.device_get(fresh_state(config))
    # A network whose output is nearly the largest that float32 holds, of one sign in a quarter of the pixels and of the
    # other in the rest: the stage ends finite, and the data step after it overflows.
    bias = state.params["prior.decoder.bias"]
    state.params["prior.decoder.bias"] = np.where(np.arange(bias.size) < 3, 1.33e36, -1.33e36).astype(bias.dtype)
    assert "the final data step (bicubic)" in diagnose(config, state, batch)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"schedule": ScheduleConfig(learning_rate=1e30)}, "too large at learning rate"),
        ({"optimizer": OptimizerConfig(kind="adamw", weight_decay=3e38)}, "optimiser"),
    ],
)
def test_an_update_that_is_not_finite_is_named(tmp_path, batch, changes, named):
    config = small_config(tmp_path, **changes)
    state = jax.device_get(fresh_state(config))
    assert named in diagnose(config, state, batch)
