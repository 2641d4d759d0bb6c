"""The training state: parameters, optimiser, averaged weights; and the schedule of the learning rate."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from flax import nnx
from jaxtyping import Array, Float, Int
from optax.contrib import MuonDimensionNumbers

from isr_jax.config import OptimizerConfig, ScheduleConfig

Params = dict[str, Any]
"""Parameters by dotted path, as "erd.encoder.kernel": arrays, or what stands for them in a tree of the same form."""
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


def get_params(model: nnx.Module) -> Params:
    """Returns the model's parameters by their dotted paths."""
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return {".".join(map(str, path)): variable[...] for path, variable in flat}


def make_bind(model: Module) -> Callable[[Params], Module]:
    """Returns the function that puts parameters into a copy of `model`; pure, for use inside jit."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    paths = [path for path, _ in nnx.to_flat_state(params)]

    def bind(values: Params) -> Module:
        state = nnx.from_flat_state([(p, nnx.Param(values[".".join(map(str, p))])) for p in paths])
        return nnx.merge(graph, state, rest)

    return bind


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """Makes the update rule, without the learning rate: its updates are to be multiplied by minus the rate.

    References: Jordan et al. 2024, Muon: An optimizer for hidden layers in neural networks; its updates scaled to the
    size of Adam's by Liu et al. 2025 (arXiv 2502.16982), so that one rate serves both.
    """
    if config.kind == "muon":
        rule = optax.contrib.muon(
            -1.0,  # optax multiplies by minus the rate
            adam_b1=config.b1,
            adam_b2=config.b2,
            eps=config.epsilon,
            consistent_rms=0.2,
            muon_weight_dimension_numbers=_matrices,
        )
    else:
        scale_by = optax.scale_by_amsgrad if config.kind == "amsgrad" else optax.scale_by_adam
        rule = scale_by(b1=config.b1, b2=config.b2, eps=config.epsilon)
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        rule,
        optax.add_decayed_weights(config.weight_decay) if config.kind == "adamw" else optax.identity(),
    )


def _matrices(params: Any) -> Any:
    """Tells Muon what is its own: kernels from features to features, as [rows x columns x inputs, outputs].

    The first and the last layer are left to Adam, as Muon's authors advise. Kernels of per-stage ERDs have a leading
    axis; each is a matrix of its own.
    """
    matrix = MuonDimensionNumbers(reduction_axis=(-4, -3, -2), output_axis=-1)
    hidden = ("erd.blocks.", "erd.compress.")
    return {name: matrix if name.startswith(hidden) and name.endswith(".kernel") else None for name in params}


def make_schedule(config: ScheduleConfig, steps: int) -> Callable[[Int[Array, ""] | int], Float[Array, ""]]:
    """Makes the learning rate as a function of the step, for a run of `steps`."""

    def learning_rate(step: Int[Array, ""] | int) -> Float[Array, ""]:
        position = jnp.asarray(step, jnp.float32)
        warmup = jnp.minimum(1.0, (position + 1) / max(1, config.warmup_steps))
        if config.kind == "multistep":
            passed = sum((position >= math.ceil(m * steps)).astype(jnp.float32) for m in config.milestones)
            shape = config.factor**passed
        elif config.kind == "cosine":
            done = jnp.clip((position - config.warmup_steps) / max(1, steps - config.warmup_steps), 0.0, 1.0)
            shape = config.final_fraction + (1 - config.final_fraction) * 0.5 * (1 + jnp.cos(jnp.pi * done))
        else:
            shape = jnp.float32(1.0)
        return config.learning_rate * warmup * shape

    return learning_rate


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
