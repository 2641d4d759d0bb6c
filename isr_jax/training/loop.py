"""The training loop: a run from its configuration to its weights, for commands, programs and notebooks alike.

    run = isr_jax.fit(TrainConfig(...), "runs/mine")
    model = isr_jax.load(run.workdir)

A run folder holds config.json, checkpoints/, metrics.jsonl, tensorboard/, status.json, model.safetensors (the averaged
weights at the last evaluation or save) and best.safetensors (those with the best validation PSNR). The same call on
the same folder resumes it; it ends in the bytes of a run that was never stopped, on machines of one kind and
as many devices. GPUs take sums in any order, unless XLA_FLAGS=--xla_gpu_deterministic_ops=true was set for both.
"""

import contextlib
import errno
import functools
import itertools
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
from flax import nnx

from isr_jax.config import ConfigError, TrainConfig, UserError
from isr_jax.config.checks import MOST_STEPS
from isr_jax.models.model_file import get_params
from isr_jax.physics.check import changes_when_turned
from isr_jax.physics.names import make_physics
from isr_jax.solver.compilation import compiler_options
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.training.checkpoint import WHOLE, Checkpoints
from isr_jax.training.clock import Clock
from isr_jax.training.data import Batch, draw_batch, steps_per_epoch, validation_pairs
from isr_jax.training.intervals import Interval
from isr_jax.training.memory import load_memory
from isr_jax.training.parallel import any_process, local_part, of_process_0, start, to_host
from isr_jax.training.recovery import Recovery
from isr_jax.training.results import Callback, Results
from isr_jax.training.run_folder import RunFolder
from isr_jax.training.state import TrainState, init_state
from isr_jax.training.step import make_step, repeat_step
from isr_jax.training.stepper import Stepper
from isr_jax.training.stopping import StopRequests
from isr_jax.training.sub_images import check_there, needs_tensorflow
from isr_jax.training.warm_start import warm_start
from isr_jax.training.writers import Writers


@dataclass(frozen=True)
class Run:
    """What a call of `fit` did."""

    workdir: Path
    """The run folder; `isr_jax.load` reads it."""
    state: Literal["complete", "stopped"]
    """Whether the last step was reached; a stopped run goes on where it is, by the same call."""
    step: int
    """Steps done and saved, by this call and those before it."""
    of: int
    """Steps of the whole run."""
    reason: str
    """Why it has stopped, as "SIGTERM" or "max_minutes=30"; empty: complete."""
    best: float | None
    """Best validation PSNR of the whole run, dB; None without validation."""
    validation: dict[str, float]
    """The last validation of this call, by "FOLDER/psnr_y" and so on; empty without one."""
    history: tuple[tuple[int, dict[str, float]], ...]
    """Step and numbers of each record of this call; those of the whole run are in metrics.jsonl."""
    seconds: float
    """Wall time of this call."""


def fit(
    config: TrainConfig,
    workdir: str | os.PathLike,
    *,
    callback: Callback | None = None,
    quiet: bool = False,
    began: float | None = None,
) -> Run:
    """Trains until the last step, a signal or the time limit; resumes if `workdir` has a checkpoint.

    In the main thread, the first SIGTERM or SIGINT (Ctrl-C) ends the run, saved, after about a second of further steps,
    one at least; the handlers that were there before are put back at the end.

    Args:
      config: Of the run.
      workdir: The run folder; made if need be.
      callback: Called for each record, of training and of validation, with the step and the numbers by name; in
        process 0 alone where several train together.
      quiet: Whether to show neither progress nor lines.
      began: When `config.max_minutes` began to count, by `time.monotonic()`; None: at this call.
    Raises:
      UserError: If data, run folder or configuration cannot be used, another process trains in the folder, or a step
        is not finite (see `config.on_nonfinite`). What was saved before is whole.
    Examples:
      >>> from isr_jax.config import DataConfig, ERDConfig, ModelConfig, TrainConfig
      >>> isr_jax.write_image("train/photo.png", np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3))
      >>> erd = ERDConfig(features=2, num_blocks=1, feedback_steps=0, resolution="lr", border="zero")
      >>> config = TrainConfig(
      ...     model=ModelConfig(scale=2, num_stages=1, physics="bicubic", projection=False, prior=erd),
      ...     data=DataConfig(train=("train",), cache_dir="cache", patch_size=4, batch_size=2, placement="memory"),
      ...     steps=2,
      ... )
      >>> run = isr_jax.fit(config, "run", quiet=True)
      >>> run.state, run.step, isr_jax.load(run.workdir).scale
      ('complete', 2, 2)
    """
    called = time.monotonic()
    if not os.fspath(workdir):
        raise ConfigError("workdir is empty: name the run folder")
    folder = Path(workdir)
    limit = StopRequests(began=called if began is None else began, max_minutes=config.max_minutes)
    with limit as stop:
        try:
            return _fit(config, folder, stop, callback=callback, quiet=quiet, called=called)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise UserError(f"{folder}: {error.strerror}; {WHOLE}") from None


