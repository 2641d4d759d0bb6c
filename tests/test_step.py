import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import isr_jax
from isr_jax.config import (
    ConfigError,
    DataConfig,
    DegradationConfig,
    ERDConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)
from isr_jax.models.model_file import get_params
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.training.data import Memory
from isr_jax.training.parallel import Parallel
from isr_jax.training.state import init_state, make_bind
from isr_jax.training.step import make_step, repeat_step

CONFIG = TrainConfig(
    model=ModelConfig(
        scale=2,
        num_stages=4,
        physics="bicubic",
        noise_from="lr",
        prior=ERDConfig(features=4, num_blocks=1, feedback_steps=1, kernel_size=3),
    ),
    data=DataConfig(batch_size=4, patch_size=8),
    optimizer=OptimizerConfig(ema_decay=0.9),
    schedule=ScheduleConfig(kind="constant", learning_rate=1e-2),
    steps=10,
)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    hr = rng.integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
    return {"lr": hr[:, ::2, ::2].copy(), "hr": hr}


def stepped(config, batch, steps=1, model=None):
    """Runs real steps on one device."""
    model = model or ISRResCNet(config.model, rngs=nnx.Rngs(0))
    parallel = Parallel(tuple(jax.devices()[:1]), "shard_map")
    step = make_step(model, config, total_steps=config.steps, shards=1)
    mapped = parallel.map_steps(repeat_step(step, steps), sharded=True)
    state = parallel.replicate(init_state(get_params(model), config.optimizer.build()))
    going, count = parallel.replicate((np.True_, np.int32(steps)))
    state, _, metrics = mapped(state, going, parallel.shard(batch), count)
    return jax.device_get(state), {name: values[-1] for name, values in jax.device_get(metrics).items()}


def assert_params_close(a, b, **tolerance):
    for name in a:
        np.testing.assert_allclose(a[name], b[name], err_msg=name, **tolerance)


@pytest.mark.parametrize(("kind", "expected"), [("l1", 2.0), ("l2", 5.0), ("charbonnier", 2.0)])
def test_losses_are_means_on_the_unit_scale(kind, expected):
    estimate, target = 255 * jnp.array([1.0, 4.0]).reshape(1, 1, 2, 1), 255 * jnp.array([0.0, 1.0]).reshape(1, 1, 2, 1)
    loss = LossConfig(kind=kind, epsilon=1e-6).build()
    assert loss(estimate, target) == pytest.approx(expected, rel=1e-5)


def test_the_mixed_loss_is_l1_and_the_ssim_that_pictures_are_judged_by():
    rng = np.random.default_rng(0)
    target = rng.uniform(0, 255, (2, 16, 20, 3)).astype(np.float32)
    estimate = (target + rng.normal(0, 30, target.shape)).astype(np.float32)
    similarity = np.mean([isr_jax.ssim(x, y) for x, y in zip(estimate, target, strict=True)])
    expected = 0.7 * np.abs(estimate - target).mean() / 255 + 0.3 * (1 - similarity)
    loss = LossConfig(kind="l1_ssim", ssim_weight=0.3).build()
    assert loss(jnp.asarray(estimate), jnp.asarray(target)) == pytest.approx(expected, rel=1e-4)
    gradient = jax.grad(lambda x: loss(x, jnp.asarray(target)))(jnp.asarray(target))
    assert np.isfinite(gradient).all()  # where all is right, too
    with pytest.raises(ConfigError, match=r"at least 11 pixels, not 8: raise data\.patch_size"):
        loss(jnp.zeros((1, 8, 16, 3)), jnp.zeros((1, 8, 16, 3)))


