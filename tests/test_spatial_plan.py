"""isr_jax.inference.spatial_plan: what is counted is what is computed and sent."""

import math

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from random_model import SEVERAL, random_model

from isr_jax.config import ConfigError, ERDConfig, ModelConfig
from isr_jax.inference.spatial_plan import count_work, plan_picture

ERD = ERDConfig(features=8, num_blocks=2, feedback_steps=0, kernel_size=3, resolution="lr", border="zero")
PLAIN = ModelConfig(scale=2, num_stages=3, physics="bicubic", projection=False, extrapolation=False, prior=ERD)


def test_products_convolutions_transforms_and_loops_are_counted():
    def work(x, y, kernel):
        x = lax.fori_loop(0, 3, lambda _, x: x @ y, x)  # of known length: a scan
        image = lax.conv_general_dilated(x[None, :, :, None], kernel, (1, 1), "SAME", dimension_numbers=DIMENSIONS)
        return jnp.fft.fft(image[0, :, :, :], axis=1)

    traced = jax.jit(work).trace(jnp.ones((8, 8)), jnp.ones((8, 8)), jnp.ones((3, 3, 1, 5)))
    counted = count_work(traced.jaxpr)
    assert counted.flops == 3 * 2 * 8**3 + 2 * (64 * 5) * 9 + 5 * (64 * 5) * 3
    assert counted.sent_bytes == 0
    assert count_work(traced.jaxpr, devices=4).flops == counted.flops / 4


DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def test_a_plan_is_the_network_s_work_and_the_halos():
    model = random_model(PLAIN)
    reach = model.reach()
    assert reach is not None
    alone = plan_picture(model, (640, 960), 1, memory=math.inf)
    networks = 2 * model.macs_per_pixel() * 640 * 960 * 4
    assert 1 < alone.work.flops / networks < 1.2  # and the data steps
    assert (alone.passes, alone.grid, alone.work.sent_bytes, alone.work_factor) == (1, (1, 1), 0, 1)
    four = plan_picture(model, (640, 960), 4, memory=math.inf)
    rows, cols = four.grid
    assert four.devices == rows * cols == 4
    window = (640 // rows + 2 * reach * (rows > 1), 960 // cols + 2 * reach * (cols > 1))
    assert four.window == window
    assert four.work_factor == pytest.approx(4 * math.prod(window) / (640 * 960), rel=1e-3)
    sent = (rows > 1) * 2 * reach * (960 // cols) + (cols > 1) * 2 * reach * window[0]
    assert four.work.sent_bytes == sent * 3 * 4


def test_what_does_not_fit_is_done_in_passes():
    model = random_model(PLAIN)
    one = plan_picture(model, (2000, 3000), 4, memory=math.inf)
    several = plan_picture(model, (2000, 3000), 4, memory=one.memory_bytes / 3)
    assert several.passes >= 4
    assert several.memory_bytes <= one.memory_bytes / 3
    assert 1 < one.work_factor < several.work_factor < 1.3


def test_a_norm_and_a_closed_form_send_more():
    normed = random_model(ModelConfig(scale=2, num_stages=3, prior=ERD))
    plan = plan_picture(normed, (400, 300), 4, memory=math.inf)
    assert plan.passes == 1
    assert plan.work.sent_bytes > 3 * 2 * (normed.prior.reach * 2) * 600 * 3 * 4  # HR rows, in each stage
    assert plan.work_factor > 1
    with pytest.raises(ConfigError, match="needs the blur"):
        plan_picture(random_model(ModelConfig(scale=2, **SEVERAL)), (400, 300), 4, memory=math.inf)
