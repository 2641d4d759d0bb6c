"""The training loop: a run from its configuration to its weights, for commands, programs and notebooks alike.

    run = isr_jax.fit(TrainConfig(...), "runs/mine")
    model = isr_jax.load(run.workdir)

A run folder holds config.json, checkpoints/, metrics.jsonl, tensorboard/, status.json, model.safetensors (the averaged
weights at the last evaluation or save) and best.safetensors (those with the best validation PSNR). The same call on
the same folder resumes it; it ends in the bytes of a run that was never stopped.
"""

import contextlib
import errno
import functools
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx

from isr_jax.config import ConfigError, TrainConfig, UserError, config_to_dict
from isr_jax.files import replace_file
from isr_jax.models.model_file import get_params, save_model
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.training.checkpoint import WHOLE, Checkpoints
from isr_jax.training.clock import Clock
from isr_jax.training.data import Batch, draw_batch, steps_per_epoch, validation_pairs
from isr_jax.training.evaluation import make_evaluation, stage_parameters
from isr_jax.training.memory import load_memory
from isr_jax.training.parallel import any_process, local_part, start, to_host
from isr_jax.training.recovery import Recovery
from isr_jax.training.run_folder import RunFolder
from isr_jax.training.state import TrainState, init_state, make_bind
from isr_jax.training.step import make_step
from isr_jax.training.stopping import StopRequests
from isr_jax.training.sub_images import needs_tensorflow
from isr_jax.training.warm_start import warm_start
from isr_jax.training.writers import Writers

