"""The training step of one device: draw or take a batch, gradients, update, averaged weights; and several in a row."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from isr_jax.config import TrainConfig
from isr_jax.physics.degradations import Degradations
from isr_jax.physics.physics import Physics
from isr_jax.solver.unrolled import ISRResCNet, SolverState
from isr_jax.training.data import Batch, draw_batch
from isr_jax.training.parallel import AXIS
from isr_jax.training.state import Params, TrainState, average_params, make_bind

Metrics = dict[str, Array]
Step = Callable[[TrainState, Any], tuple[TrainState, Metrics]]
Steps = Callable[[TrainState, Array, Any, Array], tuple[TrainState, Array, Metrics]]


class Observed(NamedTuple):
    """Patches, and what is known of how the LR ones came to be."""

    lr: Float[Array, "batch height width channels"]
    hr: Float[Array, "batch hr_height hr_width channels"]
    physics: Physics | None
    noise_std: Float[Array, " batch"] | None

    @property
    def known(self) -> dict[str, Any]:
        """What the solver is told."""
        return {"physics": self.physics, "noise_std": self.noise_std}


def make_degrade(config: TrainConfig, scale: int) -> Callable[[Batch, ArrayLike, ArrayLike], Observed]:
    """Makes the function that prepares a batch for the solver: LR patches made from the HR ones, if the run says so.

    Args:
      config: Of the run.
      scale: Of the LR patches; of the batch, only as many are made as have the LR pixels of one at the largest scale.
    Returns: degrade(batch, step, first) of rows of the batch of `step`, uint8; `first` is the number of the first of
      them in the whole batch: what a patch becomes does not depend on the devices.
    """
    if not config.data.degradation.active:
        return lambda batch, step, first: Observed(
            jnp.asarray(batch["lr"], jnp.float32), jnp.asarray(batch["hr"], jnp.float32), None, None
        )
    degradations = Degradations(config.data.degradation, scale, drawn_scale=config.data_scale)
    largest = max(config.model.all_scales)

    def degrade(batch: Batch, step: ArrayLike, first: ArrayLike) -> Observed:
        rows = max(1, len(batch["hr"]) * scale**2 // largest**2)
        hr = jnp.asarray(batch["hr"][:rows], jnp.float32)
        key = jax.random.fold_in(jax.random.key(config.seed + 2), step)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(hr.shape[0]))
        lr, physics, noise_std = degradations(hr, keys)
        return Observed(lr, degradations.crop(hr), physics, noise_std)

    return degrade


def make_step(
    model: ISRResCNet, config: TrainConfig, *, total_steps: int, shards: int, draws: bool | None = None
) -> Step:
    """Makes the step of one device, to be mapped over the axis `AXIS`.

    A step whose loss, gradient, updated or averaged parameters are not finite (as numbers or in their norm) leaves the
    whole state as it was and says so in `metrics["finite"]`.

    Args:
      model: Gives the structure; its parameters come from the state, its precision is `config.precision`.
      config: Of the run.
      total_steps: Length of the run, for the schedule.
      shards: Devices that share a batch.
      draws: Whether the source is the `Memory` to draw a batch from, or the batch; by default as data.placement says.
    Returns: step(state, source) -> state, metrics. The source is this device's share of a batch, or the `Memory`.
    """
    if config.precision != "model":
        model = nnx.eval_shape(lambda: ISRResCNet(config.trained_model, rngs=nnx.Rngs(0)))  # of the same structure
    bind = make_bind(model)
    optimizer = config.optimizer.build()
    schedule = config.schedule.build(total_steps)
    pixel_loss = config.loss.build()

    cycle, scales = config.scale_cycle, config.model.all_scales
    degrades = [make_degrade(config, scale) for scale in scales]

    def loss_of(params: Params, batch: Observed) -> Float[Array, ""]:
        if config.loss.stages == "last":
            return pixel_loss(bind(params)(batch.lr, **batch.known), batch.hr)
        iterates = bind(params)(batch.lr, **batch.known, all_stages=True)
        weights = [config.loss.earlier_weight] * (config.model.num_stages - 1) + [1.0]
        losses = [w * pixel_loss(x, batch.hr) for w, x in zip(weights, iterates, strict=True)]
        return jnp.sum(jnp.stack(losses))

    def gradients(params: Params, batch: Observed) -> tuple[Float[Array, ""], Params]:
        parts = config.optimizer.accumulate
        if parts == 1:
            return jax.value_and_grad(loss_of)(params, batch)
        split = jax.tree.map(lambda a: a.reshape(parts, a.shape[0] // parts, *a.shape[1:]), batch)

        def add(total: Any, part: Observed) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, jax.value_and_grad(loss_of)(params, part)), None

        zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
        return jax.tree.map(lambda a: a / parts, jax.lax.scan(add, zero, split)[0])

    def update(state: TrainState, loss: Array, grads: Params, rate: Array) -> tuple[TrainState, Metrics]:
        updates, moments = optimizer.update(grads, state.optimizer, state.params)
        updates = jax.tree.map(lambda u: -rate * u, updates)
        params: Any = optax.apply_updates(state.params, updates)
        average = average_params(state.average, params, state.step, config.optimizer.ema_decay)
        norms = {
            "gradient_norm": optax.tree.norm(grads),
            "update_norm": optax.tree.norm(updates),
            "parameter_norm": optax.tree.norm(params),
        }
        finite = jnp.isfinite(jnp.stack([loss, *norms.values(), optax.tree.norm(average)])).all()
        new = dataclasses.replace(state, params=params, optimizer=moments, average=average)
        return new, {"loss": loss, "finite": finite, **norms}

    def windows(state: TrainState, batch: Observed, rate: Array) -> tuple[TrainState, Metrics]:
        """Truncated back-propagation: an update after every `window` stages, through the last `depth` of them."""
        stages, every = config.model.num_stages, config.loss.window
        observation, start = bind(state.params).prepare(batch.lr, **batch.known)
        solver = {0: start}  # by stage; detached, and computed with the parameters of its time

        def window(state: TrainState, entering: SolverState, reached: int, first: int, end: int) -> tuple[Any, ...]:
            """Goes from stage `reached` to `first`, and from there to `end` with back-propagation and an update."""
            entering, _ = bind(state.params).iterate(observation, entering, reached, first)
            entering = jax.lax.stop_gradient(entering)

            def loss_of_window(params: Params) -> tuple[Array, SolverState]:
                leaving, _ = bind(params).iterate(observation, entering, first, end)
                return pixel_loss(leaving.x, batch.hr), leaving

            weight = 1.0 if end == stages else config.loss.earlier_weight
            (loss, leaving), grads = jax.value_and_grad(loss_of_window, has_aux=True)(state.params)
            loss, grads = jax.lax.pmean((loss, jax.tree.map(lambda g: weight * g, grads)), AXIS)
            state, metrics = update(state, loss, grads, rate)
            return state, jax.lax.stop_gradient(leaving), metrics

        metrics: Metrics = {}
        for end in range(every, stages + 1, every):
            first = max(0, end - (config.loss.depth or every))
            reached = max(k for k in solver if k <= first)
            run = functools.partial(window, reached=reached, first=first, end=end)
            if end == every:
                state, solver[end], metrics = run(state, solver[reached])
            else:
                # A branch of its own: otherwise XLA:CPU allocates the activations of all windows at once.
                skip = functools.partial(lambda metrics, state, entering: (state, entering, metrics), metrics)
                state, solver[end], metrics = jax.lax.cond(metrics["finite"], run, skip, state, solver[reached])
        return state, metrics

    def whole(state: TrainState, batch: Observed, rate: Array) -> tuple[TrainState, Metrics]:
        """One update, from the loss after all stages."""
        loss, grads = jax.lax.pmean(gradients(state.params, batch), AXIS)
        return update(state, loss, grads, rate)

    def step(state: TrainState, source: Any) -> tuple[TrainState, Metrics]:
        batch, shard = source, jax.lax.axis_index(AXIS)
        if draws if draws is not None else config.data.placement == "memory":
            batch = draw_batch(source, state.step, shard, shards, seed=config.seed, config=config.drawn)
        rate = schedule(state.step) * state.rate_factor

        def on_scale(degrade: Any, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
            observed = degrade(batch, state.step, shard * (config.data.batch_size // shards))
            return (windows if config.loss.window else whole)(state, observed, rate)

        branches = [functools.partial(on_scale, degrade) for degrade in degrades]
        if len(branches) == 1:
            new, metrics = branches[0](state, batch)
        else:
            turn = jnp.array([scales.index(scale) for scale in cycle])[state.step % len(cycle)]
            new, metrics = jax.lax.switch(turn, branches, state, batch)
        new = dataclasses.replace(new, step=state.step + 1)
        new = jax.tree.map(lambda a, b: jnp.where(metrics["finite"], a, b), new, state)
        return new, {"learning_rate": rate, **metrics}

    return step


def repeat_step(step: Step, most: int) -> Steps:
    """Makes the function of one device that takes up to `most` steps in one call, for `Parallel.map_steps`.

    One program takes any number of steps, in the same bits as calls of one step each. It ends before the step that
    follows one that was not finite, and so do the calls behind it: they may be sent off before its metrics are read.

    Args:
      step: As `make_step` returns it.
      most: Length of the metrics.
    Returns: steps(state, going, source, count) -> state, going, metrics. `going`, bool: False where an earlier step was
      not finite; nothing is done then. `count`, int32, at most `most`: how many steps to take. `metrics`: of each step,
      by name, arrays of `most` entries; `metrics["finite"]` is False for those that were not taken, too.
    """
    step = jax.jit(step)  # traced once for the shapes and the loop

    def steps(state: TrainState, going: Array, source: Any, count: Array) -> tuple[TrainState, Array, Metrics]:
        _, shapes = jax.eval_shape(step, state, source)
        metrics = jax.tree.map(lambda one: jnp.zeros((most, *one.shape), one.dtype), shapes)

        def more(carry: tuple[Array, TrainState, Array, Metrics]) -> Array:
            return carry[2] & (carry[0] < count)

        def body(carry: tuple[Array, TrainState, Array, Metrics]) -> tuple[Array, TrainState, Array, Metrics]:
            done, state, _, metrics = carry
            state, values = step(state, source)
            metrics = jax.tree.map(lambda all_steps, one: all_steps.at[done].set(one), metrics, values)
            return done + 1, state, values["finite"], metrics

        start = (jnp.zeros((), jnp.int32), state, going, metrics)
        return jax.lax.while_loop(more, body, start)[1:]

    return steps
