r"""ISRResCNet: super-resolution by unrolled proximal gradient steps whose prior is a small network.

The picture x that was observed as y = H x + n is the minimiser of 1/2 ||y - H x||^2 + lambda R(x). Each stage takes
one step towards it:

    z_k     = x_k + e^{w_k} (x_k - x_{k-1})               extrapolation (none at k = 0)
    u_k     = z_k - step_k  H^T (H z_k - y)               gradient step on the data term
    x_{k+1} = clip(u_k - P_{eps_k}(D(u_k)), 0, 255)       proximal step, in residual form
    eps_k   = e^{alpha_k} sigma sqrt(N - 1)               radius of the noise, N = height x width x channels

D is the ERD network (`erd`), which estimates the noise in u_k; P projects its estimate on the l2 ball that the noise
lies in (`proximal`); sigma is the noise level of y (`isr_jax.physics.noise_level`); H is the observation model
(`isr_jax.physics.degradation`). alpha_k, w_k and D are learned. The K stages are one `jax.lax.scan`; one more gradient
step on the data term may follow the last.

References: Umer, Foresti, Micheloni: Deep Iterative Residual Convolutional Network for Single Image Super-Resolution,
ICPR 2020 (arXiv 2009.04809).
"""

import copy
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from isr_jax.config import ModelConfig
from isr_jax.physics.degradation import ObservationModel, make_observation_model
from isr_jax.physics.noise_level import estimate_noise_std
from isr_jax.solver.erd import ERD, stack_erds
from isr_jax.solver.layers import fold_weight_norm
from isr_jax.solver.proximal import noise_radius, project_l2_ball


class Observation(NamedTuple):
    """What a stage needs to know of the LR images; constant over the stages."""

    lr: Float[Array, "batch height width channels"]
    """The observation y, 0..255."""
    noise_std: Float[Array, " batch"]
    """Noise level sigma per image, on the 0..255 scale."""
    step_size: Float[Array, ""]
    """1 / ||H^T H||, or the released code's 1."""
    kernel: Float[Array | np.ndarray, "rows cols *channels"] | None
    """Blur kernel, if the data term has one."""


class SolverState(NamedTuple):
    """What one stage hands to the next."""

    x: Float[Array, "batch hr_height hr_width channels"]
    """The current estimate x_k, 0..255."""
    previous: Float[Array, "batch hr_height hr_width channels"]
    """The estimate before, x_{k-1}; equal to x at the start, so that the first stage does not extrapolate."""
    features: Float[Array, "batch height width features"] | None
    """Features the ERD carries from stage to stage, if the configuration says so."""


