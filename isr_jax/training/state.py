"""The training state: parameters, optimiser, averaged weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Int

Params = dict[str, Any]
"""Parameters by dotted path, as "prior.encoder.kernel": arrays, or what stands for them in a tree of the same form."""
Module = TypeVar("Module", bound=nnx.Module)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """All that an optimiser iteration changes."""

    step: Any
    """Batches seen, int32."""
    params: Params
    optimizer: Any
    """Optax's state."""
    average: Params
    """Exponential moving average of the parameters."""
    rate_factor: Any
    """By what the schedule's learning rate is multiplied, float32: 1, and less after `on_nonfinite="lower_rate"`."""


def make_bind(model: Module) -> Callable[[Params], Module]:
    """Returns the function that puts parameters into a copy of `model`; pure, for use inside jit."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    paths = [path for path, _ in nnx.to_flat_state(params)]

    def bind(values: Params) -> Module:
        state = nnx.from_flat_state([(p, nnx.Param(values[".".join(map(str, p))])) for p in paths])
        return nnx.merge(graph, state, rest)

    return bind


def init_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state before the first step."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        optimizer=optimizer.init(params),
        average=params,
        rate_factor=jnp.ones((), jnp.float32),
    )


def average_params(average: Params, params: Params, step: Int[Array, ""], decay: float) -> Params:
    """Returns the average of the weights after one more step.

    The decay is min(decay, (1 + step) / (10 + step)), so that the start is forgotten soon.
    """
    d = jnp.minimum(decay, (1 + step) / (10 + step)).astype(jnp.float32) if decay else jnp.float32(0)
    return jax.tree.map(lambda a, p: p + d * (a - p), average, params)
