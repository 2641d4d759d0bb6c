"""Solving large pictures stage by stage in windows, for networks whose projection needs the norm of the whole picture.

The pictures between the stages lie in the computer's memory. Each stage makes one pass over the windows, which leaves
its data step u and the noise D(u), and adds up the squares of the noise; the projection then only scales the noise,
pixel by pixel. A window sees as far as one stage does, not all of them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from isr_jax.inference.conditions import Conditions
from isr_jax.inference.tiles import parts
from isr_jax.physics.noise_level import measure_noise_std
from isr_jax.physics.physics import Physics
from isr_jax.solver.proximal import noise_radius, project_l2_ball
from isr_jax.solver.unrolled import ISRResCNet, SolverState

Run = Callable[..., Any]
"""(function, known, *arrays) -> NumPy arrays: function(model, physics, noise_std, *arrays), compiled for its shapes."""


def first_estimate(model: ISRResCNet, physics: Physics, noise_std: Any, lr: jax.Array) -> jax.Array:
    """Returns the pictures that the stages start from."""
    del model, noise_std
    return physics.initial_estimate(lr)


def one_stage(
    model: ISRResCNet,
    physics: Physics,
    noise_std: jax.Array,
    lr: jax.Array,
    x: jax.Array,
    previous: jax.Array,
    stage: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Returns the pictures after the data step of a stage, and the noise that its network sees in them."""
    observation, _ = model.prepare(lr, physics=physics, noise_std=noise_std)
    terms = model.terms(observation, SolverState(x, previous, None), stage)
    return terms.data_step, terms.noise


def solve_by_stages(
    model: ISRResCNet,
    lr: Float[np.ndarray, "batch height width channels"],
    known: Conditions,
    run: Run,
    *,
    num_stages: int,
    window: tuple[int, int],
    tick: Callable[[], None] = lambda: None,
) -> Float[np.ndarray, "batch hr_height hr_width channels"]:
    """Super-resolves pictures with a model whose `stage_reach` is known; the result is that of the whole pictures.

    Args:
      model: The model.
      lr: LR pictures, 0..255.
      known: Their physics and noise level; measured on the whole pictures if that is not given.
      run: What runs a window.
      num_stages: Of the solver.
      window: Height and width of the windows, LR pixels.
      tick: Is called after each window of each stage.
    """
    config, scale, halo = model.config, known.physics.scale, model.stage_reach(known.physics)
    assert halo is not None
    x = previous = np.asarray(run(first_estimate, known, lr))
    if known.noise_std is None:
        known = known._replace(noise_std=measure_noise_std(lr if config.noise_from == "lr" else x))
    for stage in range(num_stages):
        u, noise, squared_norm = np.empty_like(x), np.empty_like(x), np.zeros(len(lr))
        for part in parts((lr.shape[1], lr.shape[2]), window, halo):
            pictures = (x[part.seen(scale)], previous[part.seen(scale)])
            seen = run(one_stage, known, lr[part.seen()], *pictures, np.int32(stage))
            u[part.taken(scale)], kept = seen[0][part.inside(scale)], seen[1][part.inside(scale)]
            noise[part.taken(scale)] = kept
            squared_norm += np.sum(np.square(kept, dtype=np.float64), axis=(1, 2, 3))
            tick()
        total = jnp.asarray(squared_norm, jnp.float32)
        radius = noise_radius(jnp.asarray(known.noise_std), model.log_radius[stage], x[0].size)
        noise *= np.asarray(project_l2_ball(jnp.ones((len(lr), 1, 1, 1)), radius, lambda own, total=total: total))
        u -= noise
        previous, x = x, np.clip(u, 0, 255, out=u) if config.clip else u
    return x
