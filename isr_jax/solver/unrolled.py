r"""ISRResCNet: super-resolution by unrolled proximal gradient steps whose prior is a small network.

The picture x that was observed as y = H x + n is the minimiser of 1/2 ||y - H x||^2 + lambda R(x). Each stage takes
one step towards it:

    z_k     = x_k + e^{w_k} (x_k - x_{k-1})               extrapolation (none at k = 0)
    u_k     = z_k - step_k  H^T (H z_k - y)               data step; or another, see `data_step`
    x_{k+1} = clip(u_k - P_{eps_k}(D(u_k)), 0, 255)       proximal step, in residual form
    eps_k   = e^{alpha_k} sigma sqrt(N - 1)               radius of the noise, N = height x width x channels

D is the prior, a network (`erd`) that estimates the noise in u_k; P projects its estimate on the l2 ball that the noise
lies in (`proximal`); sigma is the noise level of y; H is a physics (`isr_jax.physics.physics`), the model's own or one
that is given with the pictures. alpha_k, w_k and D are learned. The K stages are one `jax.lax.scan`; one more data step
may follow the last. With a data step that solves, the stages are half-quadratic splitting; the data step may also come
after the proximal step, and the start be the solution without a network (`ModelConfig.start_weights`). One model may
serve several scales: that of a call is its physics'.

References: Umer, Foresti, Micheloni: Deep Iterative Residual Convolutional Network for Single Image Super-Resolution,
ICPR 2020 (arXiv 2009.04809).
"""

import copy
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from isr_jax.config import ModelConfig
from isr_jax.physics.names import make_physics
from isr_jax.physics.noise_level import estimate_noise_std
from isr_jax.physics.physics import Physics
from isr_jax.solver.data_step import FADED, LOG_UNIT, ClosedForm, make_data_step, smooth_solution, weight_for_noise
from isr_jax.solver.layers import fold_weight_norm
from isr_jax.solver.proximal import noise_radius, project_l2_ball


class Observation(NamedTuple):
    """What a stage needs to know of the LR images; constant over the stages."""

    lr: Float[Array, "batch height width channels"]
    """The observation y, 0..255."""
    noise_std: Float[Array, " batch"]
    """Noise level sigma per image, on the 0..255 scale."""
    error_std: Float[Array, " batch"] | None
    """Level of other errors per image, which the physics knows of."""
    physics: Physics
    """H."""
    prepared: Any
    """What the data step computed beforehand."""
    shown: Float[Array, "batch hr_height hr_width others"] | None
    """What the prior sees beside the picture: the other solutions without a network, in the channels."""

    @property
    def total_std(self) -> Float[Array, " batch"]:
        """Of noise and other errors together: what data steps weigh the observation by."""
        if self.error_std is None:
            return self.noise_std
        return jnp.sqrt(jnp.square(self.noise_std) + jnp.square(self.error_std))

    @property
    def levels(self) -> Float[Array, "batch 2"]:
        """Of noise, and of other errors."""
        error_std = jnp.zeros_like(self.noise_std) if self.error_std is None else self.error_std
        return jnp.stack([self.noise_std, error_std], axis=1)


class SolverState(NamedTuple):
    """What one stage hands to the next."""

    x: Float[Array, "batch hr_height hr_width channels"]
    """The current estimate x_k, 0..255."""
    previous: Float[Array, "batch hr_height hr_width channels"]
    """The estimate before, x_{k-1}; equal to x at the start, so that the first stage does not extrapolate."""
    carried: Any
    """What the prior hands from stage to stage; None for most."""


class StageParameters(NamedTuple):
    """What differs from stage to stage; with a leading axis of stages, the `xs` of the scan."""

    log_radius: Array  # alpha_k
    log_momentum: Array | None  # w_k
    amount: Array | None  # of the data step: factor of the step size, or logarithm of the weight
    prior: Any  # None: all stages share one


class StageTerms(NamedTuple):
    """What a stage computes, in its order."""

    extrapolated: Array  # z
    data_step: Array  # u
    noise: Array  # D(u)
    state: SolverState


