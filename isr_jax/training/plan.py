"""What a training step costs in memory and arithmetic, told by the compiler without training."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from isr_jax.config import TrainConfig
from isr_jax.models.model_file import get_params
from isr_jax.solver.compilation import compiler_options
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.training.parallel import Parallel
from isr_jax.training.state import init_state
from isr_jax.training.step import make_step, repeat_step


def print_plan(config: TrainConfig) -> None:
    """Prints memory and arithmetic of a step by full back-propagation, with remat, and truncated where it can be."""
    stages = config.model.num_stages
    full = dataclasses.replace(config, loss=dataclasses.replace(config.loss, window=0, depth=0))
    ways = {"full back-propagation": _with_remat(full, False), "remat per stage": _with_remat(full, True)}
    if stages > 1 and not config.model.final_data_step:
        window = config.loss.window or max(k for k in range(1, stages // 2 + 1) if stages % k == 0)
        depth = config.loss.depth or window
        loss = dataclasses.replace(config.loss, stages="last", window=window, depth=depth)
        optimizer = dataclasses.replace(config.optimizer, accumulate=1)
        truncated = dataclasses.replace(config, loss=loss, optimizer=optimizer)
        ways[f"truncated, k1={window} k2={depth}"] = _with_remat(truncated, False)
    print("| step | peak MiB | of which activations MiB | GFLOP |\n| --- | ---: | ---: | ---: |")
    for name, way in ways.items():
        peak, activations, flops = step_cost(way)
        print(f"| {name} | {peak / 2**20:,.0f} | {activations / 2**20:,.0f} | {flops / 1e9:,.1f} |", flush=True)


def _with_remat(config: TrainConfig, remat: bool) -> TrainConfig:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, remat=remat))


def step_cost(config: TrainConfig) -> tuple[int, int, int]:
    """Returns the bytes of a compiled step on one device, those of them that are temporary, and its FLOP.

    The bytes are the compiler's own plan of its memory. The FLOP count the multiplications and additions of
    convolutions and matrix products in the traced step, loops included (the compiler counts the body of a loop once).
    Of alternatives, as a model's several scales are, the dearest counts.
    """
    model = ISRResCNet(config.model, rngs=nnx.Rngs(0))
    parallel = Parallel(tuple(jax.local_devices()[:1]), "shard_map")
    step = make_step(model, config, total_steps=max(1, config.steps), shards=1, draws=False)
    options = compiler_options(config.model)
    mapped = parallel.map_steps(repeat_step(step, 1), sharded=True, compiler_options=options)
    state = jax.eval_shape(lambda: init_state(get_params(model), config.optimizer.build()))
    side = config.drawn.drawn_size(config.data_scale)
    shape = (config.data.batch_size, side, side, config.model.channels)
    sides = {"lr": 1, "hr": config.data_scale}
    batch = {
        k: jax.ShapeDtypeStruct((shape[0], s * shape[1], s * shape[2], shape[3]), jnp.uint8) for k, s in sides.items()
    }
    going, count = jax.ShapeDtypeStruct((), jnp.bool_), jax.ShapeDtypeStruct((), jnp.int32)
    traced = mapped.trace(state, going, batch, count)
    memory = traced.lower().compile().memory_analysis()
    peak = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return peak + memory.temp_size_in_bytes, memory.temp_size_in_bytes, _count_flops(traced.jaxpr.jaxpr)


def _count_flops(jaxpr: Any) -> int:
    """Multiplications and additions of the convolutions and matrix products in a jaxpr, loops multiplied out."""
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            ((contracted, _), _) = params["dimension_numbers"]
            length = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += 2 * length * math.prod(equation.outvars[0].aval.shape)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            outputs = kernel[params["dimension_numbers"].rhs_spec[0]]
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // outputs
        elif name == "same_correlation":
            *_, outputs = kernel = equation.invars[1].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // outputs
        elif name == "same_correlation_weight_gradient":
            total += 2 * math.prod(equation.invars[0].aval.shape[:3]) * math.prod(equation.outvars[0].aval.shape)
        times = params["length"] if name == "scan" else 1
        values = (v for value in params.values() for v in (value if isinstance(value, tuple | list) else (value,)))
        inner = [_count_flops(j) for j in (getattr(value, "jaxpr", value) for value in values) if hasattr(j, "eqns")]
        total += max(inner) if name == "cond" else times * sum(inner)
    return total
