r"""Data steps: how a stage brings the picture nearer to the observation y = H x + n.

    Gradient              u = z - factor / ||H^T H||  H^T (H z - y)
    ConjugateGradient     u = argmin 1/2 ||H u - y||^2 + weight/2 ||u - z||^2, by a few conjugate gradients, for any H
    ClosedForm            the same exactly, where H is a blur and a decimation (`isr_jax.physics.fourier`)

A data step is a function of the physics, what it prepared once for all stages, the observation, the picture, and one
number a picture: the factor of the gradient's step, or the weight of the nearness.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from isr_jax.config import ConfigError, ModelConfig
from isr_jax.config.names import locate_in, running
from isr_jax.physics import fourier
from isr_jax.physics.physics import Images, Physics

LOG_UNIT = 10.0
"""Logarithms of weights are learned in tens: what an optimiser changes by its rate then moves by decades in time."""

FADED = 32
"""LR pixels beyond which a solution in closed form hardly depends on the picture, however it was blurred."""

Amount = Float[Array, " batch"] | Float[Array, ""] | float
"""Of each picture, or of all."""


@runtime_checkable
class DataStep(Protocol):
    """The interface."""

    solves: bool
    """Whether its number is the weight of a minimisation, not the factor of a gradient."""

    def reach(self, physics: Physics) -> int | None:
        """Returns how far a pixel after the step sees, in LR pixels; None: the whole picture."""
        ...

    def prepare(self, physics: Physics, y: Images) -> Any:
        """Computes what is constant over the stages."""
        ...

    def __call__(self, physics: Physics, prepared: Any, y: Images, z: Images, amount: Amount) -> tuple[Images, Images]:
        """Returns the picture after the step, and the residual H z - y (of the picture after it, if it solves)."""
        ...


@dataclass(frozen=True)
class Gradient:
    """A gradient step on 1/2 ||H x - y||^2, as long as is safe times a factor.

    Examples:
      >>> y, step, physics = jnp.full((1, 4, 4, 1), 100.0), isr_jax.Gradient(), isr_jax.Identity()
      >>> u, residual = step(physics, step.prepare(physics, y), y, 0 * y, 0.5)
      >>> float(u[0, 0, 0, 0]), float(residual[0, 0, 0, 0])
      (50.0, -100.0)
    """

    solves = False

    def reach(self, physics: Physics) -> int | None:
        """H and its adjoint."""
        return None if physics.reach is None else 2 * physics.reach

    def prepare(self, physics: Physics, y: Images) -> Float[Array, " batch"]:
        """Returns the step size, 1 / ||H^T H|| for each picture; it is not differentiated."""
        return jax.lax.stop_gradient(1 / physics.squared_norm(y.shape))

    def __call__(self, physics: Physics, prepared: Any, y: Images, z: Images, amount: Amount) -> tuple[Images, Images]:
        """See `DataStep`."""
        residual = physics.apply(z) - y
        step = (prepared * amount)[:, None, None, None]
        return z - step * physics.adjoint(residual), residual


@dataclass(frozen=True)
class ConjugateGradient:
    """The minimum of the data term near z, for any physics.

    The derivative is that of the minimum, by as many iterations: near that of what is computed, if these suffice.

    Args:
      iterations: Most steps of the conjugate gradients.
    References: Hestenes & Stiefel 1952, Methods of conjugate gradients for solving linear systems.
    Examples:
      >>> y, physics = jnp.full((1, 4, 4, 1), 100.0), isr_jax.Identity()
      >>> u, _ = isr_jax.ConjugateGradient()(physics, None, y, 0 * y, 1.0)  # half-way from 0 to y
      >>> round(float(u[0, 0, 0, 0]), 3)
      50.0
    """

    iterations: int = 10

    solves = True

    def reach(self, physics: Physics) -> int | None:
        """The whole picture: the steps' lengths depend on inner products over all of it."""

    def prepare(self, physics: Physics, y: Images) -> None:
        """Needs nothing."""

    def __call__(self, physics: Physics, prepared: Any, y: Images, z: Images, amount: Amount) -> tuple[Images, Images]:
        """See `DataStep`."""
        u = physics.conjugate_gradients(y, z, amount, iterations=self.iterations)
        return u, physics.apply(u) - y


@dataclass(frozen=True)
class ClosedForm:
    """The minimum of the data term near z, where the physics is a blur and a decimation.

    It sees the whole picture, but hardly beyond `FADED`.

    Pictures that are not periodic are continued smoothly beyond their borders, solved, and cropped. Within two reaches
    of the border that is within a grey level of the exact minimum for Gaussian kernels, and several levels off for long
    motions, whose mirror image is another motion.

    References: Zhao et al. 2016, Fast single image super-resolution using a new analytical solution for l2-l2 problems.
    Examples:
      >>> y, step = jnp.full((1, 4, 4, 1), 100.0), isr_jax.ClosedForm()
      >>> physics = isr_jax.Decimation(2) @ isr_jax.Blur(np.full((2, 2), 0.25), border="periodic")
      >>> u, residual = step(physics, step.prepare(physics, y), y, physics.initial_estimate(y), 1e-3)
      >>> u.shape, bool(jnp.abs(residual).max() < 1e-2)
      ((1, 8, 8, 1), True)
    """

    solves = True

    def reach(self, physics: Physics) -> int | None:
        """The whole picture."""

    def prepare(self, physics: Physics, y: Images) -> fourier.EquivalentBlur:
        """Returns the blur.

        Raises:
          ConfigError: If the physics is none.
        """
        blur = physics.as_blur()
        if blur is None:
            raise ConfigError(
                f"{type(physics).__name__} is no blur and decimation, as the closed form needs: use conjugate gradients"
            )
        return blur

    def __call__(self, physics: Physics, prepared: Any, y: Images, z: Images, amount: Amount) -> tuple[Images, Images]:
        """See `DataStep`."""
        u = (fourier.closed_form if prepared.periodic else fourier.closed_form_tapered)(prepared, y, z, amount)
        return u, physics.apply(u) - y


def gradient(config: ModelConfig) -> DataStep:
    """Named by `ModelConfig.data_step`, as the next ones."""
    del config
    return Gradient()


def conjugate_gradient(config: ModelConfig) -> DataStep:
    """With `ModelConfig.data_step_iterations`."""
    return ConjugateGradient(config.data_step_iterations)


def closed_form(config: ModelConfig) -> DataStep:
    """Exact."""
    del config
    return ClosedForm()


def make_data_step(model: ModelConfig) -> DataStep:
    """Returns the data step that a configuration names."""
    make = locate_in(model.data_step, __name__, "model.data_step")
    with running(model.data_step, "model.data_step"):
        return make(model)


def smooth_solution(blur: fourier.EquivalentBlur, y: Images, weight: Amount) -> Images:
    """Returns the x that minimises 1/2 ||H x - y||^2 + weight/2 ||grad x||^2, in closed form."""
    solve = fourier.closed_form if blur.periodic else fourier.closed_form_tapered
    return solve(blur, y, None, weight, smooth=True)


def weight_for_noise(
    log_weight: Float[Array, ""], log_noise_weight: Float[Array, ""], noise_std: Float[Array, " batch"]
) -> Float[Array, " batch"]:
    """Returns exp(10 log_weight) (1 + exp(log_noise_weight) sigma^2), sigma on 0..255: noise makes y count less."""
    return jnp.exp(LOG_UNIT * log_weight) * (1 + jnp.exp(log_noise_weight) * jnp.square(noise_std))