class ISRResCNet(nnx.Module):
    """The unrolled solver. With the default configuration it is the released network; see `ModelConfig`."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config = config
        num_stages = config.num_stages
        self.log_radius = nnx.Param(jnp.asarray(np.log(np.geomspace(*config.radius_range, num_stages)), jnp.float32))
        if config.extrapolation:
            k = np.maximum(np.arange(num_stages), 1)  # the first entry is never used
            self.log_momentum = nnx.Param(jnp.asarray(np.log(k / (k + 3)), jnp.float32))
        if config.learned_step:
            self.step = nnx.Param(jnp.ones(num_stages))
        self.data_step = make_data_step(config)
        if self.data_step.solves:
            weights = np.geomspace(*config.data_weight, num_stages + config.final_data_step)
            self.log_weight = nnx.Param(self._log_weights(weights))
            self.log_noise_weight = nnx.Param(jnp.zeros(()))
        several: dict[str, Any] = {"scales": config.scales} if config.scales else {}
        if config.start_weights:
            self.log_start_weight = nnx.Param(self._log_weights(config.start_weights))
            self.log_start_noise_weight = nnx.Param(jnp.zeros(()))
            several["pictures"] = len(config.start_weights)
        build = functools.partial(config.prior.build, channels=config.channels, scale=config.scale, **several)
        if config.per_stage:
            self.prior = jax.vmap(lambda key: build(rngs=nnx.Rngs(key)))(jax.random.split(rngs.params(), num_stages))
        else:
            self.prior = build(rngs=rngs)

    def __call__(
        self,
        lr: Float[Array, "batch height width channels"],
        *,
        physics: Physics | None = None,
        noise_std: Float[Array, " batch"] | None = None,
        num_stages: int | None = None,
        all_stages: bool = False,
    ) -> Float[Array, "*stages batch hr_height hr_width channels"]:
        """Super-resolves a batch of images.

        Args:
          lr: LR images, 0..255.
          physics: How the images were observed, for all or for each; `config.physics` if not given.
          noise_std: Noise level per image on the 0..255 scale; estimated from the images if not given.
          num_stages: Stop after so many stages; all by default.
          all_stages: Return the estimate after every stage, with a leading axis; each with the final data step, if the
            model has one.
        Returns: HR images, 0..255 (up to the last step where `config.clip` is off).
        Raises:
          ValueError: If a shape or `num_stages` does not fit the model.
        """
        stages = self.config.num_stages if num_stages is None else num_stages
        observation, state = self.prepare(lr, physics=physics, noise_std=noise_std)
        state, iterates = self.iterate(observation, state, 0, stages)
        finish = functools.partial(self.final_data_step, observation)
        if all_stages:
            return jax.vmap(finish)(iterates)
        return finish(state.x)

    def prepare(
        self,
        lr: Float[Array, "batch height width channels"],
        *,
        physics: Physics | None = None,
        noise_std: Float[Array, " batch"] | None = None,
    ) -> tuple[Observation, SolverState]:
        """Computes what is constant over the stages, and the state before the first. Arguments as for `__call__`."""
        config = self.config
        if lr.ndim != 4 or lr.shape[3] != config.channels:
            raise ValueError(f"lr has shape {lr.shape}; this model wants (N, height, width, {config.channels})")
        lr = lr.astype(jnp.float32)
        physics = make_physics(config.physics, scale=config.scale) if physics is None else physics
        if physics.scale not in config.all_scales:
            own = ", ".join(map(str, config.all_scales))
            raise ValueError(f"the physics has the scale {physics.scale}, the model {own}")
        x: Any = None
        if not config.start_weights or config.noise_from == "initial":
            x = physics.initial_estimate(lr)
        if noise_std is None and self.uses_noise_std:
            noise_std = estimate_noise_std(lr if config.noise_from == "lr" else x)
        elif noise_std is None:
            noise_std = jnp.zeros(lr.shape[0])
        noise_std = jax.lax.stop_gradient(noise_std)
        prepared: Any = self.data_step.prepare(physics, lr) if physics.observes else None
        error_std = None if physics.error_std is None else jnp.broadcast_to(physics.error_std, lr.shape[:1])
        observation = Observation(lr, noise_std, error_std, physics, prepared, None)
        if config.start_weights:
            log_weights, noise_weight = self._of_scale(self.log_start_weight, physics), self.log_start_noise_weight[...]
            solutions = [
                smooth_solution(prepared, lr, weight_for_noise(log_weight, noise_weight, observation.total_std))
                for log_weight in log_weights
            ]
            x = solutions.pop(len(solutions) // 2)
            observation = observation._replace(shown=jnp.concatenate(solutions, axis=-1) if solutions else None)
        return observation, SolverState(x, x, self.prior.init_carry(lr.shape))

    def iterate(
        self, observation: Observation, state: SolverState, first: int, last: int
    ) -> tuple[SolverState, Float[Array, "stages batch hr_height hr_width channels"]]:
        """Runs the stages first, ..., last - 1. Returns the state after them and the estimate after each."""
        config = self.config
        if not 0 <= first <= last <= config.num_stages:
            raise ValueError(f"stages {first} to {last} of a model that has {config.num_stages}")
        prior = self._folded_prior()  # once, not in every stage

        def stage(state: SolverState, parameters: StageParameters) -> tuple[SolverState, Array]:
            state = self._stage(observation, state, parameters, parameters.prior or prior).state
            return state, state.x

        parameters = self._stage_parameters(prior, slice(first, last), observation.physics)
        return jax.lax.scan(jax.checkpoint(stage) if config.remat else stage, state, parameters)

    def terms(self, observation: Observation, state: SolverState, stage: Any) -> StageTerms:
        """Returns what one stage, a number that may be traced, makes of the state before it, term by term."""
        prior = self._folded_prior()
        parameters = self._stage_parameters(prior, stage, observation.physics)
        return self._stage(observation, state, parameters, parameters.prior or prior)

    def final_data_step(
        self, observation: Observation, x: Float[Array, "batch hr_height hr_width channels"]
    ) -> Float[Array, "batch hr_height hr_width channels"]:
        """Takes one more data step, if the configuration says so."""
        if not self.config.final_data_step:
            return x
        amount = self._of_scale(self.log_weight, observation.physics)[-1] if self.data_step.solves else None
        x, _ = self._step_on_data(observation, x, amount)
        return jnp.clip(x, 0, 255) if self.config.clip else x

    def __repr__(self) -> str:
        """One line."""
        config, count = self.config, sum(leaf.size for leaf in jax.tree.leaves(self))
        scales, plural = ", ".join(f"x{scale}" for scale in config.all_scales), "s" * (config.num_stages > 1)
        stages = f"{config.num_stages} stage{plural}"
        return f"{type(self).__name__}({scales}, {config.physics}, {stages}, {count:,} parameters)"

    __str__ = __repr__

    @property
    def uses_noise_std(self) -> bool:
        """Whether the result depends on the noise level."""
        return self.config.projection or self.prior.uses_noise_std or self.data_step.solves

    @property
    def uses_error_std(self) -> bool:
        """Whether the network is told the level of errors that the physics knows of, as `physics.jpeg.Jpeg` does."""
        return getattr(self.prior, "uses_error_std", False)

    def macs_per_pixel(self, num_stages: int | None = None, scale: int | None = None) -> float:
        """Returns the multiply-adds of the networks per HR pixel, in so many stages (all by default)."""
        scale = self.config.scale if scale is None else scale
        return self.prior.macs_per_pixel(scale) * (self.config.num_stages if num_stages is None else num_stages)

    def reach(self, physics: Physics | None = None, num_stages: int | None = None) -> int | None:
        """Returns how far an output pixel sees, in LR pixels; None if it sees the whole picture.

        Args:
          physics: Of the pictures; the model's own by default.
          num_stages: Of the solver; all by default.
        """
        config = self.config
        physics = make_physics(config.physics, scale=config.scale) if physics is None else physics
        step = self.data_step.reach(physics) if physics.observes else 0
        if config.projection or step is None or physics.start_reach is None or self.prior.reach is None:
            return None  # the norm is the whole picture's
        stages = config.num_stages if num_stages is None else num_stages
        return physics.start_reach + stages * (step + self.prior.reach) + config.final_data_step * step

    def faded_reach(self, physics: Physics) -> int | None:
        """Returns how far an output pixel sees what counts, LR pixels; for models that see all in closed forms alone.

        None for others. Windows that overlap by so much differ from the whole at the borders of the picture, beyond
        which the solution continues it as it likes; in its middle by less than a tenth of a grey level. That is what
        one stage sees: what later ones gather from farther away does not count, either.
        """
        blur = physics.as_blur() if isinstance(self.data_step, ClosedForm) else None
        if blur is None or blur.periodic or physics.lr_size is not None or self.config.projection:
            return None
        return None if self.prior.reach is None else FADED + self.prior.reach

    def stage_reach(self, physics: Physics | None = None) -> int | None:
        """Returns how far a pixel of one stage's noise estimate sees, in LR pixels.

        None if it sees the whole picture, if more than a subtraction and clipping follows the projection, or if
        something is carried from stage to stage.
        """
        config = self.config
        physics = make_physics(config.physics, scale=config.scale) if physics is None else physics
        step = self.data_step.reach(physics) if physics.observes else 0
        last = config.projection and config.data_step_place == "before" and not config.final_data_step
        if not last or config.start_weights or physics.lr_size is not None:
            return None
        if self.prior.init_carry((1, 1, 1, config.channels)) is not None or step is None or self.prior.reach is None:
            return None
        return step + self.prior.reach

    def can_be_padded(self, physics: Physics | None = None) -> bool:
        """Whether pictures of a physics (the model's own by default) may be smaller than their arrays, as `Padded`."""
        physics = make_physics(self.config.physics, scale=self.config.scale) if physics is None else physics
        local = self.reach(physics) is not None
        return local and physics.mirrors and getattr(self.prior, "can_be_padded", False)

    @property
    def features_per_lr_pixel(self) -> int:
        """How many numbers a feature map of the network has for each LR pixel: what its memory goes with."""
        return self.prior.features_per_lr_pixel

    def folded(self) -> "ISRResCNet":
        """Returns the same function with weight normalisation folded into plain kernels, for inference."""
        model = copy.copy(self)
        model.prior = self._folded_prior()
        return model

    def _folded_prior(self) -> Any:
        return jax.vmap(fold_weight_norm)(self.prior) if self.config.per_stage else fold_weight_norm(self.prior)

    def _log_weights(self, weights: Any) -> Array:
        """Returns parameters of `weight_for_noise`, with a leading axis of scales if the model has several."""
        logs = jnp.asarray(np.log(weights) / LOG_UNIT, jnp.float32)
        return jnp.stack([logs] * len(self.config.scales)) if self.config.scales else logs

    def _of_scale(self, log_weights: nnx.Param, physics: Physics) -> Array:
        return log_weights[self.config.scales.index(physics.scale)] if self.config.scales else log_weights[...]

    def _stage_parameters(self, prior: Any, stages: Any, physics: Physics) -> StageParameters:
        config, amount = self.config, None
        if self.data_step.solves:
            amount = self._of_scale(self.log_weight, physics)[stages]
        elif config.learned_step:
            amount = self.step[stages]
        return StageParameters(
            log_radius=self.log_radius[stages],
            log_momentum=self.log_momentum[stages] if config.extrapolation else None,
            amount=amount,
            prior=jax.tree.map(lambda leaf: leaf[stages], prior) if config.per_stage else None,
        )

    def _step_on_data(self, observation: Observation, z: Array, amount: Array | None) -> tuple[Array, Array]:
        """Returns the picture after a data step and the residual in LR."""
        physics, y = observation.physics, observation.lr
        if not physics.observes:
            return z, jnp.zeros_like(y)
        if self.data_step.solves:
            assert amount is not None
            amount = weight_for_noise(amount, self.log_noise_weight[...], observation.total_std)
        return self.data_step(physics, observation.prepared, y, z, 1.0 if amount is None else amount)

    def _stage(
        self, observation: Observation, state: SolverState, parameters: StageParameters, prior: Any
    ) -> StageTerms:
        """One iteration of the solver; the equations at the top of this file."""
        config, z = self.config, state.x
        if parameters.log_momentum is not None:
            z = z + jnp.exp(parameters.log_momentum) * (state.x - state.previous)
        before = config.data_step_place == "before"
        if before:
            u, lr_residual = self._step_on_data(observation, z, parameters.amount)
        else:
            u, lr_residual = z, observation.physics.apply(z) - observation.lr
        seen = u if observation.shown is None else jnp.concatenate([u, observation.shown], axis=-1)
        inside = observation.physics.inside(*observation.lr.shape[1:3])
        padded: dict[str, Any] = {} if inside is None else {"inside": inside}
        levels = observation.levels if self.uses_error_std else observation.noise_std
        noise, carried = prior(seen, lr_residual, levels, state.carried, **padded)
        removed = noise
        if config.projection:
            radius = noise_radius(observation.noise_std, parameters.log_radius, noise[0].size)
            removed = project_l2_ball(noise, radius)
        x = u - removed
        if not before:
            x, _ = self._step_on_data(observation, x, parameters.amount)
        if config.clip:
            x = jnp.clip(x, 0, 255)
        return StageTerms(z, u if before else x, noise, SolverState(x, state.x, carried))