class StageParameters(NamedTuple):
    """What differs from stage to stage; with a leading axis of stages, the `xs` of the scan."""

    log_radius: Array  # alpha_k
    log_momentum: Array | None  # w_k
    step: Array | None  # factor of the step size
    erd: ERD | None  # None: all stages share one


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
        if config.per_stage:
            self.erd = stack_erds(config.erd, num_stages, channels=config.channels, scale=config.scale, rngs=rngs)
        else:
            self.erd = ERD(config.erd, channels=config.channels, scale=config.scale, rngs=rngs)

    def __call__(
        self,
        lr: Float[Array, "batch height width channels"],
        *,
        kernel: Float[Array | np.ndarray, "rows cols *channels"] | None = None,
        noise_std: Float[Array, " batch"] | None = None,
        num_stages: int | None = None,
        all_stages: bool = False,
    ) -> Float[Array, "*stages batch hr_height hr_width channels"]:
        """Super-resolves a batch of images.

        Args:
          lr: LR images, 0..255.
          kernel: Blur kernel, for data terms "blur" and "released_kernel" only; one for all channels or one each.
          noise_std: Noise level per image on the 0..255 scale; estimated from the images if not given.
          num_stages: Stop after so many stages; all by default.
          all_stages: Return the estimate after every stage, with a leading axis; each with the final data step, if the
            model has one.
        Returns: HR images, 0..255 (up to the last step where `config.clip` is off).
        Raises:
          ValueError: If a shape or `num_stages` does not fit the model.
        """
        stages = self.config.num_stages if num_stages is None else num_stages
        observation, state = self.prepare(lr, kernel=kernel, noise_std=noise_std)
        state, iterates = self.iterate(observation, state, 0, stages)
        finish = functools.partial(self.final_data_step, observation)
        if all_stages:
            return jax.vmap(finish)(iterates)
        return finish(state.x)

    def prepare(
        self,
        lr: Float[Array, "batch height width channels"],
        *,
        kernel: Float[Array | np.ndarray, "rows cols *channels"] | None = None,
        noise_std: Float[Array, " batch"] | None = None,
    ) -> tuple[Observation, SolverState]:
        """Computes what is constant over the stages, and the state before the first. Arguments as for `__call__`."""
        config = self.config
        if lr.ndim != 4 or lr.shape[3] != config.channels:
            raise ValueError(f"lr has shape {lr.shape}; this model wants (N, height, width, {config.channels})")
        lr = lr.astype(jnp.float32)
        degradation = self._observation_model(lr.shape, kernel)
        x = degradation.initial_estimate(lr)
        if noise_std is None and config.projection:
            noise_std = estimate_noise_std(lr if config.noise_from == "lr" else x)
        elif noise_std is None:
            noise_std = jnp.zeros(lr.shape[0])  # only the projection asks for it
        # The noise level is not differentiated, nor is the step size.
        observation = Observation(
            lr, jax.lax.stop_gradient(noise_std), jax.lax.stop_gradient(degradation.step_size()), kernel
        )
        features = jnp.zeros((*lr.shape[:3], config.erd.features)) if config.erd.carry_features else None
        return observation, SolverState(x, x, features)

    def iterate(
        self, observation: Observation, state: SolverState, first: int, last: int
    ) -> tuple[SolverState, Float[Array, "stages batch hr_height hr_width channels"]]:
        """Runs the stages first, ..., last - 1. Returns the state after them and the estimate after each."""
        config = self.config
        if not 0 <= first <= last <= config.num_stages:
            raise ValueError(f"stages {first} to {last} of a model that has {config.num_stages}")
        degradation = self._observation_model(observation.lr.shape, observation.kernel)
        erd = self._folded_erd()  # once, not in every stage

        def stage(state: SolverState, parameters: StageParameters) -> tuple[SolverState, Array]:
            state = _stage(config, degradation, observation, state, parameters, parameters.erd or erd)
            return state, state.x

        def select(param: nnx.Param | None) -> Array | None:
            return None if param is None else param[first:last]

        parameters = StageParameters(
            log_radius=self.log_radius[first:last],
            log_momentum=select(self.log_momentum) if config.extrapolation else None,
            step=select(self.step) if config.learned_step else None,
            erd=jax.tree.map(lambda leaf: leaf[first:last], erd) if config.per_stage else None,
        )
        return jax.lax.scan(jax.checkpoint(stage) if config.remat else stage, state, parameters)

    def final_data_step(
        self, observation: Observation, x: Float[Array, "batch hr_height hr_width channels"]
    ) -> Float[Array, "batch hr_height hr_width channels"]:
        """Takes one more gradient step on the data term, if the configuration says so."""
        if not self.config.final_data_step:
            return x
        degradation = self._observation_model(observation.lr.shape, observation.kernel)
        x = x - observation.step_size * degradation.gradient(x, observation.lr)
        return jnp.clip(x, 0, 255) if self.config.clip else x

    def folded(self) -> "ISRResCNet":
        """Returns the same function with weight normalisation folded into plain kernels, for inference."""
        model = copy.copy(self)
        model.erd = self._folded_erd()
        return model

    def _folded_erd(self) -> ERD:
        return jax.vmap(fold_weight_norm)(self.erd) if self.config.per_stage else fold_weight_norm(self.erd)

    def _observation_model(self, lr_shape, kernel) -> ObservationModel:
        config = self.config
        return make_observation_model(
            config.data_term, lr_shape, config.scale, kernel=kernel, align_corners=config.align_corners
        )


def _stage(
    config: ModelConfig,
    degradation: ObservationModel,
    observation: Observation,
    state: SolverState,
    parameters: StageParameters,
    erd: ERD,
) -> SolverState:
    """One iteration of the solver; the equations at the top of this file."""
    z = state.x
    if parameters.log_momentum is not None:
        z = z + jnp.exp(parameters.log_momentum) * (state.x - state.previous)

    lr_residual = jnp.zeros_like(observation.lr)
    u = z
    if config.data_term != "none":
        lr_residual = degradation.apply(z) - observation.lr
        step = observation.step_size * (1 if parameters.step is None else parameters.step)
        u = z - step * degradation.back_project(lr_residual)

    noise, features = erd(u, lr_residual, state.features)
    if config.projection:
        radius = noise_radius(observation.noise_std, parameters.log_radius, noise[0].size)
        noise = project_l2_ball(noise, radius)
    x = u - noise
    if config.clip:
        x = jnp.clip(x, 0, 255)
    return SolverState(x, state.x, features if config.erd.carry_features else None)
