"""``python -m isr_jax.train CONFIG.py --workdir RUN [--field value ...]``: train a model, or go on with a run.

A run folder holds config.json, checkpoints/, metrics.jsonl, tensorboard/, model.safetensors (the averaged weights at
the last evaluation or save) and best.safetensors (those with the best validation PSNR). The same command resumes it.
"""

import contextlib
import dataclasses
import errno
import functools
import json
import math
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from isr_jax.__main__ import run
from isr_jax.command_line import parse_arguments
from isr_jax.config import ConfigError, TrainConfig, UserError, config_to_dict
from isr_jax.files import replace_file
from isr_jax.models.model_file import load_model, parameters_to_dict, save_model
from isr_jax.pictures.metrics import round_to_8_bits, score_picture
from isr_jax.pictures.pairs import Pair
from isr_jax.solver.erd import for_other_scale
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.startup import prepare_process
from isr_jax.training import datasets
from isr_jax.training.checkpoint import WHOLE, Checkpoints
from isr_jax.training.data import draw_batch, load_memory, steps_per_epoch, stream_batches, validation_pairs
from isr_jax.training.forensics import write_bundle
from isr_jax.training.parallel import any_process, start
from isr_jax.training.plan import print_plan
from isr_jax.training.state import Params, TrainState, get_params, init_state, make_bind
from isr_jax.training.step import make_step
from isr_jax.training.writers import Writers

# ---------------------------------------------------------------------------------------------------------------------
# The command line.
# ---------------------------------------------------------------------------------------------------------------------

_USAGE = "usage: isr-jax train CONFIG.py --workdir RUN [--field value ...], or CONFIG.py --plan"