def test_one_step_is_adam_on_the_mean_gradient(batch):
    model = ISRResCNet(CONFIG.model, rngs=nnx.Rngs(0))
    params, bind = get_params(model), make_bind(model)
    lr, hr = (jnp.asarray(batch[k], jnp.float32) for k in ("lr", "hr"))
    loss, grads = jax.jit(jax.value_and_grad(lambda p: jnp.abs(bind(p)(lr) - hr).mean() / 255))(params)
    optimizer = optax.adam(1e-2)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    expected = optax.apply_updates(params, updates)
    state, metrics = stepped(CONFIG, batch)
    assert metrics["loss"] == pytest.approx(float(loss), rel=1e-5)
    # Adam's first step is the sign of the gradient: where that is rounding noise, either sign is right.
    sure = {k: np.abs(g) > 1e-7 for k, g in grads.items()}
    for name in expected:
        np.testing.assert_allclose(state.params[name][sure[name]], expected[name][sure[name]], atol=2e-5)
    assert state.step == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "accumulated", "windows"])
def test_steps_of_one_call_are_those_of_several(kind):
    """In the same bits, over 200 steps, by one program whatever their number."""
    optimizer = OptimizerConfig(kind="muon", accumulate=2 if kind == "accumulated" else 1)
    config = dataclasses.replace(
        CONFIG,
        data=dataclasses.replace(CONFIG.data, placement="memory"),
        loss=LossConfig(window=2 if kind == "windows" else 0),
        optimizer=optimizer,
        schedule=ScheduleConfig(kind="cosine", learning_rate=1e-3),
        steps=200,
    )
    model = ISRResCNet(config.model, rngs=nnx.Rngs(0))
    parallel = Parallel(tuple(jax.devices()[:1]), "shard_map")
    hr = np.random.default_rng(0).integers(0, 256, (8, 24, 24, 3)).astype(np.uint8)
    memory = Memory(
        np.ascontiguousarray(hr[:, ::2, ::2]), hr, np.full((8, 2), 12, np.int32), np.linspace(1 / 8, 1, 8, dtype="f")
    )
    memory, going = parallel.replicate((memory, np.True_))
    step = make_step(model, config, total_steps=200, shards=1)
    ends = []
    for most, calls in ((1, [1] * 200), (60, [1, 59, 60, 7, 60, 13])):
        steps = parallel.map_steps(repeat_step(step, most), sharded=False)
        state, metrics = parallel.replicate(init_state(get_params(model), config.optimizer.build())), []
        for count in calls:
            state, going, values = steps(state, going, memory, parallel.replicate(np.int32(count)))
            metrics.append({name: value[:count] for name, value in jax.device_get(values).items()})
        assert getattr(steps, "_cache_size", lambda: 1)() == 1
        ends.append((jax.device_get(state), {k: np.concatenate([m[k] for m in metrics]) for k in metrics[0]}))
    assert int(ends[0][0].step) == 200
    jax.tree.map(np.testing.assert_array_equal, *ends)


def test_all_stages_are_weighted(batch):
    config = dataclasses.replace(CONFIG, loss=LossConfig(stages="all", earlier_weight=0.25))
    model = ISRResCNet(config.model, rngs=nnx.Rngs(0))
    iterates = jax.jit(lambda model, lr: model(lr, all_stages=True))(model, jnp.asarray(batch["lr"], jnp.float32))
    losses = [jnp.abs(x - batch["hr"]).mean() / 255 for x in iterates]
    expected = 0.25 * sum(losses[:-1]) + losses[-1]
    assert stepped(config, batch)[1]["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_accumulated_parts_make_the_same_update(batch):
    parts = dataclasses.replace(CONFIG, optimizer=dataclasses.replace(CONFIG.optimizer, accumulate=2))
    (whole, a), (halves, b) = stepped(CONFIG, batch), stepped(parts, batch)
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-3)
    assert_params_close(whole.optimizer[1].mu, halves.optimizer[1].mu, atol=1e-7, rtol=1e-3)


def test_remat_changes_nothing_but_the_memory(batch):
    remat = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, remat=True))
    (a, first), (b, second) = stepped(CONFIG, batch), stepped(remat, batch)
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-6)
    assert_params_close(a.optimizer[1].mu, b.optimizer[1].mu, atol=1e-8, rtol=1e-4)