Callback = Callable[[int, dict[str, float]], Any]
"""Called with the step and the numbers of each record."""


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

    In the main thread, the first SIGTERM or SIGINT (Ctrl-C) ends the run after the next step, saved; the handlers that
    were there before are put back at the end.

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
    """
    called = time.monotonic()
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
            name: validation_pairs(data, scale, channels) for name, data in zip(names, config.eval.data, strict=True)
        }
        in_memory = config.data.placement == "memory"
        if in_memory:
            sub_images: Any = load_memory(config.drawn, scale=config.data_scale, channels=channels)
        else:
            with needs_tensorflow('data.placement="stream"', 'set data.placement="memory"'):
                from isr_jax.training import datasets
            sub_images = datasets.sub_images(config.data, scale=scale, channels=channels)
        per_epoch = steps_per_epoch(sub_images.size, config.data.batch_size)
        total = config.steps or math.ceil(config.epochs * per_epoch)

        # -------------------------------------------------------------------------------------------------------------
        # Model and state.
        # -------------------------------------------------------------------------------------------------------------
        model = ISRResCNet(config.model, rngs=nnx.Rngs(config.seed))
        params = get_params(model)
        optimizer = config.optimizer.build()
        state = parallel.replicate(init_state(params, optimizer))
        step_fn = parallel.map_step(
            make_step(model, config, total_steps=total, shards=parallel.size), sharded=not in_memory
        )
        evaluate = make_evaluation(model)

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
        writers: Writers | None = None
        if chief:
            text = json.dumps(config_to_dict(config), indent=2) + "\n"
            replace_file(workdir / "config.json", lambda path: path.write_text(text))
            writers = Writers(workdir, first_step=first, total_steps=total, quiet=quiet)
            stack.callback(writers.close)
            for note in notes:
                writers.say(f"isr-jax: {note}")
            count = sum(p.size for p in params.values())
            writers.say(
                f"{count:,} parameters; {sub_images.size} sub-images, {per_epoch} steps an epoch; "
                f"{'resumed at' if first else 'starts at'} step {first} of {total}"
            )
        folder.report("running", first, total)
        recovery = Recovery(config, workdir, parallel, total_steps=total, failures=failures)
        source: Any = parallel.replicate(sub_images.memory) if in_memory else None
        batches: Iterator[Any] | None = None
        if not in_memory:
            share = {"shard": jax.process_index(), "shards": jax.process_count()}
            batches = datasets.stream_batches(
                sub_images, config.data, scale=scale, seed=config.seed, first_step=first, **share
            )

        # -------------------------------------------------------------------------------------------------------------
        # What the loop does now and then.
        # -------------------------------------------------------------------------------------------------------------
        history: list[tuple[int, dict[str, float]]] = []

        def record(step: int, values: dict[str, float]) -> None:
            history.append((step, values))
            if writers:
                writers.scalars(step, values)
                if callback:
                    callback(step, dict(values))

        def save(state: TrainState, score: float | None) -> None:
            if chief:  # first: a run that is killed in between, and resumed, comes by here again
                save_average(model, state, workdir / "model.safetensors", config, score)
            checkpoints.save(state, score=score, best=best, failures=recovery.failures)
            folder.report("running", int(state.step), total)

        def save_and_wait(state: TrainState) -> None:
            save(state, None)
            checkpoints.wait()

        def batch_of(state: TrainState, source: Any) -> Batch:
            """Returns this process's part of the batch of the step after `state`."""
            if not in_memory:
                return local_part(source)
            draw = functools.partial(draw_batch, shards=1, seed=config.seed, config=config.drawn)
            here = jax.tree.map(lambda a: a.addressable_data(0), (source, state.step))
            return to_host(jax.jit(draw)(*here, 0))

        # -------------------------------------------------------------------------------------------------------------
        # The loop.
        # -------------------------------------------------------------------------------------------------------------
        measured: dict[str, float] = {}
        reached, reason, clock = first, "", Clock()
        for step in range(first + 1, total + 1):
            with clock.waiting():
                if batches is not None:
                    source = parallel.shard(next(batches))
            with jax.transfer_guard("disallow"):
                state, metrics = step_fn(state, source)
            # Waiting here keeps a signal's answer near, and costs nothing: the next step needs this one's state.
            if bool(jax.device_get(metrics["finite"])):
                recovery.passed()
                if step % config.eval.log_every == 0:
                    values = {k: float(v) for k, v in jax.device_get(metrics).items() if k != "finite"}
                    record(step, {**values, **clock.read()})
                    if writers:
                        writers.show(loss=f"{values['loss']:.5f}")
            else:
                batch = functools.partial(batch_of, state, source)
                state, values, said = recovery.failed(state, batch, save_and_wait)
                record(step, values)
                if writers:
                    writers.say(f"isr-jax: {said}")
            clock.count()
            if writers:
                writers.advance()

            score = None
            if config.eval.data and (step % config.eval.every == 0 or step == total):
                pictures: dict[str, np.ndarray] = {}
                measured = evaluate(state.average, validation, pictures)
                score = measured[f"{next(iter(validation))}/psnr_y"]
                better = best is None or score > best
                best = score if better else best
                record(step, {**measured, **stage_parameters(state.average)})
                if writers:
                    for name, picture in pictures.items():
                        writers.picture(step, name, picture)
                    writers.show(psnr=f"{score:.2f}")
                    writers.say(
                        f"step {step}: " + ", ".join(f"{k} {v:.4g}" for k, v in measured.items() if k.endswith("_y"))
                    )
                    if better:
                        save_average(model, state, workdir / "best.safetensors", config, score)
                clock.restart()

            reason = stop.reason
            if jax.process_count() > 1:  # all processes must save the same step
                ends = step % config.eval.log_every == 0 and any_process(bool(reason))
                reason = (reason or "another process was to stop") if ends else ""
            if score is not None or step % config.checkpoint.every == 0 or step == total or reason:
                save(state, score)
                reached = step
            if reason:
                break

        # -------------------------------------------------------------------------------------------------------------
        # The end.
        # -------------------------------------------------------------------------------------------------------------
        checkpoints.wait()
        complete = reached >= total
        reason = "" if complete else reason
        folder.report("complete" if complete else "stopped", reached, total, reason)
        if writers:
            why = "" if complete else f", stopped by {reason}; the same command goes on"
            writers.say(f"saved at step {reached} of {total} in {workdir}{why}")
        return Run(
            workdir=workdir,
            state="complete" if complete else "stopped",
            step=reached,
            of=total,
            reason=reason,
            best=best,
            validation=measured,
            history=tuple(history),
            seconds=time.monotonic() - called,
        )


def save_average(model: ISRResCNet, state: TrainState, path: Path, config: TrainConfig, score: float | None) -> None:
    """Writes the averaged weights as a model file, beside and then renamed."""
    metadata: dict[str, Any] = {"step": int(state.step), "steps": config.steps, "seed": config.seed}
    if score is not None and math.isfinite(score):  # JSON has no infinity
        metadata["psnr_y"] = score
    save_model(path, make_bind(model)(to_host(state.average)), metadata)