def main(argv: list[str] | None = None) -> int | None:
    """Runs the command."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(f"{_USAGE}\n\nThe fields, with their defaults before CONFIG.py changes them:\n")
        parse_fields(TrainConfig(steps=1), ["--help"])
        return 0 if argv else 2
    config = load_config(Path(argv[0]))
    rest, workdir = _take(argv[1:], "--workdir")
    if plan := "--plan" in rest:
        rest.remove("--plan")
    config = parse_fields(config, rest)
    if plan:
        print_plan(config)
        return
    if workdir is None:
        raise ConfigError(f"--workdir is missing; {_USAGE}")
    prepare_process()
    train(config, Path(workdir))


def load_config(path: Path) -> TrainConfig:
    """Runs a configuration file and returns its CONFIG.

    Raises:
      ConfigError: If the file is missing, fails, or has no CONFIG of type TrainConfig.
    """
    if path.suffix != ".py":
        raise ConfigError(f"{path}: the first argument is a configuration, CONFIG.py; {_USAGE}")
    try:
        values = runpy.run_path(str(path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except Exception as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from None
    if not isinstance(values.get("CONFIG"), TrainConfig):
        raise ConfigError(f"{path}: has no CONFIG = TrainConfig(...)")
    return values["CONFIG"]


def parse_fields(config: TrainConfig, arguments: list[str]) -> TrainConfig:
    """Returns `config` with fields replaced as the command line says, e.g. ["--model.num-stages", "5"].

    Raises:
      ConfigError: If a field is unknown or a value unfit.
    """
    return parse_arguments(
        TrainConfig, arguments, prog="isr-jax train CONFIG.py --workdir RUN", description="", default=config
    )


def _take(arguments: list[str], name: str) -> tuple[list[str], str | None]:
    """Takes `--name value` or `--name=value` out of the arguments."""
    for i, argument in enumerate(arguments):
        if argument.startswith(name + "="):
            return arguments[:i] + arguments[i + 1 :], argument[len(name) + 1 :]
        if argument == name and i + 1 < len(arguments):
            return arguments[:i] + arguments[i + 2 :], arguments[i + 1]
    return arguments, None


# ---------------------------------------------------------------------------------------------------------------------
# The run.
# ---------------------------------------------------------------------------------------------------------------------


def train(config: TrainConfig, workdir: Path) -> None:
    """Trains until the last step, a signal or the time limit; resumes if `workdir` has a checkpoint.

    Raises:
      UserError: If data, run folder or configuration cannot be used, or the loss is not finite.
    """
    stop = _StopSignals()
    try:
        _train(config, workdir, stop)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(f"{workdir}: {error.strerror}; {WHOLE}") from None
    finally:
        stop.restore()


def _train(config: TrainConfig, workdir: Path, stop: "_StopSignals") -> None:
    began = time.monotonic()
    parallel = start(config.parallel)
    if config.data.batch_size % (parallel.size * config.optimizer.accumulate):
        raise ConfigError(
            f"data.batch_size is {config.data.batch_size}; it must be divisible by the {parallel.size} devices "
            f"times optimizer.accumulate={config.optimizer.accumulate}"
        )
    chief = jax.process_index() == 0
    _make_workdir(workdir)

    # ---- data ----
    scale, channels = config.model.scale, config.model.channels
    names = [Path(folder).resolve().name for folder in config.eval.data]
    if len(set(names)) < len(names):
        raise ConfigError(f"eval.data names two folders {max(names, key=names.count)}; rename one")
    validation = {
        name: validation_pairs(folder, scale, channels) for name, folder in zip(names, config.eval.data, strict=True)
    }
    sub_images = datasets.sub_images(config.data, scale=scale, channels=channels)
    per_epoch = steps_per_epoch(sub_images.size, config.data.batch_size)
    total = config.steps or math.ceil(config.epochs * per_epoch)

    # ---- model and state ----
    model = ISRResCNet(config.model, rngs=nnx.Rngs(config.seed))
    params = get_params(model)
    optimizer = config.optimizer.build()
    state = parallel.replicate(init_state(params, optimizer))
    in_memory = config.data.placement == "memory"
    step_fn = parallel.map_step(
        make_step(model, config, total_steps=total, shards=parallel.size), sharded=not in_memory
    )
    evaluate = make_evaluation(model)

    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(workdir, config, sub_images.fingerprint))
        # ---- resume ----
        best: float | None = None
        if (restored := checkpoints.restore(state)) is not None:
            state, best = restored
        elif config.checkpoint.init_from:
            state = parallel.replicate(init_state(_warm_start(params, config), optimizer))
        first = int(state.step)
        if chief:
            text = json.dumps(config_to_dict(config), indent=2) + "\n"
            replace_file(workdir / "config.json", lambda path: path.write_text(text))
        writers = Writers(workdir, first_step=first, total_steps=total) if chief else None
        if writers:
            stack.callback(writers.close)
            count = sum(p.size for p in params.values())
            writers.say(
                f"{count:,} parameters; {sub_images.size} sub-images, {per_epoch} steps an epoch; "
                f"{'resumed at' if first else 'starts at'} step {first} of {total}"
            )
        source: Any = parallel.replicate(load_memory(sub_images, scale)) if in_memory else None
        batches: Iterator[Any] | None = None
        if not in_memory:
            share = {"shard": jax.process_index(), "shards": jax.process_count()}
            batches = stream_batches(sub_images, config.data, scale=scale, seed=config.seed, first_step=first, **share)

        def save(state: TrainState, score: float | None) -> None:
            if chief:  # first: a run that is killed in between, and resumed, comes by here again
                export(model, state, workdir / "model.safetensors", config, score)
            checkpoints.save(int(state.step), state, score=score, best=best)

        # ---- loop ----
        clock = _Clock()
        saved = first
        for step in range(first + 1, total + 1):
            with clock.waiting():
                if batches is not None:
                    source = parallel.shard(next(batches))
            with jax.transfer_guard("disallow"):
                state, metrics = step_fn(state, source)
            # Waiting here keeps a signal's answer near, and costs nothing: the next step needs this one's state.
            if not bool(jax.device_get(metrics["finite"])):
                save(state, None)
                checkpoints.wait()
                bundle = workdir / f"nonfinite_{step}"
                if in_memory:  # the step has drawn the batch itself
                    draw = functools.partial(draw_batch, shards=1, seed=config.seed, config=config.data)
                    source = jax.jit(draw)(jax.device_put(load_memory(sub_images, scale)), jnp.int32(step - 1), 0)
                batch = {name: _local_part(pixels) for name, pixels in source.items()}
                if chief:  # with the part of the batch that this process had
                    length = dataclasses.replace(config, steps=total, epochs=0.0)  # replay has no data to count
                    report = write_bundle(bundle, length, _on_host(state), batch)
                    raise UserError(f"step {step} is not finite: {report}; isr-jax replay {bundle} repeats it")
                raise UserError(f"step {step} is not finite; see what process 0 says")
            clock.count()
            if writers:
                writers.advance()

            if step % config.eval.log_every == 0 and writers:
                values = {k: float(v) for k, v in jax.device_get(metrics).items() if k != "finite"}
                writers.scalars(step, {**values, **clock.read()})
                writers.show(loss=f"{values['loss']:.5f}")
            score = None
            if config.eval.data and (step % config.eval.every == 0 or step == total):
                pictures: dict[str, np.ndarray] = {}
                values = evaluate(state.average, validation, pictures)
                score = values[f"{next(iter(validation))}/psnr_y"]
                better = best is None or score > best
                best = score if better else best
                if writers:
                    writers.scalars(step, {**values, **_stage_parameters(state.average)})
                    for name, picture in pictures.items():
                        writers.picture(step, name, picture)
                    writers.show(psnr=f"{score:.2f}")
                    writers.say(
                        f"step {step}: " + ", ".join(f"{k} {v:.4g}" for k, v in values.items() if k.endswith("_y"))
                    )
                    if better:
                        export(model, state, workdir / "best.safetensors", config, score)
                clock.restart()
            ends = stop.asked or 0 < config.max_minutes * 60 < time.monotonic() - began
            if jax.process_count() > 1:  # all processes must save the same step
                ends = step % config.eval.log_every == 0 and any_process(ends)
            if score is not None or step % config.checkpoint.every == 0 or step == total or ends:
                save(state, score)
                saved = step
            if ends:
                break
        checkpoints.wait()
        if writers:
            writers.say(f"saved at step {saved} of {total} in {workdir}")


def make_evaluation(
    model: ISRResCNet,
) -> Callable[[Params, dict[str, list[Pair]], dict[str, np.ndarray]], dict[str, float]]:
    """Makes the function that measures parameters on validation folders: averages over each folder's pictures.

    Its last argument receives the first super-resolved picture of each folder, uint8, to look at. The result's keys
    are "FOLDER/psnr_y", "FOLDER/ssim_y" (if all pictures are large enough) and, with more than one stage,
    "FOLDER/psnr_y_stage_K".
    """
    bind = make_bind(model)
    scale = model.config.scale
    predict = jax.jit(lambda params, lr: bind(params).folded()(lr.astype(jnp.float32), all_stages=True)[:, 0])

    def evaluate(params: Params, folders: dict[str, list[Pair]], pictures: dict[str, np.ndarray]) -> dict[str, float]:
        local = jax.tree.map(lambda a: a.addressable_data(0), params)
        values: dict[str, float] = {}
        for folder, pairs in folders.items():
            psnrs, ssims = [], []
            for pair in pairs:
                stages = round_to_8_bits(np.asarray(jax.device_get(predict(local, pair.lr[None]))))
                pictures.setdefault(f"{folder}/picture", stages[-1])
                psnrs.append([score_picture(stage, pair.hr, scale, ("psnr_y",))["psnr_y"] for stage in stages])
                ssims.append(score_picture(stages[-1], pair.hr, scale, ("ssim_y",))["ssim_y"])
            means = np.mean(psnrs, axis=0)
            values[f"{folder}/psnr_y"] = float(means[-1])
            if None not in ssims:
                values[f"{folder}/ssim_y"] = float(np.mean(ssims))
            if len(means) > 1:
                values |= {f"{folder}/psnr_y_stage_{k}": float(v) for k, v in enumerate(means, 1)}
        return values

    return evaluate


def export(model: ISRResCNet, state: TrainState, path: Path, config: TrainConfig, score: float | None) -> None:
    """Writes the averaged weights as a model file, beside and then renamed."""
    weights = _on_host(state.average)
    metadata = {"step": int(state.step), "steps": config.steps, "seed": config.seed, "psnr_y": score}
    save_model(path, make_bind(model)(weights), {k: v for k, v in metadata.items() if v is not None})


# ---------------------------------------------------------------------------------------------------------------------
# Its parts.
# ---------------------------------------------------------------------------------------------------------------------


def _stage_parameters(params: Params) -> dict[str, float]:
    """Returns what the solver has learned for each stage: alpha, w and the factor of the step size."""
    names = {"log_radius": "alpha", "log_momentum": "w", "step": "step_factor"}
    return {
        f"{label}_stage_{k}": float(value)
        for name, label in names.items()
        if name in params
        for k, value in enumerate(np.asarray(params[name].addressable_data(0)), 1)
    }


def _on_host(tree: Any) -> Any:
    """Returns replicated arrays as NumPy arrays."""
    return jax.tree.map(lambda a: np.asarray(a.addressable_data(0)), tree)


def _local_part(pixels: Any) -> np.ndarray:
    """Returns what this process holds of a batch, as one array (N, h, w, C)."""
    parts = [np.asarray(shard.data) for shard in pixels.addressable_shards]
    return np.concatenate([part.reshape(-1, *part.shape[-3:]) for part in parts])


def _warm_start(params: Params, config: TrainConfig) -> Params:
    """Replaces the parameters that the model in `init_from` has in the same shape, or, at LR resolution, can have."""
    source = config.checkpoint.init_from
    model = load_model(source)
    given: Params = parameters_to_dict(model)
    old, new = model.config, config.model
    if old.scale != new.scale and old.erd.resolution == new.erd.resolution == "lr" and not old.erd.weight_norm:
        erd = {name.removeprefix("erd."): value for name, value in given.items()}
        adapted = for_other_scale(erd, old.scale, new.scale, channels=old.channels)
        given |= {f"prior.{name}": value for name, value in adapted.items()}
    fitting = {k: v for k, v in given.items() if k in params and params[k].shape == v.shape}
    if not fitting:
        raise UserError(f"{source}: none of its parameters fits this model")
    print(f"isr-jax: {len(fitting)} of {len(params)} parameters from {source}", file=sys.stderr)
    return {**params, **fitting}


def _make_workdir(workdir: Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe = workdir / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"{workdir}: cannot be written ({error.strerror}); choose another --workdir") from None


class _StopSignals:
    """Turns the first SIGTERM or SIGINT into a flag; the second one acts as it always does."""

    def __init__(self) -> None:
        self.asked = False
        self._former = {s: signal.signal(s, self._ask) for s in (signal.SIGTERM, signal.SIGINT)}

    def _ask(self, number: int, frame: Any) -> None:
        del frame
        self.asked = True
        signal.signal(number, self._former[signal.Signals(number)])
        # Not print: a handler may run in the middle of another print.
        os.write(2, b"\nisr-jax: stopping after the next step; the same signal again stops at once\n")

    def restore(self) -> None:
        """Puts the handlers back that were there before."""
        for number, handler in self._former.items():
            signal.signal(number, handler)


class _Clock:
    """Seconds per step, and the share of them spent waiting for data."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._start, self._waited, self._steps = time.perf_counter(), 0.0, 0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        before = time.perf_counter()
        yield
        self._waited += time.perf_counter() - before

    def count(self) -> None:
        self._steps += 1

    def read(self) -> dict[str, float]:
        elapsed = time.perf_counter() - self._start
        values = {"seconds_per_step": elapsed / max(1, self._steps), "data_wait_share": self._waited / elapsed}
        self.restart()
        return values


if __name__ == "__main__":
    run(main)
