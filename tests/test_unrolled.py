import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import nnx
from test_erd import LR, named, randomised
from test_physics import gaussian

from isr_jax.config import ConfigError, ERDConfig, LossConfig, ModelConfig, TrainConfig
from isr_jax.models.model_file import get_params
from isr_jax.physics.blur import Blur
from isr_jax.physics.fourier import closed_form
from isr_jax.physics.kernels import gaussian_kernel
from isr_jax.physics.names import make_physics
from isr_jax.physics.noise_level import DB7_HIGH_PASS
from isr_jax.physics.sampling import Bicubic, Decimation
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.training.state import make_bind

SMALL = ERDConfig(features=6, num_blocks=2, feedback_steps=2)


def pictures(shape=(2, 10, 12, 3), seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(0, 255, shape), jnp.float32)


def build(seed=0, **options):
    config = ModelConfig(**({"scale": 2, "num_stages": 3, "prior": SMALL} | options))
    return randomised(ISRResCNet(config, rngs=nnx.Rngs(seed)), seed)


@jax.jit
def run(model, lr):
    return model(lr, all_stages=True)


@pytest.mark.parametrize("mode", ["released_bicubic", "released_bilinear", "released_kernel", "released_decimation"])
@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_every_iterate_as_defined(mode, channels):
    """The whole solver against the independent one in `reference.py`, in float64."""
    model = build(physics=mode, channels=channels)
    lr = pictures((2, 10, 12, channels))
    kernel = gaussian(5, 1.2, channels) if mode == "released_kernel" else None
    physics = make_physics(mode, scale=2, kernel=None if kernel is None else kernel[None])
    iterates = jax.jit(lambda model, lr: model(lr, physics=physics, all_stages=True))(model, lr)
    for i in range(2):
        y = np.asarray(lr[i])
        expected = reference.solve(
            named(model, ""),
            y,
            mode=mode,
            s=2,
            num_stages=3,
            sigma=reference.noise_std(y, DB7_HIGH_PASS),
            kernel=kernel,
            feedback_steps=2,
            num_blocks=2,
        )
        np.testing.assert_allclose(iterates[:, i], expected, atol=0.02)