def eager_truncated(config, batch):
    """An independent truncated back-propagation: stage by stage, in the manner of a PyTorch training loop."""
    model = ISRResCNet(config.model, rngs=nnx.Rngs(0))
    bind, params = make_bind(model), get_params(model)
    optimizer = optax.adam(config.schedule.learning_rate)
    moments = optimizer.init(params)
    lr, hr = (jnp.asarray(batch[k], jnp.float32) for k in ("lr", "hr"))
    stages, k1 = config.model.num_stages, config.loss.window

    @functools.partial(jax.jit, static_argnums=2)
    def run_stage(params, state, k):
        return bind(params).iterate(observation, state, k, k + 1)[0]

    k2 = config.loss.depth or k1
    observation, state = jax.jit(model.prepare)(lr)
    trail, gradients = [state], []  # trail[k]: the detached state after k stages
    for k in range(stages):
        trail.append(run_stage(params, trail[-1], k))
        if (k + 1) % k1 == 0 or k + 1 == stages:
            start = max(0, k + 1 - k2)

            def loss(params, start=start, last=k + 1):
                state = trail[start]
                for j in range(start, last):
                    state = run_stage(params, state, j)
                return jnp.abs(state.x - hr).mean() / 255 * (1.0 if last == stages else config.loss.earlier_weight)

            grads = jax.jit(jax.grad(loss))(params)
            # The states that a deeper window passes through again were made with the weights of their time; the end
            # of the window is what the present weights make of its start.
            state = trail[start]
            for j in range(start, k + 1):
                state = run_stage(params, state, j)
            trail[-1] = state
            updates, moments = optimizer.update(grads, moments, params)
            params = optax.apply_updates(params, updates)
            gradients.append(grads)
    return params, moments, gradients


@pytest.mark.parametrize(("window", "depth"), [(2, 0), *(pytest.param(2, d, marks=pytest.mark.slow) for d in (1, 4))])
def test_truncated_back_propagation_agrees_with_an_eager_one(batch, window, depth):
    config = dataclasses.replace(CONFIG, loss=LossConfig(window=window, depth=depth))
    params, moments, gradients = eager_truncated(config, batch)
    state, metrics = stepped(config, batch)
    assert len(gradients) == 2
    assert metrics["gradient_norm"] == pytest.approx(float(optax.tree.norm(gradients[-1])), rel=2e-2)
    mu = state.optimizer[1].mu
    for name in mu:
        scale = max(float(jnp.abs(moments[0].mu[name]).max()), 1e-6)
        np.testing.assert_allclose(mu[name], moments[0].mu[name], atol=0.02 * scale, err_msg=name)
    assert state.optimizer[1].count == 2
    assert_params_close(params, state.params, atol=2.5e-2)


def test_half_precision_features_make_nearly_the_same_gradient(batch):
    erd = dataclasses.replace(CONFIG.model.erd, precision="bfloat16")
    half = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, prior=erd))
    (a, first), (b, second) = stepped(CONFIG, batch), stepped(half, batch)
    assert second["loss"] == pytest.approx(first["loss"], rel=1e-2)
    assert all(value.dtype == np.float32 for value in b.params.values())
    one, other = (np.concatenate([g.ravel() for g in s.optimizer[1].mu.values()]) for s in (a, b))
    assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.9


def test_one_window_of_all_stages_is_full_back_propagation(batch):
    window = dataclasses.replace(CONFIG, loss=LossConfig(window=CONFIG.model.num_stages))
    (a, first), (b, second) = stepped(CONFIG, batch), stepped(window, batch)
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-6)
    assert_params_close(a.optimizer[1].mu, b.optimizer[1].mu, atol=1e-8, rtol=1e-3)


def test_lr_patches_can_be_made_in_the_step(batch):
    degradation = DegradationConfig(
        bicubic=1.0, noise_std=(5.0, 5.0), border="symmetric", kernel_size=9, told="bicubic"
    )
    noisy = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, degradation=degradation))
    losses = [stepped(noisy, {**batch, "lr": lr})[1]["loss"] for lr in (batch["lr"], 0 * batch["lr"])]
    assert losses[0] == losses[1] != stepped(CONFIG, batch)[1]["loss"]


