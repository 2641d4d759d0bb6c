import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from isr_jax.config import ConfigError, ERDConfig, ModelConfig, OptimizerConfig, ScheduleConfig
from isr_jax.models.model_file import get_params
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.training.state import average_params, make_bind


def test_bound_parameters_are_used_and_come_back():
    erd = ERDConfig(features=4, num_blocks=1, feedback_steps=0, resolution="lr")
    model = ISRResCNet(ModelConfig(scale=2, num_stages=1, physics="bicubic", prior=erd), rngs=nnx.Rngs(0))
    params = get_params(model)
    assert "prior.blocks.0.conv1.kernel" in params
    bind = make_bind(model)
    jax.tree.map(np.testing.assert_array_equal, get_params(bind(params)), params)
    lr = jnp.full((1, 6, 6, 3), 90.0).at[0, 2, 3].set(10.0)
    run = jax.jit(lambda m, lr: m(lr))
    np.testing.assert_array_equal(run(bind(params), lr), run(model, lr))
    other = {k: v + 0.1 for k, v in params.items()}
    assert not np.allclose(run(bind(other), lr), run(model, lr))


def test_schedules():
    rate = ScheduleConfig(kind="cosine", learning_rate=2.0, warmup_steps=4, final_fraction=0.1).build(104)
    np.testing.assert_allclose([rate(s) for s in (0, 1, 3, 4, 54, 104)], [0.5, 1, 2, 2, 1.1, 0.2], rtol=1e-5)
    rate = ScheduleConfig(kind="multistep", learning_rate=1.0, milestones=(0.5, 0.8)).build(10)
    np.testing.assert_allclose([rate(s) for s in (0, 4, 5, 7, 8, 9)], [1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-5)
    assert ScheduleConfig(kind="constant", learning_rate=3.0).build(10)(9) == 3


@pytest.mark.parametrize("kind", ["adam", "amsgrad", "adamw"])
def test_the_update_is_optax_own(kind):
    decay = 0.1 if kind == "adamw" else 0.0
    optimizer = OptimizerConfig(kind=kind, weight_decay=decay).build()
    reference = {
        "adam": optax.adam(0.01),
        "amsgrad": optax.amsgrad(0.01),
        "adamw": optax.adamw(0.01, weight_decay=decay),
    }[kind]
    params = expected = {"a": jnp.array([1.0, -2.0])}
    state, state2 = optimizer.init(params), reference.init(params)
    for grads in ({"a": jnp.array([0.3, 4.0])}, {"a": jnp.array([-2.0, 0.1])}):
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, jax.tree.map(lambda u: -0.01 * u, updates))
        updates, state2 = reference.update(grads, state2, expected)
        expected = optax.apply_updates(expected, updates)
    np.testing.assert_allclose(params["a"], expected["a"], rtol=1e-6)


def test_kernels_alone_decay_under_muon():
    params = {
        "prior.blocks.0.conv1.kernel": jnp.ones((3, 3, 2, 2)),
        "prior.encoder.bias": jnp.ones(2),
        "log_weight": 1.0,
    }
    grads = jax.tree.map(jnp.zeros_like, params)
    optimizer = OptimizerConfig(kind="muon", weight_decay=0.1).build()
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    for name, update in updates.items():
        np.testing.assert_allclose(update, 0.1 if name.endswith("kernel") else 0.0, atol=1e-6)
    with pytest.raises(ConfigError, match=r"optimizer\.adam has no weight_decay"):
        OptimizerConfig(kind="adam", weight_decay=0.1)


@pytest.mark.parametrize("per_stage", [pytest.param(False, marks=pytest.mark.slow), True])
def test_muon_orthogonalises_the_kernels_between_features_and_leaves_the_rest_to_adam(per_stage):
    erd = ERDConfig(features=6, num_blocks=1, feedback_steps=0, resolution="lr")
    config = ModelConfig(scale=2, num_stages=2, per_stage=per_stage, physics="bicubic", prior=erd)
    params = get_params(ISRResCNet(config, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    grads = {name: jnp.asarray(rng.normal(size=value.shape) * 1e-3, jnp.float32) for name, value in params.items()}
    optimizer = OptimizerConfig(kind="muon").build()
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    kernel = "prior.blocks.0.conv1.kernel"
    matrices = np.asarray(updates[kernel]).reshape(-1, 9 * 6, 6)
    assert len(matrices) == (2 if per_stage else 1)
    for matrix, gradient in zip(matrices, np.asarray(grads[kernel]).reshape(-1, 9 * 6, 6), strict=True):
        # Five Newton-Schulz steps bring every singular value near 1; times 0.2 sqrt(larger side), Adam's size.
        u, _, vt = np.linalg.svd(gradient, full_matrices=False)
        aligned = u.T @ matrix @ vt.T / (0.2 * np.sqrt(54))
        assert np.all((np.diag(aligned) > 0.6) & (np.diag(aligned) < 1.3))
        assert np.max(np.abs(aligned - np.diag(np.diag(aligned)))) < 0.01
    adam = optax.nadam(-1.0)
    expected, _ = adam.update(grads, adam.init(params))
    for name in {"log_radius", "prior.encoder.kernel", "prior.decoder.kernel", "prior.blocks.0.conv1.bias"}:
        np.testing.assert_allclose(updates[name], expected[name], rtol=1e-5)


def test_muon_orthogonalises_kernels_of_one_shape_together_and_each_as_if_alone():
    erd = ERDConfig(features=6, num_blocks=3, feedback_steps=0, kernel_size=3, resolution="lr")
    params = get_params(ISRResCNet(ModelConfig(scale=2, physics="bicubic", prior=erd), rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    grads = {name: jnp.asarray(rng.normal(size=value.shape) * 1e-3, jnp.float32) for name, value in params.items()}
    optimizer = OptimizerConfig(kind="muon").build()
    state = optimizer.init(params)
    updates, _ = optimizer.update(grads, state, params)
    for name in (f"prior.blocks.{i}.conv{j}.kernel" for i in range(3) for j in (1, 2)):
        alone = OptimizerConfig(kind="muon").build()
        expected, _ = alone.update({name: grads[name]}, alone.init({name: params[name]}), {name: params[name]})
        np.testing.assert_allclose(updates[name], expected[name], rtol=1e-4, atol=1e-6)
    products = jax.jit(optimizer.update).lower(grads, state, params).as_text().count("stablehlo.dot_general")
    assert products == 15  # five Newton-Schulz steps of three


def test_clipping_acts_on_the_global_norm():
    # The first moment shows what came through: (1 - b1) times the clipped gradient.
    optimizer = OptimizerConfig(clip_norm=1.0, b1=0.5).build()
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    _, state = optimizer.update({"a": jnp.array([30.0]), "b": jnp.array([40.0])}, optimizer.init(params), params)
    np.testing.assert_allclose([state[1].mu["a"][0], state[1].mu["b"][0]], [0.3, 0.4], rtol=1e-6)


def test_average_forgets_the_start_and_then_moves_slowly():
    one, zero = {"a": jnp.ones(())}, {"a": jnp.zeros(())}
    assert average_params(one, zero, jnp.int32(0), 0.9)["a"] == pytest.approx(0.1)
    assert average_params(one, zero, jnp.int32(10_000), 0.9)["a"] == pytest.approx(0.9)
    assert average_params(one, zero, jnp.int32(10_000), 0.0)["a"] == 0