def test_the_released_network_has_its_number_of_parameters():
    abstract = nnx.eval_shape(lambda: ISRResCNet(ModelConfig(), rngs=nnx.Rngs(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(abstract)) == 388_823


def test_initial_radii_and_momenta():
    model = ISRResCNet(ModelConfig(prior=SMALL), rngs=nnx.Rngs(0))
    np.testing.assert_allclose(model.log_radius[...], np.linspace(np.log(2), np.log(1), 10), atol=1e-6)
    k = np.arange(1, 10)
    np.testing.assert_allclose(model.log_momentum[1:], np.log(k / (k + 3)), atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [pytest.param({}, marks=pytest.mark.slow), {"physics": "bicubic", "learned_step": True, "prior": LR}],
)
def test_a_stack_of_copies_is_the_shared_network_bit_for_bit(options):
    shared, stacked = build(**options), build(per_stage=True, **options)
    stacked.prior = jax.tree.map(lambda p: jnp.stack([p] * 3), shared.prior)
    stacked.log_radius[...], stacked.log_momentum[...] = shared.log_radius[...], shared.log_momentum[...]
    if shared.config.learned_step:
        stacked.step[...] = shared.step[...]
    np.testing.assert_array_equal(run(stacked, pictures()), run(shared, pictures()))


@pytest.mark.parametrize("per_stage", [pytest.param(False, marks=pytest.mark.slow), True])
def test_fewer_stages_are_the_first_of_many(per_stage):
    model = build(per_stage=per_stage)
    iterates = run(model, pictures())
    assert iterates.shape == (3, 2, 20, 24, 3)
    two = jax.jit(lambda model, lr: model(lr, num_stages=2))(model, pictures())
    np.testing.assert_allclose(two, iterates[1], atol=1e-3)
    with pytest.raises(ValueError, match="has 3"):
        model(pictures(), num_stages=4)


def test_the_final_data_step_brings_the_result_nearer_to_the_observation():
    options = {"physics": "bicubic", "projection": False, "clip": False, "prior": LR}
    without, model = build(**options), build(final_data_step=True, **options)
    lr = pictures()
    before, after = run(without, lr), run(model, lr)
    h = Bicubic(2)
    for k in range(3):  # exactly one step of descent, after each stage that one may stop at
        step = 4 * h.adjoint(h.apply(before[k]) - lr)
        np.testing.assert_allclose(after[k], before[k] - step, atol=2e-3)
        distances = [float(jnp.linalg.norm(h.apply(x[k]) - lr)) for x in (before, after)]
        assert distances[1] < 0.5 * distances[0]
    np.testing.assert_allclose(jax.jit(lambda model, lr: model(lr))(model, lr), after[-1], atol=2e-3)
    clipped = run(build(final_data_step=True, **(options | {"clip": True})), lr)
    assert 0 <= float(jnp.min(clipped)) < float(jnp.max(clipped)) <= 255
    with pytest.raises(ConfigError, match="needs an observation model"):
        ModelConfig(physics="none", final_data_step=True)
    with pytest.raises(ConfigError, match="loss.window"):
        TrainConfig(steps=1, model=model.config, loss=LossConfig(window=1))


@pytest.mark.parametrize("options", [{}, {"physics": "bicubic", "projection": False, "prior": LR}])
def test_stages_may_run_in_windows(options):
    model = build(**options)

    @jax.jit
    def windows(model, lr):
        observation, state = model.prepare(lr)
        state, first = model.iterate(observation, state, 0, 1)
        _, rest = model.iterate(observation, state, 1, 3)
        return jnp.concatenate([first, rest])

    np.testing.assert_allclose(windows(model, pictures()), run(model, pictures()), atol=2e-3)


def test_images_of_a_batch_do_not_see_each_other():
    model = build()
    together = run(model, pictures())
    for i in range(2):
        np.testing.assert_allclose(run(model, pictures()[i : i + 1])[:, 0], together[:, i], atol=1e-2)


@pytest.mark.slow
def test_remat_changes_no_number():
    def loss(model, lr):
        return jnp.mean(jnp.abs(model(lr) - 100))

    plain, remat = build(), build(remat=True)
    np.testing.assert_array_equal(run(plain, pictures()), run(remat, pictures()))
    a, b = jax.jit(jax.grad(loss))(plain, pictures()), jax.jit(jax.grad(loss))(remat, pictures())
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4 * float(jnp.max(jnp.abs(x)) + 1e-6))


@pytest.mark.parametrize("physics", ["bicubic", pytest.param("released_bicubic", marks=pytest.mark.slow)])
def test_the_derivative_agrees_with_a_difference(physics):
    # A stronger start than the random network's: inside the ball, away from the kinks of clip and |x|.
    model = build(physics=physics, clip=False)
    lr = pictures((1, 8, 8, 3)) / 2 + 60

    @jax.jit
    def loss(gain, model):
        model = nnx.clone(model)
        model.prior.decoder.gain[...] = model.prior.decoder.gain[...] * gain
        model.log_radius[...] = model.log_radius[...] * gain
        return jnp.mean((model(lr) / 255) ** 2)

    numeric = (loss(1.005, model) - loss(0.995, model)) / 0.01
    assert float(jax.grad(loss)(1.0, model)) == pytest.approx(float(numeric), rel=0.03, abs=1e-6)


def test_a_given_noise_level_replaces_the_estimate():
    model = build()
    given = jax.jit(lambda model, lr, noise_std: model(lr, noise_std=noise_std))
    zero = given(model, pictures(), jnp.zeros(2))
    without = build(extrapolation=True)
    without.prior.decoder.gain[...] = jnp.zeros_like(without.prior.decoder.gain[...])
    without.prior.decoder.bias[...] = jnp.zeros(3)
    np.testing.assert_allclose(zero, run(without, pictures())[-1], atol=1e-3)  # a ball of radius 0 removes nothing
    assert float(jnp.max(jnp.abs(given(model, pictures(), jnp.full(2, 20.0)) - zero))) > 1


def test_the_data_term_alone_makes_the_picture_consistent():
    """With a network that removes nothing, the stages minimise ||H x - y||: Landweber with momentum."""
    model = build(physics="bicubic", projection=False, num_stages=10, prior=dataclasses.replace(LR))
    model.prior = jax.tree.map(jnp.zeros_like, model.prior)
    lr = pictures((1, 12, 12, 3))
    iterates = run(model, lr)
    residuals = [float(jnp.linalg.norm(Bicubic(2).apply(x) - lr)) for x in iterates]
    assert residuals[-1] < 0.5 * residuals[0]


def test_half_the_options_of_the_small_network():
    model = build(physics="bicubic", projection=False, extrapolation=False, clip=False, prior=LR, per_stage=True)
    assert run(model, pictures()).shape == (3, 2, 20, 24, 3)
    grads = jax.jit(jax.grad(lambda model, lr: jnp.mean((model(lr) - 128) ** 2)))(model, pictures())
    flat = named(grads, "")
    unused = {"log_radius"}
    assert {name for name, g in flat.items() if not np.abs(g).max() > 0} == unused


def test_flips_and_transposes_commute_with_the_data_term():
    """MATLAB's bicubic treats all eight orientations alike; what the self-ensemble averages is the network alone."""
    model = build(physics="bicubic", projection=False, num_stages=2, prior=LR)
    model.prior = jax.tree.map(jnp.zeros_like, model.prior)
    lr = pictures((1, 9, 12, 3))
    x = run(model, lr)[-1]
    np.testing.assert_allclose(run(model, lr[:, ::-1])[-1], x[:, ::-1], atol=1e-3)
    np.testing.assert_allclose(run(model, lr.transpose(0, 2, 1, 3))[-1], x.transpose(0, 2, 1, 3), atol=1e-3)


def test_without_a_data_term_only_the_network_changes_the_initial_estimate():
    """At LR resolution, where the network is told a residual of zero."""
    model = build(physics="none", projection=False, extrapolation=False, clip=False, num_stages=1, prior=LR)
    lr = pictures((1, 9, 12, 3))
    _, state = model.prepare(lr)
    noise, _ = model.prior(state.x, jnp.zeros_like(lr), None, state.carried)
    assert float(jnp.max(jnp.abs(noise))) > 1
    np.testing.assert_allclose(run(model, lr)[-1], state.x - noise, atol=1e-3)


def test_wrong_shapes_and_configurations_are_refused():
    with pytest.raises(ValueError, match="wants"):
        build()(pictures((1, 8, 8, 1)))
    with pytest.raises(ConfigError, match="greater than 0"):
        ModelConfig(radius_range=(2.0, 0.0))
    with pytest.raises(ConfigError, match="channels"):
        ModelConfig(channels=2)


SOLVED = {"scale": 3, "num_stages": 1, "physics": "blur", "data_step": "closed_form", "data_step_place": "after"}
SOLVED |= {"start_weights": (1e-5, 1e-3, 1e-1), "extrapolation": False, "projection": False, "clip": False, "prior": LR}


def solved(**options):
    return ISRResCNet(ModelConfig(**SOLVED | options), rngs=nnx.Rngs(0))


def gaussians(std):
    return gaussian_kernel((std, std), 0.0)[None, ..., None]


def test_the_start_is_the_smooth_solution_and_the_prior_sees_the_others():
    model = solved()
    physics = Decimation(3) @ Blur(gaussians(1.5), "periodic")
    lr = jnp.asarray(np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)), jnp.float32)
    noise_std = jnp.array([0.0, 5.0])
    observation, state = model.prepare(lr, physics=physics, noise_std=noise_std)
    blur = physics.as_blur()
    weights = [w * (1 + noise_std**2) for w in (1e-5, 1e-3, 1e-1)]
    low, middle, high = (closed_form(blur, lr, None, w, smooth=True) for w in weights)
    np.testing.assert_allclose(state.x, middle, atol=1e-2)
    np.testing.assert_allclose(observation.shown, jnp.concatenate([low, high], -1), atol=1e-2)
    # The prior starts with a decoder of zeros: the stage is its data step, near the middle solution.
    weight = model.config.data_weight[0] * (1 + noise_std**2)
    np.testing.assert_allclose(
        model(lr, physics=physics, noise_std=noise_std), closed_form(blur, lr, middle, weight), atol=1e-2
    )