@pytest.mark.parametrize(
    "data_step",
    [*(pytest.param(d, marks=pytest.mark.slow) for d in ("gradient", "conjugate_gradient")), "closed_form"],
)
def test_the_solver_inverts_what_made_each_patch(batch, data_step):
    """Told the kernels, even an untrained solver that solves comes nearer to the truth than told another physics."""
    model = dataclasses.replace(
        CONFIG.model, data_step=data_step, learned_step=False, projection=False, data_step_iterations=5
    )
    losses = {}
    for told in ("physics", "decimation"):
        degradation = DegradationConfig(
            gaussian=1.0, gaussian_std=(0.8, 1.5), kernel_size=9, border="periodic", told=told
        )
        data = dataclasses.replace(CONFIG.data, degradation=degradation)
        state, metrics = stepped(dataclasses.replace(CONFIG, model=model, data=data), batch)
        assert metrics["finite"]
        assert all(np.isfinite(value).all() for value in state.params.values())
        losses[told] = float(metrics["loss"])
    if data_step != "gradient":  # one step of it is not yet a solution
        assert losses["physics"] < losses["decimation"]


def test_a_step_that_is_not_finite_leaves_the_state_alone(batch):
    model = ISRResCNet(CONFIG.model, rngs=nnx.Rngs(0))
    model.prior.decoder.bias[...] = jnp.full(3, jnp.nan)
    before = get_params(model)
    state, metrics = stepped(CONFIG, batch, model=model)
    assert not metrics["finite"]
    assert state.step == 0
    assert_params_close(state.params, before)
    assert_params_close(state.average, before)


def test_a_call_ends_with_a_step_that_is_not_finite_and_those_behind_it_do_nothing(batch):
    # From step 5 on, the rate is far too high.
    schedule = ScheduleConfig(kind="multistep", learning_rate=1e-3, factor=1e38, milestones=(0.5,))
    config = dataclasses.replace(CONFIG, schedule=schedule)
    parallel = Parallel(tuple(jax.devices()[:1]), "shard_map")
    model = ISRResCNet(config.model, rngs=nnx.Rngs(0))
    steps = parallel.map_steps(repeat_step(make_step(model, config, total_steps=10, shards=1), 4), sharded=True)
    state = parallel.replicate(init_state(get_params(model), config.optimizer.build()))
    going, count, source = *parallel.replicate((np.True_, np.int32(4))), parallel.shard(batch)
    finite, states = [], []
    for _ in range(3):
        state, going, metrics = steps(state, going, source, count)
        finite.append(jax.device_get(metrics["finite"]).tolist())
        states.append(jax.device_get(state))
    assert finite == [[True] * 4, [True, False, False, False], [False] * 4]
    assert [int(state.step) for state in states] == [4, 5, 5]
    jax.tree.map(np.testing.assert_array_equal, *states[1:])


@pytest.mark.parametrize("window", [0, 2])
def test_an_update_that_is_not_finite_leaves_the_state_alone(batch, window):
    # Loss and gradient are finite; the decay of the weights is not.
    config = dataclasses.replace(
        CONFIG,
        loss=LossConfig(window=window),
        optimizer=OptimizerConfig(kind="adamw", weight_decay=1e10),
        schedule=ScheduleConfig(kind="constant", learning_rate=1e30),
    )
    before = get_params(ISRResCNet(config.model, rngs=nnx.Rngs(0)))
    state, metrics = stepped(config, batch)
    assert np.isfinite(metrics["loss"])
    assert not metrics["finite"]
    assert state.step == 0
    assert_params_close(state.params, before)
    assert_params_close(state.average, before)


def test_windows_divide_the_stages():
    with pytest.raises(ConfigError, match="must divide"):
        dataclasses.replace(CONFIG, loss=LossConfig(window=3))