def _fit(
    config: TrainConfig, workdir: Path, stop: StopRequests, *, callback: Callback | None, quiet: bool, called: float
) -> Run:
    check_there("data.train", config.data.train)  # before a folder is made, or another run's touched
    check_there("eval.data", config.eval.data)
    parallel = start(config.parallel)
    if config.data.batch_size % (parallel.size * config.optimizer.accumulate):
        raise ConfigError(
            f"data.batch_size is {config.data.batch_size}; it must be divisible by the {parallel.size} devices "
            f"times optimizer.accumulate={config.optimizer.accumulate}"
        )
    chief = jax.process_index() == 0

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(RunFolder(workdir))

        # -------------------------------------------------------------------------------------------------------------
        # Data.
        # -------------------------------------------------------------------------------------------------------------
        scale, channels = config.model.scale, config.model.channels
        names = [Path(data).resolve().name for data in config.eval.data]
        if len(set(names)) < len(names):
            raise ConfigError(f"eval.data names two folders {max(names, key=names.count)}; rename one")
        validation = {
            name: validation_pairs(data, scale, channels, config.camera)
            for name, data in zip(names, config.eval.data, strict=True)
        }
        turns = chief and config.camera and config.data.augment
        if turns and changes_when_turned(make_physics(config.camera, scale=scale)):
            remedy = "which data.augment makes: set --data.no-augment"
            print(f"isr-jax: {config.camera} is another on turned pictures, {remedy}", file=sys.stderr)
        in_memory = config.data.placement == "memory"
        if in_memory:
            sub_images: Any = load_memory(
                config.drawn, scale=config.data_scale, channels=channels, camera=config.camera
            )
        else:
            with needs_tensorflow('data.placement="stream"', 'set data.placement="memory"'):
                from isr_jax.training import datasets
            sub_images = datasets.sub_images(config.data, scale=scale, channels=channels, camera=config.camera)
        per_epoch = steps_per_epoch(sub_images.size, config.data.batch_size)
        total = config.steps or math.ceil(config.epochs * per_epoch)
        if total > MOST_STEPS:
            raise ConfigError(f"epochs={config.epochs:g} are {total} steps; a run has at most {MOST_STEPS}")

        # -------------------------------------------------------------------------------------------------------------
        # Model and state.
        # -------------------------------------------------------------------------------------------------------------
        model = ISRResCNet(config.model, rngs=nnx.Rngs(config.seed))
        params = get_params(model)
        optimizer = config.optimizer.build()
        state = parallel.replicate(init_state(params, optimizer))
        step_fn = make_step(model, config, total_steps=total, shards=parallel.size)
        steps_fn = parallel.map_steps(
            repeat_step(step_fn, config.steps_per_call),
            sharded=not in_memory,
            compiler_options=compiler_options(config.model),
        )

        # -------------------------------------------------------------------------------------------------------------
        # Resume, or start.
        # -------------------------------------------------------------------------------------------------------------
        checkpoints = stack.enter_context(Checkpoints(workdir, config, sub_images.fingerprint))
        best: float | None = None
        failures, notes = 0, []
        if (restored := checkpoints.restore(state)) is not None:
            state, best, failures, notes = restored
        elif config.checkpoint.init_from:
            warm, fitting = warm_start(params, config.model, config.checkpoint.init_from)
            state = parallel.replicate(init_state(warm, optimizer))
            notes = [f"{fitting} of {len(params)} parameters from {config.checkpoint.init_from}"]
        first = int(state.step)
        if first > total:
            raise UserError(f"{workdir} has done {first} steps, more than the {total} that it shall have: ask for more")
        folder.write_config(config)
        writers: Writers | None = None
        if chief:
            writers = Writers(workdir, first_step=first, total_steps=total, quiet=quiet)
            stack.callback(writers.close)
            for note in notes:
                writers.say(f"isr-jax: {note}")
            count = sum(p.size for p in params.values())
            writers.say(
                f"{count:,} parameters; {sub_images.size} sub-images, {per_epoch} steps an epoch; "
                f"{'resumed at' if first else 'starts at'} step {first} of {total}"
            )
        results = Results(
            config,
            folder,
            model,
            validation,
            checkpoints,
            writers,
            callback,
            total=total,
            best=best,
            state_bytes=sum(leaf.nbytes for leaf in jax.tree.leaves(state)),
        )
        results.report("running", first)
        recovery = Recovery(config, workdir, parallel, total_steps=total, failures=failures)
        clock = Clock()
        if in_memory:
            sources: Iterator[Any] = itertools.repeat(parallel.replicate(sub_images.memory))
        else:
            share = {"shard": jax.process_index(), "shards": jax.process_count()}
            batches = datasets.stream_batches(
                sub_images, config.data, scale=scale, seed=config.seed, first_step=first, **share
            )
            sources = clock.waiting(map(parallel.shard, batches))
        stepper = Stepper(steps_fn, state, sources, parallel, config.steps_per_call)

        def batch_of(state: TrainState, source: Any) -> Batch:
            """Returns this process's part of the batch of the step after `state`."""
            if not in_memory:
                return local_part(source)
            draw = functools.partial(draw_batch, shards=1, seed=config.seed, config=config.drawn)
            here = jax.tree.map(lambda a: a.addressable_data(0), (source, state.step))
            return to_host(jax.jit(draw)(*here, 0))

        def save_and_wait(state: TrainState) -> None:
            results.save(state, None, recovery.failures)
            results.wait()

        # -------------------------------------------------------------------------------------------------------------
        # The loop: a stretch of steps, then all that is not a step.
        # -------------------------------------------------------------------------------------------------------------
        save_every, eval_every, log_every = map(
            Interval, (config.checkpoint.every, config.eval.every, config.eval.log_every)
        )
        step, reason, pace = first, "", results.pace
        while step < total and not reason:
            begun, before = time.monotonic(), step
            for call in stepper.run(min(pace.steps, total - step, save_every.left(step), eval_every.left(step))):
                clock.count(call.passed + call.failed)
                for index in range(call.passed):
                    step += 1
                    recovery.passed()
                    if log_every.due(step):
                        results.record(step, {**call.read(index), **clock.read()})
                        log_every.restart()
                if call.failed:
                    step += 1
                    batch = functools.partial(batch_of, stepper.state, call.source)
                    stepper.state, values, said = recovery.failed(stepper.state, batch, save_and_wait)
                    results.record(step, values)
                    results.say(f"isr-jax: {said}")
                results.advance(call.passed + call.failed)
            pace.measured(time.monotonic() - begun, step - before)

            results.tell_saved()
            reason = stop.reason(results.reserve.seconds + pace.seconds)
            saves, evaluates = save_every.due(step), eval_every.due(step) or step == total
            if reason == stop.limit:
                evaluates |= results.reserve.evaluation_fits(stop.left)
            if jax.process_count() > 1:  # all processes must make the same steps, and save the same one
                reason = (reason or "another process was to stop") if any_process(bool(reason)) else ""
                saves, evaluates, seconds = of_process_0((saves, evaluates, pace.seconds_per_step or 0.0))
                pace.seconds_per_step = seconds or None
            score = None
            if config.eval.data and evaluates:
                score = results.evaluate(step, stepper.state)
                eval_every.restart()
                clock.restart()
            if score is not None or saves or step == total or reason:
                results.save(stepper.state, score, recovery.failures)
                save_every.restart()

        # -------------------------------------------------------------------------------------------------------------
        # The end.
        # -------------------------------------------------------------------------------------------------------------
        results.wait()
        complete = step >= total
        reason = "" if complete else reason
        results.report("complete" if complete else "stopped", step, reason)
        why = "" if complete else f", stopped by {reason}; the same command goes on"
        results.say(f"saved at step {step} of {total} in {workdir}{why}")
        return Run(
            workdir=workdir,
            state="complete" if complete else "stopped",
            step=step,
            of=total,
            reason=reason,
            best=results.best,
            validation=results.measured,
            history=tuple(results.history),
            seconds=time.monotonic() - called,
        )
