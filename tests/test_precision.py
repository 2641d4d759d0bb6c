"""The precision of the network's products: in the model's file, while training alone, and as compilers see it."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import isr_jax
from isr_jax.config import ConfigError, DegradationConfig, ERDConfig, ModelConfig, PriorConfig, TrainConfig
from isr_jax.models.model_file import get_params, load_model
from isr_jax.solver.convolution import conv2d
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.training.parallel import Parallel
from isr_jax.training.state import init_state
from isr_jax.training.step import make_step, repeat_step
from tests.small_run import assert_same_state, last_state, small_config

OPERATION = re.compile(r"stablehlo\.(convolution|dot_general)\b.*")


def products(text):
    """The precision of every convolution and product in a lowered program, and the type of its result."""
    return [
        (
            match[1],
            (re.findall(r"precision(?:_config)? = \[(?:#stablehlo<precision )?(\w+)", match[0]) or ["DEFAULT"])[0],
            re.findall(r"x([a-z]+\d+)>", match[0])[-1],
        )
        for match in OPERATION.finditer(text)
    ]


def lowered_step(config, platform):
    model = ISRResCNet(config.model, rngs=nnx.Rngs(0))
    step = make_step(model, config, total_steps=9, shards=1)
    mapped = Parallel(tuple(jax.devices()[:1]), "shard_map").map_steps(repeat_step(step, 1), sharded=True)
    state = jax.eval_shape(lambda: init_state(get_params(model), config.optimizer.build()))
    side = config.data.drawn_size(config.model.scale)
    shapes = {"lr": (2, side, side, 3), "hr": (2, 2 * side, 2 * side, 3)}
    batch = {name: jax.ShapeDtypeStruct(shape, jnp.uint8) for name, shape in shapes.items()}
    going, count = jax.ShapeDtypeStruct((), jnp.bool), jax.ShapeDtypeStruct((), jnp.int32)
    return mapped.trace(state, going, batch, count).lower(lowering_platforms=(platform,)).as_text()


def config_of(folder, precision, **changes):
    """Blur, JPEG and data steps beside the network."""
    config = small_config(folder, precision=precision, **changes)
    degradation = DegradationConfig(gaussian=1.0, kernel_size=7, noise_std=(0.0, 3.0), jpeg_quality=(60.0, 95.0))
    data = dataclasses.replace(config.data, placement="stream", patch_size=8, degradation=degradation)
    return dataclasses.replace(config, data=data)


def test_on_a_gpu_the_network_alone_is_fast_and_only_if_told(tmp_path):
    exact = products(lowered_step(config_of(tmp_path, "model"), "cuda"))
    assert {precision for _, precision, _ in exact} == {"HIGHEST"}
    fast = products(lowered_step(config_of(tmp_path, "tf32"), "cuda"))
    assert [p[0] for p in fast] == [p[0] for p in exact]
    changed = [a for a, b in zip(fast, exact, strict=True) if a != b]
    # Encoder, two convolutions of the block, decoder: forward, to the weights, and to the features but of the encoder.
    assert changed == [("convolution", "DEFAULT", "f32")] * len(changed)
    assert 4 + 4 + 3 <= len(changed) <= 4 + 4 + 4
    assert len(changed) < len(exact)


def test_in_bfloat16_the_decoder_sums_in_float32(tmp_path):
    config = ModelConfig(
        scale=2, num_stages=1, physics="none", projection=False, extrapolation=False,
        prior=ERDConfig(features=4, num_blocks=1, feedback_steps=0, weight_norm=False, border="zero", resolution="lr",
                        precision="bfloat16"),
    )  # fmt: skip
    model = ISRResCNet(config, rngs=nnx.Rngs(0))
    lr = jnp.zeros((1, 8, 8, 3))
    text = jax.jit(lambda m, x: m(x)).trace(model, lr).lower(lowering_platforms=("cuda",)).as_text()
    kinds = [kind for name, _, kind in products(text) if name == "convolution"]
    assert kinds.count("bf16") == 3
    assert kinds.count("f32") == 1


def test_sums_in_float32_are_closer_and_have_derivatives():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 9, 9, 64)), jnp.bfloat16)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 64, 4)) / 24, jnp.bfloat16)
    exact = conv2d(x.astype(jnp.float32), kernel.astype(jnp.float32))
    summed, rounded = conv2d(x, kernel, dtype=jnp.float32), conv2d(x, kernel)
    assert (summed.dtype, rounded.dtype) == (jnp.float32, jnp.bfloat16)
    assert float(jnp.abs(summed - exact).max()) < 1e-4 < float(jnp.abs(rounded - exact).max())

    def loss(x, kernel):
        return jnp.sum(jnp.sin(conv2d(x, kernel, dtype=jnp.float32)))

    gradients = jax.jit(jax.grad(loss, (0, 1)))(x, kernel)
    expected = jax.grad(loss, (0, 1))(x.astype(jnp.float32), kernel.astype(jnp.float32))
    for g, e in zip(gradients, expected, strict=True):
        assert g.dtype == jnp.bfloat16
        np.testing.assert_allclose(g.astype(jnp.float32), e, atol=0.02 * float(jnp.abs(e).max()))


def test_on_a_cpu_tf32_is_float32_and_the_model_says_what_it_was_told(tmp_path):
    runs = {}
    for precision in ("model", "tf32", "bfloat16"):
        config = small_config(tmp_path, precision=precision, steps=3)
        isr_jax.fit(config, tmp_path / precision, quiet=True)
        runs[precision] = last_state(tmp_path / precision, config).state
        assert load_model(tmp_path / precision).config.erd.precision == "float32"
    assert_same_state(runs["model"], runs["tf32"])
    assert any(bool((runs["model"].params[k] != v).any()) for k, v in runs["bfloat16"].params.items())


def test_the_model_itself_may_be_fast(tmp_path):
    model = dataclasses.replace(small_config(tmp_path).model, prior=ERDConfig(precision="tf32"))
    assert TrainConfig(steps=1, model=model, precision="float32").trained_model.erd.precision == "float32"
    assert TrainConfig(steps=1, model=model).trained_model == model


class OtherPrior(PriorConfig):
    implementation = "other:Prior"


def test_another_network_has_no_precision():
    with pytest.raises(ConfigError, match="precision is that of an ERD"):
        TrainConfig(steps=1, model=ModelConfig(prior=OtherPrior()), precision="tf32")
