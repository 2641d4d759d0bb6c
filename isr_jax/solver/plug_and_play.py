r"""Plug and play: the solver with any denoiser as its prior, without training.

To find x where y = H x + n was observed with noise of level sigma, the data step and the prior take turns, K times, as
in `isr_jax.solver.unrolled`, while the level sigma_k that the prior removes falls geometrically:

    half-quadratic splitting    u_k     = argmin 1/2 ||H u - y||^2 + w_k/2 ||u - x_k||^2
                                x_{k+1} = D(u_k, sigma_k)
                                w_k     = lambda sigma^2 / sigma_k^2,  sigma_k from 49 to sigma

    proximal gradient           z_k     = x_k + k/(k + 3) (x_k - x_{k-1})
                                u_k     = z_k - H^T (H z_k - y) / ||H||^2
                                x_{k+1} = D(u_k, sigma_k),             sigma_k from 49 to sigma / ||H||

The first needs few stages, each of which solves; the second many cheap ones. Everything can be traced: by jit, by
grad through the physics, the observation and the prior. All pictures of a batch are problems of their own.

References: Geman & Yang 1995, Nonlinear image recovery with half-quadratic regularization. Venkatakrishnan, Bouman &
Wohlberg 2013, Plug-and-play priors for model based reconstruction. Zhang, Li, Zuo, Zhang, Van Gool & Timofte 2021,
Plug-and-play image restoration with deep denoiser prior (DPIR), whose schedule this is.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Shaped

from isr_jax.config import ConfigError
from isr_jax.physics.physics import Images, Physics
from isr_jax.solver.data_step import ClosedForm, ConjugateGradient, DataStep, Gradient
from isr_jax.solver.layers import fold_weight_norm
from isr_jax.solver.proximal import noise_radius, project_l2_ball
from isr_jax.solver.unrolled import SolverState

Pictures = Shaped[Array | np.ndarray, "batch _ _ _"]

LEAST_NOISE_STD = 0.255
"""A thousandth of the range stands for less noise, with which the observation alone would count (DPIR's choice)."""


def half_quadratic_splitting(
    physics: Physics,
    y: Pictures,
    prior: Any,
    *,
    noise_std: ArrayLike,
    num_stages: int = 8,
    data_step: DataStep | None = None,
    first_noise_std: float | int = 49.0,
    prior_weight: float | int = 0.23,
) -> Images:
    """Restores pictures by half-quadratic splitting: data steps that solve, in turn with any denoiser.

        u_k     = argmin 1/2 ||H u - y||^2 + w_k/2 ||u - x_k||^2,  w_k = lambda sigma^2 / sigma_k^2
        x_{k+1} = D(u_k, sigma_k),  the level sigma_k falling geometrically from `first_noise_std` to sigma

    Args:
      physics: H, for all pictures or for each.
      y: The observation (N, h, w, C), 0..255.
      prior: `Denoiser(f)`, an ERD, or any network of that interface.
      noise_std: sigma, of each picture or of all, on 0..255; below 0.255 counted as that.
      num_stages: K.
      data_step: One that solves; by default the closed form where that is exact, else conjugate gradients.
      first_noise_std: The level that the prior removes first.
      prior_weight: lambda, above 0; the larger, the less the observation counts.
    Returns: The pictures (N, H, W, C), not clipped.
    Raises:
      ConfigError: If the data step does not solve, is none for this physics, or a number is outside its range.
      TypeError: If the prior is a function.
      ValueError: If the observation has not four axes.
    References: Geman & Yang 1995, Nonlinear image recovery with half-quadratic regularization; Zhang et al. 2021,
      Plug-and-play image restoration with deep denoiser prior.
    Examples:
      >>> physics, smooth = isr_jax.Decimation(2), lambda x, noise_std: (x + jnp.roll(x, 1, 1)) / 2
      >>> y = jnp.full((1, 4, 4, 1), 100.0)
      >>> x = isr_jax.half_quadratic_splitting(physics, y, isr_jax.Denoiser(smooth), noise_std=2.55, num_stages=2)
      >>> x.shape, round(float(x.mean()))
      ((1, 8, 8, 1), 100)
    """
    if data_step is None:
        blur = physics.as_blur()
        data_step = ClosedForm() if blur is not None and blur.periodic else ConjugateGradient()
    if not data_step.solves:
        raise ConfigError(f"`data_step` is {data_step}; half-quadratic splitting takes ClosedForm or ConjugateGradient")
    if not (isinstance(prior_weight, Tracer) or 0 < prior_weight < np.inf):
        raise ConfigError(f"`prior_weight` is {prior_weight}; it must be above 0")
    sigma = _noise_level(noise_std, y)
    levels = _falling(first_noise_std, sigma, num_stages)
    weights = prior_weight * jnp.square(sigma / levels)
    return _solve(physics, y, prior, data_step, levels, weights, jnp.zeros(num_stages, jnp.float32))


def proximal_gradient(
    physics: Physics,
    y: Pictures,
    prior: Any,
    *,
    noise_std: ArrayLike,
    num_stages: int = 50,
    data_step: DataStep | None = None,
    first_noise_std: float | int = 49.0,
) -> Images:
    """Restores pictures by proximal gradient steps with extrapolation, in turn with any denoiser.

        z_k     = x_k + k/(k + 3) (x_k - x_{k-1})
        u_k     = z_k - H^T (H z_k - y) / ||H||^2
        x_{k+1} = D(u_k, sigma_k),  the level falling geometrically from `first_noise_std` to sigma / ||H||

    With the last level of the noise it would, for ever, minimise 1/2 ||H x - y||^2 + sigma^2 R(x), where the prior is
    the proximal map of R: of which a gradient step makes noise of level sigma / ||H||.

    Args:
      physics: H, for all pictures or for each.
      y: The observation (N, h, w, C), 0..255.
      prior: `Denoiser(f)`, an ERD, or any network of that interface.
      noise_std: sigma, of each picture or of all, on 0..255; below 0.255 counted as that.
      num_stages: K.
      data_step: One that does not solve; `Gradient()` by default.
      first_noise_std: The level that the prior removes first.
    Returns: The pictures (N, H, W, C), not clipped.
    Raises:
      ConfigError: If the data step solves, or a number is outside its range.
      TypeError: If the prior is a function.
      ValueError: If the observation has not four axes.
    References: Beck & Teboulle 2009, A fast iterative shrinkage-thresholding algorithm for linear inverse problems;
      Venkatakrishnan, Bouman & Wohlberg 2013, Plug-and-play priors for model based reconstruction.
    Examples:
      >>> physics, smooth = isr_jax.Decimation(2), lambda x, noise_std: (x + jnp.roll(x, 1, 1)) / 2
      >>> y = jnp.full((1, 4, 4, 1), 100.0)
      >>> x = isr_jax.proximal_gradient(physics, y, isr_jax.Denoiser(smooth), noise_std=2.55, num_stages=2)
      >>> x.shape, round(float(x.mean()))
      ((1, 8, 8, 1), 100)
    """
    data_step = Gradient() if data_step is None else data_step
    if data_step.solves:
        raise ConfigError(f"`data_step` is {data_step}; the proximal gradient takes Gradient")
    sigma = _noise_level(noise_std, y)
    norm = jax.lax.stop_gradient(jnp.sqrt(physics.squared_norm(y.shape)))
    levels = _falling(first_noise_std, sigma / norm, num_stages)
    k = jnp.arange(num_stages, dtype=jnp.float32)
    return _solve(physics, y, prior, data_step, levels, jnp.ones_like(levels), k / (k + 3))


def _noise_level(noise_std: ArrayLike, y: Pictures) -> Float[Array, " batch"]:
    if y.ndim != 4:
        raise ValueError(f"observations have shape (N, h, w, C), not {y.shape}: one picture is y[None]")
    _check_levels("noise_std", noise_std)
    if np.ndim(noise_std) and np.shape(noise_std) != y.shape[:1]:
        raise ConfigError(f"`noise_std` has shape {np.shape(noise_std)}; {y.shape[0]} pictures need one level each")
    level = jnp.broadcast_to(jnp.asarray(noise_std, jnp.float32), y.shape[:1])
    return jnp.maximum(level, LEAST_NOISE_STD)


def _check_levels(name: str, levels: ArrayLike) -> None:
    if not isinstance(levels, Tracer) and not np.all(np.isfinite(levels) & (np.asarray(levels) >= 0)):
        raise ConfigError(f"`{name}` is {levels}; it must be finite and not negative")


def _falling(first: float | int, last: Float[Array, " batch"], num_stages: int) -> Float[Array, "stages batch"]:
    """Returns levels that fall geometrically; one that starts below its end stays there."""
    if not isinstance(num_stages, int | np.integer) or num_stages < 1:
        raise ConfigError(f"`num_stages` is {num_stages}; it must be a whole number of at least 1")
    _check_levels("first_noise_std", first)
    t = np.linspace(0, 1, num_stages, dtype=np.float32)[:, None] if num_stages > 1 else np.ones((1, 1), np.float32)
    return jnp.maximum(first, last) ** (1 - t) * last**t


def _solve(
    physics: Physics,
    y: Pictures,
    prior: Any,
    data_step: DataStep,
    levels: Float[Array, "stages batch"],
    amounts: Float[Array, "stages batch"],
    momenta: Float[Array, " stages"],
) -> Images:
    """Runs the stages: extrapolation, data step, prior."""
    if not hasattr(prior, "init_carry"):
        raise TypeError(f"`prior` is {prior!r:.60}; a function f(x, noise_std) is one as Denoiser(f)")
    y = jnp.asarray(y, jnp.float32)
    prepared, prior = data_step.prepare(physics, y), fold_weight_norm(prior)

    def stage(state: SolverState, parameters: tuple[Array, Array, Array]) -> tuple[SolverState, None]:
        level, amount, momentum = parameters
        z = state.x + momentum * (state.x - state.previous)
        u, lr_residual = data_step(physics, prepared, y, z, amount)
        noise, carried = prior(u, lr_residual, level, state.carried)
        if not prior.uses_noise_std:  # then the ball tells it how much to remove
            noise = project_l2_ball(noise, noise_radius(level, jnp.zeros(()), noise[0].size))
        return SolverState(u - noise, state.x, carried), None

    x = physics.initial_estimate(y)
    state, _ = jax.lax.scan(stage, SolverState(x, x, prior.init_carry(y.shape)), (levels, amounts, momenta))
    return state.x