def test_the_solution_at_a_border_that_is_not_periodic_is_that_of_the_picture_continued():
    # A constant picture stays one, whatever the border.
    physics = Decimation(3) @ Blur(gaussians(1.5))
    x = solved()(jnp.full((1, 8, 9, 3), 100.0), physics=physics, noise_std=jnp.zeros(1))
    assert x.shape == (1, 24, 27, 3)
    np.testing.assert_allclose(x, 100, atol=0.05)


def test_each_scale_has_its_own_heads_and_weights_and_the_same_blocks():
    several = solved(scales=(2, 3))
    rng = np.random.default_rng(0)
    params = {
        name: jnp.asarray(rng.normal(size=p.shape) * 0.05 - 0.5, jnp.float32) for name, p in get_params(several).items()
    }
    several = make_bind(several)(params)
    kernel = gaussians(1.0)
    lr = jnp.asarray(rng.uniform(0, 255, (1, 8, 8, 3)), jnp.float32)
    for index, scale in enumerate((2, 3)):
        alone = solved(scale=scale)
        own = {name.replace(f".x{scale}.", "."): p for name, p in params.items()}
        own |= {name: params[name][index] for name in ("log_weight", "log_start_weight")}
        alone = make_bind(alone)({name: own[name] for name in get_params(alone)})
        physics = Decimation(scale) @ Blur(kernel, "periodic")
        options = {"physics": physics, "noise_std": jnp.ones(1)}
        np.testing.assert_allclose(several(lr, **options), alone(lr, **options), atol=1e-3)
        assert several.macs_per_pixel(scale=scale) == alone.macs_per_pixel()
    with pytest.raises(ValueError, match="the physics has the scale 4, the model 2, 3"):
        several(lr, physics=Decimation(4) @ Blur(kernel))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": (2, 4)}, "model.scale=3 among them"),
        ({"start_weights": (1e-3, 1e-2)}, "odd number"),
        ({"data_step": "gradient"}, "closed_form"),
        ({"final_data_step": True}, "data_step_place"),
        ({"prior": SMALL, "scales": (2, 3)}, "resolution"),
    ],
)
def test_what_does_not_go_together(options, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**SOLVED | options)
